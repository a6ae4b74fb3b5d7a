// SPDX-License-Identifier: ISC
/*
 * The process that opens what a user named: it becomes that user, for good, opens, locks,
 * sends, and ends. It may hang at every step; nobody but it is held up.
 *
 * An image's header is as good as its author. What it names is opened only where
 *   - it lies in the directory of the top image (the same directory, by whatever path, or
 *     below it), is a regular file, and no symbolic link leads there: those who can write links
 *     into that directory are not always those who own what the links point to; or
 *   - the machine's owner named that very path in `backing` (then it is his choice).
 * Nothing else is looked at but the directory that the name is in, and even that only as O_PATH.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "opener_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/msg.h"

struct child {
	int sock;
	struct open_ask ask;
	struct rights rights;
	gid_t *groups;
	char path[OPEN_PATH_MAX];
	char backing[OPEN_BACKING_MAX];
	struct stat dir; /* of the top image; st_nlink 0: not looked at yet */
	bool top_opened;
	struct image_chain chain;
	struct opened_disk *opened;
	uint64_t bytes;
};

/* --- asked ----------------------------------------------------------------------------------- */

static void receive(struct child *c, void *buf, size_t len)
{
	int fds[1];
	size_t n_fds = 0;

	if (msg_recv(c->sock, buf, len, fds, &n_fds, 0) != (ssize_t)len)
		_exit(1);
}

static void receive_ask(struct child *c)
{
	struct {
		struct open_ask ask;
		char path[OPEN_PATH_MAX];
	} *first = malloc(sizeof(*first));
	int fds[1];
	size_t n_fds = 0;
	ssize_t n;

	if (!first)
		_exit(1);
	n = msg_recv(c->sock, first, sizeof(*first), fds, &n_fds, 0);
	if (n < (ssize_t)sizeof(first->ask))
		_exit(1);
	c->ask = first->ask;
	memcpy(c->path, first->path, (size_t)n - sizeof(first->ask));
	free(first);
	if (c->ask.backing_len)
		receive(c, c->backing, c->ask.backing_len);
	c->groups = calloc(c->ask.n_groups + 1, sizeof(*c->groups));
	if (!c->groups)
		_exit(1);
	for (size_t i = 0; i < c->ask.n_groups; i += OPEN_GROUPS_PART) {
		size_t part = c->ask.n_groups - i;

		if (part > OPEN_GROUPS_PART)
			part = OPEN_GROUPS_PART;
		receive(c, c->groups + i, part * sizeof(*c->groups));
	}
	c->rights = (struct rights){c->ask.uid, c->ask.gid, c->groups, c->ask.n_groups};
}

/* From now on the daemon's hanging up ends this process. */
static void follow_daemon(const struct child *c)
{
	sigset_t none;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (fcntl(c->sock, F_SETOWN, getpid()) < 0 || fcntl(c->sock, F_SETFL, O_ASYNC) < 0)
		_exit(1);
}

static void become(const struct rights *r)
{
	if (geteuid() != 0 || r->uid == 0)
		return;
	if (setgroups(r->n_groups, r->groups) < 0 || setresgid(r->gid, r->gid, r->gid) < 0 ||
	    setresuid(r->uid, r->uid, r->uid) < 0)
		_exit(1);
}

/* --- answering ------------------------------------------------------------------------------- */

static void send_answer(struct child *c, const struct open_answer *a, const int *fds, size_t n_fds)
{
	if (msg_send(c->sock, a, sizeof(*a), NULL, 0, fds, n_fds, 0) < 0)
		_exit(1);
}

static _Noreturn void finish(struct child *c, int code, const struct err *err)
{
	struct open_answer a = {.end = true,
				.code = code < 0 ? code : 0,
				.bytes = c->bytes,
				.format = c->ask.disk.format};

	if (code < 0)
		snprintf(a.text, sizeof(a.text), "%s", err->text);
	send_answer(c, &a, NULL, 0);
	_exit(0);
}

/* --- opening by name ------------------------------------------------------------------------- */

static int named(struct child *c, const char *path, int flags, bool block, struct err *err)
{
	int fd = rights_open(&c->rights, path, flags, block);

	if (fd >= 0)
		return fd;
	if (fd == -EINVAL)
		return err_set(err, fd, "%s is no %s", path,
			       block ? "file or block device" : "regular file");
	if (fd == -EBUSY)
		return err_set(err, fd, "%s is in use on this host", path);
	return err_set(err, fd, "%s: %s", path, strerror(-fd));
}

/* Without "//" and "/./", and with ".." taken as text. @out has room for as much as @path. */
static void normalize(const char *path, char *out)
{
	size_t n = 0;

	while (*path) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 2 && memcmp(path, "..", 2) == 0) {
			while (n && out[--n] != '/')
				;
		} else if (len && !(len == 1 && *path == '.')) {
			out[n++] = '/';
			memcpy(out + n, path, len);
			n += len;
		}
		path += len;
	}
	out[n] = '\0';
}

static bool same_file(int fd, const char *path)
{
	_cleanup_close_ int other = open(path, O_PATH | O_CLOEXEC);
	struct stat a, b;

	return other >= 0 && fstat(fd, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/*
 * Where `backing` names this path: opens what it names. A descriptor, -errno with words,
 * or -ENOTSUP where it does not.
 */
static int open_permitted(struct child *c, const char *path, int flags, struct err *err)
{
	_cleanup_free_ char *wanted = malloc(strlen(path) + 2), *list = strdup(c->backing);
	char *save = NULL;

	if (!wanted || !list)
		return err_set(err, -ENOMEM, "out of memory");
	normalize(path, wanted);
	for (char *w = strtok_r(list, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		char entry[OPEN_PATH_MAX + 1];
		int fd;

		if (*w != '/' || strlen(w) >= OPEN_PATH_MAX)
			continue;
		normalize(w, entry);
		if (strcmp(entry, wanted) != 0)
			continue;
		fd = named(c, w, flags, true, err);
		if (fd >= 0 && !same_file(fd, path)) { /* ".." behind a symbolic link */
			close(fd);
			return err_set(err, -EACCES, "%s is another file than %s", path, w);
		}
		return fd;
	}
	return -ENOTSUP;
}

static int open_how(int dir, const char *name, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
	long fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static int open_dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
	int fd = dir ? open(*dir ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd < 0 ? -errno : fd;
}

/* A regular file in or below the directory of the top image; -EXDEV if it is elsewhere. */
static int look_beside(struct child *c, const char *path)
{
	const uint64_t strict = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
	const char *slash = strrchr(c->path, '/'), *name = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - c->path) + 1 : 0;
	_cleanup_close_ int top = open_dir_of(c->path), dir = -1;
	struct stat a, b;

	if (top < 0)
		return top;
	if (strncmp(path, c->path, len) == 0) {
		int fd = open_how(top, path + len, O_PATH, strict);

		if (fd != -EXDEV)
			return fd;
	}
	dir = open_dir_of(path);
	if (dir < 0 || fstat(dir, &a) < 0 || fstat(top, &b) < 0 || a.st_dev != b.st_dev ||
	    a.st_ino != b.st_ino)
		return -EXDEV;
	return open_how(dir, name ? name + 1 : path, O_PATH, strict);
}

static int open_beside(struct child *c, const char *path, int flags, struct err *err)
{
	_cleanup_close_ int look = look_beside(c, path);
	char self[40];
	struct stat st;
	int fd;

	if (look == -EXDEV)
		return err_set(err, -EACCES,
			       "%.200s is not in the directory of %.200s: to permit it, add it to "
			       "`backing`",
			       path, c->path);
	if (look == -ELOOP)
		return err_set(err, -EACCES,
			       "%.200s is a symbolic link: to permit it, add it to `backing`",
			       path);
	if (look < 0)
		return err_set(err, look, "%s: %s", path, strerror(-look));
	if (fstat(look, &st) < 0)
		return err_set(err, -errno, "%s: %m", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EACCES,
			       "%.200s is no regular file: to permit it, add it to `backing`",
			       path);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", look);
	fd = open(self, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? err_set(err, -errno, "%s: %m", path) : fd;
}

static int open_image(void *arg, const char *path, bool write, struct err *err)
{
	struct child *c = arg;
	int flags = write ? O_RDWR : O_RDONLY, fd;

	if (!c->top_opened) {
		c->top_opened = true;
		return named(c, path, flags, true, err);
	}
	fd = open_permitted(c, path, flags, err);
	return fd == -ENOTSUP ? open_beside(c, path, flags, err) : fd;
}

/* --- what is asked for ----------------------------------------------------------------------- */

static int disk_bytes(int fd, enum image_format format, uint64_t *bytes, struct err *err)
{
	struct qcow2_header_info info = {0};
	struct block_info raw;
	struct block *file;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), r;

	if (copy < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor: %m");
	r = block_file_open(&file, copy, BLOCK_OPEN_READONLY, err);
	if (r < 0)
		return r;
	if (format == IMAGE_QCOW2) {
		r = qcow2_header_info(file, &info, err);
		*bytes = r == 0 ? info.bytes : 0;
		qcow2_header_info_free(&info);
	} else {
		block_info_get(file, &raw);
		*bytes = raw.bytes;
	}
	block_close(file);
	return r;
}

static struct file_id id_of(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return (struct file_id){0, 0};
	return S_ISBLK(st.st_mode) ? (struct file_id){st.st_rdev, 0}
				   : (struct file_id){st.st_dev, st.st_ino};
}

static void send_layers(struct child *c, bool with_fds)
{
	struct open_answer *a = calloc(1, sizeof(*a));

	if (!a)
		_exit(1);
	for (unsigned i = 0; i < c->chain.n; i++) {
		const struct image_layer *l = &c->chain.layers[i];
		int fds[2] = {l->fd, l->data_fd};

		*a = (struct open_answer){.written = i == 0 && !c->ask.disk.readonly,
					  .has_data = l->data_fd >= 0,
					  .no_fds = !with_fds,
					  .format = l->format,
					  .id = id_of(l->fd),
					  .data_id = id_of(l->data_fd)};
		snprintf(a->text, sizeof(a->text), "%s", l->path);
		send_answer(c, a, fds, with_fds ? (l->data_fd >= 0 ? 2 : 1) : 0);
	}
	free(a);
}

static _Noreturn void do_disk(struct child *c)
{
	const struct opener_disk *d = &c->ask.disk;
	struct image_opener opener = {.open = open_image, .arg = c};
	struct err err = ERR_INIT;
	int r = image_chain_find(&c->chain, c->path, d->format, d->readonly ? IMAGE_READONLY : 0,
				 &opener, &err);

	if (r == 0)
		r = disk_bytes(c->chain.layers[0].fd, d->format, &c->bytes, &err);
	if (r == 0 && d->lock) {
		r = image_chain_lock(&c->chain, !d->readonly, d->share, &err);
		if (r == -EBUSY)
			send_layers(c, false);
	}
	if (r == 0)
		send_layers(c, true);
	/* Locks go with the last descriptor: none is left here when the daemon hears of the end. */
	image_chain_close(&c->chain);
	finish(c, r, &err);
}

static _Noreturn void do_file(struct child *c)
{
	struct open_answer a = {.end = true};
	struct err err = ERR_INIT;
	int fd = named(c, c->path, c->ask.flags, c->ask.block, &err);

	if (fd < 0)
		finish(c, fd, &err);
	send_answer(c, &a, &fd, 1);
	_exit(0);
}

static _Noreturn void do_probe(struct child *c)
{
	static const char magic[4] = {'Q', 'F', 'I', '\xfb'};
	char head[sizeof(magic)];
	struct err err = ERR_INIT;
	int fd = named(c, c->path, c->ask.flags, c->ask.block, &err);

	if (fd < 0)
		finish(c, fd, &err);
	if (!c->ask.format_known) {
		bool qcow2 = file_pread_all(fd, head, sizeof(head), 0) == 0 &&
			     memcmp(head, magic, sizeof(magic)) == 0;

		c->ask.disk.format = qcow2 ? IMAGE_QCOW2 : IMAGE_RAW;
	}
	if (disk_bytes(fd, c->ask.disk.format, &c->bytes, &err) < 0)
		c->bytes = 0; /* the start will say */
	finish(c, 0, &err);
}

static _Noreturn void do_socket(struct child *c)
{
	struct open_answer a = {.end = true};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct err err = ERR_INIT;

	if (strlen(c->path) >= sizeof(addr.sun_path))
		finish(c, err_set(&err, -ENAMETOOLONG, "%s: too long for a socket", c->path), &err);
	strcpy(addr.sun_path, c->path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		finish(c, err_set(&err, -errno, "%s: %m", c->path), &err);
	send_answer(c, &a, &fd, 1);
	_exit(0);
}

void opener_child(int sock)
{
	struct child *c = calloc(1, sizeof(*c));

	if (!c)
		_exit(1);
	c->sock = sock;
	receive_ask(c);
	follow_daemon(c);
	become(&c->rights);
	switch (c->ask.what) {
	case OPEN_FILE:
		do_file(c);
	case OPEN_DISK:
		do_disk(c);
	case OPEN_PROBE:
		do_probe(c);
	case OPEN_SOCKET:
		do_socket(c);
	}
	_exit(1);
}
