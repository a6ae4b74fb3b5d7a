// SPDX-License-Identifier: ISC
/*
 * Disks that come and go while there is a guest (hotplug.h). A disk's place in the
 * configuration is its slot on the bus.
 *
 * Coming: the disk is opened, its device made beside the running vcpus, and shown. Going: the
 * guest is asked, and nobody waits for it; when it has let go, or at the next
 * reset, or when it is forced, the device and then the disk end here on the control thread.
 * A guest without ACPI hotplug cannot be asked: then a disk goes that no driver uses.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOG_MODULE "control"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm/control_int.h"
#include "vmm/hotplug.h"
#include "vmm/virtio.h"
#include "vmm/virtio_blk.h"

static unsigned slot_of(unsigned place)
{
	return PCI_SLOT_DISKS + place;
}

/* --- coming ----------------------------------------------------------------------------------- */

static int show(struct control *c, struct disk *disk, unsigned place, struct err *err)
{
	int ret = virtio_blk_attach(&c->vm, disk, slot_of(place), err);

	if (ret < 0)
		return ret;
	/* In a machine that stands still it stands still with the others. */
	if (c->vm.life->devices_paused)
		disk->device->ops->pause(disk->device);
	c->config.disks[place] = disk;
	hotplug_show(&c->vm, slot_of(place));
	return 0;
}

/* A free one whose slot no nic has. */
static int find_place(const struct control *c, struct err *err)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++)
		if (!c->config.disks[i] && !c->vm.pci->taken[slot_of(i)])
			return (int)i;
	return err_set(err, -ENOSPC, "no PCI slot is free");
}

int control_hotplug_attach(struct control *c, struct request *req, struct reply *reply,
			   struct err *err)
{
	static const char words[] = NO_HOTPLUG ": it finds the disk when it is told to look "
					       "(echo 1 > /sys/bus/pci/rescan) or boots again";
	int place = find_place(c, err), ret;
	struct disk *disk;

	if (place < 0)
		return place;
	ret = control_disk_make(c, req, &disk, err);
	if (ret < 0)
		return ret;
	ret = show(c, disk, (unsigned)place, err);
	if (ret < 0) {
		disk_close(disk);
		return ret;
	}
	if (!hotplug_heard(&c->vm, slot_of((unsigned)place)))
		reply_put(reply, words, sizeof(words));
	return 0;
}

/* --- going ------------------------------------------------------------------------------------ */

/* Its device is off the bus. Waits for what is under way. @words are for the daemon. */
static void end_disk(struct control *c, unsigned place, const char *words)
{
	struct disk *disk = take_ptr(c->config.disks[place]);
	struct device *dev = disk->device;
	char name[VMM_NAME_MAX];

	memcpy(name, disk->name, sizeof(name));
	device_remove(dev);
	dev->ops->destroy(dev);
	disk_close(disk);
	hotplug_done(&c->vm, slot_of(place));
	control_disk_tell(c, name, VMM_DISK_DETACHED, 0, words);
}

/*
 * Has no driver begun with it, or has it been reset since? Then its queues are nobody's. (Linux
 * acknowledges a device again that its driver has left.)
 */
static bool unused(const struct disk *disk)
{
	struct virtio_device *dev = (struct virtio_device *)disk->device;

	LOCK_SCOPE(&dev->lock);
	return !(dev->status & (VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK));
}

static int ask(struct control *c, const struct disk *disk, unsigned place, struct err *err)
{
	if (hotplug_heard(&c->vm, slot_of(place)))
		return hotplug_ask(&c->vm, slot_of(place), err);
	return err_set(err, -EOPNOTSUPP,
		       NO_HOTPLUG ": have it let go of disk %s itself (echo 1 > "
				  "/sys/bus/pci/devices/0000:00:%02x.0/remove) and detach again",
		       disk->name, slot_of(place));
}

static int take(struct control *c, struct disk *disk, unsigned place, struct err *err)
{
	if (disk->job)
		return err_set(err, -EBUSY, "disk %s is being changed", disk->name);
	hotplug_take(&c->vm, slot_of(place));
	end_disk(c, place, "");
	return 0;
}

static int find(const struct control *c, const char *name)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++)
		if (c->config.disks[i] && strcmp(c->config.disks[i]->name, name) == 0)
			return (int)i;
	return -ENOENT;
}

int control_hotplug_detach(struct control *c, struct request *req, struct reply *reply,
			   struct err *err)
{
	char name[VMM_NAME_MAX];
	struct vmm_disk_detach m;
	struct disk *disk;
	int place;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	copy_text(name, m.name, sizeof(name));
	place = find(c, name);
	if (place < 0)
		return err_set(err, place, "there is no disk %s", name);
	disk = c->config.disks[place];
	if (m.force || (!hotplug_heard(&c->vm, slot_of((unsigned)place)) && unused(disk)))
		return take(c, disk, (unsigned)place, err);
	return ask(c, disk, (unsigned)place, err);
}

/* One that a job works on ends when that is over: its end wakes us. */
void control_hotplug_look(struct control *c)
{
	uint32_t ejected = c->has_vm ? hotplug_ejected(&c->vm) : 0;
	uint32_t asked = ejected ? hotplug_asked(&c->vm) : 0;

	for (unsigned i = 0; i < nitems(c->config.disks) && ejected; i++)
		if (ejected >> slot_of(i) & 1 && c->config.disks[i] && !c->config.disks[i]->job)
			end_disk(c, i, asked >> slot_of(i) & 1 ? "" : "the guest let go of it");
	control_nic_look(c);
}

void control_hotplug_reset(struct control *c)
{
	uint32_t going = c->has_vm ? hotplug_ejected(&c->vm) | hotplug_asked(&c->vm) : 0;

	for (unsigned i = 0; i < nitems(c->config.disks) && going; i++) {
		struct disk *disk = c->config.disks[i];

		if (!(going >> slot_of(i) & 1) || !disk)
			continue;
		disk_settle(disk);
		control_disks_look(c); /* its job has an answer to give */
		hotplug_take(&c->vm, slot_of(i));
		end_disk(c, i, "");
	}
	control_nic_reset(c);
}
