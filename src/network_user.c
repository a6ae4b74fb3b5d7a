// SPDX-License-Identifier: ISC
/*
 * Mode user: a process of passt(1) for each card. It has a stream socket to the VMM, makes the
 * guest's connections its own, as the machine's owner (as nobody where that is root), and ends
 * when the VMM closes its end. Ports of `forwards` whose target is this machine are passt's to
 * listen on, from the card's start on.
 *
 * It is ready once it has locked itself in (seccomp(2)), which is the last thing before it serves.
 */
#define LOG_MODULE "network"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"

#define GUEST_FD 3
#define START_MS 10000
#define WORDS	 16

extern char **environ;

/* "8080:80,9000-9003:9000-9003" of this machine's; nothing: none. */
static void put_ports(struct network *network, const char *machine, bool udp, struct strbuf *sb)
{
	LOCK_SCOPE(&network->lock);
	for (size_t i = 0; i < network->n_forwards; i++) {
		const struct network_forward *f = &network->forwards[i];

		if (f->udp != udp || strcmp(f->target, machine) != 0)
			continue;
		strbuf_printf(sb, "%s%u", sb->len ? "," : "", f->first);
		if (f->last != f->first)
			strbuf_printf(sb, "-%u", f->last);
		strbuf_printf(sb, ":%u", f->to_port);
		if (f->last != f->first)
			strbuf_printf(sb, "-%u", f->to_port + (f->last - f->first));
	}
}

static int spawn(const char *const argv[], int sock, int words, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, 0, 1);
	posix_spawn_file_actions_adddup2(&actions, words, 2);
	posix_spawn_file_actions_adddup2(&actions, sock, GUEST_FD);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
					    POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	r = -posix_spawnp(pid, argv[0], &actions, &attr, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

static bool locked_in(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	return file_read(AT_FDCWD, path, 65536, &text, NULL) == 0 && strstr(text, "\nSeccomp:\t2");
}

static int await_ready(pid_t pid, struct cancel *cancel)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t end = now_ns() + START_MS * 1000000ull;

	while (fd >= 0 && now_ns() < end && !(cancel && cancel_requested(cancel))) {
		if (poll(&p, 1, 2) > 0)
			return -EIO;
		if (locked_in(pid))
			return 0;
	}
	return fd < 0 ? -errno : cancel && cancel_requested(cancel) ? -ECANCELED : -ETIMEDOUT;
}

static void *reap(void *arg)
{
	waitpid((pid_t)(intptr_t)arg, NULL, 0);
	return NULL;
}

/* It ends by itself: somebody waits for it, who needs nothing of ours. */
static void reap_later(pid_t pid)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 65536);
	/* without a thread it stays a zombie until the daemon ends */
	if (pthread_create(&thread, &attr, reap, (void *)(intptr_t)pid) == 0)
		pthread_setname_np(thread, "passt");
	pthread_attr_destroy(&attr);
}

static int failed(int r, int words, struct err *err)
{
	char text[512], *line;
	ssize_t n = pread(words, text, sizeof(text) - 1, 0);

	if (r == -ENOENT)
		return err_set(err, r, "there is no program passt here");
	if (r != -EIO || n <= 0)
		return err_set(err, r, "passt: %s", strerror(-r));
	while (n && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	line = strrchr(text, '\n');
	return err_set(err, r, "passt: %s", line ? line + 1 : text);
}

static int start_passt(struct network *network, struct machine *m, const struct nic_plug *plug,
		       int sock, pid_t *pid, struct cancel *cancel, struct err *err)
{
	_cleanup_strbuf_ struct strbuf tcp = STRBUF_INIT, udp = STRBUF_INIT;
	_cleanup_close_ int words = memfd_create("passt", MFD_CLOEXEC);
	const char *argv[WORDS] = {"passt", "-f", "-q", "-e", "-F", "3"};
	char name[MACHINE_NAME_MAX + 1], runas[40], mtu[16];
	struct machine_access access;
	size_t n = 6;
	int r;

	machine_name(m, name);
	machine_access_get(m, &access);
	put_ports(network, name, false, &tcp);
	put_ports(network, name, true, &udp);
	snprintf(runas, sizeof(runas), "%u:%u", (unsigned)access.uid, (unsigned)access.gid);
	snprintf(mtu, sizeof(mtu), "%u", plug->mtu);
	if (geteuid() == 0 && access.uid != 0)
		argv[n++] = "--runas", argv[n++] = runas;
	if (plug->mtu)
		argv[n++] = "-m", argv[n++] = mtu;
	if (tcp.len)
		argv[n++] = "-t", argv[n++] = tcp.data;
	if (udp.len)
		argv[n++] = "-u", argv[n++] = udp.data;
	if (words < 0 || tcp.failed || udp.failed)
		return err_set(err, -ENOMEM, "out of memory");
	r = spawn(argv, sock, words, pid);
	if (r < 0)
		return failed(r, words, err);
	r = await_ready(*pid, cancel);
	if (r < 0) {
		kill(*pid, SIGKILL); /* our child, not waited for yet */
		waitpid(*pid, NULL, 0);
		return failed(r, words, err);
	}
	reap_later(*pid);
	return 0;
}

int user_plug(struct network *network, struct machine *m, const struct nic *nic,
	      struct nic_plug *plug, struct cancel *cancel, struct err *err)
{
	struct network_port port = {.m = m};
	_cleanup_close_ int theirs = -1;
	int pair[2], r;

	strcpy(port.nic, nic->name);
	r = nic_mac_parse(nic->values.mac, port.mac, err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "a socket: %m");
	plug->fds[0] = pair[0]; /* closed by who asked where this fails */
	plug->n_fds = 1;
	plug->kind = VMM_NIC_STREAM;
	theirs = pair[1];
	r = start_passt(network, m, plug, theirs, &port.pid, cancel, err);
	if (r < 0)
		return r;
	r = port_add(network, &port, err);
	if (r == 0 && network_note_ports(network) < 0)
		r = err_set(err, -EIO, "cannot write in %s", network->model->run_dir);
	return r;
}
