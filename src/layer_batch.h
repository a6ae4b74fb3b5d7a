/* SPDX-License-Identifier: ISC */
#ifndef FV_LAYER_BATCH_H
#define FV_LAYER_BATCH_H
/* New layers over frozen chains, many at once: one sync for all of them. */
#include "layer.h"
#include "sync_list.h"

struct layer_model;

struct layer_batch {
	struct model *model;
	struct layer_model *models; /* what is copied */
};

/* layer_batch_end() after it in any case; layers that were made stay. */
void layer_batch_begin(struct layer_batch *batch, struct model *model);
void layer_batch_end(struct layer_batch *batch);
/*
 * Puts a new, empty layer of @disk's size over its chain: a reference, of @id. It is on stable
 * storage when all that was added to @written is or, with NULL, after layer_batch_sync().
 */
int layer_batch_put_over(struct layer_batch *batch, struct disk_layers *disk,
			 struct sync_list *written, char id[ID_TEXT], struct err *err);
int layer_batch_sync(struct layer_batch *batch, struct err *err);

#endif
