/* SPDX-License-Identifier: ISC */
#ifndef FV_DISK_LIMITS_H
#define FV_DISK_LIMITS_H
/*
 * `limits` of a disk as text (rates.h):
 *
 *   iops riops wiops   requests a second: all, reads, writes (and discards)
 *   bps rbps wbps      bytes a second
 */
#include "util/err.h"
#include "vmm_proto.h"

/* -EINVAL, -ERANGE with words. */
int disk_limits_parse(const char *text, struct vmm_limits *limits, struct err *err);
/* The canonical form of @text in *canonical (caller frees): KEY_TEXT's refine(). */
int disk_limits_refine(const char *text, char **canonical, struct err *err);

#endif
