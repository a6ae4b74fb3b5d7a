// SPDX-License-Identifier: ISC
/*
 * The thread `events`: one for all VMMs. It waits for their sockets (packets)
 * and pidfds (their end), and kills those that were told to quit and did not.
 * A VMM has a slot while it is heard; epoll's data names slot and generation,
 * so that an event of one that was just removed finds nobody.
 */
#define LOG_MODULE "vmm"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"

#define WAKE_DATA UINT64_MAX
#define IS_PIDFD  (1ull << 63)

struct slot {
	struct vmm *vmm; /* a reference, or NULL */
	uint32_t generation;
};

struct vmm_loop {
	int epoll, wake;
	pthread_t thread;
	void *buf; /* the thread's */

	pthread_mutex_t lock; /* guards what follows, and the vmms' fields that say so */
	struct slot *slots;
	unsigned n_slots;
	bool stop;
	unsigned n_deadlines;
};

static void wake_up(struct vmm_loop *loop)
{
	uint64_t one = 1;

	if (write(loop->wake, &one, sizeof(one)) < 0)
		log_debug("eventfd: %m");
}

/* --- slots ------------------------------------------------------------------------------- */

static uint64_t data_of(const struct vmm_loop *loop, unsigned slot)
{
	return (uint64_t)loop->slots[slot].generation << 24 | slot;
}

/* Under the lock: a free slot, or -ENOMEM. */
static int find_slot(struct vmm_loop *loop)
{
	unsigned old = loop->n_slots, n = old ? old * 2 : 16;
	struct slot *slots;

	for (unsigned i = 0; i < old; i++)
		if (!loop->slots[i].vmm)
			return (int)i;
	slots = realloc(loop->slots, n * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + old, 0, (n - old) * sizeof(*slots));
	loop->slots = slots;
	loop->n_slots = n;
	return (int)old;
}

static int watch(struct vmm_loop *loop, int fd, uint64_t data)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = data};

	return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int vmm_loop_add(struct vmm_loop *loop, struct vmm *vmm)
{
	int slot, r;

	LOCK_SCOPE(&loop->lock);
	slot = find_slot(loop);
	if (slot < 0)
		return slot;
	r = watch(loop, vmm->sock, data_of(loop, (unsigned)slot));
	if (r == 0)
		r = watch(loop, vmm->pidfd, data_of(loop, (unsigned)slot) | IS_PIDFD);
	if (r < 0) {
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, vmm->sock, NULL);
		return r;
	}
	loop->slots[slot].vmm = vmm_get(vmm);
	vmm->loop = loop;
	vmm->slot = (unsigned)slot;
	vmm->listed = true;
	return 0;
}

void vmm_loop_remove(struct vmm *vmm)
{
	struct vmm_loop *loop = vmm->loop;

	if (!loop)
		return;
	pthread_mutex_lock(&loop->lock);
	if (!vmm->listed) {
		pthread_mutex_unlock(&loop->lock);
		return;
	}
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, vmm->sock, NULL);
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, vmm->pidfd, NULL);
	loop->slots[vmm->slot].vmm = NULL;
	loop->slots[vmm->slot].generation++;
	vmm->listed = false;
	if (vmm->kill_at.tv_sec)
		loop->n_deadlines--;
	pthread_mutex_unlock(&loop->lock);
	vmm_put(vmm);
}

static struct vmm *find(struct vmm_loop *loop, uint64_t data)
{
	unsigned slot = (unsigned)(data & 0xffffff);

	LOCK_SCOPE(&loop->lock);
	if (slot >= loop->n_slots || !loop->slots[slot].vmm ||
	    data_of(loop, slot) != (data & ~IS_PIDFD))
		return NULL;
	return vmm_get(loop->slots[slot].vmm);
}

/* --- ends ---------------------------------------------------------------------------------- */

void vmm_kill(struct vmm *vmm)
{
	syscall(SYS_pidfd_send_signal, vmm->pidfd, SIGKILL, NULL, 0);
}

void vmm_quit(struct vmm *vmm)
{
	struct vmm_loop *loop = vmm->loop;

	if (!vmm_post(vmm, VMM_QUIT, NULL, 0, NULL, 0))
		vmm_kill(vmm);
	if (!loop)
		return;
	LOCK_SCOPE(&loop->lock);
	if (!vmm->listed || vmm->kill_at.tv_sec)
		return;
	vmm->kill_at = deadline_in_ms(VMM_QUIT_MS);
	loop->n_deadlines++;
	wake_up(loop);
}

void vmm_disconnect(struct vmm *vmm)
{
	vmm_loop_remove(vmm);
	vmm_fail_calls(vmm, -EPIPE);
}

/* How the process ended, as far as can be known: it may be no child of ours. */
static void describe_end(struct vmm *vmm, char *how, size_t size)
{
	siginfo_t info = {0};

	if (waitid(P_PIDFD, (id_t)vmm->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		snprintf(how, size, "the VMM ended");
	else if (info.si_code == CLD_EXITED)
		snprintf(how, size, "the VMM ended with status %d", info.si_status);
	else
		snprintf(how, size, "the VMM was ended by signal %d (%s)", info.si_status,
			 strsignal(info.si_status));
}

/* Its last words may still be in the socket. */
static void handle_exit(struct vmm_loop *loop, struct vmm *vmm)
{
	char how[128];

	for (int i = 0; i < 1000; i++) {
		char peek;
		ssize_t n = recv(vmm->sock, &peek, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n <= 0 || !vmm_receive(vmm, loop->buf))
			break;
	}
	vmm_loop_remove(vmm);
	vmm_fail_calls(vmm, -EPIPE);
	describe_end(vmm, how, sizeof(how));
	vmm_heard_exit(vmm, how);
}

/* The socket is of no use any more; a VMM that lives on without is none. */
static void handle_hangup(struct vmm_loop *loop, struct vmm *vmm)
{
	LOCK_SCOPE(&loop->lock);
	if (!vmm->listed)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, vmm->sock, NULL);
	if (!vmm->kill_at.tv_sec) {
		vmm->kill_at = deadline_in_ms(VMM_QUIT_MS);
		loop->n_deadlines++;
	}
}

/* Kills who is late. Milliseconds until the next one is, or -1. */
static int check_deadlines(struct vmm_loop *loop)
{
	struct timespec now = deadline_in_ms(0);
	long next = -1;

	LOCK_SCOPE(&loop->lock);
	for (unsigned i = 0; i < loop->n_slots && loop->n_deadlines; i++) {
		struct vmm *vmm = loop->slots[i].vmm;
		long ms;

		if (!vmm || !vmm->kill_at.tv_sec)
			continue;
		ms = (vmm->kill_at.tv_sec - now.tv_sec) * 1000 +
		     (vmm->kill_at.tv_nsec - now.tv_nsec) / 1000000;
		if (ms <= 0) {
			log_warn("VMM %d does not end: killed", vmm->pid);
			vmm_kill(vmm);
			vmm->kill_at.tv_sec = 0;
			loop->n_deadlines--;
		} else if (next < 0 || ms < next) {
			next = ms + 1;
		}
	}
	return (int)next;
}

/* --- the thread ------------------------------------------------------------------------------ */

static void handle(struct vmm_loop *loop, uint64_t data)
{
	_cleanup_vmm_ struct vmm *vmm = NULL;
	uint64_t count;

	if (data == WAKE_DATA) {
		if (read(loop->wake, &count, sizeof(count)) < 0)
			log_debug("eventfd: %m");
		return;
	}
	vmm = find(loop, data);
	if (!vmm)
		return;
	if (data & IS_PIDFD)
		handle_exit(loop, vmm);
	else if (!vmm_receive(vmm, loop->buf))
		handle_hangup(loop, vmm);
}

static bool stopping(struct vmm_loop *loop)
{
	LOCK_SCOPE(&loop->lock);
	return loop->stop;
}

static void *loop_thread(void *arg)
{
	struct vmm_loop *loop = arg;
	struct epoll_event events[32];

	pthread_setname_np(pthread_self(), "events");
	while (!stopping(loop)) {
		int n = epoll_wait(loop->epoll, events, nitems(events), check_deadlines(loop));

		for (int i = 0; i < n; i++)
			handle(loop, events[i].data.u64);
	}
	return NULL;
}

int vmm_loop_open(struct vmm_loop **out)
{
	struct vmm_loop *loop = calloc(1, sizeof(*loop));
	int r = 0;

	if (!loop)
		return -ENOMEM;
	pthread_mutex_init(&loop->lock, NULL);
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->buf = malloc(VMM_MSG_MAX);
	if (loop->epoll < 0 || loop->wake < 0)
		r = -errno;
	else if (!loop->buf)
		r = -ENOMEM;
	if (r == 0)
		r = watch(loop, loop->wake, WAKE_DATA);
	if (r == 0)
		r = -pthread_create(&loop->thread, NULL, loop_thread, loop);
	if (r < 0) {
		loop->stop = true;
		vmm_loop_close(loop);
		return r;
	}
	*out = loop;
	return 0;
}

void vmm_loop_stop(struct vmm_loop *loop)
{
	bool stopped;

	pthread_mutex_lock(&loop->lock);
	stopped = loop->stop;
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
	if (stopped)
		return;
	wake_up(loop);
	pthread_join(loop->thread, NULL);
}

void vmm_loop_close(struct vmm_loop *loop)
{
	vmm_loop_stop(loop);
	if (loop->epoll >= 0)
		close(loop->epoll);
	if (loop->wake >= 0)
		close(loop->wake);
	free(loop->buf);
	free(loop->slots);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}
