// SPDX-License-Identifier: ISC
/*
 * Hostile qcow2 images: the input is the image's file. It is opened for reading
 * and read here and there; opened for writing, written, discarded, flushed,
 * snapshot; checked, and repaired. Nothing may crash, hang or leak.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/image.h"
#include "util/log.h"

#define PLACES 12u

static int make_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	return fd;
}

static int dup_fd(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static int open_image(struct block **block, int fd, unsigned flags)
{
	struct image_chain chain = {.n = 1};

	chain.layers[0] =
	    (struct image_layer){.format = IMAGE_QCOW2, .fd = dup_fd(fd), .data_fd = -1};
	if (image_chain_open(block, &chain, flags | IMAGE_NO_BACKING, NULL) == 0)
		return 0;
	/* It may ask for a data file. */
	memset(&chain, 0, sizeof(chain));
	chain.n = 1;
	chain.layers[0] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = dup_fd(fd), .data_fd = memfd_create("data", MFD_CLOEXEC)};
	return image_chain_open(block, &chain, flags | IMAGE_NO_BACKING, NULL);
}

/* Some places of the disk: its beginning, its end, and what is between. */
static uint64_t place(const struct block_info *info, unsigned i)
{
	return i < PLACES / 2 ? (uint64_t)i * 12345 % info->bytes
			      : info->bytes / PLACES * i + (info->bytes % PLACES);
}

static void read_some(int fd)
{
	static uint8_t buf[100000];
	struct block_extent extent;
	struct block_queue *queue;
	struct block_info info;
	struct block *block;
	unsigned i;

	if (open_image(&block, fd, IMAGE_READONLY) < 0)
		return;
	block_info_get(block, &info);
	if (block_queue_new_sync(&queue, NULL) < 0)
		abort();
	for (i = 0; i < PLACES && info.bytes; i++) {
		uint64_t at = place(&info, i), n = sizeof(buf);

		n = n < info.bytes - at ? n : info.bytes - at;
		block_pread(queue, block, buf, n, at);
		block_status(block, at, info.bytes - at < (1 << 20) ? info.bytes - at : 1 << 20,
			     &extent);
	}
	block_queue_free(queue);
	block_close(block);
}

static void write_some(const uint8_t *data, size_t size)
{
	static uint8_t buf[3000];
	struct block_queue *queue;
	struct block_info info;
	struct block *block;
	int fd = make_file(data, size);
	unsigned i;

	if (open_image(&block, fd, 0) == 0) {
		block_info_get(block, &info);
		if (block_queue_new_sync(&queue, NULL) < 0)
			abort();
		for (i = 0; i < PLACES && info.bytes; i++) {
			uint64_t at = place(&info, i), n = sizeof(buf);

			n = n < info.bytes - at ? n : info.bytes - at;
			if (i % 4 == 1)
				block_zero(queue, block, at, n, i & BLOCK_UNMAP);
			else if (i % 4 == 2)
				block_discard(queue, block, at, n);
			else
				block_pwrite(queue, block, buf, n, at);
			if (i % 3 == 0)
				block_flush(queue, block);
			if (i == PLACES / 2)
				qcow2_snapshot_create(block, "x", NULL);
		}
		qcow2_snapshot_delete(block, "x", NULL);
		block_queue_free(queue);
		block_close(block);
	}
	close(fd);
}

struct patience {
	struct cancel cancel;
	unsigned left;
};

static void lose_patience(void *arg, const char *line)
{
	struct patience *p = arg;

	(void)line;
	if (p->left && !--p->left)
		cancel_request(&p->cancel);
}

static void check(const uint8_t *data, size_t size, bool fix)
{
	struct patience patience = {.left = 1000};
	struct qcow2_check_params params = {.fix_errors = fix,
					    .fix_leaks = fix,
					    .report = lose_patience,
					    .arg = &patience,
					    .cancel = &patience.cancel};
	struct qcow2_check_result result;
	struct block *block;
	int fd = make_file(data, size);

	cancel_init(&patience.cancel);
	if (open_image(&block, fd, IMAGE_CHECK | (fix ? 0 : IMAGE_READONLY)) == 0) {
		qcow2_check(block, &params, &result, NULL);
		block_close(block);
	}
	cancel_destroy(&patience.cancel);
	close(fd);
}

/* Every damaged image says so: not on the fuzzer's own output. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_open("fuzz_qcow2", true);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = make_file(data, size);

	read_some(fd);
	close(fd);
	write_some(data, size);
	check(data, size, false);
	check(data, size, true);
	return 0;
}
