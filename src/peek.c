// SPDX-License-Identifier: ISC
/*
 * A client of struct vmm_peek. The VMM is not believed: sizes are bounded, data comes by pread(2)
 * from a memfd that it cannot make larger or smaller than we see at each read, and it has a time
 * to answer, once missed for ever missed.
 */
#define LOG_MODULE "peek"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_int.h"
#include "peek.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/msg.h"

#define WINDOW_MAX (1u << 20) /* read at once, where reading goes on from where it was */
#define MS	   1000000ull

struct peek {
	struct content content;
	int sock, room;	     /* room: the memfd */
	uint64_t bytes;	     /* of what is read */
	uint64_t room_bytes; /* of the memfd, at most WINDOW_MAX used */
	unsigned answer_ms, seek_ms;

	pthread_mutex_t lock; /* one request at a time; guards what follows */
	bool dead;	      /* it did not answer, or nonsense */
	uint64_t id;
	uint64_t at, len;    /* what is in the room */
	uint64_t next;	     /* behind the last read */
	uint64_t hurry;	     /* CLOCK_MONOTONIC in ns: nothing is waited for any longer; 0: none */
	uint64_t seek_until; /* the same, for the search under way */
};

static struct peek *of(struct content *content)
{
	return (struct peek *)content;
}

static uint64_t peek_size(struct content *content)
{
	return of(content)->bytes;
}

/* --- asking ----------------------------------------------------------------------------------- */

static int await(int sock, uint64_t deadline)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	uint64_t now = now_ns();
	int n = poll(&p, 1, deadline > now ? (int)((deadline - now + MS - 1) / MS) : 0);

	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : errno == EINTR ? 0 : -errno;
}

/* Waits for the answer with its id; there may be some that nobody waited for any more. */
static int receive(struct peek *p, struct vmm_peek *peek, uint64_t deadline)
{
	for (;;) {
		int fds[1];
		size_t n_fds = 0;
		ssize_t n = msg_recv(p->sock, peek, sizeof(*peek), fds, &n_fds, MSG_DONTWAIT);
		int r;

		if (n == sizeof(*peek) && peek->id == p->id)
			return 0;
		if (n != -EAGAIN && (n != sizeof(*peek) || peek->id > p->id))
			return -EPROTO;
		r = n == -EAGAIN ? await(p->sock, deadline) : now_ns() > deadline ? -ETIMEDOUT : 0;
		if (r < 0)
			return r;
	}
}

/* The errno that the answer brings, or why there is none. */
static int exchange(struct peek *p, struct vmm_peek *peek)
{
	uint64_t now = now_ns(), deadline = now + p->answer_ms * MS;
	bool hurry = p->hurry && p->hurry < deadline;
	int r;

	if (p->dead)
		return -EIO;
	if (hurry && p->hurry <= now)
		return -ETIMEDOUT;
	peek->id = ++p->id;
	r = msg_send(p->sock, peek, sizeof(*peek), NULL, 0, NULL, 0, MSG_DONTWAIT);
	if (r == 0)
		r = receive(p, peek, hurry ? p->hurry : deadline);
	if (r == -ETIMEDOUT && hurry)
		return r;
	if (r < 0) {
		p->dead = true;
		return -EIO;
	}
	return vmm_believable(peek->error);
}

/* Fills the room with what is at @offset: as much as is asked for, or more where reading goes on.
 */
static int fill(struct peek *p, uint64_t offset, uint64_t len)
{
	uint64_t most = p->room_bytes < WINDOW_MAX ? p->room_bytes : WINDOW_MAX;
	struct vmm_peek peek = {.op = VMM_PEEK_READ, .offset = offset};
	int r;

	if (offset == p->next || len > most)
		len = most;
	if (len > p->bytes - offset)
		len = p->bytes - offset;
	peek.bytes = len;
	p->len = 0;
	r = exchange(p, &peek);
	if (r == 0) {
		p->at = offset;
		p->len = len;
	}
	return r;
}

/* --- content ---------------------------------------------------------------------------------- */

static ssize_t read_part(struct peek *p, void *buf, size_t len, uint64_t offset)
{
	uint64_t inside;
	int r = 0;

	if (p->dead)
		return -EIO;
	if (offset < p->at || offset >= p->at + p->len)
		r = fill(p, offset, len);
	if (r < 0)
		return r;
	inside = offset - p->at;
	if (len > p->len - inside)
		len = p->len - inside;
	if (len == 0 || file_pread_all(p->room, buf, len, (off_t)inside) < 0)
		return -EIO; /* the room was cut short */
	p->next = offset + len;
	return (ssize_t)len;
}

static ssize_t peek_read(struct content *content, void *buf, size_t len, uint64_t offset)
{
	struct peek *p = of(content);
	size_t done = 0;

	LOCK_SCOPE(&p->lock);
	if (offset >= p->bytes)
		return 0;
	if (len > p->bytes - offset)
		len = p->bytes - offset;
	while (done < len) {
		ssize_t n = read_part(p, (char *)buf + done, len - done, offset + done);

		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int peek_extent(struct content *content, uint64_t offset, uint64_t bytes, uint64_t *alike,
		       bool *zero)
{
	struct peek *p = of(content);
	struct vmm_peek peek = {.op = VMM_PEEK_STATUS, .offset = offset, .bytes = bytes};
	int r;

	LOCK_SCOPE(&p->lock);
	*alike = bytes;
	*zero = false;
	if (p->seek_ms && now_ns() > p->seek_until)
		return 0;
	r = exchange(p, &peek);
	if (r < 0)
		return r;
	*alike = peek.bytes < bytes ? peek.bytes : bytes;
	*zero = peek.flags & VMM_PEEK_ZERO;
	return 0;
}

static int64_t peek_seek(struct content *content, int64_t offset, int whence)
{
	struct peek *p = of(content);

	pthread_mutex_lock(&p->lock);
	p->seek_until = now_ns() + p->seek_ms * MS;
	pthread_mutex_unlock(&p->lock);
	return content_seek_extents(content, p->bytes, offset, whence, peek_extent);
}

static int peek_close(struct content *content)
{
	struct peek *p = of(content);

	if (p->sock >= 0)
		close(p->sock);
	if (p->room >= 0)
		close(p->room);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return 0;
}

static const struct content_ops peek_ops = {
    .size = peek_size, .read = peek_read, .seek = peek_seek, .close = peek_close};

/* --- opening ---------------------------------------------------------------------------------- */

/* Only memory that we can read without waiting, of a size that it has. */
static int check_room(struct peek *p, const struct vmm_snapshot_info *info)
{
	struct stat st;

	if (fcntl(p->room, F_GET_SEALS) < 0 || fstat(p->room, &st) < 0 || !S_ISREG(st.st_mode))
		return -EIO;
	if (info->bytes > INT64_MAX || info->room_bytes < 4096 || st.st_size < 4096)
		return -EIO;
	p->bytes = info->bytes;
	p->room_bytes =
	    info->room_bytes < (uint64_t)st.st_size ? info->room_bytes : (uint64_t)st.st_size;
	return 0;
}

static int ask(struct vmm *vmm, const struct peek_params *params, struct peek *p, int theirs,
	       struct err *err)
{
	struct vmm_snapshot_info info = {0};
	struct vmm_reply reply = {.data = &info, .room = sizeof(info), .wants_fds = true};
	int fds[PEEK_FDS + 1];
	struct vmm_request rq = {.type = params->type,
				 .data = params->data,
				 .len = params->len,
				 .fds = fds,
				 .n_fds = params->n_fds + 1,
				 .timeout_ms = params->order_ms,
				 .cancel = params->cancel};
	int r;

	for (size_t i = 0; i < params->n_fds; i++)
		fds[i] = params->fds[i];
	fds[params->n_fds] = theirs;
	r = vmm_call(vmm, &rq, &reply, err);
	if (r < 0)
		return r == -EPIPE ? err_set(err, -EBUSY, "the machine has ended meanwhile") : r;
	if (reply.n_fds >= 1 && reply.len == sizeof(info)) {
		p->room = reply.fds[0];
		msg_close_fds(reply.fds + 1, reply.n_fds - 1);
		r = check_room(p, &info);
	} else {
		msg_close_fds(reply.fds, reply.n_fds);
		r = -EIO;
	}
	return r < 0 ? err_set(err, r, "the VMM gives nothing to read") : 0;
}

int peek_open(struct vmm *vmm, const struct peek_params *params, struct content **content,
	      struct err *err)
{
	struct peek *p = calloc(1, sizeof(*p));
	_cleanup_close_ int theirs = -1;
	int pair[2], r;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->content.ops = &peek_ops;
	p->sock = p->room = -1;
	p->answer_ms = params->answer_ms;
	p->seek_ms = params->seek_ms;
	pthread_mutex_init(&p->lock, NULL);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		r = err_set(err, -errno, "no socket: %m");
	} else {
		p->sock = pair[0];
		theirs = pair[1];
		r = ask(vmm, params, p, theirs, err);
	}
	if (r < 0)
		peek_close(&p->content);
	else
		*content = &p->content;
	return r;
}

void peek_hurry(struct content *content, unsigned ms)
{
	struct peek *p = of(content);

	LOCK_SCOPE(&p->lock);
	p->hurry = ms ? now_ns() + ms * MS : 0;
}
