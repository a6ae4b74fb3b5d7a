// SPDX-License-Identifier: ISC
/* Finding VMMs that an earlier daemon left running, and what is noted for a later one. */
#define LOG_MODULE "vmm"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk.h"
#include "nic_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm_int.h"
#include "vsock_int.h"

#define HELLO_RECOVER_MS 2000
#define KILLED_MS	 10000
#define NOTE_MAX	 (1u << 20)

/* The process that was noted, if it still is: a pidfd, or -errno. */
int vmm_find_process(int run_dir, pid_t *pid)
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
	return vmm_start_time(*pid) == started ? take_fd(&pidfd) : -ESRCH;
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
	vmm_nics_note(vmm, &sb);
	vmm_vsock_note(vmm, &sb);
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
		if (sscanf(line, "tty %63s", vmm->tty) != 1 && !vmm_nics_read(vmm, line) &&
		    !vmm_vsock_read(vmm, line))
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
	int r = vmm->sock = vmm_connect(vmm->run_dir);

	if (r >= 0)
		r = vmm_loop_add(m->model->loop, vmm);
	if (r < 0) {
		log_error("machine %s: cannot connect to VMM %d: %s", m->name, vmm->pid,
			  strerror(-r));
		return r;
	}
	adopt(m, vmm);
	r = vmm_hello(vmm, HELLO_RECOVER_MS, NULL, &err);
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
	vmm->pidfd = vmm_find_process(vmm->run_dir, &vmm->pid);
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

	if (!vmm || vmm_open_dirs(vmm, false) < 0)
		return; /* it never ran since the host started */
	if (m->saved) {
		end_rest_of_saved(m, vmm);
		return;
	}
	if (fstatat(vmm->run_dir, "vmm.pid", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		/* a VMM without a pid noted waits for a connection: it takes ours, and ends with it
		 */
		int sock = vmm_connect(vmm->run_dir);

		if (sock >= 0)
			close(sock);
		rundir_load_end(m);
		rundir_clear(m, false);
		return;
	}
	vmm->pidfd = vmm_find_process(vmm->run_dir, &vmm->pid);
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
	nics_recover(vmm);
	vmm_vsock_recover(vmm);
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
		pidfd = dir < 0 ? -1 : vmm_find_process(dir, &pid);
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
