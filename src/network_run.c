// SPDX-License-Identifier: ISC
/*
 * A network on the host: its bridge, addresses, forwarding, rules, dnsmasq.
 *
 * RUN/networks/NAME/state says "running" before anything is made and until all is gone, so that
 * the next daemon takes it up or ends it (network_find.c). Starting is the same whether parts are
 * there or not: what bears our alias is ours. What others have under our names is reported.
 */
#define LOG_MODULE "network"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

/* --- names, notes, knobs -----------------------------------------------------------------------
 */

int network_run_dir(struct network *network, bool make)
{
	int parent = network->model->networks->run_dir, fd;

	if (make && mkdirat(parent, network->name, 0711) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(parent, network->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (make && fchmod(fd, 0711) < 0)
		log_warn("networks/%s: %m", network->name);
	return fd;
}

void network_bridge_name(const struct network *network, char name[IFNAMSIZ])
{
	if (strlen(network->name) <= IFNAMSIZ - 1 - 3)
		snprintf(name, IFNAMSIZ, "fv-%s", network->name);
	else
		snprintf(name, IFNAMSIZ, "fv-%.6s-%.5s", network->name, network->id);
}

void network_bridge_mac(const struct network *network, uint8_t mac[6])
{
	unsigned hash = 0;

	mac[0] = 0x52;
	mac[1] = 0x54;
	for (const char *p = network->id; *p; p++)
		hash = hash * 31 + (unsigned char)*p;
	memcpy(mac + 2, &hash, 4);
}

void network_alias(const struct network *network, const char *what, char alias[HOST_ALIAS_MAX])
{
	snprintf(alias, HOST_ALIAS_MAX, "%s %s %s", network->model->networks->table, network->id,
		 what);
}

bool networks_made(struct networks *networks, const struct host_link *link)
{
	size_t n = strlen(networks->table);

	return strncmp(link->alias, networks->table, n) == 0 && link->alias[n] == ' ';
}

int sysctl_write(const char *path, const char *value)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : file_write_all(fd, value, strlen(value));
}

int sysctl_read(const char *path, char *value, size_t size)
{
	_cleanup_free_ char *text = NULL;
	int r = file_read(AT_FDCWD, path, 4096, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	snprintf(value, size, "%s", text);
	return 0;
}

static void bridge_knob(const struct network *network, const char *family, const char *knob,
			const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, network->bridge, knob);
	if (sysctl_write(path, value) < 0)
		log_debug("%s: %m", path);
}

static int note_state(struct network *network, const char *state)
{
	_cleanup_close_ int dir = network_run_dir(network, true), fd = -1;

	if (dir < 0)
		return dir;
	fd = openat(dir, "state", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : file_write_all(fd, state, strlen(state));
}

/* What is in RUN/networks/NAME, and the directory. */
static void clear_run_dir(struct network *network)
{
	int parent = network->model->networks->run_dir;
	_cleanup_close_ int dir = network_run_dir(network, false);
	struct dirent **entries;
	int n = dir < 0 ? -1 : scandirat(dir, ".", &entries, NULL, NULL);

	for (int i = 0; i < n; i++) {
		if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0)
			unlinkat(dir, entries[i]->d_name, 0);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	if (dir >= 0 && unlinkat(parent, network->name, AT_REMOVEDIR) < 0)
		log_warn("cannot remove networks/%s: %m", network->name);
}

/* --- forwarding of the host ---------------------------------------------------------------------
 */

static const struct {
	const char *path, *note;
} forwarding[] = {
    {"/proc/sys/net/ipv4/ip_forward", ".ip_forward"},
    {"/proc/sys/net/ipv6/conf/all/forwarding", ".ip6_forwarding"},
};

/* A host that forwards IPv6 hears no routers any more, unless told so. */
static int default_route(const struct host_route *route, void *arg)
{
	if (route->family != AF_INET6 || route->prefix || !route->index)
		return 0;
	*(int *)arg = route->index;
	return 1;
}

static int may_forward6(struct err *err)
{
	struct host_link link;
	char path[96], value[16];
	int index = 0;

	if (host_routes(default_route, &index) <= 0 || host_link_find(NULL, index, &link) < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", link.name);
	if (sysctl_read(path, value, sizeof(value)) < 0 || strcmp(value, "1") != 0)
		return 0;
	return err_set(err, -EBUSY,
		       "forwarding IPv6 would cost the host its route by %s: set "
		       "net.ipv6.conf.%s.accept_ra = 2 first",
		       link.name, link.name);
}

/* Under networks.rules. What it was is noted before it is changed. */
static int forward_on(struct networks *networks, size_t which, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char value[16];
	int r = sysctl_read(forwarding[which].path, value, sizeof(value));

	if (r == 0 && strcmp(value, "0") != 0)
		return 0;
	if (r == 0 && which == 1)
		r = may_forward6(err);
	if (r < 0)
		return err && *err->text
			   ? r
			   : err_set(err, r, "%s: %s", forwarding[which].path, strerror(-r));
	fd =
	    openat(networks->run_dir, forwarding[which].note, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : sysctl_write(forwarding[which].path, "1");
	return r < 0 ? err_set(err, r, "%s: %s", forwarding[which].path, strerror(-r)) : 0;
}

static bool anybody_forwards(struct networks *networks)
{
	uint64_t cursor = 0;
	struct network *next;
	bool any = false;

	while (!any && (next = model_network_next(networks->model, &cursor))) {
		_cleanup_network_ struct network *network = next;

		LOCK_SCOPE(&network->lock);
		any = network->ruled &&
		      (network->values->mode == MODE_NAT || network->values->mode == MODE_ROUTE);
	}
	return any;
}

/* The last one that is routed puts back what was noted. */
static void forward_off(struct networks *networks)
{
	LOCK_SCOPE(&networks->rules);
	if (anybody_forwards(networks))
		return;
	for (size_t i = 0; i < nitems(forwarding); i++)
		if (unlinkat(networks->run_dir, forwarding[i].note, 0) == 0 &&
		    sysctl_write(forwarding[i].path, "0") < 0)
			log_warn("%s: %m", forwarding[i].path);
}

static int start_forwarding(struct network *network, const struct network_values *values,
			    struct err *err)
{
	struct networks *networks = network->model->networks;
	int r;

	if (values->mode != MODE_NAT && values->mode != MODE_ROUTE)
		return 0;
	LOCK_SCOPE(&networks->rules);
	r = *values->subnet ? forward_on(networks, 0, err) : 0;
	return r == 0 && *values->subnet6 ? forward_on(networks, 1, err) : r;
}

/* --- starting -----------------------------------------------------------------------------------
 */

static void set_bridge(struct network *network, const char *name, int index, bool ruled)
{
	LOCK_SCOPE(&network->lock);
	strcpy(network->bridge, name);
	network->bridge_index = index;
	network->direct = false;
	network->ruled = ruled;
}

/* One that is there is ours if it says so. Its index. */
static int make_bridge(struct network *network, const struct network_values *values,
		       struct err *err)
{
	char alias[HOST_ALIAS_MAX], name[IFNAMSIZ];
	uint8_t mac[6];
	struct host_link_new new = {.kind = HOST_BRIDGE, .name = name, .alias = alias, .mac = mac};
	struct host_link link;

	network_alias(network, "network", alias);
	network_bridge_name(network, name);
	network_bridge_mac(network, mac);
	new.mtu = (uint32_t)values->mtu;
	if (host_link_find(name, 0, &link) < 0)
		return host_link_make(&new, err);
	if (strcmp(link.alias, alias) != 0)
		return err_set(err, -EEXIST, "there is an interface %s that is not this network's",
			       name);
	return link.index;
}

static int add_address(int index, const struct subnet *s, struct err *err)
{
	struct host_address address = {.index = index, .family = s->family, .prefix = s->prefix};
	int r;

	if (!s->family)
		return 0;
	memcpy(address.addr, s->host, sizeof(address.addr));
	r = host_address_add(&address, err);
	return r == -EEXIST ? 0 : r;
}

/* Its own bridge's index, or 0. */
static int own_index(const struct network *network)
{
	char alias[HOST_ALIAS_MAX], name[IFNAMSIZ];
	struct host_link link;

	network_alias(network, "network", alias);
	network_bridge_name(network, name);
	return host_link_find(name, 0, &link) == 0 && strcmp(link.alias, alias) == 0 ? link.index
										     : 0;
}

static int check_subnets(struct network *network, const struct subnet *v4, const struct subnet *v6,
			 struct err *err)
{
	struct networks *networks = network->model->networks;
	int own = own_index(network), r = subnet_must_be_free(networks, network, v4, own, err);

	if (r < 0)
		return err_prefix(err, "subnet");
	r = subnet_must_be_free(networks, network, v6, own, err);
	return r < 0 ? err_prefix(err, "subnet6") : 0;
}

static int start_own(struct network *network, const struct network_values *values,
		     struct cancel *cancel, struct err *err)
{
	struct host_link_set up = {.up = 1, .master = -1};
	bool addressed = values->host || values->mode != MODE_ISOLATED;
	struct subnet v4 = {0}, v6 = {0};
	char name[IFNAMSIZ];
	int index, r = 0;

	network_bridge_name(network, name);
	if (addressed) {
		subnet_parse(values->subnet, AF_INET, &v4, NULL);
		subnet_parse(values->subnet6, AF_INET6, &v6, NULL);
		r = check_subnets(network, &v4, &v6, err);
	}
	if (r < 0)
		return r;
	index = make_bridge(network, values, err);
	if (index < 0)
		return index;
	set_bridge(network, name, index, true);
	/* nothing passes before it is filtered */
	r = rules_apply(network->model->networks, cancel, err);
	bridge_knob(network, "ipv6", "accept_ra", "0");
	bridge_knob(network, "ipv6", "disable_ipv6", addressed ? "0" : "1");
	bridge_knob(network, "ipv4", "route_localnet", "1");
	if (r == 0)
		r = add_address(index, &v4, err);
	if (r == 0)
		r = add_address(index, &v6, err);
	if (r == 0)
		r = host_link_set(index, &up, err);
	if (r == 0)
		r = start_forwarding(network, values, err);
	if (r == 0 && network_has_dnsmasq(values) && !dns_adopt(network))
		r = dns_start(network, err);
	return r;
}

/* An interface that is no bridge: cards are macvtaps over it. */
static int may_be_direct(const struct network_values *values, const struct host_link *link,
			 struct err *err)
{
	static const uint8_t none[6];
	struct host_link master;

	if (memcmp(link->mac, none, 6) == 0)
		return err_set(err, -EINVAL, "%s is no Ethernet interface", link->name);
	if (link->master && host_link_find(NULL, link->master, &master) == 0)
		return err_set(err, -EBUSY, "%s is a port of %s: name that", link->name,
			       master.name);
	if (values->filter == FILTER_STRICT)
		return err_set(err, -EOPNOTSUPP,
			       "filter = strict needs a bridge, and %s is none: make one with it "
			       "as a port, and name that",
			       link->name);
	return 0;
}

static int start_bridged(struct network *network, const struct network_values *values,
			 struct cancel *cancel, struct err *err)
{
	struct host_link link;
	bool direct;
	int r;

	if (!*values->interface)
		return err_set(err, -EINVAL, "interface is not set: which bridge?");
	if (host_link_find(values->interface, 0, &link) < 0)
		return err_set(err, -ENODEV, "the host has no interface %s", values->interface);
	direct = strcmp(link.kind, "bridge") != 0;
	r = direct ? may_be_direct(values, &link, err) : 0;
	if (r < 0)
		return r;
	set_bridge(network, link.name, link.index, !direct && network_strict(values));
	pthread_mutex_lock(&network->lock);
	network->direct = direct;
	pthread_mutex_unlock(&network->lock);
	return rules_apply(network->model->networks, cancel, err);
}

static int start_parts(struct network *network, const struct network_values *values,
		       struct cancel *cancel, struct err *err)
{
	int r = note_state(network, "running\n");

	if (r < 0)
		return err_set(err, r, "cannot write in %s: %s", network->model->run_dir,
			       strerror(-r));
	if (network_has_bridge(values))
		return start_own(network, values, cancel, err);
	if (values->mode == MODE_BRIDGE)
		return start_bridged(network, values, cancel, err);
	return 0;
}

static void set_state(struct network *network, enum network_state state, const char *trouble)
{
	LOCK_SCOPE(&network->lock);
	network_set_state(network, state, trouble);
}

/* dnsmasq's leases are heard of. */
static void watch_dir(struct network *network)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/networks/%s", network->model->run_dir, network->name) < 0)
		return;
	network->watch =
	    inotify_add_watch(network->model->networks->notes, path, IN_MODIFY | IN_CLOSE_WRITE);
}

/* Takes all of it off the host that is ours. */
static void clear(struct network *network)
{
	struct networks *networks = network->model->networks;
	struct err err = ERR_INIT;
	int index = own_index(network);

	note_state(network, "stopping\n");
	dns_stop(network);
	if (network->watch >= 0)
		inotify_rm_watch(networks->notes, take_fd(&network->watch));
	if (index > 0 && host_link_remove(index, &err) < 0)
		log_warn("network %s: %s", network->name, err.text);
	set_bridge(network, "", 0, false);
	if (rules_apply(networks, NULL, &err) < 0)
		log_warn("network %s: %s", network->name, err.text);
	forward_off(networks);
	clear_run_dir(network);
	LOCK_SCOPE(&network->lock);
	if (network->n_leases)
		network_touch(network, NETWORK_LEASES);
	network->n_leases = 0;
}

static bool hides_listeners(struct network *network, struct err *words)
{
	size_t n;
	_cleanup_free_ struct network_forward *copy = forwards_copy(network, &n);

	return copy && forwards_must_not_hide(copy, n, NULL, 0, words) < 0;
}

/* What is right with us, and yet does not work, or lets others' not work. */
static const char *words_at_start(struct network *network, const struct network_values *values,
				  struct err *err)
{
	if (values->mode != MODE_NAT && values->mode != MODE_ROUTE)
		return NULL;
	if (host_nft_docker_drops())
		return "Docker's rules drop what this network forwards: its chain DOCKER-USER "
		       "wants `iptables -I DOCKER-USER -i BRIDGE -j ACCEPT` and the same with -o";
	return hides_listeners(network, err) ? err->text : NULL;
}

int network_start(struct network *network, struct cancel *cancel, struct err *err)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	char words[ERR_TEXT_MAX + 32];
	struct err hidden = ERR_INIT;
	int r;

	if (!values)
		return err_set(err, -ENOMEM, "out of memory");
	if (!network_alive(network))
		return err_set(err, -ENOENT, "the network is gone");
	if (network->damaged)
		return err_set(err, -EROFS, "what is known of the network is damaged: see `error`");
	if (network_state(network) == NETWORK_RUNNING)
		return 0;
	if (network->n_ports == 0 && *network->bridge)
		clear(network); /* what failed before */
	set_state(network, NETWORK_STARTING, NULL);
	r = start_parts(network, values, cancel, err);
	if (r < 0) {
		if (network->n_ports == 0)
			clear(network);
		snprintf(words, sizeof(words), "%s start: %s", err_name(r), err ? err->text : "");
		set_state(network, NETWORK_FAILED, words);
		return r;
	}
	ports_join(network); /* that are left of a bridge that vanished, or of another daemon's */
	watch_dir(network);
	leases_read(network);
	set_state(network, NETWORK_RUNNING, words_at_start(network, values, &hidden));
	networks_watch_wake(network->model->networks);
	return 0;
}

int network_stop(struct network *network, bool force, struct err *err)
{
	char name[MACHINE_NAME_MAX + 1];
	struct machine *m = NULL;

	pthread_mutex_lock(&network->lock);
	if (network->n_ports)
		m = machine_get(network->ports[0].m);
	pthread_mutex_unlock(&network->lock);
	if (m && !force) {
		machine_name(m, name);
		machine_put(m);
		return err_set(err, -EBUSY, "machine %s is connected to it", name);
	}
	machine_put(m);
	if (network->damaged)
		return 0;
	if (network_state(network) != NETWORK_STOPPED || *network->bridge)
		clear(network);
	set_state(network, NETWORK_STOPPED, NULL);
	return 0;
}

/* --- ports, for the next daemon -----------------------------------------------------------------
 */

int network_note_ports(struct network *network)
{
	_cleanup_close_ int dir = network_run_dir(network, true);
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	pthread_mutex_lock(&network->lock);
	for (size_t i = 0; i < network->n_ports; i++) {
		const struct network_port *p = &network->ports[i];
		char mac[NIC_MAC_TEXT];

		nic_mac_show(p->mac, mac);
		strbuf_printf(&sb, "%s %s %s %s %u.%u.%u.%u %d %u %u\n", p->m->id, p->nic,
			      *p->tap ? p->tap : "-", mac, p->addr[0], p->addr[1], p->addr[2],
			      p->addr[3], (int)p->pid, p->vlan, p->pvid);
	}
	pthread_mutex_unlock(&network->lock);
	if (dir < 0 || sb.failed)
		return dir < 0 ? dir : -ENOMEM;
	return file_replace(dir, "ports", sb.data ? sb.data : "", sb.len, 0600);
}
