// SPDX-License-Identifier: ISC
/*
 * The ports of a network: the list of guests' cables that are in, who is told of it, and how taps
 * are ports of the bridge. A tap goes with its descriptors, so what is left to unplug is what is
 * known of it, and a port whose tap has gone is dropped by itself (network_watch.c), whoever
 * died. A macvtap stays, and is removed with its port.
 */
#define LOG_MODULE "network"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/log.h"

/* --- the list ------------------------------------------------------------------------------------
 */

/* The same card's, or the same address: two would not know whose packets are whose. */
int port_must_be_new(struct network *network, struct machine *m, const char *nic,
		     const uint8_t mac[6], const char *replaces, struct err *err)
{
	_cleanup_machine_ struct machine *other = NULL;
	char name[MACHINE_NAME_MAX + 1];
	bool full;

	pthread_mutex_lock(&network->lock);
	full = network->n_ports >= NETWORK_PORTS_MAX;
	for (size_t i = 0; i < network->n_ports && !other; i++) {
		const struct network_port *port = &network->ports[i];

		if (*replaces && strcmp(port->tap, replaces) == 0)
			continue;
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

static bool is_it(const struct network_port *p, struct machine *m, const char *nic, const char *tap,
		  pid_t pid)
{
	if (m)
		return p->m == m && strcmp(p->nic, nic) == 0 && (!tap || strcmp(p->tap, tap) == 0);
	return tap ? strcmp(p->tap, tap) == 0 : p->pid == pid;
}

bool port_take(struct network *network, struct machine *m, const char *nic, const char *tap,
	       pid_t pid, struct network_port *port)
{
	LOCK_SCOPE(&network->lock);
	for (size_t i = 0; i < network->n_ports; i++) {
		if (!is_it(&network->ports[i], m, nic, tap, pid))
			continue;
		*port = network->ports[i];
		network->ports[i] = network->ports[--network->n_ports];
		network_touch(network, NETWORK_LEASES);
		return true;
	}
	return false;
}

int ports_tell(struct network *network, struct cancel *cancel, struct err *err)
{
	int r = network_note_ports(network);

	if (r < 0)
		return err_set(err, r, "cannot write in %s: %s", network->model->run_dir,
			       strerror(-r));
	r = dns_tell(network, err);
	return r < 0 ? r : rules_apply(network->model->networks, cancel, err);
}

static void tell_address(struct machine *m, const char *nic)
{
	LOCK_SCOPE(&m->lock);
	machine_touch(m, ASPECT_NIC_ADDRESS, nic);
}

bool port_exists(struct network *network, const char *tap)
{
	LOCK_SCOPE(&network->lock);
	for (size_t i = 0; i < network->n_ports; i++)
		if (strcmp(network->ports[i].tap, tap) == 0)
			return true;
	return false;
}

/* A tap goes by itself. One that another port shares stays. */
static void remove_macvtap(struct network *network, const char *name)
{
	struct err err = ERR_INIT;
	struct host_link link;

	if (!*name || port_exists(network, name) || host_link_find(name, 0, &link) < 0 ||
	    strcmp(link.kind, "macvtap") != 0 || !networks_made(network->model->networks, &link))
		return;
	if (host_link_remove(link.index, &err) < 0)
		log_warn("network %s: %s", network->name, err.text);
}

void port_forget(struct network *network, struct network_port *port)
{
	struct err err = ERR_INIT;

	remove_macvtap(network, port->tap);
	if (ports_tell(network, NULL, &err) < 0)
		log_warn("network %s: %s", network->name, err.text);
	tell_address(port->m, port->nic);
	machine_put(port->m);
}

void port_drop(struct network *network, const char *tap)
{
	struct network_port port;

	LOCK_SCOPE(&network->work);
	if (port_take(network, NULL, NULL, tap, 0, &port))
		port_forget(network, &port);
}

void port_drop_pid(struct network *network, pid_t pid)
{
	struct network_port port;

	LOCK_SCOPE(&network->work);
	if (port_take(network, NULL, NULL, NULL, pid, &port))
		port_forget(network, &port);
}

/* --- ports of the bridge -------------------------------------------------------------------------
 */

int port_join(struct network *network, const struct network_port *port, bool isolated,
	      const char *alias, uint32_t mtu, struct err *err)
{
	struct host_link_set set = {.up = -1, .master = -1, .alias = alias, .mtu = mtu};
	struct host_link link, bridge;
	int r = host_link_find(port->tap, 0, &link);
	bool direct;

	if (r < 0)
		return err_set(err, r, "%s: %s", port->tap, strerror(-r));
	pthread_mutex_lock(&network->lock);
	direct = network->direct;
	if (!direct)
		set.master = network->bridge_index;
	pthread_mutex_unlock(&network->lock);
	/* neighbours are found by frames to groups */
	set.allmulti = direct;
	r = host_link_set(link.index, &set, err);
	if (r < 0 || direct)
		return r;
	if (isolated)
		r = host_port_isolate(link.index, true, err);
	if (r == 0 && port->pvid && host_link_find(NULL, set.master, &bridge) == 0)
		r = host_port_vlan(link.index, port->pvid, bridge.vlan_default, err);
	return r;
}

/* Copies, with references. */
static struct network_port *copy_ports(struct network *network, size_t *n)
{
	struct network_port *copy;

	LOCK_SCOPE(&network->lock);
	copy = calloc(network->n_ports + 1, sizeof(*copy));
	for (*n = 0; copy && *n < network->n_ports; ++*n) {
		copy[*n] = network->ports[*n];
		machine_get(copy[*n].m);
	}
	return copy;
}

void ports_join(struct network *network)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	_cleanup_free_ struct network_port *ports = NULL;
	size_t n;

	ports = copy_ports(network, &n);
	for (size_t i = 0; ports && i < n; i++) {
		const struct host_link_set up = {.up = 1, .master = -1};
		struct host_link link;
		struct err err = ERR_INIT;

		if (values && *ports[i].tap && host_link_find(ports[i].tap, 0, &link) == 0 &&
		    (port_join(network, &ports[i], values->guests_separate, NULL, 0, &err) < 0 ||
		     host_link_set(link.index, &up, &err) < 0))
			log_warn("network %s: %s: %s", network->name, link.name, err.text);
		machine_put(ports[i].m);
	}
}
