// SPDX-License-Identifier: ISC
/*
 * Names that a process believes to be free.
 *
 * cp -r and tar x make a directory and then create (O_EXCL) what belongs into
 * it; install(1) and mv(1) from another file system unlink a file and then
 * create it. Here the files of a new machine are there at once, and unlinking
 * a value means nothing. So for the process that made the machine, or unlinked the
 * file, the name is absent when, and only when, it is about to create it, which
 * is seen in the system call that it waits in; the create (or mkdir) that follows
 * opens what was there all the time. To any other question it gets the truth.
 * That an unlink precedes a create is not seen but assumed of programs that copy;
 * from others it is refused, as rm(1) cannot mean anything here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define MADE_NS	    60000000000u /* since it last created something there */
#define UNLINKED_NS 5000000000u

static void remember(struct fsapi *fs, pid_t pid, uint64_t what, uint64_t ns)
{
	struct intent *slot = &fs->intents[0];

	if (pid == 0)
		return;
	LOCK_SCOPE(&fs->lock);
	for (size_t i = 0; i < nitems(fs->intents); i++) {
		struct intent *in = &fs->intents[i];

		if (in->pid == pid && in->what == what) {
			slot = in;
			break;
		}
		if (in->until_ns < slot->until_ns)
			slot = in;
	}
	*slot = (struct intent){.pid = pid, .what = what, .until_ns = now_ns() + ns};
}

static bool remembered(struct fsapi *fs, pid_t pid, uint64_t what)
{
	LOCK_SCOPE(&fs->lock);
	for (size_t i = 0; i < nitems(fs->intents); i++)
		if (fs->intents[i].pid == pid && fs->intents[i].what == what)
			return fs->intents[i].until_ns > now_ns();
	return false;
}

/* The directory that was made with @n in it. */
static const struct node *whole_dir(const struct node *n)
{
	while (n && !node_is_owner(n))
		n = n->parent;
	return n;
}

void intent_made(struct node *n, pid_t pid)
{
	if (node_is_owner(n))
		remember(n->fs, pid, n->ino, MADE_NS);
}

void intent_unlinked(struct node *n, pid_t pid)
{
	remember(n->fs, pid, n->ino, UNLINKED_NS);
}

bool intent_creates(struct node *n, pid_t pid)
{
	const struct node *dir = whole_dir(n->parent);

	if (pid == 0 || !dir)
		return false;
	if (!node_is_owner(n) && remembered(n->fs, pid, n->ino))
		return true;
	if (!remembered(n->fs, pid, dir->ino))
		return false;
	remember(n->fs, pid, dir->ino, MADE_NS);
	return true;
}

static bool goes_by(pid_t pid, const char *const *names, size_t n_names)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], comm[32] = "";

	if (pid == 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f || !fgets(comm, sizeof(comm), f))
		return false;
	comm[strcspn(comm, "\n")] = '\0';
	for (size_t i = 0; i < n_names; i++)
		if (strcmp(comm, names[i]) == 0)
			return true;
	return false;
}

bool intent_is_copier(pid_t pid)
{
	static const char *const names[] = {"cp",     "mv",   "install",     "tar",
					    "bsdtar", "cpio", "sftp-server", "sshd"};

	return goes_by(pid, names, nitems(names));
}

bool intent_copies(struct node *n, pid_t pid)
{
	static const char *const names[] = {"cp", "tar", "bsdtar", "cpio", "rsync"};
	const struct node *dir = whole_dir(n);

	return dir && remembered(n->fs, pid, dir->ino) && goes_by(pid, names, nitems(names));
}

/*
 * Whether the process waits in a call that makes what is not there: a directory, or a file. (Names
 * on the way to it are looked up in the same call.)
 */
static bool about_to_create(pid_t pid, bool directory)
{
	_cleanup_fclose_ FILE *f = NULL;
	unsigned long a, b, c;
	char path[64];
	long number;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%ld %lx %lx %lx", &number, &a, &b, &c) != 4)
		return intent_is_copier(pid); /* Yama forbids */
	switch (number) {
	case SYS_openat:
		return !directory && (c & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
#ifdef SYS_open
	case SYS_open:
		return !directory && (b & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
	case SYS_mkdir:
#endif
	case SYS_mkdirat:
		return directory;
	}
	return false;
}

bool intent_hides(struct node *n, pid_t pid)
{
	return intent_creates(n, pid) && about_to_create(pid, node_is_dir(n));
}
