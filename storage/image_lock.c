// SPDX-License-Identifier: ISC
/*
 * Locks on image files, so that no two programs write one image. They are locks of
 * the open file description, on single bytes of the file, the same that QEMU and
 * qemu-img use: one range of bytes says what the holder does to the image, the
 * other what it does not want others to do. So they hold between us and them,
 * they go with the descriptor to another process, and they end with its last copy. That may be a
 * moment after the process: the kernel closes a file of one that was killed when the requests which
 * it had given to io_uring are done. So who finds a lock tries for a while.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "storage/image.h"

#define DOES_BASE   100
#define FORBID_BASE 200
#define TRY_MS	    5
#define TRIES	    100

/* Bits as QEMU numbers its permissions. */
enum { DO_READ = 1 << 0, DO_WRITE = 1 << 1, DO_RESIZE = 1 << 3, N_BITS = 5 };

static int set_lock(int fd, off_t byte, short type)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

/* True where another description holds that byte. */
static bool held_elsewhere(int fd, off_t byte)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static int take(int fd, unsigned does, unsigned forbids)
{
	unsigned bit;
	int r = 0;

	for (bit = 0; bit < N_BITS && !r; bit++) {
		if (does >> bit & 1)
			r = set_lock(fd, DOES_BASE + bit, F_RDLCK);
		if (!r && (forbids >> bit & 1))
			r = set_lock(fd, FORBID_BASE + bit, F_RDLCK);
	}
	/* Both sides announce first and look then: at least one of two sees the other. */
	for (bit = 0; bit < N_BITS && !r; bit++)
		if (((does >> bit & 1) && held_elsewhere(fd, FORBID_BASE + bit)) ||
		    ((forbids >> bit & 1) && held_elsewhere(fd, DOES_BASE + bit)))
			r = -EBUSY;
	return r == -EAGAIN || r == -EACCES ? -EBUSY : r;
}

void image_unlock(int fd)
{
	unsigned bit;

	for (bit = 0; bit < N_BITS; bit++) {
		set_lock(fd, DOES_BASE + bit, F_UNLCK);
		set_lock(fd, FORBID_BASE + bit, F_UNLCK);
	}
}

void image_lock_reader(int fd)
{
	set_lock(fd, DOES_BASE + 1, F_UNLCK);
	set_lock(fd, DOES_BASE + 3, F_UNLCK);
}

int image_lock(int fd, bool write, bool share, struct err *err)
{
	unsigned does = DO_READ | (write ? DO_WRITE | DO_RESIZE : 0);
	unsigned forbids = share ? 0 : DO_WRITE | DO_RESIZE;
	const struct timespec pause = {.tv_nsec = TRY_MS * 1000000};
	int r = take(fd, does, forbids);

	for (unsigned i = 0; r == -EBUSY && i < TRIES; i++) {
		image_unlock(fd);
		nanosleep(&pause, NULL);
		r = take(fd, does, forbids);
	}
	if (!r)
		return 0;
	image_unlock(fd);
	if (r == -EINVAL || r == -ENOLCK || r == -EOPNOTSUPP)
		return 0; /* a file system without locks: nobody can be kept out there */
	if (r == -EBUSY)
		return err_set(err, r, "the image is in use by another program or machine");
	return err_set(err, r, "cannot lock the image: %s", err_name(r));
}

int image_chain_lock(const struct image_chain *chain, bool write, bool share, struct err *err)
{
	unsigned i;
	int r = 0;

	for (i = 0; i < chain->n && !r; i++) {
		const struct image_layer *l = &chain->layers[i];

		r = image_lock(l->fd, write && i == 0, share, err);
		if (!r && l->data_fd >= 0)
			r = image_lock(l->data_fd, write && i == 0, share, err);
		if (r < 0 && l->path)
			err_prefix(err, "%s", l->path);
	}
	return r;
}
