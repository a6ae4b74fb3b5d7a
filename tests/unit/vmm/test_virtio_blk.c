// SPDX-License-Identifier: ISC
/* The disk: every kind of request, every way to ask wrongly, resets and pauses in the midst. */
#include "blk_world.h"

static void the_disk_is_described(void **state)
{
	struct world *w = *state;
	uint64_t offered = driver_offered(&w->d);

	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config, 8), SECTORS);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 20, 4), 512);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 34, 2), 1);
	assert_true(offered & BIT(VIRTIO_BLK_F_FLUSH) && offered & BIT(VIRTIO_BLK_F_SEG_MAX) &&
		    offered & BIT(VIRTIO_BLK_F_MQ) && offered & EVENT_IDX && offered & INDIRECT);
	assert_false(offered & BIT(VIRTIO_BLK_F_RO));
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_NUMQ, 2), 1);
}

static void sectors_are_read_and_written(void **state)
{
	struct world *w = *state;
	char host[1024];

	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_FLUSH), 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 7, DATA, 1024, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA + 511), 7);
	assert_int_equal(*fake_ram(w->f, DATA + 512), 8);
	memset(fake_ram(w->f, DATA), 'w', 1024);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, SECTORS - 2, DATA, 1024, false), VIRTIO_BLK_S_OK);
	assert_int_equal(run(w, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(w->fd, host, 1024, (SECTORS - 2) * 512), 1024);
	assert_memory_equal(host, fake_ram(w->f, DATA), 1024);
	assert_int_equal(counter(w, "read_ops"), 1);
	assert_int_equal(counter(w, "read_bytes"), 1024);
	assert_int_equal(counter(w, "write_bytes"), 1024);
	assert_int_equal(counter(w, "flush_ops"), 1);
	assert_int_equal(counter(w, "errors"), 0);
	assert_true(counter(w, "read_ns") > 0);
}

/* §2.7.4.1: the device may not rely on how a request is laid out in descriptors. */
static void any_framing_works(void **state)
{
	struct world *w = *state;
	struct request r;
	struct driver_used used;

	assert_true(driver_start(&w->d, 0, 1));
	/* header in three parts, the first data byte with it; status behind the data */
	r = request(w, VIRTIO_BLK_T_IN, 3);
	driver_chain(&w->d, 0,
		     (const struct driver_buffer[]){{r.header, 1, false},
						    {r.header + 1, 12, false},
						    {r.header + 13, 3, false},
						    {DATA, 1, true},
						    {DATA + 1, 512, true}},
		     5);
	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(used.len, 513);
	assert_int_equal(*fake_ram(w->f, DATA + 511), 3);
	assert_int_equal(*fake_ram(w->f, DATA + 512), VIRTIO_BLK_S_OK);
	/* header and data to be written in one buffer */
	r = request(w, VIRTIO_BLK_T_OUT, 4);
	memcpy(fake_ram(w->f, DATA + 0x1000), fake_ram(w->f, r.header), 16);
	memset(fake_ram(w->f, DATA + 0x1010), 'x', 512);
	driver_chain(
	    &w->d, 0,
	    (const struct driver_buffer[]){{DATA + 0x1000, 528, false}, {r.status, 1, true}}, 2);
	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(*fake_ram(w->f, r.status), VIRTIO_BLK_S_OK);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 4, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA + 511), 'x');
}

static void the_serial_is_the_name(void **state)
{
	struct world *w = *state;

	assert_true(driver_start(&w->d, 0, 1));
	memset(fake_ram(w->f, DATA), 0xff, 32);
	assert_int_equal(run(w, VIRTIO_BLK_T_GET_ID, 0, DATA, 20, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(fake_ram(w->f, DATA), "root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
	/* too small a buffer gets what fits */
	assert_int_equal(run(w, VIRTIO_BLK_T_GET_ID, 0, DATA + 64, 2, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(fake_ram(w->f, DATA + 64), "ro\0", 3);
}

static void wrong_requests_are_answered_so(void **state)
{
	struct world *w = *state;
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		bool from_disk;
		uint8_t status;
	} wrong[] = {
	    {VIRTIO_BLK_T_IN, SECTORS, 512, true, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_IN, SECTORS - 1, 1024, true, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_IN, ~0ull, 512, true, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_IN, 1ull << 55, 512, true, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_IN, 0, 511, true, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_IN, 0, 513, true, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_OUT, SECTORS, 512, false, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_OUT, ~0ull - 1, 1024, false, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_OUT, 0, 100, false, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_SCSI_CMD, 0, 512, true, VIRTIO_BLK_S_UNSUPP},
	    {VIRTIO_BLK_T_SECURE_ERASE, 0, 16, false, VIRTIO_BLK_S_UNSUPP},
	    {0xffffffff, 0, 512, true, VIRTIO_BLK_S_UNSUPP},
	    /* in the wrong direction there is no data at all */
	    {VIRTIO_BLK_T_IN, 0, 512, false, VIRTIO_BLK_S_OK},
	    {VIRTIO_BLK_T_IN, SECTORS, 0, false, VIRTIO_BLK_S_OK},
	    {VIRTIO_BLK_T_IN, SECTORS + 1, 0, false, VIRTIO_BLK_S_IOERR},
	};

	assert_true(driver_start(&w->d, 0, 1));
	for (size_t i = 0; i < nitems(wrong); i++)
		assert_int_equal(
		    run(w, wrong[i].type, wrong[i].sector, DATA, wrong[i].len, wrong[i].from_disk),
		    wrong[i].status);
	assert_false(driver_needs_reset(&w->d));
	assert_int_equal(counter(w, "errors"), 13);
	/* a header too short, with a status: answered */
	{
		struct request r = request(w, VIRTIO_BLK_T_IN, 0);
		struct driver_used used;

		driver_chain(
		    &w->d, 0,
		    (const struct driver_buffer[]){{r.header, 15, false}, {r.status, 1, true}}, 2);
		driver_kick(&w->d, 0);
		assert_true(driver_wait(&w->d, 0, &used));
		assert_int_equal(*fake_ram(w->f, r.status), VIRTIO_BLK_S_IOERR);
	}
}

static void no_room_for_a_status_needs_a_reset(void **state)
{
	struct world *w = *state;
	struct request r;

	assert_true(driver_start(&w->d, 0, 1));
	r = request(w, VIRTIO_BLK_T_FLUSH, 0);
	driver_chain(&w->d, 0, &(const struct driver_buffer){r.header, 16, false}, 1);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(driver_needs_reset, &w->d));
	assert_int_equal(counter(w, "ring_errors"), 1);
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 7, DATA, 512, true), VIRTIO_BLK_S_OK);
}

static void ranges_are_zeroed(void **state)
{
	struct world *w = *state;
	struct virtio_blk_discard_write_zeroes ranges[3] = {{.sector = 10, .num_sectors = 2},
							    {.sector = 20, .num_sectors = 1},
							    {.sector = 30, .num_sectors = 0}};
	char host[512];
	static const char zeroes[512];

	if (!(driver_offered(&w->d) & BIT(VIRTIO_BLK_F_WRITE_ZEROES)))
		skip();
	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_WRITE_ZEROES), 1));
	memcpy(fake_ram(w->f, DATA), ranges, sizeof(ranges));
	assert_int_equal(run(w, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, sizeof(ranges), false),
			 VIRTIO_BLK_S_OK);
	for (unsigned sector = 9; sector < 22; sector++) {
		bool zeroed = sector == 10 || sector == 11 || sector == 20;

		assert_int_equal(pread(w->fd, host, 512, sector * 512), 512);
		assert_int_equal(memcmp(host, zeroes, 512) == 0, zeroed);
	}
	assert_int_equal(counter(w, "zero_ops"), 1);
	assert_int_equal(counter(w, "zero_bytes"), 3 * 512);
}

static void wrong_ranges_are_refused(void **state)
{
	struct world *w = *state;
	static const struct {
		uint32_t type;
		struct virtio_blk_discard_write_zeroes range;
		uint32_t len;
		uint8_t status;
	} wrong[] = {
	    {VIRTIO_BLK_T_WRITE_ZEROES, {SECTORS, 1, 0}, 16, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_WRITE_ZEROES, {~0ull, 1, 0}, 16, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_WRITE_ZEROES, {0, 0xffffffff, 0}, 16, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_WRITE_ZEROES, {0, 1, 2}, 16, VIRTIO_BLK_S_UNSUPP},
	    {VIRTIO_BLK_T_DISCARD, {0, 1, 1}, 16, VIRTIO_BLK_S_UNSUPP},
	    {VIRTIO_BLK_T_DISCARD, {SECTORS - 1, 2, 0}, 16, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_DISCARD, {0, 1, 0}, 15, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_DISCARD, {0, 1, 0}, 17, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_DISCARD, {0, 1, 0}, 0, VIRTIO_BLK_S_IOERR},
	    {VIRTIO_BLK_T_DISCARD, {0, 1, 0}, 33 * 16, VIRTIO_BLK_S_IOERR},
	};

	if (!(driver_offered(&w->d) & BIT(VIRTIO_BLK_F_DISCARD)))
		skip();
	assert_true(driver_start(&w->d, 0, 1));
	for (size_t i = 0; i < nitems(wrong); i++) {
		memcpy(fake_ram(w->f, DATA), &wrong[i].range, 16);
		assert_int_equal(run(w, wrong[i].type, 0, DATA, wrong[i].len, false),
				 wrong[i].status);
	}
	assert_int_equal(counter(w, "zero_bytes") + counter(w, "discard_bytes"), 0);
}

static void a_readonly_disk_is_not_written(void **state)
{
	struct world *w = world(true, 1, SECTORS * 512 + 100);
	struct virtio_blk_discard_write_zeroes range = {.sector = 1, .num_sectors = 1};
	char host[512];

	(void)state;
	assert_true(driver_offered(&w->d) & BIT(VIRTIO_BLK_F_RO));
	assert_false(driver_offered(&w->d) & BIT(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config, 8), SECTORS); /* rounded down */
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 1, DATA, 512, false), VIRTIO_BLK_S_IOERR);
	memcpy(fake_ram(w->f, DATA), &range, 16);
	assert_int_equal(run(w, VIRTIO_BLK_T_DISCARD, 0, DATA, 16, false), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 1, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(w->fd, host, 512, 512), 512);
	assert_int_equal(host[0], 1);
	teardown((void **)&w);
}

static void write_back_can_be_chosen(void **state)
{
	struct world *w = *state;
	uint64_t wce = w->d.config + offsetof(struct virtio_blk_config, wce);

	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE), 1));
	assert_int_equal(fake_read(w->f, BUS_MMIO, wce, 1), 1);
	fake_write(w->f, BUS_MMIO, wce, 1, 0);
	assert_int_equal(fake_read(w->f, BUS_MMIO, wce, 1), 0);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 0, DATA, 512, false), VIRTIO_BLK_S_OK);
	fake_write(w->f, BUS_MMIO, wce, 1, 7);
	assert_int_equal(fake_read(w->f, BUS_MMIO, wce, 1), 0);
	/* capacity cannot be written */
	fake_write(w->f, BUS_MMIO, w->d.config, 8, 1);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config, 8), SECTORS);
	assert_true(driver_reset(&w->d));
	assert_int_equal(fake_read(w->f, BUS_MMIO, wce, 1), 1);
}

/* All queues full, over and over, every byte checked. */
static void full_queues_keep_their_data_apart(void **state)
{
	struct world *w = world(false, 0, SECTORS * 512);
	uint16_t done[2] = {0};
	uint64_t heap;

	(void)state;
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_NUMQ, 2), 2); /* as many as vcpus */
	assert_true(driver_start(&w->d, EVENT_IDX, 2));
	heap = w->d.heap;
	for (unsigned round = 0; round < 20; round++) {
		struct request r[2][42];
		struct driver_used used;

		w->d.heap = heap;
		for (unsigned i = 0; i < 42; i++) {
			for (unsigned q = 0; q < 2; q++) {
				unsigned sector = (round * 84 + i * 2 + q) % SECTORS;

				r[q][i] = offer(w, q, VIRTIO_BLK_T_IN, sector,
						DATA + (i * 2 + q) * 512, 512, true);
			}
			if (i % 7 == 0) {
				driver_kick(&w->d, 0);
				driver_kick(&w->d, 1);
			}
		}
		driver_kick(&w->d, 0);
		driver_kick(&w->d, 1);
		for (unsigned i = 0; i < 42; i++) {
			for (unsigned q = 0; q < 2; q++) {
				assert_true(driver_wait(&w->d, q, &used));
				assert_int_equal(used.len, 513);
				done[q]++;
			}
		}
		for (unsigned i = 0; i < 84; i++) {
			unsigned sector = (round * 84 + i) % SECTORS;

			assert_int_equal(*fake_ram(w->f, r[i % 2][i / 2].status), VIRTIO_BLK_S_OK);
			assert_int_equal(*fake_ram(w->f, DATA + i * 512 + 511), sector & 0xff);
		}
	}
	assert_int_equal(done[0] + done[1], counter(w, "read_ops"));
	teardown((void **)&w);
}

/* Six queues on two threads: each serves, and a reset ends all of them. */
static void many_queues_share_threads(void **state)
{
	struct world *w = world(false, 6, SECTORS * 512);
	struct driver_used used;

	(void)state;
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 34, 2), 6);
	for (unsigned round = 0; round < 20; round++) {
		w->d.heap = 0x10000;
		assert_true(driver_start(&w->d, EVENT_IDX, 6));
		for (unsigned q = 0; q < 6; q++) {
			struct request r =
			    offer(w, q, VIRTIO_BLK_T_IN, q, DATA + q * 512, 512, true);

			driver_kick(&w->d, q);
			assert_true(driver_wait(&w->d, q, &used));
			assert_int_equal(*fake_ram(w->f, r.status), VIRTIO_BLK_S_OK);
			assert_int_equal(*fake_ram(w->f, DATA + q * 512), q);
		}
		for (unsigned q = 0; q < 6; q++) {
			for (unsigned i = 0; i < 20; i++)
				offer(w, q, VIRTIO_BLK_T_IN, i, DATA + i * 4096, 4096, true);
			driver_kick(&w->d, q);
		}
		assert_true(driver_reset(&w->d));
	}
	teardown((void **)&w);
}

/* An indirect table of the longest request there may be. */
static void the_longest_chain_is_taken(void **state)
{
	struct world *w = *state;
	struct request r;
	uint64_t table;
	struct driver_used used;

	assert_true(driver_start(&w->d, INDIRECT, 1));
	r = request(w, VIRTIO_BLK_T_IN, 0);
	table = driver_alloc(&w->d, 128 * 16);
	for (unsigned i = 0; i < 128; i++) {
		uint64_t at = table + 16 * i;

		ram_put(w->f, at, i == 0 ? r.header : i == 127 ? r.status : DATA + i * 512, 8);
		ram_put(w->f, at + 8, i == 0 ? 16 : i == 127 ? 1 : 512, 4);
		ram_put(w->f, at + 12, (i ? FD_WRITE : 0) | (i < 127 ? FD_NEXT : 0), 2);
		ram_put(w->f, at + 14, i + 1, 2);
	}
	driver_desc(&w->d, 0, 0, table, 128 * 16, FD_INDIRECT, 0);
	driver_offer(&w->d, 0, 0);
	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(*fake_ram(w->f, r.status), VIRTIO_BLK_S_OK);
	assert_int_equal(used.len, 126 * 512 + 1);
	assert_int_equal(*fake_ram(w->f, DATA + 126 * 512), 125);
}

/* When device_status reads 0, nothing is under way: memory stays as it is from then on. */
static void a_reset_ends_all_that_is_under_way(void **state)
{
	struct world *w = *state;
	uint64_t heap = w->d.heap;

	for (unsigned round = 0; round < 50; round++) {
		w->d.heap = heap;
		assert_true(driver_start(&w->d, EVENT_IDX, 1));
		for (unsigned i = 0; i < 42; i++)
			offer(w, 0, VIRTIO_BLK_T_IN, i, DATA + i * 4096, 4096, true);
		driver_kick(&w->d, 0);
		assert_true(driver_reset(&w->d));
		memset(fake_ram(w->f, 0x1000), 0xaa, FAKE_RAM_BYTES - 0x1000);
		driver_kick(&w->d, 0);
		virtio_pause(w->dev);
		virtio_resume(w->dev);
		for (uint64_t at = 0x1000; at < FAKE_RAM_BYTES; at++) {
			if (*fake_ram(w->f, at) != 0xaa)
				fail_msg("round %u: %#llx was written", round,
					 (unsigned long long)at);
		}
		memset(fake_ram(w->f, 0x1000), 0, FAKE_RAM_BYTES - 0x1000);
	}
}

static void a_pause_finishes_what_was_taken(void **state)
{
	struct world *w = *state;
	struct driver_used used;

	assert_true(driver_start(&w->d, EVENT_IDX, 1));
	for (unsigned i = 0; i < 20; i++)
		offer(w, 0, VIRTIO_BLK_T_IN, i, DATA + i * 512, 512, true);
	driver_kick(&w->d, 0);
	w->dev->ops->pause(w->dev);
	{
		uint16_t idx = ram_idx(w->f, w->d.queues[0].used + 2);

		offer(w, 0, VIRTIO_BLK_T_IN, 0, DATA, 512, true);
		driver_kick(&w->d, 0);
		w->dev->ops->pause(w->dev);
		assert_int_equal(ram_idx(w->f, w->d.queues[0].used + 2), idx);
	}
	w->dev->ops->resume(w->dev);
	for (unsigned i = 0; i < 21; i++)
		assert_true(driver_wait(&w->d, 0, &used));
}

/* An image that refuses writes: errors of those requests, and of nothing else. */
static void errors_of_storage_are_answered(void **state)
{
	int fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct world *w = world_of(fd, false, 1, SECTORS * 512);

	(void)state;
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 7, DATA, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 7, DATA, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(counter(w, "errors"), 1);
	assert_int_equal(counter(w, "write_ops"), 1);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 8, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA), 8);
	assert_false(driver_needs_reset(&w->d));
	teardown((void **)&w);
}

/* Rings that the guest fills with anything, while requests of all kinds are under way. */
static void garbage_in_rings_is_survived(void **state)
{
	struct world *w = *state;
	unsigned seed = 1;

#ifdef __SANITIZE_THREAD__
	skip(); /* a guest that writes what the device reads is a race by intent */
#endif
	for (unsigned round = 0; round < 200; round++) {
		struct driver_queue *q = &w->d.queues[0];
		uint64_t heap = w->d.heap;

		assert_true(driver_start(&w->d, EVENT_IDX | INDIRECT, 1));
		for (unsigned i = 0; i < 10; i++)
			offer(w, 0, VIRTIO_BLK_T_IN, i, DATA + i * 512, 512, true);
		driver_kick(&w->d, 0);
		for (unsigned i = 0; i < 64; i++)
			*fake_ram(w->f, q->desc + (unsigned)rand_r(&seed) % (16 * q->size)) =
			    rand_r(&seed);
		for (unsigned i = 0; i < 20; i++)
			driver_offer(&w->d, 0, (unsigned)rand_r(&seed) % (q->size + 1));
		driver_kick(&w->d, 0);
		w->d.heap = heap;
	}
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 7, DATA, 512, true), VIRTIO_BLK_S_OK);
}

static void a_disk_that_is_none_is_refused_with_words(void **state)
{
	struct disk_layer layer = {.kind = VMM_LAYER_RAW, .data_fd = -1};
	struct disk_config config = {.name = "bad", .layers = &layer, .n_layers = 1, .wake_fd = -1};
	struct err err = ERR_INIT;
	struct disk *disk = NULL;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	layer.fd = p[0];
	assert_true(disk_open(&disk, &config, &err) < 0);
	assert_true(*err.text);
	assert_null(disk);
	assert_true(fcntl(p[0], F_GETFD) < 0);
	close(p[1]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(the_disk_is_described),
	    T(sectors_are_read_and_written),
	    T(any_framing_works),
	    T(the_serial_is_the_name),
	    T(wrong_requests_are_answered_so),
	    T(no_room_for_a_status_needs_a_reset),
	    T(ranges_are_zeroed),
	    T(wrong_ranges_are_refused),
	    cmocka_unit_test(a_readonly_disk_is_not_written),
	    T(write_back_can_be_chosen),
	    cmocka_unit_test(full_queues_keep_their_data_apart),
	    cmocka_unit_test(many_queues_share_threads),
	    T(the_longest_chain_is_taken),
	    T(a_reset_ends_all_that_is_under_way),
	    T(a_pause_finishes_what_was_taken),
	    cmocka_unit_test(errors_of_storage_are_answered),
	    T(garbage_in_rings_is_survived),
	    cmocka_unit_test(a_disk_that_is_none_is_refused_with_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
