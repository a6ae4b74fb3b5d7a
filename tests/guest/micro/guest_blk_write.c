// SPDX-License-Identifier: ISC
/*
 * Writes sectors of a virtio disk (disk=N): sector=N, count=N, seed=N; each
 * 32-bit word is the seed plus its number on the disk. Then flushes, reads
 * all back and compares. "noflush" leaves the flush out, "noread" the reading.
 */
#include "guest_virtio.h"

#define PIECE 64u /* sectors a request */

static struct virtio_queue queue;
static uint32_t data[PIECE * 128];
static struct blk blk;
static uint64_t first, count;
static uint32_t seed;

static void check(uint8_t status, const char *what, uint64_t sector)
{
	if (!status)
		return;
	print(what);
	print_value(" error at sector", sector);
	print_value("status", status);
	guest_end("blk_write: failed");
}

static void write_all(void)
{
	for (uint64_t at = 0; at < count; at += PIECE) {
		uint32_t n = count - at < PIECE ? (uint32_t)(count - at) : PIECE;

		for (uint32_t i = 0; i < n * 128; i++)
			data[i] = seed + (uint32_t)(first + at) * 128 + i;
		check(blk_do(&blk, BLK_OUT, first + at, data, n * 512), "write", first + at);
	}
}

static void read_all(void)
{
	for (uint64_t at = 0; at < count; at += PIECE) {
		uint32_t n = count - at < PIECE ? (uint32_t)(count - at) : PIECE;

		check(blk_do(&blk, BLK_IN, first + at, data, n * 512), "read", first + at);
		for (uint32_t i = 0; i < n * 128; i++)
			if (data[i] != seed + (uint32_t)(first + at) * 128 + i) {
				print_value("wrong at sector", first + at + i / 128);
				guest_end("blk_write: failed");
			}
	}
}

static void run(void)
{
	write_all();
	if (!guest_has("noflush"))
		check(blk_do(&blk, BLK_FLUSH, 0, NULL, 0), "flush", 0);
	if (!guest_has("noread"))
		read_all();
	guest_end("blk_write: done");
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!blk_open(&blk, &queue, (unsigned)guest_number("disk", 0)))
		guest_end("blk_write: no disk");
	print_value("sectors", blk.sectors);
	print_value("readonly", !!(blk.features & BLK_F_RO));
	first = guest_number("sector", 0);
	count = guest_number("count", 64);
	seed = (uint32_t)guest_number("seed", 1);
	guest_user(run);
}
