/* SPDX-License-Identifier: ISC */
#ifndef FV_GUEST_IRQ_H
#define FV_GUEST_IRQ_H
/*
 * Interrupts for a micro guest that stays in CPL0: an IDT, the local APIC, and
 * lines of the I/O APIC. The 8259 pair is masked.
 */
#include "guest.h"

#define IRQ_VECTOR 0x20 /* GSI n arrives at vector 0x20 + n */

struct irq_frame;
typedef void irq_handler(struct irq_frame *frame);

struct irq_gate {
	uint16_t offset_low, selector, flags, offset_mid;
	uint32_t offset_high, reserved;
};

static struct irq_gate irq_idt[256] __attribute__((aligned(16)));

static inline void lapic_write(unsigned reg, uint32_t v)
{
	*(volatile uint32_t *)(LAYOUT_LAPIC + reg) = v;
}

static inline uint32_t lapic_read(unsigned reg)
{
	return *(volatile uint32_t *)(LAYOUT_LAPIC + reg);
}

static inline void irq_done(void)
{
	lapic_write(0xb0, 0); /* EOI */
}

static inline void ioapic_write(unsigned reg, uint32_t v)
{
	*(volatile uint32_t *)LAYOUT_IOAPIC = reg;
	*(volatile uint32_t *)(LAYOUT_IOAPIC + 0x10) = v;
}

/* @handler is made with __attribute__((interrupt)). */
static inline void irq_gate(unsigned vector, irq_handler *handler)
{
	uint64_t at = (uint64_t)(uintptr_t)handler;

	irq_idt[vector] = (struct irq_gate){
	    .offset_low = (uint16_t)at,
	    .selector = 0x10,
	    .flags = 0x8e00,
	    .offset_mid = (uint16_t)(at >> 16),
	    .offset_high = (uint32_t)(at >> 32),
	};
}

/* The table of gates, and the local APIC. */
static inline void irq_begin(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = {sizeof(irq_idt) - 1, (uintptr_t)irq_idt};

	__asm__ volatile("lidt %0" ::"m"(idtr));
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	lapic_write(0x80, 0);	  /* take all priorities */
	lapic_write(0xf0, 0x1ff); /* enable; spurious vector 0xff */
}

/* Sends GSI @gsi to this processor's @handler. */
static inline void irq_enable(unsigned gsi, bool level, irq_handler *handler)
{
	irq_gate(IRQ_VECTOR + gsi, handler);
	irq_begin();
	ioapic_write(0x11 + 2 * gsi, lapic_read(0x20) & 0xff000000);
	ioapic_write(0x10 + 2 * gsi, (IRQ_VECTOR + gsi) | (level ? 1u << 15 : 0));
}

static inline void irq_wait(void)
{
	__asm__ volatile("sti; hlt; cli" ::: "memory");
}

#endif
