// SPDX-License-Identifier: ISC
/*
 * Consoles. The VMM appends to a log that the daemon opened for it. When that
 * is long enough it is renamed, and the VMM is handed a new one; what it writes
 * until it takes that goes to the old file, so no byte is lost.
 */
#define LOG_MODULE "console"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "console.h"
#include "model_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"

static const char *const file_names[] = {"console", "console.old"};

#define LOG_FLAGS (O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW)

int console_open_log(struct machine *m)
{
	return store_open_file(m, file_names[0], LOG_FLAGS);
}

int console_open_pty(const struct machine_access *access, char *path, size_t size)
{
	_cleanup_close_ int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct termios t;
	int r;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return -errno;
	r = ptsname_r(master, path, size);
	if (r)
		return -r;
	if (tcgetattr(master, &t) < 0)
		return -errno;
	cfmakeraw(&t);
	if (tcsetattr(master, TCSANOW, &t) < 0)
		return -errno;
	if (geteuid() == 0 && (chown(path, access->uid, access->gid) < 0 || chmod(path, 0620) < 0))
		log_warn("cannot hand %s to its owner: %m", path);
	return take_fd(&master);
}

void console_rotate(struct vmm *vmm, uint64_t max)
{
	struct vmm_console con = {.log_limit_bytes = CONSOLE_ALONE_MAX};
	_cleanup_close_ int log = -1;
	struct stat st;

	if (fstatat(vmm->state_dir, file_names[0], &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (uint64_t)st.st_size <= max)
		return;
	if (renameat(vmm->state_dir, file_names[0], vmm->state_dir, file_names[1]) < 0) {
		log_warn("cannot rename a console: %m");
		return;
	}
	log = openat(vmm->state_dir, file_names[0], LOG_FLAGS, 0600);
	if (log >= 0 && vmm_post(vmm, VMM_CONSOLE, &con, sizeof(con), &log, 1))
		return;
	/* it keeps the old one: that must be the present one again */
	log_debug("the VMM does not take a new console");
	if (renameat(vmm->state_dir, file_names[1], vmm->state_dir, file_names[0]) < 0)
		log_warn("cannot rename a console back: %m");
}

/* --- machine.h --------------------------------------------------------------------------- */

int machine_console_open(struct machine *m, bool old)
{
	return store_open_file(m, file_names[old], O_RDONLY);
}

int machine_console_stat(struct machine *m, bool old, uint64_t *size, struct timespec *mtime)
{
	struct stat st;
	int r = store_stat_file(m, file_names[old], &st);

	if (r < 0)
		return r;
	*size = (uint64_t)st.st_size;
	*mtime = st.st_mtim;
	return 0;
}

/* One packet's worth; how many bytes the VMM took, or -errno. */
static ssize_t type_some(struct vmm *vmm, const char *data, size_t len, struct err *err)
{
	struct vmm_request rq = {.type = VMM_CONSOLE_INPUT,
				 .data = data,
				 .len = len > VMM_CONSOLE_IN_MAX ? VMM_CONSOLE_IN_MAX : len,
				 .timeout_ms = VMM_QUERY_MS};
	uint32_t taken = 0;
	struct vmm_reply reply = {.data = &taken, .room = sizeof(taken)};
	int r = vmm_call(vmm, &rq, &reply, err);

	if (r == 0 && reply.len < sizeof(taken))
		r = err_set(err, -EIO, "the VMM answers what cannot be");
	if (r < 0)
		return r;
	return taken > rq.len ? (ssize_t)rq.len : (ssize_t)taken;
}

static int type_all(struct machine *m, const char *data, size_t len, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	size_t done = 0;

	if (!vmm)
		return err_set(err, -EBUSY, "no guest runs that could read it");
	while (done < len) {
		ssize_t n = type_some(vmm, data + done, len - done, err);

		if (n < 0)
			return (int)n;
		done += (size_t)n;
		if (n == 0)
			return err_set(err, -ENOSPC,
				       "the guest does not read: %zu of %zu bytes were taken", done,
				       len);
	}
	return 0;
}

int machine_console_type(struct machine *m, const void *data, size_t len, struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	int r = type_all(m, data, len, words);

	if (r < 0) {
		words->code = r;
		machine_outcome(m, "console", words);
	}
	return r;
}

int machine_tty(struct machine *m, struct strbuf *sb)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);

	if (!vmm || !vmm->tty[0])
		return -ENOENT;
	strbuf_puts(sb, vmm->tty);
	return 0;
}
