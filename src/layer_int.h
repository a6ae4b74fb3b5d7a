/* SPDX-License-Identifier: ISC */
#ifndef FV_LAYER_INT_H
#define FV_LAYER_INT_H
/* What the parts of layers know of each other: layer.c, layer_batch.c, layer_*.c. */
#include "disk.h"
#include "layer.h"

#define LAYER_NAME_MAX	  64
#define LAYER_BACKING_MAX 1023 /* bytes of a name in a header of qcow2 */

/* Counted as layers are, without a file. */
#define LAYER_SOURCE LAYER_KIND_MAX

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
	struct tidy_pause *pauses;
};

/* Name of its file in STATE/layers. */
void layer_file_name(char name[LAYER_NAME_MAX], enum layer_kind kind, const char *id);
/* Which file it is; zeroes where there is none. */
struct file_id layer_file_id(struct model *model, const char *id);
/* An empty image over @below in the empty file @fd (borrowed); that is synced, its directory not.
 */
int layer_write_over(struct model *model, const struct disk_layers *below, uint64_t bytes, int fd,
		     struct err *err);

/* How many sets refer to it, with layers or without. */
unsigned layers_source_refs(struct model *model, const char *source);
/*
 * These two are merged: false where one of them is already (@lower may be NULL). Who merged lets
 * go of them, however it ended.
 */
bool layers_claim(struct model *model, const char *upper, const char *lower);
void layers_unclaim(struct model *model, const char *upper, const char *lower);

/* --- layer_open.c ------------------------------------------------------------------------------
 */

/*
 * Opens the layers and puts them over what is in @o; the top one for writing where @write.
 * @lock: -EBUSY where somebody has them otherwise.
 */
int layers_put_over(struct disk_opened *o, const struct disk_layers *layers, bool write, bool lock,
		    struct err *err);

/* The size of a disk that has layers, from its top one: false where it has none, or none that can
 * be read. */
bool layers_disk_bytes(struct machine *m, const struct disk *d, uint64_t *bytes);

/* --- layer_frozen.c ---------------------------------------------------------------------------
 */

/*
 * As layers_refuse_frozen(), by name, too. What @except has over that disk's source does not
 * count (NULL: all does).
 */
int layers_refuse_source(struct model *model, const char *source, const struct file_id *ids,
			 unsigned n, struct err *err);
int layers_refuse_but(struct model *model, const char *source, const struct file_id *ids,
		      unsigned n, const struct machine *except, const char *disk, struct err *err);

/* --- layer_tidy.c -----------------------------------------------------------------------------
 */

/*
 * Ends the merging of the machine's layers, where it is under way; returns when it has ended. None
 * begins until layers_tidy_go(), by when the files that are wanted are open and locked.
 */
struct tidy_pause {
	struct tidy_pause *next;
	struct machine *m;
};
/* True: one was ended, and who opened files for it may have them for a moment yet. */
bool layers_tidy_pause(struct machine *m, struct tidy_pause *pause);
void layers_tidy_go(struct tidy_pause *pause);

#endif
