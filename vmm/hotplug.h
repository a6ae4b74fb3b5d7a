/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_HOTPLUG_H
#define FV_VMM_HOTPLUG_H
/*
 * PCI hotplug through ACPI (ACPI 6.4 §5.6.6, §6.3): devices come to slots of the
 * bus and go from them while the guest runs.
 *
 * The guest sees, at LAYOUT_PORT_HOTPLUG, three registers of 32 bits, a bit for each
 * slot; only whole ones can be accessed:
 *
 *	0  check   r   slots where something has come; reading clears it
 *	4  ask     r   slots whose device is to go, or is torn out; reading clears it
 *	8  eject    w  ones: the guest has let go of these
 *
 * As long as check or ask is not 0, general purpose event LAYOUT_GPE_HOTPLUG is up. The
 * DSDT (acpi_pci.c) has its method, which reads both and notifies the slots (device
 * check, eject request: §5.6.6 table 5.188), and each slot's _EJ0, which writes `eject`.
 *
 * Who has made a device on the control thread while the machine exists lets it show with
 * hotplug_show(). To have it away: hotplug_ask(); then, when vm_wake() was called,
 * hotplug_ejected() says that it is off the bus, or it is taken at once: hotplug_take().
 * In either case it is then destroyed, and hotplug_done() called, before the slot is used again.
 */
#include "vmm/device.h"
#include "vmm/layout.h"
#include "vmm/pci.h"

/*
 * The slots that the DSDT has of a machine made of @config, a bit each: those of its disks and
 * nics, and some for more to come. Not all there are: Linux takes 150,000 instructions for each
 * at boot, which is time where a host interprets them. What is plugged in elsewhere is found when
 * the guest looks for it.
 */
uint32_t hotplug_slots(const struct vm_config *config);

/* The following on the control thread. */

/* Lets the device in @slot show, and tells the guest. */
void hotplug_show(struct vm *vm, unsigned slot);
/*
 * Has the guest switched on the event, and does @slot have one? Where not, it sees what comes only
 * when it looks itself.
 */
bool hotplug_heard(struct vm *vm, unsigned slot);
/*
 * Asks the guest to let go of @slot. -EOPNOTSUPP with words where it would not hear
 * of it. May be asked again and again.
 */
int hotplug_ask(struct vm *vm, unsigned slot, struct err *err);
/* Slots that were asked for and are not done, a bit each. */
uint32_t hotplug_asked(struct vm *vm);
/* Slots that the guest has let go of, asked or not, and that are not done: off the bus. */
uint32_t hotplug_ejected(struct vm *vm);
/*
 * Takes @slot off the bus whatever the guest does. It is asked to let go of what is not there any
 * more: a driver that had it ends then. The eject that this leads to does nothing.
 */
void hotplug_take(struct vm *vm, unsigned slot);
/* What was in @slot is destroyed. */
void hotplug_done(struct vm *vm, unsigned slot);

extern const struct device_ops hotplug_device;

#endif
