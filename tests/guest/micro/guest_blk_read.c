// SPDX-License-Identifier: ISC
/*
 * Reads sectors from the disk-th virtio disk (disk=N, default 0): sector=N,
 * count=N (default all); prints capacity, features and a checksum: the sum over
 * all 32-bit little-endian words, each times its number from 1, modulo 2^64.
 */
#include "guest_virtio.h"

#define PIECE 64u /* sectors a request */

static struct virtio_queue queue;
static uint32_t data[PIECE * 128];
static struct blk blk;
static uint64_t sector, count;

static void run(void)
{
	uint64_t sum = 0, word = 0;

	while (count) {
		uint32_t n = count < PIECE ? (uint32_t)count : PIECE;
		uint8_t status = blk_do(&blk, BLK_IN, sector, data, n * 512);

		if (status) {
			print_value("read error at sector", sector);
			print_value("status", status);
			guest_end("blk_read: failed");
		}
		for (uint32_t i = 0; i < n * 128; i++)
			sum += data[i] * ++word;
		sector += n;
		count -= n;
	}
	print("checksum ");
	print_hex(sum);
	putch('\n');
	guest_end("blk_read: done");
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!blk_open(&blk, &queue, (unsigned)guest_number("disk", 0)))
		guest_end("blk_read: no disk");
	print_value("sectors", blk.sectors);
	print_value("readonly", !!(blk.features & BLK_F_RO));
	print_value("flush", !!(blk.features & BLK_F_FLUSH));
	sector = guest_number("sector", 0);
	count = guest_number("count", blk.sectors > sector ? blk.sectors - sector : 0);
	guest_user(run);
}
