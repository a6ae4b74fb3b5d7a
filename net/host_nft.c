// SPDX-License-Identifier: ISC
/*
 * Rules of networks. See host_nft.h.
 *
 * The script begins with `table T; delete table T`, so that it is the same whether the tables are
 * there or not. Everything that is written into it is a number, or a name of an interface that
 * we chose: nothing that a user wrote comes here as text.
 *
 * In the chain `forward` drops of isolated networks come first, so that no other network's
 * `accept` (which ends the chain) lets through what they are not to hear or say.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>

#include "net/host_nft.h"
#include "util/cleanup.h"
#include "util/tool.h"

#define NFT_MS	    20000
#define COMMENT_MAX 100

/* --- words --------------------------------------------------------------------------------------
 */

static void put_address(struct strbuf *sb, int family, const uint8_t *addr)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(family, addr, text, sizeof(text));
	strbuf_puts(sb, text);
}

static void put_subnet(struct strbuf *sb, int family, const struct nft_subnet *subnet)
{
	struct nft_subnet masked = *subnet;
	unsigned bytes = family == AF_INET ? 4 : 16;

	for (unsigned i = 0; i < bytes; i++) {
		unsigned kept = subnet->prefix > 8 * i ? subnet->prefix - 8 * i : 0;

		masked.addr[i] &= kept >= 8 ? 0xff : (uint8_t)(0xff00 >> kept);
	}
	put_address(sb, family, masked.addr);
	strbuf_printf(sb, "/%u", subnet->prefix);
}

static void put_mac(struct strbuf *sb, const uint8_t mac[6])
{
	strbuf_printf(sb, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		      mac[5]);
}

/* --- ways in and out ----------------------------------------------------------------------------
 */

/*
 * What leaves a network bears its addresses. What stays in its bridge is none of this: with
 * br_netfilter it passes here as well.
 */
static void put_sources(const struct nft_network *net, struct strbuf *sb)
{
	if (net->v4.prefix) {
		strbuf_printf(sb, "  iifname \"%s\" oifname != \"%s\" ip saddr != ", net->bridge,
			      net->bridge);
		put_subnet(sb, AF_INET, &net->v4);
		strbuf_puts(sb, " drop\n");
	}
	if (net->v6.prefix) {
		strbuf_printf(sb, "  iifname \"%s\" oifname != \"%s\" ip6 saddr != { fe80::/10, ",
			      net->bridge, net->bridge);
		put_subnet(sb, AF_INET6, &net->v6);
		strbuf_puts(sb, " } drop\n");
	}
}

static void put_forward_chain(const struct nft_network *nets, size_t n, struct strbuf *sb)
{
	strbuf_puts(sb, " chain forward {\n"
			"  type filter hook forward priority filter; policy accept;\n");
	for (size_t i = 0; i < n; i++) {
		const struct nft_network *net = &nets[i];

		if (net->kind == NFT_ISOLATED) {
			strbuf_printf(sb, "  iifname \"%s\" oifname != \"%s\" drop\n", net->bridge,
				      net->bridge);
			strbuf_printf(sb, "  oifname \"%s\" iifname != \"%s\" drop\n", net->bridge,
				      net->bridge);
		} else if (net->kind == NFT_NAT || net->kind == NFT_ROUTE) {
			put_sources(net, sb);
		}
	}
	for (size_t i = 0; i < n; i++) {
		const struct nft_network *net = &nets[i];

		if (net->kind != NFT_NAT)
			continue;
		strbuf_printf(sb, "  iifname \"%s\" oifname \"%s\" accept\n", net->bridge,
			      net->bridge);
		strbuf_printf(sb, "  oifname \"%s\" ct state established,related accept\n",
			      net->bridge);
		strbuf_printf(sb, "  oifname \"%s\" ct status dnat accept\n", net->bridge);
		strbuf_printf(sb, "  oifname \"%s\" drop\n", net->bridge);
	}
	strbuf_puts(sb, " }\n");
}

/* Who is not to reach the host. Neighbours must be found all the same where it routes for them. */
static void put_host_chains(const struct nft_network *nets, size_t n, struct strbuf *sb)
{
	strbuf_puts(sb, " chain input {\n"
			"  type filter hook input priority filter; policy accept;\n");
	for (size_t i = 0; i < n; i++) {
		const char *bridge = nets[i].bridge;

		if (!nets[i].no_host || nets[i].kind == NFT_BRIDGED)
			continue;
		if (nets[i].services) {
			strbuf_printf(sb, "  iifname \"%s\" udp dport { 53, 67, 547 } accept\n",
				      bridge);
			strbuf_printf(sb, "  iifname \"%s\" tcp dport 53 accept\n", bridge);
		}
		if (nets[i].services || nets[i].kind != NFT_ISOLATED)
			strbuf_printf(sb,
				      "  iifname \"%s\" icmpv6 type { nd-router-solicit, "
				      "nd-neighbor-solicit, nd-neighbor-advert } accept\n",
				      bridge);
		strbuf_printf(sb, "  iifname \"%s\" ct state established,related accept\n", bridge);
		strbuf_printf(sb, "  iifname \"%s\" drop\n", bridge);
	}
	strbuf_puts(sb, " }\n chain output {\n"
			"  type filter hook output priority filter; policy accept;\n");
	for (size_t i = 0; i < n; i++)
		if (nets[i].no_host && !nets[i].services && nets[i].kind == NFT_ISOLATED)
			strbuf_printf(sb, "  oifname \"%s\" drop\n", nets[i].bridge);
	strbuf_puts(sb, " }\n");
}

/* --- addresses changed on the way ------------------------------------------------------------- */

static void put_dnat(const struct nft_forward *f, uint16_t first, uint16_t last, uint16_t to_port,
		     struct strbuf *sb)
{
	strbuf_printf(sb, "  fib daddr type local %s dport %u", f->udp ? "udp" : "tcp", first);
	if (last != first)
		strbuf_printf(sb, "-%u", last);
	strbuf_printf(sb, " dnat %s to %s", f->family == AF_INET ? "ip" : "ip6",
		      f->family == AF_INET ? "" : "[");
	put_address(sb, f->family, f->to);
	strbuf_puts(sb, f->family == AF_INET ? "" : "]");
	if (first != to_port)
		strbuf_printf(sb, ":%u", to_port);
	strbuf_puts(sb, "\n");
}

static void put_forwards(const struct nft_network *nets, size_t n, struct strbuf *sb)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < nets[i].n_forwards; k++) {
			const struct nft_forward *f = &nets[i].forwards[k];

			/* with other ports behind them, each has a rule: nft would choose one */
			if (f->first == f->to_port)
				put_dnat(f, f->first, f->last, f->to_port, sb);
			else
				for (unsigned p = f->first; p <= f->last; p++)
					put_dnat(f, (uint16_t)p, (uint16_t)p,
						 (uint16_t)(f->to_port + (p - f->first)), sb);
		}
}

/* One family of a network's subnets behind the host's address. */
static void put_masquerade(const struct nft_network *net, int family, struct strbuf *sb)
{
	const struct nft_subnet *subnet = family == AF_INET ? &net->v4 : &net->v6;
	const char *ip = family == AF_INET ? "ip" : "ip6";

	if (!subnet->prefix)
		return;
	if (net->kind == NFT_NAT) {
		strbuf_printf(sb, "  oifname != \"%s\" %s saddr ", net->bridge, ip);
		put_subnet(sb, family, subnet);
		strbuf_printf(sb, " %s daddr != ", ip);
		put_subnet(sb, family, subnet);
		strbuf_puts(sb, " masquerade\n");
	}
	/* a guest's call to a port of the host's that is its neighbour's: answers come back here */
	strbuf_printf(sb, "  oifname \"%s\" ct status dnat %s saddr ", net->bridge, ip);
	put_subnet(sb, family, subnet);
	strbuf_puts(sb, " masquerade\n");
	if (family == AF_INET && net->n_forwards)
		strbuf_printf(sb,
			      "  oifname \"%s\" ct status dnat ip saddr 127.0.0.0/8 masquerade\n",
			      net->bridge);
}

static void put_nat_chains(const struct nft_network *nets, size_t n, struct strbuf *sb)
{
	/* who forwards from 127.0.0.1 has the bridge route that: not for guests to begin */
	strbuf_puts(sb, " chain local {\n"
			"  type filter hook prerouting priority raw; policy accept;\n");
	for (size_t i = 0; i < n; i++)
		if (nets[i].kind != NFT_BRIDGED)
			strbuf_printf(sb, "  iifname \"%s\" ip daddr 127.0.0.0/8 drop\n",
				      nets[i].bridge);
	strbuf_puts(sb, " }\n chain prerouting {\n"
			"  type nat hook prerouting priority dstnat; policy accept;\n");
	put_forwards(nets, n, sb);
	strbuf_puts(sb, " }\n chain from_host {\n"
			"  type nat hook output priority -100; policy accept;\n");
	put_forwards(nets, n, sb);
	strbuf_puts(sb, " }\n chain postrouting {\n"
			"  type nat hook postrouting priority srcnat; policy accept;\n");
	for (size_t i = 0; i < n; i++)
		if (nets[i].kind == NFT_NAT || nets[i].kind == NFT_ROUTE) {
			put_masquerade(&nets[i], AF_INET, sb);
			put_masquerade(&nets[i], AF_INET6, sb);
		}
	strbuf_puts(sb, " }\n");
}

/* --- spoofing ----------------------------------------------------------------------------------
 */

static bool has_address(const struct nft_port *port)
{
	static const uint8_t none[4];

	return memcmp(port->addr, none, 4) != 0;
}

/*
 * Neighbour discovery (RFC 4861 §4.3, §4.4), which nft has no words for: what is 8 bytes into a
 * message is its target, and what is behind that is an option, mostly the sender's own address.
 */
static void put_neighbours(const struct nft_network *net, const uint8_t mac[6], struct strbuf *sb)
{
	static const struct {
		const char *type;
		unsigned option;
	} messages[] = {{"nd-neighbor-solicit", 0x0101}, {"nd-neighbor-advert", 0x0201}};

	for (size_t i = 0; i < nitems(messages); i++) {
		strbuf_printf(sb,
			      "  meta protocol ip6 icmpv6 type %s @th,192,16 0x%04x @th,208,48 != "
			      "0x",
			      messages[i].type, messages[i].option);
		for (unsigned k = 0; k < 6; k++)
			strbuf_printf(sb, "%02x", mac[k]);
		strbuf_puts(sb, " drop\n");
	}
	for (unsigned i = 0; i < net->n_host6; i++) {
		strbuf_puts(sb, "  meta protocol ip6 icmpv6 type nd-neighbor-advert @th,64,128 0x");
		for (unsigned k = 0; k < 16; k++)
			strbuf_printf(sb, "%02x", net->host6[i][k]);
		strbuf_puts(sb, " drop\n");
	}
}

/*
 * The same where what it says bears a VLAN's tag: nothing is known of addresses there. `ether type`
 * is the tag's, so what is behind it is asked for otherwise.
 */
static void put_tagged_port(const struct nft_network *net, const struct nft_port *port,
			    struct strbuf *sb)
{
	strbuf_printf(sb, " chain port_%s {\n  ether saddr != ", port->tap);
	put_mac(sb, port->mac);
	strbuf_printf(sb,
		      " drop\n  ether type != 8021q drop\n  vlan id != %u drop\n"
		      "  vlan type != { arp, ip, ip6 } drop\n"
		      "  meta protocol arp arp saddr ether != ",
		      port->vlan);
	put_mac(sb, port->mac);
	strbuf_puts(sb, " drop\n  udp sport { 67, 547 } drop\n"
			"  meta protocol ip6 icmpv6 type { nd-router-advert, nd-redirect } drop\n");
	put_neighbours(net, port->mac, sb);
	strbuf_puts(sb, " }\n");
}

/* What a guest may say: in its own name, and not as DHCP server or router. */
static void put_port(const struct nft_network *net, const struct nft_port *port, struct strbuf *sb)
{
	bool has4 = has_address(port) || net->v4.prefix, has6 = net->v6.prefix;

	if (port->vlan) {
		put_tagged_port(net, port, sb);
		return;
	}
	strbuf_printf(sb, " chain port_%s {\n  ether saddr != ", port->tap);
	put_mac(sb, port->mac);
	strbuf_puts(sb, " drop\n  ether type != { arp, ip, ip6 } drop\n  arp saddr ether != ");
	put_mac(sb, port->mac);
	strbuf_puts(sb, " drop\n");
	if (has4) {
		strbuf_puts(sb, "  arp saddr ip != { 0.0.0.0, ");
		if (has_address(port))
			put_address(sb, AF_INET, port->addr);
		else
			put_subnet(sb, AF_INET, &net->v4);
		strbuf_puts(sb, " } drop\n"
				"  ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
				"  ip saddr != ");
		if (has_address(port))
			put_address(sb, AF_INET, port->addr);
		else
			put_subnet(sb, AF_INET, &net->v4);
		strbuf_puts(sb, " drop\n");
	}
	if (has4 || has6) {
		strbuf_puts(sb, "  ip6 saddr != { ::, fe80::/10");
		if (has6) {
			strbuf_puts(sb, ", ");
			put_subnet(sb, AF_INET6, &net->v6);
		}
		strbuf_puts(sb, " } drop\n");
	}
	strbuf_puts(sb, "  udp sport { 67, 547 } drop\n"
			"  icmpv6 type { nd-router-advert, nd-redirect } drop\n");
	put_neighbours(net, port->mac, sb);
	strbuf_puts(sb, " }\n");
}

static void put_bridge_table(const char *table, const char *owner, const struct nft_network *nets,
			     size_t n, struct strbuf *sb)
{
	size_t ports = 0;

	strbuf_printf(sb, "table bridge %s {\n comment \"%s\"\n", table, owner);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; nets[i].strict && k < nets[i].n_ports; k++, ports++)
			put_port(&nets[i], &nets[i].ports[k], sb);
	strbuf_puts(sb, " chain ports {\n"
			"  type filter hook prerouting priority filter; policy accept;\n");
	if (ports) {
		strbuf_puts(sb, "  iifname vmap {");
		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; nets[i].strict && k < nets[i].n_ports; k++)
				strbuf_printf(sb, " \"%s\" : jump port_%s%s", nets[i].ports[k].tap,
					      nets[i].ports[k].tap, --ports ? "," : "");
		strbuf_puts(sb, " }\n");
	}
	strbuf_puts(sb, " }\n}\n");
}

/* --- the script --------------------------------------------------------------------------------
 */

static const char *const families[] = {"inet", "bridge"};

/* A comment ends in quotes, and is no longer than the kernel likes. */
static void comment_of(const char *owner, char words[COMMENT_MAX])
{
	size_t len = 0;

	for (; *owner && len < COMMENT_MAX - 1; owner++)
		words[len++] = *owner < 0x20 || *owner > 0x7e || *owner == '"' ? '?' : *owner;
	words[len] = '\0';
}

void host_nft_script(const char *table, const char *owner, const struct nft_network *nets, size_t n,
		     struct strbuf *sb)
{
	char words[COMMENT_MAX];

	comment_of(owner, words);
	for (size_t i = 0; i < nitems(families); i++)
		strbuf_printf(sb, "table %s %s\ndelete table %s %s\n", families[i], table,
			      families[i], table);
	if (n == 0)
		return;
	strbuf_printf(sb, "table inet %s {\n comment \"%s\"\n", table, words);
	put_forward_chain(nets, n, sb);
	put_host_chains(nets, n, sb);
	put_nat_chains(nets, n, sb);
	strbuf_puts(sb, "}\n");
	put_bridge_table(table, words, nets, n, sb);
}

int host_nft_apply(const char *script, struct cancel *cancel, struct err *err)
{
	static const char *const argv[] = {"nft", "-f", "-", NULL};
	struct tool tool = {.argv = argv, .input = script, .cancel = cancel, .timeout_ms = NFT_MS};

	return tool_run(&tool, err);
}

static int list_table(const char *family, const char *table, struct strbuf *text, struct err *err)
{
	const char *argv[] = {"nft", "-s", "list", "table", family, table, NULL};
	struct tool tool = {.argv = argv, .timeout_ms = NFT_MS, .out = text};

	return tool_run(&tool, err);
}

int host_nft_list(const char *table, struct strbuf *text, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < nitems(families); i++)
		r = list_table(families[i], table, text, err);
	return r;
}

int host_nft_check(const char *table, const char *owner, struct err *err)
{
	char words[COMMENT_MAX], comment[COMMENT_MAX + 16];

	comment_of(owner, words);
	snprintf(comment, sizeof(comment), "\tcomment \"%s\"\n", words);
	for (size_t i = 0; i < nitems(families); i++) {
		_cleanup_strbuf_ struct strbuf text = STRBUF_INIT;

		/* Where nft itself cannot be run, who wants to apply something will hear of it. */
		if (list_table(families[i], table, &text, NULL) == 0 && text.data &&
		    !strstr(text.data, comment))
			return err_set(err, -EEXIST,
				       "there is a table %s %s in nftables that is not ours",
				       families[i], table);
	}
	return 0;
}

bool host_nft_docker_drops(void)
{
	static const char *const user[] = {"nft",    "list",	    "chain", "ip",
					   "filter", "DOCKER-USER", NULL};
	static const char *const forward[] = {"nft",	"list",	   "chain", "ip",
					      "filter", "FORWARD", NULL};
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT, unused = STRBUF_INIT;
	struct tool tool = {.argv = user, .timeout_ms = NFT_MS, .out = &unused};

	if (tool_run(&tool, NULL) < 0)
		return false;
	tool.argv = forward;
	tool.out = &sb;
	return tool_run(&tool, NULL) == 0 && sb.data && strstr(sb.data, "policy drop");
}

int host_nft_watch_open(void)
{
	_cleanup_close_ int fd =
	    socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	struct sockaddr_nl addr = {.nl_family = AF_NETLINK};
	int group = NFNLGRP_NFTABLES;

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	return take_fd(&fd);
}
