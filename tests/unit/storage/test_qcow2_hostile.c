// SPDX-License-Identifier: ISC
/*
 * Images made to do harm: headers with impossible numbers, tables that overlap one
 * another, point past the end, at themselves or at the header. Each is refused, or answers -EIO,
 * or reads as something; whatever is written to its disk, no byte of that ends up
 * in a table or in the header. (What is damaged at random is fuzz_qcow2.c's business.)
 */
#include "tests/unit/storage/storage_test.h"

#include <endian.h>
#include <errno.h>
#include <sys/mman.h>

#include "storage/image.h"
#include "util/log.h"

#define CLUSTER 4096u
#define DISK	(8u << 20) /* L1: 4 entries of 2 MiB */
#define GUEST	0xa5	   /* what we write */

/* As qcow2_create() lays them out, and the first write behind them. */
enum place { HEADER, REFTABLE, REFBLOCK, L1, L2, DATA, N_PLACES };

static int make_image(void)
{
	struct image_create create = {
	    .format = IMAGE_QCOW2, .bytes = DISK, .cluster_bytes = CLUSTER};
	struct image_chain chain = {.n = 1};
	int fd = memfd_create("image", MFD_CLOEXEC);
	_cleanup_free_ uint8_t *buf = malloc(3 * CLUSTER);
	struct block_queue *queue;
	struct block *image;

	assert_int_equal(image_create(fcntl(fd, F_DUPFD_CLOEXEC, 3), &create, NULL), 0);
	chain.layers[0] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	assert_int_equal(image_chain_open(&image, &chain, 0, NULL), 0);
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	memset(buf, 'd', 3 * CLUSTER);
	assert_int_equal(block_pwrite(queue, image, buf, 3 * CLUSTER, 0), 0);
	assert_int_equal(block_pwrite(queue, image, buf, CLUSTER, 2 << 20), 0);
	block_queue_free(queue);
	block_close(image);
	return fd;
}

static int open_fd(struct block **image, int fd, unsigned flags, struct err *err)
{
	struct image_chain chain = {.n = 1};

	chain.layers[0] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	return image_chain_open(image, &chain, flags | IMAGE_NO_BACKING, err);
}

static uint64_t get(int fd, uint64_t at)
{
	uint64_t be;

	assert_int_equal(pread(fd, &be, 8, at), 8);
	return be64toh(be);
}

static void put(int fd, uint64_t at, uint64_t value, unsigned bytes)
{
	uint64_t be = htobe64(value << (64 - bytes * 8));

	assert_int_equal(pwrite(fd, &be, bytes, at), bytes);
}

/* --- headers ------------------------------------------------------------------------------ */

static const struct {
	const char *what;
	unsigned at, bytes;
	uint64_t value;
	int result;
} headers[] = {
    {"magic", 0, 4, 0x514649fa, -EINVAL},
    {"version 1", 4, 4, 1, -ENOTSUP},
    {"version 4", 4, 4, 4, -ENOTSUP},
    {"backing name far away", 8, 8, 1ull << 62, 0}, /* its length is 0: there is none */
    {"cluster bits 8", 20, 4, 8, -EINVAL},
    {"cluster bits 22", 20, 4, 22, -EINVAL},
    {"cluster bits 2^32-1", 20, 4, UINT32_MAX, -EINVAL},
    {"size 2^64-1", 24, 8, UINT64_MAX, -EFBIG},
    {"size 2^63-1", 24, 8, INT64_MAX, -EINVAL},
    {"encrypted", 32, 4, 2, -ENOTSUP},
    {"unknown encryption", 32, 4, 77, -EINVAL},
    {"L1 of 0 entries", 36, 4, 0, -EINVAL},
    {"L1 of 2^32-1 entries", 36, 4, UINT32_MAX, -EFBIG},
    {"L1 at 0", 40, 8, 0, -EINVAL},
    {"L1 unaligned", 40, 8, CLUSTER + 8, -EINVAL},
    {"L1 near 2^64", 40, 8, ~(uint64_t)(CLUSTER - 1), -EINVAL},
    {"refcount table at 0", 48, 8, 0, -EINVAL},
    {"refcount table unaligned", 48, 8, CLUSTER + 512, -EINVAL},
    {"refcount table near 2^64", 48, 8, ~(uint64_t)(CLUSTER - 1), -EINVAL},
    {"refcount table of 0", 56, 4, 0, -EINVAL},
    {"refcount table of 2^32-1", 56, 4, UINT32_MAX, -EFBIG},
    {"2^32-1 snapshots", 60, 4, UINT32_MAX, -EFBIG},
    {"a snapshot at 0", 60, 4, 1, -EINVAL},
    {"unknown feature", 72, 8, 1ull << 63, -ENOTSUP},
    {"bitmaps announced", 88, 8, 1, -EINVAL},
    {"raw data announced", 88, 8, 2, -EINVAL},
    {"compression unannounced", 104, 1, 1, -EINVAL},
    {"refcount order 7", 96, 4, 7, -EINVAL},
    {"refcount order 2^32-1", 96, 4, UINT32_MAX, -EINVAL},
    {"header of 0 bytes", 100, 4, 0, -EINVAL},
    {"header of 103 bytes", 100, 4, 103, -EINVAL},
    {"header of 4 GiB", 100, 4, UINT32_MAX, -EINVAL},
    {"header of 4 GiB - 8", 100, 4, UINT32_MAX - 7, -EINVAL},
    {"header longer than a cluster", 100, 4, CLUSTER + 8, -EINVAL},
    {"extension of 4 GiB", 116, 4, UINT32_MAX, -EINVAL},
};

static void impossible_headers_are_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nitems(headers); i++) {
		for (unsigned flags = 0; flags <= IMAGE_READONLY; flags += IMAGE_READONLY) {
			struct err err = ERR_INIT;
			struct block *image;
			int fd = make_image(), r;

			/* An extension of a kind that nobody knows, for those who change its
			 * length. */
			if (headers[i].at == 116)
				put(fd, 112, 0x12345678, 4);
			put(fd, headers[i].at, headers[i].value, headers[i].bytes);
			r = open_fd(&image, fd, flags, &err);
			if (r != headers[i].result)
				print_message("%s: %d, %s\n", headers[i].what, r, err.text);
			assert_int_equal(r, headers[i].result);
			if (!r)
				block_close(image);
			else
				assert_true(err.text[0]);
			close(fd);
		}
	}
}

/* A header that is cut off anywhere opens or does not, and no more. */
static void headers_cut_off(void **state)
{
	(void)state;
	for (unsigned bytes = 0; bytes <= 2 * CLUSTER; bytes += bytes < 200 ? 1 : 97) {
		struct block *image;
		int fd = make_image();

		assert_int_equal(ftruncate(fd, bytes), 0);
		if (open_fd(&image, fd, IMAGE_READONLY, NULL) == 0)
			block_close(image);
		close(fd);
	}
}

/* --- tables ------------------------------------------------------------------------------- */

struct layout {
	uint64_t at[N_PLACES];
	uint64_t end; /* of the file */
};

static struct layout find_places(int fd)
{
	struct layout l = {.at = {[HEADER] = 0}};

	l.at[REFTABLE] = get(fd, 48);
	l.at[REFBLOCK] = get(fd, l.at[REFTABLE]);
	l.at[L1] = get(fd, 40);
	l.at[L2] = get(fd, l.at[L1]) & 0x00fffffffffffe00ull;
	l.at[DATA] = get(fd, l.at[L2]) & 0x00fffffffffffe00ull;
	l.end = lseek(fd, 0, SEEK_END);
	return l;
}

/* Reads and writes all over the disk; each request ends well or with -EIO, or -EFBIG. */
static void use(struct block *image)
{
	_cleanup_free_ uint8_t *buf = malloc(5 * CLUSTER);
	struct block_extent extent;
	struct block_queue *queue;
	uint64_t random = 1;

	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t bytes = (1 + test_random(&random) % (5 * CLUSTER / 512)) * 512;
		uint64_t offset =
		    i < 20 ? i * CLUSTER : test_random(&random) % ((DISK - bytes) / 512) * 512;
		int r;

		memset(buf, GUEST, bytes);
		switch (i % 8) {
		case 0:
			r = block_pread(queue, image, buf, bytes, offset);
			break;
		case 1:
			r = block_zero(queue, image, offset, bytes, i & BLOCK_UNMAP);
			break;
		case 2:
			r = block_discard(queue, image, offset, bytes);
			break;
		case 3:
			r = i % 3 ? block_flush(queue, image)
				  : block_status(image, offset, bytes, &extent);
			break;
		default:
			r = block_pwrite(queue, image, buf, bytes, offset);
		}
		assert_true(r == 0 || r == -EIO || r == -EFBIG);
	}
	block_queue_free(queue);
}

/* None of the guest's bytes is in the cluster: no eight of them in a row. */
static void untouched(int fd, uint64_t at)
{
	uint8_t cluster[CLUSTER], guest[8];

	memset(cluster, 0, sizeof(cluster));
	memset(guest, GUEST, sizeof(guest));
	assert_true(pread(fd, cluster, CLUSTER, at) >= 0);
	assert_null(memmem(cluster, CLUSTER, guest, sizeof(guest)));
}

/* Opens the image for writing and uses it, then looks at what must not have changed. */
static void try(int fd, const struct layout *l, const char *what)
{
	struct block *image;

	if (getenv("TEST_VERBOSE"))
		print_message("%s\n", what);
	if (open_fd(&image, fd, 0, NULL) == 0) {
		use(image);
		qcow2_snapshot_create(image, "s", NULL);
		use(image);
		block_close(image);
	}
	for (unsigned p = 0; p < DATA; p++)
		untouched(fd, l->at[p]);
	close(fd);
}

static const uint64_t copied = 1ull << 63;

/* Every table entry of each kind, pointed at every place there is. */
static void entries_point_anywhere(void **state)
{
	static const enum place from[] = {REFTABLE, L1, L2};
	char what[80];

	(void)state;
	for (unsigned t = 0; t < nitems(from); t++) {
		for (unsigned p = 0; p < N_PLACES + 6; p++) {
			for (unsigned entry = 0; entry < 4; entry++) {
				int fd = make_image();
				struct layout l = find_places(fd);
				const uint64_t others[] = {l.end,
							   l.end + (1ull << 40),
							   1ull << 55,
							   l.at[DATA] + 512,
							   l.at[L2] | 1ull << 62,
							   UINT64_MAX};
				uint64_t to = p < N_PLACES ? l.at[p] : others[p - N_PLACES];

				if (from[t] != REFTABLE)
					to |= copied;
				snprintf(what, sizeof(what), "table %u entry %u to %u", t, entry,
					 p);
				put(fd, l.at[from[t]] + entry * 8, to, 8);
				try(fd, &l, what);
			}
		}
	}
}

/* All that is in use is said to be free. */
static void counts_that_lie(void **state)
{
	(void)state;
	for (unsigned value = 0; value < 3; value++) {
		int fd = make_image();
		struct layout l = find_places(fd);
		uint8_t block[CLUSTER];

		memset(block, value == 2 ? 0xff : 0, CLUSTER);
		if (value == 1)
			block[1] = 1; /* the header alone is counted */
		assert_int_equal(pwrite(fd, block, CLUSTER, l.at[REFBLOCK]), CLUSTER);
		try(fd, &l, "counts that lie");
	}
}

/* Compressed clusters that reach anywhere. */
static void compressed_anywhere(void **state)
{
	static const uint64_t offsets[] = {0, 4096, 12288, 1ull << 40, (1ull << 57) - 1};

	(void)state;
	for (unsigned i = 0; i < nitems(offsets); i++) {
		for (unsigned sectors = 0; sectors < 16; sectors += 15) {
			int fd = make_image();
			struct layout l = find_places(fd);
			/* cluster_bits 12: 58 bits of offset, 4 of sectors */
			uint64_t word = 1ull << 62 | (uint64_t)sectors << 58 | offsets[i];

			put(fd, l.at[L2], word, 8);
			put(fd, l.at[L2] + 8, word, 8);
			try(fd, &l, "compressed");
		}
	}
}

/* Snapshot tables whose lengths run away. */
static void snapshots_that_lie(void **state)
{
	/* offset 8, L1 size 4, id length 2, name length 2, 16 of time, state size 4, extra 4 */
	static const struct {
		unsigned at, bytes;
		uint64_t value;
	} lies[] = {
	    {0, 8, 0},		 {0, 8, 8},	   {0, 8, UINT64_MAX},	{0, 8, 1ull << 50},
	    {8, 4, UINT32_MAX},	 {8, 4, 0},	   {12, 2, UINT16_MAX}, {14, 2, UINT16_MAX},
	    {36, 4, UINT32_MAX}, {36, 4, 1 << 20}, {12, 2, 0},		{14, 2, 0},
	};

	(void)state;
	for (unsigned i = 0; i < nitems(lies); i++) {
		int fd = make_image();
		struct layout l = find_places(fd);
		struct block *image;

		assert_int_equal(open_fd(&image, fd, 0, NULL), 0);
		assert_int_equal(qcow2_snapshot_create(image, "one", NULL), 0);
		block_close(image);
		put(fd, get(fd, 64) + lies[i].at, lies[i].value, lies[i].bytes);
		if (open_fd(&image, fd, 0, NULL) == 0) {
			qcow2_snapshot_apply(image, "one", NULL);
			qcow2_snapshot_delete(image, "one", NULL);
			block_close(image);
		}
		l = find_places(fd);
		try(fd, &l, "snapshot");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(impossible_headers_are_refused),
	    cmocka_unit_test(headers_cut_off),
	    cmocka_unit_test(entries_point_anywhere),
	    cmocka_unit_test(counts_that_lie),
	    cmocka_unit_test(compressed_anywhere),
	    cmocka_unit_test(snapshots_that_lie),
	};

	log_open("test_qcow2_hostile", true); /* every damage is told */
	return cmocka_run_group_tests_name("qcow2_hostile", tests, NULL, NULL);
}
