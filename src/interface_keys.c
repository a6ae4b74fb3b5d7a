// SPDX-License-Identifier: ISC
/*
 * The table of what an interface has, and how it is shown: as of the last look. Its counters alone
 * are asked for when they are read, where the kernel answers without its lock of all networks.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "interfaces_int.h"
#include "nic.h"
#include "util/cleanup.h"

/* All but show_stats() run under the lock. */

static void show_type(struct interface *i, struct strbuf *sb)
{
	strbuf_puts(sb, interface_type(&i->link));
}

static void show_state(struct interface *i, struct strbuf *sb)
{
	strbuf_puts(sb, host_link_state_name(i->link.operstate));
}

static void show_up(struct interface *i, struct strbuf *sb)
{
	strbuf_puts(sb, i->link.flags & IFF_UP ? "true" : "false");
}

static void show_speed(struct interface *i, struct strbuf *sb)
{
	if (i->speed_mbit)
		strbuf_printf(sb, "%u", i->speed_mbit);
}

static void show_mac(struct interface *i, struct strbuf *sb)
{
	static const uint8_t none[6];
	char text[NIC_MAC_TEXT];

	if (memcmp(i->link.mac, none, sizeof(none)) == 0)
		return;
	nic_mac_show(i->link.mac, text);
	strbuf_puts(sb, text);
}

static void show_mtu(struct interface *i, struct strbuf *sb)
{
	strbuf_printf(sb, "%u", i->link.mtu);
}

static void show_master(struct interface *i, struct strbuf *sb)
{
	strbuf_puts(sb, i->master);
}

static void show_lower(struct interface *i, struct strbuf *sb)
{
	strbuf_puts(sb, i->lower);
}

static void show_vlan(struct interface *i, struct strbuf *sb)
{
	if (i->link.vlan)
		strbuf_printf(sb, "%u", i->link.vlan);
}

static void show_addresses(struct interface *i, struct strbuf *sb)
{
	if (i->addresses)
		strbuf_puts(sb, i->addresses);
}

static void show_flags(struct interface *i, struct strbuf *sb)
{
	static const struct {
		unsigned flag;
		const char *name;
	} names[] = {
	    {IFF_UP, "up"},
	    {IFF_LOWER_UP, "lower_up"},
	    {IFF_BROADCAST, "broadcast"},
	    {IFF_LOOPBACK, "loopback"},
	    {IFF_POINTOPOINT, "pointopoint"},
	    {IFF_MULTICAST, "multicast"},
	    {IFF_NOARP, "noarp"},
	    {IFF_PROMISC, "promisc"},
	    {IFF_ALLMULTI, "allmulti"},
	    {IFF_MASTER, "master"},
	    {IFF_SLAVE, "slave"},
	    {IFF_DORMANT, "dormant"},
	};
	bool some = false;

	for (size_t k = 0; k < nitems(names); k++)
		if (i->link.flags & names[k].flag) {
			strbuf_printf(sb, "%s%s", some ? " " : "", names[k].name);
			some = true;
		}
}

static void show_alias(struct interface *i, struct strbuf *sb)
{
	strbuf_puts(sb, i->link.alias);
}

static void show_manage(struct interface *i, struct strbuf *sb)
{
	strbuf_puts(sb, i->managed || interfaces_made(i->all, &i->link) ? "true" : "false");
}

static void show_stats(struct interface *i, struct strbuf *sb)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/net/dev", "re");
	char name[INTERFACE_NAME_MAX + 1], line[512];
	size_t len;

	interface_name(i, name);
	len = strlen(name);
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long long v[12];
		const char *p = line + strspn(line, " ");

		if (strncmp(p, name, len) != 0 || p[len] != ':' ||
		    sscanf(p + len + 1, "%llu%llu%llu%llu%llu%llu%llu%llu%llu%llu%llu%llu", &v[0],
			   &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10],
			   &v[11]) != 12)
			continue;
		strbuf_printf(sb,
			      "rx_bytes %llu\nrx_packets %llu\nrx_errors %llu\nrx_dropped %llu\n"
			      "tx_bytes %llu\ntx_packets %llu\ntx_errors %llu\ntx_dropped %llu\n",
			      v[0], v[1], v[2], v[3], v[8], v[9], v[10], v[11]);
		return;
	}
}

const struct interface_key interface_keys[] = {
    {.name = "type",
     .aspect = INTERFACE_SETTINGS,
     .help = "bridge, tap, dummy, bond, veth PEER, vlan OVER TAG, macvtap OVER; written while new",
     .show = show_type,
     .set = interface_set_type},
    {.name = "state",
     .aspect = INTERFACE_STATE,
     .help = "up, down, lowerlayerdown, dormant, unknown …",
     .show = show_state},
    {.name = "up",
     .aspect = INTERFACE_STATE,
     .help = "whether it is switched on: true or false",
     .show = show_up,
     .set = interface_set_up},
    {.name = "speed_mbit",
     .aspect = INTERFACE_STATE,
     .may_be_empty = true,
     .help = "of a physical one; empty where it is not known",
     .show = show_speed},
    {.name = "mac",
     .aspect = INTERFACE_SETTINGS,
     .may_be_empty = true,
     .help = "its hardware address",
     .show = show_mac,
     .set = interface_set_mac},
    {.name = "mtu",
     .aspect = INTERFACE_SETTINGS,
     .help = "largest packet, in bytes",
     .show = show_mtu,
     .set = interface_set_mtu},
    {.name = "master",
     .aspect = INTERFACE_SETTINGS,
     .may_be_empty = true,
     .help = "the bridge or bond that it is a port of; write an empty line to take it out",
     .show = show_master,
     .set = interface_set_master},
    {.name = "lower",
     .aspect = INTERFACE_SETTINGS,
     .may_be_empty = true,
     .help = "what it is over, or its other end",
     .show = show_lower},
    {.name = "vlan",
     .aspect = INTERFACE_SETTINGS,
     .may_be_empty = true,
     .help = "its tag, where it is of type vlan",
     .show = show_vlan},
    {.name = "addresses",
     .aspect = INTERFACE_ADDRESSES,
     .may_be_empty = true,
     .help = "ADDRESS/PREFIX, one a line; what is written replaces them all",
     .show = show_addresses,
     .set = interface_set_addresses,
     .check = interface_check_addresses},
    {.name = "flags",
     .aspect = INTERFACE_STATE,
     .may_be_empty = true,
     .help = "up, lower_up, broadcast, promisc …",
     .show = show_flags},
    {.name = "alias",
     .aspect = INTERFACE_SETTINGS,
     .may_be_empty = true,
     .help = "what it says of itself; `filevisor …`: it was made by filevisor",
     .show = show_alias},
    {.name = "manage",
     .aspect = INTERFACE_SETTINGS,
     .help = "true: it may be changed here, though it was not made here; until the daemon ends",
     .show = show_manage,
     .set = interface_set_manage},
    {.name = "stats",
     .aspect = -1,
     .may_be_empty = true,
     .help = "its counters",
     .show = show_stats},
};
const size_t n_interface_keys = nitems(interface_keys);

int interface_key_show(struct interface *i, const struct interface_key *key, struct strbuf *sb)
{
	if (!interface_alive(i))
		return -ENOENT;
	if (key->aspect < 0) {
		key->show(i, sb);
		return 0;
	}
	LOCK_SCOPE(&i->all->lock);
	key->show(i, sb);
	return 0;
}
