/* SPDX-License-Identifier: ISC */
#ifndef FV_TOOL_H
#define FV_TOOL_H
/* Programs of the host that are run for their answer: LVM's tools, nft. */
#include "util/cancel.h"
#include "util/err.h"
#include "util/strbuf.h"

struct tool {
	const char *const *argv; /* the program is looked for in the usual places */
	const char *input;	 /* what it reads; NULL: nothing */
	struct cancel *cancel;	 /* NULL: cannot be cancelled */
	unsigned timeout_ms;
	struct strbuf *out; /* what it prints is appended; NULL: not wanted */
};

/*
 * Runs it without a shell and with an empty environment, in a process group of its own. -ETIMEDOUT,
 * -ECANCELED: it is killed then. -EIO with the last line of what it said where it fails, -EFBIG
 * where it prints too much, -ENOENT where there is no such program.
 */
int tool_run(const struct tool *tool, struct err *err);

#endif
