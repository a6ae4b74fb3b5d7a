/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_BLK_WORLD_H
#define FV_TEST_BLK_WORLD_H
/* A machine with one raw disk and its driver: what tests of virtio-blk stand on. Included once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <cmocka.h>

#include <linux/virtio_blk.h>

#include "fake_driver.h"
#include "util/cleanup.h"
#include "vmm/disk.h"

#define SECTORS	  2048
#define DATA	  0x200000 /* where requests' data lies */
#define EVENT_IDX (1ull << 29)
#define INDIRECT  (1ull << 28)
#define BIT(n)	  (1ull << (n))

enum { PENDING = 0xee }; /* a status that no device gives */

struct world {
	struct fake_vm *f;
	struct device *dev;
	struct driver d;
	int fd;
};

/* A machine whose disk is @fd, filled: each sector's bytes are its number. */
static inline struct world *world_of(int fd, bool readonly, unsigned queues, off_t bytes)
{
	struct world *w = calloc(1, sizeof(*w));
	struct disk_layer layer = {.kind = VMM_LAYER_RAW, .data_fd = -1};
	struct disk_config config = {.name = "root",
				     .readonly = readonly,
				     .queues = queues,
				     .layers = &layer,
				     .n_layers = 1,
				     .wake_fd = -1};
	struct err err = ERR_INIT;

	w->fd = fd;
	assert_true(fd >= 0);
	for (off_t at = 0; at + 512 <= bytes; at += 512) {
		char sector[512];

		memset(sector, (char)(at / 512), sizeof(sector));
		assert_int_equal(pwrite(fd, sector, sizeof(sector), at), sizeof(sector));
	}
	assert_int_equal(ftruncate(fd, bytes), 0);
	w->f = fake_vm_new();
	config.layers->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	assert_int_equal(disk_open(&w->f->config.disks[0], &config, &err), 0);
	w->dev = fake_create(w->f, &virtio_blk_device);
	assert_non_null(w->dev);
	driver_open(&w->d, w->f, PCI_SLOT_DISKS);
	return w;
}

static inline struct world *world(bool readonly, unsigned queues, off_t bytes)
{
	char path[] = "/tmp/fv-test-blk-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	unlink(path);
	return world_of(fd, readonly, queues, bytes);
}

static inline int setup(void **state)
{
	*state = world(false, 1, SECTORS * 512);
	return 0;
}

static inline int teardown(void **state)
{
	struct world *w = *state;
	struct disk *disk = w->f->config.disks[0];

	fake_vm_free(w->f);
	disk_close(disk);
	close(w->fd);
	free(w);
	return 0;
}

static inline uint64_t counter(struct world *w, const char *name)
{
	return *stats_counter(w->f->vm.stats, "disk.root.%s", name);
}

/* A header and a status byte of their own for each request. */
struct request {
	uint64_t header, status;
};

static inline struct request request(struct world *w, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr raw = {.type = type, .sector = sector};
	struct request r = {driver_alloc(&w->d, 16), driver_alloc(&w->d, 1)};

	memcpy(fake_ram(w->f, r.header), &raw, sizeof(raw));
	*fake_ram(w->f, r.status) = PENDING;
	return r;
}

/* Offers a request in the usual framing; @len 0: no data. */
static inline struct request offer(struct world *w, unsigned queue, uint32_t type, uint64_t sector,
				   uint64_t data, uint32_t len, bool from_disk)
{
	struct request r = request(w, type, sector);
	struct driver_buffer bufs[3] = {{r.header, 16, false}, {data, len, from_disk}};
	unsigned n = len ? 2 : 1;

	bufs[n++] = (struct driver_buffer){r.status, 1, true};
	driver_chain(&w->d, queue, bufs, n);
	return r;
}

/* The same, kicked and waited for: its status. */
static inline uint8_t run(struct world *w, uint32_t type, uint64_t sector, uint64_t data,
			  uint32_t len, bool from_disk)
{
	struct request r = offer(w, 0, type, sector, data, len, from_disk);
	struct driver_used used;

	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	return *fake_ram(w->f, r.status);
}

#endif
