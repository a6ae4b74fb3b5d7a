/* SPDX-License-Identifier: ISC */
#ifndef NETWORK_TEST_H
#define NETWORK_TEST_H
/*
 * Networks for tests: in a network namespace of the test's own, with a guest that is the test
 * itself at the other end of a tap. Include after model_test.h.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>

#include "net/host_link.h"
#include "net/host_nft.h"
#include "network.h"
#include "network_int.h"
#include "nic.h"
#include "util/clock.h"
#include "util/tool.h"

#define VNET_HDR 10
#define LONG_MS	 20000 /* ends what hangs */

/* Programs and rights that networks need: the reason why not, or NULL. */
static inline const char *networks_missing(void)
{
	static const char *const tools[] = {"nft", "dnsmasq"};

	if (geteuid() != 0)
		return "not root";
	for (size_t i = 0; i < nitems(tools); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/usr/sbin/%s", tools[i]);
		if (access(path, X_OK) < 0)
			return tools[i];
	}
	return NULL;
}

/* A model in a namespace with `lo` up and an uplink "up0", 203.0.113.1/24. */
static inline int network_setup(void **state)
{
	struct host_link_new uplink = {.kind = HOST_VETH, .name = "up0", .peer = "out0"};
	struct host_address address = {.family = AF_INET, .prefix = 24, .addr = {203, 0, 113, 1}};
	struct host_link_set up = {.up = 1, .master = -1};
	struct host_link lo;
	struct fixture *f;

	*state = NULL;
	if (networks_missing()) {
		print_message("skipped: %s\n", networks_missing());
		return 0;
	}
	if (unshare(CLONE_NEWNET) < 0 || host_link_find("lo", 0, &lo) < 0)
		return -1;
	host_link_set(lo.index, &up, NULL);
	address.index = host_link_make(&uplink, NULL);
	if (address.index <= 0 || host_link_set(address.index, &up, NULL) < 0 ||
	    host_address_add(&address, NULL) < 0 || setup(state) < 0)
		return -1;
	f = *state;
	chmod(f->root, 0711); /* dnsmasq is nobody */
	return 0;
}

static inline int network_teardown(void **state)
{
	return *state ? teardown(state) : 0;
}

static inline struct network *need_network(struct fixture *f, const char *name)
{
	struct network *network = model_network_get(f->model, name);
	struct err err = ERR_INIT;

	if (!network &&
	    model_network_define(f->model, name, 0755, &root_caller, &network, &err) < 0)
		fail_msg("network %s: %s", name, err.text);
	return network;
}

static inline const struct config_key *network_key(const char *name)
{
	for (size_t i = 0; i < n_network_keys; i++)
		if (strcmp(network_keys[i].name, name) == 0)
			return &network_keys[i];
	fail_msg("no key %s", name);
	return NULL;
}

static inline int set_key(struct network *network, const char *key, const char *text,
			  struct err *err)
{
	return network_key_store(network, network_key(key), text, &root_caller, err);
}

static inline void must_set(struct network *network, const char *key, const char *text)
{
	struct err err = ERR_INIT;

	if (set_key(network, key, text, &err) < 0)
		fail_msg("%s = %s: %s", key, text, err.text);
}

static inline void must_run(struct network *network, const char *command)
{
	struct err err = ERR_INIT;

	if (network_command_run(network, command, &root_caller, &err) < 0)
		fail_msg("%s: %s", command, err.text);
}

static inline char *shown(void (*show)(struct network *, struct strbuf *), struct network *network)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_puts(&sb, "");
	show(network, &sb);
	return strbuf_steal(&sb);
}

static inline char *key_text(struct network *network, const char *key)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_puts(&sb, "");
	network_key_show(network, network_key(key), &sb);
	return strbuf_steal(&sb);
}

/* What is guarded of a network, for a moment. */
static inline size_t ports_of(struct network *network)
{
	LOCK_SCOPE(&network->lock);
	return network->n_ports;
}

static inline pid_t dns_of(struct network *network)
{
	LOCK_SCOPE(&network->work);
	return network->dns_pid;
}

/* --- a guest ------------------------------------------------------------------------------------
 */

struct guest {
	struct machine *m;
	struct nic nic;
	struct nic_plug plug;
	uint8_t mac[6];
	uint8_t addr[4]; /* from DHCP */
};

static inline void plug_guest(struct fixture *f, struct guest *g, const char *machine,
			      const char *network, const char *mac)
{
	struct err err = ERR_INIT;

	memset(g, 0, sizeof(*g));
	g->m = need_machine(f, machine);
	strcpy(g->nic.name, "eth");
	g->nic.values.network = (char *)network;
	g->nic.values.mac = (char *)mac;
	g->nic.values.fixed_address = (char *)"";
	g->nic.values.limits = (char *)"";
	assert_int_equal(nic_mac_parse(mac, g->mac, NULL), 0);
	if (nic_plug(g->m, &g->nic, &g->plug, NULL, &err) < 0)
		fail_msg("plug %s: %s", machine, err.text);
	assert_int_equal(g->plug.n_fds, 1);
	fcntl(g->plug.fds[0], F_SETFL, O_NONBLOCK);
}

static inline void close_guest(struct guest *g)
{
	for (unsigned i = 0; i < g->plug.n_fds; i++)
		close(g->plug.fds[i]);
	g->plug.n_fds = 0;
	machine_put(g->m);
}

static inline void send_frame(struct guest *g, const void *frame, size_t len)
{
	uint8_t room[2048] = {0};

	memcpy(room + VNET_HDR, frame, len);
	assert_int_equal(write(g->plug.fds[0], room, VNET_HDR + len), (ssize_t)(VNET_HDR + len));
}

/* The next frame, within that time: its length; 0: none. */
static inline size_t next_frame(struct guest *g, uint8_t frame[2048], int ms)
{
	struct pollfd p = {.fd = g->plug.fds[0], .events = POLLIN};
	uint8_t room[4096];
	ssize_t n;

	if (poll(&p, 1, ms) <= 0)
		return 0;
	n = read(p.fd, room, sizeof(room));
	if (n <= VNET_HDR || n > VNET_HDR + 2048)
		return 0;
	memcpy(frame, room + VNET_HDR, (size_t)n - VNET_HDR);
	return (size_t)n - VNET_HDR;
}

/* --- ARP ----------------------------------------------------------------------------------------
 */

static inline void send_arp(struct guest *g, const uint8_t mac[6], const uint8_t from[4],
			    const uint8_t to[4])
{
	uint8_t f[60] = {0};

	memset(f, 0xff, 6);
	memcpy(f + 6, g->mac, 6);
	memcpy(f + 12, (uint8_t[]){8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, 10);
	memcpy(f + 22, mac, 6);
	memcpy(f + 28, from, 4);
	memcpy(f + 38, to, 4);
	send_frame(g, f, sizeof(f));
}

/* Whether @to answers who asks as @from. One that answers does so twice within the time. */
static inline bool arp_answers(struct guest *g, const uint8_t from[4], const uint8_t to[4], int ms)
{
	uint64_t end = now_ns() + (uint64_t)ms * 1000000;
	uint8_t f[2048];

	send_arp(g, g->mac, from, to);
	while (now_ns() < end) {
		size_t n = next_frame(g, f, 20);

		if (n >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 2 && memcmp(f + 28, to, 4) == 0)
			return true;
	}
	return false;
}

/* --- DHCP ---------------------------------------------------------------------------------------
 */

static inline uint16_t checksum(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* From 0.0.0.0:68 to everybody's 67. */
static inline void send_dhcp(struct guest *g, uint8_t type, const uint8_t *ask,
			     const uint8_t *server)
{
	uint8_t f[14 + 20 + 8 + 300] = {0}, *ip = f + 14, *udp = ip + 20, *b = udp + 8,
				*o = b + 240;
	uint16_t sum;

	memset(f, 0xff, 6);
	memcpy(f + 6, g->mac, 6);
	f[12] = 8;
	memcpy(ip,
	       (uint8_t[]){0x45, 0, (20 + 8 + 300) >> 8, (20 + 8 + 300) & 0xff, 0, 0, 0, 0, 64, 17},
	       10);
	memset(ip + 16, 0xff, 4);
	sum = checksum(ip, 20);
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	memcpy(udp, (uint8_t[]){0, 68, 0, 67, 308 >> 8, 308 & 0xff}, 6);
	memcpy(b, (uint8_t[]){1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0}, 12);
	memcpy(b + 28, g->mac, 6);
	memcpy(b + 236, (uint8_t[]){99, 130, 83, 99}, 4);
	memcpy(o, (uint8_t[]){53, 1, type}, 3);
	o += 3;
	if (ask) {
		memcpy(o,
		       (uint8_t[]){50, 4, ask[0], ask[1], ask[2], ask[3], 54, 4, server[0],
				   server[1], server[2], server[3]},
		       12);
		o += 12;
	}
	*o = 255;
	send_frame(g, f, sizeof(f));
}

/* An answer of that type: its yiaddr and server. */
static inline bool take_dhcp(struct guest *g, uint8_t type, uint8_t yours[4], uint8_t server[4],
			     int ms)
{
	uint64_t end = now_ns() + (uint64_t)ms * 1000000;
	uint8_t f[2048];

	while (now_ns() < end) {
		size_t n = next_frame(g, f, 50), at = 14 + 20 + 8 + 240;
		bool right = false;

		if (n < at + 3 || f[23] != 17 || f[36] != 0 || f[37] != 68)
			continue;
		memcpy(yours, f + 14 + 28 + 16, 4);
		while (at + 1 < n && f[at] != 255) {
			if (f[at] == 53)
				right = f[at + 2] == type;
			if (f[at] == 54)
				memcpy(server, f + at + 2, 4);
			at += 2u + f[at + 1];
		}
		if (right)
			return true;
	}
	return false;
}

static inline bool dhcp(struct guest *g, int ms)
{
	uint64_t end = now_ns() + (uint64_t)ms * 1000000;
	uint8_t server[4];

	while (now_ns() < end) {
		send_dhcp(g, 1, NULL, NULL);
		if (!take_dhcp(g, 2, g->addr, server, 1000))
			continue;
		send_dhcp(g, 3, g->addr, server);
		if (take_dhcp(g, 5, g->addr, server, 1000))
			return true;
	}
	return false;
}

/* --- waiting ------------------------------------------------------------------------------------
 */

#define wait_until(condition)                                                                      \
	do {                                                                                       \
		uint64_t end_ = now_ns() + LONG_MS * 1000000ull;                                   \
		while (!(condition)) {                                                             \
			if (now_ns() > end_)                                                       \
				fail_msg("still not so: %s", #condition);                          \
			poll(NULL, 0, 10);                                                         \
		}                                                                                  \
	} while (0)

/* What `nft list tables` says. */
static inline char *tables(void)
{
	static const char *const argv[] = {"nft", "list", "ruleset", NULL};
	struct strbuf sb = STRBUF_INIT;
	struct tool tool = {.argv = argv, .timeout_ms = LONG_MS, .out = &sb};

	strbuf_puts(&sb, "");
	assert_int_equal(tool_run(&tool, NULL), 0);
	return strbuf_steal(&sb);
}

#endif
