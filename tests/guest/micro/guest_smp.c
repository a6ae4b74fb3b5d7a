// SPDX-License-Identifier: ISC
/*
 * Starts all processors that the MADT tells of (its own way to the ACPI tables
 * is by their signature in the BIOS area): INIT and SIPI to all others, which
 * come up in real mode at 0x10000 and each print their APIC id.
 */
#include "guest_irq.h"

#define TRAMPOLINE 0x10000u
#define STACK	   1024

extern const char smp_trampoline[], smp_trampoline_end[];
void smp_ap_main(void);

char smp_stacks[256][STACK];
uint32_t smp_tickets;
static volatile uint32_t started;
static volatile uint32_t lock;

__asm__(".pushsection .text\n"
	"smp_trampoline:\n"
	".code16\n"
	"	cli\n"
	"	mov	%cs, %ax\n"
	"	mov	%ax, %ds\n"
	"	lgdtl	1f - smp_trampoline\n"
	"	mov	%cr0, %eax\n"
	"	or	$1, %eax\n"
	"	mov	%eax, %cr0\n"
	"	ljmpl	$0x20, $smp_32\n"
	"1:	.word	0x4f\n"
	"	.long	gdt\n"
	"smp_trampoline_end:\n"
	".code32\n"
	"smp_32:\n"
	"	mov	$0x18, %eax\n"
	"	mov	%eax, %ds\n"
	"	mov	%eax, %es\n"
	"	mov	%eax, %ss\n"
	"	mov	%cr4, %eax\n"
	"	or	$0x20, %eax\n"
	"	mov	%eax, %cr4\n"
	"	mov	$page_pml4, %eax\n"
	"	mov	%eax, %cr3\n"
	"	mov	$0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	or	$0x100, %eax\n"
	"	wrmsr\n"
	"	mov	%cr0, %eax\n"
	"	or	$0x80000001, %eax\n"
	"	mov	%eax, %cr0\n"
	"	ljmp	$0x10, $smp_64\n"
	".code64\n"
	"smp_64:\n"
	"	mov	$1, %eax\n"
	"	lock xadd %eax, smp_tickets\n"
	"	inc	%eax\n"
	"	shl	$10, %eax\n" /* STACK */
	"	lea	smp_stacks(%rax), %rsp\n"
	"	call	smp_ap_main\n"
	".popsection\n");

static void take(void)
{
	while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
		__asm__ volatile("pause");
}

static void give(void)
{
	__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

void smp_ap_main(void)
{
	take();
	print_value("processor", lapic_read(0x20) >> 24);
	give();
	__atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
	halt_forever();
}

static uint32_t le32(uint64_t at)
{
	return *(const uint32_t *)at;
}

/* Enabled local APICs in the MADT, found as firmware's tables are. */
static unsigned count_processors(void)
{
	uint64_t xsdt = 0, madt = 0;
	unsigned n = 0;

	for (uint64_t at = 0xe0000; at < 0x100000 && !xsdt; at += 16)
		if (*(uint64_t *)at == 0x2052545020445352) /* "RSD PTR " */
			xsdt = *(uint64_t *)(at + 24);
	for (uint64_t i = 36; xsdt && i + 8 <= le32(xsdt + 4); i += 8) {
		uint64_t table;

		memcpy(&table, (void *)(xsdt + i), 8);
		if (le32(table) == 0x43495041) /* "APIC" */
			madt = table;
	}
	for (uint64_t at = madt + 44; madt && at < madt + le32(madt + 4);
	     at += *(uint8_t *)(at + 1))
		if (*(uint8_t *)at == 0 && (*(uint8_t *)(at + 4) & 1))
			n++;
	return n;
}

static void command(uint32_t icr)
{
	while (lapic_read(0x300) & 1u << 12)
		;
	lapic_write(0x310, 0);
	lapic_write(0x300, icr);
	for (unsigned i = 0; i < 20; i++)
		outb(0x80, 0); /* a moment */
}

void guest_main(void *boot_params, void *pvh_info)
{
	unsigned n = count_processors();

	guest_begin(boot_params, pvh_info);
	print_value("processors in the MADT", n);
	n = (unsigned)guest_number("cpus", n);
	print_value("processor", lapic_read(0x20) >> 24);
	memcpy((void *)(uintptr_t)TRAMPOLINE, smp_trampoline,
	       (size_t)(smp_trampoline_end - smp_trampoline));
	lapic_write(0xf0, 0x1ff);
	if (n > 1) {
		command(0xc4500); /* INIT to all but self */
		command(0xc4600 | TRAMPOLINE >> 12);
		command(0xc4600 | TRAMPOLINE >> 12);
	}
	while (__atomic_load_n(&started, __ATOMIC_SEQ_CST) + 1 < n)
		__asm__ volatile("pause");
	take(); /* all have printed */
	print_value("processors started", n);
	guest_end("smp: done");
}
