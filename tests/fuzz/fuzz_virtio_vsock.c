// SPDX-License-Identifier: ISC
/*
 * vsock as a hostile guest and a moody host use it: packets with any header, chains of any shape,
 * sockets that come, talk, go. The machine is kept between inputs; each begins and ends with a
 * reset of the device, after which it must work.
 *
 * Input: operations, a byte each with its operands: see LLVMFuzzerTestOneInput().
 */
#include <sys/mman.h>

#include "tests/unit/vmm/fake_driver.h"
#include "util/log.h"
#include "vmm/virtio_vsock_int.h"

#define HEAP	0x10000
#define PACKETS 0x40000
#define BUFFERS 0x80000
#define CID	42
#define PORT	22
#define SOCKETS 8
#define HEADER	sizeof(struct virtio_vsock_hdr)

/* After the above: it uses none of these. */
#include <sys/socket.h>
#include <sys/un.h>

struct input {
	const uint8_t *data;
	size_t len;
};

struct world {
	struct fake_vm *f;
	struct vsock_config config;
	struct device *dev;
	struct sockaddr_un addr;
	socklen_t addr_len;
	struct driver d;
	int sockets[SOCKETS]; /* of the host; -1: none */
	uint32_t host_port;   /* of the last REQUEST seen */
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->len; i++, in->len--)
		value |= (uint64_t)*in->data++ << 8 * i;
	return value;
}

/* An address that the kernel chooses: no file. */
static int listening(struct world *w)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un any = {.sun_family = AF_UNIX};

	w->addr_len = sizeof(w->addr);
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any.sun_family)) < 0 ||
	    listen(fd, 64) < 0 || getsockname(fd, (struct sockaddr *)&w->addr, &w->addr_len) < 0)
		abort();
	return fd;
}

static struct world *world(void)
{
	static struct world w;
	struct err err = ERR_INIT;

	if (w.f)
		return &w;
	log_set_levels("error"); /* the guest is at fault all the time */
	w.f = fake_vm_new();
	w.config.cid = CID;
	w.f->config.vsock = &w.config;
	if (virtio_vsock_listen(&w.config, NULL, PORT, listening(&w), &err) < 0)
		abort();
	w.dev = fake_create(w.f, &virtio_vsock_device);
	if (!w.dev)
		abort();
	for (unsigned i = 0; i < SOCKETS; i++)
		w.sockets[i] = -1;
	return &w;
}

/* --- the host ------------------------------------------------------------------------------- */

static void hang_up(struct world *w, unsigned i)
{
	if (w->sockets[i] >= 0)
		close(w->sockets[i]);
	w->sockets[i] = -1;
}

static void connect_one(struct world *w, unsigned i)
{
	hang_up(w, i);
	w->sockets[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (w->sockets[i] < 0 ||
	    connect(w->sockets[i], (struct sockaddr *)&w->addr, w->addr_len) < 0)
		hang_up(w, i);
}

static void host(struct world *w, uint8_t what, struct input *in)
{
	char data[4096] = "";
	unsigned i = what & (SOCKETS - 1);
	ssize_t n = 0;

	switch (what >> 3 & 7) {
	case 0:
	case 1:
		connect_one(w, i);
		break;
	case 2:
		hang_up(w, i);
		break;
	case 3:
		n = send(w->sockets[i], data, take(in, 1) << 4, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 4:
		n = recv(w->sockets[i], data, sizeof(data), MSG_DONTWAIT);
		break;
	case 5:
	case 6:
		shutdown(w->sockets[i], what & 8 ? SHUT_WR : SHUT_RD);
		break;
	default:
		break;
	}
	(void)n;
}

/* What the daemon says to what the guest asks for. */
static void answer(struct world *w, uint8_t how)
{
	struct vsock_ask ask = {0};
	int fds[2] = {-1, -1};

	if (!virtio_vsock_next_ask(w->dev, &ask))
		ask.id = how >> 2;
	if (how & 1 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	if (fds[1] >= 0) {
		hang_up(w, how >> 1 & (SOCKETS - 1));
		w->sockets[how >> 1 & (SOCKETS - 1)] = fds[1];
	}
	virtio_vsock_answer(w->dev, ask.id, fds[0]);
}

/* --- the guest ------------------------------------------------------------------------------ */

static void look_for_request(struct world *w)
{
	struct virtio_vsock_hdr h;

	for (unsigned i = 0; i < 16; i++) {
		memcpy(&h, fake_ram(w->f, BUFFERS + i * 0x400), HEADER);
		if (h.op == VIRTIO_VSOCK_OP_REQUEST)
			w->host_port = h.src_port;
	}
}

/* A packet in the usual framing; what is odd in it, the input says. */
static void packet(struct world *w, struct input *in)
{
	uint8_t kind = take(in, 1), odd = take(in, 1);
	struct virtio_vsock_hdr h = {.src_cid = CID,
				     .dst_cid = 2,
				     .src_port = kind & 16 ? PORT : 700,
				     .dst_port = kind & 16 ? w->host_port : 1000 + (kind >> 5),
				     .type = VIRTIO_VSOCK_TYPE_STREAM,
				     .op = kind & 15,
				     .buf_alloc = 1 << 16};
	uint64_t at = PACKETS + (take(in, 1) << 6);
	uint32_t len = take(in, 2) & 0x3fff;
	const struct driver_buffer bufs[] = {{at, odd & 128 ? odd & 63 : HEADER, false},
					     {at + HEADER, len, odd == 127}};

	h.len = len;
	if (odd & 1)
		h.len = take(in, 4);
	if (odd & 2)
		h.buf_alloc = take(in, 4);
	if (odd & 4)
		h.fwd_cnt = take(in, 4);
	if (odd & 8)
		h.flags = take(in, 1);
	if (odd & 16)
		h.src_cid = take(in, 8);
	if (odd & 32)
		h.dst_port = take(in, 4);
	if (odd & 64)
		h.type = take(in, 2), h.dst_cid = take(in, 1);
	if (!w->d.queues[VSOCK_TX].size)
		return;
	memcpy(fake_ram(w->f, at), &h, HEADER);
	driver_chain(&w->d, VSOCK_TX, bufs, len ? 2 : 1);
	driver_kick(&w->d, VSOCK_TX);
}

static void offer(struct world *w, struct input *in)
{
	uint8_t n = take(in, 1);
	uint32_t len = n & 128 ? take(in, 1) : 0x400;
	const struct driver_buffer b = {BUFFERS + (n & 15) * 0x400u, len, !(n & 64)};
	unsigned queue = n & 32 ? VSOCK_EVENT : VSOCK_RX;

	if (!w->d.queues[queue].size)
		return;
	driver_chain(&w->d, queue, &b, 1);
	driver_kick(&w->d, queue);
}

static void scribble(struct world *w, struct input *in)
{
	uint64_t at = HEAP + take(in, 2);
	unsigned n = take(in, 1) % 32;

	for (unsigned i = 0; i < n; i++)
		*fake_ram(w->f, at + i) = take(in, 1);
}

static void begin(struct world *w, struct input *in)
{
	uint8_t shape = take(in, 1);

	memset(w->d.queues, 0, sizeof(w->d.queues));
	w->d.heap = HEAP;
	if (!driver_reset(&w->d) ||
	    !driver_negotiate(&w->d, (uint64_t)(shape & 3) << 28 | 1ull << VIRTIO_F_VERSION_1))
		return;
	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		if (!(shape >> (2 + i) & 1))
			driver_queue(&w->d, i, 1 << (3 + (shape >> 5 & 3)));
	driver_ok(&w->d);
}

/* A working device: a packet for nobody is answered by RST, behind who had knocked before. */
static void works(struct world *w)
{
	const struct virtio_vsock_hdr h = {.src_cid = CID,
					   .dst_cid = 2,
					   .src_port = 1,
					   .dst_port = 2,
					   .type = VIRTIO_VSOCK_TYPE_STREAM,
					   .op = VIRTIO_VSOCK_OP_RW};
	const struct driver_buffer sent = {PACKETS, HEADER, false};
	struct virtio_vsock_hdr got = {0};
	struct driver_used used;

	memset(w->d.queues, 0, sizeof(w->d.queues));
	w->d.heap = HEAP;
	if (!driver_start(&w->d, 0, VSOCK_QUEUES))
		abort();
	memcpy(fake_ram(w->f, PACKETS), &h, HEADER);
	for (unsigned i = 0; i < VSOCK_QUEUE_SIZE; i++) {
		const struct driver_buffer room = {BUFFERS + i * 0x400, 0x400, true};

		driver_chain(&w->d, VSOCK_RX, &room, 1);
	}
	driver_chain(&w->d, VSOCK_TX, &sent, 1);
	driver_kick(&w->d, VSOCK_TX);
	while (got.op != VIRTIO_VSOCK_OP_RST) {
		if (!driver_wait(&w->d, VSOCK_RX, &used))
			abort();
		memcpy(&got, fake_ram(w->f, BUFFERS + used.id * 0x400), HEADER);
	}
	if (got.src_port != 2 || got.dst_port != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct world *w = world();
	struct input in = {data, len};
	static uint64_t runs;

	driver_open(&w->d, w->f, PCI_SLOT_VSOCK);
	begin(w, &in);
	while (in.len) {
		uint8_t op = take(&in, 1);

		switch (op & 7) {
		case 0:
		case 1:
			packet(w, &in);
			break;
		case 2:
			offer(w, &in);
			break;
		case 3:
		case 4:
			host(w, op >> 3 | (op & 4) << 3, &in);
			break;
		case 5:
			answer(w, op >> 3);
			break;
		case 6:
			look_for_request(w);
			if (op & 8)
				scribble(w, &in);
			break;
		default:
			if (op & 8)
				begin(w, &in);
			w->dev->ops->pause(w->dev);
			w->dev->ops->resume(w->dev);
			break;
		}
	}
	for (unsigned i = 0; i < SOCKETS; i++)
		hang_up(w, i);
	if (!driver_reset(&w->d))
		abort();
	if (runs++ % 64 == 0) {
		works(w);
		if (!driver_reset(&w->d))
			abort();
	}
	if (((struct vsock *)w->dev)->n_conns)
		abort();
	return 0;
}
