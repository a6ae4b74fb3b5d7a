// SPDX-License-Identifier: ISC
/*
 * RUN/machines/ID: what a machine's run leaves for the next daemon.
 *
 *   vmm.sock  where its VMM listens      vmm.pid  "PID START-TIME"
 *   vmm.log   what the VMM printed       note     its tty, disks and network cards
 *   pcap-NAME frames of a network card
 *   saving    it was paused by a save that is under way: it goes on if that does not end
 *   ended     how the last run ended: the state, then the text of `error`
 *
 * Nothing here is synced: it is gone with the host's next start, and so are the VMMs.
 */
#define LOG_MODULE "rundir"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vsock_int.h"

#define ENDED_MAX 8192

int rundir_open(struct machine *m, bool make)
{
	int fd;

	if (make && mkdirat(m->model->run_machines_fd, m->id, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(m->model->run_machines_fd, m->id,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Frames that were captured (nic.c). */
static void clear_captures(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strncmp(e->d_name, "pcap-", 5) == 0)
			unlinkat(dir, e->d_name, 0);
}

void rundir_clear(struct machine *m, bool all)
{
	static const char *const of_run[] = {"vmm.sock", "vmm.pid", "note", "note.new", "saving"};
	static const char *const of_all[] = {"vmm.log", "ended"};
	_cleanup_close_ int dir = rundir_open(m, false);

	vsock_clear(m);
	if (dir < 0)
		return;
	for (size_t i = 0; i < nitems(of_run); i++)
		unlinkat(dir, of_run[i], 0);
	if (!all)
		return;
	for (size_t i = 0; i < nitems(of_all); i++)
		unlinkat(dir, of_all[i], 0);
	clear_captures(dir);
	if (unlinkat(m->model->run_machines_fd, m->id, AT_REMOVEDIR) < 0)
		log_warn("cannot remove %s/machines/%s: %m", m->model->run_dir, m->id);
}

void rundir_note_saving(struct machine *m, bool saving)
{
	_cleanup_close_ int dir = rundir_open(m, false), fd = -1;

	if (dir >= 0 && saving)
		fd = openat(dir, "saving", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	else if (dir >= 0)
		unlinkat(dir, "saving", 0);
}

bool rundir_saving(struct machine *m)
{
	_cleanup_close_ int dir = rundir_open(m, false);

	return dir >= 0 && faccessat(dir, "saving", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void rundir_note_end(struct machine *m, enum machine_state state)
{
	_cleanup_close_ int dir = rundir_open(m, true), fd = -1;
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	strbuf_printf(&sb, "%s\n%d\n", machine_state_name(state), m->error.code);
	if (m->error.guest)
		outcome_show(&m->error, &sb);
	if (dir >= 0)
		fd = openat(dir, "ended.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || sb.failed || file_write_all(fd, sb.data, sb.len) < 0 ||
	    renameat(dir, "ended.new", dir, "ended") < 0)
		log_warn("cannot note how %s ended: %m", m->name);
}

void rundir_forget_end(struct machine *m)
{
	_cleanup_close_ int dir = rundir_open(m, false);

	if (dir >= 0)
		unlinkat(dir, "ended", 0);
}

bool rundir_load_end(struct machine *m)
{
	_cleanup_close_ int dir = rundir_open(m, false);
	_cleanup_free_ char *text = NULL;
	char *code, *words;

	if (dir < 0 || file_read(dir, "ended", ENDED_MAX, &text, NULL) < 0)
		return false;
	code = strchr(text, '\n');
	words = code ? strchr(code + 1, '\n') : NULL;
	if (!words)
		return false;
	*code = *words++ = '\0';
	m->state = strcmp(text, machine_state_name(MACHINE_CRASHED)) == 0 ? MACHINE_CRASHED
									  : MACHINE_STOPPED;
	if (*words && !m->error.text) {
		m->error.code = atoi(code + 1);
		m->error.guest = true;
		m->error.text = strdup(words);
	}
	return true;
}
