// SPDX-License-Identifier: ISC
/*
 * Starting a VMM, and finding one that an earlier daemon started.
 *
 * The daemon makes the listening socket, so it can connect before the program
 * has begun. The child gets that socket, /dev/null, its log, and nothing else,
 * in a session of its own: it outlives the daemon. Its pid and start time are
 * noted at once; a daemon killed before that leaves a VMM that knows no machine,
 * and ends by itself.
 */
#define LOG_MODULE "vmm"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm.h"

#define HELLO_MS	 10000
#define HELLO_RECOVER_MS 2000
#define KILLED_MS	 10000
#define NOTE_MAX	 (1u << 20)

/* --- the object ------------------------------------------------------------------------ */

static struct vmm *vmm_new(struct machine *m)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));
	pthread_condattr_t attr;

	if (!vmm)
		return NULL;
	atomic_init(&vmm->refs, 1);
	vmm->m = machine_get(m);
	vmm->pidfd = vmm->sock = vmm->stats_fd = vmm->memory_fd = -1;
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

static int listen_socket(int run_dir)
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
static int connect_socket(int run_dir)
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
static unsigned long long start_time(pid_t pid)
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
	int n = snprintf(text, sizeof(text), "%d %llu\n", (int)vmm->pid, start_time(vmm->pid));

	return fd < 0 ? -errno : file_write_all(fd, text, (size_t)n);
}

/* The process that was noted, if it still is: a pidfd, or -errno. */
static int find_process(int run_dir, pid_t *pid)
{
	_cleanup_close_ int pidfd = -1;
	_cleanup_free_ char *text = NULL;
	unsigned long long started = 0;
	int r = file_read(run_dir, "vmm.pid", 64, &text, NULL);

	if (r < 0)
		return r;
	if (sscanf(text, "%d %llu", pid, &started) != 2 || *pid <= 1)
		return -EINVAL;
	pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
	if (pidfd < 0)
		return -errno;
	/* after opening: now the number cannot become another's */
	return start_time(*pid) == started ? take_fd(&pidfd) : -ESRCH;
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

static int spawn_process(const char *path, int listening, int log, pid_t *pid)
{
	char *argv[] = {(char *)path, NULL}, *env[16];
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

static int hello(struct vmm *vmm, unsigned timeout_ms, struct cancel *cancel, struct err *err)
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

static int open_dirs(struct vmm *vmm, bool make)
{
	vmm->run_dir = rundir_open(vmm->m, make);
	if (vmm->run_dir < 0)
		return vmm->run_dir;
	vmm->state_dir = store_open_dir(vmm->m);
	return vmm->state_dir < 0 ? vmm->state_dir : 0;
}

/* The process runs, is watched, and known to the machine, so that `kill` reaches it. */
static int launch(struct vmm *vmm, struct err *err)
{
	struct model *model = vmm->m->model;
	_cleanup_close_ int listening = listen_socket(vmm->run_dir);
	_cleanup_close_ int log = openat(vmm->run_dir, "vmm.log",
					 O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	int r;

	if (listening < 0)
		return err_set(err, listening, "cannot make the VMM's socket: %s",
			       strerror(-listening));
	if (log < 0)
		return err_set(err, -errno, "cannot make the VMM's log: %m");
	vmm->sock = connect_socket(vmm->run_dir);
	if (vmm->sock < 0)
		return err_set(err, vmm->sock, "cannot connect to the VMM: %s",
			       strerror(-vmm->sock));
	r = spawn_process(model->vmm_path, listening, log, &vmm->pid);
	if (r < 0)
		return err_set(err, r, "cannot run %s: %s", model->vmm_path, strerror(-r));
	vmm->pidfd = (int)syscall(SYS_pidfd_open, vmm->pid, 0);
	r = vmm->pidfd < 0 ? -errno : note_pid(vmm);
	if (r == 0)
		r = vmm_loop_add(model->loop, vmm);
	if (r < 0) {
		kill(vmm->pid, SIGKILL); /* our child, not waited for yet: surely it */
		waitpid(vmm->pid, NULL, 0);
		return err_set(err, r, "cannot watch the VMM: %s", strerror(-r));
	}
	LOCK_SCOPE(&vmm->m->lock);
	vmm->m->vmm = vmm_get(vmm);
	if (vmm->m->killed) /* by who did not find it yet */
		vmm_kill(vmm);
	return 0;
}

int vmm_spawn(struct machine *m, struct vmm **out, struct cancel *cancel, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = vmm_new(m);
	int r;

	if (!vmm)
		return err_set(err, -ENOMEM, "out of memory");
	r = open_dirs(vmm, true);
	if (r == 0)
		vmm->pidfd = find_process(vmm->run_dir, &vmm->pid);
	if (r == 0 && vmm->pidfd >= 0)
		return err_set(err, -EBUSY, "process %d runs as this machine", (int)vmm->pid);
	if (r < 0)
		return err_set(err, r, "cannot make %s/machines/%s: %s", m->model->run_dir, m->id,
			       strerror(-r));
	r = launch(vmm, err);
	if (r < 0)
		return r;
	*out = vmm_get(vmm); /* also where it says no HELLO: it must be ended then */
	return hello(vmm, HELLO_MS, cancel, err);
}

/* --- notes for a later daemon --------------------------------------------------------------------
 */

void vmm_note(struct vmm *vmm)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	_cleanup_close_ int fd = -1;

	LOCK_SCOPE(&vmm->note_lock);
	fd = openat(vmm->run_dir, "note.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	pthread_mutex_lock(&vmm->m->lock);
	strbuf_printf(&sb, "tty %s\n", vmm->tty);
	vmm_disks_note(vmm, &sb);
	pthread_mutex_unlock(&vmm->m->lock);
	if (fd < 0 || sb.failed || file_write_all(fd, sb.data, sb.len) < 0 ||
	    renameat(vmm->run_dir, "note.new", vmm->run_dir, "note") < 0)
		log_warn("cannot note what VMM %d has", vmm->pid);
}

static void read_note(struct vmm *vmm)
{
	_cleanup_free_ char *text = NULL;
	char *save = NULL;

	if (file_read(vmm->run_dir, "note", NOTE_MAX, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (sscanf(line, "tty %63s", vmm->tty) != 1)
			vmm_disks_read(vmm, line);
}

void vmm_own_tty(struct vmm *vmm, const struct machine_access *access)
{
	if (vmm->tty[0] && geteuid() == 0 && chown(vmm->tty, access->uid, access->gid) < 0)
		log_warn("cannot hand %s to its owner: %m", vmm->tty);
}

/* --- finding them again
 * ------------------------------------------------------------------------------ */

static void found_event(struct machine *m)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "found");
	event_text(&sb, "machine", m->name);
	event_text(&sb, "state", machine_state_name(m->state));
	model_event(m->model, &sb);
}

/* The machine is as the daemon before left it: running, and what became of it is heard now. */
static void adopt(struct machine *m, struct vmm *vmm)
{
	LOCK_SCOPE(&m->lock);
	m->state = MACHINE_RUNNING;
	m->vmm = vmm_get(vmm);
	vmm->ready = true;
}

static int reconnect(struct machine *m, struct vmm *vmm)
{
	struct err err = ERR_INIT;
	int r = vmm->sock = connect_socket(vmm->run_dir);

	if (r >= 0)
		r = vmm_loop_add(m->model->loop, vmm);
	if (r < 0) {
		log_error("machine %s: cannot connect to VMM %d: %s", m->name, vmm->pid,
			  strerror(-r));
		return r;
	}
	adopt(m, vmm);
	r = hello(vmm, HELLO_RECOVER_MS, NULL, &err);
	if (r < 0)
		log_error("machine %s: VMM %d: %s", m->name, vmm->pid, err.text);
	/* one that hangs is shown as running: its owner may kill it */
	return r == -ETIMEDOUT ? 0 : r;
}

/* It ran when the last daemon ended, and does not now. */
static void lost(struct machine *m)
{
	struct err err = ERR_INIT;

	LOCK_SCOPE(&m->lock);
	m->state = MACHINE_RUNNING;
	err_set(&err, -EIO, "the VMM ended while no daemon was there to see how");
	machine_guest_failed(m, &err);
	machine_set_state(m, MACHINE_CRASHED, "lost");
	rundir_note_end(m, m->state);
	rundir_clear(m, false);
}

/* The same, but it was noted how: watchers have not heard of it yet. */
static void tell_noted_end(struct machine *m)
{
	enum machine_state noted;

	LOCK_SCOPE(&m->lock);
	noted = m->state;
	m->state = MACHINE_RUNNING;
	machine_set_state(m, noted, "found");
	rundir_clear(m, false);
}

/*
 * It is saved, and no guest has gone on from it: whatever process is left of it was done with, or
 * had not begun.
 */
static void end_rest_of_saved(struct machine *m, struct vmm *vmm)
{
	vmm->pidfd = find_process(vmm->run_dir, &vmm->pid);
	if (vmm->pidfd >= 0) {
		struct pollfd pfd = {.fd = vmm->pidfd, .events = POLLIN};

		vmm_kill(vmm);
		if (poll(&pfd, 1, KILLED_MS) <= 0)
			log_warn("VMM %d of the saved machine %s cannot be killed", vmm->pid,
				 m->name);
	}
	rundir_clear(m, false);
}

static void recover(struct machine *m)
{
	_cleanup_vmm_ struct vmm *vmm = vmm_new(m);
	struct stat st;

	if (!vmm || open_dirs(vmm, false) < 0)
		return; /* it never ran since the host started */
	if (m->saved) {
		end_rest_of_saved(m, vmm);
		return;
	}
	if (fstatat(vmm->run_dir, "vmm.pid", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		/* a VMM without a pid noted waits for a connection: it takes ours, and ends with it
		 */
		int sock = connect_socket(vmm->run_dir);

		if (sock >= 0)
			close(sock);
		rundir_load_end(m);
		rundir_clear(m, false);
		return;
	}
	vmm->pidfd = find_process(vmm->run_dir, &vmm->pid);
	if (vmm->pidfd < 0) {
		/* its end may have been noted, and the daemon killed right then */
		if (rundir_load_end(m))
			tell_noted_end(m);
		else
			lost(m);
		return;
	}
	read_note(vmm);
	if (reconnect(m, vmm) < 0) {
		vmm_kill(vmm);
		if (!vmm->listed)
			lost(m);
		return; /* else its end is heard */
	}
	disks_recover(vmm);
	if (rundir_saving(m)) {
		rundir_note_saving(m, false);
		vmm_post(vmm, VMM_RESUME, NULL, 0, NULL, 0);
	}
	LOCK_SCOPE(&m->lock);
	found_event(m);
}

/* Directories of machines that are no more, unless something still runs in them. */
static void sweep(struct model *model)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	int fd = openat(model->run_machines_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	d = fd >= 0 ? fdopendir(fd) : NULL;
	while (d && (e = readdir(d))) {
		struct machine ghost = {.model = model};
		_cleanup_close_ int dir = -1, pidfd = -1;
		uint64_t cursor = 0;
		bool known = false;
		struct machine *m;
		pid_t pid;

		if (strlen(e->d_name) != ID_TEXT - 1)
			continue;
		while (!known && (m = model_machine_next(model, &cursor))) {
			known = strcmp(m->id, e->d_name) == 0;
			machine_put(m);
		}
		strcpy(ghost.id, e->d_name);
		dir = known ? -1 : rundir_open(&ghost, false);
		pidfd = dir < 0 ? -1 : find_process(dir, &pid);
		if (pidfd >= 0)
			log_warn("VMM %d belongs to no machine that is known here", pid);
		else if (dir >= 0)
			rundir_clear(&ghost, true);
	}
}

void vmm_recover_all(struct model *model)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		recover(m);
		machine_put(m);
	}
	sweep(model);
}
