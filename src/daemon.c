// SPDX-License-Identifier: ISC
/* Going into the background, telling systemd, finding directories. See daemon.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "util/cleanup.h"
#include "util/file.h"

/* --- the background ------------------------------------------------------------------------ */

/* The parent: as long as the child is on its way. */
static void await_child(int fd)
{
	char byte;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	_exit(n == 1 ? 0 : 1);
}

int daemon_fork(struct daemon *d)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid > 0) {
		close(fds[1]);
		await_child(fds[0]);
	}
	close(fds[0]);
	d->ready_fd = fds[1];
	setsid();
	return 0;
}

void daemon_ready(struct daemon *d)
{
	daemon_notify("READY=1");
	if (d->ready_fd < 0)
		return;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	file_write_all(d->ready_fd, "", 1);
	close(take_fd(&d->ready_fd));
}

void daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	_cleanup_close_ int fd = -1;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;

	if (len == 0 || len >= sizeof(addr.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(addr.sun_path, path, len);
	if (*path == '@')
		addr.sun_path[0] = '\0'; /* the abstract namespace */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		fprintf(stderr, "filevisord: cannot notify %s: %s\n", path, strerror(errno));
}

/* --- where things are ------------------------------------------------------------------------ */

static char *join(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static const char *absolute_env(const char *name)
{
	const char *value = getenv(name);

	return value && *value == '/' ? value : NULL;
}

char *daemon_state_dir(void)
{
	const char *dir;

	if (geteuid() == 0)
		return strdup("/var/lib/filevisor");
	dir = absolute_env("XDG_STATE_HOME");
	if (dir)
		return join(dir, "filevisor");
	dir = absolute_env("HOME");
	return dir ? join(dir, ".local/state/filevisor") : NULL;
}

char *daemon_run_dir(void)
{
	const char *dir;
	char *path;

	if (geteuid() == 0)
		return strdup("/run/filevisor");
	dir = absolute_env("XDG_RUNTIME_DIR");
	if (dir)
		return join(dir, "filevisor");
	/* no such directory: one below the state, which is the user's own too */
	dir = absolute_env("HOME");
	if (!dir || asprintf(&path, "%s/.cache/filevisor-run", dir) < 0)
		return NULL;
	return path;
}

char *daemon_vmm_path(void)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash, *path = NULL;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		*slash = '\0';
		path = join(self, "filevisor-vmm");
	}
	if (path && access(path, X_OK) == 0)
		return path;
	free(path);
	return strdup(FILEVISOR_LIBEXEC "/filevisor-vmm");
}

char *daemon_absolute(const char *path)
{
	char cwd[PATH_MAX];

	if (*path == '/' || !getcwd(cwd, sizeof(cwd)))
		return strdup(path);
	return join(cwd, path);
}
