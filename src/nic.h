/* SPDX-License-Identifier: ISC */
#ifndef FV_NIC_H
#define FV_NIC_H
/*
 * Network cards of machines: what their definition says (nic_keys.c), the end of the cable that a
 * VMM gets (nic_plug.c), changes while it runs (nic_live.c), what is shown of them (nic.c).
 *
 * Clones have cards of their own: other addresses, other taps. But a clone that goes on from
 * memory has a guest which goes on with the address that it knows, until it starts anew: to its
 * network it is then a stranger (`filter` keeps what it sends from those with whom it would
 * share the address), and it is not to be reached before it takes the address of its definition.
 */
#include "definition.h"
#include "network.h"

#define NIC_MAC_TEXT 18 /* "52:54:00:12:34:56" with its NUL */
#define NIC_MTU_MIN  68 /* RFC 791 */

/* -EINVAL with words; also for addresses of groups and of nobody. */
int nic_mac_parse(const char *text, uint8_t mac[6], struct err *err);
void nic_mac_show(const uint8_t mac[6], char text[NIC_MAC_TEXT]);
/* -EINVAL, -ERANGE with words. */
int nic_limits_parse(const char *text, struct vmm_nic_limits *limits, struct err *err);

/* --- nic_plug.c: the network's end ----------------------------------------------------------- */

/* What a VMM is given of a card's cable, and what is to be undone of it. */
struct nic_plug {
	char name[DISK_NAME_MAX + 1];	    /* of the card */
	char network[NETWORK_NAME_MAX + 1]; /* "": connected to none: a cable that is out */
	char tap[16];			    /* name of the interface on the host; "": none */
	uint32_t kind;			    /* enum vmm_nic_kind */
	unsigned n_fds;
	int fds[VMM_NIC_QUEUES_MAX]; /* the caller's until the VMM has them */
	uint16_t mtu;
};

/*
 * Starts the network where it does not run, makes the tap (or passt's socket) and plugs it in:
 * bridge port, rules against spoofing, a name for DHCP. Not under a lock; waits. -EACCES where the
 * machine's owner may not search the network's directory, -ENOENT, -EBUSY … with words.
 */
int nic_plug(struct machine *m, const struct nic *nic, struct nic_plug *plug, struct cancel *cancel,
	     struct err *err);
/* Takes the network's end away: rules, lease's name. The tap goes with its descriptors. */
void nic_unplug(struct machine *m, struct nic_plug *plug);

/* --- machine.h's like of disks ------------------------------------------------------------------
 */

int machine_nic_add(struct machine *m, const char *name, const struct caller *caller,
		    struct err *err);
int machine_nic_remove(struct machine *m, const char *name, const struct caller *caller,
		       struct err *err);
bool machine_nic_exists(struct machine *m, const char *name);
bool machine_nic_at(struct machine *m, size_t index, char name[DISK_NAME_MAX + 1]);
int machine_nic_key_show(struct machine *m, const char *nic, const struct config_key *key,
			 struct strbuf *sb);
int machine_nic_key_store(struct machine *m, const char *nic, const struct config_key *key,
			  const char *text, const struct caller *caller, struct err *err);
/* Addresses of the guest, the IPv4 one first, a blank between; nothing: not known. */
void machine_nic_address_show(struct machine *m, const char *nic, struct strbuf *sb);
/*
 * "connected", "disconnected" (its cable is out, or it has no network), "waiting" (the guest was
 * asked to let go of it), "detached" (no VMM has it)
 */
int machine_nic_state_show(struct machine *m, const char *nic, struct strbuf *sb);
/* Commands of one card (nics/NAME/ctl): capture on|off, attach, detach. */
int machine_nic_command_run(struct machine *m, const char *nic, const char *line,
			    const struct caller *caller, struct err *err);
void machine_nic_command_list(struct machine *m, const char *nic, struct strbuf *sb);
void machine_nic_command_help(struct strbuf *sb);
/* The capture as a pcapng file: a descriptor; -ENOENT. */
int machine_nic_pcap_open(struct machine *m, const char *nic);
int machine_nic_pcap_stat(struct machine *m, const char *nic, uint64_t *size,
			  struct timespec *mtime);

#endif
