/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_HOST_NFT_H
#define FV_NET_HOST_NFT_H
/*
 * What networks need of the host's packet filter: one script of nft(8) for all of them, applied
 * whole and atomically, in two tables of our own (`inet` for ways out, forwards and isolation,
 * `bridge` against spoofing). Others' tables are never touched; an `accept` in ours is no more
 * than "nothing against it from here".
 */
#include <linux/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "util/cancel.h"
#include "util/err.h"
#include "util/strbuf.h"

#define NFT_TABLE_MAX 32

enum nft_kind {
	NFT_NAT,      /* out behind the host's address; in: answers and forwards */
	NFT_ROUTE,    /* in and out as they are */
	NFT_ISOLATED, /* neither in nor out */
	NFT_BRIDGED,  /* not ours to route: ports alone */
};

struct nft_subnet {
	uint8_t addr[16]; /* network order; IPv4: the first four */
	unsigned prefix;  /* 0: there is none */
};

/* A guest's end of a cable. */
struct nft_port {
	char tap[IFNAMSIZ];
	uint8_t mac[6];
	uint8_t addr[4]; /* all zero: any of the subnet's */
	unsigned vlan;	 /* what comes from it bears this tag; 0: none */
};

/* What comes to the host's ports @first … @last goes to @to, @to_port … */
struct nft_forward {
	bool udp;
	uint16_t first, last, to_port;
	int family;
	uint8_t to[16];
};

struct nft_network {
	enum nft_kind kind;
	char bridge[IFNAMSIZ];
	struct nft_subnet v4, v6;
	bool no_host;	      /* guests do not reach the host (but @services) */
	bool services;	      /* DHCP and DNS of the host's are reached all the same */
	uint8_t host6[2][16]; /* IPv6 addresses of the host there: nobody else's */
	unsigned n_host6;
	bool strict; /* what does not come from its port's addresses is dropped */
	const struct nft_port *ports;
	size_t n_ports;
	const struct nft_forward *forwards;
	size_t n_forwards;
};

/*
 * The script that makes the two tables @table anew; with @n 0, removes them. @owner: words for who
 * looks at the host's rules.
 */
void host_nft_script(const char *table, const char *owner, const struct nft_network *networks,
		     size_t n, struct strbuf *script);
/* Runs it: all of it is so afterwards, or nothing changed. -EIO with nft's words, -ENOENT: no nft
 */
int host_nft_apply(const char *script, struct cancel *cancel, struct err *err);
/*
 * Before the first of a daemon's scripts: -EEXIST with words where a table of that name is not
 * @owner's, which no script is to touch.
 */
int host_nft_check(const char *table, const char *owner, struct err *err);
/* The two tables as nft lists them now: to be compared with what they were once applied. */
int host_nft_list(const char *table, struct strbuf *text, struct err *err);
/*
 * Whether Docker's rules are there and drop what they do not know. True: what comes and goes by
 * our bridges needs a rule in its chain DOCKER-USER, which is its administrator's.
 */
bool host_nft_docker_drops(void);

/* A descriptor that is readable when anybody changed rules (host_watch_read() takes it). */
int host_nft_watch_open(void);

#endif
