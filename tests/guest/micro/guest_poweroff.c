// SPDX-License-Identifier: ISC
/* Says so and switches off through ACPI. */
#include "guest.h"

void guest_main(void *boot_params, void *pvh_info)
{
	(void)boot_params;
	(void)pvh_info;
	print("poweroff\n");
	poweroff();
}
