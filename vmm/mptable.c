// SPDX-License-Identifier: ISC
/*
 * The MP table (Intel MultiProcessor Specification 1.4, §4), for kernels
 * without ACPI or told to do without. The floating pointer stands in the
 * extended BIOS data area, whose segment the BIOS data area tells. The table
 * follows it if it fits, else (more than about 40 processors) it stands in the
 * BIOS area at 0xf0000; both are reserved in the memory map.
 *
 * What it says of interrupts is what the ACPI tables say: ISA lines 1:1 but
 * line 0 at pin 2, SCI level and active high, INTA# of PCI slot n at pin
 * 16 + n % 4, level and active low.
 */
#include <errno.h>
#include <string.h>

#include "vmm/boot.h"
#include "vmm/layout.h"
#include "util/cleanup.h"

#define BDA_EBDA_SEGMENT 0x40e
#define BDA_BASE_KIB	 0x413
#define TABLE_BIOS	 0xf0000
#define TABLE_BIOS_END	 0x100000

/* Kernels take the id of a PCI bus for its number. */
#define BUS_PCI 0
#define BUS_ISA 1

#define APIC_VERSION 0x14
#define IOAPIC_ID    0 /* as its register says after reset */
#define IOAPIC_VER   0x11
#define ALL_APICS    0xff

/* Polarity and trigger of an interrupt entry, §4.3.4 */
#define BUS_DEFAULT 0
#define HIGH_LEVEL  (1 | 3 << 2)
#define LOW_LEVEL   (3 | 3 << 2)

enum int_type { INT_INT, INT_NMI, INT_SMI, INT_EXTINT };

struct mp_floating {
	char signature[4]; /* _MP_ */
	uint32_t table;
	uint8_t paragraphs, revision, checksum, features[5];
};

struct mp_head {
	char signature[4]; /* PCMP */
	uint16_t bytes;
	uint8_t revision, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_bytes, n_entries;
	uint32_t lapic;
	uint16_t extended_bytes;
	uint8_t extended_checksum, reserved;
};

struct mp_cpu {
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, reserved[2];
};

struct mp_bus {
	uint8_t type, id;
	char name[6];
};

struct mp_ioapic {
	uint8_t type, id, version, flags;
	uint32_t address;
};

struct mp_int {
	uint8_t type, int_type;
	uint16_t flags;
	uint8_t bus, bus_irq, apic, pin;
};

_Static_assert(sizeof(struct mp_floating) == 16 && sizeof(struct mp_head) == 44 &&
		   sizeof(struct mp_cpu) == 20 && sizeof(struct mp_bus) == 8 &&
		   sizeof(struct mp_ioapic) == 8 && sizeof(struct mp_int) == 8,
	       "laid out as in the specification");

/* The greatest table: 240 processors and what a machine has once. */
struct table {
	uint16_t len, n_entries;
	uint8_t data[8192];
};

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

static void add(struct table *t, const void *entry, size_t len)
{
	memcpy(t->data + t->len, entry, len);
	t->len = (uint16_t)(t->len + len);
	t->n_entries++;
}

static void add_cpus(struct table *t, unsigned cpus)
{
	for (unsigned i = 0; i < cpus; i++) {
		struct mp_cpu cpu = {
		    .apic_id = (uint8_t)i,
		    .apic_version = APIC_VERSION,
		    .flags = i == 0 ? 3 : 1, /* enabled, boot processor */
		    .signature = 0x600,
		    .features = 0x201, /* FPU, APIC: CPUID tells the rest */
		};

		add(t, &cpu, sizeof(cpu));
	}
}

static void add_int(struct table *t, unsigned type, enum int_type int_type, unsigned flags,
		    unsigned bus, unsigned bus_irq, unsigned apic, unsigned pin)
{
	struct mp_int entry = {
	    .type = (uint8_t)type,
	    .int_type = (uint8_t)int_type,
	    .flags = (uint16_t)flags,
	    .bus = (uint8_t)bus,
	    .bus_irq = (uint8_t)bus_irq,
	    .apic = (uint8_t)apic,
	    .pin = (uint8_t)pin,
	};

	add(t, &entry, sizeof(entry));
}

static void add_interrupts(struct table *t)
{
	for (unsigned irq = 0; irq < 16; irq++)
		if (irq != 2) /* the cascade of the 8259s, and the pin of line 0 */
			add_int(t, 3, INT_INT, irq == LAYOUT_IRQ_SCI ? HIGH_LEVEL : BUS_DEFAULT,
				BUS_ISA, irq, IOAPIC_ID, irq == 0 ? 2 : irq);
	for (unsigned slot = 0; slot < LAYOUT_PCI_SLOTS; slot++)
		add_int(t, 3, INT_INT, LOW_LEVEL, BUS_PCI, slot << 2, IOAPIC_ID,
			LAYOUT_IRQ_PCI_BASE + slot % 4);
	add_int(t, 4, INT_EXTINT, BUS_DEFAULT, BUS_ISA, 0, 0, 0);
	add_int(t, 4, INT_NMI, BUS_DEFAULT, BUS_ISA, 0, ALL_APICS, 1);
}

static void make_table(struct table *t, unsigned cpus)
{
	const struct mp_bus buses[] = {{1, BUS_PCI, "PCI   "}, {1, BUS_ISA, "ISA   "}};
	const struct mp_ioapic ioapic = {2, IOAPIC_ID, IOAPIC_VER, 1, LAYOUT_IOAPIC};
	struct mp_head head = {
	    .signature = "PCMP",
	    .revision = 4,
	    .oem = "FVISOR  ",
	    .product = "FILEVISOR   ",
	    .lapic = (uint32_t)LAYOUT_LAPIC,
	};

	t->len = sizeof(head);
	t->n_entries = 0;
	add_cpus(t, cpus);
	for (size_t i = 0; i < nitems(buses); i++)
		add(t, &buses[i], sizeof(buses[i]));
	add(t, &ioapic, sizeof(ioapic));
	add_interrupts(t);
	head.bytes = t->len;
	head.n_entries = t->n_entries;
	memcpy(t->data, &head, sizeof(head));
	head.checksum = checksum(t->data, t->len);
	memcpy(t->data, &head, sizeof(head));
}

int mptable_write(const struct gmem *mem, unsigned cpus, struct err *err)
{
	struct mp_floating floating = {
	    .signature = "_MP_",
	    .table = LAYOUT_EBDA + sizeof(floating),
	    .paragraphs = 1,
	    .revision = 4,
	};
	const uint16_t ebda = LAYOUT_EBDA >> 4, base_kib = LAYOUT_EBDA >> 10;
	struct table t;
	int ret;

	if (cpus > VMM_CPUS_MAX)
		return err_set(err, -EINVAL, "%u processors, at most %u can be described", cpus,
			       VMM_CPUS_MAX);
	make_table(&t, cpus);
	if (t.len > LAYOUT_EBDA_END - floating.table)
		floating.table = TABLE_BIOS;
	floating.checksum = checksum(&floating, sizeof(floating));
	ret = gmem_write(mem, floating.table, t.data, t.len);
	if (ret == 0)
		ret = gmem_write(mem, LAYOUT_EBDA, &floating, sizeof(floating));
	if (ret == 0)
		ret = gmem_write(mem, BDA_EBDA_SEGMENT, &ebda, sizeof(ebda));
	if (ret == 0)
		ret = gmem_write(mem, BDA_BASE_KIB, &base_kib, sizeof(base_kib));
	if (ret < 0)
		return err_set(err, -EFBIG, "no memory for the MP table");
	return 0;
}
