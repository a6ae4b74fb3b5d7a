// SPDX-License-Identifier: ISC
/*
 * Writes a word into each page of the first mib=N MiB from 16 MiB on (default
 * 16), again and again with "forever": memory that a host must find, and
 * pages that a snapshot must catch. Below 3 GiB.
 */
#include "guest.h"

#define FIRST 0x1000000ull

static uint64_t end;
static bool forever;

static void touch(void)
{
	uint64_t round = 0;

	do {
		round++;
		for (uint64_t at = FIRST; at < end; at += 4096)
			*(volatile uint64_t *)at = at + round;
		if (round == 1)
			print_value("touched MiB", (end - FIRST) >> 20);
	} while (forever);
	guest_end("memtouch: done");
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	end = FIRST + (guest_number("mib", 16) << 20);
	if (end > LAYOUT_LOW_RAM_END)
		end = LAYOUT_LOW_RAM_END;
	forever = guest_has("forever");
	guest_user(touch);
}
