// SPDX-License-Identifier: ISC
/*
 * Gives back what comes over vsock: each connection from the host, to any port but those below 10,
 * which are refused, is echoed to its end. With port=N on the command line it connects to port N of
 * the host as well, says hello, and echoes there. Prints what becomes of that, and its address
 * whenever it is told that its connections are no more. At native speed (CPL3), polling.
 */
#define VIRTIO_QUEUE_MAX 128
#include "guest_virtio.h"

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

#define HEADER	44
#define PART	16384u /* bytes of payload in one packet */
#define RING	65536u /* of one connection: its credit */
#define CONNS	256
#define BUFFERS 64
#define OWN	5000u /* the port from which it connects */

struct header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, alloc, fwd;
} __attribute__((packed));

struct conn {
	bool used, ended; /* ended: the host sends no more */
	uint32_t port, peer;
	uint32_t room, peer_fwd, sent;
	uint32_t fwd, fwd_said, first, held;
	uint8_t data[RING];
};

static struct virtio_queue rx, tx, events;
static struct virtio_dev dev;
static uint8_t in[BUFFERS][HEADER + PART];
static struct {
	struct header h;
	uint8_t data[PART];
} __attribute__((packed)) out;
static uint32_t event;
static struct conn conns[CONNS];
static uint64_t cid;

static void send(uint16_t op, uint32_t port, uint32_t peer, const struct conn *c, uint32_t flags,
		 uint32_t len)
{
	out.h = (struct header){.src_cid = cid,
				.dst_cid = 2,
				.src_port = port,
				.dst_port = peer,
				.len = len,
				.type = 1,
				.op = op,
				.flags = flags,
				.alloc = c ? RING : 0,
				.fwd = c ? c->fwd : 0};
	virtio_desc(&tx, 0, &out, HEADER + len, 0, 0);
	virtio_offer(&tx, 0);
	virtio_kick(&tx);
	virtio_wait(&tx);
}

static void say(struct conn *c, uint16_t op, uint32_t flags, uint32_t len)
{
	send(op, c->port, c->peer, c, flags, len);
	c->fwd_said = c->fwd;
}

static struct conn *find(uint32_t port, uint32_t peer)
{
	for (unsigned i = 0; i < CONNS; i++)
		if (conns[i].used && conns[i].port == port && conns[i].peer == peer)
			return &conns[i];
	return NULL;
}

static struct conn *begin(uint32_t port, uint32_t peer)
{
	for (unsigned i = 0; i < CONNS; i++) {
		struct conn *c = &conns[i];

		if (c->used)
			continue;
		c->used = true;
		c->ended = false;
		c->port = port;
		c->peer = peer;
		c->room = c->peer_fwd = c->sent = c->fwd = c->fwd_said = c->first = c->held = 0;
		return c;
	}
	return NULL;
}

/* --- what it holds goes back ---------------------------------------------------------------- */

static void give_back(struct conn *c)
{
	while (c->held) {
		uint32_t n = c->held < PART ? c->held : PART,
			 room = c->room - (c->sent - c->peer_fwd);

		if (n > RING - c->first)
			n = RING - c->first;
		if (n > room)
			n = room;
		if (!n)
			return;
		memcpy(out.data, c->data + c->first, n);
		c->first = (c->first + n) % RING;
		c->held -= n;
		c->fwd += n;
		c->sent += n;
		say(c, RW, 0, n);
	}
	if (c->ended)
		say(c, SHUTDOWN, 3, 0); /* and RST comes */
	c->ended = false;
}

static void take(struct conn *c, const uint8_t *data, uint32_t len)
{
	uint32_t at = (c->first + c->held) % RING, part = len < RING - at ? len : RING - at;

	if (len > RING - c->held) {
		print("vsock: more than its credit\n");
		return;
	}
	memcpy(c->data + at, data, part);
	memcpy(c->data, data + part, len - part);
	c->held += len;
}

/* --- packets -------------------------------------------------------------------------------- */

static void on_request(const struct header *h)
{
	struct conn *c = h->dst_port < 10 ? NULL : begin(h->dst_port, h->src_port);

	if (!c) {
		send(RST, h->dst_port, h->src_port, NULL, 0, 0);
		return;
	}
	c->room = h->alloc;
	say(c, RESPONSE, 0, 0);
}

static void on_packet(const struct header *h, const uint8_t *data)
{
	struct conn *c = find(h->dst_port, h->src_port);

	if (!c) {
		if (h->op == REQUEST)
			on_request(h);
		else if (h->op != RST)
			send(RST, h->dst_port, h->src_port, NULL, 0, 0);
		return;
	}
	c->room = h->alloc;
	c->peer_fwd = h->fwd;
	if (h->op == RST) {
		if (c->port == OWN)
			print(c->sent ? "closed\n" : "refused\n");
		c->used = false;
	} else if (h->op == SHUTDOWN && h->flags & 1) {
		c->held = 0; /* nobody is there to hear it */
		send(RST, c->port, c->peer, NULL, 0, 0);
		c->used = false;
	} else if (h->op == SHUTDOWN) {
		c->ended = true;
	} else if (h->op == RW) {
		take(c, data, h->len);
	} else if (h->op == RESPONSE) {
		print("connected\n");
		take(c, (const uint8_t *)"hello\n", 6);
		c->fwd -= 6; /* it was never sent to us */
	} else if (h->op == CREDIT_REQUEST) {
		say(c, CREDIT_UPDATE, 0, 0);
	}
	if (c->used)
		give_back(c);
}

static void connect(uint64_t port)
{
	struct conn *c = port ? begin(OWN, (uint32_t)port) : NULL;

	if (c)
		say(c, REQUEST, 0, 0);
}

/* --- rings ---------------------------------------------------------------------------------- */

static void offer(uint16_t i)
{
	virtio_desc(&rx, i, in[i], sizeof(in[i]), DESC_WRITE, 0);
	virtio_offer(&rx, i);
}

static void await_event(void)
{
	virtio_desc(&events, 0, &event, sizeof(event), DESC_WRITE, 0);
	virtio_offer(&events, 0);
	virtio_kick(&events);
}

static void read_cid(void)
{
	cid = *(volatile uint32_t *)dev.config;
	print_value("cid", cid);
}

static void on_event(void)
{
	virtio_wait(&events);
	for (unsigned i = 0; i < CONNS; i++)
		conns[i].used = false;
	print("reset\n");
	read_cid();
	connect(guest_number("port", 0));
	await_event();
}

static void run(void)
{
	connect(guest_number("port", 0));
	for (;;) {
		uint16_t i;

		if (virtio_done(&events))
			on_event();
		if (!virtio_done(&rx)) {
			__asm__ volatile("pause");
			continue;
		}
		i = (uint16_t)rx.used.ring[rx.seen % rx.size].id;
		virtio_wait(&rx);
		on_packet((const struct header *)(const void *)in[i], in[i] + HEADER);
		offer(i);
		if (!(rx.avail.idx % (BUFFERS / 4)))
			virtio_kick(&rx);
	}
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!virtio_find(&dev, VIRTIO_VSOCK, 0) || !virtio_begin(&dev, 0) ||
	    !virtio_queue_setup(&dev, &rx, 0) || !virtio_queue_setup(&dev, &tx, 1) ||
	    !virtio_queue_setup(&dev, &events, 2))
		guest_end("vsock: no device");
	virtio_ok(&dev);
	for (uint16_t i = 0; i < BUFFERS; i++)
		offer(i);
	virtio_kick(&rx);
	await_event();
	read_cid();
	print("vsock: ready\n");
	guest_user(run);
}
