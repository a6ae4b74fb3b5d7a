/* SPDX-License-Identifier: ISC */
#ifndef FV_FILE_H
#define FV_FILE_H
/* Whole files: read bounded, replaced atomically. */
#include <stddef.h>
#include <sys/types.h>

/*
 * Reads all of a regular file or pipe into a NUL-terminated buffer (caller
 * frees). @dir as for openat(2). -EFBIG beyond @max bytes.
 */
int file_read(int dir, const char *path, size_t max, char **text, size_t *len);

/*
 * Replaces @path in @dir by the bytes: written to a temporary beside it,
 * fsync(2), rename(2), fsync of the directory. After 0 the new text survives
 * a crash of the host; after -errno the old one stands. @path is one component.
 */
int file_replace(int dir, const char *path, const void *data, size_t len, mode_t mode);

/* Reads or writes all of it at @offset, through short counts and EINTR. 0 or -errno;
 * file_pread_all() gives -ENODATA where the file ends early. */
int file_pread_all(int fd, void *buf, size_t len, off_t offset);
int file_pwrite_all(int fd, const void *buf, size_t len, off_t offset);
int file_write_all(int fd, const void *buf, size_t len);

/* fsync of a directory opened for it; 0 or -errno. */
int file_sync_dir(int dir);

#endif
