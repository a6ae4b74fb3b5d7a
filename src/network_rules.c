// SPDX-License-Identifier: ISC
/*
 * Rules of all networks: collected, applied as one script, and compared with what is there when
 * somebody changed rules (`nft flush ruleset`, a firewall that loads its own).
 */
#define LOG_MODULE "network"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/log.h"

#define NOTE ".rules" /* in RUN/networks: there are tables of ours */

struct rules {
	struct nft_network *networks;
	size_t n;
};

static void rules_free(struct rules *rules)
{
	for (size_t i = 0; i < rules->n; i++) {
		free((void *)rules->networks[i].ports);
		free((void *)rules->networks[i].forwards);
	}
	free(rules->networks);
}

static void take_subnet(const char *text, int family, struct nft_subnet *to)
{
	struct subnet s;

	if (subnet_parse(text, family, &s, NULL) < 0 || !s.family)
		return;
	memcpy(to->addr, s.net, sizeof(to->addr));
	to->prefix = s.prefix;
}

/* Its address in the subnet, and that of the link, by which it is a router (RFC 4291 §2.5.6). */
static void take_host6(const struct network *network, struct nft_network *net)
{
	struct subnet s;
	uint8_t *local = net->host6[net->n_host6++], mac[6];

	network_bridge_mac(network, mac);
	local[0] = 0xfe;
	local[1] = 0x80;
	local[8] = mac[0] ^ 2;
	local[9] = mac[1];
	local[10] = mac[2];
	local[11] = 0xff;
	local[12] = 0xfe;
	memcpy(local + 13, mac + 3, 3);
	if (subnet_parse(network->values->subnet6, AF_INET6, &s, NULL) == 0 && s.family)
		memcpy(net->host6[net->n_host6++], s.host, 16);
}

/* Under the lock. */
static void take_values(const struct network *network, struct nft_network *net)
{
	static const enum nft_kind kinds[] = {[MODE_NAT] = NFT_NAT,
					      [MODE_ROUTE] = NFT_ROUTE,
					      [MODE_ISOLATED] = NFT_ISOLATED,
					      [MODE_BRIDGE] = NFT_BRIDGED,
					      [MODE_USER] = NFT_BRIDGED};
	const struct network_values *values = network->values;

	net->kind = kinds[values->mode];
	strcpy(net->bridge, network->bridge);
	net->strict = network_strict(values);
	if (!network_has_bridge(values))
		return;
	/* who has no host there has addresses that we do not know */
	net->no_host = !values->host;
	net->services = network_has_dnsmasq(values);
	if (net->services || values->mode != MODE_ISOLATED) {
		take_subnet(values->subnet, AF_INET, &net->v4);
		take_subnet(values->subnet6, AF_INET6, &net->v6);
		take_host6(network, net);
	}
}

/* Under the lock. */
static int take_ports(const struct network *network, struct nft_network *net)
{
	struct nft_port *ports = calloc(network->n_ports + 1, sizeof(*ports));

	if (!ports)
		return -ENOMEM;
	net->ports = ports;
	for (size_t i = 0; i < network->n_ports; i++) {
		struct nft_port *port = &ports[net->n_ports];

		if (!*network->ports[i].tap)
			continue;
		strcpy(port->tap, network->ports[i].tap);
		memcpy(port->mac, network->ports[i].mac, 6);
		memcpy(port->addr, network->ports[i].addr, 4);
		port->vlan = network->ports[i].vlan;
		net->n_ports++;
	}
	return 0;
}

/* The address that the first card of that machine holds here. Not under the lock. */
static bool find_target(struct network *network, const char *target, struct nft_forward *f)
{
	_cleanup_machine_ struct machine *m = NULL;

	f->family = AF_INET;
	if (inet_pton(AF_INET, target, f->to) == 1)
		return true;
	f->family = AF_INET6;
	if (inet_pton(AF_INET6, target, f->to) == 1)
		return true;
	f->family = AF_INET;
	m = model_machine_get(network->model, target);
	LOCK_SCOPE(&network->lock);
	for (size_t i = 0; m && i < network->n_held; i++)
		if (strcmp(network->held[i].id, m->id) == 0) {
			memcpy(f->to, network->held[i].addr, 4);
			return true;
		}
	return false;
}

static int take_forwards(struct network *network, struct nft_network *net)
{
	_cleanup_free_ struct network_forward *copy = NULL;
	struct nft_forward *forwards;
	size_t n;

	if (net->kind != NFT_NAT && net->kind != NFT_ROUTE)
		return 0;
	copy = forwards_copy(network, &n);
	forwards = calloc(n + 1, sizeof(*forwards));
	net->forwards = forwards;
	if (!copy || !forwards)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct nft_forward *f = &forwards[net->n_forwards];

		*f = (struct nft_forward){.udp = copy[i].udp,
					  .first = copy[i].first,
					  .last = copy[i].last,
					  .to_port = copy[i].to_port};
		net->n_forwards += find_target(network, copy[i].target, f);
	}
	return 0;
}

static int collect(struct networks *networks, struct rules *rules)
{
	uint64_t cursor = 0;
	struct network *next;
	int r = 0;

	while (r == 0 && (next = model_network_next(networks->model, &cursor))) {
		_cleanup_network_ struct network *network = next;
		struct nft_network *more, *net;
		bool ruled;

		more = realloc(rules->networks, (rules->n + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		rules->networks = more;
		net = &more[rules->n];
		memset(net, 0, sizeof(*net));
		pthread_mutex_lock(&network->lock);
		ruled = network->ruled && *network->bridge;
		if (ruled) {
			take_values(network, net);
			r = take_ports(network, net);
			rules->n++;
		}
		pthread_mutex_unlock(&network->lock);
		if (ruled && r == 0)
			r = take_forwards(network, net);
	}
	return r;
}

/* Under networks.rules. */
static int apply(struct networks *networks, struct cancel *cancel, struct err *err)
{
	_cleanup_strbuf_ struct strbuf script = STRBUF_INIT, listed = STRBUF_INIT;
	_cleanup_(rules_free) struct rules rules = {0};
	_cleanup_close_ int note = -1;
	int r = collect(networks, &rules);

	if (r < 0)
		return err_set(err, r, "out of memory");
	if (rules.n == 0 && !networks->applied && faccessat(networks->run_dir, NOTE, F_OK, 0) < 0)
		return 0;
	if (!networks->applied)
		r = host_nft_check(networks->table, networks->model->state_dir, err);
	if (r < 0)
		return r;
	note = openat(networks->run_dir, NOTE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	host_nft_script(networks->table, networks->model->state_dir, rules.networks, rules.n,
			&script);
	if (script.failed)
		return err_set(err, -ENOMEM, "out of memory");
	r = host_nft_apply(script.data, cancel, err);
	if (r < 0)
		return r;
	free(take_ptr(networks->applied));
	if (rules.n == 0)
		unlinkat(networks->run_dir, NOTE, 0);
	else if (host_nft_list(networks->table, &listed, NULL) == 0)
		networks->applied = strbuf_steal(&listed);
	return 0;
}

int rules_apply(struct networks *networks, struct cancel *cancel, struct err *err)
{
	LOCK_SCOPE(&networks->rules);
	return apply(networks, cancel, err);
}

bool rules_restore(struct networks *networks)
{
	_cleanup_strbuf_ struct strbuf listed = STRBUF_INIT, sb = STRBUF_INIT;
	struct err err = ERR_INIT;

	LOCK_SCOPE(&networks->rules);
	if (!networks->applied)
		return false;
	host_nft_list(networks->table, &listed, NULL);
	if (listed.data && strcmp(listed.data, networks->applied) == 0)
		return false;
	if (apply(networks, &networks->model->stopping, &err) < 0) {
		log_error("rules of networks are gone and cannot be restored: %s", err.text);
		return false;
	}
	log_warn("rules of networks were changed by others: restored");
	event_begin(&sb, "network-rules-restored");
	event_text(&sb, "table", networks->table);
	model_event(networks->model, &sb);
	return true;
}
