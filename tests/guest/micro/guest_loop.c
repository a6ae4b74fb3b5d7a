// SPDX-License-Identifier: ISC
/* Runs for ever, in CPL0, or with the word "user" in CPL3. */
#include "guest.h"

static void spin(void)
{
	for (;;)
		barrier();
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	print("loop\n");
	if (guest_has("user"))
		guest_user(spin);
	spin();
}
