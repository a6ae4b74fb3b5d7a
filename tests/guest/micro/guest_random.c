// SPDX-License-Identifier: ISC
/*
 * Random bytes as code: 64 KiB made from seed=N, run from their start; with "user" in
 * CPL3. How it ends is open: a crash, a halt, a loop, a reset.
 */
#include "guest.h"

static uint64_t code[8192];

static void run(void)
{
	((void (*)(void))(uintptr_t)code)();
	guest_end("random: came back");
}

void guest_main(void *boot_params, void *pvh_info)
{
	uint64_t x;

	guest_begin(boot_params, pvh_info);
	x = guest_number("seed", 1) * 0x9e3779b97f4a7c15 + 1;
	print("random\n");
	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		x ^= x << 13; /* xorshift */
		x ^= x >> 7;
		x ^= x << 17;
		code[i] = x;
	}
	if (guest_has("user"))
		guest_user(run);
	run();
}
