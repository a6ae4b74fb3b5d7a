// SPDX-License-Identifier: ISC
/* See sync_list.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "strand.h"
#include "sync_list.h"

int sync_list_add(struct sync_list *list, int fd)
{
	if (fd < 0)
		return fd;
	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 16;
		int *fds = realloc(list->fds, cap * sizeof(*fds));

		if (!fds) {
			close(fd);
			return -ENOMEM;
		}
		list->fds = fds;
		list->cap = cap;
	}
	list->fds[list->n++] = fd;
	return 0;
}

int sync_list_sync(struct sync_list *list)
{
	int r = 0;

	/* a hint: directories and some file systems do not take it */
	for (size_t i = 0; i < list->n; i++)
		sync_file_range(list->fds[i], 0, 0, SYNC_FILE_RANGE_WRITE);
	for (size_t i = 0; i < list->n; i++)
		if (fsync(list->fds[i]) < 0 && r == 0)
			r = -errno;
	return r;
}

void sync_list_free(struct sync_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		close(list->fds[i]);
	free(list->fds);
	*list = (struct sync_list){0};
}

static int close_all(void *arg, struct cancel *cancel, struct err *err)
{
	(void)cancel, (void)err;
	sync_list_free(arg);
	return 0;
}

void sync_list_free_later(struct sync_list *list)
{
	struct sync_list *own = malloc(sizeof(*own));
	struct strand *strand;

	if (own)
		*own = *list;
	if (!own || strand_start(&strand, close_all, free, own) < 0) {
		free(own);
		sync_list_free(list);
		return;
	}
	*list = (struct sync_list){0};
	strand_put(strand);
}
