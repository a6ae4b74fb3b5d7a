// SPDX-License-Identifier: ISC
/* Requests about network cards: src/vmm_proto.h, VMM_NIC…. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "vmm/control_int.h"
#include "vmm/virtio_net.h"

#define VLAN_MAX     4094
#define LINK_DOWN_MS 1000 /* a guest that looks at its cable now and then sees that it was out */

_Static_assert(VMM_NIC_QUEUES_MAX == NET_QUEUES_MAX, "queues of a card");
_Static_assert((int)VMM_NIC_TAP == NIC_TAP && (int)VMM_NIC_STREAM == NIC_STREAM &&
		   (int)VMM_NIC_NONE == NIC_NONE,
	       "kinds of ports");
_Static_assert(VMM_NIC_QUEUES_MAX <= VMM_MSG_FDS, "they come in one packet");

static struct nic_limits limits_of(const struct vmm_nic_limits *m)
{
	struct nic_limits limits;

	for (unsigned i = 0; i < NIC_DIRECTIONS; i++) {
		limits.frames[i] = (struct nic_rate){m->packets[i].per_s, m->packets[i].burst};
		limits.bytes[i] = (struct nic_rate){m->bytes[i].per_s, m->bytes[i].burst};
	}
	return limits;
}

static void close_cable(struct nic_cable *cable)
{
	while (cable->n_fds)
		close(cable->fds[--cable->n_fds]);
}

static void take_cable(struct nic_cable *cable, uint32_t kind, uint32_t vlan, struct request *req)
{
	*cable = (struct nic_cable){.kind = (enum nic_kind)kind, .vlan = vlan};
	for (size_t i = 0; i < req->n_fds; i++)
		cable->fds[cable->n_fds++] = take_fd(&req->fds[i]);
}

void control_nic_free(struct nic_config *nic)
{
	if (!nic)
		return;
	close_cable(&nic->cable);
	free(nic);
}

static int check(const struct control *c, const struct vmm_nic *m, const char *name,
		 const struct request *req, struct err *err)
{
	if (control_nic_place(c, name) >= 0)
		return err_set(err, -EEXIST, "there is a network card %s already", name);
	if (m->kind > VMM_NIC_STREAM || (m->kind == VMM_NIC_STREAM && req->n_fds != 1))
		return err_set(err, -EINVAL, "network card %s: no such kind of port", name);
	if (m->vlan > VLAN_MAX)
		return err_set(err, -ERANGE, "network card %s: a VLAN %u", name, m->vlan);
	if (m->mtu && (m->mtu < NET_MTU_MIN || m->mtu > NET_MTU_MAX))
		return err_set(err, -ERANGE, "network card %s: an MTU of %u", name, m->mtu);
	if (net_mac_is_group(m->mac))
		return err_set(err, -EINVAL, "network card %s: its address is a group's", name);
	return 0;
}

int control_nic_place(const struct control *c, const char *name)
{
	for (unsigned i = 0; i < nitems(c->config.nics); i++)
		if (c->config.nics[i] && strcmp(c->config.nics[i]->name, name) == 0)
			return (int)i;
	return -ENOENT;
}

/* For the start. */
static int put(struct control *c, struct nic_config *nic, struct err *err)
{
	for (unsigned i = 0; i < nitems(c->config.nics); i++) {
		if (c->config.nics[i])
			continue;
		c->config.nics[i] = nic;
		return 0;
	}
	return err_set(err, -ENOSPC, "more than %d network cards", VMM_NICS_MAX);
}

int control_nic_add(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct nic_config *nic;
	struct vmm_nic m;
	char name[VMM_NAME_MAX];
	int ret;

	memcpy(&m, req->body, sizeof(m));
	copy_text(name, m.name, sizeof(name));
	ret = check(c, &m, name, req, err);
	if (ret < 0)
		return ret;
	nic = calloc(1, sizeof(*nic));
	if (!nic)
		return err_set(err, -ENOMEM, "no memory");
	memcpy(nic->name, name, sizeof(nic->name));
	memcpy(nic->mac, m.mac, sizeof(nic->mac));
	nic->mtu = m.mtu;
	nic->link = m.link;
	nic->limits = limits_of(&m.limits);
	take_cable(&nic->cable, m.kind, m.vlan, req);
	ret = c->state == VMM_STATE_NEW ? put(c, nic, err) : control_nic_attach(c, nic, reply, err);
	if (ret < 0)
		control_nic_free(nic);
	return ret;
}

static int find(struct control *c, const char *from, struct nic_config **config,
		struct device **dev, struct err *err)
{
	char name[VMM_NAME_MAX];
	int place;

	copy_text(name, from, sizeof(name));
	place = control_nic_place(c, name);
	*dev = c->has_vm ? virtio_net_find(&c->vm, name) : NULL;
	if (place < 0 || !*dev)
		return err_set(err, -ENOENT, "there is no network card %s", name);
	*config = c->config.nics[place];
	return 0;
}

/* Also for the lives after the next resets. */
int control_nic_set(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct nic_config *config;
	struct vmm_nic_set m;
	struct device *dev;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	ret = find(c, m.name, &config, &dev, err);
	if (ret < 0)
		return ret;
	config->link = m.link;
	config->limits = limits_of(&m.limits);
	if (!config->moved || !config->link)
		virtio_net_set_link(dev, config->link);
	virtio_net_set_limits(dev, &config->limits);
	virtio_net_addresses_tell(dev);
	control_nic_tell_stranger(c, config);
	return 0;
}

/* --- the other end -------------------------------------------------------------------------------
 */

int control_nic_cable(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct nic_config *config;
	struct vmm_nic_cable m;
	struct nic_cable cable;
	struct device *dev;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	ret = find(c, m.name, &config, &dev, err);
	if (ret < 0)
		return ret;
	if (m.kind > VMM_NIC_NONE || m.vlan > VLAN_MAX || (m.kind == VMM_NIC_NONE) != !req->n_fds)
		return err_set(err, -EINVAL, "network card %s: no such port", config->name);
	take_cable(&cable, m.kind, m.vlan, req);
	ret = virtio_net_set_cable(dev, &cable, c->vm.life->devices_paused, err);
	if (ret < 0) {
		close_cable(&cable);
		return ret;
	}
	close_cable(&config->cable);
	config->cable = cable;
	config->link = m.link;
	config->moved = true;
	virtio_net_addresses_forget(dev);
	virtio_net_set_link(dev, false);
	c->links_at = control_now_ms() + LINK_DOWN_MS;
	return 0;
}

void control_nic_links(struct control *c)
{
	struct device *dev;

	c->links_at = 0;
	for (unsigned i = 0; c->has_vm && i < nitems(c->config.nics); i++) {
		struct nic_config *nic = c->config.nics[i];

		dev = nic ? virtio_net_find(&c->vm, nic->name) : NULL;
		if (dev)
			virtio_net_set_link(dev, nic->link);
		if (nic)
			nic->moved = false;
	}
}

/* --- what guests say ---------------------------------------------------------------------------
 */

bool control_nic_news(struct control *c, struct vmm_nic_news *news)
{
	struct net_sender sender;

	for (unsigned i = 0; c->has_vm && i < nitems(c->config.nics); i++) {
		const struct nic_config *nic = c->config.nics[i];
		struct device *dev = nic ? virtio_net_find(&c->vm, nic->name) : NULL;

		if (!dev || !virtio_net_address_untold(dev, &sender))
			continue;
		*news = (struct vmm_nic_news){.what = VMM_NIC_ADDRESS, .len = sender.len};
		memcpy(news->name, nic->name, sizeof(news->name));
		memcpy(news->addr, sender.addr, sizeof(news->addr));
		return true;
	}
	return false;
}

void control_nic_told(struct control *c, const struct vmm_nic_news *news)
{
	struct device *dev = virtio_net_find(&c->vm, news->name);
	struct net_sender sender = {.len = news->len};

	memcpy(sender.addr, news->addr, sizeof(sender.addr));
	if (dev)
		virtio_net_address_told(dev, &sender);
}

int control_nic_capture(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	struct vmm_nic_capture m;
	struct nic_config *config;
	struct device *dev;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	ret = find(c, m.name, &config, &dev, err);
	if (ret < 0)
		return ret;
	return virtio_net_capture(dev, req->n_fds ? take_fd(&req->fds[0]) : -1, m.limit_bytes, err);
}

void control_nics_close(struct control *c)
{
	for (unsigned i = 0; i < nitems(c->config.nics); i++)
		control_nic_free(take_ptr(c->config.nics[i]));
}
