// SPDX-License-Identifier: ISC
/*
 * The kernel shows as command line the bytes from the first argument on. Where
 * the last byte of the arguments is no NUL, it takes the text to go on into the
 * environment's place, which it knows to lie right behind (proc(5), cmdline).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/title.h"

#define TITLE_MAX 128

void title_init(struct title *title, int argc, char **argv)
{
	char *end = argc > 0 ? argv[0] : NULL;

	*title = (struct title){.area = end};
	for (int i = 0; i < argc; i++)
		if (argv[i] == end)
			end += strlen(end) + 1;
	for (char **e = environ; argc > 0 && e && *e; e++)
		if (*e == end)
			end += strlen(end) + 1;
	title->bytes = argc > 0 ? (size_t)(end - title->area) : 0;
	clearenv();
}

void title_set(struct title *title, const char *name)
{
	char text[TITLE_MAX];
	int n = snprintf(text, sizeof(text), "filevisor-vmm %s", name);
	size_t len = n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1;

	if (title->bytes == 0)
		return;
	if (len > title->bytes - 1)
		len = title->bytes - 1;
	memset(title->area, 0, title->bytes);
	memcpy(title->area, text, len);
}
