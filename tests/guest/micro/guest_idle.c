// SPDX-License-Identifier: ISC
/*
 * Idles as an operating system does: halts with interrupts on, and switches
 * off at the power button; with "stubborn" it only says that it was pressed.
 */
#include "guest_irq.h"

#define PM1_STATUS   LAYOUT_PORT_PM_EVT
#define PM1_ENABLE   (LAYOUT_PORT_PM_EVT + 2)
#define POWER_BUTTON 0x100

static volatile unsigned presses;

static __attribute__((interrupt)) void sci(struct irq_frame *frame)
{
	(void)frame;
	if (inw(PM1_STATUS) & POWER_BUTTON) {
		outw(PM1_STATUS, POWER_BUTTON);
		presses++;
	}
	irq_done();
}

void guest_main(void *boot_params, void *pvh_info)
{
	unsigned seen = 0;

	guest_begin(boot_params, pvh_info);
	irq_enable(LAYOUT_IRQ_SCI, true, sci);
	outw(PM1_ENABLE, POWER_BUTTON);
	print("idle\n");
	for (;;) {
		irq_wait();
		if (presses == seen)
			continue;
		seen = presses;
		print("power button\n");
		if (!guest_has("stubborn"))
			guest_end("idle: done");
	}
}
