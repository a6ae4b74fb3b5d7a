// SPDX-License-Identifier: ISC
/*
 * Who has which address, as it is shown: leases, hosts, and each card's addresses.
 *
 * An address is known from a lease, or held for a card of a network without DHCP, or said by the
 * guest itself (nic_news.c). What a guest says counts where it may be: in its network's subnets,
 * neither the host's own nor held for another; where the filter lets a card use one IPv4 address
 * alone, only that. A guest may still lie about whatever nobody else knows.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "network_int.h"
#include "nic_int.h"
#include "util/cleanup.h"
#include "vmm.h"

/* --- a copy of all, to look at machines without the lock ---------------------------------------
 */

struct view {
	struct network_port *ports;
	struct network_lease *leases;
	size_t n_ports, n_leases;
	struct network_values *values;
	struct subnet v4, v6;
};

static void view_free(struct view *v)
{
	for (size_t i = 0; i < v->n_ports; i++)
		machine_put(v->ports[i].m);
	free(v->ports);
	free(v->leases);
	network_values_free(v->values);
}

static bool view_take(struct network *network, struct view *v)
{
	memset(v, 0, sizeof(*v));
	LOCK_SCOPE(&network->lock);
	v->ports = calloc(network->n_ports + 1, sizeof(*v->ports));
	v->leases = calloc(network->n_leases + 1, sizeof(*v->leases));
	v->values = network_values_copy(network->values);
	if (!v->ports || !v->leases || !v->values)
		return false;
	for (; v->n_ports < network->n_ports; v->n_ports++) {
		v->ports[v->n_ports] = network->ports[v->n_ports];
		machine_get(v->ports[v->n_ports].m);
	}
	v->n_leases = network->n_leases;
	if (v->n_leases)
		memcpy(v->leases, network->leases, v->n_leases * sizeof(*v->leases));
	if (network_has_bridge(v->values)) {
		subnet_parse(v->values->subnet, AF_INET, &v->v4, NULL);
		subnet_parse(v->values->subnet6, AF_INET6, &v->v6, NULL);
	}
	return true;
}

/* --- addresses of a card ------------------------------------------------------------------------
 */

struct address {
	int family;
	uint8_t addr[16];
};

/* IPv4 first, then what is reached from elsewhere, then link-local ones; of each the latest. */
struct addresses {
	struct address list[NIC_SEEN_MAX + 2];
	size_t n;
};

static bool has_address(const struct network_port *port)
{
	static const uint8_t none[4];

	return memcmp(port->addr, none, 4) != 0;
}

static bool is_link_local(const uint8_t *addr)
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

static bool may_be4(const struct view *v, const struct network_port *port, const uint8_t *addr)
{
	if (has_address(port) && network_strict(v->values))
		return memcmp(addr, port->addr, 4) == 0;
	if (v->v4.family && !port->vlan && !port->pvid &&
	    (!subnet_holds(&v->v4, addr) || memcmp(addr, v->v4.host, 4) == 0))
		return false;
	for (size_t i = 0; i < v->n_ports; i++)
		if (&v->ports[i] != port && memcmp(v->ports[i].addr, addr, 4) == 0)
			return false;
	return true;
}

static bool may_be6(const struct view *v, const struct network_port *port, const uint8_t *addr)
{
	if (is_link_local(addr) || !v->v6.family || port->vlan || port->pvid)
		return true;
	return subnet_holds(&v->v6, addr) && memcmp(addr, v->v6.host, 16) != 0;
}

static void add(struct addresses *to, int family, const uint8_t *addr)
{
	struct address *a = &to->list[to->n];
	size_t len = family == AF_INET ? 4 : 16;

	for (size_t i = 0; i < to->n; i++)
		if (to->list[i].family == family && memcmp(to->list[i].addr, addr, len) == 0)
			return;
	if (to->n == nitems(to->list))
		return;
	*a = (struct address){.family = family};
	memcpy(a->addr, addr, len);
	to->n++;
}

static void take_seen(struct machine *m, const char *nic, struct nic_seen *seen)
{
	const struct vmm_has_nic *has;

	seen->n = 0;
	LOCK_SCOPE(&m->lock);
	has = m->vmm ? vmm_nic_find(m->vmm, nic) : NULL;
	if (has)
		*seen = has->seen;
}

static void find_addresses(const struct view *v, const struct network_port *port,
			   struct addresses *to)
{
	struct nic_seen seen;

	to->n = 0;
	if (has_address(port) && port->known)
		add(to, AF_INET, port->addr);
	if (v->values->mode == MODE_USER) /* its guests have the host's addresses, to themselves */
		return;
	take_seen(port->m, port->nic, &seen);
	for (unsigned i = seen.n; i-- > 0;)
		if (seen.list[i].len == 4 && may_be4(v, port, seen.list[i].addr))
			add(to, AF_INET, seen.list[i].addr);
	if (has_address(port) && !v->values->dhcp)
		add(to, AF_INET, port->addr);
	for (int local = 0; local < 2; local++)
		for (unsigned i = seen.n; i-- > 0;)
			if (seen.list[i].len == 16 && is_link_local(seen.list[i].addr) == local &&
			    may_be6(v, port, seen.list[i].addr))
				add(to, AF_INET6, seen.list[i].addr);
}

/* Of the card's port in that network. */
static void addresses_in(struct network *network, struct machine *m, const char *nic,
			 struct addresses *to)
{
	struct view v;

	to->n = 0;
	if (view_take(network, &v))
		for (size_t i = 0; i < v.n_ports; i++)
			if (v.ports[i].m == m && strcmp(v.ports[i].nic, nic) == 0)
				find_addresses(&v, &v.ports[i], to);
	view_free(&v);
}

/* In the network that it is plugged into. */
static void nic_addresses(struct machine *m, const char *nic, struct addresses *to)
{
	_cleanup_network_ struct network *network = NULL;
	char name[NETWORK_NAME_MAX + 1] = "";
	const struct vmm_has_nic *has;

	to->n = 0;
	pthread_mutex_lock(&m->lock);
	has = m->vmm ? vmm_nic_find(m->vmm, nic) : NULL;
	if (has)
		strcpy(name, has->plug.network);
	pthread_mutex_unlock(&m->lock);
	network = *name ? model_network_get(m->model, name) : NULL;
	if (network)
		addresses_in(network, m, nic, to);
}

static void put_address(struct strbuf *sb, const struct address *a)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(a->family, a->addr, text, sizeof(text));
	strbuf_puts(sb, text);
}

/* Whether it can be reached by its address alone. */
static bool is_usable(const struct address *a)
{
	return a->family == AF_INET || !is_link_local(a->addr);
}

static void show_first(const struct addresses *all, struct strbuf *sb)
{
	if (all->n && is_usable(&all->list[0]))
		put_address(sb, &all->list[0]);
}

void network_nic_address_show(struct network *network, struct machine *m, const char *nic,
			      struct strbuf *sb)
{
	struct addresses all;

	addresses_in(network, m, nic, &all);
	show_first(&all, sb);
}

void machine_nic_address_show(struct machine *m, const char *nic, struct strbuf *sb)
{
	struct addresses all;

	nic_addresses(m, nic, &all);
	show_first(&all, sb);
}

void machine_nic_addresses_show(struct machine *m, const char *nic, struct strbuf *sb)
{
	struct addresses all;

	nic_addresses(m, nic, &all);
	for (size_t i = 0; i < all.n; i++) {
		put_address(sb, &all.list[i]);
		if (i + 1 < all.n)
			strbuf_putc(sb, '\n');
	}
}

/* --- leases -------------------------------------------------------------------------------------
 */

/* By its address on the cable; an IPv6 lease knows none: by who says that he has the address. */
static const struct network_port *port_of(const struct view *v, const struct network_lease *lease)
{
	struct nic_seen seen;

	for (size_t i = 0; i < v->n_ports; i++) {
		if (lease->family == AF_INET && memcmp(v->ports[i].mac, lease->mac, 6) == 0)
			return &v->ports[i];
		if (lease->family == AF_INET)
			continue;
		take_seen(v->ports[i].m, v->ports[i].nic, &seen);
		for (unsigned k = 0; k < seen.n; k++)
			if (seen.list[k].len == 16 &&
			    memcmp(seen.list[k].addr, lease->addr, 16) == 0)
				return &v->ports[i];
	}
	return NULL;
}

static void show_lease(const struct network_lease *lease, const struct network_port *port,
		       struct strbuf *sb)
{
	char addr[INET6_ADDRSTRLEN], mac[NIC_MAC_TEXT], name[MACHINE_NAME_MAX + 1];
	const uint8_t *known = lease->family == AF_INET6 && port ? port->mac : lease->mac;
	static const uint8_t none[6];

	inet_ntop(lease->family, lease->addr, addr, sizeof(addr));
	strbuf_puts(sb, addr);
	if (memcmp(known, none, 6) != 0) {
		nic_mac_show(known, mac);
		strbuf_printf(sb, " mac=%s", mac);
	}
	if (port) {
		machine_name(port->m, name);
		strbuf_printf(sb, " machine=%s nic=%s", name, port->nic);
	} else if (*lease->name) {
		strbuf_printf(sb, " name=%s", lease->name);
	}
	if (lease->expires)
		strbuf_printf(sb, " expires=%lld", (long long)lease->expires);
	strbuf_putc(sb, '\n');
}

void network_leases_show(struct network *network, struct strbuf *sb)
{
	struct view v;

	if (view_take(network, &v)) {
		for (size_t i = 0; i < v.n_leases; i++)
			show_lease(&v.leases[i], port_of(&v, &v.leases[i]), sb);
		for (size_t i = 0; !v.values->dhcp && i < v.n_ports; i++) {
			struct network_lease lease = {.family = AF_INET};

			memcpy(lease.addr, v.ports[i].addr, 4);
			memcpy(lease.mac, v.ports[i].mac, 6);
			if (has_address(&v.ports[i]))
				show_lease(&lease, &v.ports[i], sb);
		}
	}
	view_free(&v);
}

/* --- hosts --------------------------------------------------------------------------------------
 */

static void show_host(const struct view *v, const struct network_port *port,
		      const struct address *a, struct strbuf *sb)
{
	char name[MACHINE_NAME_MAX + 1];

	machine_name(port->m, name);
	put_address(sb, a);
	strbuf_printf(sb, " %s", name);
	if (*v->values->domain)
		strbuf_printf(sb, " %s.%s", name, v->values->domain);
	strbuf_putc(sb, '\n');
}

/* One of each family: the address that is its own, used or not, or the latest that it says. */
static void show_hosts(const struct view *v, const struct network_port *port, struct strbuf *sb)
{
	bool done[2] = {false, false};
	struct addresses all;

	if (has_address(port)) {
		struct address own = {.family = AF_INET};

		memcpy(own.addr, port->addr, 4);
		show_host(v, port, &own, sb);
		done[0] = true;
	}
	find_addresses(v, port, &all);
	for (size_t i = 0; i < all.n; i++) {
		bool six = all.list[i].family == AF_INET6;

		if (!done[six] && is_usable(&all.list[i]))
			show_host(v, port, &all.list[i], sb);
		done[six] |= is_usable(&all.list[i]);
	}
}

void network_hosts_show(struct network *network, struct strbuf *sb)
{
	struct view v;

	if (view_take(network, &v))
		for (size_t i = 0; i < v.n_ports; i++)
			show_hosts(&v, &v.ports[i], sb);
	view_free(&v);
}
