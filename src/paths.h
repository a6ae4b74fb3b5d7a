/* SPDX-License-Identifier: ISC */
#ifndef FV_PATHS_H
#define FV_PATHS_H
/* Files that a definition names, opened with the rights of who named them or of the machine's
 * owner. */
#include "definition.h"

struct caller;

/*
 * Whether the caller himself may use the paths in which @def differs from @old
 * (NULL: all), as he would have to at a start. 0, or the errno of open(2) with words that
 * begin with the key ("kernel: …", "disks/root/source: …").
 */
int paths_check(const struct definition *def, const struct definition *old,
		const struct caller *caller, struct err *err);

struct rights;
/* Opens one of them for a start. A descriptor or -errno with words. */
int path_open(const struct rights *rights, const char *path, int flags, bool disk, struct err *err);

#endif
