// SPDX-License-Identifier: ISC
/*
 * The hand: a thread that does something to our own mount, by path, so that
 * inotify makes an event of it. The handlers know its requests by its thread id.
 *
 * Why a thread that does nothing else. While it waits for an answer from our
 * own workers, a SIGKILL may end these. The kernel ends the connection, and
 * with it the wait, once nobody has /dev/fuse open any more; a thread that waited
 * with the descriptor in its table would wait for itself, for ever, beyond
 * SIGKILL. So this one leaves the process's table of descriptors (and its
 * working directory) at its start and closes all in its copy; and therefore it
 * must run no code that uses or closes descriptors of the others. For the same reason
 * nobody here calls fuse_lowlevel_notify_inval_entry(), which waits for a
 * directory's lock with the device in its hands; what it would do, mkdir(2) does
 * as well, as it makes the kernel look up its last name anew.
 *
 * It works relative to the root of the mount, which it enters for each deed,
 * after checking that it is our mount and not what lies under or over it: so it
 * keeps nobody from unmounting.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOG_MODULE "fsapi"
#include "fsapi/fs.h"
#include "util/cleanup.h"
#include "util/log.h"

struct hand {
	struct fsapi *fs;
	pthread_t thread;
	bool started;
	atomic_int tid;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t ask, done;
	bool stop;
	const char *path; /* what to do it to; NULL: nothing to do */
	enum hand_deed deed;
	int result;
};

/* statx(2)'s number of a mount, which is never used again where the kernel is new enough. */
int mount_identity(int fd, const char *path, uint64_t *id)
{
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif
	struct statx stx;

	if (statx(fd, path, AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		  STATX_MNT_ID_UNIQUE, &stx) < 0)
		return -errno;
	if (stx.stx_mask & STATX_MNT_ID_UNIQUE)
		*id = stx.stx_mnt_id;
	else
		*id = (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor;
	return 0;
}

/* Without a descriptor: the hand's table is its own, which sanitizers do not know. */
static int enter_mount(const struct fsapi *fs)
{
	uint64_t id;
	int r;

	if (chdir(fs->mountpoint) < 0)
		return -errno;
	r = mount_identity(AT_FDCWD, ".", &id);
	return r == 0 && id != fs->mount_id ? -ENOTCONN : r;
}

static int touch(const char *path)
{
	if (truncate(path, 0) == 0)
		return 0;
	/* A plain user may not write what is read-only where the kernel checks: IN_ATTRIB, then. */
	if (errno == EACCES && utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return -errno;
}

static int do_deed(const struct fsapi *fs, enum hand_deed deed, const char *path)
{
	int r = enter_mount(fs);

	if (r == 0) {
		switch (deed) {
		case HAND_TOUCH:
			r = touch(path);
			break;
		case HAND_MKDIR:
			r = mkdir(path, 0755) < 0 ? -errno : 0;
			break;
		case HAND_RMDIR:
			r = rmdir(path) < 0 ? -errno : 0;
			break;
		}
	}
	if (chdir("/") < 0)
		log_warn("chdir(/): %s", strerror(errno));
	return r;
}

static void *hand_thread(void *arg)
{
	struct hand *hand = arg;
	bool apart = unshare(CLONE_FS | CLONE_FILES) == 0;

	pthread_setname_np(pthread_self(), "notify/hand");
	if (!apart)
		log_error("a table of descriptors of its own: %s: watchers hear nothing",
			  strerror(errno));
	else
		close_range(STDERR_FILENO + 1, ~0u, 0);
	atomic_store(&hand->tid, (int)syscall(SYS_gettid));
	pthread_mutex_lock(&hand->lock);
	while (!hand->stop) {
		if (hand->path) {
			const char *path = hand->path;
			int r;

			pthread_mutex_unlock(&hand->lock);
			r = apart ? do_deed(hand->fs, hand->deed, path) : -EPERM;
			pthread_mutex_lock(&hand->lock);
			hand->result = r;
			hand->path = NULL;
			pthread_cond_signal(&hand->done);
		} else {
			pthread_cond_wait(&hand->ask, &hand->lock);
		}
	}
	pthread_mutex_unlock(&hand->lock);
	return NULL;
}

int hand_do(struct hand *hand, enum hand_deed deed, const char *path)
{
	LOCK_SCOPE(&hand->lock);
	hand->deed = deed;
	hand->path = path;
	pthread_cond_signal(&hand->ask);
	while (hand->path)
		pthread_cond_wait(&hand->done, &hand->lock);
	return hand->result;
}

bool hand_is(struct hand *hand, pid_t tid)
{
	return tid != 0 && atomic_load(&hand->tid) == tid;
}

int hand_open(struct hand **out, struct fsapi *fs)
{
	struct hand *hand = calloc(1, sizeof(*hand));

	if (!hand)
		return -ENOMEM;
	hand->fs = fs;
	pthread_mutex_init(&hand->lock, NULL);
	pthread_cond_init(&hand->ask, NULL);
	pthread_cond_init(&hand->done, NULL);
	*out = hand;
	return 0;
}

int hand_start(struct hand *hand)
{
	int r = pthread_create(&hand->thread, NULL, hand_thread, hand);

	hand->started = r == 0;
	return -r;
}

void hand_stop(struct hand *hand)
{
	if (!hand->started)
		return;
	pthread_mutex_lock(&hand->lock);
	hand->stop = true;
	pthread_cond_signal(&hand->ask);
	pthread_mutex_unlock(&hand->lock);
	pthread_join(hand->thread, NULL);
	hand->started = false;
}

void hand_close(struct hand *hand)
{
	if (!hand)
		return;
	pthread_cond_destroy(&hand->ask);
	pthread_cond_destroy(&hand->done);
	pthread_mutex_destroy(&hand->lock);
	free(hand);
}
