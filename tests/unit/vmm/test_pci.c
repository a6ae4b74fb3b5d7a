// SPDX-License-Identifier: ISC
/* Configuration space, BARs, lines and MSI-X: what a guest may do with them, and what it may not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_vm.h"
#include "util/cleanup.h"

#define SLOT 5

/* A device with a 64-bit BAR 0 of 16 KiB, MSI-X of 3 vectors in BAR 2, and a 32-bit BAR 4. */
struct probe {
	struct pci_device pci; /* first */
	uint64_t last_offset, last_value;
	unsigned last_size, last_bar, reads, writes;
	uint64_t mapped[6];
};

static uint64_t probe_read(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size)
{
	struct probe *p = (struct probe *)dev;

	p->reads++;
	p->last_bar = bar;
	p->last_offset = offset;
	p->last_size = size;
	return 0x1122334455667788;
}

static void probe_write(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size,
			uint64_t value)
{
	struct probe *p = (struct probe *)dev;

	p->writes++;
	p->last_bar = bar;
	p->last_offset = offset;
	p->last_size = size;
	p->last_value = value;
}

static void probe_mapped(struct pci_device *dev, unsigned bar, uint64_t addr)
{
	((struct probe *)dev)->mapped[bar] = addr;
}

static const struct pci_device_ops probe_ops = {
    .bar_read = probe_read, .bar_write = probe_write, .bar_mapped = probe_mapped};

struct world {
	struct fake_vm *f;
	struct probe *p, *q; /* slots SLOT and SLOT + 4: they share a line */
};

static struct probe *plug(struct fake_vm *f, unsigned slot)
{
	static const struct pci_id id = {.vendor = 0x1234,
					 .device = 0x5678,
					 .subsystem_vendor = 0x9abc,
					 .subsystem = 0xdef0,
					 .revision = 3,
					 .class_code = 0x018000};
	struct probe *p = calloc(1, sizeof(*p));

	pci_device_init(&p->pci, &f->vm, &probe_ops, &id);
	assert_int_equal(pci_msix_add(&p->pci, 2, 3), 0);
	pci_bar_add(&p->pci, 0, 0x4000, true);
	pci_bar_add(&p->pci, 4, 0x1000, false);
	assert_int_equal(pci_device_plug(&p->pci, slot, NULL), 0);
	return p;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->f = fake_vm_new();
	w->p = plug(w->f, SLOT);
	w->q = plug(w->f, SLOT + 4);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	pci_device_fini(&w->p->pci);
	pci_device_fini(&w->q->pci);
	free(w->p);
	free(w->q);
	fake_vm_free(w->f);
	free(w);
	return 0;
}

static uint32_t port_config(struct fake_vm *f, uint32_t address)
{
	fake_write(f, BUS_PIO, 0xcf8, 4, address);
	return fake_read(f, BUS_PIO, 0xcfc, 4);
}

static void both_ways_read_the_same(void **state)
{
	struct world *w = *state;

	for (unsigned reg = 0; reg < 256; reg += 4)
		assert_int_equal(port_config(w->f, 1u << 31 | SLOT << 11 | reg),
				 fake_config_read(w->f, SLOT, reg, 4));
	assert_int_equal(fake_config_read(w->f, SLOT, 0, 4), 0x56781234);
	assert_int_equal(fake_config_read(w->f, SLOT, 8, 4), 0x01800003);
	assert_int_equal(fake_config_read(w->f, 0, 10, 2), 0x0600);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x3c, 1), LAYOUT_IRQ_PCI_BASE + SLOT % 4);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x3d, 1), 1);
	/* parts: by ports and by ECAM, 8 bytes too */
	fake_write(w->f, BUS_PIO, 0xcf8, 4, 1u << 31 | SLOT << 11);
	assert_int_equal(fake_read(w->f, BUS_PIO, 0xcfd, 1), 0x12);
	assert_int_equal(fake_read(w->f, BUS_PIO, 0xcfe, 2), 0x5678);
	assert_int_equal(fake_read(w->f, BUS_PIO, 0xcf8, 4), 1u << 31 | SLOT << 11);
	assert_true(fake_read(w->f, BUS_MMIO, fake_config_at(SLOT, 8), 8) ==
		    fake_config_read(w->f, SLOT, 8, 4));
}

static void what_is_not_there_reads_all_ones(void **state)
{
	struct world *w = *state;

	assert_int_equal(fake_config_read(w->f, 9 + 4, 0, 4), 0xffffffff);
	assert_int_equal(port_config(w->f, 1u << 31 | 31 << 11), 0xffffffff);
	/* disabled, another bus, another function, beyond conventional space */
	assert_int_equal(port_config(w->f, SLOT << 11), 0xffffffff);
	assert_int_equal(port_config(w->f, 1u << 31 | 1 << 16 | SLOT << 11), 0xffffffff);
	assert_int_equal(port_config(w->f, 1u << 31 | SLOT << 11 | 1 << 8), 0xffffffff);
	assert_int_equal(fake_read(w->f, BUS_MMIO, LAYOUT_ECAM + (SLOT << 15) + 0x1000, 4),
			 0xffffffff);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x100, 4), 0xffffffff);
	/* and writes there vanish */
	fake_config_write(w->f, 20, 4, 4, 0xffffffff);
	fake_config_write(w->f, SLOT, 0x100, 4, 0);
	fake_config_write(w->f, SLOT, 0xffe, 4, 0);
}

static void bars_are_sized_and_moved(void **state)
{
	struct world *w = *state;
	uint64_t at = fake_bar(w->f, SLOT, 0), high = 0x1000000000ull;

	assert_true(at >= LAYOUT_PCI_MMIO && at + 0x4000 <= LAYOUT_PCI_MMIO_END);
	assert_int_equal(w->p->mapped[0], at);
	fake_read(w->f, BUS_MMIO, at + 0x123, 1);
	assert_int_equal(w->p->last_offset, 0x123);
	/* sizing, decoding off */
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(w->p->mapped[0], 0);
	assert_int_equal(fake_read(w->f, BUS_MMIO, at, 4), 0xffffffff);
	fake_config_write(w->f, SLOT, 0x10, 4, 0xffffffff);
	fake_config_write(w->f, SLOT, 0x14, 4, 0xffffffff);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x10, 4), 0xffffc004);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x14, 4), 0xffffffff);
	fake_config_write(w->f, SLOT, 0x1c, 4, 0xffffffff);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x1c, 4), 0);
	fake_config_write(w->f, SLOT, 0x20, 4, 0xffffffff);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x20, 4), 0xfffff000);
	fake_config_write(w->f, SLOT, 0x30, 4, 0xffffffff);
	assert_int_equal(fake_config_read(w->f, SLOT, 0x30, 4), 0);
	/* above 4 GiB */
	fake_config_write(w->f, SLOT, 0x10, 4, 0x8000);
	fake_config_write(w->f, SLOT, 0x14, 4, high >> 32);
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(w->p->mapped[0] == (high | 0x8000));
	fake_write(w->f, BUS_MMIO, (high | 0x8000) + 16, 8, 0xfedcba9876543210);
	assert_int_equal(w->p->last_size, 8);
	assert_true(w->p->last_value == 0xfedcba9876543210);
	assert_int_equal(w->p->mapped[4], 0); /* its address is now nowhere */
}

static void bars_in_wrong_places_are_not_there(void **state)
{
	struct world *w = *state;
	static const uint64_t wrong[] = {
	    0,
	    0x1000,
	    LAYOUT_PCI_MMIO - 0x4000,
	    LAYOUT_PCI_MMIO_END,
	    LAYOUT_ECAM,
	    LAYOUT_IOAPIC,
	    LAYOUT_LAPIC,
	    0xffffc000,
	    LAYOUT_HIGH_RAM,
	    ~0x3fffull,
	    2ull << 36,
	};

	for (size_t i = 0; i < nitems(wrong); i++) {
		fake_config_write(w->f, SLOT, 0x10, 4, wrong[i]);
		fake_config_write(w->f, SLOT, 0x14, 4, wrong[i] >> 32);
		assert_int_equal(w->p->mapped[0], 0);
	}
	/* over the other's: the first stays, and this one comes when there is room */
	fake_config_write(w->f, SLOT, 0x14, 4, 0);
	fake_config_write(w->f, SLOT, 0x10, 4, fake_bar(w->f, SLOT + 4, 0));
	assert_int_equal(w->p->mapped[0], 0);
	fake_read(w->f, BUS_MMIO, fake_bar(w->f, SLOT + 4, 0), 4);
	assert_int_equal(w->q->reads, 1);
	fake_config_write(w->f, SLOT + 4, PCI_COMMAND, 2, 0);
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	fake_read(w->f, BUS_MMIO, fake_bar(w->f, SLOT + 4, 0), 4);
	assert_int_equal(w->p->reads, 1);
}

static void writes_anywhere_are_harmless(void **state)
{
	struct world *w = *state;
	static const uint32_t values[] = {0, 0xffffffff, 0xa5a5a5a5, 0x5a5a5a5a};

	for (unsigned slot = 0; slot <= SLOT; slot += SLOT) {
		uint32_t id = fake_config_read(w->f, slot, 0, 4);

		for (size_t v = 0; v < nitems(values); v++) {
			for (unsigned size = 1; size <= 8; size *= 2) {
				for (unsigned reg = 0; reg < 0x100; reg++)
					fake_write(w->f, BUS_MMIO, fake_config_at(slot, reg), size,
						   values[v] * 0x100000001ull);
			}
			assert_int_equal(fake_config_read(w->f, slot, 0, 4), id);
			assert_int_equal(fake_config_read(w->f, slot, PCI_HEADER_TYPE, 1), 0);
		}
	}
	/* capabilities are where they were */
	assert_int_equal(fake_cap(w->f, SLOT, PCI_CAP_ID_MSIX, 0),
			 fake_cap(w->f, SLOT + 4, PCI_CAP_ID_MSIX, 0));
}

static void lines_are_shared(void **state)
{
	struct world *w = *state;
	int *line = &w->f->lines[LAYOUT_IRQ_PCI_BASE + SLOT % 4];

	pci_intx_set(&w->p->pci, true);
	assert_int_equal(*line, 1);
	assert_int_equal(fake_config_read(w->f, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT,
			 PCI_STATUS_INTERRUPT);
	pci_intx_set(&w->q->pci, true);
	pci_intx_set(&w->p->pci, false);
	assert_int_equal(*line, 1);
	/* disabled by the command register, the level remains and comes back */
	fake_config_write(w->f, SLOT + 4, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(*line, 0);
	fake_config_write(w->f, SLOT + 4, PCI_COMMAND, 2, 0);
	assert_int_equal(*line, 1);
	pci_intx_set(&w->q->pci, false);
	assert_int_equal(*line, 0);
	assert_int_equal(w->f->line_changes, 4);
}

/* --- MSI-X -------------------------------------------------------------------------------- */

static void control(struct world *w, uint16_t flags)
{
	unsigned cap = fake_cap(w->f, SLOT, PCI_CAP_ID_MSIX, 0);

	fake_config_write(w->f, SLOT, cap + PCI_MSIX_FLAGS, 2, flags);
}

static void entry(struct world *w, unsigned n, unsigned dword, uint32_t value)
{
	fake_write(w->f, BUS_MMIO, fake_bar(w->f, SLOT, 2) + 16 * n + 4 * dword, 4, value);
}

static uint64_t pending(struct world *w)
{
	return fake_read(w->f, BUS_MMIO, fake_bar(w->f, SLOT, 2) + 0x400, 8);
}

/* How often vector @n fired since the last look. */
static unsigned fired(struct world *w, unsigned n)
{
	const struct irq_msi *msi = w->p->pci.msix.entries[n].msi;
	eventfd_t count = 0;

	return msi && eventfd_read(msi->fd, &count) == 0 ? count : 0;
}

static void vectors_fire_mask_and_wait(void **state)
{
	struct world *w = *state;
	unsigned cap = fake_cap(w->f, SLOT, PCI_CAP_ID_MSIX, 0);

	assert_int_equal(fake_config_read(w->f, SLOT, cap + PCI_MSIX_FLAGS, 2), 2);
	assert_false(pci_msix_raise(&w->p->pci, 0)); /* off: the line's turn */
	control(w, PCI_MSIX_FLAGS_ENABLE);
	entry(w, 1, 0, 0xfee01000);
	entry(w, 1, 2, 0x4041);
	assert_int_equal(w->f->routes, 0); /* masked: KVM is not told */
	assert_true(pci_msix_raise(&w->p->pci, 1));
	assert_int_equal(pending(w), 2);
	entry(w, 1, 3, 0);
	assert_int_equal(w->f->routes, 1);
	assert_int_equal(fired(w, 1), 1);
	assert_int_equal(pending(w), 0);
	assert_true(w->p->pci.msix.entries[1].msi->address == 0xfee01000);
	assert_int_equal(w->p->pci.msix.entries[1].msi->data, 0x4041);
	/* masking and unmasking without a change tells KVM nothing */
	entry(w, 1, 3, 1);
	entry(w, 1, 3, 0);
	assert_int_equal(w->f->routes, 1);
	/* all masked */
	control(w, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_msix_raise(&w->p->pci, 1);
	assert_int_equal(fired(w, 1), 0);
	assert_int_equal(pending(w), 2);
	control(w, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fired(w, 1), 1);
	/* moved while it may fire */
	entry(w, 1, 2, 0x4055);
	assert_int_equal(w->p->pci.msix.entries[1].msi->data, 0x4055);
	/* vectors that are none */
	assert_true(pci_msix_raise(&w->p->pci, 3));
	assert_true(pci_msix_raise(&w->p->pci, 0xffff));
}

static void msix_takes_the_line_away(void **state)
{
	struct world *w = *state;
	int *line = &w->f->lines[LAYOUT_IRQ_PCI_BASE + SLOT % 4];

	pci_intx_set(&w->p->pci, true);
	control(w, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(*line, 0);
	control(w, 0);
	assert_int_equal(*line, 1);
	pci_intx_set(&w->p->pci, false);
}

static void the_table_takes_any_access(void **state)
{
	struct world *w = *state;
	uint64_t table = fake_bar(w->f, SLOT, 2);

	fake_write(w->f, BUS_MMIO, table, 8, 0x00000001fee00000);
	assert_true(fake_read(w->f, BUS_MMIO, table, 8) == 0x00000001fee00000);
	assert_int_equal(fake_read(w->f, BUS_MMIO, table + 2, 2), 0xfee0);
	assert_int_equal(fake_read(w->f, BUS_MMIO, table + 12, 4), 1);
	fake_write(w->f, BUS_MMIO, table, 1, 0xff); /* too small: ignored */
	assert_int_equal(fake_read(w->f, BUS_MMIO, table, 4), 0xfee00000);
	for (unsigned at = 0; at < 0x1000; at++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			fake_read(w->f, BUS_MMIO, table + at, size);
			fake_write(w->f, BUS_MMIO, table + at, size, ~0ull);
		}
	}
	assert_int_equal(pending(w), 0);
}

static void only_a_byte_to_cf9_resets(void **state)
{
	struct world *w = *state;

	fake_write(w->f, BUS_PIO, 0xcf8, 4, 0xffffffff);
	fake_write(w->f, BUS_PIO, 0xcf8, 2, 0xffff);
	fake_write(w->f, BUS_PIO, 0xcf9, 1, 2);
	assert_int_equal(w->f->ends, 0);
	fake_write(w->f, BUS_PIO, 0xcf9, 1, 6);
	assert_int_equal(w->f->ends, 1);
}

static void slots_are_taken_once(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;

	assert_int_equal(pci_device_plug(&w->p->pci, SLOT + 4, &err), -EEXIST);
	assert_int_equal(pci_device_plug(&w->p->pci, 32, &err), -ENOSPC);
	w->p->pci.slot = SLOT;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(both_ways_read_the_same, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_is_not_there_reads_all_ones, setup, teardown),
	    cmocka_unit_test_setup_teardown(bars_are_sized_and_moved, setup, teardown),
	    cmocka_unit_test_setup_teardown(bars_in_wrong_places_are_not_there, setup, teardown),
	    cmocka_unit_test_setup_teardown(writes_anywhere_are_harmless, setup, teardown),
	    cmocka_unit_test_setup_teardown(lines_are_shared, setup, teardown),
	    cmocka_unit_test_setup_teardown(vectors_fire_mask_and_wait, setup, teardown),
	    cmocka_unit_test_setup_teardown(msix_takes_the_line_away, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_table_takes_any_access, setup, teardown),
	    cmocka_unit_test_setup_teardown(only_a_byte_to_cf9_resets, setup, teardown),
	    cmocka_unit_test_setup_teardown(slots_are_taken_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
