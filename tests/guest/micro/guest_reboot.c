// SPDX-License-Identifier: ISC
/*
 * Reboots, each time by the way that via= names: cf9 (as ACPI tells), kbd
 * (keyboard controller), triple. With a disk it counts its boots in sector 0
 * and switches off after reboots=N of them.
 */
#include "guest_virtio.h"

static struct virtio_queue queue;
static uint64_t sector[64];

static bool via(const char *p, char first)
{
	return p && *p == first;
}

void guest_main(void *boot_params, void *pvh_info)
{
	const char *way;
	struct blk blk;

	guest_begin(boot_params, pvh_info);
	way = guest_word("via");
	if (blk_open(&blk, &queue, 0)) {
		if (blk_do(&blk, BLK_IN, 0, sector, 512))
			guest_end("reboot: read error");
		sector[0]++;
		if (blk_do(&blk, BLK_OUT, 0, sector, 512) || blk_do(&blk, BLK_FLUSH, 0, NULL, 0))
			guest_end("reboot: write error");
		print_value("boot", sector[0]);
		if (sector[0] > guest_number("reboots", 3))
			guest_end("reboot: done");
	} else {
		print("boot\n");
	}
	if (via(way, 'k'))
		reboot_i8042();
	if (via(way, 't'))
		triple_fault();
	reboot();
}
