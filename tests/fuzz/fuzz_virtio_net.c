// SPDX-License-Identifier: ISC
/*
 * A whole network card as a hostile guest, a hostile wire and a busy daemon use it: registers,
 * features and rings of all queues, commands in and out of their framing, frames with any header
 * from either side, cables that are moved, limits, captures, pauses, resets at any moment. The
 * machine is kept between inputs; each begins and ends with a reset of the card, which must work
 * then.
 *
 * The tap is one of ours: sockets that keep frames apart, with all that a tap can do and none of
 * its judgement: headers come as the input has them.
 *
 * Input: operations, a byte each with its operands: see LLVMFuzzerTestOneInput().
 */
#include <sys/mman.h>

#include "tests/unit/vmm/fake_driver.h"
#include "util/log.h"
#include "vmm/virtio_net_int.h"

#define SLOT	20
#define PAIRS	2
#define CTRL	(2 * PAIRS)
#define HEAP	0x10000
#define DATA	0x40000
#define BUFFERS 0x100000
#define ROOM	0x4000 /* of a buffer */
#define VLAN	100
#define BIT(n)	(1ull << (n))

/* After the above: it uses none of these. */
#include <linux/virtio_ring.h>
#include <sys/socket.h>

struct input {
	const uint8_t *data;
	size_t len;
};

struct world {
	struct fake_vm *f;
	struct nic_config config;
	struct device *dev;
	struct driver d;
	int peer[PAIRS]; /* the tap's other side */
};

static const uint8_t mac[NET_MAC] = {2, 0, 0, 0, 0, 1};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->len; i++, in->len--)
		value |= (uint64_t)*in->data++ << 8 * i;
	return value;
}

/* --- the tap: takes the place of net/port_tap.c's ------------------------------------------- */

static int tap_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	return writev(port->fds[queue], iov, (int)n) < 0 ? -EAGAIN : 0;
}

static ssize_t tap_receive_into(struct net_port *port, unsigned queue, const struct iovec *iov,
				unsigned n)
{
	ssize_t r = readv(port->fds[queue], iov, (int)n);

	if (r < 0)
		return errno == EFAULT ? 0 : -EAGAIN;
	return r < NET_HEADER + NET_ETH_HEADER ? 0 : r;
}

static ssize_t tap_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	return tap_receive_into(port, queue, &(struct iovec){buf, size}, 1);
}

static int tap_set_offloads(struct net_port *port, unsigned offloads)
{
	if (offloads & ~port->can_receive)
		abort();
	return 0;
}

static int tap_set_active(struct net_port *port, unsigned n)
{
	if (n < 1 || n > port->n_queues)
		abort();
	port->n_active = n;
	return 0;
}

static void tap_close(struct net_port *port)
{
	for (unsigned i = 0; i < port->n_queues; i++)
		close(port->fds[i]);
	free(port);
}

static const struct net_port_ops tap_ops = {
    .name = "fuzz",
    .send = tap_send,
    .receive = tap_receive,
    .receive_into = tap_receive_into,
    .set_offloads = tap_set_offloads,
    .set_active = tap_set_active,
    .close = tap_close,
};

int net_port_tap_open(struct net_port **out, const int *fds, unsigned n, struct err *err)
{
	struct net_port *port = calloc(1, sizeof(*port));

	(void)err;
	if (!port)
		abort();
	port->ops = &tap_ops;
	port->n_queues = port->n_active = n;
	memcpy(port->fds, fds, n * sizeof(*fds));
	port->can_send = port->can_receive = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN | NET_USO;
	*out = port;
	return 0;
}

static struct world *world(void)
{
	static struct world w;
	struct err err = ERR_INIT;

	if (w.f)
		return &w;
	log_set_levels("error"); /* the guest is at fault all the time */
	w.f = fake_vm_new();
	w.config = (struct nic_config){
	    .name = "fuzz", .mtu = 1500, .link = true, .cable = {.kind = NIC_TAP, .n_fds = PAIRS}};
	memcpy(w.config.mac, mac, sizeof(mac));
	for (unsigned i = 0; i < PAIRS; i++) {
		int fds[2], bytes = 1 << 20;

		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ||
		    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) < 0 ||
		    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) < 0)
			abort();
		w.config.cable.fds[i] = fds[0];
		w.peer[i] = fds[1];
	}
	if (virtio_net_attach(&w.f->vm, &w.config, SLOT, &err) < 0)
		abort();
	w.dev = virtio_net_find(&w.f->vm, "fuzz");
	return &w;
}

/* --- the wire ------------------------------------------------------------------------------- */

/* Frames to the guest, whoever they are for. */
static void wire_sends(struct world *w, struct input *in)
{
	static uint8_t frame[NET_BUFFER_MAX + 64];
	uint8_t how = take(in, 1);
	size_t len = how & 1 ? take(in, 2) : 12 + 60 + (how >> 4) * 100;

	memset(frame, how, sizeof(frame));
	memset(frame, 0, NET_HEADER);
	memcpy(frame + NET_HEADER, how & 2 ? mac : (const uint8_t *)"\xff\xff\xff\xff\xff\xff",
	       NET_MAC);
	if (how & 4)
		for (unsigned i = 0; i < NET_HEADER + NET_ETH_HEADER + 4; i++)
			frame[i] = take(in, 1);
	for (unsigned n = how & 8 ? 8 : 1; n; n--)
		if (send(w->peer[how >> 4 & 1], frame, len, MSG_DONTWAIT) < 0)
			return; /* as many as there is room for */
}

/* What the guest has sent is gone. */
static unsigned wire_takes(struct world *w, unsigned queue, uint8_t *frame, size_t *len)
{
	unsigned n = 0;
	ssize_t r;

	while ((r = recv(w->peer[queue], frame, NET_BUFFER_MAX, MSG_DONTWAIT)) >= 0) {
		if (r < NET_HEADER + NET_ETH_HEADER)
			abort();
		*len = (size_t)r;
		n++;
	}
	return n;
}

/* --- the daemon ----------------------------------------------------------------------------- */

static void move_cable(struct world *w, uint8_t how)
{
	struct nic_cable cable = w->config.cable;
	struct err err = ERR_INIT;
	bool pause = how & 4;

	cable.kind = how & 1 ? NIC_NONE : NIC_TAP;
	cable.vlan = how & 2 ? VLAN : 0;
	if (how & 8)
		cable.n_fds = 1; /* refused */
	if (pause)
		w->dev->ops->pause(w->dev);
	if (virtio_net_set_cable(w->dev, &cable, pause, &err) < 0 && !(how & 8))
		abort();
	if (pause)
		w->dev->ops->resume(w->dev);
}

static void set_limits(struct world *w, struct input *in)
{
	struct nic_limits limits = {0};
	uint8_t how = take(in, 1);

	limits.frames[how & 1].per_s = how & 2 ? take(in, 2) << (how >> 4) : 0;
	limits.bytes[how & 1].per_s = how & 4 ? take(in, 4) << (how >> 4) : 0;
	limits.bytes[how & 1].burst = how & 8 ? take(in, 2) : 0;
	virtio_net_set_limits(w->dev, &limits);
}

static void capture(struct world *w, uint8_t how)
{
	struct err err = ERR_INIT;

	virtio_net_capture(w->dev, how & 1 ? memfd_create("pcap", MFD_CLOEXEC) : -1, how << 8,
			   &err);
}

static void hear(struct world *w)
{
	struct net_sender sender;

	while (virtio_net_address_untold(w->dev, &sender)) {
		if (!net_sender_address_good(sender.addr, sender.len))
			abort();
		virtio_net_address_told(w->dev, &sender);
	}
}

static void host(struct world *w, struct input *in)
{
	uint8_t how = take(in, 1);

	switch (how & 7) {
	case 0:
		virtio_net_set_link(w->dev, how & 8);
		break;
	case 1:
		virtio_net_announce(w->dev);
		break;
	case 2:
		set_limits(w, in);
		break;
	case 3:
		capture(w, how >> 3);
		break;
	case 4:
		move_cable(w, how >> 3);
		break;
	case 5:
		hear(w);
		if (how & 8)
			virtio_net_addresses_tell(w->dev);
		if (how & 16)
			virtio_net_addresses_forget(w->dev);
		break;
	default:
		w->dev->ops->pause(w->dev);
		if (how & 8)
			wire_sends(w, in);
		w->dev->ops->resume(w->dev);
		break;
	}
}

/* --- the guest ------------------------------------------------------------------------------ */

/* A chain in one of many shapes: @len bytes at @at in pieces, the last one @writable perhaps. */
static void chain(struct world *w, unsigned queue, uint64_t at, uint32_t len, unsigned pieces,
		  bool writable)
{
	struct driver_buffer bufs[8];

	if (!w->d.queues[queue].size)
		return;
	for (unsigned i = 0; i < pieces; i++)
		bufs[i] = (struct driver_buffer){
		    at + i * (uint64_t)(len / pieces),
		    i + 1 == pieces ? len - i * (len / pieces) : len / pieces, writable};
	driver_chain(&w->d, queue, bufs, pieces);
}

static void offer(struct world *w, struct input *in)
{
	uint8_t how = take(in, 1);
	unsigned queue = how & 1 ? 2 : 0;
	uint32_t len = how & 2 ? take(in, 2) : 1526;

	for (unsigned n = how & 4 ? 16 : 1; n; n--)
		chain(w, queue, BUFFERS + (how >> 3) * ROOM, len, 1 + (how >> 6), how != 255);
	driver_kick(&w->d, queue);
}

/* A frame; its header, and who it says it is from, the input may say. */
static void transmit(struct world *w, struct input *in)
{
	uint8_t how = take(in, 1);
	unsigned queue = how & 1 ? 3 : 1;
	uint32_t len = how & 2 ? take(in, 2) : NET_HEADER + 60;
	uint64_t at = DATA + (how >> 4) * 16;

	memset(fake_ram(w->f, at), 0, NET_HEADER + 60);
	memcpy(fake_ram(w->f, at + NET_HEADER + 6), mac, NET_MAC);
	for (unsigned n = how & 4 ? take(in, 1) % 96 : 0, i = 0; i < n; i++)
		*fake_ram(w->f, at + i) = take(in, 1);
	for (unsigned n = how & 8 ? 16 : 1; n; n--)
		chain(w, queue, at, len, 1 + (how >> 5), false);
	driver_kick(&w->d, queue);
}

/* A command in the usual framing, with any class, command and operands. */
static void command(struct world *w, struct input *in)
{
	uint8_t how = take(in, 1), n = take(in, 1) % 64;
	uint64_t at = DATA + 0x1000 + (how >> 4) * 128;
	unsigned queue = how & 1 ? 2 : CTRL; /* without more pairs it is the third */
	const struct driver_buffer bufs[] = {{at, how & 2 ? 1 : 2, false},
					     {at + 2, n, false},
					     {at + 120, 1 + (how & 4), !(how & 8)}};

	if (!w->d.queues[queue].size)
		return;
	for (unsigned i = 0; i < 2u + n; i++)
		*fake_ram(w->f, at + i) = take(in, 1);
	driver_chain(&w->d, queue, bufs, 3);
	driver_kick(&w->d, queue);
}

/* Any write into the memory of rings. */
static void scribble(struct world *w, struct input *in)
{
	uint64_t at = HEAP + take(in, 2);
	unsigned n = take(in, 1) % 32;

	for (unsigned i = 0; i < n; i++)
		*fake_ram(w->f, at + i) = take(in, 1);
}

/* A write to any register of the card, or a read. */
static void touch(struct world *w, struct input *in)
{
	uint8_t how = take(in, 1);
	unsigned size = 1 << (how & 3);
	uint64_t at;

	switch (how >> 2 & 7) {
	case 0:
		at = fake_config_at(SLOT, take(in, 1));
		break;
	case 1:
		at = fake_bar(w->f, SLOT, 2) + take(in, 1);
		break;
	case 2:
		at = w->d.config + (take(in, 1) & 63);
		break;
	case 3:
		at = fake_bar(w->f, SLOT, 0) + (take(in, 2) & 0x3fff);
		break;
	default:
		at = w->d.common + (take(in, 1) & 63);
		break;
	}
	if (how & 128)
		fake_read(w->f, BUS_MMIO, at, size);
	else
		fake_write(w->f, BUS_MMIO, at, size, take(in, size));
}

/* Features by a byte of shape, or as the input has them. */
static void begin(struct world *w, struct input *in)
{
	uint64_t offered = driver_offered(&w->d), features = offered;
	uint8_t shape = take(in, 1);

	if (shape & 1)
		features = take(in, 8);
	if (shape & 2)
		features &= ~BIT(VIRTIO_NET_F_MQ);
	if (shape & 4)
		features &= ~BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (shape & 8)
		features &= ~BIT(VIRTIO_RING_F_EVENT_IDX);
	memset(w->d.queues, 0, sizeof(w->d.queues));
	w->d.heap = HEAP;
	/* its registers may be out of reach by now */
	common_set(&w->d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	if (!driver_negotiate(&w->d, (features & offered) | BIT(VIRTIO_F_VERSION_1)))
		return;
	for (unsigned i = 0; i <= CTRL; i++)
		if (!(shape & 16) || i != shape >> 5)
			driver_queue(&w->d, i, shape & 128 ? 8 : NIC_QUEUE_SIZE);
	driver_ok(&w->d);
}

/* --- it works still --------------------------------------------------------------------------- */

/* A frame of two buffers comes in, and one goes out. */
static void works(struct world *w)
{
	const struct virtio_net_hdr_v1 header = {0};
	const struct driver_buffer room[] = {{BUFFERS, 100, true}, {BUFFERS + ROOM, 2000, true}},
				   out = {DATA, NET_HEADER + 60, false};
	static uint8_t frame[NET_BUFFER_MAX];
	const size_t len = NET_HEADER + 1000;
	struct driver_used used[2];
	size_t got = 0;

	memset(w->d.queues, 0, sizeof(w->d.queues));
	w->d.heap = HEAP;
	wire_takes(w, 0, frame, &got);
	if (!driver_start(&w->d, BIT(VIRTIO_NET_F_MRG_RXBUF), 3))
		abort();
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7);
	memcpy(frame, &header, sizeof(header));
	memcpy(frame + NET_HEADER, mac, NET_MAC);
	/* frames for nobody, that came meanwhile, are before it and go the same way */
	driver_chain(&w->d, 0, &room[0], 1);
	driver_chain(&w->d, 0, &room[1], 1);
	if (send(w->peer[0], frame, len, 0) < 0)
		abort();
	driver_kick(&w->d, 0);
	for (unsigned i = 0; i < 2; i++)
		if (!driver_wait(&w->d, 0, &used[i]))
			abort();
	if (used[0].len != 100 || used[1].len != len - 100 ||
	    memcmp(fake_ram(w->f, BUFFERS + NET_HEADER), frame + NET_HEADER, 100 - NET_HEADER) !=
		0 ||
	    memcmp(fake_ram(w->f, BUFFERS + ROOM), frame + 100, len - 100) != 0)
		abort();
	memcpy(fake_ram(w->f, DATA), frame, NET_HEADER + 60);
	driver_chain(&w->d, 1, &out, 1);
	driver_kick(&w->d, 1);
	if (!driver_wait(&w->d, 1, used) || wire_takes(w, 0, frame, &got) != 1 ||
	    got != NET_HEADER + 60 || memcmp(fake_ram(w->f, DATA), frame, got) != 0)
		abort();
	if (!driver_reset(&w->d))
		abort();
}

/* What an input may have left: of the daemon's side; and what came from the wire for nobody. */
static void tidy(struct world *w)
{
	static uint8_t frame[NET_BUFFER_MAX];
	const struct nic_limits none = {0};
	struct err err = ERR_INIT;

	virtio_net_set_limits(w->dev, &none);
	virtio_net_capture(w->dev, -1, 0, &err);
	virtio_net_set_link(w->dev, true);
	move_cable(w, 0);
	for (unsigned i = 0; i < PAIRS; i++) {
		while (recv(w->config.cable.fds[i], frame, sizeof(frame), MSG_DONTWAIT) >= 0)
			;
		while (recv(w->peer[i], frame, sizeof(frame), MSG_DONTWAIT) >= 0)
			;
	}
	if (w->f->vm.ram_top != FAKE_RAM_BYTES || ((struct nic *)w->dev)->rx[0].n_held ||
	    ((struct nic *)w->dev)->rx[1].n_held)
		abort();
}

/* Its configuration space as it was. */
static void restore(struct world *w)
{
	static uint8_t original[PCI_CONFIG_BYTES];
	struct fake_vm *f = w->f;

	if (!original[0]) {
		for (unsigned i = 0; i < sizeof(original); i++)
			original[i] = fake_config_read(f, SLOT, i, 1);
	}
	for (unsigned i = 0; i < sizeof(original); i++) {
		/* the window's data is left out: writing it writes a register */
		if (i < PCI_STD_HEADER_SIZEOF || original[i] != fake_config_read(f, SLOT, i, 1))
			fake_config_write(f, SLOT, i, 1, original[i]);
	}
	fake_config_write(f, SLOT, PCI_COMMAND, 2, 0);
	fake_config_write(f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct world *w = world();
	struct input in = {data, len};
	static uint8_t frame[NET_BUFFER_MAX];
	static uint64_t runs;
	size_t got;

	restore(w);
	driver_open(&w->d, w->f, SLOT);
	begin(w, &in);
	while (in.len) {
		uint8_t op = take(&in, 1);

		switch (op & 15) {
		case 0:
		case 1:
		case 2:
			offer(w, &in);
			break;
		case 3:
		case 4:
		case 5:
			wire_sends(w, &in);
			break;
		case 6:
		case 7:
			transmit(w, &in);
			break;
		case 8:
		case 9:
			command(w, &in);
			break;
		case 10:
			scribble(w, &in);
			driver_kick(&w->d, op >> 4 & 7);
			break;
		case 11:
			touch(w, &in);
			break;
		case 12:
			host(w, &in);
			break;
		case 13:
			wire_takes(w, op >> 4 & 1, frame, &got);
			break;
		case 14:
			begin(w, &in);
			break;
		default:
			common_set(&w->d, VIRTIO_PCI_COMMON_STATUS, 1, op & 16 ? 0x80 : 0);
			break;
		}
	}
	restore(w);
	if (!driver_reset(&w->d))
		abort();
	tidy(w);
	if (runs++ % 64 == 0)
		works(w);
	return 0;
}
