/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_VSOCK_WORLD_H
#define FV_TEST_VSOCK_WORLD_H
/* A machine with vsock, its driver, and the host's side of it: what tests of it stand on. Included
 * once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <cmocka.h>

#include "fake_driver.h"
#include "vmm/state.h"
#include "vmm/virtio_vsock_int.h"

#define CID	 42u
#define PORT	 22u /* where the guest listens */
#define BUFFERS	 0x100000
#define BUFFER	 0x1000u
#define PACKETS	 0x300000 /* what the driver sends */
#define HEADER	 sizeof(struct virtio_vsock_hdr)
#define ROOMY	 0x100000u /* credit that never ends */
#define ANY_PORT 777u	   /* a port of the guest that connects */

struct world {
	struct fake_vm *f;
	struct vsock_config *config;
	struct device *dev;
	struct driver d;
	char dir[64];
};

typedef struct virtio_vsock_hdr header;

static inline int listen_at(const char *dir)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/port", dir);
	unlink(addr.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4096), 0);
	return fd;
}

static inline struct world *world_new(uint32_t cid)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err = ERR_INIT;

	strcpy(w->dir, "/tmp/fv-test-vsock-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->f = fake_vm_new();
	w->config = calloc(1, sizeof(*w->config));
	w->config->cid = cid;
	assert_int_equal(virtio_vsock_listen(w->config, NULL, PORT, listen_at(w->dir), &err), 0);
	w->f->config.vsock = w->config;
	w->dev = fake_create(w->f, &virtio_vsock_device);
	assert_non_null(w->dev);
	driver_open(&w->d, w->f, PCI_SLOT_VSOCK);
	return w;
}

static inline void world_free(struct world *w)
{
	char path[128];

	fake_vm_free(w->f);
	virtio_vsock_config_free(w->config);
	snprintf(path, sizeof(path), "%s/port", w->dir);
	unlink(path);
	rmdir(w->dir);
	free(w);
}

static inline uint64_t counter(struct world *w, const char *name)
{
	return __atomic_load_n(stats_counter(w->f->vm.stats, "vsock.%s", name), __ATOMIC_RELAXED);
}

/* --- the driver's side ---------------------------------------------------------------------- */

static inline void offer_at(struct world *w, uint64_t at, uint32_t len)
{
	const struct driver_buffer b = {at, len, true};

	driver_chain(&w->d, VSOCK_RX, &b, 1);
}

static inline void offer(struct world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		offer_at(w, BUFFERS + (uint64_t)i * BUFFER, BUFFER);
	driver_kick(&w->d, VSOCK_RX);
}

static inline header packet(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (header){.src_cid = CID,
			.dst_cid = 2,
			.src_port = guest_port,
			.dst_port = host_port,
			.type = VIRTIO_VSOCK_TYPE_STREAM,
			.op = op,
			.buf_alloc = ROOMY};
}

/* The answer to a packet that came. */
static inline header reply(uint16_t op, const header *to)
{
	return packet(op, to->dst_port, to->src_port);
}

/* Sends it, and waits until it was taken. */
static inline void say(struct world *w, header h, const void *data, uint32_t len)
{
	const struct driver_buffer b[] = {{PACKETS, HEADER, false}, {PACKETS + 64, len, false}};
	struct driver_used used;

	h.len = len;
	memcpy(fake_ram(w->f, PACKETS), &h, HEADER);
	if (len)
		memcpy(fake_ram(w->f, PACKETS + 64), data, len);
	driver_chain(&w->d, VSOCK_TX, b, len ? 2 : 1);
	driver_kick(&w->d, VSOCK_TX);
	assert_true(driver_wait(&w->d, VSOCK_TX, &used));
	assert_int_equal(used.len, 0);
}

/* A driver that is ready, with @n buffers. */
static inline void begin(struct world *w, unsigned n)
{
	const struct driver_buffer event = {driver_alloc(&w->d, 16), 4, true};

	assert_true(driver_start(&w->d, 0, 3));
	driver_chain(&w->d, VSOCK_EVENT, &event, 1);
	driver_kick(&w->d, VSOCK_EVENT);
	offer(w, n);
	/* Once it has heard a packet (to which there is no answer), nobody is turned away. */
	say(w, packet(VIRTIO_VSOCK_OP_RST, 0, 0), NULL, 0);
}

/* The next packet; its payload to @data. Its buffer is offered again. */
static inline header hear(struct world *w, void *data)
{
	struct driver_queue *q = &w->d.queues[VSOCK_RX];
	struct driver_used used;
	uint64_t at = 0;
	header h;

	assert_true(driver_wait(&w->d, VSOCK_RX, &used));
	memcpy(&at, fake_ram(w->f, q->desc + 16 * used.id), 8);
	memcpy(&h, fake_ram(w->f, at), HEADER);
	assert_int_equal(used.len, HEADER + h.len);
	if (data)
		memcpy(data, fake_ram(w->f, at + HEADER), h.len);
	offer_at(w, at, BUFFER);
	driver_kick(&w->d, VSOCK_RX);
	return h;
}

/* The next one, which is of that kind. */
static inline header expect(struct world *w, uint16_t op, void *data)
{
	header h = hear(w, data);

	assert_int_equal(h.op, op);
	assert_int_equal(h.src_cid, 2);
	assert_int_equal(h.dst_cid, w->config->cid);
	assert_int_equal(h.type, VIRTIO_VSOCK_TYPE_STREAM);
	return h;
}

/* --- the host's side ------------------------------------------------------------------------ */

static inline int host_connect(struct world *w)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/port", w->dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* What comes until the end, at most @len bytes: how many; waits at most as long as a test may. */
static inline size_t host_reads(int fd, void *buf, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t done = 0;

	while (done < len) {
		ssize_t n;

		assert_int_equal(poll(&p, 1, FAKE_DEADLINE_MS), 1);
		n = read(fd, (char *)buf + done, len - done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

static inline bool host_ended(int fd)
{
	char byte;

	return host_reads(fd, &byte, 1) == 0;
}

/* A connection of the host's that the guest has taken; the first packet is in *@h. */
static inline int connected(struct world *w, header *h, uint32_t credit)
{
	int fd = host_connect(w);
	header response;

	*h = expect(w, VIRTIO_VSOCK_OP_REQUEST, NULL);
	assert_int_equal(h->dst_port, PORT);
	response = reply(VIRTIO_VSOCK_OP_RESPONSE, h);
	response.buf_alloc = credit;
	say(w, response, NULL, 0);
	return fd;
}

/* That all is well: a new connection, a byte each way, its end. */
static inline void works(struct world *w)
{
	char byte = 'a';
	header h;
	int fd = connected(w, &h, ROOMY);

	assert_int_equal(write(fd, "x", 1), 1);
	expect(w, VIRTIO_VSOCK_OP_RW, &byte);
	assert_int_equal(byte, 'x');
	say(w, reply(VIRTIO_VSOCK_OP_RW, &h), "y", 1);
	assert_int_equal(host_reads(fd, &byte, 1), 1);
	assert_int_equal(byte, 'y');
	say(w, reply(VIRTIO_VSOCK_OP_RST, &h), NULL, 0);
	assert_true(host_ended(fd));
	close(fd);
}

#endif
