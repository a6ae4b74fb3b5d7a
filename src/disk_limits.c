// SPDX-License-Identifier: ISC
/* Limits of a disk as text. See disk_limits.h. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "disk_limits.h"
#include "rates.h"
#include "util/cleanup.h"

#define REQUESTS(row) offsetof(struct vmm_limits, requests[row])
#define BYTES(row)    offsetof(struct vmm_limits, bytes[row])

/* Rows of the arrays: BLOCK_LIMIT_…. */
static const struct rate_name names[] = {
    {"iops", false, REQUESTS(0)}, {"riops", false, REQUESTS(1)}, {"wiops", false, REQUESTS(2)},
    {"bps", true, BYTES(0)},	  {"rbps", true, BYTES(1)},	 {"wbps", true, BYTES(2)},
};

int disk_limits_parse(const char *text, struct vmm_limits *limits, struct err *err)
{
	memset(limits, 0, sizeof(*limits));
	return rates_parse(names, nitems(names), text, limits, err);
}

int disk_limits_refine(const char *text, char **canonical, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct vmm_limits limits;
	int r = disk_limits_parse(text, &limits, err);

	if (r < 0)
		return r;
	rates_show(names, nitems(names), &limits, &sb);
	*canonical = strbuf_steal(&sb);
	return *canonical ? 0 : err_set(err, -ENOMEM, "out of memory");
}
