/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_TITLE_H
#define FV_VMM_TITLE_H
/* What ps(1) shows of this process. */
#include <stddef.h>

/* Where the kernel looks for the command line: arguments, then environment. */
struct title {
	char *area;
	size_t bytes;
};

/* Takes over the memory of @argv and of the environment, which is empty from then on. */
void title_init(struct title *title, int argc, char **argv);
/* "filevisor-vmm NAME", as far as there is room. */
void title_set(struct title *title, const char *name);

#endif
