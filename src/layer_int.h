/* SPDX-License-Identifier: ISC */
#ifndef FV_LAYER_INT_H
#define FV_LAYER_INT_H
/* What the parts of layers know of each other: layer.c, layer_batch.c, layer_*.c. */
#include "disk.h"
#include "layer.h"

#define LAYER_NAME_MAX	  64
#define LAYER_BACKING_MAX 1023 /* bytes of a name in a header of qcow2 */

struct layer;
struct tidy;

struct layers {
	int dir;	      /* STATE/layers */
	pthread_mutex_t lock; /* a leaf; guards what follows */
	pthread_cond_t cond;  /* a merge has ended */
	struct layer **buckets;
	size_t n_buckets, n;
	bool swept;	      /* all that refers to layers has been loaded */
	bool keep_all;	      /* no file is ever removed */
	uint64_t version;     /* of the last set that a machine was given */
	struct tidy *tidying; /* merges under way; layer_tidy.c */
};

/* Name of its file in STATE/layers. */
void layer_file_name(char name[LAYER_NAME_MAX], enum layer_kind kind, const char *id);
/* An empty image over @below in the empty file @fd (borrowed); that is synced, its directory not.
 */
int layer_write_over(struct model *model, const struct disk_layers *below, uint64_t bytes, int fd,
		     struct err *err);

#endif
