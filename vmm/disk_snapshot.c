// SPDX-License-Identifier: ISC
/*
 * Readers of a disk's past. The thread waits for a request or for its end, reads with a
 * synchronous queue into the room that it shares with the peer, and answers. One request is
 * carried out at a time, in the order in which they came: they are large, and
 * what is gained by overlapping them the kernel's read-ahead gives as well.
 *
 * System calls: poll, recvmsg, sendmsg, those of block_queue_new_sync()'s queue and,
 * before, memfd_create, ftruncate, mmap, fcntl (seals), eventfd2.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/block_filter.h"
#include "util/cleanup.h"
#include "util/msg.h"
#include "vmm/disk_snapshot.h"

#define ROOM_BYTES  (4u << 20)
#define STACK_BYTES (128u << 10)

struct disk_snapshot {
	struct disk_snapshot *next;
	struct block *block;
	struct block_queue *queue;
	int sock, end_fd, wake_fd; /* wake_fd borrowed */
	uint8_t *room;
	uint64_t bytes;
	pthread_t thread;
	pthread_mutex_t reading; /* held while the disk is read */
	bool over;		 /* atomic: the thread is at its end */
};

/* --- the thread ------------------------------------------------------------------------------ */

static int peek_read(struct disk_snapshot *s, const struct vmm_peek *peek)
{
	if (peek->bytes > ROOM_BYTES || peek->room > ROOM_BYTES - peek->bytes)
		return -EINVAL;
	return block_pread(s->queue, s->block, s->room + peek->room, peek->bytes, peek->offset);
}

static int peek_status(struct disk_snapshot *s, struct vmm_peek *peek)
{
	struct block_extent extent;
	int ret = block_status(s->block, peek->offset, peek->bytes, &extent);

	if (ret < 0)
		return ret;
	peek->bytes = extent.bytes;
	peek->flags = (extent.data ? VMM_PEEK_DATA : 0) | (extent.zero ? VMM_PEEK_ZERO : 0);
	return 0;
}

static void carry_out(struct disk_snapshot *s, struct vmm_peek *peek)
{
	switch (peek->op) {
	case VMM_PEEK_READ:
		peek->error = peek_read(s, peek);
		break;
	case VMM_PEEK_STATUS:
		peek->error = peek_status(s, peek);
		break;
	default:
		peek->error = -EOPNOTSUPP;
		break;
	}
}

/* False: it is over. */
static bool await(const struct disk_snapshot *s, short events)
{
	struct pollfd fds[] = {{.fd = s->sock, .events = events},
			       {.fd = s->end_fd, .events = POLLIN}};
	int n;

	do
		n = poll(fds, nitems(fds), -1);
	while (n < 0 && errno == EINTR);
	return n > 0 && !fds[1].revents && (fds[0].revents & events);
}

static bool serve_one(struct disk_snapshot *s)
{
	struct vmm_peek peek = {0};
	int fds[VMM_MSG_FDS];
	size_t n_fds = nitems(fds);
	ssize_t n;
	int ret;

	if (!await(s, POLLIN))
		return false;
	n = msg_recv(s->sock, &peek, sizeof(peek), fds, &n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return true;
	if (n >= 0)
		msg_close_fds(fds, n_fds);
	if (n != (ssize_t)sizeof(peek))
		return false;
	pthread_mutex_lock(&s->reading);
	carry_out(s, &peek);
	pthread_mutex_unlock(&s->reading);
	do
		ret = msg_send(s->sock, &peek, sizeof(peek), NULL, 0, NULL, 0, MSG_DONTWAIT);
	while (ret == -EAGAIN && await(s, POLLOUT));
	return ret >= 0;
}

static void *snapshot_main(void *arg)
{
	struct disk_snapshot *s = arg;

	pthread_setname_np(pthread_self(), "snapshot");
	while (serve_one(s))
		;
	__atomic_store_n(&s->over, true, __ATOMIC_RELEASE);
	if (s->wake_fd >= 0)
		eventfd_write(s->wake_fd, 1);
	return NULL;
}

/* --- beginning and end ----------------------------------------------------------------------- */

/* All but the thread. */
static void snapshot_free(struct disk_snapshot *s)
{
	if (s->room)
		munmap(s->room, ROOM_BYTES);
	block_queue_free(s->queue);
	block_close(s->block);
	if (s->end_fd >= 0)
		close(s->end_fd);
	close(s->sock);
	pthread_mutex_destroy(&s->reading);
	free(s);
}

static void join(struct disk_snapshot *s)
{
	eventfd_write(s->end_fd, 1);
	pthread_join(s->thread, NULL);
	snapshot_free(s);
}

/* Sealed: a reader that maps it must not be hurt by a VMM that cuts it short. */
static int make_room(struct disk_snapshot *s, int *room_fd, struct err *err)
{
	_cleanup_close_ int fd = memfd_create("snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *room;

	if (fd < 0 || ftruncate(fd, ROOM_BYTES) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_set(err, -errno, "no memory for a snapshot's reader");
	room = mmap(NULL, ROOM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (room == MAP_FAILED)
		return err_set(err, -errno, "no memory for a snapshot's reader");
	s->room = room;
	*room_fd = take_fd(&fd);
	return 0;
}

static int start(struct disk_snapshot *s, struct err *err)
{
	pthread_attr_t attr;
	int ret;

	s->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->end_fd < 0)
		return err_set(err, -errno, "no descriptor");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	ret = -pthread_create(&s->thread, &attr, snapshot_main, s);
	pthread_attr_destroy(&attr);
	return ret < 0 ? err_set(err, ret, "cannot start a thread for a snapshot") : 0;
}

int disk_snapshot_new(struct disk_graph *graph, int keep_fd, int sock, int wake_fd,
		      struct vmm_snapshot_info *info, int *room_fd, struct err *err)
{
	struct disk_snapshot *s = calloc(1, sizeof(*s));
	struct block_info what;
	int ret;

	*room_fd = -1;
	if (!s) {
		close(keep_fd);
		close(sock);
		return err_set(err, -ENOMEM, "no memory");
	}
	pthread_mutex_init(&s->reading, NULL);
	s->sock = sock;
	s->end_fd = -1;
	s->wake_fd = wake_fd;
	ret = block_fleece_snapshot(&s->block, graph->fleece, keep_fd, err);
	if (ret == 0)
		ret = block_queue_new_sync(&s->queue, err);
	if (ret == 0)
		ret = make_room(s, room_fd, err);
	if (ret == 0)
		ret = start(s, err);
	if (ret < 0) {
		if (*room_fd >= 0)
			close(take_fd(room_fd));
		snapshot_free(s);
		return ret;
	}
	block_info_get(s->block, &what);
	*info = (struct vmm_snapshot_info){.bytes = what.bytes, .room_bytes = ROOM_BYTES};
	s->next = graph->snapshots;
	graph->snapshots = s;
	return 0;
}

void disk_snapshots_pass(struct disk_graph *graph)
{
	for (struct disk_snapshot *s = graph->snapshots; s; s = s->next) {
		pthread_mutex_lock(&s->reading);
		pthread_mutex_unlock(&s->reading);
	}
}

void disk_snapshots_reap(struct disk_graph *graph)
{
	struct disk_snapshot **at = &graph->snapshots;

	while (*at) {
		struct disk_snapshot *s = *at;

		if (!__atomic_load_n(&s->over, __ATOMIC_ACQUIRE)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		join(s);
	}
}

void disk_snapshots_end(struct disk_graph *graph)
{
	while (graph->snapshots) {
		struct disk_snapshot *s = graph->snapshots;

		graph->snapshots = s->next;
		join(s);
	}
}
