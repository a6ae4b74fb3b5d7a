/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VMGENID_H
#define FV_VMM_VMGENID_H
/*
 * The VM generation ID (Microsoft, "Virtual Machine Generation ID"): 16 bytes in guest memory, by
 * which a guest learns that it is another one now, with the memory of the first: it then
 * must not go on with the same random numbers. They stay the same over resets and a plain load.
 */
#include "vmm/acpi_int.h"
#include "vmm/device.h"

#define VMGENID_BYTES 16

/* A new machine's, made up. */
void vmgenid_make(uint8_t id[VMGENID_BYTES]);
/* Of a machine that boots: the id goes to where the tables say that it is. */
void vmgenid_place(struct vm *vm);
/* Another guest goes on from here: it gets @id, and is told. Everything stands still. */
void vmgenid_renew(struct vm *vm, const uint8_t id[VMGENID_BYTES]);
/* What the guest has; of a state that was loaded, that one's. */
void vmgenid_get(struct vm *vm, uint8_t id[VMGENID_BYTES]);

/* Its device, under \_SB, and its event. */
void vmgenid_add_device(struct tables *t);
void vmgenid_add_event(struct tables *t);

extern const struct device_ops vmgenid_device;

#endif
