// SPDX-License-Identifier: ISC
/*
 * Who has which address. A card of a machine is given one when it is first plugged in, and has
 * it for ever (STATE/networks/NAME/leases): it is what the filter lets it use, what DHCP gives it
 * and what its name resolves to. The last quarter of a subnet is for those whom we do not know.
 */
#define LOG_MODULE "network"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "util/size.h"

#define LEASES_BYTES (4u << 20)
#define LEASES_MAX   65536

/* --- addresses that are held -------------------------------------------------------------------
 */

static uint32_t size_of(const struct subnet *s)
{
	return 1u << (32 - s->prefix);
}

/* How many of the first addresses are for machines: a small subnet is theirs alone. */
static uint32_t held_part(const struct subnet *s)
{
	uint32_t size = size_of(s);

	return size >= 16 ? size / 4 * 3 : size - 1;
}

bool lease_range(const struct subnet *s, uint8_t first[4], uint8_t last[4])
{
	if (s->family != AF_INET || size_of(s) < 16)
		return false;
	addr_add(s->net, held_part(s), first);
	addr_add(s->net, size_of(s) - 2, last);
	/* the host's own address cuts the range */
	if (memcmp(s->host, first, 4) >= 0 && memcmp(s->host, last, 4) <= 0)
		addr_add(s->host, memcmp(s->host, last, 4) == 0 ? -1u : 1,
			 memcmp(s->host, last, 4) == 0 ? last : first);
	return memcmp(first, last, 4) <= 0;
}

static struct held_address *find_held(struct network *network, const char *id, const char *nic)
{
	for (size_t i = 0; i < network->n_held; i++)
		if (strcmp(network->held[i].id, id) == 0 && strcmp(network->held[i].nic, nic) == 0)
			return &network->held[i];
	return NULL;
}

/* Under the lock: an address of the part for machines that nobody holds. */
static bool choose(struct network *network, const struct subnet *s, uint8_t addr[4])
{
	uint32_t n = held_part(s), base;
	_cleanup_free_ uint8_t *taken = calloc(n / 8 + 1, 1);

	if (!taken)
		return false;
	memcpy(&base, s->net, 4);
	for (size_t i = 0; i < network->n_held; i++) {
		uint32_t a;

		memcpy(&a, network->held[i].addr, 4);
		a = ntohl(a) - ntohl(base);
		if (a < n)
			taken[a / 8] |= (uint8_t)(1u << a % 8);
	}
	for (uint32_t i = 1; i < n; i++) {
		addr_add(s->net, i, addr);
		if (!(taken[i / 8] & (1u << i % 8)) && memcmp(addr, s->host, 4) != 0)
			return true;
	}
	return false;
}

/* The name of the machine of that id, where there is one. */
static bool machine_of(struct model *model, const char *id, char name[MACHINE_NAME_MAX + 1])
{
	uint64_t cursor = 0;
	struct machine *next;

	while ((next = model_machine_next(model, &cursor))) {
		_cleanup_machine_ struct machine *m = next;

		if (strcmp(m->id, id) != 0)
			continue;
		machine_name(m, name);
		return true;
	}
	return false;
}

/* Those of machines that are no more. Not under the lock. */
static void forget_gone(struct network *network)
{
	for (size_t i = 0;; i++) {
		char id[ID_TEXT], name[MACHINE_NAME_MAX + 1];

		pthread_mutex_lock(&network->lock);
		if (i >= network->n_held) {
			pthread_mutex_unlock(&network->lock);
			return;
		}
		strcpy(id, network->held[i].id);
		pthread_mutex_unlock(&network->lock);
		if (machine_of(network->model, id, name))
			continue;
		LOCK_SCOPE(&network->lock);
		network->held[i--] = network->held[--network->n_held];
	}
}

static int store(struct network *network, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	char text[INET_ADDRSTRLEN];

	pthread_mutex_lock(&network->lock);
	for (size_t i = 0; i < network->n_held; i++) {
		const struct held_address *h = &network->held[i];

		inet_ntop(AF_INET, h->addr, text, sizeof(text));
		strbuf_printf(&sb, "%s %s %s\n", h->id, h->nic, text);
	}
	pthread_mutex_unlock(&network->lock);
	return network_store_text(network, "leases", &sb, err);
}

/* Under the lock: one more, or another address of the same card. */
static int put_held(struct network *network, const char *id, const char *nic, const uint8_t addr[4])
{
	struct held_address *h = find_held(network, id, nic), *more;

	if (!h) {
		more = realloc(network->held, (network->n_held + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		network->held = more;
		h = &more[network->n_held++];
		snprintf(h->id, sizeof(h->id), "%s", id);
		snprintf(h->nic, sizeof(h->nic), "%s", nic);
	}
	memcpy(h->addr, addr, 4);
	return 0;
}

static bool is_a_guests(const struct subnet *s, const uint8_t addr[4])
{
	uint8_t last[4];

	addr_add(s->net, size_of(s) - 1, last);
	return subnet_holds(s, addr) && memcmp(addr, s->net, 4) != 0 && memcmp(addr, last, 4) != 0;
}

/* Under the lock. -EADDRINUSE; @id: of the machine that holds it, or "" where a stranger leased it
 */
static int must_be_free(const struct network *network, const struct held_address *own,
			const uint8_t mac[6], const uint8_t addr[4], char id[ID_TEXT])
{
	for (size_t i = 0; i < network->n_held; i++)
		if (&network->held[i] != own && memcmp(network->held[i].addr, addr, 4) == 0) {
			strcpy(id, network->held[i].id);
			return -EADDRINUSE;
		}
	*id = '\0';
	for (size_t i = 0; i < network->n_leases; i++)
		if (network->leases[i].family == AF_INET &&
		    memcmp(network->leases[i].addr, addr, 4) == 0 &&
		    memcmp(network->leases[i].mac, mac, 6) != 0)
			return -EADDRINUSE;
	return 0;
}

/* As hold(), of the one that it is to have. */
static int hold_wanted(struct network *network, struct machine *m, const struct nic *nic,
		       const uint8_t addr[4], char id[ID_TEXT])
{
	struct held_address *own;
	uint8_t mac[6] = {0};
	int r;

	nic_mac_parse(nic->values.mac, mac, NULL);
	LOCK_SCOPE(&network->lock);
	own = find_held(network, m->id, nic->name);
	r = must_be_free(network, own, mac, addr, id);
	if (r < 0)
		return r;
	if (own && memcmp(own->addr, addr, 4) == 0)
		return 1;
	return put_held(network, m->id, nic->name, addr);
}

static int hold_fixed(struct network *network, const struct subnet *s, struct machine *m,
		      const struct nic *nic, uint8_t addr[4], struct err *err)
{
	const char *text = nic->values.fixed_address;
	char id[ID_TEXT] = "", name[MACHINE_NAME_MAX + 1];
	int r;

	if (inet_pton(AF_INET, text, addr) != 1 || !is_a_guests(s, addr))
		return err_set(err, -EINVAL, "fixed_address %s is no guest's address there", text);
	if (memcmp(addr, s->host, 4) == 0)
		return err_set(err, -EADDRINUSE, "fixed_address %s is the host's", text);
	r = hold_wanted(network, m, nic, addr, id);
	if (r == -EADDRINUSE && *id && !machine_of(network->model, id, name)) {
		forget_gone(network);
		r = hold_wanted(network, m, nic, addr, id);
	}
	if (r != -EADDRINUSE)
		return r < 0 ? err_set(err, r, "%s", strerror(-r)) : r;
	return *id && machine_of(network->model, id, name)
		   ? err_set(err, r, "fixed_address %s is held by machine %s", text, name)
		   : err_set(err, r, "fixed_address %s is leased to another", text);
}

/* 1: it has one. 0: it was given one. */
static int hold(struct network *network, const struct subnet *s, struct machine *m, const char *nic,
		uint8_t addr[4])
{
	struct held_address *h;

	LOCK_SCOPE(&network->lock);
	h = find_held(network, m->id, nic);
	if (h && subnet_holds(s, h->addr) && memcmp(h->addr, s->host, 4) != 0) {
		memcpy(addr, h->addr, 4);
		return 1;
	}
	return choose(network, s, addr) ? put_held(network, m->id, nic, addr) : -EADDRNOTAVAIL;
}

static int hold_any(struct network *network, const struct subnet *s, struct machine *m,
		    const char *nic, uint8_t addr[4], struct err *err)
{
	int r = hold(network, s, m, nic, addr);

	if (r == -EADDRNOTAVAIL) {
		forget_gone(network);
		r = hold(network, s, m, nic, addr);
	}
	if (r == -EADDRNOTAVAIL)
		return err_set(err, r, "no address of its subnet is free");
	return r < 0 ? err_set(err, r, "%s", strerror(-r)) : r;
}

int lease_none(const struct nic *nic, struct err *err)
{
	return *nic->values.fixed_address
		   ? err_set(err, -EINVAL, "it gives no addresses: fixed_address %s cannot be",
			     nic->values.fixed_address)
		   : 0;
}

int lease_hold(struct network *network, struct machine *m, const struct nic *nic, uint8_t addr[4],
	       struct err *err)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	struct subnet s;
	int r;

	memset(addr, 0, 4);
	if (!values)
		return err_set(err, -ENOMEM, "out of memory");
	if (!network_has_bridge(values) || !*values->subnet || !network_has_dnsmasq(values) ||
	    subnet_parse(values->subnet, AF_INET, &s, NULL) < 0)
		return lease_none(nic, err);
	r = *nic->values.fixed_address ? hold_fixed(network, &s, m, nic, addr, err)
				       : hold_any(network, &s, m, nic->name, addr, err);
	return r == 0 ? store(network, err) : r < 0 ? r : 0;
}

int leases_parse_held(struct network *network, char *text)
{
	for (char *line = text, *next; line && *line; line = next) {
		char id[ID_TEXT], nic[DISK_NAME_MAX + 1], addr[INET_ADDRSTRLEN];
		uint8_t bytes[4];
		int r;

		next = strchr(line, '\n');
		if (!next)
			return -EINVAL;
		*next++ = '\0';
		if (sscanf(line, "%36s %31s %15s", id, nic, addr) != 3 ||
		    inet_pton(AF_INET, addr, bytes) != 1)
			return -EINVAL;
		r = put_held(network, id, nic, bytes);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- what dnsmasq gave -------------------------------------------------------------------------
 */

/* "EXPIRES MAC ADDRESS NAME CLIENT", or "EXPIRES IAID ADDRESS6 NAME DUID". */
static bool parse_lease(const char *line, struct network_lease *lease)
{
	char mac[32], addr[INET6_ADDRSTRLEN], name[64];
	long long expires;

	memset(lease, 0, sizeof(*lease));
	if (sscanf(line, "%lld %31s %45s %63s", &expires, mac, addr, name) != 4)
		return false;
	lease->expires = expires;
	lease->family = strchr(addr, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(lease->family, addr, lease->addr) != 1)
		return false;
	if (lease->family == AF_INET && nic_mac_parse(mac, lease->mac, NULL) < 0)
		memset(lease->mac, 0, sizeof(lease->mac));
	/* the name is the guest's own word */
	if (strcmp(name, "*") != 0 && machine_name_check(name, NULL) == 0)
		strcpy(lease->name, name);
	return true;
}

static int parse_leases(char *text, struct network_lease **list, size_t *n)
{
	size_t room = 0;

	for (char *line = text, *next; line && *line && *n < LEASES_MAX; line = next) {
		next = strchr(line, '\n');
		if (!next)
			break; /* it is being written: we hear of the rest */
		*next++ = '\0';
		if (*n == room) {
			struct network_lease *more;

			room = room ? 2 * room : 16;
			more = realloc(*list, room * sizeof(*more));
			if (!more)
				return -ENOMEM;
			*list = more;
		}
		*n += parse_lease(line, &(*list)[*n]);
	}
	return 0;
}

static bool leased(const struct network_port *port, const struct network_lease *leases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (leases[i].family == AF_INET && memcmp(leases[i].addr, port->addr, 4) == 0 &&
		    memcmp(leases[i].mac, port->mac, 6) == 0)
			return true;
	return false;
}

/* Notes what is known of ports now; @told[i]: the i'th changed, with a reference. */
static size_t note_known(struct network *network, struct network_port *told, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < network->n_ports; i++) {
		struct network_port *port = &network->ports[i];
		bool known = leased(port, network->leases, network->n_leases);

		if (known == port->known || n == room)
			continue;
		port->known = known;
		told[n] = *port;
		machine_get(told[n++].m);
	}
	return n;
}

static void tell_address(struct machine *m, const char *nic)
{
	LOCK_SCOPE(&m->lock);
	machine_touch(m, ASPECT_NIC_ADDRESS, nic);
}

void leases_read(struct network *network)
{
	_cleanup_free_ struct network_port *told = NULL;
	struct network_lease *list = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int dir = network_run_dir(network, false);
	size_t n = 0, n_told = 0;
	int r = dir < 0 ? dir : file_read(dir, "dhcp.leases", LEASES_BYTES, &text, NULL);

	if (r == 0)
		r = parse_leases(text, &list, &n);
	if (r < 0 && r != -ENOENT)
		log_warn("network %s: leases: %s", network->name, strerror(-r));
	pthread_mutex_lock(&network->lock);
	told = calloc(network->n_ports + 1, sizeof(*told));
	if (n != network->n_leases ||
	    (n && memcmp(list, network->leases, n * sizeof(*list)) != 0)) {
		struct network_lease *old = network->leases;

		network->leases = list;
		network->n_leases = n;
		list = old;
		network_touch(network, NETWORK_LEASES);
	}
	if (told)
		n_told = note_known(network, told, network->n_ports);
	pthread_mutex_unlock(&network->lock);
	free(list);
	for (size_t i = 0; i < n_told; i++) {
		tell_address(told[i].m, told[i].nic);
		machine_put(told[i].m);
	}
}
