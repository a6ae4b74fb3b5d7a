// SPDX-License-Identifier: ISC
/*
 * Writes to and reads from every I/O port: the first 4096, where devices are, in
 * bytes, words and doublewords, with several values; the others once. The ports
 * that end a guest (power off, both resets) are left out unless the command
 * line has "all": then nothing is promised.
 */
#include "guest.h"

static const uint32_t values[] = {0, 0xffffffff, 0x5a5a5a5a};

static bool ends(unsigned port)
{
	unsigned cnt = LAYOUT_PORT_PM_CNT;

	return (port + 3 >= cnt && port <= cnt + 1) ||
	       (port + 3 >= LAYOUT_PORT_RESET && port <= LAYOUT_PORT_RESET) ||
	       (port + 3 >= LAYOUT_PORT_I8042 + 4 && port <= LAYOUT_PORT_I8042 + 4) ||
	       (port + 3 >= 0x92 && port <= 0x92);
}

/* Its baud rate and interrupts are not what we want to hear of later. */
static void restore_serial(void)
{
	outb(LAYOUT_PORT_COM1 + 3, 3);
	outb(LAYOUT_PORT_COM1 + 1, 0);
	outb(LAYOUT_PORT_COM1 + 4, 3);
}

static void hit(uint16_t port)
{
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		outb(port, (uint8_t)values[i]);
		outw(port, (uint16_t)values[i]);
		outl(port, values[i]);
	}
	(void)inb(port);
	(void)inw(port);
	(void)inl(port);
}

static void run(void)
{
	bool all = guest_has("all");

	for (unsigned port = 0; port < 0x10000; port++) {
		if (!all && ends(port))
			continue;
		if (port < 0x1000) {
			hit((uint16_t)port);
		} else {
			outb((uint16_t)port, 0xff);
			(void)inl((uint16_t)port);
		}
		if (port % 0x1000 == 0xfff) {
			restore_serial();
			print_value("\nports written", port + 1);
		}
	}
	guest_end("ports: survived");
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	print("ports\n");
	run();
}
