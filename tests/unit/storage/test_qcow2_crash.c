// SPDX-License-Identifier: ISC
/*
 * A crash at any write. Every change that an image makes to its file is recorded
 * while random requests run; then the file is built again as it may look after a
 * crash: every prefix of the changes; and at each sync, all those before the sync before it
 * with each subset of those between (where they are many: with many subsets, and with
 * some of them torn). Each is opened, checked, and compared with what had been flushed.
 *
 * And the other way: the file refuses one write, or all from one on, with EIO or
 * ENOSPC, each in turn; or reads, writes and syncs fail at random. The image must come out
 * of it without corruption, and what was written without an error is there.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <sys/mman.h>

#include "storage/block_filter.h"
#include "storage/image.h"
#include "storage/qcow2.h"
#include "storage/qcow2_check.h"
#include "storage/qcow2_snapshot.h"

#define DISK	 (1u << 20)
#define SECTOR	 512u
#define SECTORS	 (DISK / SECTOR)
#define REQUESTS 60
#define SUBSETS	 24 /* of the changes between two syncs, where there are more */

struct change {
	enum block_op op;
	uint64_t offset, bytes;
	uint8_t *data;
};

/* The guest's sectors as of a flush that was acknowledged. */
struct acked {
	unsigned n_changes; /* of the log at that time */
	uint8_t *disk;
};

struct run {
	struct image_create create;
	uint64_t random;
	uint8_t *before; /* the file before the first change */
	size_t before_bytes;
	struct change *log;
	unsigned n_log;
	struct acked acked[REQUESTS + 2];
	unsigned n_acked;
	uint8_t *shadow, *at_snapshot;
	/* for each sector: the number of the last request that wrote it, and the flush before it */
	unsigned written_after[SECTORS];
	/* injected faults */
	int fail_at; /* number of the change that fails; -1: none */
	int fail_code;
	bool fail_on; /* and all after it */
	int seen;
	unsigned dirty; /* crashed files whose header asks for a repair */
};

static uint8_t *gather(const struct block_req *req)
{
	uint8_t *data = malloc(req->bytes + 1), *p = data;
	unsigned i;

	for (i = 0; i < req->n_iov; i++) {
		memcpy(p, req->iov[i].iov_base, req->iov[i].iov_len);
		p += req->iov[i].iov_len;
	}
	return data;
}

static int record(void *arg, const struct block_req *req)
{
	struct run *run = arg;
	struct change *c;

	if (req->op == BLOCK_READ)
		return 0;
	run->log = realloc(run->log, (run->n_log + 1) * sizeof(*run->log));
	c = &run->log[run->n_log++];
	*c = (struct change){req->op, req->offset, req->bytes, NULL};
	if (req->op == BLOCK_WRITE)
		c->data = gather(req);
	return 0;
}

static int fail_some(void *arg, const struct block_req *req)
{
	struct run *run = arg;
	int n;

	if (req->op == BLOCK_READ)
		return 0;
	n = run->seen++;
	if (n == run->fail_at || (run->fail_on && n > run->fail_at))
		return run->fail_code;
	return 0;
}

static int make_file(const struct run *run)
{
	int fd = memfd_create("image", MFD_CLOEXEC), copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	assert_true(fd >= 0 && copy >= 0);
	assert_int_equal(image_create(copy, &run->create, NULL), 0);
	return fd;
}

static int open_over(struct block **block, int fd, const struct block_fault_plan *plan,
		     unsigned flags)
{
	struct qcow2_open_params p = {.flags = flags, .cache_bytes = 1};

	assert_int_equal(block_file_open(&p.file, fd, BLOCK_OPEN_GROW, NULL), 0);
	if (plan)
		assert_int_equal(block_fault_open(&p.file, p.file, plan, NULL), 0);
	return qcow2_open(block, &p, NULL);
}

/* --- the workload --------------------------------------------------------------------------- */

static void note_flush(struct run *run)
{
	struct acked *a = &run->acked[run->n_acked++];

	a->n_changes = run->n_log;
	a->disk = malloc(DISK);
	memcpy(a->disk, run->shadow, DISK);
}

static int random_request(struct run *run, struct block_queue *queue, struct block *block)
{
	uint32_t what = test_random(&run->random) % 16;
	uint64_t bytes = (1 + test_random(&run->random) % 80) * SECTOR;
	uint64_t offset = test_random(&run->random) % (SECTORS - bytes / SECTOR + 1) * SECTOR, i;
	_cleanup_free_ uint8_t *buf = malloc(bytes);
	int r;

	if (what < 3) {
		r = block_flush(queue, block);
		if (!r)
			note_flush(run);
		return r;
	}
	/* Whatever becomes of it, these sectors are not what was flushed any more. */
	for (i = 0; i < bytes / SECTOR; i++)
		run->written_after[offset / SECTOR + i] = run->n_acked;
	if (what < 5) {
		memset(run->shadow + offset, 0, bytes);
		return block_zero(queue, block, offset, bytes, what == 3 ? BLOCK_UNMAP : 0);
	}
	if (what == 5) { /* what is there then is there after a flush, too */
		r = block_discard(queue, block, offset, bytes);
		return r ? r : block_pread(queue, block, run->shadow + offset, bytes, offset);
	}
	test_fill(buf, bytes, &run->random);
	memcpy(run->shadow + offset, buf, bytes);
	return block_pwrite(queue, block, buf, bytes, offset);
}

static int go_back(struct run *run, struct block *block)
{
	unsigned i;

	/* From here on sectors may be what they were before, or what they become. */
	for (i = 0; i < SECTORS; i++)
		run->written_after[i] = run->n_acked;
	memcpy(run->shadow, run->at_snapshot, DISK);
	return qcow2_snapshot_apply(block, "a", NULL);
}

static int workload(struct run *run, struct block *block, bool snapshots)
{
	struct block_queue *queue;
	unsigned i;
	int r = 0;

	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	for (i = 0; i < REQUESTS && !r; i++) {
		r = random_request(run, queue, block);
		if (!r && snapshots && i == REQUESTS / 3) {
			memcpy(run->at_snapshot, run->shadow, DISK);
			r = qcow2_snapshot_create(block, "a", NULL);
		}
		if (!r && snapshots && i == REQUESTS / 2)
			r = go_back(run, block);
		if (!r && snapshots && i == REQUESTS * 3 / 4)
			r = qcow2_snapshot_delete(block, "a", NULL);
	}
	if (!r && !(r = block_flush(queue, block)))
		note_flush(run);
	block_queue_free(queue);
	return r;
}

/* --- after the crash ------------------------------------------------------------------------ */

static void apply_change(int fd, const struct change *c, uint64_t bytes)
{
	struct block_queue *queue;
	struct block *file;

	if (c->op == BLOCK_WRITE) {
		assert_int_equal(pwrite(fd, c->data, bytes, c->offset), bytes);
	} else if (c->op != BLOCK_FLUSH) {
		assert_int_equal(
		    block_file_open(&file, fcntl(fd, F_DUPFD_CLOEXEC, 3), BLOCK_OPEN_GROW, NULL),
		    0);
		assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
		assert_int_equal(block_zero(queue, file, c->offset, c->bytes, 0), 0);
		block_queue_free(queue);
		block_close(file);
	}
}

/* The file as all changes up to @n leave it. */
static int crashed_file(const struct run *run, unsigned n)
{
	int fd = memfd_create("crashed", MFD_CLOEXEC);
	unsigned i;

	assert_int_equal(pwrite(fd, run->before, run->before_bytes, 0), run->before_bytes);
	for (i = 0; i < n; i++)
		apply_change(fd, &run->log[i], run->log[i].bytes);
	return fd;
}

static void count_report(void *arg, const char *line)
{
	if (getenv("TEST_VERBOSE"))
		print_message("%s\n", line);
	(void)arg;
}

/* No corruption; with @dirty_ok an image that asks for repair may need it. */
static void check_file(int fd, bool dirty_ok)
{
	struct qcow2_check_params params = {.report = count_report};
	struct qcow2_check_result result;
	struct block *block;

	if (dirty_ok) {
		/* Opening for writing repairs what was marked as dirty. */
		assert_int_equal(open_over(&block, fcntl(fd, F_DUPFD_CLOEXEC, 3), NULL, 0), 0);
		block_close(block);
	}
	assert_int_equal(open_over(&block, fd, NULL, QCOW2_OPEN_CHECK | QCOW2_OPEN_READONLY), 0);
	assert_int_equal(qcow2_check(block, &params, &result, NULL), 0);
	assert_int_equal(result.corruptions, 0);
	block_close(block);
}

/* What was flushed before change @n, and not written since, is there. */
static void check_contents(struct run *run, int fd, unsigned n)
{
	_cleanup_free_ uint8_t *disk = malloc(DISK);
	const struct acked *a = NULL;
	struct block_queue *queue;
	struct block *block;
	unsigned i, level = 0;

	for (i = 0; i < run->n_acked && run->acked[i].n_changes <= n; i++) {
		a = &run->acked[i];
		level = i + 1;
	}
	if (!a)
		return;
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(open_over(&block, fd, NULL, QCOW2_OPEN_READONLY), 0);
	assert_int_equal(block_pread(queue, block, disk, DISK, 0), 0);
	for (i = 0; i < SECTORS; i++)
		if (run->written_after[i] < level)
			assert_memory_equal(disk + i * SECTOR, a->disk + i * SECTOR, SECTOR);
	block_close(block);
	block_queue_free(queue);
}

static void free_run(struct run *run)
{
	unsigned i;

	for (i = 0; i < run->n_log; i++)
		free(run->log[i].data);
	for (i = 0; i < run->n_acked; i++)
		free(run->acked[i].disk);
	free(run->log);
	free(run->before);
	free(run->shadow);
	free(run->at_snapshot);
}

/* Whatever it looks like, it has to be good. */
static void judge(struct run *run, int fd, unsigned n)
{
	uint8_t incompatible;

	assert_int_equal(pread(fd, &incompatible, 1, 79), 1);
	run->dirty += incompatible & 1;
	check_contents(run, fcntl(fd, F_DUPFD_CLOEXEC, 3), n);
	check_file(fd, true);
}

/* Of the changes from @from to @to, those that @subset says reached the disk; @tear: some by half.
 */
static void crash_with(struct run *run, unsigned from, unsigned to, uint64_t subset, bool tear)
{
	int fd = crashed_file(run, from);
	unsigned i;

	for (i = from; i < to; i++) {
		uint64_t bytes = run->log[i].bytes;

		if (!(subset >> ((i - from) % 64) & 1))
			continue;
		if (tear && test_random(&run->random) % 4 == 0)
			bytes = bytes / 2 / SECTOR * SECTOR;
		apply_change(fd, &run->log[i], bytes);
	}
	judge(run, fd, to);
}

/* No sync is between the two. */
static void crash_between_syncs(struct run *run, unsigned from, unsigned to)
{
	unsigned i, n = to - from;

	if (n < 5)
		for (i = 0; i < 1u << n; i++)
			crash_with(run, from, to, i, false);
	for (i = 0; i < SUBSETS && n >= 5; i++)
		crash_with(run, from, to,
			   (uint64_t)test_random(&run->random) << 32 | test_random(&run->random),
			   i % 2);
}

static void crash_everywhere(const struct image_create *create, bool snapshots)
{
	struct run run = {.create = *create, .random = create->cluster_bytes + snapshots};
	struct block_fault_plan plan = {record, &run};
	struct block *block;
	unsigned i, synced = 0;
	int fd;

	run.create.format = IMAGE_QCOW2;
	run.create.bytes = DISK;
	run.shadow = calloc(1, DISK);
	run.at_snapshot = calloc(1, DISK);
	fd = make_file(&run);
	run.before_bytes = lseek(fd, 0, SEEK_END);
	run.before = malloc(run.before_bytes);
	assert_int_equal(pread(fd, run.before, run.before_bytes, 0), run.before_bytes);
	assert_int_equal(open_over(&block, fd, &plan, 0), 0);
	assert_int_equal(workload(&run, block, snapshots), 0);
	block_close(block);
	for (i = 0; i <= run.n_log; i++) {
		judge(&run, crashed_file(&run, i), i);
		if (i == run.n_log || run.log[i].op != BLOCK_FLUSH)
			continue;
		crash_between_syncs(&run, synced, i);
		synced = i + 1;
	}
	if (getenv("TEST_VERBOSE"))
		print_message("%u changes\n", run.n_log);
	/* Lazy counts are late most of the time, others only while a snapshot comes or goes. */
	if (create->lazy_refcounts)
		assert_true(run.dirty > run.n_log / 2);
	else if (!snapshots)
		assert_int_equal(run.dirty, 0);
	free_run(&run);
}

static void crash_small_clusters(void **state)
{
	(void)state;
	crash_everywhere(&(struct image_create){.cluster_bytes = 512}, false);
}

static void crash_default(void **state)
{
	(void)state;
	crash_everywhere(&(struct image_create){.cluster_bytes = 64 << 10}, false);
}

static void crash_wide_counts(void **state)
{
	(void)state;
	crash_everywhere(&(struct image_create){.cluster_bytes = 4096, .refcount_bits = 64}, false);
}

static void crash_subclusters(void **state)
{
	(void)state;
	crash_everywhere(&(struct image_create){.cluster_bytes = 16 << 10, .extended_l2 = true},
			 false);
}

static void crash_lazy_counts(void **state)
{
	const struct image_create how = {.cluster_bytes = 4096, .lazy_refcounts = true};

	(void)state;
	crash_everywhere(&how, false);
	crash_everywhere(&how, true);
}

static void crash_snapshots(void **state)
{
	(void)state;
	crash_everywhere(&(struct image_create){.cluster_bytes = 4096}, true);
}

/* --- refused writes --------------------------------------------------------------------------- */

static void fail_everywhere(const struct image_create *create, int code, bool on)
{
	bool all = false;
	int at;

	for (at = 0; !all; at++) {
		if (getenv("TEST_VERBOSE"))
			print_message("change %d fails\n", at);
		struct run run = {.random = 99, .fail_at = at, .fail_code = code, .fail_on = on};
		struct block_fault_plan plan = {fail_some, &run};
		struct block *block;
		int fd, r;

		run.create = *create;
		run.create.format = IMAGE_QCOW2;
		run.create.bytes = DISK;
		run.shadow = calloc(1, DISK);
		run.at_snapshot = calloc(1, DISK);
		fd = make_file(&run);
		r = open_over(&block, fcntl(fd, F_DUPFD_CLOEXEC, 3), &plan, 0);
		if (!r) {
			workload(&run, block, true); /* ends at the first error */
			block_close(block);
		}
		check_file(fd, true);
		all = run.seen <= at; /* it did not come to that any more */
		free_run(&run);
	}
	assert_true(at > 100);
}

static void one_write_fails(void **state)
{
	(void)state;
	fail_everywhere(&(struct image_create){.cluster_bytes = 4096}, -EIO, false);
	fail_everywhere(&(struct image_create){.cluster_bytes = 4096, .lazy_refcounts = true}, -EIO,
			false);
}

static void no_space_any_more(void **state)
{
	(void)state;
	fail_everywhere(&(struct image_create){.cluster_bytes = 4096}, -ENOSPC, true);
	fail_everywhere(&(struct image_create){.cluster_bytes = 16 << 10, .extended_l2 = true},
			-ENOSPC, true);
	fail_everywhere(&(struct image_create){.cluster_bytes = 4096, .lazy_refcounts = true},
			-ENOSPC, true);
}

static void torn_and_gone(void **state)
{
	(void)state;
	fail_everywhere(&(struct image_create){.cluster_bytes = 64 << 10}, BLOCK_FAULT_TEAR, false);
}

/* --- errors at random ------------------------------------------------------------------------- */

static int fail_at_random(void *arg, const struct block_req *req)
{
	struct run *run = arg;

	(void)req;
	return run->fail_on && test_random(&run->random) % 40 == 0 ? run->fail_code : 0;
}

/* What failed leaves its sectors as they may be; all others are as the shadow has them. */
static void random_requests_with_errors(struct run *run, struct block *block, bool *unknown)
{
	struct block_queue *queue;
	unsigned i, k, failed = 0;

	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	for (i = 0; i < 4 * REQUESTS; i++) {
		uint64_t bytes = (1 + test_random(&run->random) % 40) * SECTOR;
		uint64_t first = test_random(&run->random) % (SECTORS - bytes / SECTOR + 1);
		_cleanup_free_ uint8_t *buf = malloc(bytes);
		bool zero = test_random(&run->random) % 5 == 0;
		int r;

		test_fill(buf, bytes, &run->random);
		if (zero)
			memset(buf, 0, bytes);
		r = zero ? block_zero(queue, block, first * SECTOR, bytes, i & BLOCK_UNMAP)
			 : block_pwrite(queue, block, buf, bytes, first * SECTOR);
		failed += r < 0;
		memcpy(run->shadow + first * SECTOR, buf, bytes);
		for (k = 0; k < bytes / SECTOR; k++)
			unknown[first + k] = r < 0;
		if (i % 16 == 0)
			block_flush(queue, block);
	}
	assert_true(failed > 0 && failed < i / 2);
	run->fail_on = false;
	assert_int_equal(block_flush(queue, block), 0);
	block_queue_free(queue);
}

static void errors_at_random(const struct image_create *create, uint64_t seed)
{
	struct run run = {.create = *create, .random = seed, .fail_code = -EIO};
	struct block_fault_plan plan = {fail_at_random, &run};
	_cleanup_free_ uint8_t *disk = malloc(DISK);
	_cleanup_free_ bool *unknown = calloc(SECTORS, sizeof(bool));
	struct block_queue *queue;
	struct block *block;
	unsigned i;
	int fd;

	run.create.format = IMAGE_QCOW2;
	run.create.bytes = DISK;
	run.shadow = calloc(1, DISK);
	run.at_snapshot = calloc(1, DISK);
	fd = make_file(&run);
	assert_int_equal(open_over(&block, fcntl(fd, F_DUPFD_CLOEXEC, 3), &plan, 0), 0);
	run.fail_on = true;
	random_requests_with_errors(&run, block, unknown);
	block_close(block);
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(
	    open_over(&block, fcntl(fd, F_DUPFD_CLOEXEC, 3), NULL, QCOW2_OPEN_READONLY), 0);
	assert_int_equal(block_pread(queue, block, disk, DISK, 0), 0);
	for (i = 0; i < SECTORS; i++)
		if (!unknown[i])
			assert_memory_equal(disk + i * SECTOR, run.shadow + i * SECTOR, SECTOR);
	block_close(block);
	block_queue_free(queue);
	check_file(fd, false);
	free_run(&run);
}

static void now_and_then_an_error(void **state)
{
	uint64_t seed;

	(void)state;
	for (seed = 1; seed <= 20; seed++) {
		errors_at_random(&(struct image_create){.cluster_bytes = 512}, seed);
		errors_at_random(&(struct image_create){.cluster_bytes = 4096}, seed);
		errors_at_random(
		    &(struct image_create){.cluster_bytes = 16 << 10, .extended_l2 = true}, seed);
		errors_at_random(
		    &(struct image_create){.cluster_bytes = 4096, .lazy_refcounts = true}, seed);
	}
}

/* On a device that is too small for its disk: ENOSPC at its end, and nothing else. */
static void full_device(void **state)
{
	struct run run = {.random = 4};
	struct qcow2_open_params p = {0};
	struct block *block;
	int fd;

	(void)state;
	run.create =
	    (struct image_create){.format = IMAGE_QCOW2, .bytes = DISK, .cluster_bytes = 4096};
	run.shadow = calloc(1, DISK);
	run.at_snapshot = calloc(1, DISK);
	fd = make_file(&run);
	assert_int_equal(ftruncate(fd, DISK / 4), 0);
	assert_int_equal(block_file_open(&p.file, fcntl(fd, F_DUPFD_CLOEXEC, 3), 0, NULL), 0);
	assert_int_equal(qcow2_open(&block, &p, NULL), 0);
	assert_int_equal(workload(&run, block, false), -ENOSPC);
	block_close(block);
	assert_int_equal(lseek(fd, 0, SEEK_END), DISK / 4);
	check_file(fd, false);
	free_run(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(crash_small_clusters), cmocka_unit_test(crash_default),
	    cmocka_unit_test(crash_wide_counts),    cmocka_unit_test(crash_subclusters),
	    cmocka_unit_test(crash_snapshots),	    cmocka_unit_test(crash_lazy_counts),
	    cmocka_unit_test(one_write_fails),	    cmocka_unit_test(no_space_any_more),
	    cmocka_unit_test(torn_and_gone),	    cmocka_unit_test(now_and_then_an_error),
	    cmocka_unit_test(full_device),
	};

	return cmocka_run_group_tests_name("qcow2_crash", tests, NULL, NULL);
}
