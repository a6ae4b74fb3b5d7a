// SPDX-License-Identifier: ISC
/* The MP table: found as kernels find it, whole, and it says what ACPI says. */
#include "tests/unit/vmm/boot_fixture.h"

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *p++);
	return s;
}

static uint32_t le32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

/* Through the segment in the BIOS data area to the floating pointer to the table. */
static const uint8_t *find_table(const struct gmem *mem)
{
	const uint8_t *bda = gmem_ptr(mem, 0x400, 256), *floating, *table;
	uint32_t at = (uint32_t)(bda[0xe] | bda[0xf] << 8) << 4, len;

	assert_int_equal(at, LAYOUT_EBDA);
	assert_int_equal(bda[0x13] | bda[0x14] << 8, LAYOUT_EBDA >> 10);
	floating = gmem_ptr(mem, at, 16);
	assert_memory_equal(floating, "_MP_", 4);
	assert_int_equal(floating[8], 1);
	assert_int_equal(sum(floating, 16), 0);
	at = le32(floating + 4);
	table = gmem_ptr(mem, at, 44);
	assert_memory_equal(table, "PCMP", 4);
	len = (uint32_t)(table[4] | table[5] << 8);
	assert_true((at > LAYOUT_EBDA && at + len <= LAYOUT_EBDA_END) ||
		    (at >= 0xf0000 && at + len <= 0x100000));
	assert_int_equal(sum(table, len), 0);
	assert_int_equal(le32(table + 36), LAYOUT_LAPIC);
	return table;
}

struct counts {
	unsigned cpus, boot_cpus, buses, ioapics, isa, pci, local;
};

static void count_interrupt(struct counts *n, const uint8_t *e)
{
	unsigned pin = e[7], irq = e[5], flags = (unsigned)(e[2] | e[3] << 8);

	assert_int_equal(e[1], 0);
	if (e[4] == 1) {
		assert_int_equal(pin, irq == 0 ? 2 : irq);
		assert_int_equal(flags, irq == LAYOUT_IRQ_SCI ? 0xd : 0);
		n->isa++;
	} else {
		assert_int_equal(irq & 3, 0); /* INTA# */
		assert_int_equal(pin, LAYOUT_IRQ_PCI_BASE + (irq >> 2) % 4);
		assert_int_equal(flags, 0xf);
		n->pci++;
	}
}

static struct counts count(const uint8_t *table)
{
	unsigned entries = (unsigned)(table[34] | table[35] << 8);
	const uint8_t *e = table + 44;
	struct counts n = {0};

	for (unsigned i = 0; i < entries; i++) {
		switch (e[0]) {
		case 0:
			assert_int_equal(e[1], n.cpus);
			assert_int_equal(e[3] & 1, 1);
			n.boot_cpus += e[3] >> 1 & 1;
			n.cpus++;
			e += 20;
			continue;
		case 1: /* the PCI bus's id is its number */
			assert_memory_equal(e + 2, e[1] == 0 ? "PCI   " : "ISA   ", 6);
			n.buses++;
			break;
		case 2:
			assert_int_equal(le32(e + 4), LAYOUT_IOAPIC);
			n.ioapics++;
			break;
		case 3:
			count_interrupt(&n, e);
			break;
		case 4:
			n.local++;
			break;
		default:
			fail_msg("entry of type %u", e[0]);
		}
		e += 8;
	}
	assert_int_equal(e - table, table[4] | table[5] << 8);
	return n;
}

static void any_number_of_cpus(void **state)
{
	static const unsigned cpus[] = {1, 2, 24, 25, 64, VMM_CPUS_MAX};

	(void)state;
	for (size_t i = 0; i < nitems(cpus); i++) {
		_cleanup_memory_ struct gmem mem;
		struct counts n;

		memory_make(&mem, 2 * MIB, 0);
		assert_int_equal(mptable_write(&mem, cpus[i], NULL), 0);
		n = count(find_table(&mem));
		assert_int_equal(n.cpus, cpus[i]);
		assert_int_equal(n.boot_cpus, 1);
		assert_int_equal(n.buses, 2);
		assert_int_equal(n.ioapics, 1);
		assert_int_equal(n.isa, 15);
		assert_int_equal(n.pci, LAYOUT_PCI_SLOTS);
		assert_int_equal(n.local, 2);
	}
}

static void does_not_touch_its_neighbours(void **state)
{
	_cleanup_memory_ struct gmem mem;
	const uint8_t *p;

	(void)state;
	memory_make(&mem, 2 * MIB, 0);
	memset(mem.regions[0].host, 0xa5, MIB);
	assert_int_equal(mptable_write(&mem, VMM_CPUS_MAX, NULL), 0);
	p = mem.regions[0].host;
	for (unsigned i = 0xa0000; i < 0xf0000; i++) /* ACPI's tables are in here */
		assert_int_equal(p[i], 0xa5);
	for (unsigned i = 0x500; i < LAYOUT_EBDA; i++)
		assert_int_equal(p[i], 0xa5);
}

static void impossible(void **state)
{
	_cleanup_memory_ struct gmem mem;
	struct gmem none = {0};
	struct err err = ERR_INIT;

	(void)state;
	memory_make(&mem, 2 * MIB, 0);
	assert_int_equal(mptable_write(&mem, VMM_CPUS_MAX + 1, &err), -EINVAL);
	assert_non_null(strstr(err.text, "at most 240"));
	assert_int_equal(mptable_write(&none, 1, &err), -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(any_number_of_cpus),
	    cmocka_unit_test(does_not_touch_its_neighbours),
	    cmocka_unit_test(impossible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
