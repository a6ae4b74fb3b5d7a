// SPDX-License-Identifier: ISC
/*
 * Ends in an emulation failure on any KVM: runs where no memory is. With "sse"
 * on the command line by an instruction that only hosts which emulate the
 * kernel's code cannot do; elsewhere it goes through and the guest says so.
 */
#include "guest.h"

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	print("emulation failure\n");
	if (guest_has("sse")) {
		__asm__ volatile(".byte 0xf3, 0x48, 0x0f, 0xb8, 0xc0" ::: "rax"); /* popcnt */
		guest_end("emufail: not emulated here");
	}
	((void (*)(void))(uintptr_t)0xd8000000)();
	guest_end("emufail: came back");
}
