/* SPDX-License-Identifier: ISC */
#ifndef FV_START_INT_H
#define FV_START_INT_H
/*
 * The parts of a start: what it needs is opened (start_open.c), its VMM is told (start_tell.c),
 * and the machine goes from one state to the other (start.c).
 */
#include "disk.h"
#include "nic_int.h"
#include "resume.h"
#include "save.h"
#include "vmm.h"

struct start {
	struct machine *m;
	const struct resume *resume; /* what it goes on from; NULL: it boots */
	struct definition *def;
	struct machine_access access;
	struct cancel *cancel;
	struct err *err;
	int kvm, console, pty;
	int kernel, initrd; /* -1 where it goes on and they cannot be opened: it cannot be reset */
	struct disk_opened *disks[VMM_DISKS_MAX]; /* as in def; NULL: no medium */
	struct nic_plug nics[VMM_NICS_MAX];	  /* as in def */
	unsigned n_nics;			  /* that are plugged in */
	unsigned n_nics_given;			  /* of these, how many are the VMM's */
	char tty[64];
	struct vmm *vmm;
	struct vmm_burst burst; /* what it is told but for RUN */
};

/* Whether there is anything to run, and to run it with. */
int start_may(struct start *s);
/* All that may be refused, with the rights of the machine's owner. start_close() in any case. */
int start_open(struct start *s);
/* What was not handed on; and the VMM's and the definition's references. */
void start_close(struct start *s);
/*
 * What needs nothing to be opened: a VMM that was met already gets to work on it meanwhile. Before
 * start_tell(), or never.
 */
int start_tell_first(struct start *s);
/* Everything else, up to RUN. */
int start_tell(struct start *s);

#endif
