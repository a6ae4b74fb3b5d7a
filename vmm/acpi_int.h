/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_ACPI_INT_H
#define FV_VMM_ACPI_INT_H
/* Inside the ACPI tables: what acpi.c and acpi_pci.c share. Others have boot.h. */
#include "vmm/aml.h"
#include "vmm/gmem.h"

/* The tables while they are written: @out.data stands at guest address @gpa. */
struct tables {
	struct aml out;
	uint32_t gpa;
	const struct gmem *mem;
	unsigned cpus;
	uint32_t slots; /* that can be plugged hot */
};

/* \_SB.PCI0 (§6.2, §6.4; PCI Firmware 3.2 §4) and, in it, what handles hotplug. */
void acpi_add_pci(struct tables *t);
/* \_GPE: handlers of general purpose events (§5.6.4.1). */
void acpi_add_events(struct tables *t);

#endif
