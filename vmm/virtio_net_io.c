// SPDX-License-Identifier: ISC
/*
 * virtio-net's data path (virtio 1.2 §5.1.6): frames from the ring to the port, and from
 * the port into the ring. All here runs on the lane of the queue it serves.
 *
 * Frames to the guest are read into its buffers, as many of them as the last frame took: how
 * long one is, is known only then. What does not fit comes into memory of ours and is
 * copied; and where the guest has too few buffers, waits, with those that it fills already, until
 * more come. Buffers that took nothing are given back. Frames from the guest go from its buffers
 * to the port; one that the port has no room for is lost, as on any network.
 */
#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "vmm/virtio_net_int.h"

#define NS_PER_S	  1000000000ull
#define NIC_SHOWN_AT_ONCE 16

/* --- limits --------------------------------------------------------------------------------- */

/* May a frame go? If not, @timer is set for when. */
static bool may_go(struct nic_pace *pace, int timer)
{
	struct itimerspec in = {0};
	uint64_t a, b, now;

	if (!__atomic_load_n(&pace->limited, __ATOMIC_ACQUIRE))
		return true;
	now = now_ns();
	pthread_mutex_lock(&pace->lock);
	a = net_bucket_wait(&pace->frames, now);
	b = net_bucket_wait(&pace->bytes, now);
	pthread_mutex_unlock(&pace->lock);
	if (!a && !b)
		return true;
	a = a > b ? a : b;
	in.it_value = (struct timespec){.tv_sec = a / NS_PER_S, .tv_nsec = a % NS_PER_S};
	timerfd_settime(timer, 0, &in, NULL);
	return false;
}

static void count(struct nic *nic, unsigned direction, size_t bytes)
{
	struct nic_pace *pace = &nic->pace[direction];

	stats_add(nic->stats[direction][NIC_FRAMES], 1);
	stats_add(nic->stats[direction][NIC_BYTES], bytes);
	if (!__atomic_load_n(&pace->limited, __ATOMIC_ACQUIRE))
		return;
	LOCK_SCOPE(&pace->lock);
	net_bucket_take(&pace->frames, 1);
	net_bucket_take(&pace->bytes, bytes);
}

static void drop(struct nic *nic, unsigned direction)
{
	stats_add(nic->stats[direction][NIC_DROPPED], 1);
}

void nic_pace_set(struct nic_pace *pace, const struct nic_rate *frames,
		  const struct nic_rate *bytes)
{
	uint64_t now = now_ns();

	LOCK_SCOPE(&pace->lock);
	net_bucket_set(&pace->frames, frames->per_s, frames->burst, now);
	net_bucket_set(&pace->bytes, bytes->per_s, bytes->burst, now);
	__atomic_store_n(&pace->limited, frames->per_s || bytes->per_s, __ATOMIC_RELEASE);
}

/* --- to the guest --------------------------------------------------------------------------- */

static bool wanted(struct nic *nic, const uint8_t *frame, size_t len)
{
	if (!__atomic_load_n(&nic->link, __ATOMIC_RELAXED))
		return false;
	LOCK_SCOPE(&nic->filter_lock);
	return net_filter_wants(&nic->filter, frame, len);
}

/* Where byte @at of the chain's in part is; NULL beyond its end. */
static uint8_t *byte_at(const struct virtqueue_chain *chain, size_t at)
{
	for (unsigned i = 0; i < chain->n_in; i++) {
		if (at < chain->in[i].iov_len)
			return (uint8_t *)chain->in[i].iov_base + at;
		at -= chain->in[i].iov_len;
	}
	return NULL;
}

/* The next buffer, with its pieces in @iov: 1; 0: there is none; -EPROTO: none that may be. */
static int take_buffer(struct nic_rx *rx, struct iovec *iov, struct virtqueue_chain *chain)
{
	struct virtio_queue *queue = rx->queue;

	if (virtio_pop(queue, iov, chain) < 0)
		return 0;
	if (chain->n_out || chain->in_bytes < (rx->n_held ? 1 : NET_HEADER)) {
		virtio_queue_fail(queue, "receive buffer without room");
		virtqueue_unpop(&queue->ring);
		return -EPROTO;
	}
	if (!rx->n_held) {
		rx->count[0] = byte_at(chain, offsetof(struct virtio_net_hdr_v1, num_buffers));
		rx->count[1] = byte_at(chain, offsetof(struct virtio_net_hdr_v1, num_buffers) + 1);
	}
	rx->held[rx->n_held++] = (struct nic_used){.head = chain->head};
	return 1;
}

static void give_back(struct nic_rx *rx)
{
	rx->n_held--;
	virtqueue_unpop(&rx->queue->ring);
}

void nic_rx_drain(struct nic_rx *rx)
{
	while (rx->n_held)
		give_back(rx);
	rx->len = 0;
}

/* Pieces of @room bytes in all, and no more; how many there are. */
static unsigned cut(struct iovec *iov, unsigned n, size_t room)
{
	unsigned i;

	for (i = 0; i < n && room; i++) {
		if (iov[i].iov_len > room)
			iov[i].iov_len = room;
		room -= iov[i].iov_len;
	}
	return i;
}

/* Buffers for a frame as long as the last one: how many pieces, in ->iov; or -EPROTO. */
static int gather(struct nic_rx *rx)
{
	bool merge = virtio_negotiated(&rx->nic->virtio, VIRTIO_NET_F_MRG_RXBUF);
	struct virtqueue_chain chain;
	unsigned n = 0;
	size_t room = 0;

	if (!net_port_scatters(rx->nic->port))
		return 0;
	while ((!n || (merge && room < rx->expected)) && rx->n_held < NIC_MERGE_MAX) {
		int r = take_buffer(rx, rx->iov + n, &chain);

		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (n + chain.n_in > NIC_CHAIN_MAX) {
			give_back(rx);
			break;
		}
		rx->held[rx->n_held - 1].len =
		    chain.in_bytes < NET_BUFFER_MAX ? (uint32_t)chain.in_bytes : NET_BUFFER_MAX;
		n += chain.n_in;
		room += chain.in_bytes;
	}
	return (int)cut(rx->iov, n, NET_BUFFER_MAX);
}

/* @len bytes have come: into which buffers, and what had no room in them. */
static void settle(struct nic_rx *rx, size_t len)
{
	unsigned n = 0;
	size_t done = 0;

	for (; n < rx->n_held && done < len; n++) {
		if (rx->held[n].len > len - done)
			rx->held[n].len = (uint32_t)(len - done);
		done += rx->held[n].len;
	}
	while (rx->n_held > n)
		give_back(rx);
	rx->len = rx->expected = len;
	rx->done = rx->spilt_at = done;
}

/* The first bytes of what is in pieces; how many. */
static size_t peek(const struct iovec *iov, unsigned n, uint8_t *head, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		size_t part = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;

		memcpy(head + done, iov[i].iov_base, part);
		done += part;
	}
	return done;
}

/* The next frame, into buffers and ->frame: 1; 0: one that the guest is not to have; -EAGAIN. */
static int read_frame(struct nic_rx *rx)
{
	uint8_t head[NET_HEADER + NET_ETH_HEADER + 4];
	struct nic *nic = rx->nic;
	int pieces = gather(rx);
	size_t room = 0, n_head;
	unsigned n = pieces < 0 ? 0 : (unsigned)pieces;
	ssize_t len;

	if (pieces < 0)
		return -EAGAIN;
	for (unsigned i = 0; i < n; i++)
		room += rx->iov[i].iov_len;
	if (room < NET_BUFFER_MAX)
		rx->iov[n++] = (struct iovec){rx->frame, NET_BUFFER_MAX - room};
	len = net_port_receive_into(nic->port, rx->queue->index / 2, rx->iov, n);
	if (len <= 0)
		return len < 0 ? -EAGAIN : 0;
	settle(rx, (size_t)len);
	n = cut(rx->iov, n, (size_t)len);
	n_head = peek(rx->iov, n, head, sizeof(head));
	if (!wanted(nic, head + NET_HEADER, n_head - NET_HEADER))
		return 0;
	nic_capture_frame(nic, rx->iov, n, NET_HEADER, NIC_TO_GUEST);
	return 1;
}

/* The next frame that the guest is to have; false: there is none now. */
static bool fetch(struct nic_rx *rx)
{
	/* As many at most as the ring has entries: others want their turn. */
	for (unsigned i = 0; i < rx->queue->ring.size; i++) {
		int r;

		if (!may_go(&rx->nic->pace[NIC_TO_GUEST], rx->timer.fd))
			return false;
		r = read_frame(rx);
		if (r > 0)
			return true;
		nic_rx_drain(rx);
		if (r < 0)
			return false;
	}
	virtio_kick(rx->queue);
	return false;
}

/* Moves on by one buffer: 1; 0: there is none; -EPROTO: one that no driver may offer. */
static int fill_one(struct nic_rx *rx)
{
	struct virtqueue_chain chain;
	size_t n;
	int r = take_buffer(rx, rx->iov, &chain);

	if (r <= 0)
		return r;
	n = virtqueue_chain_write(&chain, rx->frame + (rx->done - rx->spilt_at),
				  rx->len - rx->done);
	rx->held[rx->n_held - 1].len = (uint32_t)n;
	rx->done += n;
	return 1;
}

/* Could the guest ever have room for more of it? */
static bool hopeless(const struct nic_rx *rx)
{
	return rx->n_held && (!virtio_negotiated(&rx->nic->virtio, VIRTIO_NET_F_MRG_RXBUF) ||
			      rx->n_held == rx->queue->ring.size || rx->n_held == NIC_MERGE_MAX);
}

static void hand_over(struct nic_rx *rx)
{
	*rx->count[0] = (uint8_t)rx->n_held;
	*rx->count[1] = (uint8_t)(rx->n_held >> 8);
	for (unsigned i = 0; i < rx->n_held; i++)
		virtqueue_push(&rx->queue->ring, rx->held[i].head, rx->held[i].len);
	rx->n_held = 0;
}

/* The frame that waits, into buffers: true if it is out of the way. */
static bool deliver(struct nic_rx *rx)
{
	struct nic *nic = rx->nic;

	while (rx->done < rx->len) {
		if (hopeless(rx)) {
			nic_rx_drain(rx);
			drop(nic, NIC_TO_GUEST);
			return true;
		}
		if (fill_one(rx) <= 0)
			return false;
	}
	count(nic, NIC_TO_GUEST, rx->len - NET_HEADER);
	hand_over(rx);
	rx->len = 0;
	return true;
}

void nic_receive(struct nic_rx *rx)
{
	while (rx->len || fetch(rx)) {
		if (!deliver(rx) && !virtio_notify_on(rx->queue))
			break;
	}
}

/* --- from the guest --------------------------------------------------------------------------- */

/*
 * The @n-th chain of a turn is done. The guest sees so some at a time: it goes on with those while
 * the next ones are under way. (Frames to the guest it sees at the end of a turn: the fewer times
 * it and the device wait for each other there, the better.)
 */
static void show(struct virtio_queue *queue, unsigned n)
{
	if (n % NIC_SHOWN_AT_ONCE == 0)
		virtio_publish(queue);
}

/* False: the driver broke the rules. */
static bool send_chain(struct nic_tx *tx, struct virtqueue_chain *chain)
{
	struct nic *nic = tx->nic;
	size_t bytes = chain->out_bytes;

	if (chain->n_in || bytes < NET_HEADER) {
		virtio_queue_fail(tx->queue, "a frame without its header");
		virtqueue_unpop(&tx->queue->ring);
		return false;
	}
	if (!__atomic_load_n(&nic->link, __ATOMIC_RELAXED) ||
	    net_port_send(nic->port, tx->queue->index / 2, chain->out, chain->n_out) < 0) {
		drop(nic, NIC_FROM_GUEST);
	} else {
		nic_capture_frame(nic, chain->out, chain->n_out, NET_HEADER, NIC_FROM_GUEST);
		nic_listen(nic, chain->out, chain->n_out);
		count(nic, NIC_FROM_GUEST, bytes - NET_HEADER);
	}
	virtqueue_push(&tx->queue->ring, chain->head, 0);
	return true;
}

void nic_transmit(struct nic_tx *tx)
{
	struct nic_pace *pace = &tx->nic->pace[NIC_FROM_GUEST];
	struct virtqueue_chain chain;
	unsigned n = 0;

	virtqueue_notify_off(&tx->queue->ring);
	do {
		while (may_go(pace, tx->timer.fd) && virtio_pop(tx->queue, tx->iov, &chain) == 0) {
			if (!send_chain(tx, &chain))
				return;
			show(tx->queue, ++n);
		}
	} while (virtio_notify_on(tx->queue) && may_go(pace, tx->timer.fd));
}
