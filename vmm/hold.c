// SPDX-License-Identifier: ISC
/*
 * The holder's socket. One thread serves it; a WRITE is done by another one, so that a CLONE need
 * not wait for it, and the end of the socket ends all. Nobody cleans up after a write that
 * was cut short: who asked for it knows that it is to be forgotten.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOG_MODULE "hold"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/msg.h"
#include "vmm/control.h"
#include "vmm/hold_int.h"

#define SOCK	    3 /* where its socket is */
#define PROGRESS_MS 50

struct holder {
	const struct memory *memory;
	const struct title *title;
	/* of the write under way */
	struct hold_write *write; /* NULL: none */
	uint32_t seq;
	pthread_t thread;
	int written_fd; /* eventfd: it has ended */
	uint8_t packet[VMM_MSG_MAX];
};

struct hold_request {
	struct vmm_msg_hdr hdr;
	const uint8_t *body;
	int fds[VMM_MSG_FDS]; /* -1 where one was taken */
	size_t n_fds;
};

/* --- answers -------------------------------------------------------------------------------- */

/* Who does not listen any more is noticed when the next packet is taken. */
static void say(uint32_t type, uint32_t seq, int error, const void *body, size_t len, int flags)
{
	const struct vmm_msg_hdr hdr = {
	    .type = type, .seq = seq, .error = error, .len = (uint32_t)len};

	msg_send(SOCK, &hdr, sizeof(hdr), body, len, NULL, 0, flags);
}

static void say_failure(uint32_t type, uint32_t seq, const struct err *err)
{
	say(type, seq, err->code, err->text, strlen(err->text) + 1, 0);
}

static void say_progress(const struct holder *h)
{
	struct vmm_hold_progress progress = {.done = atomic_load(&h->write->looked),
					     .total = atomic_load(&h->write->total)};

	say(VMM_HOLD_PROGRESS, h->seq, 0, &progress, sizeof(progress), MSG_DONTWAIT);
}

static void say_done(const struct holder *h)
{
	const struct hold_write *w = h->write;
	size_t extents = w->done.n_extents * sizeof(w->extents[0]);
	_cleanup_free_ uint8_t *body = malloc(sizeof(w->done) + extents);
	struct err err = ERR_INIT;

	if (w->err.code) {
		say_failure(VMM_HOLD_DONE, h->seq, &w->err);
	} else if (!body) {
		err_set(&err, -ENOMEM, "no memory");
		say_failure(VMM_HOLD_DONE, h->seq, &err);
	} else {
		memcpy(body, &w->done, sizeof(w->done));
		memcpy(body + sizeof(w->done), w->extents, extents);
		say(VMM_HOLD_DONE, h->seq, 0, body, sizeof(w->done) + extents, 0);
	}
}

/* --- writing -------------------------------------------------------------------------------- */

static void write_free(struct hold_write *w)
{
	if (!w)
		return;
	if (w->fd >= 0)
		close(w->fd);
	for (unsigned i = 0; i < w->n_files; i++)
		if (w->files[i] >= 0)
			close(w->files[i]);
	free(w->parent);
	free(w);
}

static int take_parent(struct hold_write *w, struct hold_request *req, struct err *err)
{
	size_t bytes = w->n_extents * sizeof(w->parent[0]);

	for (unsigned i = 0; i < w->n_files; i++)
		w->files[i] = take_fd(&req->fds[1 + i]);
	if (w->n_extents == 0)
		return 0;
	w->parent = malloc(bytes);
	if (!w->parent)
		return err_set(err, -ENOMEM, "no memory");
	memcpy(w->parent, req->body + sizeof(struct vmm_hold_write), bytes);
	return 0;
}

static int check_write(const struct holder *h, const struct hold_request *req,
		       struct vmm_hold_write *m, struct err *err)
{
	if (req->hdr.len < sizeof(*m))
		return err_set(err, -EPROTO, "WRITE: malformed");
	memcpy(m, req->body, sizeof(*m));
	if (m->n_extents > VMM_EXTENTS_MAX || m->n_files >= VMM_MEMORY_FILES_MAX ||
	    req->hdr.len != sizeof(*m) + m->n_extents * sizeof(struct vmm_extent) ||
	    req->n_fds != 1 + m->n_files)
		return err_set(err, -EPROTO, "WRITE: malformed");
	if (m->kind > VMM_MEMORY_PACKED || (m->kind == VMM_MEMORY_PACKED && m->n_extents > 0))
		return err_set(err, -EOPNOTSUPP, "WRITE: memory of kind %u", m->kind);
	if (h->write)
		return err_set(err, -EBUSY, "it is writing already");
	return 0;
}

static void *write_thread(void *arg)
{
	struct holder *h = arg;
	const uint64_t one = 1;

	prctl(PR_SET_NAME, "write", 0, 0, 0);
	hold_write_all(h->write);
	return write(h->written_fd, &one, sizeof(one)) < 0 ? h : NULL;
}

static int begin_write(struct holder *h, struct hold_request *req, struct err *err)
{
	struct hold_write *w = NULL;
	struct vmm_hold_write m;
	int r = check_write(h, req, &m, err);

	if (r < 0)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, -ENOMEM, "no memory");
	w->memory = h->memory;
	w->kind = (enum vmm_memory_kind)m.kind;
	w->level = (int)m.level;
	w->n_extents = m.n_extents;
	w->n_files = m.n_files;
	w->fd = take_fd(&req->fds[0]);
	r = take_parent(w, req, err);
	h->seq = req->hdr.seq;
	h->write = w;
	if (r == 0) {
		r = -pthread_create(&h->thread, NULL, write_thread, h);
		if (r < 0)
			err_set(err, r, "cannot start a thread: %s", strerror(-r));
	}
	if (r < 0)
		write_free(take_ptr(h->write));
	return r;
}

static void end_write(struct holder *h)
{
	uint64_t count;

	if (read(h->written_fd, &count, sizeof(count)) < 0)
		return;
	pthread_join(h->thread, NULL);
	say_done(h);
	write_free(take_ptr(h->write));
}

/* --- requests ------------------------------------------------------------------------------- */

/* In the clone: nothing but the two descriptors, where a VMM that was just started has them. */
static _Noreturn void run_clone(const struct holder *h, const int fds[2])
{
	struct err err = ERR_INIT;

	if (dup2(fds[1], STDERR_FILENO) < 0 || dup2(fds[0], VMM_LISTEN_FD) < 0 ||
	    close_range(VMM_LISTEN_FD + 1, ~0u, 0) < 0)
		_exit(1);
	prctl(PR_SET_NAME, "filevisor-vmm", 0, 0, 0);
	if (control_run(VMM_LISTEN_FD, h->title, h->memory, &err) < 0) {
		log_error("%s", err.text);
		_exit(1);
	}
	_exit(0);
}

static int clone_guest(const struct holder *h, const struct hold_request *req, struct err *err)
{
	pid_t pid;

	if (req->hdr.len != 0 || req->n_fds != 2)
		return err_set(err, -EPROTO, "CLONE: malformed");
	if (h->memory->huge)
		return err_set(err, -EOPNOTSUPP,
			       "memory in hugepages is not shared with a clone: take a snapshot");
	pid = fork();
	if (pid == 0)
		run_clone(h, req->fds);
	return pid < 0 ? err_set(err, -errno, "cannot fork: %s", strerror(errno)) : 0;
}

static void serve(struct holder *h, struct hold_request *req)
{
	struct err err = ERR_INIT;

	switch (req->hdr.type) {
	case VMM_HOLD_WRITE:
		if (begin_write(h, req, &err) < 0)
			say_failure(VMM_HOLD_DONE, req->hdr.seq, &err);
		return;
	case VMM_HOLD_CLONE:
		if (clone_guest(h, req, &err) < 0)
			say_failure(VMM_HOLD_CLONED, req->hdr.seq, &err);
		else
			say(VMM_HOLD_CLONED, req->hdr.seq, 0, NULL, 0, 0);
		return;
	default:
		log_warn("a request of unknown type %u", req->hdr.type);
	}
}

/* False: the other end is closed, or talks nonsense. */
static bool receive(struct holder *h)
{
	struct hold_request req = {.fds = {-1, -1, -1, -1, -1, -1, -1, -1}, .n_fds = VMM_MSG_FDS};
	ssize_t n = msg_recv(SOCK, h->packet, sizeof(h->packet), req.fds, &req.n_fds, MSG_DONTWAIT);
	bool good = n >= (ssize_t)sizeof(req.hdr);

	if (n == -EAGAIN)
		return true;
	if (good) {
		memcpy(&req.hdr, h->packet, sizeof(req.hdr));
		req.body = h->packet + sizeof(req.hdr);
		good = req.hdr.len == (size_t)n - sizeof(req.hdr);
	}
	if (good)
		serve(h, &req);
	else if (n > 0)
		log_warn("a malformed packet: ends");
	for (size_t i = 0; n > 0 && i < req.n_fds; i++)
		if (req.fds[i] >= 0)
			close(req.fds[i]);
	return good;
}

static void loop(struct holder *h)
{
	uint64_t told = 0;

	for (;;) {
		struct pollfd fds[] = {{.fd = SOCK, .events = POLLIN},
				       {.fd = h->written_fd, .events = POLLIN}};

		if (poll(fds, 2, h->write ? PROGRESS_MS : -1) < 0)
			continue;
		if (fds[0].revents && !receive(h))
			return;
		if (fds[1].revents)
			end_write(h);
		if (h->write && now_ns() - told >= PROGRESS_MS * 1000000ull) {
			say_progress(h);
			told = now_ns();
		}
	}
}

_Noreturn void hold_run(const struct memory *memory, int sock, struct title *title,
			const char *name)
{
	struct holder *h;
	char text[VMM_NAME_MAX + 16];

	if (sock != SOCK && dup2(sock, SOCK) < 0)
		_exit(1);
	if (close_range(SOCK + 1, ~0u, 0) < 0)
		_exit(1);
	prctl(PR_SET_NAME, "hold", 0, 0, 0);
	snprintf(text, sizeof(text), "%s (memory)", name);
	title_set(title, text);
	h = calloc(1, sizeof(*h));
	if (!h)
		_exit(1);
	h->memory = memory;
	h->title = title;
	h->written_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (h->written_fd < 0)
		_exit(1);
	loop(h);
	_exit(0);
}
