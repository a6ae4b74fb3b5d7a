// SPDX-License-Identifier: ISC
/*
 * The PCI bus in the DSDT: its windows, where its interrupts go, and the slots that
 * devices come to and go from. Windows have room for whatever comes: 512 MiB for
 * 32-bit BARs, 64 GiB for 64-bit ones.
 */
#include <stdio.h>

#include "vmm/acpi_int.h"
#include "vmm/hotplug.h"
#include "vmm/layout.h"

#define MMIO64_ALIGN LAYOUT_PCI_MMIO64_SIZE

static uint64_t mmio64_base(const struct gmem *mem)
{
	const struct gmem_region *last = &mem->regions[mem->n_regions - 1];

	return (last->gpa + last->bytes + MMIO64_ALIGN - 1) & ~(MMIO64_ALIGN - 1);
}

static void add_pci_windows(struct tables *t)
{
	uint64_t mmio64 = mmio64_base(t->mem);
	size_t resources;

	aml_name(&t->out, "_CRS");
	resources = aml_resources(&t->out);
	aml_res_window_bus(&t->out, 0, 0);
	aml_res_io(&t->out, LAYOUT_PORT_PCI, 8);
	aml_res_window_io(&t->out, 0, LAYOUT_PORT_PCI - 1);
	aml_res_window_io(&t->out, LAYOUT_PORT_PCI + 8, 0xffff);
	aml_res_window_mem32(&t->out, LAYOUT_PCI_MMIO, LAYOUT_PCI_MMIO_END - 1);
	aml_res_window_mem64(&t->out, mmio64, mmio64 + LAYOUT_PCI_MMIO64_SIZE - 1);
	aml_resources_end(&t->out, resources);
}

/* INTA# of each slot straight to an I/O APIC pin, no link devices. */
static void add_pci_routes(struct tables *t)
{
	size_t routes, route;

	aml_name(&t->out, "_PRT");
	routes = aml_package(&t->out, LAYOUT_PCI_SLOTS);
	for (unsigned slot = 0; slot < LAYOUT_PCI_SLOTS; slot++) {
		route = aml_package(&t->out, 4);
		aml_int(&t->out, slot << 16 | 0xffff);
		aml_int(&t->out, 0); /* INTA# */
		aml_int(&t->out, 0);
		aml_int(&t->out, LAYOUT_IRQ_PCI_BASE + slot % 4);
		aml_end(&t->out, route);
	}
	aml_end(&t->out, routes);
}

/* --- hotplug (hotplug.h; ACPI 6.4 §6.1.1 _ADR, §6.1.8 _SUN, §6.3.3 _EJx) -------------------------
 */

#define NOTIFY_CHECK 1 /* device check: §5.6.6 */
#define NOTIFY_EJECT 3 /* eject request */

static const char *slot_name(unsigned slot, char name[static 5])
{
	snprintf(name, 5, "S%02X_", slot);
	return name;
}

/*
 * No _STA: whether there is a device is what configuration space says, and that is where the
 * guest looks without one. It would be read for each slot at boot.
 */
static void add_slot(struct aml *out, unsigned slot)
{
	char name[5];
	size_t method, dev = aml_device(out, slot_name(slot, name));

	aml_name_int(out, "_ADR", slot << 16);
	aml_name_int(out, "_SUN", slot);
	method = aml_method(out, "_EJ0", 1);
	aml_op(out, AML_STORE);
	aml_int(out, 1u << slot);
	aml_path(out, "HPEJ");
	aml_end(out, method);
	aml_end(out, dev);
}

/* If (Local & bit) { Notify(slot, what) }, for each slot. */
static void notify_slots(struct aml *out, uint32_t slots, unsigned local, unsigned what)
{
	size_t any = aml_if(out), one;
	char name[5];

	aml_local(out, local);
	for (unsigned slot = 0; slot < LAYOUT_PCI_SLOTS; slot++) {
		if (!(slots >> slot & 1))
			continue;
		one = aml_if(out);
		aml_op(out, AML_AND);
		aml_local(out, local);
		aml_int(out, 1u << slot);
		aml_int(out, 0); /* the result goes nowhere else */
		aml_op(out, AML_NOTIFY);
		aml_path(out, slot_name(slot, name));
		aml_int(out, what);
		aml_end(out, one);
	}
	aml_end(out, any);
}

static void add_hotplug(struct tables *t)
{
	struct aml *out = &t->out;
	size_t field, method;

	aml_region_io(out, "HPRG", LAYOUT_PORT_HOTPLUG, 12);
	field = aml_field_dwords(out, "HPRG");
	aml_field_unit(out, "HPCK", 32);
	aml_field_unit(out, "HPAS", 32);
	aml_field_unit(out, "HPEJ", 32);
	aml_end(out, field);
	for (unsigned slot = 0; slot < LAYOUT_PCI_SLOTS; slot++)
		if (t->slots >> slot & 1)
			add_slot(out, slot);
	method = aml_method(out, "HPNT", 0);
	aml_op(out, AML_STORE);
	aml_path(out, "HPCK");
	aml_local(out, 0);
	aml_op(out, AML_STORE);
	aml_path(out, "HPAS");
	aml_local(out, 1);
	/* What goes goes first: something else may have come in its place. */
	notify_slots(out, t->slots, 1, NOTIFY_EJECT);
	notify_slots(out, t->slots, 0, NOTIFY_CHECK);
	aml_end(out, method);
}

/* The event is a level, down again when both registers have been read (§5.6.4.1: _Lxx). */
void acpi_add_events(struct tables *t)
{
	size_t scope = aml_scope(&t->out, "\\_GPE"), method;
	char name[5];

	snprintf(name, sizeof(name), "_L%02X", LAYOUT_GPE_HOTPLUG);
	method = aml_method(&t->out, name, 0);
	aml_path(&t->out, "\\_SB.PCI0.HPNT");
	aml_end(&t->out, method);
	aml_end(&t->out, scope);
}

/* --- the bus ---------------------------------------------------------------------------------- */

void acpi_add_pci(struct tables *t)
{
	size_t dev = aml_device(&t->out, "PCI0");

	aml_name_eisaid(&t->out, "_HID", "PNP0A08");
	aml_name_eisaid(&t->out, "_CID", "PNP0A03");
	aml_name_int(&t->out, "_UID", 0);
	add_pci_windows(t);
	add_pci_routes(t);
	add_hotplug(t);
	aml_end(&t->out, dev);
}
