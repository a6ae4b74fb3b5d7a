// SPDX-License-Identifier: ISC
/*
 * Hotplug without an operating system: hears of what comes and goes by the SCI, says so, and
 * lets go of what it is asked for. A line for each: "came N", "asked N", "ejected N".
 *
 *	deaf      does not enable the event
 *	stubborn  is asked and does not let go
 *	grabs     ejects whatever comes, unasked
 *	mischief  meanwhile writes everything into the ports and into the slots' configuration
 */
#include "guest_irq.h"

#define CHECK LAYOUT_PORT_HOTPLUG
#define ASK   (LAYOUT_PORT_HOTPLUG + 4)
#define EJECT (LAYOUT_PORT_HOTPLUG + 8)
#define GPE   (1u << LAYOUT_GPE_HOTPLUG)

static volatile uint32_t check, ask;

/* A level: down again once both are read. */
static void __attribute__((interrupt)) on_sci(struct irq_frame *frame)
{
	(void)frame;
	check |= inl(CHECK);
	ask |= inl(ASK);
	irq_done();
}

static void say(const char *what, unsigned slot)
{
	print_value(what, slot);
}

static void eject(unsigned slot)
{
	outl(EJECT, 1u << slot);
	say(pci_read(slot, 0) == 0xffffffff ? "ejected" : "still there", slot);
}

static void on_check(unsigned slot)
{
	say(pci_read(slot, 0) != 0xffffffff ? "came" : "nothing came", slot);
	if (guest_has("grabs"))
		eject(slot);
}

static void on_ask(unsigned slot)
{
	say("asked", slot);
	if (!guest_has("stubborn"))
		eject(slot);
}

static void each(volatile uint32_t *bits, void (*what)(unsigned slot))
{
	uint32_t now = *bits;

	*bits = 0;
	for (unsigned slot = 0; slot < 32; slot++)
		if (now >> slot & 1)
			what(slot);
}

/* Nothing of it may stop the machine, nor take away what is of the board. */
static void make_mischief(unsigned round)
{
	static const uint32_t values[] = {0xffffffff, 0, 0x5a5a5a5a, 0xd0000007};
	uint32_t v = values[round % 4];

	for (unsigned at = 0; at < 16; at++) {
		outb((uint16_t)(CHECK + at), (uint8_t)v);
		outw((uint16_t)(CHECK + at), (uint16_t)v);
		outl((uint16_t)(CHECK + at), v);
		(void)inb((uint16_t)(CHECK + at));
		(void)inw((uint16_t)(CHECK + at));
		(void)inl((uint16_t)(CHECK + at));
	}
	outl(LAYOUT_PORT_GPE0, v);
	for (unsigned slot = 3; slot < 32; slot++)
		if (pci_read(slot, 0) != 0xffffffff)
			for (unsigned reg = 4; reg < 256; reg += 4)
				pci_write(slot, reg, v);
	if (pci_read(0, 0) == 0xffffffff || pci_read(1, 0) == 0xffffffff)
		print("the board has gone\n");
	if (round % 16 == 0)
		print_value("round", round);
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!guest_has("deaf")) {
		irq_enable(LAYOUT_IRQ_SCI, true, on_sci);
		outw(LAYOUT_PORT_GPE0 + 2, GPE);
	}
	print("hotplug: ready\n");
	for (unsigned round = 0;; round++) {
		if (guest_has("mischief"))
			make_mischief(round);
		else if (!check && !ask)
			irq_wait();
		each(&check, on_check);
		each(&ask, on_ask);
	}
}
