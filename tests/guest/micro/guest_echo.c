// SPDX-License-Identifier: ISC
/*
 * Types back what is typed, by polling. 'q' switches off, 'r' reboots, 't'
 * ends in a triple fault.
 */
#include "guest.h"

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	print("echo ready\n");
	for (;;) {
		char c;

		while (!serial_ready())
			__asm__ volatile("pause");
		c = serial_get();
		putch(c);
		if (c == 'q')
			poweroff();
		if (c == 'r')
			reboot();
		if (c == 't')
			triple_fault();
	}
}
