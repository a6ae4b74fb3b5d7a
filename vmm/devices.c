// SPDX-License-Identifier: ISC
/*
 * The one list of devices. A new one is a .c file that ends in its struct
 * device_ops, a row here, and a test beside the others in tests/unit/vmm.
 */
#include <stddef.h>

#include "vmm/devices.h"
#include "vmm/hotplug.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"
#include "vmm/vmgenid.h"

const struct device_ops *const devices[] = {
    &serial_device,
    &i8042_device,
    &rtc_device,
    &pm_device,
    &vmgenid_device,
    &pci_host_device,
    &virtio_console_device,
    &virtio_rng_device,
    &virtio_blk_device,
    &virtio_net_device,
    &virtio_vsock_device,
    &hotplug_device, /* last: what comes after it is plugged in hot */
    NULL,
};
