// SPDX-License-Identifier: ISC
/*
 * Network disks, the daemon's side: starting a filevisor-nbd with its end of a socket pair,
 * and hearing how it went. The program puts itself aside (main.c of storage/nbd), so the
 * child that we wait for ends at once, and there is none left over.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storage/nbd.h"
#include "storage/nbd_proto.h"
#include "util/cleanup.h"
#include "util/strbuf.h"

#define ANSWER_MS    30000
#define SOCKET_BYTES (1 << 20)

/* --- names ----------------------------------------------------------------------------------- */

static const struct scheme {
	const char *prefix;
	bool local;
} schemes[] = {
    {"nbd://", false},
    {"nbds://", false},
    {"nbd+unix://", true},
    {"nbds+unix://", true},
};

/* Characters that a URI may have; what is left of them is written as %XX. */
static bool is_uri_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~:/?[]@!$&'()*+,;=%", c));
}

static int check_local(const char *rest, struct err *err)
{
	const char *query = strchr(rest, '?'), *socket = query ? strstr(query, "socket=") : NULL;

	if (rest[0] != '/' && rest[0] != '?')
		return err_set(err, -EINVAL, "an nbd+unix URI has no host: nbd+unix:///…");
	if (!socket || (socket[-1] != '?' && socket[-1] != '&'))
		return err_set(err, -EINVAL, "an nbd+unix URI names its socket: ?socket=/path");
	socket += strlen("socket=");
	if (socket[0] != '/' && strncasecmp(socket, "%2f", 3) != 0)
		return err_set(err, -EINVAL, "the socket of an nbd+unix URI is a full path");
	return 0;
}

int nbd_uri_check(const char *uri, struct err *err)
{
	const struct scheme *scheme = NULL;
	const char *rest;

	if (strlen(uri) > NBD_URI_MAX)
		return err_set(err, -EINVAL, "a URI of more than %d bytes", NBD_URI_MAX);
	for (const char *c = uri; *c; c++)
		if (!is_uri_char(*c))
			return err_set(err, -EINVAL, "a URI cannot have this: %s", c);
	for (unsigned i = 0; i < nitems(schemes); i++)
		if (!strncmp(uri, schemes[i].prefix, strlen(schemes[i].prefix)))
			scheme = &schemes[i];
	if (!scheme)
		return err_set(err, -EINVAL,
			       "not a URI of nbd://, nbds://, nbd+unix:// or nbds+unix://");
	rest = uri + strlen(scheme->prefix);
	if (scheme->local)
		return check_local(rest, err);
	if (!*rest || strchr("/?:", *rest))
		return err_set(err, -EINVAL, "%sHOST: which host?", scheme->prefix);
	return 0;
}

static int export_check(const char *export, struct err *err)
{
	if (strlen(export) > NBD_EXPORT_MAX)
		return err_set(err, -EINVAL, "a name of more than %d bytes", NBD_EXPORT_MAX);
	for (const char *c = export; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return err_set(err, -EINVAL, "control characters in the name of an export");
	return 0;
}

/* --- the process --------------------------------------------------------------------------------
 */

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

static int run(const char *program, char **argv, int sock)
{
	char *env[16];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	pid_t pid;
	int r, status;

	make_environment(env, nitems(env));
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, sock, NBD_LINK_FD);
	r = r ? r : posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, 0, 1);
	r = r ? r : posix_spawn_file_actions_addclosefrom_np(&actions, NBD_LINK_FD + 1);
	r = r ? r : posix_spawn(&pid, program, &actions, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (r)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0; /* somebody else's wait took it: we hear of it by the socket */
	return status == 0 ? 0 : -EIO;
}

static char *groups_text(const struct rights *rights)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_puts(&sb, "");
	for (size_t i = 0; i < rights->n_groups; i++)
		strbuf_printf(&sb, "%s%u", i ? "," : "", (unsigned)rights->groups[i]);
	return strbuf_steal(&sb);
}

/* Starts @program in @mode; a socket to it, or -errno. */
static int start(const char *program, const char *mode, const char *uri, const char *export,
		 const struct rights *rights, bool readonly, struct err *err)
{
	_cleanup_free_ char *groups = groups_text(rights);
	_cleanup_close_ int ours = -1, theirs = -1;
	char uid[16], gid[16], *argv[16];
	int pair[2], room = SOCKET_BYTES, r;
	size_t n = 0;

	if (!groups)
		return err_set(err, -ENOMEM, "out of memory");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "cannot make a socket: %s", err_name(errno));
	ours = pair[0];
	theirs = pair[1];
	setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	snprintf(uid, sizeof(uid), "%u", (unsigned)rights->uid);
	snprintf(gid, sizeof(gid), "%u", (unsigned)rights->gid);
	argv[n++] = "filevisor-nbd";
	argv[n++] = "--uid";
	argv[n++] = uid;
	argv[n++] = "--gid";
	argv[n++] = gid;
	argv[n++] = "--groups";
	argv[n++] = groups;
	if (readonly)
		argv[n++] = "--readonly";
	argv[n++] = (char *)mode;
	argv[n++] = (char *)uri;
	argv[n++] = "--";
	if (export)
		argv[n++] = (char *)export;
	argv[n] = NULL;
	r = run(program, argv, theirs);
	if (r < 0)
		return err_set(err, r, "cannot run %s: %s", program, err_name(r));
	return take_fd(&ours);
}

/* --- the answer
 * ----------------------------------------------------------------------------------- */

struct patience {
	struct cancel *cancel;
	int wake_fd;
	int64_t until_ms;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void wake(void *arg)
{
	struct patience *p = arg;
	uint64_t one = 1;

	if (write(p->wake_fd, &one, sizeof(one)) < 0)
		abort(); /* cannot fail: the count is far from its limit */
}

/* Receives exactly @len bytes. 0, -ECANCELED, -ETIMEDOUT, -EIO. */
static int receive(int fd, void *data, size_t len, const struct patience *p, struct err *err)
{
	char *at = data;

	while (len) {
		struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
					{.fd = p->wake_fd, .events = POLLIN}};
		int64_t left = p->until_ms - now_ms();
		ssize_t n;

		if (p->cancel && cancel_requested(p->cancel))
			return err_set(err, -ECANCELED, "interrupted");
		if (left <= 0)
			return err_set(err, -ETIMEDOUT, "the server does not answer");
		if (poll(fds, 2, (int)left) <= 0 || !fds[0].revents)
			continue;
		n = recv(fd, at, len, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return err_set(err, -EIO, "filevisor-nbd ended early");
		at += n < 0 ? 0 : n;
		len -= n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

static int receive_hello(int fd, struct nbd_hello *hello, const struct patience *p, struct err *err)
{
	int r = receive(fd, hello, sizeof(*hello), p, err);

	if (r < 0)
		return r;
	hello->text[sizeof(hello->text) - 1] = '\0';
	if (hello->magic != NBD_HELLO_MAGIC || hello->error > 0 || hello->error < -4095 ||
	    hello->n_exports > NBD_EXPORTS_MAX || hello->bytes > INT64_MAX)
		return err_set(err, -EIO, "filevisor-nbd talks nonsense");
	return hello->error ? err_set(err, hello->error, "%s", hello->text) : 0;
}

static int receive_exports(int fd, uint32_t n, struct nbd_export **exports,
			   const struct patience *p, struct err *err)
{
	_cleanup_free_ struct nbd_export *list = calloc((size_t)n + 1, sizeof(*list));
	int r;

	if (!list)
		return err_set(err, -ENOMEM, "out of memory");
	r = receive(fd, list, n * sizeof(*list), p, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t readonly;

		memcpy(&readonly, &list[i].readonly, 1); /* whatever it holds */
		list[i].readonly = readonly != 0;
		list[i].name[NBD_EXPORT_MAX] = '\0';
		if (list[i].bytes > INT64_MAX || export_check(list[i].name, NULL) < 0)
			return err_set(err, -EIO, "filevisor-nbd talks nonsense");
	}
	*exports = take_ptr(list);
	return 0;
}

static int patience_init(struct patience *p, struct cancel *cancel, struct err *err)
{
	*p = (struct patience){.cancel = cancel, .until_ms = now_ms() + ANSWER_MS};
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0)
		return err_set(err, -errno, "eventfd: %s", err_name(errno));
	cancel_set_wake(cancel, wake, p);
	return 0;
}

static void patience_end(struct patience *p)
{
	cancel_set_wake(p->cancel, NULL, NULL);
	close(p->wake_fd);
}

/* --- the two questions
 * ------------------------------------------------------------------------------ */

int nbd_list(const char *program, const char *uri, const struct rights *rights,
	     struct cancel *cancel, struct nbd_export **exports, size_t *n, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct nbd_hello hello;
	struct patience p;
	int r = nbd_uri_check(uri, err);

	if (r < 0)
		return r;
	fd = start(program, "--list", uri, NULL, rights, true, err);
	if (fd < 0)
		return fd;
	r = patience_init(&p, cancel, err);
	if (r < 0)
		return r;
	r = receive_hello(fd, &hello, &p, err);
	if (!r)
		r = receive_exports(fd, hello.n_exports, exports, &p, err);
	if (!r)
		*n = hello.n_exports;
	patience_end(&p);
	return r;
}

int nbd_attach(const char *program, const char *uri, const char *export,
	       const struct rights *rights, bool readonly, struct cancel *cancel,
	       struct nbd_link *link, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct nbd_hello hello;
	struct patience p;
	int r = nbd_uri_check(uri, err);

	r = r < 0 || !export ? r : export_check(export, err);
	if (r < 0)
		return r;
	fd = start(program, "--attach", uri, export, rights, readonly, err);
	if (fd < 0)
		return fd;
	r = patience_init(&p, cancel, err);
	if (r < 0)
		return r;
	r = receive_hello(fd, &hello, &p, err);
	patience_end(&p);
	if (r < 0)
		return r;
	*link = (struct nbd_link){.fd = take_fd(&fd), .bytes = hello.bytes, .flags = hello.flags};
	return 0;
}
