/* SPDX-License-Identifier: ISC */
#ifndef FV_MACHINE_EDIT_H
#define FV_MACHINE_EDIT_H
/*
 * Changing a machine's definition: every way to do so is an edit (machine_config.c, and
 * machine_parts.c of disks and network cards), and what became another one is told of
 * (machine_tell.c).
 */
#include "model_int.h"

/* What a way to change does to the copy. */
struct edit {
	const struct config_key *key;
	const char *part; /* the disk or card whose key it is, or which to add or remove */
	const char *text;
	size_t len;	    /* of a whole config */
	const char *format; /* beside a source; NULL: not given */
	int (*apply)(const struct edit *e, struct definition **def, struct err *err);
};

/* @what: which file, for `error`. As machine_key_store(). */
int machine_change(struct machine *m, const char *what, const struct edit *e,
		   const struct caller *caller, struct err *err);

/* Under m->lock: m->def is new already, and was @old. Times, events, observers. */
void machine_tell_changes(struct machine *m, const struct definition *old, struct timespec when,
			  const struct caller *caller);

#endif
