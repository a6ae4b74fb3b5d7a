// SPDX-License-Identifier: ISC
/*
 * What the kernel asks about directories: lookup, listing, mkdir and rmdir. Directories
 * stand for machines, disks and jobs. What the hand asks (hand.c) is answered
 * so that the right event comes of it, and changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsapi/call.h"
#include "util/cleanup.h"

/* --- lookup ------------------------------------------------------------------------------------
 */

static int lookup(struct call *c, bool notifier, struct node **out)
{
	struct node *n = NULL;
	int r;

	r = dir_lookup(c->node, c->name, &n);
	if (r < 0)
		return r;
	if (intent_hides(n, fuse_req_ctx(c->req)->pid)) {
		node_put(n);
		return -ENOENT;
	}
	if (n->row->kind == &kind_command) {
		n = command_pick(n, notifier);
		if (!n)
			return notifier ? -ENOENT : -ENOMEM;
	}
	*out = n;
	return 0;
}

/* A directory that is gone, as far as the notifier needs one to take it away. */
static void answer_ghost(struct call *c, struct node *n)
{
	struct fuse_entry_param e = {.ino = id_of(n)};

	e.attr.st_ino = n->ino;
	e.attr.st_mode = S_IFDIR | 0755;
	e.attr.st_nlink = 1;
	e.attr.st_uid = c->fs->uid;
	e.attr.st_gid = c->fs->gid;
	entry_given(n);
	if (fuse_reply_entry(c->req, &e) < 0) {
		atomic_fetch_sub(&n->lookups, 1);
		node_put(n);
	}
	answer_end(c, 0);
}

static void run_entry(struct call *c)
{
	answer_entry(c, node_ref(c->node2));
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *n = NULL;
	struct call c;
	bool notifier;
	int r;

	call_begin(&c, req, "lookup", parent, name, NULL);
	notifier = notifier_is(c.fs->notifier, fuse_req_ctx(req)->pid);
	if (notifier) {
		n = notifier_ghost(c.fs->notifier, c.node, name);
		if (n) {
			answer_ghost(&c, n);
			return;
		}
		if (notifier_makes(c.fs->notifier, c.node, name)) {
			answer_err(&c, -ENOENT);
			return;
		}
	}
	r = strlen(name) > NAME_MAX ? -ENAMETOOLONG : lookup(&c, notifier, &n);
	if (r < 0) {
		answer_err(&c, r);
	} else if (node_stat_waits(n)) {
		c.node2 = n;
		call_defer(&c, run_entry, WORK_SHORT);
		node_put(n);
	} else {
		answer_entry(&c, n);
	}
}

static void forget(struct node *n, uint64_t count)
{
	if (!n->parent)
		return;
	atomic_fetch_sub(&n->lookups, count);
	node_unref(n, count);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget(node_of(fuse_req_userdata(req), ino), count);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(node_of(fuse_req_userdata(req), forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

/* --- listing -------------------------------------------------------------------------- */

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h;
	struct call c;
	int r;

	call_begin(&c, req, "opendir", ino, NULL, fi);
	r = call_may(&c, c.node, R_OK);
	if (r == 0 && !node_alive(c.node))
		r = -ENOENT;
	h = r == 0 ? handle_new(c.node, O_RDONLY) : NULL;
	if (!h)
		answer_err(&c, r < 0 ? r : -ENOMEM);
	else
		answer_open(&c, h);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "releasedir", ino, NULL, fi);
	c.node = node_ref(c.handle->node);
	handle_put(c.handle);
	c.handle = NULL;
	node_put(c.node);
	c.node = c.fs->root;
	answer_err(&c, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct call c;

	(void)datasync;
	call_begin(&c, req, "fsyncdir", ino, NULL, fi);
	answer_err(&c, 0);
}

struct listing {
	struct call *c;
	char *buf;
	size_t size, used;
	bool plus;
	struct node **given; /* to be taken back if the kernel does not want the answer */
	size_t n_given;
};

#define ENTRY_MIN 24 /* no entry is shorter: bounds the number of them */

static bool add_entry(struct listing *l, const char *name, const struct fuse_entry_param *e,
		      uint64_t next)
{
	size_t room = l->size - l->used, need;

	if (l->plus)
		need =
		    fuse_add_direntry_plus(l->c->req, l->buf + l->used, room, name, e, (off_t)next);
	else
		need = fuse_add_direntry(l->c->req, l->buf + l->used, room, name, &e->attr,
					 (off_t)next);
	if (need > room)
		return false;
	l->used += need;
	return true;
}

/* The kernel may keep what is said here of a name that stays; of others only their name. */
static bool emit(void *arg, const char *name, const struct row *row, struct child *child,
		 struct node *known, uint64_t next)
{
	struct listing *l = arg;
	struct node *dir = l->c->node;
	struct fuse_entry_param e = {0};
	struct node *n = NULL;

	if (l->plus && row->kind == &kind_dir &&
	    (row->name || (child && thing_name_stays(child->thing)))) {
		n = node_get(dir, row, child);
		if (n && entry_fill(n, &e) < 0) {
			node_put(n);
			n = NULL;
			memset(&e, 0, sizeof(e));
		}
	}
	if (!n) {
		const char *key = child && !child->id ? child->name : NULL;

		e.attr.st_ino = known ? known->ino : node_ino(dir, row, child ? child->id : 0, key);
		e.attr.st_mode = row->kind->format;
	}
	if (!add_entry(l, name, &e, next + 2)) {
		node_put(n);
		return false;
	}
	if (n) {
		entry_given(n);
		l->given[l->n_given++] = n;
	}
	return true;
}

/* The first two offsets are those of . and .. */
static void list(struct listing *l, uint64_t offset)
{
	struct node *dir = l->c->node;
	struct fuse_entry_param e = {.attr = {.st_mode = S_IFDIR, .st_ino = dir->ino}};

	if (offset == 0 && !add_entry(l, ".", &e, 1))
		return;
	if (dir->parent)
		e.attr.st_ino = dir->parent->ino;
	if (offset <= 1 && !add_entry(l, "..", &e, 2))
		return;
	dir_list(l->c->handle, offset > 2 ? offset - 2 : 0, emit, l);
}

static void list_directory(struct call *c, size_t size, off_t off, bool plus)
{
	struct listing l = {.c = c, .size = size, .plus = plus};

	c->size = size;
	c->offset = (uint64_t)off;
	l.buf = malloc(size);
	l.given = plus ? malloc((size / ENTRY_MIN + 1) * sizeof(l.given[0])) : NULL;
	if (!l.buf || (plus && !l.given)) {
		answer_err(c, -ENOMEM);
	} else {
		list(&l, (uint64_t)off);
		if (answer_buf(c, l.buf, l.used) < 0)
			for (size_t i = 0; i < l.n_given; i++)
				forget(l.given[i], 1);
	}
	free(l.buf);
	free(l.given);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "readdir", ino, NULL, fi);
	list_directory(&c, size, off, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "readdirplus", ino, NULL, fi);
	list_directory(&c, size, off, true);
}

/* --- mkdir, rmdir --------------------------------------------------------------------- */

static void run_mkdir(struct call *c)
{
	const struct dir *d = node_dir(c->node);
	struct child child = {0};
	struct err err = ERR_INIT;
	struct own_op own;
	struct node *n;
	int r;

	own_begin(&own, c->node, c->name);
	r = d->ops->make(c->node, c->name, c->mode, &c->caller, &child, &err);
	own_end(&own);
	if (r < 0) {
		char what[300];

		snprintf(what, sizeof(what), "mkdir %s", c->name);
		node_complain(c->node, what, &err);
		answer_err(c, r);
		return;
	}
	n = node_get(c->node, child.row, &child);
	if (n) {
		intent_made(n, c->caller.pid);
		answer_entry(c, n);
	} else {
		answer_err(c, -ENOMEM);
	}
}

/*
 * A directory that its maker believes not to exist: a copy of a machine's disks/, say. Not
 * a volume: its copy would be written over what it is copied from.
 */
static struct node *made_already(struct call *c)
{
	struct node *n = NULL;

	if (dir_lookup(c->node, c->name, &n) < 0)
		return NULL;
	if (node_is_dir(n) && n->thing.kind == THING_NONE &&
	    intent_creates(n, fuse_req_ctx(c->req)->pid))
		return n;
	node_put(n);
	return NULL;
}

/* No program expects mkdir(2) to be interrupted, but by what ends it. */
static enum work_class class_in(struct call *c)
{
	c->deadly = node_dir(c->node)->takes_long;
	return c->deadly ? WORK_COMMAND : WORK_SHORT;
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *n = NULL;
	struct call c;
	int r;

	call_begin(&c, req, "mkdir", parent, name, NULL);
	c.mode = mode;
	if (notifier_is(c.fs->notifier, fuse_req_ctx(req)->pid)) {
		r = notifier_makes(c.fs->notifier, c.node, name) ? dir_lookup(c.node, name, &n)
								 : -EPERM;
		if (r < 0)
			answer_err(&c, r);
		else
			answer_entry(&c, n);
		return;
	}
	r = call_may(&c, c.node, W_OK | X_OK);
	n = r == 0 ? made_already(&c) : NULL;
	if (n)
		answer_entry(&c, n);
	else if (r < 0)
		answer_err(&c, r);
	else if (!node_dir(c.node)->ops || !node_dir(c.node)->ops->make ||
		 (node_dir(c.node)->no_copies && intent_copies(c.node, fuse_req_ctx(req)->pid)))
		answer_err(&c, -EPERM);
	else
		call_defer(&c, run_mkdir, class_in(&c));
}

static void run_rmdir(struct call *c)
{
	const struct dir *d = node_dir(c->node);
	_cleanup_node_ struct node *n = NULL;
	struct err err = ERR_INIT;
	struct own_op own;
	int r;

	if (dir_lookup(c->node, c->name, &n) < 0) {
		answer_err(c, -ENOENT);
		return;
	}
	own_begin(&own, c->node, c->name);
	r = d->ops->remove(c->node, c->name, &c->caller, &err);
	own_end(&own);
	if (r < 0) {
		char what[300];

		snprintf(what, sizeof(what), "rmdir %s", c->name);
		node_complain(n, what, &err);
	} else {
		scratch_clear(n);
	}
	answer_err(c, r);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *ghost;
	struct call c;
	int r;

	call_begin(&c, req, "rmdir", parent, name, NULL);
	if (notifier_is(c.fs->notifier, fuse_req_ctx(req)->pid)) {
		ghost = notifier_ghost(c.fs->notifier, c.node, name);
		answer_err(&c, ghost ? 0 : -EPERM);
		node_put(ghost);
		return;
	}
	c.after_closings = true;
	r = call_may(&c, c.node, W_OK | X_OK);
	if (r < 0)
		answer_err(&c, r);
	else if (dir_row(node_dir(c.node), name) || !node_dir(c.node)->ops ||
		 !node_dir(c.node)->ops->remove)
		answer_err(&c, -EPERM);
	else
		call_defer(&c, run_rmdir, class_in(&c));
}
