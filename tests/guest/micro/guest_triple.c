// SPDX-License-Identifier: ISC
/* A triple fault. */
#include "guest.h"

void guest_main(void *boot_params, void *pvh_info)
{
	(void)boot_params;
	(void)pvh_info;
	print("triple fault\n");
	triple_fault();
}
