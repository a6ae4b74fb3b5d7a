/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_CONTROL_H
#define FV_VMM_CONTROL_H
/*
 * The control thread: it serves the daemon (control_proto.c: requests), moves the console, and
 * decides what follows when the guest ends (control.c).
 */
#include <stdbool.h>
#include <stdint.h>

#include "vmm/disk.h"
#include "vmm/memory_peek.h"
#include "vmm/title.h"
#include "vmm/vm_int.h"

struct control {
	int listen_fd, conn_fd; /* conn_fd -1: no daemon */
	int epoll_fd, wake_fd;
	int polled_pty; /* the pty that epoll_fd watches, or -1 */
	uid_t peer_uid;
	bool quit;

	struct title title;
	struct stats *stats;
	struct console *console;
	struct io_pool *io_pool;
	struct vm_config config;
	struct disk_layer layers[VMM_LAYERS_MAX]; /* for the disk that is to come */
	unsigned n_layers;
	uint64_t connection; /* which one it is: answers that come later are for it alone */
	bool configured;     /* CONFIG was taken: locked in, memory made */
	bool sealed;	     /* system calls are filtered */
	const struct memory
	    *inherited; /* a clone's, until CONFIG; locked in and sealed long since */
	struct memory memory;
	struct memory_readers memory_readers;
	struct vm vm;
	bool has_vm;
	bool prepared;	       /* ... or it was tried: */
	struct vm_early early; /* what of it is made already */
	int held_fd;   /* it stands still until this process (a pidfd) has ended; -1: it does not */
	int holder_fd; /* who was forked last at a snapshot (a pidfd); -1: nobody is */
	int once_fd;   /* the state that it was loaded from, to be marked; -1: none */

	enum vmm_state state;
	enum vmm_reason reason;
	char text[VMM_TEXT_MAX];
	uint64_t resets;

	/* events that the connection has not taken yet */
	bool state_pending, console_pending, want_out;
	uint64_t console_told;
	struct vmm_disk_event disk_events[2 * VMM_DISKS_MAX];
	unsigned n_disk_events;
	struct vmm_nic_event nic_events[2 * VMM_NICS_MAX];
	unsigned n_nic_events;
	struct vmm_nic_news nic_news[2 * VMM_NICS_MAX]; /* but addresses */
	unsigned n_nic_news;
	struct vmm_vsock_event vsock_events[64];
	unsigned n_vsock_events;

	/* moments of CLOCK_MONOTONIC in ms; 0: none */
	int64_t flush_at; /* the console's next */
	int64_t last_flush;
	int64_t links_at;    /* cables that were moved are in */
	int64_t reset_at;    /* a reset that waits its turn */
	int64_t idle_until;  /* ends if nobody has come until then */
	double reset_tokens; /* see control.c */
	int64_t tokens_as_of;
	enum vmm_reason reset_reason;
	int64_t reset_said;	/* when the log was last told of one */
	unsigned resets_unsaid; /* since then */

	uint8_t packet[VMM_MSG_MAX];
};

/*
 * Serves @listen_fd (taken over) until QUIT. @title: to show the machine's
 * name in (NULL: nowhere). @inherited: NULL, or the memory that the machine begins with: the
 * process was forked by a holder (hold.h), and it is locked in as that is. 0, or -errno with
 * words.
 */
int control_run(int listen_fd, const struct title *title, const struct memory *inherited,
		struct err *err);

/* --- between the two files ---------------------------------------------------------------------
 */

/* Takes one packet off the connection and answers it. Drops the connection where need be. */
void control_proto_receive(struct control *c);
/* Sends events that are pending, as far as the connection takes them. */
void control_proto_send_events(struct control *c);
/* Answers request @seq of the connection there is: 0 with @body, or -errno with words. */
void control_proto_answer(struct control *c, uint32_t seq, int result, const void *body, size_t len,
			  const struct err *err);
void control_proto_fill_status(struct control *c, struct vmm_status *status);
void control_drop_connection(struct control *c);

/* The daemon's requests for the machine; the state was checked. */
int control_start(struct control *c, struct err *err);
/* Makes the machine with nothing to boot, for a state (control_load.c). */
int control_make_bare(struct control *c, struct err *err);
/* Before it runs: a state that only one may go on from is used up, for good. */
int control_load_mark(struct control *c, struct err *err);
void control_pause(struct control *c);
void control_resume(struct control *c);
/* Lets it stand still, though it runs, until the process @pid has ended. Nothing else is told. */
void control_hold(struct control *c, pid_t pid);
/* When the process @pid, which has memory too, has ended, that becomes huge pages again. */
void control_follow(struct control *c, pid_t pid);
int control_reset(struct control *c, enum vmm_reason reason, const char *text, struct err *err);
void control_set_state(struct control *c, enum vmm_state state, enum vmm_reason reason,
		       const char *text);
/* Around a change of the console's pty. */
void control_forget_pty(struct control *c);
void control_watch_pty(struct control *c);
/* Writes out the console now. */
void control_flush(struct control *c);

/* --- disks (control_disk.c) ---------------------------------------------------------------- */

/* Layers that no disk has taken. */
void control_disk_drop_layers(struct control *c);
/* What was staged (VMM_DISK_STAGE) and not switched to is closed. */
void control_stage_drop(struct control *c);
/* Those too, and all disks: the machine is gone. */
void control_disks_close(struct control *c);
/* The same for network cards (control_nic.c). */
void control_nics_close(struct control *c);
/* Links are as they are to be, when those that were down for a moment have been that. */
void control_nic_links(struct control *c);
/*
 * Before the first vcpu runs from a state: cards that the guest knows by another's address are
 * taken from it, and given anew (control_nic_hotplug.c).
 */
void control_nics_renew(struct control *c);
/* The same for vsock; and what the guest asks for of it goes to the daemon (control_vsock.c). */
void control_vsock_close(struct control *c);
void control_vsock_look(struct control *c);
/* The daemon that was asked is gone: the guest is refused. */
void control_vsock_drop(struct control *c);
/* Something may have happened to them: jobs that are over, failures, readers that are gone. */
void control_disks_look(struct control *c);
/* The guest may have let go of disks or cards (control_hotplug.c). */
void control_hotplug_look(struct control *c);
/* The machine is about to be made anew: without those that were to go. */
void control_hotplug_reset(struct control *c);
/* CLOCK_MONOTONIC in ms. */
int64_t control_now_ms(void);

#endif
