// SPDX-License-Identifier: ISC
/*
 * Requests: their answers, their trace, their way to the crew and back.
 *
 * What the kernel may remember. The names of rows never change, nor do those
 * of machines but by rename and rmdir, which pass through the kernel: they may be
 * cached, and a name that changes otherwise is put right by the notifier.
 * Attributes may be cached where the model tells every change, upon which the
 * observer makes the kernel forget them before the change is answered
 * (wire_forget_attr). That works for inodes which the kernel has; a lookup's answer
 * may make one with attributes that changed meanwhile, so the attributes
 * in it are not to be kept: those in the answer to the stat that follows are.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fsapi/call.h"
#include "util/cleanup.h"

/* So long, though never wrong for longer than that: whoever stats the tree of a daemon that died
 * is to hear of it. */
#define NAME_CACHED_S 10.0
#define ATTR_CACHED_S 1.0
#define GROUPS_MAX    1024

/* --- beginning and end ---------------------------------------------------------------- */

void call_begin(struct call *c, fuse_req_t req, const char *op, fuse_ino_t ino, const char *name,
		struct fuse_file_info *fi)
{
	memset(c, 0, sizeof(*c));
	c->fs = fuse_req_userdata(req);
	c->req = req;
	c->op = op;
	c->node = node_of(c->fs, ino);
	c->name = name;
	if (fi) {
		c->fi = *fi;
		c->handle = handle_of(fi);
	}
	atomic_fetch_add_explicit(&c->fs->n_calls, 1, memory_order_relaxed);
	if (c->fs->trace) {
		char path[4096];

		c->start_ns = now_ns();
		if (node_path(c->node, path, sizeof(path)) < 0)
			path[0] = '\0';
		if (asprintf(&c->path, "%s%s%s", path, name && path[0] ? "/" : "",
			     name ? name : "") < 0)
			c->path = NULL;
	}
}

void answer_end(struct call *c, int r)
{
	if (c->fs->trace) {
		fprintf(stderr, "%s %s size=%zu offset=%llu %s %llu us\n", c->op,
			c->path && c->path[0] ? c->path : "/", c->size,
			(unsigned long long)c->offset, r < 0 ? err_name(r) : "ok",
			(unsigned long long)(now_ns() - c->start_ns) / 1000);
		free(c->path);
	}
	if (!c->deferred)
		return;
	if (c->closes)
		closing_end(&c->fs->closings, &c->closing);
	node_put(c->node);
	node_put(c->node2);
	free((char *)c->name);
	free((char *)c->name2);
	free((char *)c->data);
	free((gid_t *)c->caller.groups);
	cancel_destroy(&c->cancel);
	cancel_destroy(&c->storage);
	if (c->holds_handle)
		handle_put(c->handle);
	free(c);
}

struct caller call_caller(const struct call *c)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(c->req);

	return (struct caller){.uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid};
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct call *c = arg;

	(void)req;
	signals_heard(c->fs->signals, &c->interrupted);
}

static void run_deferred(struct work *w)
{
	struct call *c = (struct call *)w;

	if (c->after_closings)
		closings_wait(&c->fs->closings);
	c->run(c);
}

/* Supplementary groups, which FUSE does not carry: from the waiting client's /proc entry. */
struct caller call_caller_groups(const struct call *c)
{
	struct caller caller = call_caller(c);
	gid_t groups[GROUPS_MAX];
	int n = fuse_req_getgroups(c->req, GROUPS_MAX, groups);
	gid_t *copy;

	if (n <= 0)
		return caller;
	if (n > GROUPS_MAX)
		n = GROUPS_MAX;
	copy = malloc((size_t)n * sizeof(copy[0]));
	if (!copy)
		return caller;
	memcpy(copy, groups, (size_t)n * sizeof(copy[0]));
	caller.groups = copy;
	caller.n_groups = (size_t)n;
	return caller;
}

static char *copy_bytes(const char *data, size_t size)
{
	char *copy = malloc(size ? size : 1);

	if (copy && size)
		memcpy(copy, data, size);
	return copy;
}

static void fail(struct call *c, int r)
{
	if (c->owns_handle)
		handle_put(c->handle);
	answer_err(c, r);
}

/*
 * The client is being killed while storage is waited for: it need not wait any more. Called by
 * the thread that heard of it, which holds on to the request (on_interrupt()), or
 * knows the call until signals_forget(). The work goes on and finds that it was answered.
 */
static void answer_early(void *arg)
{
	struct call *c = arg;

	c->answered = true;
	fuse_reply_err(c->req, EINTR);
	cancel_request(&c->storage);
}

/* Who asks, as the work needs it. */
static void set_caller(struct call *d)
{
	bool storage = d->work.class == WORK_STORAGE;

	if (storage && d->holds_handle)
		d->caller = call_caller(d);
	else
		d->caller = call_caller_groups(d);
	d->caller.cancel = storage ? &d->storage : &d->cancel;
	d->interrupted = (struct interrupted){
	    .tid = d->caller.pid, .cancel = &d->cancel, .deadly = storage || d->deadly};
}

void call_defer(struct call *c, void (*run)(struct call *c), enum work_class class)
{
	struct call *d = malloc(sizeof(*d));
	struct node *lane = c->handle ? c->handle->node : c->node2 ? c->node2 : c->node;
	int r;

	if (!d) {
		fail(c, -ENOMEM);
		return;
	}
	*d = *c;
	d->deferred = true;
	d->run = run;
	d->work = (struct work){.run = run_deferred, .class = class, .lane = &lane->lane};
	cancel_init(&d->cancel);
	cancel_init(&d->storage);
	d->work.cancel = class == WORK_STORAGE ? &d->storage : &d->cancel;
	if (d->handle && !d->owns_handle) {
		handle_get(d->handle);
		d->holds_handle = true;
	}
	node_ref(d->node);
	if (d->node2)
		node_ref(d->node2);
	d->name = c->name ? strdup(c->name) : NULL;
	d->name2 = c->name2 ? strdup(c->name2) : NULL;
	d->data = c->data ? copy_bytes(c->data, c->size) : NULL;
	set_caller(d);
	fuse_req_interrupt_func(d->req, on_interrupt, d);
	if (class == WORK_STORAGE)
		cancel_set_wake(&d->cancel, answer_early, d);
	if (d->closes)
		closing_begin(&d->fs->closings, &d->closing);
	r = -ENOMEM;
	if ((!c->name || d->name) && (!c->name2 || d->name2) && (!c->data || d->data))
		r = crew_submit(d->fs->crew, &d->work);
	if (r < 0) {
		d->work.run = NULL; /* it never was the crew's */
		fail(d, r);
	}
}

/* Before the request is answered: nobody cancels it any more. False if it was answered early. */
static bool settle(struct call *c)
{
	if (!c->deferred)
		return true;
	if (c->work.class == WORK_STORAGE)
		cancel_set_wake(&c->cancel, NULL, NULL);
	if (!c->answered)
		fuse_req_interrupt_func(c->req, NULL, NULL);
	signals_forget(c->fs->signals, &c->interrupted);
	if (c->work.run)
		crew_done(c->fs->crew, &c->work);
	return !c->answered;
}

/*
 * What never is an answer: EINTR unless the client got a signal, EAGAIN and
 * ENOSYS, which mean other things to a shell or to the kernel.
 */
static int fit_errno(struct call *c, int r)
{
	switch (r) {
	case -ECANCELED:
		return fuse_req_interrupted(c->req) ? -EINTR : -ENODEV;
	case -EINTR:
		return fuse_req_interrupted(c->req) ? -EINTR : -EIO;
	case -EAGAIN:
		return -EBUSY;
	case -ENOSYS:
		return -EOPNOTSUPP;
	}
	return r > 0 ? -EIO : r;
}

int call_may(const struct call *c, struct node *n, int mask)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(c->req);
	struct stat st;
	mode_t bits;
	int r;

	if (c->fs->permissions || ctx->uid == 0)
		return 0;
	r = node_stat(n, &st);
	if (r < 0)
		return r;
	if (ctx->uid == st.st_uid)
		bits = st.st_mode >> 6;
	else
		bits = ctx->gid == st.st_gid ? st.st_mode >> 3 : st.st_mode;
	return ((mode_t)mask & ~bits & 7) ? -EACCES : 0;
}

/* --- what the kernel may remember ----------------------------------------------------- */

static bool name_stays(const struct node *n)
{
	if (n->scratch || (n->row->flags & ROW_VOLATILE))
		return false;
	return n->row->name || thing_name_stays(n->thing);
}

int entry_fill(struct node *n, struct fuse_entry_param *e)
{
	int r;

	memset(e, 0, sizeof(*e));
	e->ino = id_of(n);
	e->entry_timeout = name_stays(n) ? NAME_CACHED_S : 0;
	/* Of a machine's or pool's directory only a chmod through the kernel changes anything. */
	e->attr_timeout = thing_name_stays(n->thing) ? ATTR_CACHED_S : 0;
	r = node_stat(n, &e->attr);
	return r;
}

/* --- answers -----------------------------------------------------------------------------------
 */

void answer_err(struct call *c, int r)
{
	if (settle(c)) {
		r = fit_errno(c, r);
		fuse_reply_err(c->req, -r);
	}
	answer_end(c, r);
}

static void give_attr(struct call *c, struct node *n, double valid_s)
{
	struct stat st;
	int r = node_stat(n, &st);

	if (r < 0) {
		answer_err(c, r);
		return;
	}
	if (settle(c))
		fuse_reply_attr(c->req, &st, valid_s);
	answer_end(c, 0);
}

void answer_attr(struct call *c, struct node *n)
{
	give_attr(c, n, node_attr_told(n) ? ATTR_CACHED_S : 0);
}

void answer_set_attr(struct call *c, struct node *n)
{
	give_attr(c, n, 0);
}

/* Takes back what the kernel was to have, as it did not want it any more. */
static void ungive(struct node *n)
{
	atomic_fetch_sub(&n->lookups, 1);
	node_put(n);
}

void answer_entry(struct call *c, struct node *n)
{
	struct fuse_entry_param e;
	int r = entry_fill(n, &e);

	if (r < 0) {
		node_put(n);
		answer_err(c, r);
		return;
	}
	entry_given(n);
	if (!settle(c) || fuse_reply_entry(c->req, &e) < 0)
		ungive(n);
	answer_end(c, 0);
}

/* libfuse 3.14 knows no FOPEN_PARALLEL_DIRECT_WRITES, so the answer is made by hand. */
void answer_open(struct call *c, struct handle *h)
{
	struct fuse_open_out out = {
	    .fh = (uintptr_t)h,
	    .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES,
	};

	if (!h->node->row->kind->flush || !h->writable)
		out.open_flags |= FOPEN_NOFLUSH;
	if (!settle(c) || fuse_reply_buf(c->req, (const char *)&out, sizeof(out)) < 0)
		handle_put(h);
	answer_end(c, 0);
}

void answer_create(struct call *c, struct node *n, struct handle *h)
{
	struct fuse_entry_param e;
	int r = entry_fill(n, &e);

	if (r < 0) {
		handle_put(h);
		node_put(n);
		answer_err(c, r);
		return;
	}
	c->fi.fh = (uintptr_t)h;
	c->fi.direct_io = 1;
	entry_given(n);
	if (!settle(c) || fuse_reply_create(c->req, &e, &c->fi) < 0) {
		handle_put(h);
		ungive(n);
	}
	answer_end(c, 0);
}

int answer_buf(struct call *c, const void *data, size_t len)
{
	int r = settle(c) ? fuse_reply_buf(c->req, data, len) : -EINTR;

	answer_end(c, r);
	return r;
}

void answer_write(struct call *c, size_t len)
{
	if (settle(c))
		fuse_reply_write(c->req, len);
	answer_end(c, 0);
}

void answer_link(struct call *c, const char *target)
{
	fuse_reply_readlink(c->req, target);
	answer_end(c, 0);
}

void answer_lseek(struct call *c, int64_t offset)
{
	if (settle(c))
		fuse_reply_lseek(c->req, offset);
	answer_end(c, 0);
}

void answer_poll(struct call *c, unsigned events)
{
	fuse_reply_poll(c->req, events);
	answer_end(c, 0);
}

void answer_statfs(struct call *c, const struct statvfs *vfs)
{
	fuse_reply_statfs(c->req, vfs);
	answer_end(c, 0);
}

/* --- handles -------------------------------------------------------------------------- */

struct handle *handle_new(struct node *n, int flags)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	atomic_init(&h->refs, 1);
	h->node = node_ref(n);
	h->flags = flags;
	h->writable = (flags & O_ACCMODE) != O_RDONLY;
	h->fd = -1;
	pthread_mutex_init(&h->lock, NULL);
	atomic_fetch_add(&n->fs->n_handles, 1);
	LOCK_SCOPE(&n->fs->handles_lock);
	h->next = n->fs->handles;
	h->prev = &n->fs->handles;
	if (h->next)
		h->next->prev = &h->next;
	n->fs->handles = h;
	return h;
}

struct handle *handle_get(struct handle *h)
{
	atomic_fetch_add(&h->refs, 1);
	return h;
}

void handle_put(struct handle *h)
{
	struct node *n = h->node;

	if (atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	pthread_mutex_lock(&n->fs->handles_lock);
	*h->prev = h->next;
	if (h->next)
		h->next->prev = h->prev;
	pthread_mutex_unlock(&n->fs->handles_lock);
	notify_poll_drop(h);
	if (h->opened && n->row->kind->close)
		n->row->kind->close(h);
	free(h->listing);
	free((gid_t *)h->writer.groups);
	pthread_mutex_destroy(&h->lock);
	atomic_fetch_sub(&n->fs->n_handles, 1);
	free(h);
	node_put(n);
}

int handle_open(struct handle *h, const struct caller *caller)
{
	struct node *n = h->node;
	struct err err = ERR_INIT;
	int r;

	if (!node_alive(n))
		return -ENOENT;
	r = n->row->kind->open ? n->row->kind->open(h, caller, &err) : 0;
	if (r < 0) {
		if (err.text[0])
			node_complain(n, n->row->name ? n->row->name : "open", &err);
		return r;
	}
	h->opened = true;
	return 0;
}

/* --- notifications -------------------------------------------------------------------- */

/* Attributes only (offset -1): waits for no page and no lock that a client could hold. */
void wire_forget_attr(struct node *n)
{
	fuse_lowlevel_notify_inval_inode(n->fs->session, id_of(n), -1, 0);
}

void wire_poll_wake(struct fuse_pollhandle *ph)
{
	fuse_lowlevel_notify_poll(ph);
}

void wire_poll_free(struct fuse_pollhandle *ph)
{
	fuse_pollhandle_destroy(ph);
}
