// SPDX-License-Identifier: ISC
/*
 * Locking in, step one: no files, no privileges.
 *
 * The root directory becomes one that is empty and already deleted: nothing
 * can be made in it, nobody can put anything there, and nothing has to be
 * mounted. Landlock (Linux 5.13) then denies every access to files by path
 * even where that failed to hold, and all there is for a plain user; where
 * the kernel has none, the filter of system calls (sandbox_seccomp.c) has to
 * do. Nothing of this needs a descriptor or a file later on.
 */
#include <errno.h>
#include <grp.h>
#include <stdint.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOG_MODULE "sandbox"
#include "vmm/sandbox.h"
#include "vmm/sandbox_int.h"
#include "util/cleanup.h"
#include "util/log.h"

/* --- an empty root ---------------------------------------------------------------------------- */

static int enter_deleted(char *template)
{
	int ret = 0;

	if (!mkdtemp(template))
		return -errno;
	if (chmod(template, 0555) < 0 || chdir(template) < 0)
		ret = -errno;
	if (rmdir(template) < 0 && ret == 0)
		ret = -errno;
	return ret;
}

static int empty_root(struct err *err)
{
	static const char *const places[] = {"/run", "/dev/shm", "/tmp"};
	int ret = -ENOENT;

	for (unsigned i = 0; i < nitems(places) && ret < 0; i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/filevisor-vmm-XXXXXX", places[i]);
		ret = enter_deleted(path);
	}
	if (ret == 0 && chroot(".") < 0)
		ret = -errno;
	if (ret < 0)
		return err_set(err, ret, "sandbox: cannot make an empty root directory");
	return 0;
}

/* --- privileges ------------------------------------------------------------------------------- */

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

static int drop_root(uid_t uid, gid_t gid, struct err *err)
{
	int ret = SANDBOX_INSTRUMENTED ? 0 : empty_root(err);

	if (ret < 0)
		return ret;
	/* No program run later could get them back; none will be run. Needs a capability itself. */
	for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		continue;
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_set(err, -errno, "sandbox: cannot become user %u, group %u", uid, gid);
	return 0;
}

/* --- landlock -----------------------------------------------------------------------------------
 */

/* How many kinds of access each version of landlock knows, from version 1 on. */
static const unsigned landlock_fs_bits[] = {13, 14, 15, 15, 16};

/* As linux/landlock.h of version 6 has it: this may be built with an older one. */
struct ruleset {
	uint64_t fs, net, scoped;
};

static int no_files(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	unsigned known = nitems(landlock_fs_bits);
	struct ruleset all = {0};
	_cleanup_close_ int fd = -1;
	size_t size;

	if (abi < 1)
		return -EOPNOTSUPP;
	all.fs = (1ull << landlock_fs_bits[(abi < known ? abi : known) - 1]) - 1;
	all.net = abi >= 4 ? 3 : 0;    /* bind and connect of TCP */
	all.scoped = abi >= 6 ? 3 : 0; /* abstract sockets and signals of others */
	size = abi >= 6 ? sizeof(all) : abi >= 4 ? 16 : 8;
	fd = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
	if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return -errno;
	return 0;
}

int sandbox_enter(uid_t uid, gid_t gid, struct err *err)
{
	int ret;

	if (geteuid() == 0) {
		ret = drop_root(uid, gid, err);
		if (ret < 0)
			return ret;
	}
	ret = drop_capabilities();
	if (ret < 0)
		return err_set(err, ret, "sandbox: cannot drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, -errno, "sandbox: cannot give up new privileges");
	/* The leak checker traces its own process. */
	if (prctl(PR_SET_DUMPABLE, SANDBOX_INSTRUMENTED, 0, 0, 0) < 0)
		return err_set(err, -errno, "sandbox: cannot forbid tracing");
	if (SANDBOX_INSTRUMENTED) {
		log_info("an instrumented build: files are not out of reach");
		return 0;
	}
	ret = no_files();
	if (ret < 0)
		log_info("no landlock here: %s", strerror(-ret));
	return 0;
}
