/* SPDX-License-Identifier: ISC */
#ifndef FV_NIC_H
#define FV_NIC_H
/*
 * Network cards of machines: what their definition says (nic_keys.c), the end of the cable that a
 * VMM gets (nic_plug.c), changes while it runs (nic_live.c), what is shown of them (nic.c).
 *
 * Clones have cards of their own: other addresses, other taps. A clone that goes on from
 * memory has a guest which knows its card by its original's address. The VMM has the guest let go
 * of that card, and gives it the card anew with the address of its definition, as a hot plug does;
 * until then, or until a reset where the guest cannot be asked, its cable is out.
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
	unsigned queues; /* pairs; 0: not known */
	unsigned vlan;	 /* whose tag the VMM is to put on; 0: none */
	char
	    replaces[16]; /* set by who asks: the tap of the same card that it is to have no more */
};

/* Addresses that a guest says it has behind a card: the latest last. */
#define NIC_SEEN_MAX 16

struct nic_seen {
	struct {
		uint8_t len; /* 4, 16 */
		uint8_t addr[16];
	} list[NIC_SEEN_MAX];
	unsigned n;
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

/*
 * Not under a lock: the cards of the machine whose taps went with an interface of the host that
 * was @network's are plugged in anew, while it runs. Logs what cannot be.
 */
void machine_nics_replug(struct machine *m, const char *network);

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
/* The address by which the guest is reached: IPv4, else IPv6; nothing: none is known. */
void machine_nic_address_show(struct machine *m, const char *nic, struct strbuf *sb);
/* All that are known, one a line, the above first; link-local ones, too. */
void machine_nic_addresses_show(struct machine *m, const char *nic, struct strbuf *sb);
/*
 * "connected", "disconnected" (its cable is out, or it has no network), "waiting" (the guest is
 * to let go of it), "detached" (no VMM has it)
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
