/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_VSOCK_INT_H
#define FV_VMM_VIRTIO_VSOCK_INT_H
/*
 * Inside virtio-vsock: the device (virtio_vsock.c), its connections and their sockets
 * (virtio_vsock_conn.c), packets from the guest (virtio_vsock_tx.c) and to it (virtio_vsock_rx.c).
 *
 * All queues and all sockets are one lane's, the thread "vsock": nothing here needs a lock but what
 * the control thread takes away (asks).
 *
 * Sockets are waited for by edges in an epoll of their own, which the lane's thread waits for: what
 * is known of a socket is remembered in its connection until the kernel says EAGAIN. So a socket
 * that nobody can serve (no credit, no buffers, the machine stands still) costs nothing.
 *
 * A connection, by its state:
 *	ASKED	  the guest wants it; the daemon was asked. No socket yet.
 *	CALLING	  a socket was accepted; the guest was sent REQUEST.
 *	OPEN	  bytes go both ways, as far as either side has not shut down.
 *	DRAINING  over for the guest, which knows it no more; what it had sent goes to the socket.
 *
 * What a connection has to say to the guest is a bit in `pending`, never a queue: however much a
 * driver provokes, it takes no memory. A RST belongs to no connection: those wait in a ring of
 * fixed size, and the oldest stay; a driver that gives no buffers to hear them loses the rest.
 */
#include <stdatomic.h>
#include <linux/virtio_vsock.h>

#include "vmm/virtio.h"
#include "vmm/virtio_vsock.h"

#define VSOCK_QUEUE_SIZE 128
#define VSOCK_CHAIN_MAX	 64
#define VSOCK_CONNS_MAX	 1024
#define VSOCK_BUFFER	 65536 /* bytes from the guest that its socket did not take yet: credit */
#define VSOCK_PACKET_MAX 65536 /* bytes in one packet to the guest */
#define VSOCK_HOST_CID	 2     /* §5.10.4 */
#define VSOCK_ANSWER_S	 30    /* for the guest or the daemon to answer, while it runs */
#define VSOCK_GOODBYE_S	 10    /* for the guest to let go of what the host has closed */
#define VSOCK_RSTS_MAX	 256
#define VSOCK_ASKS_MAX	 64
#define VSOCK_HASH	 256

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

enum vsock_state { VSOCK_ASKED, VSOCK_CALLING, VSOCK_OPEN, VSOCK_DRAINING };

/* What a connection has yet to say; bits of `pending`. Data is no bit: see conn_ready(). */
enum {
	SAY_REQUEST = 1,
	SAY_RESPONSE = 2,
	SAY_CREDIT = 4,	   /* CREDIT_UPDATE */
	SAY_NEED = 8,	   /* CREDIT_REQUEST */
	SAY_SHUTDOWN = 16, /* as far as it is not said yet */
};

#define SHUT_ALL (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

struct vsock;

/* What the inner epoll knows. */
struct vsock_source {
	void (*ready)(struct vsock *v, struct vsock_source *source, uint32_t events);
};

/* A listening socket, as the device waits for it. */
struct vsock_door {
	struct vsock_source source;	/* first */
	struct vsock_listener listener; /* borrowed */
	bool pending;
};

struct vsock_conn {
	struct vsock_source source; /* first */
	struct vsock_conn *hash_next;
	struct vsock_conn *next, *prev;		    /* all there are, oldest first */
	struct vsock_conn *ready_next, *ready_prev; /* those with something for the guest */
	bool in_ready;
	enum vsock_state state;
	uint32_t guest_port, host_port;
	int fd;
	uint64_t ask_id;
	unsigned seconds_left; /* 0: no limit */
	unsigned pending;
	/* the socket, as far as is known */
	bool readable, writable;
	bool host_closed; /* wholly: it hung up, or is gone */
	/* enum virtio_vsock_shutdown: */
	unsigned guest_shut; /* as the guest said */
	unsigned host_shut;  /* to be said to it */
	unsigned said_shut;
	/* to the guest (§5.10.6.3); all modulo 2^32 */
	uint32_t peer_alloc, peer_fwd, sent;
	bool need_said;
	/* from the guest */
	uint32_t received, forwarded, forwarded_said;
	uint8_t *buffer; /* VSOCK_BUFFER bytes, round; NULL: not needed yet */
	uint32_t first, held;
};

/* A packet without payload that belongs to no connection. */
struct vsock_rst {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

struct vsock {
	struct virtio_device virtio;
	struct vsock_config *boot;
	struct virtio_vsock_config config;
	struct iothread *thread;
	struct iothread_source sockets; /* the inner epoll */
	struct iothread_source timer;	/* each second while something may time out */
	bool timing;
	atomic_bool reset_pending; /* the guest is to be told that its connections are no more */
	bool starved; /* connections wait in a backlog: there was no descriptor or no place */
	struct vsock_door doors[VSOCK_LISTENERS_MAX];
	unsigned n_doors;
	struct vsock_conn *hash[VSOCK_HASH];
	struct vsock_conn *all, *all_last, *ready, *ready_last;
	unsigned n_conns;
	uint32_t last_port; /* of the host's, given to who connects */
	struct vsock_rst rsts[VSOCK_RSTS_MAX];
	unsigned first_rst, n_rsts;
	struct iovec iov[VSOCK_CHAIN_MAX];
	pthread_mutex_t asks_lock;
	struct vsock_ask asks[VSOCK_ASKS_MAX];
	unsigned n_asks;
	uint64_t *n_open, *accepted, *asked, *refused, *bytes_in, *bytes_out;
};

static inline bool vsock_live(const struct vsock *v)
{
	return virtio_queue_live(&v->virtio.queues[VSOCK_RX]) &&
	       virtio_queue_live(&v->virtio.queues[VSOCK_TX]);
}

/* --- virtio_vsock.c ------------------------------------------------------------------------- */

/* Has the daemon asked for a connection; false: too many wait to be asked for. */
bool vsock_ask(struct vsock *v, struct vsock_conn *c);
/* Something may time out: the timer runs. */
void vsock_time(struct vsock *v);

/* --- virtio_vsock_conn.c: connections and sockets ------------------------------------------- */

/* One that is none of the guest's yet; NULL: too many, or no memory. @fd stays the caller's then.
 */
struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state, uint32_t guest_port,
				  uint32_t host_port, int fd);
/* The guest's, which DRAINING ones are not; NULL: none. */
struct vsock_conn *vsock_conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);
/* Gives an ASKED one its socket, which is taken; it is OPEN. False: it cannot be waited for. */
bool vsock_conn_connect(struct vsock *v, struct vsock_conn *c, int fd);
/* Closes the socket, forgets it. The guest is told nothing. */
void vsock_conn_free(struct vsock *v, struct vsock_conn *c);
/* The same for all. */
void vsock_conn_free_all(struct vsock *v);
/* The guest is told RST; over at once. */
void vsock_conn_abort(struct vsock *v, struct vsock_conn *c);
/* It is over for the guest: what it has sent is delivered, then the socket is closed. */
void vsock_conn_finish(struct vsock *v, struct vsock_conn *c);
/* Bytes from the guest that go behind those held: to the socket, or held. Within the credit. */
void vsock_conn_take(struct vsock *v, struct vsock_conn *c, const struct iovec *iov, unsigned n,
		     uint32_t len);
/* What the guest has shut down is shut down at the socket, as soon as it has all. May free it. */
void vsock_conn_follow_shut(struct vsock *v, struct vsock_conn *c);
/* If it has something for the guest, its turn comes. */
void vsock_conn_ready(struct vsock *v, struct vsock_conn *c);
/* The same at once: something else to say. */
void vsock_conn_say(struct vsock *v, struct vsock_conn *c, unsigned what);
/* The first whose turn it is, off the list; NULL: none. */
struct vsock_conn *vsock_conn_turn(struct vsock *v);
/* May its socket be read, as far as is known, credit aside? */
bool vsock_conn_may_read(const struct vsock_conn *c);
/* Bytes that the guest has room for. */
uint32_t vsock_conn_credit(const struct vsock_conn *c);
/* Listener @n of the configuration begins to be waited for, instead of what it was: who knocks
 * there is let in first. -errno. */
int vsock_door_open(struct vsock *v, unsigned n);
/* Lets in who knocks, or, where no driver is, turns them away. */
void vsock_accept(struct vsock *v);

/* --- virtio_vsock_tx.c, virtio_vsock_rx.c: packets ------------------------------------------ */

/* Takes what the guest sends. */
void vsock_transmit(struct vsock *v, struct virtio_queue *queue);
/* Gives the guest what there is for it. */
void vsock_receive(struct vsock *v, struct virtio_queue *queue);
/* Tells the guest RST in answer to this packet of its; to a RST none. */
void vsock_refuse(struct vsock *v, const struct virtio_vsock_hdr *hdr);
/* The same of its own. */
void vsock_rst(struct vsock *v, uint32_t guest_port, uint32_t host_port);
/* Something for the guest waits. */
bool vsock_has_work(const struct vsock *v);

#endif
