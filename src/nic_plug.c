// SPDX-License-Identifier: ISC
/*
 * The network's end of a guest's cable: a tap in its bridge with rules against spoofing, an
 * address and a name; a macvtap over its interface; or a process of passt.
 */
#define LOG_MODULE "network"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/rights.h"

#define QUEUES_AUTO 4

/* --- may it? -------------------------------------------------------------------------------------
 */

static bool in_group(const struct machine_access *who, gid_t gid)
{
	_cleanup_free_ gid_t *groups = NULL;
	size_t n = 0;

	if (who->gid == gid)
		return true;
	if (rights_groups(who->uid, who->gid, &groups, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* The machine's owner may search the network's directory. */
static int may_connect(struct network *network, struct machine *m, struct err *err)
{
	struct machine_access who, access;
	mode_t bit;

	machine_access_get(m, &who);
	network_access_get(network, &access);
	bit = who.uid == access.uid ? S_IXUSR : in_group(&who, access.gid) ? S_IXGRP : S_IXOTH;
	if (who.uid == 0 || (access.mode & bit))
		return 0;
	return err_set(err, -EACCES, "its owner (uid %u) may not search the network %s",
		       (unsigned)who.uid, network->name);
}

/* --- taps ----------------------------------------------------------------------------------------
 */

static unsigned queues_of(struct machine *m, const struct nic *nic)
{
	struct definition *def = machine_definition(m);
	uint64_t cpus = def->values.cpus, n = nic->values.queues;

	definition_put(def);
	if (n == 0)
		n = cpus < QUEUES_AUTO ? cpus : QUEUES_AUTO;
	return n < 1 ? 1 : n > VMM_NIC_QUEUES_MAX ? VMM_NIC_QUEUES_MAX : (unsigned)n;
}

static uint32_t tap_hash(const struct machine *m, const char *nic)
{
	uint32_t hash = 2166136261u;

	for (const char *p = m->id; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	for (const char *p = nic; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	return hash;
}

/* A name that nobody has: what comes of the machine and the card, or what follows it. */
static int make_tap(struct machine *m, const struct nic *nic, struct nic_plug *plug,
		    unsigned queues, struct err *err)
{
	uint32_t hash = tap_hash(m, nic->name);
	int r = -EBUSY;

	for (unsigned i = 0; r == -EBUSY && i < NETWORK_TRY_MAX; i++) {
		struct host_link link;

		snprintf(plug->tap, sizeof(plug->tap), "fvt%08x", hash + i);
		r = host_link_find(plug->tap, 0, &link) == 0
			? err_set(err, -EBUSY, "the interface %s is there", plug->tap)
			: host_tap_make(plug->tap, queues, plug->fds, err);
	}
	if (r < 0)
		*plug->tap = '\0';
	else
		plug->n_fds = queues;
	return r;
}

static void close_plug(struct nic_plug *plug)
{
	for (unsigned i = 0; i < plug->n_fds; i++)
		close(plug->fds[i]);
	plug->n_fds = 0;
}

/* Two of one address cannot be up over an interface: more queues of the one that there is. */
static int share_macvtap(struct network *network, struct nic_plug *plug, unsigned queues,
			 struct err *err)
{
	int r = host_macvtap_open(plug->replaces, queues, network->model->networks->run_dir,
				  plug->fds, err);

	if (r < 0)
		return r;
	strcpy(plug->tap, plug->replaces);
	plug->n_fds = queues;
	return 0;
}

/*
 * A macvtap over the network's interface, with the card's own address: what is for others is not
 * heard. It stays when its descriptors are closed, so it bears our alias at once.
 */
static int make_macvtap(struct network *network, const struct network_values *values,
			const struct network_port *port, struct nic_plug *plug, const char *alias,
			unsigned queues, struct err *err)
{
	struct host_link_new new = {.kind = HOST_MACVTAP,
				    .name = plug->tap,
				    .alias = alias,
				    .mac = port->mac,
				    .isolated = values->guests_separate};
	int index, r = -EEXIST;

	pthread_mutex_lock(&network->lock);
	new.lower = network->bridge_index;
	pthread_mutex_unlock(&network->lock);
	for (unsigned i = 0; r == -EEXIST && i < NETWORK_TRY_MAX; i++) {
		snprintf(plug->tap, sizeof(plug->tap), "fvt%08x", tap_hash(port->m, port->nic) + i);
		/* its name is free where it has vanished, but it is yet to be pulled out by that */
		if (strcmp(plug->tap, plug->replaces) != 0)
			r = host_link_make(&new, err);
	}
	if (r == -EOPNOTSUPP || r == -ENODEV)
		err_set(
		    err, -EOPNOTSUPP,
		    "this kernel has no macvtap: make a bridge with %s as a port, and name that",
		    values->interface);
	index = r;
	if (r >= 0)
		r = host_macvtap_open(plug->tap, queues, network->model->networks->run_dir,
				      plug->fds, err);
	if (r == 0) {
		plug->n_fds = queues;
		return 0;
	}
	if (index >= 0)
		host_link_remove(index, NULL);
	*plug->tap = '\0';
	return r == -ENODEV ? -EOPNOTSUPP : r;
}

/* --- VLANs ---------------------------------------------------------------------------------------
 */

int nic_vlan(const struct network_values *values, const struct nic *nic, unsigned *vlan,
	     struct err *err)
{
	*vlan = (unsigned)(nic->values.vlan ? nic->values.vlan : values->vlan);
	if (!*vlan || values->mode == MODE_BRIDGE || values->mode == MODE_ISOLATED)
		return 0;
	return err_set(err, -EOPNOTSUPP,
		       "a VLAN's frames do not reach the host of a network of mode nat, route or "
		       "user: it takes one of mode bridge or isolated");
}

/* By its bridge where that knows of VLANs, else by tags that the VMM puts on. */
static int set_vlan(struct network *network, unsigned vlan, struct nic_plug *plug,
		    struct network_port *port)
{
	struct host_link bridge;
	int index;

	pthread_mutex_lock(&network->lock);
	index = network->bridge_index;
	pthread_mutex_unlock(&network->lock);
	if (host_link_find(NULL, index, &bridge) == 0 && bridge.vlan_filtering)
		port->pvid = vlan;
	else
		plug->vlan = port->vlan = vlan;
	return 0;
}

/* --- plugging in ---------------------------------------------------------------------------------
 */

static void told_address(struct machine *m, const char *nic)
{
	LOCK_SCOPE(&m->lock);
	machine_touch(m, ASPECT_NIC_ADDRESS, nic);
}

static int make_end(struct network *network, struct machine *m, const struct nic *nic,
		    const struct network_values *values, const struct network_port *port,
		    struct nic_plug *plug, const char *alias, struct err *err)
{
	bool direct;

	pthread_mutex_lock(&network->lock);
	direct = network->direct;
	pthread_mutex_unlock(&network->lock);
	if (direct && *plug->replaces && port_exists(network, plug->replaces))
		return share_macvtap(network, plug, queues_of(m, nic), err);
	return direct ? make_macvtap(network, values, port, plug, alias, queues_of(m, nic), err)
		      : make_tap(m, nic, plug, queues_of(m, nic), err);
}

/* Up only when rules know it. */
static int plug_tap(struct network *network, struct machine *m, const struct nic *nic,
		    const struct network_values *values, struct nic_plug *plug,
		    struct cancel *cancel, struct err *err)
{
	struct host_link_set up = {.up = 1, .master = -1};
	struct network_port port = {.m = m}, dropped;
	char alias[HOST_ALIAS_MAX], what[HOST_ALIAS_MAX];
	struct host_link link;
	unsigned vlan;
	int r;

	snprintf(what, sizeof(what), "card %s", nic->name);
	network_alias(network, what, alias);
	strcpy(port.nic, nic->name);
	r = nic_mac_parse(nic->values.mac, port.mac, err);
	if (r == 0)
		r = port_must_be_new(network, m, nic->name, port.mac, plug->replaces, err);
	if (r == 0)
		r = nic_vlan(values, nic, &vlan, err);
	if (r == 0 && vlan)
		r = lease_none(nic, err);
	if (r == 0 && vlan)
		r = set_vlan(network, vlan, plug, &port);
	else if (r == 0)
		r = lease_hold(network, m, nic, port.addr, err);
	if (r == 0)
		r = make_end(network, m, nic, values, &port, plug, alias, err);
	if (r < 0)
		return r;
	strcpy(port.tap, plug->tap);
	r = port_add(network, &port, err);
	if (r < 0)
		return r;
	r = port_join(network, &port, values->guests_separate, alias, plug->mtu, err);
	if (r == 0)
		r = ports_tell(network, cancel, err);
	if (r == 0)
		r = host_link_find(port.tap, 0, &link) < 0
			? err_set(err, -ENODEV, "%s has vanished", port.tap)
			: host_link_set(link.index, &up, err);
	if (r == 0)
		told_address(m, nic->name);
	else if (port_take(network, m, nic->name, port.tap, 0, &dropped))
		port_forget(network, &dropped);
	return r;
}

/* --- nic.h --------------------------------------------------------------------------------------
 */

/* Under work. */
static int plug_in(struct network *network, struct machine *m, const struct nic *nic,
		   struct nic_plug *plug, struct cancel *cancel, struct err *err)
{
	_cleanup_values_ struct network_values *values = NULL;
	struct network_port old;
	unsigned vlan;
	int r = network_start(network, cancel, err);

	if (r < 0)
		return r;
	values = network_values(network);
	if (!values)
		return err_set(err, -ENOMEM, "out of memory");
	/* of a VMM that ended a moment ago */
	if (!*plug->replaces && port_take(network, m, nic->name, NULL, 0, &old))
		port_forget(network, &old);
	plug->mtu = (uint16_t)(nic->values.mtu ? nic->values.mtu : values->mtu);
	if (values->mode == MODE_USER) {
		r = nic_vlan(values, nic, &vlan, err);
		if (r == 0)
			r = lease_none(nic, err);
		return r < 0 ? r : user_plug(network, m, nic, plug, cancel, err);
	}
	plug->kind = VMM_NIC_TAP;
	return plug_tap(network, m, nic, values, plug, cancel, err);
}

int nic_plug(struct machine *m, const struct nic *nic, struct nic_plug *plug, struct cancel *cancel,
	     struct err *err)
{
	_cleanup_network_ struct network *network = NULL;
	int r;

	strcpy(plug->name, nic->name);
	if (!*nic->values.network)
		return 0;
	network = model_network_get(m->model, nic->values.network);
	if (!network)
		return err_set(err, -ENOENT, "there is no network %s", nic->values.network);
	r = may_connect(network, m, err);
	if (r < 0)
		return r;
	network_name(network, plug->network);
	pthread_mutex_lock(&network->work);
	r = plug_in(network, m, nic, plug, cancel, err);
	pthread_mutex_unlock(&network->work);
	if (r < 0) {
		close_plug(plug);
		*plug->network = *plug->tap = '\0';
		return r < 0 && err ? err_prefix(err, "network %s", nic->values.network) : r;
	}
	return 0;
}

void nic_unplug(struct machine *m, struct nic_plug *plug)
{
	_cleanup_network_ struct network *network = NULL;
	struct network_port port;

	if (!*plug->network)
		return;
	network = model_network_get(m->model, plug->network);
	if (!network)
		return;
	LOCK_SCOPE(&network->work);
	if (port_take(network, m, plug->name, plug->tap, 0, &port))
		port_forget(network, &port);
	*plug->network = '\0';
}
