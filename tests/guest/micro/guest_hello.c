// SPDX-License-Identifier: ISC
/*
 * The smallest guest: one line on the serial port, then it halts for ever, or
 * switches off when the command line has the word "poweroff".
 */
#include "guest.h"

void guest_main(void *boot_params, void *pvh_info)
{
	print("hello\n");
	guest_begin(boot_params, pvh_info);
	if (guest_has("poweroff"))
		poweroff();
	halt_forever();
}
