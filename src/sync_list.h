/* SPDX-License-Identifier: ISC */
#ifndef FV_SYNC_LIST_H
#define FV_SYNC_LIST_H
/*
 * Files and directories that are to reach stable storage together. One after the other each would
 * cost a commit of the file system's journal; here all begin to be written, and then the
 * first one's commit is that of most.
 */
#include <stddef.h>

struct sync_list {
	int *fds;
	size_t n, cap;
};

/* Takes @fd, also on error; that of one which could not be opened (-errno) is the error. */
int sync_list_add(struct sync_list *list, int fd);
/* All of them, in the order in which they were added. 0, or the first -errno. */
int sync_list_sync(struct sync_list *list);
/* Closes them; it is empty then. */
void sync_list_free(struct sync_list *list);
/*
 * The same, but by a thread of its own: whose last name is gone by now, their room is given back by
 * closing them, which takes some milliseconds that nobody has to wait for.
 */
void sync_list_free_later(struct sync_list *list);

#endif
