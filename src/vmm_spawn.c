// SPDX-License-Identifier: ISC
/*
 * Starting a VMM.
 *
 * The daemon makes the listening socket, so it can connect before the program
 * has begun. The child gets that socket, /dev/null, its log, and nothing else,
 * in a session of its own: it outlives the daemon. Its pid and start time are
 * noted at once; a daemon killed before that leaves a VMM that knows no machine,
 * and ends by itself.
 *
 * Mostly there is one at the ready (spare.h), and nothing of this is waited for.
 *
 * A VMM that is to have another guest's memory is forked by who holds that (hold.h). It is then
 * no child of ours, and who it is has to be found out (vmm_forked.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hold.h"
#include "spare.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "vmm_int.h"

#define HELLO_MS 10000
#define NOBODY	 65534 /* whom the guests of root run as */

/* --- the object ------------------------------------------------------------------------ */

struct vmm *vmm_new(struct machine *m)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));
	pthread_condattr_t attr;

	if (!vmm)
		return NULL;
	atomic_init(&vmm->refs, 1);
	vmm->m = machine_get(m);
	vmm->pidfd = vmm->sock = vmm->stats_fd = -1;
	vmm->run_dir = vmm->state_dir = -1;
	pthread_mutex_init(&vmm->lock, NULL);
	pthread_mutex_init(&vmm->note_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vmm->cond, &attr);
	pthread_condattr_destroy(&attr);
	return vmm;
}

/* --- the socket: paths through /proc/self/fd, for RUN may be longer than an address --------- */

static void sock_address(struct sockaddr_un *addr, int run_dir)
{
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/vmm.sock", run_dir);
}

int vmm_listen(int run_dir)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;

	if (fd < 0)
		return -errno;
	sock_address(&addr, run_dir);
	unlinkat(run_dir, "vmm.sock", 0);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0)
		return -errno;
	return take_fd(&fd);
}

/* Not waiting where the VMM does not accept. */
int vmm_connect(int run_dir)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;

	if (fd < 0)
		return -errno;
	sock_address(&addr, run_dir);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* --- the process -------------------------------------------------------------------------- */

/* Field 22 of /proc/PID/stat; 0 where there is no such process. */
unsigned long long vmm_start_time(pid_t pid)
{
	char path[40], *p;
	_cleanup_free_ char *text = NULL;
	unsigned long long t = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')'); /* behind the name, which may hold anything */
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%llu", &t) == 1 ? t : 0;
}

static int note_pid(const struct vmm *vmm)
{
	_cleanup_close_ int fd =
	    openat(vmm->run_dir, "vmm.pid", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char text[64];
	int n = snprintf(text, sizeof(text), "%d %llu\n", (int)vmm->pid, vmm_start_time(vmm->pid));

	return fd < 0 ? -errno : file_write_all(fd, text, (size_t)n);
}

/* What of the daemon's environment a VMM sees. */
static void make_environment(char *env[], size_t room)
{
	static const char *const names[] = {"FILEVISOR_LOG", "ASAN_OPTIONS", "UBSAN_OPTIONS",
					    "TSAN_OPTIONS",  "LSAN_OPTIONS", "PATH"};
	size_t n = 0;

	for (char **e = environ; *e; e++)
		for (size_t i = 0; i < nitems(names) && n + 1 < room; i++)
			if (strncmp(*e, names[i], strlen(names[i])) == 0 &&
			    (*e)[strlen(names[i])] == '=')
				env[n++] = *e;
	env[n] = NULL;
}

static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
						  POSIX_SPAWN_SETSIGDEF);
}

int vmm_spawn(const char *path, const char *name, int listening, int log, pid_t *pid)
{
	/* the path too: what is there is the room that ps(1) has for a machine's name */
	char *argv[] = {(char *)name, name == path ? NULL : (char *)path, NULL}, *env[16];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r;

	make_environment(env, nitems(env));
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	r = set_attributes(&attr);
	/* log first: it may itself be 3 */
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, log, STDERR_FILENO);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, listening, VMM_LISTEN_FD);
	r = r ? r : posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, 0, 1);
	r = r ? r : posix_spawn_file_actions_addclosefrom_np(&actions, VMM_LISTEN_FD + 1);
	r = r ? r : posix_spawn(pid, path, &actions, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* --- HELLO ---------------------------------------------------------------------------------- */

int vmm_hello(struct vmm *vmm, unsigned timeout_ms, struct cancel *cancel, struct err *err)
{
	struct vmm_hello msg = {.version = VMM_PROTO_VERSION};
	struct vmm_request rq = {.type = VMM_HELLO,
				 .data = &msg,
				 .len = sizeof(msg),
				 .timeout_ms = timeout_ms,
				 .cancel = cancel};
	struct vmm_status status = {0};
	struct vmm_reply reply = {.data = &status, .room = sizeof(status)};
	int r = vmm_call(vmm, &rq, &reply, err);

	if (r < 0)
		return r;
	if (reply.len < sizeof(status) || status.version != VMM_PROTO_VERSION)
		return err_set(err, -EIO, "the VMM speaks another version of the protocol");
	vmm_heard_status(vmm, &status);
	return 0;
}

/* --- starting ----------------------------------------------------------------------------------
 */

int vmm_open_dirs(struct vmm *vmm, bool make)
{
	vmm->run_dir = rundir_open(vmm->m, make);
	if (vmm->run_dir < 0)
		return vmm->run_dir;
	vmm->state_dir = store_open_dir(vmm->m);
	return vmm->state_dir < 0 ? vmm->state_dir : 0;
}

uid_t vmm_uid(const struct machine_access *access)
{
	if (geteuid() != 0)
		return geteuid();
	return access->uid ? access->uid : NOBODY;
}

gid_t vmm_gid(const struct machine_access *access)
{
	if (geteuid() != 0)
		return getegid();
	return access->uid && access->gid ? access->gid : NOBODY;
}

/* By the holder, at our word. */
static int fork_process(struct vmm *vmm, struct hold *hold, int listening, int log,
			struct cancel *cancel, struct err *err)
{
	struct machine_access access;
	int r = hold_clone(hold, listening, log, cancel, err);

	if (r < 0)
		return r;
	machine_access_get(vmm->m, &access);
	return vmm_identify(vmm, vmm_uid(&access), cancel, err);
}

static int spawn_child(struct vmm *vmm, int listening, int log, struct err *err)
{
	const char *path = vmm->m->model->vmm_path;
	int r = vmm_spawn(path, path, listening, log, &vmm->pid);

	if (r < 0)
		return err_set(err, r, "cannot run %s: %s", path, strerror(-r));
	vmm->pidfd = (int)syscall(SYS_pidfd_open, vmm->pid, 0);
	if (vmm->pidfd >= 0)
		return 0;
	r = err_set(err, -errno, "cannot watch the VMM: %m");
	kill(vmm->pid, SIGKILL); /* our child, not waited for yet: surely it */
	waitpid(vmm->pid, NULL, 0);
	return r;
}

static int launch(struct vmm *vmm, struct hold *hold, struct cancel *cancel, struct err *err)
{
	_cleanup_close_ int listening = vmm_listen(vmm->run_dir);
	_cleanup_close_ int log = openat(vmm->run_dir, "vmm.log",
					 O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

	if (listening < 0)
		return err_set(err, listening, "cannot make the VMM's socket: %s",
			       strerror(-listening));
	if (log < 0)
		return err_set(err, -errno, "cannot make the VMM's log: %m");
	vmm->sock = vmm_connect(vmm->run_dir);
	if (vmm->sock < 0)
		return err_set(err, vmm->sock, "cannot connect to the VMM: %s",
			       strerror(-vmm->sock));
	return hold ? fork_process(vmm, hold, listening, log, cancel, err)
		    : spawn_child(vmm, listening, log, err);
}

/* One that is there already. */
static bool take_spare(struct vmm *vmm)
{
	struct spare spare;

	if (!spare_take(vmm->m->model->spares, vmm->run_dir, &spare))
		return false;
	vmm->pid = spare.pid;
	vmm->pidfd = spare.pidfd;
	vmm->sock = spare.sock;
	vmm->met = true;
	return true;
}

int vmm_launch(struct machine *m, struct hold *hold, struct vmm **out, struct cancel *cancel,
	       struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = vmm_new(m);
	int r;

	if (!vmm)
		return err_set(err, -ENOMEM, "out of memory");
	r = vmm_open_dirs(vmm, true);
	if (r == 0)
		vmm->pidfd = vmm_find_process(vmm->run_dir, &vmm->pid);
	if (r == 0 && vmm->pidfd >= 0)
		return err_set(err, -EBUSY, "process %d runs as this machine", (int)vmm->pid);
	if (r < 0)
		return err_set(err, r, "cannot make %s/machines/%s: %s", m->model->run_dir, m->id,
			       strerror(-r));
	if (hold || !take_spare(vmm))
		r = launch(vmm, hold, cancel, err);
	if (r < 0)
		return r;
	*out = vmm_get(vmm);
	return 0;
}

static void end_unwatched(struct vmm *vmm)
{
	vmm_kill(vmm);
	waitid(P_PIDFD, (id_t)vmm->pidfd, &(siginfo_t){0}, WEXITED);
}

void vmm_discard(struct vmm *vmm)
{
	if (vmm->ahead.vmm)
		vmm_burst_drop(&vmm->ahead);
	end_unwatched(vmm);
	rundir_clear(vmm->m, false);
}

int vmm_adopt(struct vmm *vmm, struct cancel *cancel, struct err *err)
{
	int r = note_pid(vmm);

	if (r == 0)
		r = vmm_loop_add(vmm->m->model->loop, vmm);
	if (r < 0) {
		end_unwatched(vmm);
		return err_set(err, r, "cannot watch the VMM: %s", strerror(-r));
	}
	pthread_mutex_lock(&vmm->m->lock);
	vmm->m->vmm = vmm_get(vmm);
	if (vmm->m->killed) /* by who did not find it yet */
		vmm_kill(vmm);
	pthread_mutex_unlock(&vmm->m->lock);
	return vmm->met ? 0 : vmm_hello(vmm, HELLO_MS, cancel, err);
}
