/* SPDX-License-Identifier: ISC */
#ifndef FV_POOLS_H
#define FV_POOLS_H
/* What the model as a whole does with its pools. */
#include "util/err.h"

struct model;
struct pools;

/* Loads them from the state and starts their threads; pools_close() also where it failed. */
int pools_open(struct pools **pools, struct model *model, struct err *err);
/* Waits for their threads, not for storage. NULL is fine. */
void pools_close(struct pools *pools);

#endif
