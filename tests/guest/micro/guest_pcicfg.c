// SPDX-License-Identifier: ISC
/*
 * Writes to every byte of PCI configuration space: the 256 of each slot through
 * 0xcf8, in bytes, words and doublewords, aligned and not; then all that ECAM covers.
 * BARs end up anywhere, devices switched on and off.
 */
#include "guest.h"

static const uint32_t values[] = {0xffffffff, 0, 0x5a5a5a5a, 0xd0000007};

#define DATA (LAYOUT_PORT_PCI + 4)

static bool present[32];

/* A slot without a device gets samples only. */
static bool there(unsigned slot)
{
	return present[slot];
}

static void select(unsigned slot, unsigned reg)
{
	outl(LAYOUT_PORT_PCI, 0x80000000u | slot << 11 | (reg & 0xfc));
}

static void by_ports(uint32_t v)
{
	for (unsigned slot = 0; slot < 32; slot++)
		for (unsigned reg = 0; reg < 256; reg += there(slot) ? 1 : 31) {
			select(slot, reg);
			outb((uint16_t)(DATA + (reg & 3)), (uint8_t)v);
			outw((uint16_t)(DATA + (reg & 3)), (uint16_t)v);
			if (reg % 4 == 0)
				outl(DATA, v);
			(void)inl(DATA);
		}
}

static void by_ecam(uint32_t v)
{
	volatile uint8_t *ecam = (uint8_t *)LAYOUT_ECAM;

	for (unsigned slot = 0; slot < 32; slot++) {
		unsigned step = there(slot) ? 1 : 127;

		for (unsigned reg = 0; reg < 4096; reg += step)
			ecam[slot << 15 | reg] = (uint8_t)v;
		for (unsigned reg = 0; reg < 0x8000; reg += reg < 256 ? 2 * step : 254)
			*(volatile uint16_t *)(ecam + (slot << 15 | reg)) = (uint16_t)v;
		for (unsigned reg = 1; reg < 0x7ff0; reg += reg < 256 ? step : 509)
			*(volatile uint32_t *)(ecam + (slot << 15 | reg)) = v;
		(void)*(volatile uint64_t *)(ecam + (slot << 15 | 0x10));
	}
}

static void run(void)
{
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		by_ports(values[i]);
		print_value("ports, value", values[i]);
		by_ecam(values[i]);
		print_value("ECAM, value", values[i]);
	}
	guest_end("pcicfg: survived");
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	print("pcicfg\n");
	for (unsigned slot = 0; slot < 32; slot++)
		present[slot] = pci_read(slot, 0) != 0xffffffff;
	run();
}
