// SPDX-License-Identifier: ISC
/*
 * Opening without a process of its own, where that surely waits for nobody: a regular file on a
 * file system of this host's own disks or memory, to which the kernel knows the way without
 * asking. It is found with RESOLVE_CACHED, by a descriptor that opens nothing; only if it
 * is on a device that is known to be such a one, it is opened. So a dead mount, or a FUSE mount
 * whose owner never answers, is never touched from here. All else, every
 * refusal among it, is for the process, which has the words.
 *
 * An image is looked at no further than to know that it is raw: parsing what strangers wrote is
 * the process' work, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "opener_int.h"
#include "util/cleanup.h"
#include "util/file.h"

#define SECTOR 512

static const long own_types[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
				 F2FS_SUPER_MAGIC, TMPFS_MAGIC};

void opener_know(struct opener_known *known, const char *path)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0 || fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0 ||
	    known->n == nitems(known->devices))
		return;
	for (size_t i = 0; i < nitems(own_types); i++)
		if (fs.f_type == own_types[i])
			known->devices[known->n++] = st.st_dev;
}

struct here {
	const struct opener_known *known;
	const char *path;
	int flags;
};

static bool is_known(const struct opener_known *known, const struct statx *st)
{
	dev_t dev = makedev(st->stx_dev_major, st->stx_dev_minor);

	for (unsigned i = 0; i < known->n; i++)
		if (known->devices[i] == dev)
			return true;
	return false;
}

/* With the user's identity. */
static int open_known(void *arg)
{
	const struct here *h = arg;
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_CACHED};
	_cleanup_close_ int look = (int)syscall(SYS_openat2, AT_FDCWD, h->path, &how, sizeof(how));
	struct statx st;
	char self[40];
	int fd;

	if (look < 0 || statx(look, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 ||
	    !S_ISREG(st.stx_mode) || !is_known(h->known, &st))
		return -EAGAIN;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", look);
	fd = open(self, h->flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -EAGAIN : fd;
}

int opener_here(const struct opener_known *known, const struct opener_request *rq, int flags)
{
	struct here h = {known, rq->path, flags};
	int fd = *rq->path == '/' ? rights_do(&rq->rights, open_known, &h) : -EAGAIN;

	return fd < 0 ? -EAGAIN : fd;
}

/* A raw image's bytes are its file's. */
static int raw_bytes(int fd, uint64_t *bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size < SECTOR || st.st_size % SECTOR != 0)
		return -EAGAIN;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static bool looks_raw(int fd)
{
	static const char magic[4] = {'Q', 'F', 'I', '\xfb'};
	char head[sizeof(magic)];

	return file_pread_all(fd, head, sizeof(head), 0) == 0 &&
	       memcmp(head, magic, sizeof(magic)) != 0;
}

int opener_here_probe(const struct opener_known *known, const struct opener_request *rq,
		      const struct probe_ask *ask, struct probed_disk *out)
{
	_cleanup_close_ int fd = -1;

	if (ask->format_known && ask->format != IMAGE_RAW)
		return -EAGAIN;
	fd = opener_here(known, rq, ask->write ? O_RDWR : O_RDONLY);
	if (fd < 0 || (!ask->format_known && !looks_raw(fd)))
		return -EAGAIN;
	out->format = IMAGE_RAW;
	return raw_bytes(fd, &out->bytes);
}

/* Which file it is, and its lock. */
static int identify(const struct opener_disk *disk, struct opened_disk *out, struct err *err)
{
	struct stat st;
	int r;

	if (raw_bytes(out->chain.layers[0].fd, &out->bytes) < 0 ||
	    fstat(out->chain.layers[0].fd, &st) < 0)
		return -EAGAIN;
	out->ids[0] = (struct file_id){st.st_dev, st.st_ino};
	out->n_ids = 1;
	out->n_written = disk->readonly ? 0 : 1;
	r = disk->lock ? image_chain_lock(&out->chain, !disk->readonly, disk->share, err) : 0;
	return r < 0 && r != -EBUSY ? -EAGAIN : r;
}

int opener_here_disk(const struct opener_known *known, const struct opener_request *rq,
		     const struct opener_disk *disk, struct opened_disk *out, struct err *err)
{
	struct image_layer *l = &out->chain.layers[0];
	int r;

	memset(out, 0, sizeof(*out));
	if (disk->format != IMAGE_RAW)
		return -EAGAIN;
	*l = (struct image_layer){.format = IMAGE_RAW, .fd = -1, .data_fd = -1};
	l->fd = opener_here(known, rq, disk->readonly ? O_RDONLY : O_RDWR);
	if (l->fd < 0)
		return -EAGAIN;
	out->chain.n = 1;
	l->path = strdup(rq->path);
	r = l->path ? identify(disk, out, err) : -EAGAIN;
	if (r < 0)
		image_chain_close(&out->chain);
	return r;
}
