/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_H
#define FV_VMM_H
/*
 * A running filevisor-vmm as the daemon sees it: a process, a socket, and what
 * came over it. What it says is never believed: vmm_proto.h, "hostile".
 *
 * One thread, `events` (vmm_loop.c), reads from all of them. It calls the
 * vmm_heard_* functions below, which never wait.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "model_int.h"
#include "util/cancel.h"
#include "vmm_proto.h"

#define VMM_QUERY_MS 1000   /* for what a read of the tree asks */
#define VMM_ORDER_MS 30000  /* for commands */
#define VMM_LOAD_MS  120000 /* for what reads, unpacks or clears much */
#define VMM_QUIT_MS  2000   /* from being told to quit to being killed */

struct vmm_call; /* under way */
struct vmm_has_disk;
struct vmm_has_nic;
struct vmm_vsock_ports;

/*
 * Requests that follow one another without waiting for the answers, which are only of interest
 * where they are errors. Not for any of which the next must not be carried out if it fails. They
 * may be sent before the VMM is adopted; their end comes after that.
 */
struct vmm_burst {
	struct vmm *vmm; /* borrowed, as @cancel */
	struct cancel *cancel;
	unsigned timeout_ms;
	struct vmm_call *first, **last, *newest;
	unsigned n;
};

struct vmm {
	atomic_uint refs;
	struct machine *m; /* a reference */
	pid_t pid;
	int pidfd;
	int sock;
	int state_dir;		/* of the machine: consoles; survives renames */
	int run_dir;		/* RUN/machines/ID */
	char tty[64];		/* path of the pty's slave; "" without */
	struct vmm_burst ahead; /* what it was told before its start; vmm NULL: nothing */
	bool met;		/* it speaks our protocol: HELLO was said before it was adopted */

	pthread_mutex_t note_lock; /* of the file; comes before machine.lock */

	/* machine.lock: */
	struct vmm_has_disk *disks; /* disk.h */
	struct vmm_has_nic *nics;   /* nic_int.h */
	struct vmm_vsock_ports
	    *vsock;		    /* vsock_int.h; constant once others know it; NULL: it has none
				     */
	int disk_error;		    /* of the last disk that failed: -errno */
	struct timespec disk_heard; /* when a failing disk was last told of */
	bool io_error;		    /* paused because of it */
	struct vmm_status status;   /* the last, with text made printable */
	unsigned cpus;		    /* as it was told, or said when it was found; bounded */
	uint64_t memory_bytes;	    /* the same */
	bool ended;		    /* status says so: it was told to quit, or is preserved */
	bool gone;		    /* the process is, or is to be left to itself */
	bool end_claimed;	    /* somebody does what is to be done about its end */
	bool ready;		    /* its vcpus run, or ran */
	char how[512];		    /* how it went, in words */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t cond;  /* CLOCK_MONOTONIC: a call was answered */
	struct vmm_call *calls;
	uint32_t seq;
	int closed; /* why the socket is of no use any more: -errno; 0 while it is */
	int stats_fd;

	/* loop.lock: */
	struct vmm_loop *loop;
	unsigned slot;
	bool listed;
	struct timespec kill_at; /* tv_sec 0: never */
};

struct vmm *vmm_get(struct vmm *vmm);
void vmm_put(struct vmm *vmm);
static inline void vmm_putp(struct vmm **vmm)
{
	vmm_put(*vmm);
}
#define _cleanup_vmm_ __attribute__((cleanup(vmm_putp)))

/* The machine's VMM, a reference, or NULL; not while it starts. */
struct vmm *machine_vmm(struct machine *m);

/* --- vmm_spawn.c ------------------------------------------------------------------------ */

struct hold;

/*
 * Begins to run the program for the machine (@hold: has it forked from who holds a guest's memory),
 * and does not wait for it. The caller's reference in *@vmm, to be adopted or discarded; while it
 * is neither, nobody else knows of it, and it ends with the daemon.
 */
int vmm_launch(struct machine *m, struct hold *hold, struct vmm **vmm, struct cancel *cancel,
	       struct err *err);
/* Ends one that was not adopted. */
void vmm_discard(struct vmm *vmm);
/*
 * From now on it is the machine's, and watched; waits until it says HELLO, where it has not. Where
 * that fails it has to be ended as any VMM, if it has become the machine's.
 */
int vmm_adopt(struct vmm *vmm, struct cancel *cancel, struct err *err);
/* As whom the VMM of a machine of that owner runs: never as root. */
uid_t vmm_uid(const struct machine_access *access);
gid_t vmm_gid(const struct machine_access *access);

/* --- vmm_found.c ------------------------------------------------------------------------ */

/* Takes over what an earlier daemon left running, of all machines. */
void vmm_recover_all(struct model *model);
/* Notes its disks, network cards and the tty for a later daemon. Not under machine.lock. */
void vmm_note(struct vmm *vmm);
/* Hands the slave of the pty to the owner. */
void vmm_own_tty(struct vmm *vmm, const struct machine_access *access);

/* --- vmm_link.c ------------------------------------------------------------------------- */

struct vmm_reply {
	void *data; /* the caller's room for the payload, may be NULL */
	size_t room;
	size_t len;	      /* of what came, at most room */
	bool wants_fds;	      /* else they are closed */
	int fds[VMM_MSG_FDS]; /* the caller's */
	size_t n_fds;
};

struct vmm_request {
	enum vmm_msg_type type;
	const void *data;
	size_t len;
	const int *fds; /* borrowed */
	size_t n_fds;
	unsigned timeout_ms;
	struct cancel *cancel; /* NULL: cannot be */
};

/*
 * Sends a request and waits for the reply. 0, or the VMM's errno with its
 * words; -ETIMEDOUT, -ECANCELED, -EPIPE (it went away). @reply may be NULL (descriptors are closed
 * then).
 */
int vmm_call(struct vmm *vmm, const struct vmm_request *request, struct vmm_reply *reply,
	     struct err *err);

/* @timeout_ms: for the last of its answers, once it is waited for. Its end has to follow. */
void vmm_burst_begin(struct vmm_burst *burst, struct vmm *vmm, unsigned timeout_ms,
		     struct cancel *cancel);
/*
 * Sends @rq; its own timeout and cancel do not count. @what: words in front of those that it is
 * refused with, "" for none. -errno with words: it was not sent, or one before it has failed.
 */
int vmm_burst_add(struct vmm_burst *burst, const struct vmm_request *rq, const char *what,
		  struct err *err);
/* Waits for all answers: 0, or the first error, in the order of sending, as vmm_call(). */
int vmm_burst_end(struct vmm_burst *burst, struct err *err);
/* Instead, where the VMM is to end: waits for none. After an end it does nothing. */
void vmm_burst_drop(struct vmm_burst *burst);
/* @from goes on as @to, which has another token. */
void vmm_burst_move(struct vmm_burst *to, struct vmm_burst *from, struct cancel *cancel);

/* Sends without waiting for the answer; whether it went. */
bool vmm_post(struct vmm *vmm, enum vmm_msg_type type, const void *data, size_t len, const int *fds,
	      size_t n_fds);
/* An errno that a client may see, whatever the VMM sent: 0 or -errno. */
int vmm_believable(int32_t error);
/* On the events thread: reads what is there. False when the socket is of no use any more. */
bool vmm_receive(struct vmm *vmm, void *buf);
/* Ends all calls with that error. */
void vmm_fail_calls(struct vmm *vmm, int code);
/* A descriptor of the statistics: a new one each time, or -ENODEV. */
int vmm_stats_fd(struct vmm *vmm);
/* Keeps what came with a reply to HELLO, if it is a memfd; else closes it. */
void vmm_take_stats(struct vmm *vmm, int fd);

/* --- vmm_loop.c ------------------------------------------------------------------------- */

int vmm_loop_open(struct vmm_loop **loop);
void vmm_loop_stop(struct vmm_loop *loop);
void vmm_loop_close(struct vmm_loop *loop);
/* Hears it from now on; takes a reference of its own until the process is gone. */
int vmm_loop_add(struct vmm_loop *loop, struct vmm *vmm);
void vmm_loop_remove(struct vmm *vmm);
/* Tells it to quit, and kills it if it has not after VMM_QUIT_MS. */
void vmm_quit(struct vmm *vmm);
void vmm_kill(struct vmm *vmm);
/* Lets go of it: it runs on. */
void vmm_disconnect(struct vmm *vmm);

/* --- vmm_heard.c: what the events thread tells the machine -------------------------------------
 */

void vmm_heard_status(struct vmm *vmm, const struct vmm_status *status);
/* A request that changes the state was done. In the order of the socket with the above. */
void vmm_heard_done(struct vmm *vmm, enum vmm_msg_type type);
void vmm_heard_console(struct vmm *vmm);
void vmm_heard_disk(struct vmm *vmm, const struct vmm_disk_event *event);
void vmm_heard_nic(struct vmm *vmm, const struct vmm_nic_event *event);
void vmm_heard_nic_news(struct vmm *vmm, const struct vmm_nic_news *news);  /* nic_news.c */
void vmm_heard_vsock(struct vmm *vmm, const struct vmm_vsock_event *event); /* vsock_calls.c */
/* It has that disk no longer; @note, in words or NULL, why. Any thread, not under machine.lock. */
void vmm_disk_gone(struct vmm *vmm, const char *name, const char *note);
void vmm_heard_exit(struct vmm *vmm, const char *how);
/*
 * Kills it, and takes it for gone at once: its process takes milliseconds to let go of memory, and
 * runs no guest meanwhile. Any thread, not under machine.lock. False: its end is heard right now.
 */
bool vmm_leave(struct vmm *vmm);
/* Under machine.lock: makes the state what the last status says. */
void vmm_follow_status(struct vmm *vmm);

#endif
