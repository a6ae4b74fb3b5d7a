// SPDX-License-Identifier: ISC
/*
 * Subnets: from text, compared with those of other networks and with what the host has, and one
 * that is free. Where a VPN or a LAN of the host's lies, no network of ours may: its packets
 * would go to guests.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "network_int.h"
#include "util/cleanup.h"

#define PREFIX4_MIN 8
#define PREFIX4_MAX 30
#define PREFIX6	    64

static unsigned bytes_of(int family)
{
	return family == AF_INET ? 4 : 16;
}

static void mask(uint8_t *addr, unsigned bytes, unsigned prefix)
{
	for (unsigned i = 0; i < bytes; i++) {
		unsigned kept = prefix > 8 * i ? prefix - 8 * i : 0;

		addr[i] &= kept >= 8 ? 0xff : (uint8_t)(0xff00 >> kept);
	}
}

void addr_add(const uint8_t base[4], uint32_t n, uint8_t sum[4])
{
	uint32_t value;

	memcpy(&value, base, 4);
	value = htonl(ntohl(value) + n);
	memcpy(sum, &value, 4);
}

/* Addresses that no network of guests can have. */
static bool reserved4(const struct subnet *s)
{
	static const struct {
		uint8_t addr[4];
		unsigned prefix;
	} others[] = {{{0}, 8}, {{127}, 8}, {{169, 254}, 16}, {{224}, 3}};

	for (size_t i = 0; i < nitems(others); i++) {
		struct subnet other = {.family = AF_INET, .prefix = others[i].prefix};

		memcpy(other.net, others[i].addr, 4);
		if (subnets_overlap(s, &other))
			return true;
	}
	return false;
}

/* A unicast address behind routers: 2000::/3, or fc00::/7. */
static bool reserved6(const struct subnet *s)
{
	return (s->net[0] & 0xe0) != 0x20 && (s->net[0] & 0xfe) != 0xfc;
}

static int check_host(struct subnet *s, const char *text, struct err *err)
{
	unsigned bytes = bytes_of(s->family);
	uint8_t last[4];

	if (memcmp(s->host, s->net, bytes) == 0)
		s->host[bytes - 1] |= 1; /* the first one */
	addr_add(s->net, (1u << (32 - (s->family == AF_INET ? s->prefix : 32))) - 1, last);
	if (s->family == AF_INET && memcmp(s->host, last, 4) == 0)
		return err_set(err, -EINVAL, "%.40s: the host cannot have the broadcast address",
			       text);
	return 0;
}

int subnet_parse(const char *text, int family, struct subnet *s, struct err *err)
{
	const char *slash = strchr(text, '/'), *what = family == AF_INET ? "IPv4" : "IPv6";
	char addr[INET6_ADDRSTRLEN];
	char *end = NULL;
	unsigned long prefix;

	memset(s, 0, sizeof(*s));
	if (!*text)
		return 0;
	prefix = slash && slash[1] >= '0' && slash[1] <= '9' ? strtoul(slash + 1, &end, 10) : 0;
	if (!end || *end || (size_t)(slash - text) >= sizeof(addr) || prefix > 128)
		return err_set(err, -EINVAL, "'%.64s' is no %s subnet as %s", text, what,
			       family == AF_INET ? "192.168.5.0/24" : "fd00:1:2:3::/64");
	memcpy(addr, text, (size_t)(slash - text));
	addr[slash - text] = '\0';
	if (inet_pton(family, addr, s->host) != 1)
		return err_set(err, -EINVAL, "'%.64s' is no %s address", addr, what);
	s->family = family;
	s->prefix = (unsigned)prefix;
	if (family == AF_INET && (prefix < PREFIX4_MIN || prefix > PREFIX4_MAX))
		return err_set(err, -EINVAL, "%.64s: a network has a prefix of %d to %d", text,
			       PREFIX4_MIN, PREFIX4_MAX);
	if (family == AF_INET6 && prefix != PREFIX6)
		return err_set(err, -EINVAL, "%.64s: a network of IPv6 has a prefix of %d", text,
			       PREFIX6);
	memcpy(s->net, s->host, sizeof(s->net));
	mask(s->net, bytes_of(family), s->prefix);
	if (family == AF_INET ? reserved4(s) : reserved6(s))
		return err_set(err, -EINVAL, "%.64s: such addresses are not for networks", text);
	return check_host(s, text, err);
}

void subnet_show(const struct subnet *s, struct strbuf *sb)
{
	uint8_t first[16];
	char text[INET6_ADDRSTRLEN];

	if (!s->family)
		return;
	/* the host has the first one: as it was said */
	memcpy(first, s->net, sizeof(first));
	first[bytes_of(s->family) - 1] |= 1;
	inet_ntop(s->family, memcmp(first, s->host, bytes_of(s->family)) == 0 ? s->net : s->host,
		  text, sizeof(text));
	strbuf_printf(sb, "%s/%u", text, s->prefix);
}

bool subnet_holds(const struct subnet *s, const uint8_t *addr)
{
	uint8_t net[16] = {0};

	memcpy(net, addr, bytes_of(s->family));
	mask(net, bytes_of(s->family), s->prefix);
	return memcmp(net, s->net, bytes_of(s->family)) == 0;
}

bool subnets_overlap(const struct subnet *a, const struct subnet *b)
{
	struct subnet wider;

	if (a->family != b->family || !a->family)
		return false;
	wider = a->prefix < b->prefix ? *a : *b;
	return subnet_holds(&wider, a->prefix < b->prefix ? b->net : a->net);
}

/* --- what others have ------------------------------------------------------------------------ */

struct overlap {
	const struct subnet *subnet;
	int except, index;
	struct subnet found;
};

static int compare(struct overlap *o, int family, const uint8_t *addr, unsigned prefix, int index)
{
	struct subnet other = {.family = family, .prefix = prefix};

	if (family != o->subnet->family || (index && index == o->except))
		return 0;
	memcpy(other.net, addr, bytes_of(family));
	mask(other.net, bytes_of(family), prefix);
	memcpy(other.host, addr, bytes_of(family));
	if (!subnets_overlap(o->subnet, &other))
		return 0;
	o->found = other;
	o->index = index;
	return 1;
}

static int compare_address(const struct host_address *a, void *arg)
{
	return compare(arg, a->family, a->addr, a->prefix, a->index);
}

static int compare_route(const struct host_route *route, void *arg)
{
	return route->prefix ? compare(arg, route->family, route->to, route->prefix, route->index)
			     : 0;
}

static int host_has(const struct subnet *subnet, int except, struct err *err)
{
	struct overlap o = {.subnet = subnet, .except = except};
	char text[INET6_ADDRSTRLEN];
	struct host_link link;
	int r = host_addresses(compare_address, &o);
	const char *what = "address";

	if (r == 0) {
		what = "route";
		r = host_routes(compare_route, &o);
	}
	if (r < 0)
		return err_set(err, r, "cannot read the host's addresses: %s", strerror(-r));
	if (r == 0)
		return 0;
	if (!o.index || host_link_find(NULL, o.index, &link) < 0)
		strcpy(link.name, "another");
	inet_ntop(o.found.family, o.found.host, text, sizeof(text));
	return err_set(err, -EEXIST, "it overlaps the host's %s %s/%u of interface %s", what, text,
		       o.found.prefix, link.name);
}

/* Also of those that do not run: they could not at the same time. */
static int networks_have(struct networks *networks, const struct network *own,
			 const struct subnet *subnet, struct err *err)
{
	LOCK_SCOPE(&networks->lock);
	for (size_t i = 0; i < networks->n; i++) {
		struct network *network = networks->list[i];
		struct subnet other;
		int family = subnet->family;

		if (network == own)
			continue;
		LOCK_SCOPE(&network->lock);
		if (!network_has_bridge(network->values) ||
		    subnet_parse(family == AF_INET ? network->values->subnet
						   : network->values->subnet6,
				 family, &other, NULL) < 0)
			continue;
		if (subnets_overlap(subnet, &other))
			return err_set(err, -EEXIST, "it overlaps the subnet of network %s",
				       network->name);
	}
	return 0;
}

int subnet_must_be_free(struct networks *networks, const struct network *own,
			const struct subnet *subnet, int except, struct err *err)
{
	int r = subnet->family ? networks_have(networks, own, subnet, err) : 0;

	return r == 0 && subnet->family ? host_has(subnet, except, err) : r;
}

/* --- a free one ---------------------------------------------------------------------------------
 */

/* The @i'th that is tried: 192.168.100 … 255, 0 … 99, then 10.1.0 … 10.254.0 */
static bool candidate4(unsigned i, struct subnet *s)
{
	*s = (struct subnet){.family = AF_INET, .prefix = 24};
	if (i < 256) {
		s->net[0] = 192;
		s->net[1] = 168;
		s->net[2] = (uint8_t)(i + 100);
	} else if (i < 256 + 254) {
		s->net[0] = 10;
		s->net[1] = (uint8_t)(i - 255);
	} else {
		return false;
	}
	memcpy(s->host, s->net, sizeof(s->host));
	s->host[3] = 1;
	return true;
}

/* RFC 4193: a random one is nobody's. */
static bool candidate6(unsigned i, struct subnet *s)
{
	*s = (struct subnet){.family = AF_INET6, .prefix = PREFIX6};
	s->net[0] = 0xfd;
	if (i > 16 || getrandom(s->net + 1, 7, 0) != 7)
		return false;
	memcpy(s->host, s->net, sizeof(s->host));
	s->host[15] = 1;
	return true;
}

int subnet_choose(struct networks *networks, const struct network *own, int family, char **text,
		  struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct subnet s;

	for (unsigned i = 0; family == AF_INET ? candidate4(i, &s) : candidate6(i, &s); i++) {
		int r = subnet_must_be_free(networks, own, &s, 0, NULL);

		if (r == -EEXIST)
			continue;
		if (r < 0)
			return err_set(err, r, "cannot read the host's addresses: %s",
				       strerror(-r));
		subnet_show(&s, &sb);
		*text = strbuf_steal(&sb);
		return *text ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	return err_set(err, -EADDRNOTAVAIL, "no subnet is free: set one");
}
