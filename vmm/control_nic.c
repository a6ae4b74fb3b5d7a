// SPDX-License-Identifier: ISC
/* Requests about network cards: src/vmm_proto.h, VMM_NIC…. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "vmm/control_int.h"
#include "vmm/virtio_net.h"

_Static_assert(VMM_NIC_QUEUES_MAX == NET_QUEUES_MAX, "queues of a card");
_Static_assert((int)VMM_NIC_TAP == NIC_TAP && (int)VMM_NIC_STREAM == NIC_STREAM, "kinds of ports");
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

void control_nic_free(struct nic_config *nic)
{
	if (!nic)
		return;
	for (unsigned i = 0; i < nic->n_fds; i++)
		close(nic->fds[i]);
	free(nic);
}

static int check(const struct control *c, const struct vmm_nic *m, const char *name,
		 const struct request *req, struct err *err)
{
	if (control_nic_place(c, name) >= 0)
		return err_set(err, -EEXIST, "there is a network card %s already", name);
	if (m->kind > VMM_NIC_STREAM || (m->kind == VMM_NIC_STREAM && req->n_fds != 1))
		return err_set(err, -EINVAL, "network card %s: no such kind of port", name);
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
	nic->kind = (enum nic_kind)m.kind;
	nic->limits = limits_of(&m.limits);
	for (size_t i = 0; i < req->n_fds; i++)
		nic->fds[nic->n_fds++] = take_fd(&req->fds[i]);
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
	virtio_net_set_link(dev, config->link);
	virtio_net_set_limits(dev, &config->limits);
	return 0;
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
