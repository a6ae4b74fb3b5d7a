/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_CHECK_H
#define FV_QCOW2_CHECK_H
/* Checking and repairing a qcow2 image. */
#include <stdint.h>

#include "storage/block.h"
#include "util/cancel.h"

struct qcow2_check_result {
	uint64_t corruptions; /* what can lose or has lost data, before any repair */
	uint64_t leaks;	      /* clusters counted and not used */
	uint64_t corruptions_fixed, leaks_fixed;
	uint64_t allocated_clusters; /* guest clusters with contents of their own */
	uint64_t total_clusters;
	uint64_t compressed_clusters;
	uint64_t fragmented_clusters; /* not behind their predecessor */
	uint64_t image_end;	      /* where the last used cluster ends */
};

struct qcow2_check_params {
	bool fix_leaks;
	bool fix_errors;
	/* Called for each finding with one line of text; may be NULL. */
	void (*report)(void *arg, const char *line);
	void *arg;
	struct cancel *cancel; /* may be NULL */
};

/*
 * Walks all metadata of an image opened with QCOW2_OPEN_CHECK (for writing if
 * it is to be fixed), which nobody else uses. 0 if the walk was complete,
 * whatever it found; -ECANCELED, -ENOMEM, or the error of I/O.
 */
int qcow2_check(struct block *block, const struct qcow2_check_params *params,
		struct qcow2_check_result *result, struct err *err);

#endif
