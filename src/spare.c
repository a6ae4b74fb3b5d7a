// SPDX-License-Identifier: ISC
/*
 * The thread `spare`: keeps one VMM at the ready, in RUN/spare: its socket and log, and, as long as
 * it is there to be taken, its pid. See spare.h.
 *
 * It is made when no machine is being started, and none was for QUIET_MS: that needs the
 * processors itself. One that ends by itself is noticed and replaced; where that goes on, or the
 * program cannot be run, ever later. The program's file is looked at when it is run and when the
 * spare is taken: after an upgrade no machine gets a VMM of before it.
 *
 * The lock is held while a spare is taken, and its files leave RUN/spare, which are then made
 * anew for the next; it is never held for anything that waits.
 */
#define LOG_MODULE "spare"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model_int.h"
#include "spare.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/msg.h"
#include "vmm_int.h"

#define DIR_NAME   "spare"
#define PID_FILE   "pid"
#define QUIET_MS   3
#define HELLO_MS   10000
#define RETRY_MS   1000 /* after the first failure, then twice as long each time … */
#define RETRY_MOST 6	/* … this many times */

static const struct spare none = {.pid = -1, .pidfd = -1, .sock = -1};

struct spares {
	struct model *model;
	pthread_t thread;
	int wake; /* eventfd: there is something to look at */
	int dir;  /* RUN/spare */

	pthread_mutex_t lock; /* guards what follows */
	struct spare ready;   /* pidfd -1: none */
	struct stat program;  /* what it runs */
	uint64_t next_ns;     /* when one may be made */
	unsigned failures;    /* since one was taken */
	unsigned holds;	      /* machines that are being started */
	bool stop;
};

/* --- one of them ------------------------------------------------------------------------------ */

static void end_spare(struct spare *spare)
{
	if (spare->pidfd >= 0) {
		syscall(SYS_pidfd_send_signal, spare->pidfd, SIGKILL, NULL, 0);
		waitid(P_PIDFD, (id_t)spare->pidfd, &(siginfo_t){0}, WEXITED);
		close(spare->pidfd);
	}
	if (spare->sock >= 0)
		close(spare->sock);
	*spare = none;
}

static bool has_ended(const struct spare *spare)
{
	siginfo_t info = {0};

	return waitid(P_PIDFD, (id_t)spare->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	       info.si_pid != 0;
}

static bool same_program(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The answer to HELLO: whether it is one of ours. What it brings is told again to who takes it. */
static int take_hello(int sock)
{
	struct {
		struct vmm_msg_hdr hdr;
		struct vmm_status status;
	} answer = {0};
	int fds[VMM_MSG_FDS];
	size_t n_fds = VMM_MSG_FDS;
	ssize_t n = msg_recv(sock, &answer, sizeof(answer), fds, &n_fds, MSG_DONTWAIT);

	if (n > 0)
		msg_close_fds(fds, n_fds);
	if (n == -EAGAIN)
		return 0;
	return n == (ssize_t)sizeof(answer) && answer.hdr.type == VMM_REPLY &&
		       answer.hdr.error == 0 && answer.status.version == VMM_PROTO_VERSION
		   ? 1
		   : -EPROTO;
}

static int say_hello(const struct spares *s, const struct spare *spare)
{
	struct vmm_hello hello = {.version = VMM_PROTO_VERSION};
	struct vmm_msg_hdr hdr = {.type = VMM_HELLO, .len = sizeof(hello)};
	struct pollfd pfds[] = {{.fd = spare->sock, .events = POLLIN},
				{.fd = spare->pidfd, .events = POLLIN}};
	uint64_t end = now_ns() + HELLO_MS * 1000000ull;
	int r =
	    msg_send(spare->sock, &hdr, sizeof(hdr), &hello, sizeof(hello), NULL, 0, MSG_DONTWAIT);

	while (r == 0) {
		if (cancel_requested(&s->model->stopping))
			return -ECANCELED;
		if (now_ns() > end)
			return -ETIMEDOUT;
		poll(pfds, nitems(pfds), 100);
		r = take_hello(spare->sock);
		if (r == 0 && pfds[1].revents)
			return -EPIPE;
	}
	return r < 0 ? r : 0;
}

/* A process that has said HELLO; its socket and log are in RUN/spare. */
static int make_spare(struct spares *s, struct spare *spare, struct stat *program)
{
	const char *path = s->model->vmm_path;
	_cleanup_close_ int listening = vmm_listen(s->dir), log = -1;
	int r;

	*spare = none;
	log = openat(s->dir, "vmm.log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (listening < 0 || log < 0)
		return listening < 0 ? listening : -errno;
	if (stat(path, program) < 0)
		return -errno;
	spare->sock = vmm_connect(s->dir);
	if (spare->sock < 0)
		return spare->sock;
	r = vmm_spawn(path, "filevisor-spare", listening, log, &spare->pid);
	if (r < 0)
		return r;
	spare->pidfd = (int)syscall(SYS_pidfd_open, spare->pid, 0);
	if (spare->pidfd < 0) {
		r = -errno;
		kill(spare->pid, SIGKILL); /* our child, not waited for yet: surely it */
		waitpid(spare->pid, NULL, 0);
		return r;
	}
	return say_hello(s, spare);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void wake_up(struct spares *s)
{
	uint64_t one = 1;

	if (write(s->wake, &one, sizeof(one)) < 0)
		log_debug("eventfd: %m");
}

/* Under the lock: who looks from outside knows by it that this one is at the ready. */
static void note_pid(const struct spares *s)
{
	_cleanup_close_ int fd =
	    openat(s->dir, PID_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)s->ready.pid);

	if (fd < 0 || file_write_all(fd, text, (size_t)n) < 0)
		log_debug("cannot note the pid of the spare VMM");
}

/* Under the lock. */
static void note_failure(struct spares *s)
{
	unsigned twice = s->failures < RETRY_MOST ? s->failures : RETRY_MOST;

	s->failures++;
	s->next_ns = now_ns() + ((uint64_t)RETRY_MS << twice) * 1000000u;
}

static void make_one(struct spares *s)
{
	struct spare spare;
	struct stat program;
	int r = make_spare(s, &spare, &program);
	bool stop;

	if (r < 0)
		log_debug("no spare VMM: %s", strerror(-r));
	pthread_mutex_lock(&s->lock);
	stop = s->stop;
	if (r == 0 && !stop) {
		s->ready = spare;
		s->program = program;
		note_pid(s);
	} else {
		note_failure(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (r < 0 || stop)
		end_spare(&spare);
}

/* The one that there is has ended by itself. */
static void replace_ended(struct spares *s)
{
	struct spare ended = none;

	pthread_mutex_lock(&s->lock);
	if (s->ready.pidfd >= 0 && has_ended(&s->ready)) {
		ended = s->ready;
		s->ready = none;
		unlinkat(s->dir, PID_FILE, 0);
		note_failure(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (ended.pidfd >= 0)
		log_info("the spare VMM %d has ended", (int)ended.pid);
	end_spare(&ended);
}

/* A descriptor of the spare's for poll(2), which nobody else closes meanwhile; -1: there is none.
 * In *@ms how long to wait: -1 where there is one, else until one may be made. */
static int look(struct spares *s, int *ms)
{
	uint64_t now = now_ns();

	LOCK_SCOPE(&s->lock);
	*ms = -1;
	if (s->stop)
		return -1;
	if (s->ready.pidfd >= 0)
		return fcntl(s->ready.pidfd, F_DUPFD_CLOEXEC, 3);
	if (s->holds)
		return -1; /* whose end wakes */
	*ms = s->next_ns > now ? (int)((s->next_ns - now) / 1000000) + 1 : 0;
	return -1;
}

static bool stopping(struct spares *s)
{
	LOCK_SCOPE(&s->lock);
	return s->stop;
}

static void *spare_thread(void *arg)
{
	struct spares *s = arg;

	pthread_setname_np(pthread_self(), "spare");
	while (!stopping(s)) {
		int ms;
		_cleanup_close_ int pidfd = look(s, &ms);
		struct pollfd pfds[] = {{.fd = s->wake, .events = POLLIN},
					{.fd = pidfd, .events = POLLIN}};
		uint64_t count;

		if (ms == 0) {
			make_one(s);
			continue;
		}
		poll(pfds, nitems(pfds), ms);
		if (pfds[0].revents && read(s->wake, &count, sizeof(count)) < 0)
			log_debug("eventfd: %m");
		if (pidfd >= 0 && pfds[1].revents)
			replace_ended(s);
	}
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

static int open_dir(const struct model *model)
{
	int fd;

	if (mkdirat(model->run_fd, DIR_NAME, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(model->run_fd, DIR_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void free_spares(struct spares *s)
{
	if (s->dir >= 0) {
		unlinkat(s->dir, "vmm.sock", 0);
		unlinkat(s->dir, "vmm.log", 0);
		unlinkat(s->dir, PID_FILE, 0);
		close(s->dir);
		unlinkat(s->model->run_fd, DIR_NAME, AT_REMOVEDIR);
	}
	if (s->wake >= 0)
		close(s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int spares_start(struct model *model)
{
	struct spares *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->model = model;
	s->ready = none;
	pthread_mutex_init(&s->lock, NULL);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->dir = open_dir(model);
	if (s->dir >= 0)
		unlinkat(s->dir, PID_FILE, 0); /* of a daemon that was killed */
	if (s->wake < 0 || s->dir < 0)
		r = s->dir < 0 ? s->dir : -EMFILE;
	if (r == 0)
		r = -pthread_create(&s->thread, NULL, spare_thread, s);
	if (r < 0) {
		free_spares(s);
		return r;
	}
	model->spares = s;
	return 0;
}

void spares_stop(struct spares *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_mutex_unlock(&s->lock);
	wake_up(s);
	pthread_join(s->thread, NULL);
	end_spare(&s->ready);
	free_spares(s);
}

/* --- taking it -------------------------------------------------------------------------------- */

/* Under the lock: the spare that there is, if it may be used. */
static bool take_ready(struct spares *s, struct spare *spare)
{
	struct stat program;

	*spare = s->ready;
	s->ready = none;
	unlinkat(s->dir, PID_FILE, 0);
	return stat(s->model->vmm_path, &program) == 0 && same_program(&program, &s->program) &&
	       !has_ended(spare);
}

static bool move_files(struct spares *s, int run_dir)
{
	static const char *const files[] = {"vmm.log", "vmm.sock"};

	for (size_t i = 0; i < nitems(files); i++)
		if (renameat(s->dir, files[i], run_dir, files[i]) < 0)
			return false;
	return true;
}

bool spare_take(struct spares *s, int run_dir, struct spare *spare)
{
	bool there, good;

	if (!s)
		return false;
	pthread_mutex_lock(&s->lock);
	there = s->ready.pidfd >= 0;
	good = there && take_ready(s, spare) && move_files(s, run_dir);
	if (good)
		s->failures = 0;
	pthread_mutex_unlock(&s->lock);
	if (!there)
		return false;
	if (!good)
		end_spare(spare);
	wake_up(s);
	return good;
}

void spares_hold(struct spares *s)
{
	if (!s)
		return;
	LOCK_SCOPE(&s->lock);
	s->holds++;
}

void spares_let_go(struct spares *s)
{
	uint64_t next = now_ns() + QUIET_MS * 1000000u;
	bool last, none_ready;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	last = --s->holds == 0;
	none_ready = s->ready.pidfd < 0;
	if (last && s->next_ns < next)
		s->next_ns = next;
	pthread_mutex_unlock(&s->lock);
	if (last && none_ready)
		wake_up(s);
}
