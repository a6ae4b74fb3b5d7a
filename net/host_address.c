// SPDX-License-Identifier: ISC
/* Addresses and routes of the host, and taps. See host_link.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/host_nl.h"
#include "util/cleanup.h"

#define FOR_EVER UINT32_MAX /* as the kernel has it */

static size_t family_bytes(int family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

/* Copies an address of the family, if it is one. */
static bool take_bytes(uint8_t to[16], int family, const struct nlattr *a)
{
	size_t len = family_bytes(family);

	if (len == 0 || mnl_attr_get_payload_len(a) != len)
		return false;
	memcpy(to, mnl_attr_get_payload(a), len);
	return true;
}

/* --- addresses ----------------------------------------------------------------------------------
 */

struct address_listing {
	host_address_fn *fn;
	void *arg;
	int result;
};

static void take_lifetime(struct host_address *address, const struct nlattr *a)
{
	struct ifa_cacheinfo info;

	if (mnl_attr_get_payload_len(a) < sizeof(info))
		return;
	memcpy(&info, mnl_attr_get_payload(a), sizeof(info));
	address->valid_s = info.ifa_valid == FOR_EVER ? 0 : info.ifa_valid;
	address->preferred_s = info.ifa_prefered == FOR_EVER ? 0 : info.ifa_prefered;
}

static int take_address(const struct nlmsghdr *hdr, void *arg)
{
	const struct ifaddrmsg *msg = mnl_nlmsg_get_payload(hdr);
	struct address_listing *list = arg;
	struct host_address address = {.index = (int)msg->ifa_index,
				       .family = msg->ifa_family,
				       .prefix = msg->ifa_prefixlen,
				       .tentative = msg->ifa_flags & IFA_F_TENTATIVE};
	const struct nlattr *a;
	bool have = false, local = false;

	/* IFA_LOCAL is ours where a link has two ends, IFA_ADDRESS the other one's. */
	mnl_attr_for_each(a, hdr, sizeof(*msg))
	{
		if (mnl_attr_get_type(a) == IFA_CACHEINFO)
			take_lifetime(&address, a);
		else if (mnl_attr_get_type(a) == IFA_LOCAL)
			local = have = take_bytes(address.addr, address.family, a);
		else if (mnl_attr_get_type(a) == IFA_ADDRESS && !local)
			have = take_bytes(address.addr, address.family, a);
	}
	if (have && list->result == 0)
		list->result = list->fn(&address, list->arg);
	return MNL_CB_OK;
}

int host_addresses(host_address_fn *fn, void *arg)
{
	struct address_listing list = {.fn = fn, .arg = arg};
	struct nl_request rq;
	int r;

	nl_begin(&rq, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	r = nl_talk(&rq, take_address, &list);
	return r < 0 ? r : list.result;
}

static int change_address(uint16_t type, uint16_t flags, const struct host_address *address,
			  const char *what, struct err *err)
{
	size_t len = family_bytes(address->family);
	struct nl_request rq;
	struct ifaddrmsg *msg = nl_begin(&rq, type, flags, sizeof(*msg));
	char name[16];

	if (len == 0 || address->prefix > 8 * len)
		return err_set(err, -EINVAL, "no such address");
	msg->ifa_family = (uint8_t)address->family;
	msg->ifa_prefixlen = (uint8_t)address->prefix;
	msg->ifa_index = (uint32_t)address->index;
	/* There are no others on a link of ours to ask whether they have it. */
	if (address->family == AF_INET6)
		msg->ifa_flags = IFA_F_NODAD;
	mnl_attr_put(rq.hdr, IFA_LOCAL, len, address->addr);
	mnl_attr_put(rq.hdr, IFA_ADDRESS, len, address->addr);
	if (address->family == AF_INET && address->prefix < 31) {
		uint32_t ip, broadcast;

		memcpy(&ip, address->addr, 4);
		broadcast = ip | htonl(0xffffffffu >> address->prefix);
		mnl_attr_put_u32(rq.hdr, IFA_BROADCAST, broadcast);
	}
	if (address->valid_s) {
		struct ifa_cacheinfo info = {
		    .ifa_valid = address->valid_s,
		    .ifa_prefered = address->preferred_s ? address->preferred_s : address->valid_s};

		mnl_attr_put(rq.hdr, IFA_CACHEINFO, sizeof(info), &info);
	}
	snprintf(name, sizeof(name), "%d", address->index);
	return nl_words(nl_talk(&rq, NULL, NULL), err, what, name);
}

int host_address_add(const struct host_address *address, struct err *err)
{
	return change_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address,
			      "address of interface", err);
}

int host_address_remove(const struct host_address *address, struct err *err)
{
	return change_address(RTM_DELADDR, 0, address, "removing the address of interface", err);
}

/* --- routes -------------------------------------------------------------------------------------
 */

struct route_listing {
	host_route_fn *fn;
	void *arg;
	int result;
};

static int take_route(const struct nlmsghdr *hdr, void *arg)
{
	const struct rtmsg *msg = mnl_nlmsg_get_payload(hdr);
	struct route_listing *list = arg;
	struct host_route route = {.family = msg->rtm_family,
				   .prefix = msg->rtm_dst_len,
				   .protocol = msg->rtm_protocol,
				   .scope = msg->rtm_scope};
	uint32_t table = msg->rtm_table;
	const struct nlattr *a;

	mnl_attr_for_each(a, hdr, sizeof(*msg))
	{
		if (mnl_attr_get_type(a) == RTA_DST)
			take_bytes(route.to, route.family, a);
		else if (mnl_attr_get_type(a) == RTA_GATEWAY)
			route.has_via = take_bytes(route.via, route.family, a);
		else if (mnl_attr_get_type(a) == RTA_OIF)
			route.index = (int)mnl_attr_get_u32(a);
		else if (mnl_attr_get_type(a) == RTA_PRIORITY)
			route.metric = mnl_attr_get_u32(a);
		else if (mnl_attr_get_type(a) == RTA_PREFSRC)
			route.has_from = take_bytes(route.from, route.family, a);
		else if (mnl_attr_get_type(a) == RTA_TABLE)
			table = mnl_attr_get_u32(a);
	}
	if (msg->rtm_type == RTN_UNICAST && table == RT_TABLE_MAIN &&
	    family_bytes(route.family) != 0 && list->result == 0)
		list->result = list->fn(&route, list->arg);
	return MNL_CB_OK;
}

int host_routes(host_route_fn *fn, void *arg)
{
	struct route_listing list = {.fn = fn, .arg = arg};
	struct nl_request rq;
	int r;

	nl_begin(&rq, RTM_GETROUTE, NLM_F_DUMP, sizeof(struct rtmsg));
	r = nl_talk(&rq, take_route, &list);
	return r < 0 ? r : list.result;
}

int host_route_add(const struct host_route *route, struct err *err)
{
	size_t len = family_bytes(route->family);
	struct nl_request rq;
	struct rtmsg *msg = nl_begin(&rq, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof(*msg));
	char name[16];

	if (len == 0 || route->prefix > 8 * len)
		return err_set(err, -EINVAL, "no such route");
	msg->rtm_family = (uint8_t)route->family;
	msg->rtm_dst_len = (uint8_t)route->prefix;
	msg->rtm_table = RT_TABLE_MAIN;
	msg->rtm_type = RTN_UNICAST;
	msg->rtm_protocol = route->protocol ? route->protocol : RTPROT_STATIC;
	msg->rtm_scope = route->scope;
	mnl_attr_put(rq.hdr, RTA_DST, len, route->to);
	if (route->has_via)
		mnl_attr_put(rq.hdr, RTA_GATEWAY, len, route->via);
	if (route->has_from)
		mnl_attr_put(rq.hdr, RTA_PREFSRC, len, route->from);
	if (route->metric)
		mnl_attr_put_u32(rq.hdr, RTA_PRIORITY, route->metric);
	if (route->index)
		mnl_attr_put_u32(rq.hdr, RTA_OIF, (uint32_t)route->index);
	snprintf(name, sizeof(name), "%d", route->index);
	return nl_words(nl_talk(&rq, NULL, NULL), err, "route of interface", name);
}

/* --- taps ---------------------------------------------------------------------------------------
 */

static int open_queue(const char *name, bool many, bool first)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = {.ifr_flags =
				(short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
					(many ? IFF_MULTI_QUEUE : 0) | (first ? IFF_TUN_EXCL : 0))};

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : take_fd(&fd);
}

int host_tap_make(const char *name, unsigned queues, int *fds, struct err *err)
{
	unsigned n = 0;
	int r = 0;

	if (strlen(name) >= IFNAMSIZ)
		return err_set(err, -EINVAL, "'%.40s' is no name for an interface", name);
	while (n < queues && (r = open_queue(name, queues > 1, n == 0)) >= 0)
		fds[n++] = r;
	if (r >= 0)
		return 0;
	while (n > 0)
		close(fds[--n]);
	if (r == -EBUSY)
		return err_set(err, r, "there is an interface %s already", name);
	return err_set(err, r, "tap %s: %s", name, strerror(-r));
}

int host_tap_lasting(const char *name, struct err *err)
{
	struct host_link link;
	int fd, r;

	r = host_tap_make(name, 1, &fd, err);
	if (r < 0)
		return r;
	r = ioctl(fd, TUNSETPERSIST, 1) < 0 ? -errno : host_link_find(name, 0, &link);
	close(fd);
	return r < 0 ? err_set(err, r, "tap %s: %s", name, strerror(-r)) : link.index;
}
