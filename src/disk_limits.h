/* SPDX-License-Identifier: ISC */
#ifndef FV_DISK_LIMITS_H
#define FV_DISK_LIMITS_H
/*
 * `limits` of a disk as text, in the manner of cgroup's io.max: "iops=500 bps=10M".
 *
 *   iops riops wiops   requests a second: all, reads, writes (and discards)
 *   bps rbps wbps      bytes a second
 *   NAME_burst         of each: how much may come at once after a quiet time
 *
 * "max", "0" or leaving a name out is no limit. The canonical form has the limits that
 * there are, in this order, each followed by its burst, bytes as plain numbers.
 */
#include "util/err.h"
#include "util/strbuf.h"
#include "vmm_proto.h"

/* -EINVAL, -ERANGE with words. */
int disk_limits_parse(const char *text, struct vmm_limits *limits, struct err *err);
void disk_limits_show(const struct vmm_limits *limits, struct strbuf *sb);
/* The canonical form of @text in *canonical (caller frees). As disk_limits_parse(). */
int disk_limits_refine(const char *text, char **canonical, struct err *err);

#endif
