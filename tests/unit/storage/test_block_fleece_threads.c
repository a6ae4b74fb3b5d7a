// SPDX-License-Identifier: ISC
/*
 * Threads write to a disk through queues of their own while others make snapshots of
 * it, several at once, and read them. Each sector written carries the number of the request
 * that wrote it; so a snapshot tells what it holds: nothing older than what had completed when it
 * was asked for, nothing newer than what had been submitted when it was there, of
 * each request all or nothing, and the same when it is read again.
 */
#include "tests/unit/storage/storage_test.h"

#include <poll.h>
#include <sys/mman.h>

#include "storage/block_filter.h"
#include "storage/image.h"

#define WRITERS	  3
#define READERS	  2
#define SECTOR	  512
#define PART	  4000u /* sectors of a writer: neighbours share a chunk */
#define SECTORS	  (WRITERS * PART)
#define DISK	  ((uint64_t)SECTORS * SECTOR)
#define IN_RING	  6
#define MAX	  400u /* sectors of a request */
#define RECORDS	  60000u
#define SNAPSHOTS 8 /* of each reader */

/* cmocka's own end a test from its main thread only. */
#define must(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct record {
	uint32_t first, n;
	bool zero;
};

struct slot {
	struct block_req req;
	struct iovec iov;
	struct writer *writer;
	uint32_t number; /* of its record */
	bool busy;
	uint64_t buf[MAX * SECTOR / 8];
};

struct writer {
	struct world *world;
	struct block_queue *queue;
	pthread_t thread;
	uint64_t random;
	uint32_t first; /* sector */
	uint32_t n_records;
	struct record records[RECORDS]; /* from 1 on; written before ->submitted says so */
	struct slot slots[IN_RING];
};

struct world {
	struct block *disk;
	bool end; /* atomic */
	/* the last request of each sector; atomic */
	uint32_t submitted[SECTORS], completed[SECTORS];
	struct writer writers[WRITERS];
};

struct reader {
	struct world *world;
	struct block_queue *queue;
	pthread_t thread;
	uint64_t random;
	uint32_t lo[SECTORS], hi[SECTORS];
	uint64_t data[SECTORS][SECTOR / 8], again[SECTORS][SECTOR / 8];
};

/* --- writers ------------------------------------------------------------------------------ */

static void mark(uint32_t *of, const struct record *record, uint32_t number)
{
	for (uint32_t i = 0; i < record->n; i++)
		__atomic_store_n(&of[record->first + i], number, __ATOMIC_SEQ_CST);
}

static void slot_done(struct block_req *req, int result)
{
	struct slot *slot = (struct slot *)req;
	struct writer *w = slot->writer;

	must(result == 0);
	slot->busy = false;
	mark(w->world->completed, &w->records[slot->number], slot->number);
}

static bool overlaps(const struct writer *w, const struct record *record)
{
	for (unsigned i = 0; i < IN_RING; i++) {
		const struct record *other = &w->records[w->slots[i].number];

		if (w->slots[i].busy && record->first < other->first + other->n &&
		    other->first < record->first + record->n)
			return true;
	}
	return false;
}

static void wait_some(struct writer *w)
{
	struct pollfd p = {.fd = block_queue_fd(w->queue), .events = POLLIN};

	block_queue_kick(w->queue);
	poll(&p, 1, 60000);
	block_queue_run(w->queue);
}

static void write_one(struct writer *w, struct slot *slot)
{
	struct record *record = &w->records[++w->n_records];

	record->n = 1 + test_random(&w->random) % (test_random(&w->random) % 4 ? 16 : MAX);
	record->first = w->first + test_random(&w->random) % (PART - record->n + 1);
	record->zero = test_random(&w->random) % 5 == 0;
	while (slot->busy || overlaps(w, record))
		wait_some(w);
	slot->number = w->n_records;
	slot->busy = true;
	slot->writer = w;
	for (uint32_t i = 0; i < record->n * SECTOR / 8; i++)
		slot->buf[i] = slot->number;
	slot->iov = (struct iovec){slot->buf, record->n * SECTOR};
	slot->req = (struct block_req){.op = record->zero ? BLOCK_WRITE_ZEROES : BLOCK_WRITE,
				       .offset = (uint64_t)record->first * SECTOR,
				       .bytes = record->n * SECTOR,
				       .iov = &slot->iov,
				       .n_iov = 1,
				       .done = slot_done};
	mark(w->world->submitted, record, slot->number);
	block_submit(w->queue, w->world->disk, &slot->req);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	unsigned i;

	for (i = 0; w->n_records < RECORDS - 1; i++) {
		if (__atomic_load_n(&w->world->end, __ATOMIC_ACQUIRE))
			break;
		write_one(w, &w->slots[i % IN_RING]);
		if (i % 3 == 0)
			block_queue_kick(w->queue);
		block_queue_run(w->queue);
	}
	block_queue_drain(w->queue);
	return NULL;
}

/* --- readers ------------------------------------------------------------------------------ */

static const struct record *record_of(const struct world *world, uint32_t sector, uint32_t number)
{
	return &world->writers[sector / PART].records[number];
}

static bool covers(const struct record *record, uint32_t sector)
{
	return record->first <= sector && sector - record->first < record->n;
}

/* Of the requests that may be the last one before the instant, one left zeroes there. */
static bool may_be_zero(const struct reader *r, uint32_t sector)
{
	if (!r->lo[sector])
		return true;
	for (uint32_t i = r->lo[sector]; i <= r->hi[sector]; i++) {
		const struct record *record = record_of(r->world, sector, i);

		if (covers(record, sector) && record->zero)
			return true;
	}
	return false;
}

static void check_sector(const struct reader *r, uint32_t sector)
{
	uint64_t number = r->data[sector][0];
	const struct record *record;

	for (unsigned i = 1; i < SECTOR / 8; i++)
		must(r->data[sector][i] == number);
	if (!number) {
		must(may_be_zero(r, sector));
		return;
	}
	must(r->lo[sector] <= number && number <= r->hi[sector]);
	record = record_of(r->world, sector, number);
	must(covers(record, sector) && !record->zero);
	/* Its other sectors hold the same, or something later. */
	for (uint32_t i = record->first; i < record->first + record->n; i++)
		must(!r->data[i][0] || r->data[i][0] >= number);
}

static void read_all(struct reader *r, struct block *snapshot, void *data)
{
	uint32_t at, n, done;

	/* From somewhere on, around the end, in pieces. */
	at = test_random(&r->random) % SECTORS;
	for (done = 0; done < SECTORS; done += n, at = (at + n) % SECTORS) {
		n = 1 + test_random(&r->random) % 900;
		if (n > SECTORS - at)
			n = SECTORS - at;
		if (n > SECTORS - done)
			n = SECTORS - done;
		assert_int_equal(block_pread(r->queue, snapshot,
					     (uint8_t *)data + (uint64_t)at * SECTOR,
					     (uint64_t)n * SECTOR, (uint64_t)at * SECTOR),
				 0);
	}
}

static void check_extents(const struct reader *r, struct block *snapshot)
{
	const uint8_t *data = (const uint8_t *)r->data;
	struct block_extent extent;

	for (uint64_t at = 0; at < DISK; at += extent.bytes) {
		must(block_status(snapshot, at, DISK - at, &extent) == 0);
		for (uint64_t i = 0; extent.zero && i < extent.bytes; i++)
			must(data[at + i] == 0);
	}
}

static struct block *take(struct reader *r)
{
	struct block *snapshot;
	uint32_t i;

	for (i = 0; i < SECTORS; i++)
		r->lo[i] = __atomic_load_n(&r->world->completed[i], __ATOMIC_SEQ_CST);
	must(block_fleece_snapshot(&snapshot, r->world->disk, test_file(0), NULL) == 0);
	for (i = 0; i < SECTORS; i++)
		r->hi[i] = __atomic_load_n(&r->world->submitted[i], __ATOMIC_SEQ_CST);
	return snapshot;
}

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		struct block *snapshot = take(r);

		read_all(r, snapshot, r->data);
		for (uint32_t s = 0; s < SECTORS; s++)
			check_sector(r, s);
		check_extents(r, snapshot);
		read_all(r, snapshot, r->again);
		must(memcmp(r->data, r->again, sizeof(r->data)) == 0);
		block_close(snapshot);
	}
	return NULL;
}

/* --- the runs ----------------------------------------------------------------------------- */

static void run(struct block *child, int (*engine)(struct block_queue *queue))
{
	struct world *world = calloc(1, sizeof(*world));
	struct reader *readers = calloc(READERS, sizeof(*readers));
	unsigned i;

	assert_int_equal(block_fleece_open(&world->disk, child, NULL), 0);
	for (i = 0; i < WRITERS; i++) {
		struct writer *w = &world->writers[i];

		w->world = world;
		w->first = i * PART;
		w->random = i + 1;
		assert_int_equal(queue_new_with(&w->queue, IN_RING, engine, NULL), 0);
		assert_int_equal(pthread_create(&w->thread, NULL, writer_main, w), 0);
	}
	for (i = 0; i < READERS; i++) {
		readers[i].world = world;
		readers[i].random = i + 100;
		assert_int_equal(queue_new_with(&readers[i].queue, 4, engine, NULL), 0);
		assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]),
				 0);
	}
	for (i = 0; i < READERS; i++)
		pthread_join(readers[i].thread, NULL);
	__atomic_store_n(&world->end, true, __ATOMIC_RELEASE);
	for (i = 0; i < WRITERS; i++) {
		pthread_join(world->writers[i].thread, NULL);
		assert_true(world->writers[i].n_records > 100);
		block_queue_free(world->writers[i].queue);
	}
	for (i = 0; i < READERS; i++)
		block_queue_free(readers[i].queue);
	block_close(world->disk);
	free(readers);
	free(world);
}

static struct block *file_node(void)
{
	struct block *file;

	assert_int_equal(block_file_open(&file, test_file(DISK), 0, NULL), 0);
	return file;
}

static void over_a_file_with_io_uring(void **state)
{
	(void)state;
	run(file_node(), queue_uring_init);
}

static void over_a_file_with_threads(void **state)
{
	(void)state;
	run(file_node(), queue_threads_init);
}

/* A slow child: requests stay under way for long. */
static void over_a_limited_file(void **state)
{
	struct block_limits limits = {.requests[BLOCK_LIMIT_TOTAL] = {.per_s = 5000, .burst = 4}};
	struct block *limited;

	(void)state;
	assert_int_equal(block_throttle_open(&limited, file_node(), &limits, NULL), 0);
	run(limited, queue_threads_init);
}

static void over_qcow2(void **state)
{
	struct image_create create = {
	    .format = IMAGE_QCOW2, .bytes = DISK, .cluster_bytes = 16 << 10};
	struct image_chain chain = {.n = 1};
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct block *image;

	(void)state;
	assert_int_equal(image_create(fcntl(fd, F_DUPFD_CLOEXEC, 3), &create, NULL), 0);
	chain.layers[0] = (struct image_layer){.format = IMAGE_QCOW2, .fd = fd, .data_fd = -1};
	assert_int_equal(image_chain_open(&image, &chain, IMAGE_ASYNC, NULL), 0);
	run(image, queue_uring_init);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(over_a_file_with_io_uring),
	    cmocka_unit_test(over_a_file_with_threads),
	    cmocka_unit_test(over_a_limited_file),
	    cmocka_unit_test(over_qcow2),
	};

	return cmocka_run_group_tests_name("block_fleece_threads", tests, NULL, NULL);
}
