// SPDX-License-Identifier: ISC
/*
 * virtio-vsock's connections and their sockets. See virtio_vsock_int.h for states, and for how
 * sockets are waited for. Nothing here touches guest memory but vsock_conn_take(), whose buffers
 * are its caller's request.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util/cleanup.h"
#include "vmm/virtio_vsock_int.h"

#define PORT_FIRST 0x40000000u /* of those that are given to who connects from the host */

/* --- the table ------------------------------------------------------------------------------ */

static struct vsock_conn **bucket(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	return &v->hash[((guest_port ^ host_port) * 2654435761u) >> 24 & (VSOCK_HASH - 1)];
}

struct vsock_conn *vsock_conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c = *bucket(v, guest_port, host_port);

	while (c && (c->guest_port != guest_port || c->host_port != host_port))
		c = c->hash_next;
	return c;
}

static void unhash(struct vsock *v, struct vsock_conn *c)
{
	struct vsock_conn **at = bucket(v, c->guest_port, c->host_port);

	while (*at && *at != c)
		at = &(*at)->hash_next;
	if (*at)
		*at = c->hash_next;
}

static void unlist_ready(struct vsock *v, struct vsock_conn *c)
{
	if (!c->in_ready)
		return;
	*(c->ready_prev ? &c->ready_prev->ready_next : &v->ready) = c->ready_next;
	*(c->ready_next ? &c->ready_next->ready_prev : &v->ready_last) = c->ready_prev;
	c->ready_next = c->ready_prev = NULL;
	c->in_ready = false;
}

/* One that only waits for a slow reader on the host makes room for one that is to live. */
static bool make_room(struct vsock *v)
{
	if (v->n_conns < VSOCK_CONNS_MAX)
		return true;
	for (struct vsock_conn *c = v->all; c; c = c->next) {
		if (c->state == VSOCK_DRAINING) {
			vsock_conn_free(v, c);
			return true;
		}
	}
	return false;
}

static void socket_ready(struct vsock *v, struct vsock_source *source, uint32_t events);

static int wait_for(struct vsock *v, int fd, struct vsock_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};

	return epoll_ctl(v->sockets.fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int wait_for_socket(struct vsock *v, struct vsock_conn *c)
{
	return wait_for(v, c->fd, &c->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state, uint32_t guest_port,
				  uint32_t host_port, int fd)
{
	struct vsock_conn *c = make_room(v) ? calloc(1, sizeof(*c)) : NULL, **at;

	if (!c)
		return NULL;
	*c = (struct vsock_conn){.source.ready = socket_ready,
				 .state = state,
				 .guest_port = guest_port,
				 .host_port = host_port,
				 .fd = fd,
				 .seconds_left = VSOCK_ANSWER_S,
				 .readable = true,
				 .writable = true};
	if (fd >= 0 && wait_for_socket(v, c) < 0) {
		free(c);
		return NULL;
	}
	at = bucket(v, guest_port, host_port);
	c->hash_next = *at;
	*at = c;
	c->prev = v->all_last;
	*(v->all_last ? &v->all_last->next : &v->all) = c;
	v->all_last = c;
	v->n_conns++;
	stats_add(v->n_open, 1);
	vsock_time(v);
	return c;
}

bool vsock_conn_connect(struct vsock *v, struct vsock_conn *c, int fd)
{
	c->fd = fd;
	c->state = VSOCK_OPEN;
	c->seconds_left = 0;
	return wait_for_socket(v, c) == 0;
}

void vsock_conn_free(struct vsock *v, struct vsock_conn *c)
{
	if (c->state != VSOCK_DRAINING)
		unhash(v, c);
	unlist_ready(v, c);
	*(c->prev ? &c->prev->next : &v->all) = c->next;
	*(c->next ? &c->next->prev : &v->all_last) = c->prev;
	v->n_conns--;
	stats_add(v->n_open, (uint64_t)-1);
	if (c->fd >= 0) {
		/* Said, not left to close(2): who was just forked may have it as well. */
		epoll_ctl(v->sockets.fd, EPOLL_CTL_DEL, c->fd, NULL);
		shutdown(c->fd, SHUT_RDWR);
		close(c->fd);
	}
	free(c->buffer);
	free(c);
	if (v->starved) /* who knocks is looked at again */
		virtio_kick(&v->virtio.queues[VSOCK_RX]);
}

void vsock_conn_free_all(struct vsock *v)
{
	while (v->all)
		vsock_conn_free(v, v->all);
	v->n_rsts = 0;
	LOCK_SCOPE(&v->asks_lock);
	v->n_asks = 0;
}

void vsock_conn_abort(struct vsock *v, struct vsock_conn *c)
{
	if (c->state != VSOCK_DRAINING)
		vsock_rst(v, c->guest_port, c->host_port);
	vsock_conn_free(v, c);
}

/* --- what there is for the guest ------------------------------------------------------------ */

uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t in_flight = c->sent - c->peer_fwd;

	/* A peer that has forwarded more than it was sent, or that has made its buffer smaller, has
	 * no room. */
	return in_flight < c->peer_alloc ? c->peer_alloc - in_flight : 0;
}

bool vsock_conn_may_read(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && c->readable &&
	       !(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
	       !(c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

void vsock_conn_ready(struct vsock *v, struct vsock_conn *c)
{
	bool data = vsock_conn_may_read(c);

	if (data && !vsock_conn_credit(c)) {
		data = false;
		if (!c->need_said)
			c->pending |= SAY_NEED;
		c->need_said = true;
	}
	if (c->in_ready || (!data && !c->pending))
		return;
	c->in_ready = true;
	c->ready_prev = v->ready_last;
	c->ready_next = NULL;
	*(v->ready_last ? &v->ready_last->ready_next : &v->ready) = c;
	v->ready_last = c;
}

void vsock_conn_say(struct vsock *v, struct vsock_conn *c, unsigned what)
{
	c->pending |= what;
	vsock_conn_ready(v, c);
}

struct vsock_conn *vsock_conn_turn(struct vsock *v)
{
	struct vsock_conn *c = v->ready;

	if (c)
		unlist_ready(v, c);
	return c;
}

/* --- what there is for the host ------------------------------------------------------------- */

static void forwarded(struct vsock *v, struct vsock_conn *c, uint32_t len)
{
	c->forwarded += len;
	if (c->state == VSOCK_OPEN && c->forwarded - c->forwarded_said >= VSOCK_BUFFER / 4)
		vsock_conn_say(v, c, SAY_CREDIT);
}

/* The host hears no more: what the guest sends is dropped, and it is told so. */
static void host_is_deaf(struct vsock *v, struct vsock_conn *c)
{
	uint32_t held = c->held;

	c->held = 0;
	forwarded(v, c, held);
	if (c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		return;
	c->host_shut |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	if (c->state == VSOCK_OPEN)
		vsock_conn_say(v, c, SAY_SHUTDOWN);
}

/* Bytes that the socket has taken; 0: it takes none now, or never again (c->host_shut). */
static size_t give(struct vsock *v, struct vsock_conn *c, const struct iovec *iov, unsigned n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = n};
	ssize_t done;

	if (!c->writable || c->fd < 0 || c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		return 0;
	do {
		done = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (done < 0 && errno == EINTR);
	if (done < 0) {
		c->writable = false;
		if (errno != EAGAIN && errno != ENOBUFS)
			host_is_deaf(v, c);
		return 0;
	}
	return (size_t)done;
}

/* What is held, to the socket. */
static void push(struct vsock *v, struct vsock_conn *c)
{
	while (c->held && c->writable) {
		uint32_t to_end = VSOCK_BUFFER - c->first;
		uint32_t part = c->held < to_end ? c->held : to_end;
		struct iovec iov[] = {{c->buffer + c->first, part}, {c->buffer, c->held - part}};
		size_t done = give(v, c, iov, c->held > part ? 2 : 1);

		if (!done)
			break;
		c->first = (c->first + (uint32_t)done) % VSOCK_BUFFER;
		c->held -= (uint32_t)done;
		forwarded(v, c, (uint32_t)done);
	}
}

/* Behind what is held; there is room, by the credit. */
static bool hold(struct vsock_conn *c, const uint8_t *data, uint32_t len)
{
	if (!c->buffer && !(c->buffer = malloc(VSOCK_BUFFER)))
		return false;
	while (len) {
		uint32_t at = (c->first + c->held) % VSOCK_BUFFER;
		uint32_t part = len < VSOCK_BUFFER - at ? len : VSOCK_BUFFER - at;

		memcpy(c->buffer + at, data, part);
		c->held += part;
		data += part;
		len -= part;
	}
	return true;
}

/* The rest of @iov, of which @skip bytes have gone, is held. */
static bool hold_rest(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t skip)
{
	for (unsigned i = 0; i < n; i++) {
		size_t gone = skip < iov[i].iov_len ? skip : iov[i].iov_len;

		skip -= gone;
		if (gone < iov[i].iov_len && !hold(c, (const uint8_t *)iov[i].iov_base + gone,
						   (uint32_t)(iov[i].iov_len - gone)))
			return false;
	}
	return true;
}

void vsock_conn_take(struct vsock *v, struct vsock_conn *c, const struct iovec *iov, unsigned n,
		     uint32_t len)
{
	size_t done = 0;

	c->received += len;
	stats_add(v->bytes_out, len);
	if (!c->held)
		done = give(v, c, iov, n);
	if (c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		done = len;
	if (done < len && !hold_rest(c, iov, n, done)) {
		vsock_conn_abort(v, c);
		return;
	}
	forwarded(v, c, (uint32_t)done);
}

void vsock_conn_follow_shut(struct vsock *v, struct vsock_conn *c)
{
	if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV && c->fd >= 0)
		shutdown(c->fd, SHUT_RD);
	if (c->held)
		return;
	if (c->state == VSOCK_DRAINING)
		vsock_conn_free(v, c);
	else if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND && c->fd >= 0)
		shutdown(c->fd, SHUT_WR);
}

void vsock_conn_finish(struct vsock *v, struct vsock_conn *c)
{
	unhash(v, c);
	unlist_ready(v, c);
	c->state = VSOCK_DRAINING;
	c->pending = 0;
	c->seconds_left = 0;
	push(v, c);
	if (c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV || c->fd < 0)
		c->held = 0;
	vsock_conn_follow_shut(v, c);
}

static void socket_ready(struct vsock *v, struct vsock_source *source, uint32_t events)
{
	struct vsock_conn *c = (struct vsock_conn *)source;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		c->writable = true;
	/* Both directions are shut by this or the other side: only the other one's close is new. */
	if (events & EPOLLHUP && !c->guest_shut)
		c->host_closed = true;
	if (c->host_closed && c->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		host_is_deaf(v, c);
	push(v, c);
	vsock_conn_ready(v, c);
	vsock_conn_follow_shut(v, c);
}

/* --- who knocks ----------------------------------------------------------------------------- */

static void door_ready(struct vsock *v, struct vsock_source *source, uint32_t events)
{
	(void)v, (void)events;
	((struct vsock_door *)source)->pending = true;
}

int vsock_door_open(struct vsock *v, unsigned n)
{
	struct vsock_door *door = &v->doors[n];

	if (n < v->n_doors) {
		door->pending = true;
		vsock_accept(v); /* who knocked at the one before */
		epoll_ctl(v->sockets.fd, EPOLL_CTL_DEL, door->listener.fd, NULL);
	}
	*door = (struct vsock_door){.source.ready = door_ready, .listener = v->boot->listeners[n]};
	if (n == v->n_doors)
		v->n_doors++;
	return wait_for(v, door->listener.fd, &door->source, EPOLLIN);
}

static uint32_t free_port(struct vsock *v, uint32_t guest_port)
{
	do {
		v->last_port = v->last_port < PORT_FIRST || v->last_port >= UINT32_MAX - 1
				   ? PORT_FIRST
				   : v->last_port + 1;
	} while (vsock_conn_find(v, guest_port, v->last_port));
	return v->last_port;
}

/* False: nobody else can be let in for now. */
static bool let_in(struct vsock *v, struct vsock_door *door, bool live)
{
	int fd = accept4(door->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct vsock_conn *c;

	if (fd < 0) {
		door->pending = errno != EAGAIN;
		if (errno == ECONNABORTED || errno == EINTR)
			return true;
		if (errno != EAGAIN) { /* no descriptor, no memory: each second again */
			v->starved = true;
			vsock_time(v);
		}
		return false;
	}
	if (!live) {
		close(fd);
		stats_add(v->refused, 1);
		return true;
	}
	c = vsock_conn_new(v, VSOCK_CALLING, door->listener.port, free_port(v, door->listener.port),
			   fd);
	if (!c) {
		close(fd);
		stats_add(v->refused, 1);
		return true;
	}
	stats_add(v->accepted, 1);
	vsock_conn_say(v, c, SAY_REQUEST);
	return true;
}

void vsock_accept(struct vsock *v)
{
	bool live = vsock_live(v);

	/*
	 * Standing still, or not told yet that what was before is no more (and perhaps loaded, and
	 * not yet started): they wait.
	 */
	if ((!live && v->virtio.lanes[0].active && !v->virtio.queues[VSOCK_RX].ring.broken &&
	     !v->virtio.queues[VSOCK_TX].ring.broken) ||
	    v->reset_pending)
		return;
	v->starved = false;
	for (unsigned i = 0; i < v->n_doors; i++)
		while (v->doors[i].pending && let_in(v, &v->doors[i], live))
			;
}
