/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_DEVICES_H
#define FV_VMM_DEVICES_H
/* The devices of a PC's board, which no other header speaks of. */
#include "vmm/device.h"

extern const struct device_ops serial_device; /* COM1: 16550A */
extern const struct device_ops i8042_device;  /* no keyboard, but its reset line */
extern const struct device_ops rtc_device;    /* MC146818: time and NVRAM */
extern const struct device_ops pm_device;     /* ACPI fixed registers */

/*
 * The source of general purpose event @gpe (0 to 15) of @pm, which is pm_device's, is up or down;
 * the guest is interrupted for it as long as it has it enabled. Any thread.
 */
void pm_gpe_set(struct device *pm, unsigned gpe, bool level);
/* Has the guest ever enabled it since power-on? Any thread. */
bool pm_gpe_used(struct device *pm, unsigned gpe);

#endif
