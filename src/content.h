/* SPDX-License-Identifier: ISC */
#ifndef FV_CONTENT_H
#define FV_CONTENT_H
/*
 * The content of a volume or of a machine's disk as a file: what its guest sees,
 * whatever the format. Every call may wait for storage; those on one content may come
 * from several threads at once.
 *
 * Reading: as of open. Where a machine that runs writes to it, through a temporary
 * snapshot that its VMM keeps until the content is closed. Writing: only while no
 * machine uses it (and none can start with it meanwhile): -EBUSY with words.
 */
#include "pool.h"

struct content;

/* A new one in *@content. @write: for writing, too. -EBUSY, -EACCES, -EIO, … with words. */
int volume_content_open(struct volume *volume, bool write, const struct caller *caller,
			struct content **content, struct err *err);
int machine_disk_content_open(struct machine *m, const char *disk, bool write,
			      const struct caller *caller, struct content **content,
			      struct err *err);
/* The bytes of a file, read-only. Takes @fd, also on error. -errno. */
int content_fd_open(struct content **content, int fd);
/* Size without opening, from what is kept; 0 where it cannot be told. Never waits. */
uint64_t machine_disk_size(struct machine *m, const char *disk);

/* As of now for this content: constant unless content_resize() changed it. */
uint64_t content_size(struct content *content);
/* Up to @len bytes, less only at the end; or -errno. */
ssize_t content_read(struct content *content, void *buf, size_t len, uint64_t offset);
/*
 * All of it or -errno: -ENOSPC beyond the end (a disk's size is fixed; a volume that is `new`
 * and has no size yet grows), else what storage says.
 */
int content_write(struct content *content, const void *buf, size_t len, uint64_t offset);
/*
 * As truncate(2) of the file is meant by those who copy into it: 0 makes all of it read as
 * zeroes and keeps the size; more than the size makes it larger (volumes only); less than it does
 * nothing.
 */
int content_resize(struct content *content, uint64_t size);
/* fallocate(2): @punch: zeroes, space given back where possible; else zeroes. */
int content_zero(struct content *content, uint64_t offset, uint64_t len, bool punch);
int content_flush(struct content *content);
/* SEEK_DATA, SEEK_HOLE (<unistd.h>): the new offset or -errno (-ENXIO). */
int64_t content_seek(struct content *content, int64_t offset, int whence);
/* Flushes what was written, and lets go. Its flush's error, or 0. NULL is fine. */
int content_close(struct content *content);

#endif
