// SPDX-License-Identifier: ISC
/*
 * The network's end of a guest's cable: a tap in its bridge with rules against spoofing, an
 * address and a name; or a process of passt. A tap goes with its descriptors, so what is left to
 * unplug is what is known of it, and a port whose tap has gone is dropped by itself
 * (network_watch.c), whoever died.
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

/* --- ports ---------------------------------------------------------------------------------------
 */

/* The same card's, or the same address: two would not know whose packets are whose. */
static int must_be_new(struct network *network, struct machine *m, const char *nic,
		       const uint8_t mac[6], struct err *err)
{
	_cleanup_machine_ struct machine *other = NULL;
	char name[MACHINE_NAME_MAX + 1];
	bool full;

	pthread_mutex_lock(&network->lock);
	full = network->n_ports >= NETWORK_PORTS_MAX;
	for (size_t i = 0; i < network->n_ports && !other; i++) {
		const struct network_port *port = &network->ports[i];

		if (memcmp(port->mac, mac, 6) == 0 || (port->m == m && !strcmp(port->nic, nic)))
			other = machine_get(port->m);
	}
	pthread_mutex_unlock(&network->lock);
	if (full)
		return err_set(err, -ENOSPC, "the network %s has %d ports already", network->name,
			       NETWORK_PORTS_MAX);
	if (!other)
		return 0;
	machine_name(other, name);
	return err_set(err, -EADDRINUSE, "the network %s has a card of that address: machine %s's",
		       network->name, name);
}

int port_add(struct network *network, const struct network_port *port, struct err *err)
{
	struct network_port *more;

	LOCK_SCOPE(&network->lock);
	more = realloc(network->ports, (network->n_ports + 1) * sizeof(*more));
	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	network->ports = more;
	more[network->n_ports] = *port;
	machine_get(more[network->n_ports++].m);
	network_touch(network, NETWORK_LEASES);
	return 0;
}

/* Takes what is said of it; false: there is none. */
static bool take_port(struct network *network, struct machine *m, const char *nic, const char *tap,
		      pid_t pid, struct network_port *port)
{
	LOCK_SCOPE(&network->lock);
	for (size_t i = 0; i < network->n_ports; i++) {
		const struct network_port *p = &network->ports[i];

		if (m	  ? p->m != m || strcmp(p->nic, nic) != 0
		    : tap ? strcmp(p->tap, tap) != 0
			  : p->pid != pid)
			continue;
		*port = network->ports[i];
		network->ports[i] = network->ports[--network->n_ports];
		network_touch(network, NETWORK_LEASES);
		return true;
	}
	return false;
}

/* Under work. Those who are told of ports hear that there are others now. */
static int tell_ports(struct network *network, struct cancel *cancel, struct err *err)
{
	int r = network_note_ports(network);

	if (r < 0)
		return err_set(err, r, "cannot write in %s: %s", network->model->run_dir,
			       strerror(-r));
	r = dns_tell(network, err);
	return r < 0 ? r : rules_apply(network->model->networks, cancel, err);
}

static void told_address(struct machine *m, const char *nic)
{
	LOCK_SCOPE(&m->lock);
	machine_touch(m, ASPECT_NIC_ADDRESS, nic);
}

/* Under work. */
static void forget_port(struct network *network, struct network_port *port)
{
	struct err err = ERR_INIT;

	if (tell_ports(network, NULL, &err) < 0)
		log_warn("network %s: %s", network->name, err.text);
	told_address(port->m, port->nic);
	machine_put(port->m);
}

void port_drop(struct network *network, const char *tap)
{
	struct network_port port;

	LOCK_SCOPE(&network->work);
	if (take_port(network, NULL, NULL, tap, 0, &port))
		forget_port(network, &port);
}

void port_drop_pid(struct network *network, pid_t pid)
{
	struct network_port port;

	LOCK_SCOPE(&network->work);
	if (take_port(network, NULL, NULL, NULL, pid, &port))
		forget_port(network, &port);
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

/* A name that nobody has: what comes of the machine and the card, or what follows it. */
static int make_tap(struct machine *m, const struct nic *nic, struct nic_plug *plug,
		    unsigned queues, struct err *err)
{
	uint32_t hash = 2166136261u;
	int r = -EBUSY;

	for (const char *p = m->id; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	for (const char *p = nic->name; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
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

/* Into the bridge; up only when rules know it. */
static int join(struct network *network, const struct nic_plug *plug,
		const struct network_values *values, int *index, struct err *err)
{
	char alias[HOST_ALIAS_MAX], what[HOST_ALIAS_MAX];
	struct host_link_set set = {.up = -1, .alias = alias, .mtu = plug->mtu};
	struct host_link link;
	int r = host_link_find(plug->tap, 0, &link);

	if (r < 0)
		return err_set(err, r, "%s: %s", plug->tap, strerror(-r));
	snprintf(what, sizeof(what), "card %s", plug->name);
	network_alias(network, what, alias);
	pthread_mutex_lock(&network->lock);
	set.master = network->bridge_index;
	pthread_mutex_unlock(&network->lock);
	r = host_link_set(link.index, &set, err);
	if (r == 0 && values->guests_separate)
		r = host_port_isolate(link.index, true, err);
	*index = link.index;
	return r;
}

static int plug_tap(struct network *network, struct machine *m, const struct nic *nic,
		    const struct network_values *values, struct nic_plug *plug,
		    struct cancel *cancel, struct err *err)
{
	struct host_link_set up = {.up = 1, .master = -1};
	struct network_port port = {.m = m}, dropped;
	int index = 0, r;

	strcpy(port.nic, nic->name);
	r = nic_mac_parse(nic->values.mac, port.mac, err);
	if (r == 0)
		r = must_be_new(network, m, nic->name, port.mac, err);
	if (r == 0)
		r = lease_hold(network, m, nic->name, port.addr, err);
	if (r == 0)
		r = make_tap(m, nic, plug, queues_of(m, nic), err);
	if (r < 0)
		return r;
	strcpy(port.tap, plug->tap);
	r = port_add(network, &port, err);
	if (r < 0)
		return r;
	r = join(network, plug, values, &index, err);
	if (r == 0)
		r = tell_ports(network, cancel, err);
	if (r == 0)
		r = host_link_set(index, &up, err);
	if (r == 0)
		told_address(m, nic->name);
	else if (take_port(network, m, nic->name, NULL, 0, &dropped))
		forget_port(network, &dropped);
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
	int r = network_start(network, cancel, err);

	if (r < 0)
		return r;
	values = network_values(network);
	if (!values)
		return err_set(err, -ENOMEM, "out of memory");
	/* of a VMM that ended a moment ago */
	if (take_port(network, m, nic->name, NULL, 0, &old))
		machine_put(old.m);
	plug->mtu = (uint16_t)(nic->values.mtu ? nic->values.mtu : values->mtu);
	if (values->mode == MODE_USER)
		return user_plug(network, m, nic, plug, cancel, err);
	plug->kind = VMM_NIC_TAP;
	return plug_tap(network, m, nic, values, plug, cancel, err);
}

int nic_plug(struct machine *m, const struct nic *nic, struct nic_plug *plug, struct cancel *cancel,
	     struct err *err)
{
	_cleanup_network_ struct network *network = NULL;
	int r;

	memset(plug, 0, sizeof(*plug));
	strcpy(plug->name, nic->name);
	if (!*nic->values.network)
		return 0;
	network = model_network_get(m->model, nic->values.network);
	if (!network)
		return err_set(err, -ENOENT, "there is no network %s", nic->values.network);
	if (nic->values.vlan)
		return err_set(err, -EOPNOTSUPP, "no VLAN tags are added to a card's packets");
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
	if (take_port(network, m, plug->name, NULL, 0, &port))
		forget_port(network, &port);
	*plug->network = '\0';
}
