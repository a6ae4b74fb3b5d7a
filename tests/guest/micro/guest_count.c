// SPDX-License-Identifier: ISC
/*
 * Counts from 1, a line each, so that a hole in a console's log is seen: every
 * 5 ms by the PM timer, or with "fast" as quick as it goes. end=N switches off
 * and crash_at=N ends in a triple fault after line N.
 */
#include "guest.h"

#define PM_TIMER_HZ 3579545u

/* The timer has 24 or 32 bits: differences are taken modulo 2^24. */
static void wait_5ms(void)
{
	uint32_t start = inl(LAYOUT_PORT_PM_TMR);

	while (((inl(LAYOUT_PORT_PM_TMR) - start) & 0xffffff) < PM_TIMER_HZ / 200)
		barrier();
}

void guest_main(void *boot_params, void *pvh_info)
{
	uint64_t end, crash;
	bool fast;

	guest_begin(boot_params, pvh_info);
	end = guest_number("end", 0);
	crash = guest_number("crash_at", 0);
	fast = guest_has("fast");
	for (uint64_t n = 1;; n++) {
		print_dec(n);
		putch('\n');
		if (n == end)
			poweroff();
		if (n == crash)
			triple_fault();
		if (!fast)
			wait_5ms();
	}
}
