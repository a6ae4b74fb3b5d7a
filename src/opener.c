// SPDX-License-Identifier: ISC
/*
 * Opening in processes of their own: the daemon's side, and the process that forks
 * them. See opener.h.
 *
 * Each request has a socket pair. One end goes to the forking process, and from there to the
 * child; when the daemon closes its own (it has the answer, or gives up), the child is
 * ended by SIGIO, unless it hangs where no signal reaches it. Those that hang are counted, so
 * that they cannot fill the host.
 */
#define LOG_MODULE "opener"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "opener_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/msg.h"

#define CHILDREN_MAX 256

struct opener {
	pthread_mutex_t lock; /* guards what follows, while the process is replaced */
	int sock;
	pid_t pid;
	struct opener_known known; /* constant once others have it */
};

/* --- the process that forks ------------------------------------------------------------------ */

static void reap(unsigned *n)
{
	while (*n && waitpid(-1, NULL, WNOHANG) > 0)
		--*n;
}

static void refuse(int sock, int code, const char *words)
{
	struct open_answer a = {.end = true, .code = code};

	snprintf(a.text, sizeof(a.text), "%s", words);
	msg_send(sock, &a, sizeof(a), NULL, 0, NULL, 0, MSG_DONTWAIT);
}

static void fork_child(int sock, int request, unsigned *n)
{
	pid_t pid;

	reap(n);
	if (*n >= CHILDREN_MAX) {
		refuse(request, -EBUSY, "too many files that do not open are waited for");
		return;
	}
	pid = fork();
	if (pid == 0) {
		close(sock);
		opener_child(request);
	}
	if (pid < 0)
		refuse(request, -errno, "no process to open it");
	else
		++*n;
}

/* Nothing of the daemon's stays open here: its locks, its mount, its standard output. */
static void forget_daemon(int sock)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2; fd++)
		if (null >= 0)
			dup2(null, fd);
	dup2(sock, 3);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	close_range(4, ~0u, 0);
	prctl(PR_SET_NAME, "fv-open");
}

static _Noreturn void serve(int sock)
{
	unsigned n_children = 0;

	forget_daemon(sock);
	for (;;) {
		int fds[4];
		size_t n_fds = nitems(fds);
		char byte = 0;
		ssize_t n = msg_recv(3, &byte, 1, fds, &n_fds, 0);

		if (n <= 0 && n != -EPROTO && n != -EMSGSIZE)
			_exit(0);
		if (n == 1 && n_fds == 1)
			fork_child(3, fds[0], &n_children);
		if (n > 0)
			msg_close_fds(fds, n_fds);
	}
}

static int run(struct opener *o)
{
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	o->pid = fork();
	if (o->pid == 0)
		serve(pair[1]);
	r = o->pid < 0 ? -errno : 0;
	close(pair[1]);
	if (r < 0)
		close(pair[0]);
	else
		o->sock = pair[0];
	return r;
}

int opener_start(struct opener **out)
{
	struct opener *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	r = run(o);
	if (r < 0) {
		free(o);
		return r;
	}
	pthread_mutex_init(&o->lock, NULL);
	*out = o;
	return 0;
}

void opener_stop(struct opener *o)
{
	if (!o)
		return;
	close(o->sock);
	waitpid(o->pid, NULL, 0);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

/*
 * Has a request served. Where somebody killed the process, another one is made: with other
 * threads around this time, which what it does bears (system calls, and malloc(3), which knows
 * of fork(2)).
 */
static int hand_over(struct opener *o, int request)
{
	int r;

	LOCK_SCOPE(&o->lock);
	r = msg_send(o->sock, "", 1, NULL, 0, &request, 1, 0);
	if (r != -EPIPE && r != -ECONNRESET)
		return r;
	log_warn("the process that opens files has ended; there is another now");
	close(o->sock);
	waitpid(o->pid, NULL, 0);
	r = run(o);
	if (r < 0) {
		o->sock = -1;
		o->pid = -1;
		return r;
	}
	return msg_send(o->sock, "", 1, NULL, 0, &request, 1, 0);
}

void opener_trust(struct opener *o, const char *path)
{
	opener_know(&o->known, path);
}

/* --- asking ------------------------------------------------------------------------------------
 */

struct ask {
	int sock; /* the daemon's end */
	int wake; /* eventfd: readable when cancelled */
	struct cancel *cancel;
	unsigned timeout_ms;
	struct timespec deadline; /* where there is a timeout */
};

static struct timespec now_and(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	return t;
}

/* For poll(2). */
static int ms_left(const struct ask *ask)
{
	struct timespec now = now_and(0);
	long ms = (ask->deadline.tv_sec - now.tv_sec) * 1000 +
		  (ask->deadline.tv_nsec - now.tv_nsec) / 1000000;

	return ask->timeout_ms == 0 ? -1 : ms > 0 ? (int)ms : 0;
}

static void wake_up(void *arg)
{
	uint64_t one = 1;

	if (write(*(int *)arg, &one, sizeof(one)) < 0)
		log_debug("eventfd: %m");
}

static int send_groups(int sock, const struct rights *rights)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < rights->n_groups; i += OPEN_GROUPS_PART) {
		size_t n = rights->n_groups - i;

		if (n > OPEN_GROUPS_PART)
			n = OPEN_GROUPS_PART;
		r = msg_send(sock, rights->groups + i, n * sizeof(*rights->groups), NULL, 0, NULL,
			     0, 0);
	}
	return r;
}

static int send_ask(int sock, struct open_ask *a, const struct opener_request *rq)
{
	int r;

	a->uid = rq->rights.uid;
	a->gid = rq->rights.gid;
	a->n_groups = rq->rights.n_groups;
	a->path_len = strlen(rq->path);
	a->backing_len = a->disk.backing ? strlen(a->disk.backing) : 0;
	r = msg_send(sock, a, sizeof(*a), rq->path, a->path_len, NULL, 0, 0);
	if (r == 0 && a->backing_len)
		r = msg_send(sock, a->disk.backing, a->backing_len, NULL, 0, NULL, 0, 0);
	return r == 0 ? send_groups(sock, &rq->rights) : r;
}

static int begin(struct opener *o, struct ask *ask, struct open_ask *a,
		 const struct opener_request *rq, struct err *err)
{
	int pair[2], r;

	*ask = (struct ask){
	    .sock = -1, .wake = -1, .cancel = rq->cancel, .timeout_ms = rq->timeout_ms};
	ask->deadline = now_and(rq->timeout_ms);
	if (strlen(rq->path) >= OPEN_PATH_MAX ||
	    (a->disk.backing && strlen(a->disk.backing) >= OPEN_BACKING_MAX))
		return err_set(err, -ENAMETOOLONG, "too long a path");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "%s: no socket: %m", rq->path);
	ask->sock = pair[0];
	ask->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = ask->wake < 0 ? -errno : hand_over(o, pair[1]);
	close(pair[1]);
	if (r == 0)
		r = send_ask(ask->sock, a, rq);
	if (r < 0)
		return err_set(err, -EIO, "%s: the process that opens files does not answer: %s",
			       rq->path, strerror(-r));
	cancel_set_wake(rq->cancel, wake_up, &ask->wake);
	return 0;
}

static void end(struct ask *ask)
{
	cancel_set_wake(ask->cancel, NULL, NULL);
	if (ask->sock >= 0)
		close(ask->sock);
	if (ask->wake >= 0)
		close(ask->wake);
}

/* The next answer, with its descriptors. 0, or why there is none. */
static int next_answer(struct ask *ask, struct open_answer *a, int fds[2], size_t *n_fds)
{
	struct pollfd p[] = {{.fd = ask->sock, .events = POLLIN},
			     {.fd = ask->wake, .events = POLLIN}};
	ssize_t n;

	for (;;) {
		*n_fds = 2;
		n = msg_recv(ask->sock, a, sizeof(*a), fds, n_fds, MSG_DONTWAIT);
		if (n == sizeof(*a))
			break;
		if (n > 0)
			msg_close_fds(fds, *n_fds);
		if (n != -EAGAIN)
			return -EIO; /* it was killed */
		if (p[1].revents || cancel_requested(ask->cancel))
			return -ECANCELED;
		if (poll(p, nitems(p), ms_left(ask)) == 0)
			return -ETIMEDOUT;
	}
	a->text[sizeof(a->text) - 1] = '\0';
	return 0;
}

static int no_answer(int code, const char *path, struct err *err)
{
	if (code == -ETIMEDOUT)
		return err_set(err, code, "%s does not open", path);
	if (code == -ECANCELED)
		return err_set(err, code, "%s: given up while it was being opened", path);
	return err_set(err, code, "%s: the process that opened it was ended", path);
}

/* What is answered by one descriptor. */
static int ask_for_one(struct opener *o, const struct opener_request *rq, struct open_ask *a,
		       struct err *err)
{
	struct open_answer answer = {.end = true};
	struct ask ask;
	int fds[2] = {-1, -1}, r = begin(o, &ask, a, rq, err);
	size_t n_fds = 0;

	if (r == 0) {
		r = next_answer(&ask, &answer, fds, &n_fds);
		if (r < 0)
			r = no_answer(r, rq->path, err);
		else if (answer.code < 0)
			r = err_set(err, answer.code, "%s", answer.text);
		else
			r = n_fds == 1 ? take_fd(&fds[0]) : -EIO;
		msg_close_fds(fds, r >= 0 ? 0 : n_fds);
	}
	end(&ask);
	return r;
}

int opener_file(struct opener *o, const struct opener_request *rq, int flags, bool block,
		struct err *err)
{
	struct open_ask a = {.what = OPEN_FILE, .flags = flags, .block = block};
	int fd = opener_here(&o->known, rq, flags);

	return fd >= 0 ? fd : ask_for_one(o, rq, &a, err);
}

int opener_socket(struct opener *o, const struct opener_request *rq, struct err *err)
{
	struct open_ask a = {.what = OPEN_SOCKET};

	return ask_for_one(o, rq, &a, err);
}

static void add_id(struct opened_disk *out, const struct file_id *id, bool written)
{
	if (out->n_ids == nitems(out->ids))
		return;
	out->ids[out->n_ids++] = *id;
	if (written)
		out->n_written = out->n_ids;
}

static int add_layer(struct opened_disk *out, const struct open_answer *a, int fds[2], size_t n_fds)
{
	struct image_layer *l = &out->chain.layers[out->chain.n];

	add_id(out, &a->id, a->written);
	if (a->has_data)
		add_id(out, &a->data_id, a->written);
	if (a->no_fds)
		return 0;
	if (out->chain.n == IMAGE_DEPTH_MAX || n_fds != (a->has_data ? 2 : 1)) {
		msg_close_fds(fds, n_fds);
		return -EIO;
	}
	*l = (struct image_layer){.format = a->format,
				  .fd = fds[0],
				  .data_fd = a->has_data ? fds[1] : -1,
				  .path = strdup(a->text)};
	out->chain.n++;
	return l->path ? 0 : -ENOMEM;
}

int opener_disk(struct opener *o, const struct opener_request *rq, const struct opener_disk *disk,
		struct opened_disk *out, struct err *err)
{
	struct open_ask a = {.what = OPEN_DISK, .disk = *disk};
	_cleanup_free_ struct open_answer *answer = calloc(1, sizeof(*answer));
	struct ask ask;
	int fds[2], r = opener_here_disk(&o->known, rq, disk, out, err);

	if (r != -EAGAIN)
		return r;
	memset(out, 0, sizeof(*out));
	if (!answer)
		return err_set(err, -ENOMEM, "out of memory");
	r = begin(o, &ask, &a, rq, err);
	while (r == 0 && !answer->end) {
		size_t n_fds = 0;

		r = next_answer(&ask, answer, fds, &n_fds);
		if (r < 0)
			r = no_answer(r, rq->path, err);
		else if (!answer->end && (r = add_layer(out, answer, fds, n_fds)) < 0)
			r = err_set(err, r, "%s: %s", rq->path, strerror(-r));
		else if (answer->end && answer->code < 0)
			r = err_set(err, answer->code, "%s", answer->text);
	}
	end(&ask);
	if (r < 0)
		image_chain_close(&out->chain);
	else
		out->bytes = answer->bytes;
	return r;
}

int opener_probe(struct opener *o, const struct opener_request *rq, const struct probe_ask *probe,
		 struct probed_disk *out, struct err *err)
{
	struct open_ask a = {.what = OPEN_PROBE,
			     .flags = probe->write ? O_RDWR : O_RDONLY,
			     .block = true,
			     .format_known = probe->format_known,
			     .disk.format = probe->format};
	struct open_answer answer = {.end = true};
	struct ask ask;
	int fds[2], r;
	size_t n_fds = 0;

	if (opener_here_probe(&o->known, rq, probe, out) == 0)
		return 0;
	r = begin(o, &ask, &a, rq, err);
	if (r == 0) {
		r = next_answer(&ask, &answer, fds, &n_fds);
		if (r < 0)
			r = no_answer(r, rq->path, err);
		else
			r = answer.code < 0 ? err_set(err, answer.code, "%s", answer.text) : 0;
		if (r == 0)
			*out = (struct probed_disk){answer.format, answer.bytes};
		msg_close_fds(fds, n_fds);
	}
	end(&ask);
	return r;
}
