/* SPDX-License-Identifier: ISC */
#ifndef FV_NETWORK_H
#define FV_NETWORK_H
/*
 * Networks: what network cards of machines are connected to. A network is a definition
 * (STATE/networks/NAME/, as a pool's) and, while it runs, what was made of it on the host:
 *
 *	nat, route   a bridge of ours with addresses, dnsmasq for DHCP and DNS, rules of
 *		     nftables in tables of our own (masquerading, forwards, no spoofing)
 *	isolated     the same without a way out
 *	bridge       taps in a bridge of the host's (`interface`)
 *	user         a process of passt for each card: no privileges at all
 *
 * It starts with its first machine, or by its `start` or `autostart`, and ends by `stop` or when
 * the daemon of a network without machines stops it; it outlives the daemon as guests do. What
 * we make bears our alias (net/host_link.h) or lies in our tables; the next daemon finds it and
 * removes what belongs to nobody. What is others' is never touched.
 *
 * Threads: as model.h says. Whatever waits (netlink, nft, dnsmasq) is done under network.work, a
 * mutex for that alone, never under network.lock.
 */
#include "machine.h"

#define NETWORK_NAME_MAX MACHINE_NAME_MAX

struct network;

enum network_state {
	NETWORK_STOPPED,
	NETWORK_STARTING,
	NETWORK_RUNNING,
	NETWORK_FAILED, /* `error` says why */
	NETWORK_STATE_MAX,
};

enum network_aspect {
	NETWORK_DEFINITION, /* the text of `config`, and its keys */
	NETWORK_STATE_OF,
	NETWORK_ERROR,
	NETWORK_COMMANDS,
	NETWORK_ACCESS,
	NETWORK_FORWARDS,
	NETWORK_LEASES, /* and hosts */
	NETWORK_ASPECT_MAX,
};

const char *network_state_name(enum network_state state);

/* By name, in order, how many: as the pools of pool.h. */
struct network *model_network_get(struct model *model, const char *name);
struct network *model_network_next(struct model *model, uint64_t *cursor);
size_t model_network_count(struct model *model);
struct timespec model_networks_changed(struct model *model);
/* mkdir: mode nat with a subnet that nobody has. -EEXIST, -EINVAL. Durable. */
int model_network_define(struct model *model, const char *name, mode_t mode,
			 const struct caller *caller, struct network **network, struct err *err);
/* rmdir: -EBUSY with words while a machine that runs is connected; stops it. */
int model_network_undefine(struct model *model, struct network *network,
			   const struct caller *caller, struct err *err);
int model_network_rename(struct model *model, struct network *network, const char *name,
			 const struct caller *caller, struct err *err);

struct network *network_get(struct network *network);
void network_put(struct network *network);
static inline void network_putp(struct network **network)
{
	network_put(*network);
}
#define _cleanup_network_ __attribute__((cleanup(network_putp)))

void network_name(struct network *network, char name[NETWORK_NAME_MAX + 1]);
uint64_t network_serial(const struct network *network);
bool network_alive(struct network *network);
enum network_state network_state(struct network *network);
struct timespec network_changed(struct network *network, enum network_aspect aspect);

void network_access_get(struct network *network, struct machine_access *access);
int network_access_set(struct network *network, const struct machine_access *access,
		       struct err *err);
bool network_file_mode_get(struct network *network, const char *path, mode_t *mode);
int network_file_mode_set(struct network *network, const char *path, mode_t mode, struct err *err);

/*
 * mode subnet subnet6 dhcp dns domain interface vlan host guests filter mtu autostart …: rows, as
 * machine_keys[]. Only root may define other modes than `user` where the daemon is root's, and
 * all may connect machines to a network whose directory they may search (x).
 */
extern const struct config_key network_keys[];
extern const size_t n_network_keys;
int network_key_show(struct network *network, const struct config_key *key, struct strbuf *sb);
/* Overlapping subnets, 0.0.0.0/0, addresses of the host: -EINVAL, -EEXIST with words. */
int network_key_store(struct network *network, const struct config_key *key, const char *text,
		      const struct caller *caller, struct err *err);
int network_config_show(struct network *network, struct strbuf *sb);
int network_config_store(struct network *network, const char *text, size_t len,
			 const struct caller *caller, struct err *err);
/* "tcp|udp PORT[-PORT] MACHINE|ADDRESS [PORT]" lines; the whole text at once; live. */
int network_forwards_show(struct network *network, struct strbuf *sb);
/* What store would say, and nothing is stored. */
int network_forwards_check(struct network *network, const char *text, size_t len,
			   const struct caller *caller, struct err *err);
int network_forwards_store(struct network *network, const char *text, size_t len,
			   const struct caller *caller, struct err *err);
/* Nested keyed: "ADDRESS mac=… machine=… nic=… expires=…". */
void network_leases_show(struct network *network, struct strbuf *sb);
/* As /etc/hosts. */
void network_hosts_show(struct network *network, struct strbuf *sb);
/* Name of its bridge on the host; nothing: it has none, or is stopped. */
void network_bridge_show(struct network *network, struct strbuf *sb);

int network_command_run(struct network *network, const char *line, const struct caller *caller,
			struct err *err);
void network_command_list(struct network *network, struct strbuf *sb);
void network_command_help(struct strbuf *sb);
void network_error_show(struct network *network, struct strbuf *sb);
void network_error_set(struct network *network, const char *what, const struct err *err);

#endif
