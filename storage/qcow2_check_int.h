/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_CHECK_INT_H
#define FV_QCOW2_CHECK_INT_H
/* What qcow2_check.c and qcow2_rebuild.c share. */
#include "storage/qcow2_check.h"
#include "storage/qcow2_int.h"

#define CHECK_PAGE 256u /* clusters */

struct check_page {
	uint64_t number;
	uint32_t counts[CHECK_PAGE];
};

struct check {
	struct qcow2 *q;
	const struct qcow2_check_params *params;
	struct qcow2_check_result *result;
	struct check_page **pages; /* hashed by number */
	size_t n_slots, n_pages;
	uint64_t next_host;   /* where an unfragmented next cluster would be */
	uint64_t flags_wrong; /* among the corruptions */
	bool l1_changed;
	bool rebuild; /* the refcount structures themselves are damaged */
};

/* How often the walk met @cluster; NULL if never and not @make, or out of memory. */
uint32_t *check_count(struct check *c, uint64_t cluster, bool make);
void check_free_counts(struct check *c);
void check_say(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Writes a whole new refcount table from the counts of the walk, and uses it. */
int check_rebuild(struct check *c);
int check_write_l1(struct check *c);

#endif
