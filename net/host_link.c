// SPDX-License-Identifier: ISC
/* Links of the host. See host_link.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <stdio.h>
#include <string.h>

#include "net/host_nl.h"
#include "util/cleanup.h"

#define BOND_ACTIVE_BACKUP 1

const char *host_link_state_name(unsigned operstate)
{
	static const char *const names[] = {
	    [IF_OPER_UNKNOWN] = "unknown", [IF_OPER_NOTPRESENT] = "notpresent",
	    [IF_OPER_DOWN] = "down",	   [IF_OPER_LOWERLAYERDOWN] = "lowerlayerdown",
	    [IF_OPER_TESTING] = "testing", [IF_OPER_DORMANT] = "dormant",
	    [IF_OPER_UP] = "up",
	};

	return operstate < nitems(names) ? names[operstate] : names[IF_OPER_UNKNOWN];
}

/* --- reading ------------------------------------------------------------------------------------
 */

struct listing {
	host_link_fn *fn;
	void *arg;
	int result;
};

static void copy_string(char *to, size_t size, const struct nlattr *a)
{
	snprintf(to, size, "%.*s", (int)mnl_attr_get_payload_len(a),
		 (const char *)mnl_attr_get_payload(a));
}

static void take_bridge(struct host_link *l, const struct nlattr *data)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, data)
	{
		if (mnl_attr_get_type(a) == IFLA_BR_VLAN_FILTERING)
			l->vlan_filtering = mnl_attr_get_u8(a);
		else if (mnl_attr_get_type(a) == IFLA_BR_VLAN_DEFAULT_PVID)
			l->vlan_default = mnl_attr_get_u16(a);
	}
}

static void take_data(struct host_link *l, const struct nlattr *data)
{
	const struct nlattr *a;

	if (strcmp(l->kind, "bridge") == 0)
		take_bridge(l, data);
	if (strcmp(l->kind, "vlan") != 0)
		return;
	mnl_attr_for_each_nested(a, data) if (mnl_attr_get_type(a) == IFLA_VLAN_ID &&
					      mnl_attr_get_payload_len(a) >= 2) l->vlan =
	    mnl_attr_get_u16(a);
}

static void take_info(struct host_link *l, const struct nlattr *info)
{
	const struct nlattr *a, *data = NULL;

	mnl_attr_for_each_nested(a, info)
	{
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			copy_string(l->kind, sizeof(l->kind), a);
		else if (mnl_attr_get_type(a) == IFLA_INFO_DATA)
			data = a;
	}
	if (data)
		take_data(l, data);
}

static void take_stats(struct host_link *l, const struct nlattr *a)
{
	struct rtnl_link_stats64 s = {0};
	size_t len = mnl_attr_get_payload_len(a);

	memcpy(&s, mnl_attr_get_payload(a), len < sizeof(s) ? len : sizeof(s));
	l->stats = (struct host_link_stats){
	    .rx_packets = s.rx_packets,
	    .tx_packets = s.tx_packets,
	    .rx_bytes = s.rx_bytes,
	    .tx_bytes = s.tx_bytes,
	    .rx_errors = s.rx_errors,
	    .tx_errors = s.tx_errors,
	    .rx_dropped = s.rx_dropped,
	    .tx_dropped = s.tx_dropped,
	};
}

static void take_attribute(struct host_link *l, const struct nlattr *a)
{
	switch (mnl_attr_get_type(a)) {
	case IFLA_IFNAME:
		copy_string(l->name, sizeof(l->name), a);
		break;
	case IFLA_IFALIAS:
		copy_string(l->alias, sizeof(l->alias), a);
		break;
	case IFLA_ADDRESS:
		if (mnl_attr_get_payload_len(a) == sizeof(l->mac))
			memcpy(l->mac, mnl_attr_get_payload(a), sizeof(l->mac));
		break;
	case IFLA_MTU:
		l->mtu = mnl_attr_get_u32(a);
		break;
	case IFLA_OPERSTATE:
		l->operstate = mnl_attr_get_u8(a);
		break;
	case IFLA_MASTER:
		l->master = (int)mnl_attr_get_u32(a);
		break;
	case IFLA_LINK:
		l->lower = (int)mnl_attr_get_u32(a);
		break;
	case IFLA_LINKINFO:
		take_info(l, a);
		break;
	case IFLA_STATS64:
		take_stats(l, a);
		break;
	case IFLA_PARENT_DEV_NAME:
		l->physical = true;
		break;
	default:
		break;
	}
}

static int take_link(const struct nlmsghdr *hdr, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(hdr);
	struct listing *list = arg;
	struct host_link l = {.index = info->ifi_index, .flags = info->ifi_flags};
	const struct nlattr *a;

	if (hdr->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	mnl_attr_for_each(a, hdr, sizeof(*info)) take_attribute(&l, a);
	if (list->result == 0)
		list->result = list->fn(&l, list->arg);
	return MNL_CB_OK; /* to the end: what is not read now is read as the next answer */
}

int host_links(host_link_fn *fn, void *arg)
{
	struct listing list = {.fn = fn, .arg = arg};
	struct nl_request rq;
	int r;

	nl_begin(&rq, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	r = nl_talk(&rq, take_link, &list);
	return r < 0 ? r : list.result;
}

static int keep(const struct host_link *link, void *arg)
{
	*(struct host_link *)arg = *link;
	return 0;
}

int host_link_find(const char *name, int index, struct host_link *link)
{
	struct listing list = {.fn = keep, .arg = link};
	struct nl_request rq;
	struct ifinfomsg *info = nl_begin(&rq, RTM_GETLINK, 0, sizeof(*info));

	if (name && strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	memset(link, 0, sizeof(*link));
	if (name)
		mnl_attr_put_strz(rq.hdr, IFLA_IFNAME, name);
	else
		info->ifi_index = index;
	return nl_talk(&rq, take_link, &list);
}

/* --- making --------------------------------------------------------------------------------------
 */

static const char *const kinds[] = {
    [HOST_BRIDGE] = "bridge", [HOST_DUMMY] = "dummy", [HOST_VLAN] = "vlan",
    [HOST_BOND] = "bond",     [HOST_VETH] = "veth",   [HOST_MACVTAP] = "macvtap",
};

static bool name_good(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < IFNAMSIZ && !strpbrk(name, "/ \t\n:%") && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static void put_data(struct nlmsghdr *hdr, const struct host_link_new *what)
{
	struct nlattr *data = mnl_attr_nest_start(hdr, IFLA_INFO_DATA), *peer;

	switch (what->kind) {
	case HOST_BRIDGE: /* no loop can come of one whose ports are guests: no delay at start */
		mnl_attr_put_u32(hdr, IFLA_BR_FORWARD_DELAY, 0);
		mnl_attr_put_u32(hdr, IFLA_BR_STP_STATE, 0);
		break;
	case HOST_VLAN:
		mnl_attr_put_u16(hdr, IFLA_VLAN_ID, (uint16_t)what->vlan);
		break;
	case HOST_BOND:
		mnl_attr_put_u8(hdr, IFLA_BOND_MODE, BOND_ACTIVE_BACKUP);
		break;
	case HOST_MACVTAP:
		mnl_attr_put_u32(hdr, IFLA_MACVLAN_MODE,
				 what->isolated ? MACVLAN_MODE_PRIVATE : MACVLAN_MODE_BRIDGE);
		break;
	case HOST_VETH:
		peer = mnl_attr_nest_start(hdr, VETH_INFO_PEER);
		mnl_nlmsg_put_extra_header(hdr, sizeof(struct ifinfomsg));
		mnl_attr_put_strz(hdr, IFLA_IFNAME, what->peer);
		mnl_attr_nest_end(hdr, peer);
		break;
	default:
		break;
	}
	mnl_attr_nest_end(hdr, data);
}

int host_link_make(const struct host_link_new *what, struct err *err)
{
	const struct host_link_set alias = {.up = -1, .master = -1, .alias = what->alias};
	struct host_link made;
	struct nl_request rq;
	struct nlattr *info;
	int r;

	if (!name_good(what->name) || (what->kind == HOST_VETH && !name_good(what->peer)))
		return err_set(err, -EINVAL, "'%.40s' is no name for an interface", what->name);
	nl_begin(&rq, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(rq.hdr, IFLA_IFNAME, what->name);
	if (what->mac)
		mnl_attr_put(rq.hdr, IFLA_ADDRESS, 6, what->mac);
	if (what->mtu)
		mnl_attr_put_u32(rq.hdr, IFLA_MTU, what->mtu);
	if (what->lower)
		mnl_attr_put_u32(rq.hdr, IFLA_LINK, (uint32_t)what->lower);
	info = mnl_attr_nest_start(rq.hdr, IFLA_LINKINFO);
	mnl_attr_put_strz(rq.hdr, IFLA_INFO_KIND, kinds[what->kind]);
	put_data(rq.hdr, what);
	mnl_attr_nest_end(rq.hdr, info);
	r = nl_talk(&rq, NULL, NULL);
	if (r == 0)
		r = host_link_find(what->name, 0, &made);
	if (r == -EEXIST)
		return err_set(err, r, "there is an interface %s already", what->name);
	if (r < 0)
		return nl_words(r, err, "interface", what->name);
	/* The kernel takes no alias from who makes one. */
	r = what->alias ? host_link_set(made.index, &alias, err) : 0;
	if (r < 0)
		host_link_remove(made.index, NULL);
	return r < 0 ? r : made.index;
}

int host_link_remove(int index, struct err *err)
{
	struct nl_request rq;
	struct ifinfomsg *info = nl_begin(&rq, RTM_DELLINK, 0, sizeof(*info));
	char name[16];

	info->ifi_index = index;
	snprintf(name, sizeof(name), "%d", index);
	return nl_words(nl_talk(&rq, NULL, NULL), err, "removing interface", name);
}

int host_link_set(int index, const struct host_link_set *set, struct err *err)
{
	struct nl_request rq;
	struct ifinfomsg *info = nl_begin(&rq, RTM_NEWLINK, 0, sizeof(*info));
	char name[16];

	info->ifi_index = index;
	if (set->up >= 0) {
		info->ifi_change = IFF_UP;
		info->ifi_flags = set->up ? IFF_UP : 0;
	}
	if (set->allmulti) {
		info->ifi_change |= IFF_ALLMULTI;
		info->ifi_flags |= IFF_ALLMULTI;
	}
	if (set->name && !name_good(set->name))
		return err_set(err, -EINVAL, "'%.40s' is no name for an interface", set->name);
	if (set->name)
		mnl_attr_put_strz(rq.hdr, IFLA_IFNAME, set->name);
	if (set->alias && strlen(set->alias) < HOST_ALIAS_MAX)
		mnl_attr_put_strz(rq.hdr, IFLA_IFALIAS, set->alias);
	if (set->mac)
		mnl_attr_put(rq.hdr, IFLA_ADDRESS, 6, set->mac);
	if (set->mtu)
		mnl_attr_put_u32(rq.hdr, IFLA_MTU, set->mtu);
	if (set->master >= 0)
		mnl_attr_put_u32(rq.hdr, IFLA_MASTER, (uint32_t)set->master);
	snprintf(name, sizeof(name), "%d", index);
	return nl_words(nl_talk(&rq, NULL, NULL), err, "setting interface", name);
}

int host_port_isolate(int index, bool isolated, struct err *err)
{
	struct nl_request rq;
	struct ifinfomsg *info = nl_begin(&rq, RTM_SETLINK, 0, sizeof(*info));
	struct nlattr *port;
	char name[16];

	info->ifi_family = AF_BRIDGE;
	info->ifi_index = index;
	port = mnl_attr_nest_start(rq.hdr, IFLA_PROTINFO | NLA_F_NESTED);
	mnl_attr_put_u8(rq.hdr, IFLA_BRPORT_ISOLATED, isolated);
	mnl_attr_nest_end(rq.hdr, port);
	snprintf(name, sizeof(name), "%d", index);
	return nl_words(nl_talk(&rq, NULL, NULL), err, "isolating the port of interface", name);
}

static int port_vlan(int index, uint16_t type, uint16_t flags, unsigned vlan)
{
	struct bridge_vlan_info vinfo = {.flags = flags, .vid = (uint16_t)vlan};
	struct nl_request rq;
	struct ifinfomsg *info = nl_begin(&rq, type, 0, sizeof(*info));
	struct nlattr *spec;

	info->ifi_family = AF_BRIDGE;
	info->ifi_index = index;
	spec = mnl_attr_nest_start(rq.hdr, IFLA_AF_SPEC);
	mnl_attr_put(rq.hdr, IFLA_BRIDGE_VLAN_INFO, sizeof(vinfo), &vinfo);
	mnl_attr_nest_end(rq.hdr, spec);
	return nl_talk(&rq, NULL, NULL);
}

int host_port_vlan(int index, unsigned vlan, unsigned was, struct err *err)
{
	char name[16];
	int r = 0;

	snprintf(name, sizeof(name), "%d", index);
	if (was && was != vlan)
		r = port_vlan(index, RTM_DELLINK, 0, was);
	if (r == 0)
		r = port_vlan(index, RTM_SETLINK, BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED,
			      vlan);
	return nl_words(r, err, "the VLAN of the port of interface", name);
}

/* --- changes
 * -------------------------------------------------------------------------------------- */

int host_watch_open(void)
{
	_cleanup_close_ int fd =
	    socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	struct sockaddr_nl addr = {.nl_family = AF_NETLINK,
				   .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR |
						RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
						RTMGRP_IPV6_ROUTE};

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return take_fd(&fd);
}

bool host_watch_read(int fd)
{
	char room[8192];
	bool any = false;

	for (;;) {
		ssize_t n = recv(fd, room, sizeof(room), MSG_DONTWAIT | MSG_TRUNC);

		/* What did not fit into the socket's buffer has changed, too. */
		if (n < 0 && errno != ENOBUFS && errno != EINTR)
			return any;
		any = true;
	}
}
