/* SPDX-License-Identifier: ISC */
#ifndef FV_RATES_H
#define FV_RATES_H
/*
 * `limits` as text, in the manner of cgroup's io.max: "iops=500 bps=10M". A table says which
 * names there are; NAME_burst of each is how much may come at once after a quiet time.
 *
 * "max", "0" or leaving a name out is no limit. The canonical form has the limits that
 * there are, in the table's order, each followed by its burst, bytes as plain numbers.
 */
#include <stdbool.h>

#include "util/err.h"
#include "util/strbuf.h"
#include "vmm_proto.h"

struct rate_name {
	const char *name;
	bool bytes;    /* a size a second, else a number */
	size_t offset; /* of its struct vmm_rate */
};

#define RATE_NAMES_MAX 16

/* Into @limits, all zero before. -EINVAL, -ERANGE with words. */
int rates_parse(const struct rate_name *names, size_t n, const char *text, void *limits,
		struct err *err);
void rates_show(const struct rate_name *names, size_t n, const void *limits, struct strbuf *sb);

#endif
