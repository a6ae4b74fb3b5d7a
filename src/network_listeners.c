// SPDX-License-Identifier: ISC
/*
 * Ports that the host's own programs listen on: a forward of one would take it away from them
 * without a word, as rules see a packet before any socket does. The kernel lists them in
 * /proc/net/tcp, tcp6, udp and udp6 (proc_net_tcp.rst of its documentation): addresses are words of
 * 32 bits as they lie in memory.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network_int.h"
#include "util/cleanup.h"

#define TCP_LISTENS   0x0a
#define UDP_CONNECTED 0x01 /* to one peer: it is no server */

struct listener {
	bool udp;
	int family;
	uint8_t addr[16];
	uint16_t port;
};

/* False: the line is of no socket that listens. */
static bool parse_listener(const char *line, struct listener *l)
{
	unsigned port, state, words = l->family == AF_INET ? 1 : 4;
	char hex[33];

	if (sscanf(line, " %*u: %32[0-9A-Fa-f]:%4x %*s %2x", hex, &port, &state) != 3 ||
	    strlen(hex) != words * 8 || (l->udp ? state == UDP_CONNECTED : state != TCP_LISTENS))
		return false;
	for (unsigned i = 0; i < words; i++) {
		uint32_t word;

		if (sscanf(hex + (size_t)i * 8, "%8x", &word) != 1)
			return false;
		memcpy(l->addr + (size_t)i * 4, &word, 4);
	}
	l->port = (uint16_t)port;
	return true;
}

/* Of all addresses of IPv6 it has those of IPv4, too, where its program did not ask for less. */
static bool hears(const struct listener *l, int family)
{
	static const uint8_t any[16], mapped[12] = {[10] = 0xff, [11] = 0xff};

	return l->family == family ||
	       (family == AF_INET && (memcmp(l->addr, any, sizeof(any)) == 0 ||
				      memcmp(l->addr, mapped, sizeof(mapped)) == 0));
}

static bool hides(const struct network_forward *f, const struct listener *l)
{
	uint8_t addr[16];
	int family = inet_pton(AF_INET6, f->target, addr) == 1 ? AF_INET6 : AF_INET;

	return f->udp == l->udp && l->port >= f->first && l->port <= f->last && hears(l, family);
}

/* It was forwarded before: who listens since then knows, or will hear of it at the next start. */
static bool is_old(const struct network_forward *had, size_t n_had, const struct listener *l)
{
	for (size_t i = 0; i < n_had; i++)
		if (hides(&had[i], l))
			return true;
	return false;
}

static int look_at(const struct listener *l, const struct network_forward *forwards, size_t n,
		   const struct network_forward *had, size_t n_had, struct err *err)
{
	char addr[INET6_ADDRSTRLEN];

	for (size_t i = 0; i < n; i++)
		if (hides(&forwards[i], l) && !is_old(had, n_had, l)) {
			inet_ntop(l->family, l->addr, addr, sizeof(addr));
			return err_set(
			    err, -EADDRINUSE,
			    "%s port %u: a program of the host listens on it (at %s), and "
			    "would not be reached any more",
			    l->udp ? "udp" : "tcp", l->port, addr);
		}
	return 0;
}

int forwards_must_not_hide(const struct network_forward *forwards, size_t n,
			   const struct network_forward *had, size_t n_had, struct err *err)
{
	static const struct {
		const char *path;
		bool udp;
		int family;
	} lists[] = {{"/proc/net/tcp", false, AF_INET},
		     {"/proc/net/tcp6", false, AF_INET6},
		     {"/proc/net/udp", true, AF_INET},
		     {"/proc/net/udp6", true, AF_INET6}};
	int r = 0;

	for (size_t i = 0; n && r == 0 && i < nitems(lists); i++) {
		struct listener l = {.udp = lists[i].udp, .family = lists[i].family};
		FILE *f = fopen(lists[i].path, "re"); /* a kernel without IPv6 has not all */
		char line[512];

		while (f && r == 0 && fgets(line, sizeof(line), f))
			if (parse_listener(line, &l))
				r = look_at(&l, forwards, n, had, n_had, err);
		if (f)
			fclose(f);
	}
	return r;
}
