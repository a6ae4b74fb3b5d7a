/* SPDX-License-Identifier: ISC */
#ifndef FV_LAYER_BATCH_H
#define FV_LAYER_BATCH_H
/* New layers over frozen chains, many at once: one sync for all of them. */
#include "layer.h"

struct layer_model;

struct layer_batch {
	struct model *model;
	struct layer_model *models; /* what has been made is copied */
};

/* layer_batch_end() after it in any case; layers that were made stay. */
int layer_batch_begin(struct layer_batch *batch, struct model *model, struct err *err);
void layer_batch_end(struct layer_batch *batch);
/* As layer_make_over(), but it is on stable storage only when layer_batch_sync() has returned. */
int layer_batch_make_over(struct layer_batch *batch, const struct disk_layers *below,
			  uint64_t bytes, char id[ID_TEXT], struct err *err);
int layer_batch_sync(struct layer_batch *batch, struct err *err);

#endif
