/* SPDX-License-Identifier: ISC */
#ifndef FV_PATHS_H
#define FV_PATHS_H
/* Files that a definition names, looked at with the rights of who names them. */
#include "definition.h"

struct caller;
struct model;

/*
 * Whether the caller himself may use the files in which @def (not shared yet) differs from @old
 * (NULL: all), as the machine's owner will have to at a start. Formats of sources that are new
 * are settled, where the caller gave none: the file is looked at once, and never again. 0, or
 * the errno of open(2) with words that begin with the key ("kernel: …", "disks/root/source: …").
 */
int paths_check(struct model *model, struct definition *def, const struct definition *old,
		const struct caller *caller, struct err *err);

#endif
