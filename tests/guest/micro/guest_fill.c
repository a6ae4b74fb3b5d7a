// SPDX-License-Identifier: ISC
/*
 * Fills mib=N MiB (default 16) from 16 MiB on with data of which half can be
 * compressed away: half of each page from a generator, the other half a pattern. Says so, and then
 * prints a byte every million ticks of the TSC for ever: where a guest goes on, that shows.
 * With "rewrite" it also writes a word into each page, round and round, as a guest at work does.
 * With "idle" it halts instead, and prints a byte ten times a second, woken by its APIC's timer.
 */
#include "guest_irq.h"

GUEST_PVH;

#define FIRST 0x1000000ull
#define PAGE  4096ull
#define TICKS 1000000ull

#define VECTOR_TICK 0x40
#define VECTOR_UD   6 /* INT n does not leave CPL3 on every host */
#define TICK_NS	    100000000u

static uint64_t end;
static bool rewrite, idle;

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static uint64_t tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static __attribute__((interrupt)) void tick(struct irq_frame *frame)
{
	(void)frame;
	irq_done();
}

/* Back in CPL0, where there is HLT; for good. */
static __attribute__((interrupt)) void halt_and_tick(struct irq_frame *frame)
{
	(void)frame;
	lapic_write(0x3e0, 0xb);	 /* divide by 1: ns under KVM */
	lapic_write(0x320, VECTOR_TICK); /* once */
	for (;;) {
		putch('.');
		lapic_write(0x380, TICK_NS);
		irq_wait();
	}
}

static void fill(void)
{
	uint64_t x = 0x9e3779b97f4a7c15ull, due, at = FIRST;

	for (; at < end; at += PAGE) {
		uint64_t *page = (uint64_t *)at;

		for (unsigned i = 0; i < PAGE / 16; i++)
			page[i] = next(&x);
		for (unsigned i = PAGE / 16; i < PAGE / 8; i++)
			page[i] = at;
	}
	print_value("filled MiB", (end - FIRST) >> 20);
	if (idle)
		__asm__ volatile("ud2");
	due = tsc();
	for (at = FIRST;;) {
		if (rewrite) {
			*(volatile uint64_t *)at += 1;
			at = at + PAGE < end ? at + PAGE : FIRST;
		}
		if (tsc() < due)
			continue;
		putch('.');
		due = tsc() + TICKS;
	}
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	end = FIRST + (guest_number("mib", 16) << 20);
	if (end > LAYOUT_LOW_RAM_END)
		end = LAYOUT_LOW_RAM_END;
	rewrite = guest_has("rewrite");
	idle = guest_has("idle");
	if (idle) {
		irq_begin();
		irq_gate(VECTOR_TICK, tick);
		irq_gate(VECTOR_UD, halt_and_tick);
	}
	guest_user(fill);
}
