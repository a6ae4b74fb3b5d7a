// SPDX-License-Identifier: ISC
/*
 * ACPI tables (ACPI 6.4 §5.2), written into the BIOS area for a guest that
 * scans for them and for one that is told where they are. Full hardware
 * ACPI with fixed registers (PM1a, PM timer, GPE0), always in ACPI mode: no SMI.
 * The power button is the fixed one.
 *
 * What a guest reads is kept small: interpreting AML is one of the longer
 * parts of a boot where the kernel's code is emulated. dsdt_parts is the list
 * of what the DSDT has under \_SB: one function each, which is where more goes.
 * The PCI bus with its hotplug slots is in acpi_pci.c.
 *
 * The keyboard controller is not declared, since only its reset line is there
 * and a driver that looked for a keyboard would wait for answers in vain.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/acpi_int.h"
#include "vmm/boot.h"
#include "vmm/layout.h"
#include "vmm/vmgenid.h"
#include "util/cleanup.h"

#define TABLES_END   LAYOUT_GENERATION /* and behind that is the MP table */
#define HEADER_BYTES 36
#define RSDP_BYTES   36
#define FACS_BYTES   64

#define SPACE_IO 1 /* generic address structure: system I/O */

/* FADT flags, §5.2.9.1 */
#define FADT_WBINVD	  (1u << 0)
#define FADT_PROC_C1	  (1u << 2)
#define FADT_SLP_BUTTON	  (1u << 5)  /* 1: no fixed sleep button */
#define FADT_FIX_RTC	  (1u << 6)  /* 1: no RTC wake in fixed registers */
#define FADT_TMR_32BIT	  (1u << 8)  /* the PM timer has 32 bits, not 24 */
#define FADT_RESET_REG	  (1u << 10) /* the reset register works */
#define ARCH_LEGACY	  (1u << 0)  /* IAPC_BOOT_ARCH: there are ISA devices */
#define ARCH_NO_VGA	  (1u << 2)
#define FADT_POWER_SERVER 4

#define MPS_ACTIVE_HIGH 1u
#define MPS_LEVEL	(3u << 2)
#define RTC_CENTURY	0x32

static void le(uint8_t *p, uint64_t v, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* Aligns and returns the offset where the next table begins. */
static size_t align(struct tables *t, size_t to)
{
	while (t->out.len % to && !t->out.overflow)
		aml_raw(&t->out, 0, 1);
	return t->out.len;
}

/* A table's header; length and checksum come with end_table(). */
static size_t begin_table(struct tables *t, const char *signature, unsigned revision)
{
	size_t at = align(t, 16);

	aml_bytes(&t->out, signature, 4);
	aml_raw(&t->out, 0, 4);
	aml_raw(&t->out, revision, 1);
	aml_raw(&t->out, 0, 1);
	aml_bytes(&t->out, "FVISOR", 6);
	aml_bytes(&t->out, "FILEVISR", 8);
	aml_raw(&t->out, 1, 4);
	aml_bytes(&t->out, "FVSR", 4);
	aml_raw(&t->out, 1, 4);
	return at;
}

/* Returns the table's guest address. */
static uint32_t end_table(struct tables *t, size_t at)
{
	uint8_t *p = t->out.data + at;
	size_t len = t->out.len - at;

	if (t->out.overflow)
		return 0;
	le(p + 4, len, 4);
	p[9] = checksum(p, len);
	return t->gpa + (uint32_t)at;
}

/* --- DSDT ------------------------------------------------------------------------------------ */

static void add_s5(struct tables *t)
{
	size_t package;

	aml_name(&t->out, "\\_S5");
	package = aml_package(&t->out, 4);
	aml_int(&t->out, LAYOUT_SLP_S5);
	for (unsigned i = 0; i < 3; i++)
		aml_int(&t->out, 0);
	aml_end(&t->out, package);
}

static void add_isa_device(struct tables *t, const char *name, const char *id, uint16_t port,
			   uint8_t n_ports, unsigned irq)
{
	size_t resources, dev = aml_device(&t->out, name);

	aml_name_eisaid(&t->out, "_HID", id);
	aml_name_int(&t->out, "_UID", 0);
	aml_name(&t->out, "_CRS");
	resources = aml_resources(&t->out);
	aml_res_io(&t->out, port, n_ports);
	aml_res_irq(&t->out, irq);
	aml_resources_end(&t->out, resources);
	aml_end(&t->out, dev);
}

static void add_isa(struct tables *t)
{
	add_isa_device(t, "COM1", "PNP0501", LAYOUT_PORT_COM1, 8, LAYOUT_IRQ_COM1);
	add_isa_device(t, "RTC", "PNP0B00", LAYOUT_PORT_RTC, 2, LAYOUT_IRQ_RTC);
}

static void add_cpus(struct tables *t)
{
	char name[5];
	size_t dev;

	for (unsigned i = 0; i < t->cpus; i++) {
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		dev = aml_device(&t->out, name);
		aml_name_string(&t->out, "_HID", "ACPI0007");
		aml_name_int(&t->out, "_UID", i);
		aml_end(&t->out, dev);
	}
}

/* What stands under \_SB. */
static void (*const dsdt_parts[])(struct tables *t) = {acpi_add_pci, add_isa, add_cpus,
						       vmgenid_add_device};

static uint32_t write_dsdt(struct tables *t)
{
	size_t scope, at = begin_table(t, "DSDT", 2);

	add_s5(t);
	scope = aml_scope(&t->out, "\\_SB");
	for (size_t i = 0; i < nitems(dsdt_parts); i++)
		dsdt_parts[i](t);
	aml_end(&t->out, scope);
	acpi_add_events(t);
	vmgenid_add_event(t);
	return end_table(t, at);
}

/* --- tables of fixed shape ---------------------------------------------------------------------
 */

static uint32_t write_facs(struct tables *t)
{
	uint8_t facs[FACS_BYTES] = "FACS";
	size_t at = align(t, 64);

	le(facs + 4, sizeof(facs), 4);
	facs[32] = 2; /* version */
	aml_bytes(&t->out, facs, sizeof(facs));
	return t->gpa + (uint32_t)at;
}

/* A register block: its old 32-bit field, and the generic address structure. */
static void put_block(uint8_t *fadt, size_t at, size_t x_at, size_t len_at, uint16_t port,
		      unsigned bytes, unsigned access)
{
	if (at) {
		le(fadt + at, port, 4);
		fadt[len_at] = (uint8_t)bytes;
	}
	fadt[x_at] = SPACE_IO;
	fadt[x_at + 1] = (uint8_t)(bytes * 8);
	fadt[x_at + 3] = (uint8_t)access;
	le(fadt + x_at + 4, port, 8);
}

/* Offsets are those of ACPI 6.4 table 5.9. */
static uint32_t write_fadt(struct tables *t, uint32_t facs, uint32_t dsdt)
{
	uint8_t f[276] = {0};
	size_t at = begin_table(t, "FACP", 6);

	le(f + 36, facs, 4);
	le(f + 40, dsdt, 4);
	f[45] = FADT_POWER_SERVER;
	le(f + 46, LAYOUT_IRQ_SCI, 2);
	put_block(f, 56, 148, 88, LAYOUT_PORT_PM_EVT, 4, 2);
	put_block(f, 64, 172, 89, LAYOUT_PORT_PM_CNT, 2, 2);
	put_block(f, 76, 208, 91, LAYOUT_PORT_PM_TMR, 4, 3);
	put_block(f, 80, 220, 92, LAYOUT_PORT_GPE0, 4, 1);
	le(f + 96, 0xfff, 2); /* no C2, no C3 */
	le(f + 98, 0xfff, 2);
	f[108] = RTC_CENTURY;
	le(f + 109, ARCH_LEGACY | ARCH_NO_VGA, 2);
	le(f + 112,
	   FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_32BIT |
	       FADT_RESET_REG,
	   4);
	put_block(f, 0, 116, 0, LAYOUT_PORT_RESET, 1, 1);
	f[128] = 6; /* value that resets */
	f[131] = 4; /* minor version */
	le(f + 140, dsdt, 8);
	aml_bytes(&t->out, f + HEADER_BYTES, sizeof(f) - HEADER_BYTES);
	return end_table(t, at);
}

static void add_override(struct tables *t, unsigned irq, unsigned gsi, unsigned flags)
{
	aml_raw(&t->out, 2, 1);
	aml_raw(&t->out, 10, 1);
	aml_raw(&t->out, 0, 1); /* ISA */
	aml_raw(&t->out, irq, 1);
	aml_raw(&t->out, gsi, 4);
	aml_raw(&t->out, flags, 2);
}

static uint32_t write_madt(struct tables *t)
{
	size_t at = begin_table(t, "APIC", 5);

	aml_raw(&t->out, LAYOUT_LAPIC, 4);
	aml_raw(&t->out, 1, 4); /* there is an 8259 pair, too */
	for (unsigned i = 0; i < t->cpus; i++) {
		aml_raw(&t->out, 0, 1); /* local APIC */
		aml_raw(&t->out, 8, 1);
		aml_raw(&t->out, i, 1); /* the _UID of its device */
		aml_raw(&t->out, i, 1); /* APIC id */
		aml_raw(&t->out, 1, 4); /* enabled */
	}
	aml_raw(&t->out, 1, 1); /* I/O APIC */
	aml_raw(&t->out, 12, 1);
	aml_raw(&t->out, 0, 2); /* id 0, as its register says */
	aml_raw(&t->out, LAYOUT_IOAPIC, 4);
	aml_raw(&t->out, 0, 4); /* first GSI */
	add_override(t, 0, 2, 0);
	add_override(t, LAYOUT_IRQ_SCI, LAYOUT_IRQ_SCI, MPS_LEVEL | MPS_ACTIVE_HIGH);
	aml_raw(&t->out, 4, 1); /* NMI at LINT1 of every processor */
	aml_raw(&t->out, 6, 1);
	aml_raw(&t->out, 0xff, 1);
	aml_raw(&t->out, 0, 2);
	aml_raw(&t->out, 1, 1);
	return end_table(t, at);
}

static uint32_t write_mcfg(struct tables *t)
{
	size_t at = begin_table(t, "MCFG", 1);

	aml_raw(&t->out, 0, 8);
	aml_raw(&t->out, LAYOUT_ECAM, 8);
	aml_raw(&t->out, 0, 2); /* segment */
	aml_raw(&t->out, 0, 1); /* first bus */
	aml_raw(&t->out, ((LAYOUT_ECAM_END - LAYOUT_ECAM) >> 20) - 1, 1);
	aml_raw(&t->out, 0, 4);
	return end_table(t, at);
}

/* The root, in the place that was kept for it. */
static void write_rsdp(uint8_t *p, uint32_t xsdt)
{
	memset(p, 0, RSDP_BYTES);
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "FVISOR", 6);
	p[15] = 2; /* revision */
	le(p + 20, RSDP_BYTES, 4);
	le(p + 24, xsdt, 8);
	p[8] = checksum(p, 20);
	p[32] = checksum(p, RSDP_BYTES);
}

int acpi_write(const struct gmem *mem, unsigned cpus, uint32_t slots, struct err *err)
{
	uint8_t *at = gmem_ptr(mem, LAYOUT_ACPI, TABLES_END - LAYOUT_ACPI);
	struct tables t = {
	    .out = {.data = at, .cap = TABLES_END - LAYOUT_ACPI},
	    .gpa = LAYOUT_ACPI,
	    .mem = mem,
	    .cpus = cpus,
	    .slots = slots,
	};
	uint32_t roots[3], dsdt, xsdt;
	size_t xsdt_at;

	if (!at)
		return err_set(err, -EFBIG, "no memory for ACPI tables");
	t.out.len = RSDP_BYTES; /* the guest must not find a half-made root: it comes last */
	memset(at, 0, RSDP_BYTES);
	dsdt = write_dsdt(&t);
	roots[0] = write_fadt(&t, write_facs(&t), dsdt);
	roots[1] = write_madt(&t);
	roots[2] = write_mcfg(&t);
	xsdt_at = begin_table(&t, "XSDT", 1);
	for (size_t i = 0; i < nitems(roots); i++)
		aml_raw(&t.out, roots[i], 8);
	xsdt = end_table(&t, xsdt_at);
	if (t.out.overflow)
		return err_set(err, -EFBIG, "ACPI tables for %u processors do not fit", cpus);
	write_rsdp(at, xsdt);
	return 0;
}
