// SPDX-License-Identifier: ISC
/*
 * Readers. The thread waits for a request or for its end, reads into the room that it shares
 * with the peer, and answers. One request is carried out at a time, in the order in
 * which they came: they are large, and what is gained by overlapping them the kernel's
 * read-ahead gives as well.
 *
 * System calls: poll, recvmsg, sendmsg, those of the ops and, before, memfd_create, ftruncate,
 * mmap, fcntl (seals), eventfd2.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/msg.h"
#include "vmm/peek.h"

#define STACK_BYTES (128u << 10)

struct peek_server {
	const struct peek_ops *ops;
	void *arg;
	int sock, end_fd, wake_fd; /* wake_fd borrowed */
	uint8_t *room;
	pthread_t thread;
	pthread_mutex_t reading; /* held while a request is carried out */
	bool over;		 /* atomic: the thread is at its end */
};

/* --- the thread ------------------------------------------------------------------------------ */

static int do_read(struct peek_server *s, const struct vmm_peek *peek)
{
	if (peek->bytes > PEEK_ROOM_BYTES || peek->room > PEEK_ROOM_BYTES - peek->bytes)
		return -EINVAL;
	return s->ops->read(s->arg, peek->offset, peek->bytes, s->room + peek->room);
}

static void carry_out(struct peek_server *s, struct vmm_peek *peek)
{
	LOCK_SCOPE(&s->reading);
	switch (peek->op) {
	case VMM_PEEK_READ:
		peek->error = do_read(s, peek);
		break;
	case VMM_PEEK_STATUS:
		peek->error = s->ops->status(s->arg, peek);
		break;
	default:
		peek->error = -EOPNOTSUPP;
		break;
	}
}

/* False: it is over. */
static bool await(const struct peek_server *s, short events)
{
	struct pollfd fds[] = {{.fd = s->sock, .events = events},
			       {.fd = s->end_fd, .events = POLLIN}};
	int n;

	do
		n = poll(fds, nitems(fds), -1);
	while (n < 0 && errno == EINTR);
	return n > 0 && !fds[1].revents && (fds[0].revents & events);
}

static bool serve_one(struct peek_server *s)
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
	carry_out(s, &peek);
	do
		ret = msg_send(s->sock, &peek, sizeof(peek), NULL, 0, NULL, 0, MSG_DONTWAIT);
	while (ret == -EAGAIN && await(s, POLLOUT));
	return ret >= 0;
}

static void *server_main(void *arg)
{
	struct peek_server *s = arg;

	pthread_setname_np(pthread_self(), s->ops->thread);
	while (serve_one(s))
		;
	__atomic_store_n(&s->over, true, __ATOMIC_RELEASE);
	if (s->wake_fd >= 0)
		eventfd_write(s->wake_fd, 1);
	return NULL;
}

/* --- beginning and end ----------------------------------------------------------------------- */

/* All but the thread. */
static void release(struct peek_server *s)
{
	if (s->room)
		munmap(s->room, PEEK_ROOM_BYTES);
	if (s->end_fd >= 0)
		close(s->end_fd);
	close(s->sock);
	pthread_mutex_destroy(&s->reading);
	free(s);
}

/* Sealed: a reader that maps it must not be hurt by a VMM that cuts it short. */
static int make_room(struct peek_server *s, int *room_fd, struct err *err)
{
	_cleanup_close_ int fd = memfd_create("peek", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *room;

	if (fd < 0 || ftruncate(fd, PEEK_ROOM_BYTES) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_set(err, -errno, "no memory for a reader");
	room = mmap(NULL, PEEK_ROOM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (room == MAP_FAILED)
		return err_set(err, -errno, "no memory for a reader");
	s->room = room;
	*room_fd = take_fd(&fd);
	return 0;
}

static int start(struct peek_server *s, struct err *err)
{
	pthread_attr_t attr;
	int ret;

	s->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->end_fd < 0)
		return err_set(err, -errno, "no descriptor");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	ret = -pthread_create(&s->thread, &attr, server_main, s);
	pthread_attr_destroy(&attr);
	return ret < 0 ? err_set(err, ret, "cannot start a thread for a reader") : 0;
}

int peek_server_new(struct peek_server **server, const struct peek_ops *ops, void *arg, int sock,
		    int wake_fd, int *room_fd, struct err *err)
{
	struct peek_server *s = calloc(1, sizeof(*s));
	int ret;

	*room_fd = -1;
	if (!s) {
		close(sock);
		return err_set(err, -ENOMEM, "no memory");
	}
	pthread_mutex_init(&s->reading, NULL);
	s->ops = ops;
	s->arg = arg;
	s->sock = sock;
	s->end_fd = -1;
	s->wake_fd = wake_fd;
	ret = make_room(s, room_fd, err);
	if (ret == 0)
		ret = start(s, err);
	if (ret < 0) {
		if (*room_fd >= 0)
			close(take_fd(room_fd));
		release(s);
		return ret;
	}
	*server = s;
	return 0;
}

bool peek_server_over(const struct peek_server *s)
{
	return __atomic_load_n(&s->over, __ATOMIC_ACQUIRE);
}

void peek_server_pass(struct peek_server *s)
{
	pthread_mutex_lock(&s->reading);
	pthread_mutex_unlock(&s->reading);
}

void peek_server_free(struct peek_server *s)
{
	if (!s)
		return;
	eventfd_write(s->end_fd, 1);
	pthread_join(s->thread, NULL);
	release(s);
}
