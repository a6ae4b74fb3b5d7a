// SPDX-License-Identifier: ISC
/*
 * Mounting, serving, unmounting.
 *
 * A fixed number of workers read requests and answer them; none of them ever
 * waits (see fuse_ops.c), so a few are enough. The order of ending: the notifier,
 * whose own requests the workers answer; the crew, whose commands are
 * cancelled; the workers; the mount.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_MODULE "fsapi"
#include "fsapi/call.h"
#include "fsapi/fsapi.h"
#include "util/cleanup.h"
#include "util/log.h"

#define WORKER_STACK (256u << 10)
#define WORKERS_MIN  4
#define WORKERS_MAX  16
#define STALE_MAX    32 /* mounts over each other */

extern char **environ;

/* --- the mountpoint ------------------------------------------------------------------- */

/* Takes a dead mount away, as root or by way of fusermount3. */
static int unmount_stale(const char *path)
{
	char *argv[] = {"fusermount3", "-u", "-z", "-q", "--", (char *)path, NULL};
	pid_t pid;
	int status;

	if (umount2(path, MNT_DETACH) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
		return -ENOENT;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* Whether a filevisor that lives is mounted at exactly @path. */
static bool is_mounted(const char *path)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	char at[4096];
	bool ours = false;

	while (f && getline(&line, &size, f) > 0) {
		const char *type = strstr(line, " - ");

		if (sscanf(line, "%*s %*s %*s %*s %4095s", at) == 1 && strcmp(at, path) == 0)
			ours = type && strncmp(type, " - fuse.filevisor ", 18) == 0;
	}
	return ours;
}

/* stat(2) that asks the file system, not the kernel's memory of it. 0 or -errno. */
static int ask(const char *path, mode_t *mode)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_TYPE | STATX_MODE, &stx) < 0)
		return -errno;
	*mode = stx.stx_mode;
	return 0;
}

static int recover_stale(const char *path, struct err *err)
{
	mode_t mode;
	int r;

	for (int i = 0; i < STALE_MAX; i++) {
		r = ask(path, &mode);
		if (r == 0)
			return S_ISDIR(mode)
				   ? 0
				   : err_set(err, -ENOTDIR, "%s is not a directory", path);
		if (r != -ENOTCONN && r != -ECONNABORTED)
			return err_set(err, r, "%s: %s", path, strerror(-r));
		r = unmount_stale(path);
		if (r < 0)
			return err_set(err, r, "%s: a dead mount that cannot be taken away: %s",
				       path, strerror(-r));
		log_info("%s: took away the mount that a killed daemon left", path);
	}
	return err_set(err, -ENOTCONN, "%s: dead mounts without end", path);
}

static int check_empty(const char *path, struct err *err)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	const struct dirent *d;

	if (!dir)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			return err_set(
			    err, -ENOTEMPTY,
			    "%s is not empty: what is in it would be hidden (-o nonempty "
			    "mounts all the same)",
			    path);
	return 0;
}

static int check_mountpoint(struct fsapi *fs, const char *path, bool nonempty, struct err *err)
{
	int r = recover_stale(path, err);

	if (r < 0)
		return r;
	fs->mountpoint = realpath(path, NULL);
	if (!fs->mountpoint)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (is_mounted(fs->mountpoint))
		return err_set(err, -EBUSY, "%s: another filevisor is mounted there", path);
	return nonempty ? 0 : check_empty(fs->mountpoint, err);
}

/* --- options -------------------------------------------------------------------------- */

struct mount_options {
	bool nonempty, allow_other;
	struct strbuf rest; /* for libfuse, each with a comma before it */
};

static int read_options(struct mount_options *o, const char *text, struct err *err)
{
	_cleanup_free_ char *copy = strdup(text ? text : "");
	char *p = copy, *word;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	while ((word = strsep(&p, ","))) {
		if (!*word)
			continue;
		if (strcmp(word, "nonempty") == 0) {
			o->nonempty = true;
			continue;
		}
		if (strcmp(word, "auto_unmount") == 0)
			return err_set(err, -EINVAL,
				       "-o auto_unmount: an unmounted tree would look as if all "
				       "machines had been deleted");
		if (strcmp(word, "allow_other") == 0) {
			o->allow_other = true;
			continue;
		}
		strbuf_printf(&o->rest, ",%s", word);
	}
	return 0;
}

static void hear_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[512];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	if (level <= FUSE_LOG_WARNING)
		log_warn("%s", line);
	else
		log_debug("%s", line);
}

/*
 * Root mounts for all, and the kernel checks permissions. A plain user's tree is
 * for him alone; then we check, so that the notifier may touch read-only files.
 */
static int new_session(struct fsapi *fs, const struct mount_options *o, struct err *err)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
	char *argv[] = {"filevisor", "-o", NULL, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);

	fs->permissions = fs->uid == 0 || o->allow_other;
	strbuf_puts(&text, "fsname=filevisor,subtype=filevisor");
	if (fs->uid == 0 || o->allow_other)
		strbuf_puts(&text, ",allow_other");
	if (fs->permissions)
		strbuf_puts(&text, ",default_permissions");
	if (o->rest.len)
		strbuf_puts(&text, o->rest.data);
	if (text.failed || o->rest.failed)
		return err_set(err, -ENOMEM, "out of memory");
	argv[2] = text.data;
	fuse_set_log_func(hear_fuse);
	fs->session = fuse_session_new(&args, &fuse_ops, sizeof(fuse_ops), fs);
	fuse_opt_free_args(&args);
	if (!fs->session)
		return err_set(err, -EINVAL, "libfuse does not take the options %s", text.data);
	return 0;
}

static int mount_tree(struct fsapi *fs, const struct fsapi_options *options, struct err *err)
{
	struct mount_options o = {0};
	int r;

	r = read_options(&o, options->fuse_opts, err);
	if (r == 0)
		r = check_mountpoint(fs, options->mountpoint, o.nonempty, err);
	if (r == 0)
		r = new_session(fs, &o, err);
	strbuf_free(&o.rest);
	if (r < 0)
		return r;
	if (fuse_session_mount(fs->session, fs->mountpoint) != 0)
		return err_set(err, -EPERM, "%s: the mount failed%s", fs->mountpoint,
			       fs->uid == 0 ? ""
					    : " (is fusermount3 there, with its set-uid bit?)");
	fs->mounted = true;
	r = mount_identity(AT_FDCWD, fs->mountpoint, &fs->mount_id);
	return r < 0 ? err_set(err, r, "%s: %s", fs->mountpoint, strerror(-r)) : 0;
}

/* --- the whole ------------------------------------------------------------------------ */

static unsigned default_workers(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (cpus < WORKERS_MIN)
		return WORKERS_MIN;
	return cpus > WORKERS_MAX ? WORKERS_MAX : (unsigned)cpus;
}

int fsapi_mount(struct fsapi **out, struct model *model, const struct fsapi_options *options,
		struct err *err)
{
	struct fsapi *fs = NULL;
	int r;

	r = fs_new(&fs, model);
	if (r < 0)
		return err_set(err, r, "%s", strerror(-r));
	fs->trace = options->trace;
	fs->n_workers = options->threads ? options->threads : default_workers();
	r = mount_tree(fs, options, err);
	if (r < 0) {
		fsapi_close(fs);
		return r;
	}
	model_set_observer(model, &fsapi_observer, fs);
	*out = fs;
	return 0;
}

void fsapi_stop(struct fsapi *fs)
{
	uint64_t one = 1;

	if (write(fs->stop_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("eventfd: %s", strerror(errno));
}

struct worker {
	struct fsapi *fs;
	pthread_t thread;
	struct fuse_buf buf;
	int result;
};

/* Interrupts the read in which a worker waits for a request; it then finds the session ended. */
#define WORKER_SIGNAL SIGUSR2

static void hear_nothing(int signal)
{
	(void)signal;
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;
	struct fuse_session *se = w->fs->session;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, WORKER_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	while (!fuse_session_exited(se)) {
		int r = fuse_session_receive_buf(se, &w->buf);

		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0) {
			w->result = r;
			break;
		}
		fuse_session_process_buf(se, &w->buf);
	}
	fsapi_stop(w->fs); /* unmounted by somebody: all end */
	return NULL;
}

static int start_workers(struct fsapi *fs, struct worker *workers, unsigned *started)
{
	pthread_attr_t attr;
	int r = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	for (*started = 0; *started < fs->n_workers; (*started)++) {
		struct worker *w = &workers[*started];
		char name[16];

		w->fs = fs;
		r = pthread_create(&w->thread, &attr, worker_thread, w);
		if (r != 0)
			break;
		snprintf(name, sizeof(name), "fuse/%u", *started);
		pthread_setname_np(w->thread, name);
	}
	pthread_attr_destroy(&attr);
	return *started ? 0 : -r;
}

static int join_within(pthread_t thread, unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += ms * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	return pthread_timedjoin_np(thread, NULL, &until);
}

static int end_workers(struct worker *workers, unsigned count)
{
	int r = 0;

	for (unsigned i = 0; i < count; i++) {
		/* A signal just before it waits is lost on it: hence more than one. */
		do
			pthread_kill(workers[i].thread, WORKER_SIGNAL);
		while (join_within(workers[i].thread, 10) == ETIMEDOUT);
		free(workers[i].buf.mem);
		if (workers[i].result < 0)
			r = workers[i].result;
	}
	return r;
}

static void wait_for_stop(struct fsapi *fs)
{
	struct pollfd p = {.fd = fs->stop_fd, .events = POLLIN};

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

int fsapi_run(struct fsapi *fs, struct err *err)
{
	_cleanup_free_ struct worker *workers = calloc(fs->n_workers, sizeof(workers[0]));
	const struct sigaction action = {.sa_handler = hear_nothing}; /* without SA_RESTART */
	struct sigaction before;
	unsigned started = 0;
	int r, ended;

	if (!workers)
		return err_set(err, -ENOMEM, "out of memory");
	sigaction(WORKER_SIGNAL, &action, &before);
	r = start_workers(fs, workers, &started);
	if (r == 0)
		r = signals_start(fs->signals);
	if (r == 0)
		r = notifier_start(fs->notifier);
	if (r < 0)
		err_set(err, r, "no threads: %s", strerror(-r));
	else
		wait_for_stop(fs);
	notifier_stop(fs->notifier);
	crew_stop(fs->crew);
	signals_stop(fs->signals);
	fuse_session_exit(fs->session);
	ended = end_workers(workers, started);
	sigaction(WORKER_SIGNAL, &before, NULL);
	if (r == 0 && ended < 0)
		r = err_set(err, ended, "the connection to the kernel failed: %s",
			    strerror(-ended));
	return r;
}

void fsapi_close(struct fsapi *fs)
{
	if (!fs)
		return;
	if (fs->mounted)
		model_set_observer(fs->model, NULL, NULL);
	if (fs->session && fs->mounted)
		fuse_session_unmount(fs->session);
	while (fs->handles)
		handle_put(fs->handles);
	if (fs->session)
		fuse_session_destroy(fs->session);
	fs_free(fs);
}
