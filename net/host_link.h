/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_HOST_LINK_H
#define FV_NET_HOST_LINK_H
/*
 * Network interfaces of the host, their addresses and routes, through rtnetlink(7). For the
 * daemon; the VMM has nothing of this. Each call is a conversation with the kernel on a socket of
 * its own: any thread, no state, nothing waits for a network.
 *
 * An interface that filevisor made bears an alias that says so (IFLA_IFALIAS, `ip link` shows
 * it), so that what a killed daemon left is found again, and what is others' never taken for ours.
 */
#include <linux/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"

#define HOST_ALIAS_MAX 128
#define HOST_KIND_MAX  16

struct host_link_stats {
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes;
	uint64_t rx_errors, tx_errors, rx_dropped, tx_dropped;
};

struct host_link {
	int index;
	char name[IFNAMSIZ];
	char kind[HOST_KIND_MAX]; /* "bridge", "tun", "vlan" …; "" for a physical one */
	char alias[HOST_ALIAS_MAX];
	uint8_t mac[6]; /* all zero: it has none */
	uint32_t mtu;
	unsigned flags;	       /* IFF_… */
	unsigned operstate;    /* IF_OPER_…; host_link_state_name() */
	int master, lower;     /* index of its bridge or bond, of what it is over; 0: none */
	unsigned vlan;	       /* of kind vlan: its tag */
	bool vlan_filtering;   /* of a bridge: its ports are members of VLANs */
	unsigned vlan_default; /* then: of which they are when they come */
	bool physical;	       /* a device of its own stands behind it */
	struct host_link_stats stats;
};

/* "up", "down", "dormant" …, as `ip link` has them. */
const char *host_link_state_name(unsigned operstate);

/* Calls @fn with each, until it returns other than 0, which is returned. -errno. */
typedef int host_link_fn(const struct host_link *link, void *arg);
int host_links(host_link_fn *fn, void *arg);
/* By name, or by index where @name is NULL. -ENODEV. */
int host_link_find(const char *name, int index, struct host_link *link);
/* Of what the cable carries now, in Mbit/s; 0: not known, as without a cable. */
uint32_t host_link_speed(const char *name);

enum host_link_kind {
	HOST_BRIDGE,
	HOST_DUMMY,
	HOST_VLAN,    /* over @lower with tag @vlan */
	HOST_BOND,    /* mode active-backup */
	HOST_VETH,    /* with @peer as its other end */
	HOST_MACVTAP, /* over @lower; mode bridge, or private where @isolated */
	HOST_LINK_KINDS,
};

struct host_link_new {
	enum host_link_kind kind;
	const char *name; /* 1 to 15 bytes, no '/', no blank */
	const char *alias;
	const uint8_t *mac; /* NULL: as the kernel likes */
	uint32_t mtu;	    /* 0: the kernel's */
	int lower;
	unsigned vlan;
	const char *peer;
	bool isolated;
};

/*
 * Makes one, down. -EEXIST where the name is taken, -EOPNOTSUPP with words where the kernel has
 * no such kind. Its index.
 */
int host_link_make(const struct host_link_new *what, struct err *err);
/* -ENODEV where there is none any more. */
int host_link_remove(int index, struct err *err);

/* What host_link_set() changes: those that are not "leave it". */
struct host_link_set {
	int up;		    /* 1, 0; -1: leave it */
	int master;	    /* index, 0: out of it; -1: leave it */
	uint32_t mtu;	    /* 0: leave it */
	const uint8_t *mac; /* NULL: leave it */
	const char *alias, *name;
	bool allmulti; /* frames to groups come in, whoever asked for them; false: leave it */
};
#define HOST_LINK_SET                                                                              \
	{                                                                                          \
		.up = -1, .master = -1                                                             \
	}
int host_link_set(int index, const struct host_link_set *set, struct err *err);
/* Of a bridge's port: whether it reaches none of the other isolated ones (1, 0). */
int host_port_isolate(int index, bool isolated, struct err *err);
/*
 * Of a port of a bridge with vlan_filtering: it is a member of VLAN @vlan alone, and needs no tag
 * for it. @was: of which it was.
 */
int host_port_vlan(int index, unsigned vlan, unsigned was, struct err *err);

/* --- addresses and routes --------------------------------------------------------------------- */

struct host_address {
	int index; /* of the link */
	int family;
	uint8_t addr[16]; /* network order; IPv4: the first four */
	unsigned prefix;
	bool tentative;		       /* IPv6: not known to be unique yet */
	uint32_t valid_s, preferred_s; /* for how long; 0: for ever */
};

typedef int host_address_fn(const struct host_address *address, void *arg);
int host_addresses(host_address_fn *fn, void *arg);
/* -EEXIST where it is there. */
int host_address_add(const struct host_address *address, struct err *err);
int host_address_remove(const struct host_address *address, struct err *err);

struct host_route {
	int family;
	uint8_t to[16];
	unsigned prefix; /* 0: the default route */
	uint8_t via[16];
	bool has_via;
	int index; /* of the link; 0: none, or several */
	uint32_t metric;
	uint8_t protocol, scope; /* RTPROT_…: who made it; RT_SCOPE_… */
	uint8_t from[16];	 /* the address that is taken by who sends there */
	bool has_from;
};

/* Unicast routes of the main table. */
typedef int host_route_fn(const struct host_route *route, void *arg);
int host_routes(host_route_fn *fn, void *arg);
/* Into the main table. -EEXIST where it is there. */
int host_route_add(const struct host_route *route, struct err *err);

/* --- taps ---------------------------------------------------------------------------------------
 */

/*
 * Makes the tap @name with @queues queues (1 …), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, and gives
 * their descriptors: it lives as long as one of them is open. -EBUSY where there is one.
 */
int host_tap_make(const char *name, unsigned queues, int *fds, struct err *err);
/*
 * Opens @queues queues of the macvtap @name, which is there, as host_tap_make() gives them; it
 * stays when they are closed. @scratch: a directory of the caller's alone, or -1, for a moment's
 * device node where the host has none. -ENODEV with words.
 */
int host_macvtap_open(const char *name, unsigned queues, int scratch, int *fds, struct err *err);
/* One that stays until it is removed, which is down. Its index; -EBUSY where there is one. */
int host_tap_lasting(const char *name, struct err *err);

/* --- changes ------------------------------------------------------------------------------------
 */

/* A descriptor that is readable when a link, an address or a route may have changed. */
int host_watch_open(void);
/* Takes what is there: true if anything changed. */
bool host_watch_read(int fd);

#endif
