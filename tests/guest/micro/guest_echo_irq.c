// SPDX-License-Identifier: ISC
/* Types back what is typed, woken by the serial port's interrupt; 'q' switches off. */
#include "guest_irq.h"

static volatile uint8_t ring[256];
static volatile uint8_t head, tail;

static __attribute__((interrupt)) void serial(struct irq_frame *frame)
{
	(void)frame;
	while (serial_ready())
		ring[head++] = (uint8_t)serial_get();
	irq_done();
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	irq_enable(LAYOUT_IRQ_COM1, false, serial);
	outb(LAYOUT_PORT_COM1 + 4, 8 | 3); /* OUT2 lets interrupts through */
	outb(LAYOUT_PORT_COM1 + 1, 1);	   /* when data is there */
	print("echo ready\n");
	for (;;) {
		while (head == tail)
			irq_wait();
		putch((char)ring[tail]);
		if (ring[tail++] == 'q')
			guest_end("\necho: done");
	}
}
