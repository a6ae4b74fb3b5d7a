/* SPDX-License-Identifier: ISC */
#ifndef FV_NETWORK_INT_H
#define FV_NETWORK_INT_H
/*
 * What the parts of networks know of each other.
 *
 *   networks.c          all networks: by name and in order; opening and closing
 *   network.c           a network as such: references, state, access, error
 *   network_define.c    define, undefine, rename; its keys
 *   network_keys.c      the table of keys, and their values as text
 *   network_subnet.c    subnets: parsed, compared with the host's, one that is free
 *   network_store.c     STATE/networks/NAME/: access, config, forwards, leases
 *   network_forwards.c  ports of the host that are guests'
 *   network_listeners.c those that its own programs listen on
 *   network_commands.c  start and stop as commands
 *   network_run.c       starting and stopping: bridge, addresses, forwarding
 *   network_dns.c       dnsmasq: started, ended, told of guests
 *   network_lease.c     who has which address
 *   network_show.c      addresses, leases and hosts as they are shown
 *   network_rules.c     rules of all of them, applied and compared
 *   network_find.c      what an earlier daemon left
 *   network_watch.c     the thread `networks`: what others change, who ended
 *   network_ports.c     the list of ends of guests' cables
 *   nic_plug.c          making one, and its end
 *   network_user.c      processes of passt
 *
 * Locks, in the order in which they may be taken:
 *   networks.edit   held over writes to the state: one change of definitions at a time
 *   network.work    held over what waits for the host: starting, stopping, plugging
 *   networks.rules  held while nft runs
 *   networks.lock   names and order
 *   network.lock    values, state, ports, leases; then as model_int.h says (machine.lock is
 *                   never taken under it)
 */
#include <linux/if.h>
#include <netinet/in.h>

#include "access.h"
#include "command.h"
#include "net/host_link.h"
#include "net/host_nft.h"
#include "network.h"
#include "networks.h"
#include "nic.h"

#define NETWORKS_MAX	  1000
#define NETWORK_PORTS_MAX 4096
#define FORWARDS_MAX	  256
#define FORWARDS_BYTES	  65536
#define NETWORK_TRY_MAX	  64 /* names of taps that are tried */

enum network_mode { MODE_NAT, MODE_ROUTE, MODE_ISOLATED, MODE_BRIDGE, MODE_USER };
enum network_filter { FILTER_AUTO, FILTER_STRICT, FILTER_OFF };

/* One slot for each row of network_keys[]. Text is never NULL. */
struct network_values {
	uint64_t mode, dhcp, dns, vlan, host, guests_separate, filter, mtu, autostart;
	char *subnet, *subnet6, *domain, *interface;
};

/* An IPv4 or IPv6 subnet and the host's address in it. */
struct subnet {
	int family; /* 0: none */
	unsigned prefix;
	uint8_t host[16], net[16];
};

/* Who has which address: kept for ever, so that a guest has the same one each time. */
struct held_address {
	char id[ID_TEXT]; /* of the machine */
	char nic[DISK_NAME_MAX + 1];
	uint8_t addr[4];
};

/* A cable that is in. */
struct network_port {
	struct machine *m; /* a reference */
	char nic[DISK_NAME_MAX + 1];
	char tap[IFNAMSIZ]; /* "": passt's */
	uint8_t mac[6], addr[4];
	bool known;    /* it uses its address: there is a lease */
	pid_t pid;     /* passt's; 0: none */
	unsigned vlan; /* whose tag its frames bear when they come to the tap; 0: none */
	unsigned pvid; /* of which VLAN it is a port, where its bridge knows of them; 0: none */
};

/* As dnsmasq has them. */
struct network_lease {
	int family;
	uint8_t addr[16];
	uint8_t mac[6]; /* all zero: not known */
	int64_t expires;
	char name[64];
};

struct network_forward {
	bool udp;
	uint16_t first, last, to_port;
	char target[NETWORK_NAME_MAX + 1]; /* of a machine, or an address */
};

struct network {
	struct model *model;
	atomic_uint refs;
	uint64_t serial;
	char id[ID_TEXT];

	pthread_mutex_t work;		 /* order: see above; guards what follows */
	pid_t dns_pid;			 /* 0: there is none */
	int dns_fd;			 /* its pidfd; -1 */
	uint64_t dns_started, dns_again; /* of now_ns(): started, and when to try again */
	int watch;			 /* of inotify: its directory below RUN; -1 */

	pthread_mutex_t lock; /* guards all that follows */
	char name[NETWORK_NAME_MAX + 1];
	bool alive, damaged;
	enum network_state state;
	char *trouble;	       /* why it failed, or what else is wrong */
	char bridge[IFNAMSIZ]; /* "": there is none */
	int bridge_index;
	bool direct; /* that is no bridge: cards are macvtaps over it */
	bool ruled;  /* its rules are wanted */
	struct network_values *values;
	struct machine_access access;
	struct file_mode *modes;
	size_t n_modes;
	struct timespec changed[NETWORK_ASPECT_MAX];
	struct outcome error;
	struct network_forward *forwards;
	size_t n_forwards;
	struct held_address *held;
	size_t n_held;
	struct network_port *ports;
	size_t n_ports;
	struct network_lease *leases;
	size_t n_leases;
};

struct networks {
	struct model *model;
	int dir, run_dir; /* STATE/networks, RUN/networks */
	char table[NFT_TABLE_MAX];
	pthread_mutex_t edit, rules;
	char *applied;	 /* the tables as nft listed them; NULL: none of ours; under rules */
	bool forwarding; /* ip_forward was set by us; under rules */

	pthread_mutex_t lock; /* guards the list */
	struct network **list;
	size_t n;
	struct timespec changed;

	pthread_t thread;
	bool threaded;
	int wake;  /* eventfd */
	int notes; /* inotify */
};

/* --- network.c ----------------------------------------------------------------------------------
 */

struct network *network_new(struct model *model, const char *name, const char *id);
/* Under network.lock. */
void network_touch(struct network *network, enum network_aspect aspect);
void network_set_state(struct network *network, enum network_state state, const char *trouble);
void network_outcome(struct network *network, const char *what, const struct err *err);
void network_event(struct network *network, const char *kind, const char *old_name,
		   const struct caller *caller);
/* Copies of what is guarded; free with network_values_free(). NULL without memory. */
struct network_values *network_values(struct network *network);

/* --- networks.c ---------------------------------------------------------------------------------
 */

/* Under networks.edit. -EEXIST, -ENOSPC, -ENOMEM. */
int networks_may_add(struct networks *networks, const char *name, struct err *err);
int networks_insert(struct networks *networks, struct network *network);
void networks_remove(struct networks *networks, struct network *network);
void networks_rename(struct networks *networks, struct network *network, const char *name);

/* --- network_keys.c -----------------------------------------------------------------------------
 */

struct network_values *network_values_new(void);
struct network_values *network_values_copy(const struct network_values *values);
void network_values_free(struct network_values *values);
static inline void network_values_freep(struct network_values **values)
{
	network_values_free(*values);
}
#define _cleanup_values_ __attribute__((cleanup(network_values_freep)))
void network_values_format(const struct network_values *values, struct strbuf *sb);
/* Absent keys get their presets. -EINVAL, -ERANGE with words. */
int network_values_parse(const char *text, size_t len, struct network_values **values,
			 struct err *err);
/* Whether a change of it counts from the next start. */
bool network_strict(const struct network_values *values);
bool network_has_bridge(const struct network_values *values); /* one of ours */
bool network_has_dnsmasq(const struct network_values *values);

/* --- network_subnet.c ---------------------------------------------------------------------------
 */

/* "" gives family 0. -EINVAL with words: also for what is no network's. */
int subnet_parse(const char *text, int family, struct subnet *subnet, struct err *err);
void subnet_show(const struct subnet *subnet, struct strbuf *sb);
bool subnet_holds(const struct subnet *subnet, const uint8_t *addr);
bool subnets_overlap(const struct subnet *a, const struct subnet *b);
/* -EEXIST with words where another network or (but for interface @except) the host has it. */
int subnet_must_be_free(struct networks *networks, const struct network *own,
			const struct subnet *subnet, int except, struct err *err);
/* A free /24 or ULA /64 as text; -EADDRNOTAVAIL. Caller frees. */
int subnet_choose(struct networks *networks, const struct network *own, int family, char **text,
		  struct err *err);
void addr_add(const uint8_t base[4], uint32_t n, uint8_t sum[4]);

/* --- network_store.c ----------------------------------------------------------------------------
 */

int networks_store_open(struct networks *networks, struct err *err);
int networks_store_load(struct networks *networks, struct err *err);
int network_store_define(struct network *network, struct err *err);
int network_store_undefine(struct network *network, struct err *err);
int network_store_rename(struct network *network, const char *name, struct err *err);
int network_store_config(struct network *network, const struct network_values *values,
			 struct err *err);
int network_store_access(struct network *network, const struct machine_access *access,
			 const struct file_mode *modes, size_t n_modes, struct err *err);
int network_store_text(struct network *network, const char *file, const struct strbuf *sb,
		       struct err *err);

/* --- network_forwards.c -------------------------------------------------------------------------
 */

int forwards_parse(const char *text, size_t len, struct network_forward **forwards, size_t *n,
		   struct err *err);
void forwards_format(const struct network_forward *forwards, size_t n, struct strbuf *sb);
/* Those of the network as they are now, *@n: to be freed; NULL: out of memory. Takes its lock. */
struct network_forward *forwards_copy(struct network *network, size_t *n);
/* -EEXIST with words where two of all networks' are for the same port. */
int forwards_must_be_free(struct networks *networks, const struct network *own,
			  const struct network_forward *forwards, size_t n, struct err *err);

/* --- network_listeners.c ------------------------------------------------------------------------
 */

/*
 * -EADDRINUSE with words where a program of the host listens on a port of @forwards that is not
 * one of @had, too.
 */
int forwards_must_not_hide(const struct network_forward *forwards, size_t n,
			   const struct network_forward *had, size_t n_had, struct err *err);

/* --- network_lease.c ----------------------------------------------------------------------------
 */

/*
 * The address of a machine's card: its fixed_address, else the same each time. Durable.
 * -EADDRNOTAVAIL: none is free; -EADDRINUSE, -EINVAL with words: it cannot have the one it wants.
 */
int lease_hold(struct network *network, struct machine *m, const struct nic *nic, uint8_t addr[4],
	       struct err *err);
/* Where the network gives no addresses: -EINVAL with words if the card wants one. */
int lease_none(const struct nic *nic, struct err *err);
int leases_parse_held(struct network *network, char *text);
/* Where addresses for those whom we do not know begin and end; false: there are none. */
bool lease_range(const struct subnet *subnet, uint8_t first[4], uint8_t last[4]);
/* Reads dnsmasq's leases, tells of what changed. */
void leases_read(struct network *network);

/* --- network_show.c -----------------------------------------------------------------------------
 */

/* As machine_nic_address_show(), of a card that is plugged in there. */
void network_nic_address_show(struct network *network, struct machine *m, const char *nic,
			      struct strbuf *sb);

/* --- network_dns.c; under network.work ----------------------------------------------------------
 */

int dns_start(struct network *network, struct err *err);
/* True: one that an earlier daemon started is there, and ours again. */
bool dns_adopt(struct network *network);
void dns_stop(struct network *network);
/* Whether it ended; it is waited for then. */
bool dns_ended(struct network *network);
/* Tells it of the ports that there are. */
int dns_tell(struct network *network, struct err *err);

/* --- network_run.c; under network.work ----------------------------------------------------------
 */

int network_start(struct network *network, struct cancel *cancel, struct err *err);
/* -EBUSY while ports are in, unless @force. */
int network_stop(struct network *network, bool force, struct err *err);
int network_run_dir(struct network *network, bool make);
/* Its bridge, as it is to be named. */
void network_bridge_name(const struct network *network, char name[IFNAMSIZ]);
/* Its address, the same each time, whoever its ports are. */
void network_bridge_mac(const struct network *network, uint8_t mac[6]);
void network_alias(const struct network *network, const char *what, char alias[HOST_ALIAS_MAX]);
/* Whether the interface bears an alias of ours, this daemon's. */
bool networks_made(struct networks *networks, const struct host_link *link);
/* RUN/networks/NAME/ports: for the next daemon. */
int network_note_ports(struct network *network);
/* One file below /proc/sys. -errno. */
int sysctl_write(const char *path, const char *value);
int sysctl_read(const char *path, char *value, size_t size);

/* --- network_rules.c ----------------------------------------------------------------------------
 */

int rules_apply(struct networks *networks, struct cancel *cancel, struct err *err);
/* Whether somebody changed them; they are applied again then. */
bool rules_restore(struct networks *networks);

/* --- network_find.c -----------------------------------------------------------------------------
 */

void networks_find(struct networks *networks);

/* --- network_watch.c ----------------------------------------------------------------------------
 */

int networks_watch_start(struct networks *networks);
void networks_watch_stop(struct networks *networks);
void networks_watch_wake(struct networks *networks);

/* --- network_ports.c ----------------------------------------------------------------------------
 */

/*
 * -EADDRINUSE with words where the same card, or another with that address, has one; but for the
 * port @replaces. -ENOSPC.
 */
int port_must_be_new(struct network *network, struct machine *m, const char *nic,
		     const uint8_t mac[6], const char *replaces, struct err *err);
/* Whether one has that tap. */
bool port_exists(struct network *network, const char *tap);
/*
 * Out of the list, into @port with its reference: that of @m's @nic with the tap @tap (NULL: any),
 * or, without @m, of that tap or process. False: there is none.
 */
bool port_take(struct network *network, struct machine *m, const char *nic, const char *tap,
	       pid_t pid, struct network_port *port);
/* Under work. Those who are told of ports hear that there are others now. */
int ports_tell(struct network *network, struct cancel *cancel, struct err *err);
/* Under work. It was taken: who is told of ports hears it, and nothing of it stays. */
void port_forget(struct network *network, struct network_port *port);
/* Of VLAN @pvid where the bridge filters, as its network is to have it. Not under a lock. */
int port_join(struct network *network, const struct network_port *port, bool isolated,
	      const char *alias, uint32_t mtu, struct err *err);
/* Under work. Taps that are there are in its bridge again, whatever became of that. */
void ports_join(struct network *network);

/* Not under a lock: the port's tap has gone, or is to go. */
void port_drop(struct network *network, const char *tap);
/* The same of a process of passt that ended. */
void port_drop_pid(struct network *network, pid_t pid);
/* Under work: with a reference of its own to the machine. */
int port_add(struct network *network, const struct network_port *port, struct err *err);

/* --- nic_plug.c ---------------------------------------------------------------------------------
 */

/* The VLAN that a card's frames are of: -EOPNOTSUPP with words where there can be none. */
int nic_vlan(const struct network_values *values, const struct nic *nic, unsigned *vlan,
	     struct err *err);

/* --- network_user.c -----------------------------------------------------------------------------
 */

int user_plug(struct network *network, struct machine *m, const struct nic *nic,
	      struct nic_plug *plug, struct cancel *cancel, struct err *err);

/* model.c */
enum network_news { NETWORK_NEWS_ADDED, NETWORK_NEWS_REMOVED, NETWORK_NEWS_RENAMED };
void tell_network(struct network *network, enum network_news news, const char *old_name);
void tell_network_changed(struct network *network, int aspect);

#endif
