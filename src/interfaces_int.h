/* SPDX-License-Identifier: ISC */
#ifndef FV_INTERFACES_INT_H
#define FV_INTERFACES_INT_H
/*
 * What the parts of the host's interfaces know of each other.
 *
 *   interfaces.c          all of them: looked at, compared, told; the thread `interfaces`
 *   interface_keys.c      what of one is shown
 *   interface_set.c       settings: up, mtu, mac, master, manage
 *   interface_addresses.c its addresses, set as a whole
 *   interface_make.c      made, made anew as another type, removed, renamed
 *   interface_trial.c     changes that are tried: noted, kept for the next daemon
 *   interface_undo.c      ... put back
 *   interface_commands.c  host/interfaces/ctl
 *
 * Locks, in the order in which they may be taken:
 *   interfaces.work  held over conversations with the kernel: one change or look at a time;
 *                    guards the trial
 *   interfaces.lock  the list, and all that is shown
 */
#include <linux/if.h>
#include <stdatomic.h>

#include "command.h"
#include "interfaces.h"
#include "net/host_link.h"

#define INTERFACES_ALIAS "filevisor interface "
#define NETWORKS_ALIAS	 "filevisor_" /* begins those of networks/, of whichever daemon */

#define NOTES_MAX	  256 /* of one trial */
#define TRIAL_SECONDS_MAX 3600

enum note_kind { NOTE_WAS, NOTE_MADE };

/* As it is in the file, too: read by a daemon that was built alike, or not at all. */
struct note_head {
	uint32_t kind, n_addresses, n_routes;
	struct host_link link; /* MADE: its name alone */
	char master[IFNAMSIZ], lower[IFNAMSIZ];
};

struct note {
	struct note_head head;
	struct host_address *addresses;
	struct host_route *routes;
};

struct trial_head {
	char magic[8];
	uint32_t note_bytes, address_bytes, route_bytes, n;
	char boot[40];
	int64_t ends; /* ns of CLOCK_BOOTTIME */
};

struct trial {
	struct trial_head head;
	struct note notes[NOTES_MAX];
};

struct interface {
	struct interfaces *all;
	atomic_uint refs;
	uint64_t serial;

	/* all->lock: */
	bool alive;
	bool managed; /* by `manage` */
	bool seen;    /* in the look under way */
	struct host_link link;
	char master[IFNAMSIZ], lower[IFNAMSIZ];
	uint32_t speed_mbit;
	char *addresses; /* one a line; NULL: none */
	struct timespec changed[INTERFACE_ASPECT_MAX];
};

struct interfaces {
	struct model *model;
	char alias[HOST_ALIAS_MAX]; /* of what this daemon's state makes */

	pthread_mutex_t work; /* order: see above; guards what follows */
	struct trial *trial;  /* NULL: there is none */

	pthread_mutex_t lock;	 /* guards what follows */
	struct interface **list; /* by serial: the order in which they were seen */
	size_t n;
	struct timespec changed, told;
	struct outcome error;
	bool trying; /* what interfaces_trial_show() shows */
	int64_t trial_ends;
	size_t trial_changes;

	pthread_t thread;
	bool threaded;
	int wake, watch; /* eventfd; of host_watch_open() */
};

/* After networks_open(). Loads what there is, goes on with a trial that an earlier daemon began. */
int interfaces_open(struct interfaces **all, struct model *model, struct err *err);
/* Ends a trial: nobody would put it back. NULL is fine. */
void interfaces_close(struct interfaces *all);

/* --- interfaces.c; under work ------------------------------------------------------------------
 */

/* Takes what the kernel has now; tells what changed. */
void interfaces_look(struct interfaces *all);
/* It has this index from now on: it was made anew. */
void interface_moved(struct interface *i, int index);
/* Whether it bears the alias of those that were made here. */
bool interfaces_made(const struct interfaces *all, const struct host_link *link);
/* A copy of what the kernel says of it now; -ENODEV with words where it is gone. */
int interface_link(struct interface *i, struct host_link *link, struct err *err);
void interfaces_tell_ctl(struct interfaces *all);
void interfaces_wake(struct interfaces *all);
void interfaces_event(struct interfaces *all, const char *kind, const char *name, const char *key,
		      const char *value, const struct caller *caller);
/* Into `error` of host/interfaces. Not under the lock. */
void interfaces_outcome(struct interfaces *all, const char *what, const struct err *err);

/* --- interface_set.c ---------------------------------------------------------------------------
 */

/* Who may change anything here. */
int interfaces_may(const struct caller *caller, struct err *err);
/* Whether it may be changed: made here, or managed. -EPERM with words. */
int interface_may_change(struct interface *i, const struct host_link *link, struct err *err);

int interface_set_up(struct interface *i, const char *text, struct err *err);
int interface_set_mtu(struct interface *i, const char *text, struct err *err);
int interface_set_mac(struct interface *i, const char *text, struct err *err);
int interface_set_master(struct interface *i, const char *text, struct err *err);
int interface_set_manage(struct interface *i, const char *text, struct err *err);
int interface_check_addresses(const char *text, struct err *err);
int interface_set_addresses(struct interface *i, const char *text,
			    struct err *err);					/* _addresses.c */
int interface_set_type(struct interface *i, const char *text, struct err *err); /* _make.c */

/* --- interface_addresses.c ---------------------------------------------------------------------
 */

/* "10.0.0.1/24"; a prefix is needed. -EINVAL with words. */
int address_parse(const char *text, struct host_address *address, struct err *err);
void address_show(const struct host_address *address, struct strbuf *sb);
bool address_same(const struct host_address *a, const struct host_address *b);
/* IPv6 that the kernel gave it: not its user's. */
bool address_of_link(const struct host_address *address);

struct address_list {
	int index; /* of whose */
	struct host_address *list;
	size_t n;
};
/* Those of one interface; free list->list in any case. */
int addresses_of(int index, struct address_list *list);

/* --- interface_make.c --------------------------------------------------------------------------
 */

/* "bridge", "tap", "vlan" …; for those that are no such thing: "physical", "loopback", "other". */
const char *interface_type(const struct host_link *link);
/*
 * Makes one of the type, down, with our alias. @lower: what it is over; of veth the name of its
 * other end. Its index; -EINVAL, -EEXIST, -EOPNOTSUPP with words.
 */
int interface_make(struct interfaces *all, const char *type, const char *name, const char *lower,
		   unsigned vlan, struct err *err);

/* --- interface_trial.c; under work -------------------------------------------------------------
 */

/*
 * Before @link is changed or removed; before one is made, or gets that name. Durable. 0 where
 * nothing is tried.
 */
int trial_note_was(struct interfaces *all, const struct host_link *link, struct err *err);
int trial_note_made(struct interfaces *all, const char *name, struct err *err);
int trial_begin(struct interfaces *all, unsigned seconds, struct err *err);
int trial_commit(struct interfaces *all, struct err *err);
bool trial_has_note(const struct trial *trial, enum note_kind kind, int index, const char *name);
/* Forgets it. */
void trial_end(struct interfaces *all);
/* Puts all back: 0, or the first of what could not be. In interface_undo.c. */
int trial_undo(struct interfaces *all, struct err *err);
/* What an earlier daemon began. */
void trial_load(struct interfaces *all);
void trial_free(struct trial *trial);
/* For poll(2): until it ends; -1: there is none. Not under work. */
int trial_wait_ms(struct interfaces *all);
/* Puts it back if its time is over. */
void trial_check(struct interfaces *all);

/* model.c */
enum interface_news { INTERFACE_NEWS_ADDED, INTERFACE_NEWS_REMOVED, INTERFACE_NEWS_RENAMED };
void tell_interface(struct interface *i, enum interface_news news, const char *old_name);
void tell_interface_changed(struct interface *i, int aspect);
void tell_interfaces_ctl(struct model *model);

#endif
