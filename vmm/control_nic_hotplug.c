// SPDX-License-Identifier: ISC
/*
 * Network cards that come and go while there is a guest, as disks do (control_hotplug.c): a
 * card's place in the configuration is its slot on the bus, counted from the last downward.
 *
 * A card that the guest is asked for stays plugged into its network until it has let go.
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
#include "vmm/virtio_net.h"

static unsigned slot_of(unsigned place)
{
	return PCI_SLOT_NICS - place;
}

/* --- coming ----------------------------------------------------------------------------------- */

/* A free one whose slot no disk has. */
static int find_place(const struct control *c, struct err *err)
{
	for (unsigned i = 0; i < nitems(c->config.nics); i++)
		if (!c->config.nics[i] && !c->vm.pci->taken[slot_of(i)])
			return (int)i;
	return err_set(err, -ENOSPC, "no PCI slot is free");
}

int control_nic_attach(struct control *c, struct nic_config *nic, struct reply *reply,
		       struct err *err)
{
	static const char words[] = NO_HOTPLUG ": it finds the card when it is told to look "
					       "(echo 1 > /sys/bus/pci/rescan) or boots again";
	int place = find_place(c, err), ret;
	struct device *dev;

	if (place < 0)
		return place;
	ret = virtio_net_attach(&c->vm, nic, slot_of((unsigned)place), err);
	if (ret < 0)
		return ret;
	dev = virtio_net_find(&c->vm, nic->name);
	/* In a machine that stands still it stands still with the others. */
	if (c->vm.life->devices_paused)
		dev->ops->pause(dev);
	c->config.nics[place] = nic;
	hotplug_show(&c->vm, slot_of((unsigned)place));
	if (!hotplug_heard(&c->vm, slot_of((unsigned)place)))
		reply_put(reply, words, sizeof(words));
	return 0;
}

/* --- going ------------------------------------------------------------------------------------ */

static void tell(struct control *c, const char *name, const char *words)
{
	struct vmm_nic_event *event;

	if (c->conn_fd < 0)
		return;
	if (c->n_nic_events == nitems(c->nic_events)) {
		log_warn("too many events of network cards: that %s is gone is dropped", name);
		return;
	}
	event = &c->nic_events[c->n_nic_events++];
	*event = (struct vmm_nic_event){0};
	snprintf(event->name, sizeof(event->name), "%s", name);
	snprintf(event->text, sizeof(event->text), "%s", words);
}

/* Its device is off the bus. @words are for the daemon. */
static void end_nic(struct control *c, unsigned place, const char *words)
{
	struct nic_config *nic = take_ptr(c->config.nics[place]);
	struct device *dev = virtio_net_find(&c->vm, nic->name);

	device_remove(dev);
	dev->ops->destroy(dev);
	hotplug_done(&c->vm, slot_of(place));
	tell(c, nic->name, words);
	control_nic_free(nic);
}

/* --- a card that the guest knows by another's address -------------------------------------------
 *
 * A clone goes on from the memory of a guest that knows its card by the address of its original. A
 * driver asks for it once, when it finds a card. So the guest is asked to let go of the card, as
 * of one that is detached, and when it has, the card comes anew, with its own address and all
 * that hangs on it. Until then its cable is out: there must not be two with one address.
 */

static void tell_news(struct control *c, const char *name, enum vmm_nic_what what)
{
	struct vmm_nic_news *news;

	if (c->n_nic_news == nitems(c->nic_news)) /* nobody takes them */
		return;
	news = &c->nic_news[c->n_nic_news++];
	*news = (struct vmm_nic_news){.what = what};
	snprintf(news->name, sizeof(news->name), "%s", name);
}

/* It may have been let go of, or its place given away. */
static bool is_stranger(struct control *c, unsigned place)
{
	const struct nic_config *nic = c->config.nics[place];
	struct device *dev = nic ? virtio_net_find(&c->vm, nic->name) : NULL;

	return dev && virtio_net_is_stranger(dev);
}

void control_nic_tell_stranger(struct control *c, const struct nic_config *nic)
{
	int place = control_nic_place(c, nic->name);

	if (nic->renew && place >= 0)
		tell_news(c, nic->name,
			  hotplug_asked(&c->vm) >> slot_of((unsigned)place) & 1 ? VMM_NIC_ASKED
										: VMM_NIC_STRANGER);
}

void control_nics_renew(struct control *c)
{
	for (unsigned i = 0; i < nitems(c->config.nics); i++) {
		struct nic_config *nic = c->config.nics[i];
		struct err err = ERR_INIT;

		if (!is_stranger(c, i))
			continue;
		nic->renew = true;
		if (hotplug_heard(&c->vm, slot_of(i)) && hotplug_ask(&c->vm, slot_of(i), &err) < 0)
			log_warn("network card %s: %s", nic->name, err.text);
		virtio_net_cut(virtio_net_find(&c->vm, nic->name));
		control_nic_tell_stranger(c, nic);
	}
}

/* The guest has let go of it. */
static void renew_nic(struct control *c, unsigned place)
{
	struct nic_config *nic = c->config.nics[place];
	struct device *dev = virtio_net_find(&c->vm, nic->name);
	struct err err = ERR_INIT;

	device_remove(dev);
	dev->ops->destroy(dev);
	hotplug_done(&c->vm, slot_of(place));
	nic->renew = false;
	if (virtio_net_attach(&c->vm, nic, slot_of(place), &err) < 0) {
		c->config.nics[place] = NULL;
		tell(c, nic->name, err.text);
		control_nic_free(nic);
		return;
	}
	if (c->vm.life->devices_paused)
		dev->ops->pause(virtio_net_find(&c->vm, nic->name));
	hotplug_show(&c->vm, slot_of(place));
	tell_news(c, nic->name, VMM_NIC_RENEWED);
}

/* --- going, by order ---------------------------------------------------------------------------
 */

/* As of disks: has no driver begun with it, or has it been reset since? */
static bool unused(struct control *c, const struct nic_config *nic)
{
	struct virtio_device *dev = (struct virtio_device *)virtio_net_find(&c->vm, nic->name);

	LOCK_SCOPE(&dev->lock);
	return !(dev->status & (VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK));
}

static int ask(struct control *c, const struct nic_config *nic, unsigned place, struct err *err)
{
	if (hotplug_heard(&c->vm, slot_of(place)))
		return hotplug_ask(&c->vm, slot_of(place), err);
	return err_set(err, -EOPNOTSUPP,
		       NO_HOTPLUG ": have it let go of network card %s itself (echo 1 > "
				  "/sys/bus/pci/devices/0000:00:%02x.0/remove) and detach again",
		       nic->name, slot_of(place));
}

int control_nic_detach(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	char name[VMM_NAME_MAX];
	struct vmm_nic_detach m;
	int place;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	copy_text(name, m.name, sizeof(name));
	place = control_nic_place(c, name);
	if (place < 0 || !c->has_vm)
		return err_set(err, -ENOENT, "there is no network card %s", name);
	c->config.nics[place]->renew = false;
	if (!m.force &&
	    (hotplug_heard(&c->vm, slot_of((unsigned)place)) || !unused(c, c->config.nics[place])))
		return ask(c, c->config.nics[place], (unsigned)place, err);
	hotplug_take(&c->vm, slot_of((unsigned)place));
	end_nic(c, (unsigned)place, "");
	return 0;
}

void control_nic_look(struct control *c)
{
	uint32_t ejected = c->has_vm ? hotplug_ejected(&c->vm) : 0;
	uint32_t asked = ejected ? hotplug_asked(&c->vm) : 0;

	for (unsigned i = 0; i < nitems(c->config.nics) && ejected; i++)
		if (ejected >> slot_of(i) & 1 && c->config.nics[i] && c->config.nics[i]->renew)
			renew_nic(c, i);
		else if (ejected >> slot_of(i) & 1 && c->config.nics[i])
			end_nic(c, i, asked >> slot_of(i) & 1 ? "" : "the guest let go of it");
}

/* A card that is to come anew does, by the reset itself. */
static void reset_renewed(struct control *c)
{
	for (unsigned i = 0; i < nitems(c->config.nics); i++) {
		if (!c->config.nics[i] || !c->config.nics[i]->renew)
			continue;
		c->config.nics[i]->renew = false;
		tell_news(c, c->config.nics[i]->name, VMM_NIC_RENEWED);
	}
}

void control_nic_reset(struct control *c)
{
	uint32_t going = c->has_vm ? hotplug_ejected(&c->vm) | hotplug_asked(&c->vm) : 0;
	uint32_t renewed = 0;

	for (unsigned i = 0; i < nitems(c->config.nics); i++)
		if (c->config.nics[i] && c->config.nics[i]->renew)
			renewed |= 1u << slot_of(i);
	reset_renewed(c);
	going &= ~renewed;
	for (unsigned i = 0; i < nitems(c->config.nics) && going; i++) {
		if (!(going >> slot_of(i) & 1) || !c->config.nics[i])
			continue;
		hotplug_take(&c->vm, slot_of(i));
		end_nic(c, i, "");
	}
}
