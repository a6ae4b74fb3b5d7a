// SPDX-License-Identifier: ISC
/*
 * What the kernel asks to have created, renamed and unlinked.
 *
 * Files exist by the tables, so that only editors' scratch files can be created
 * (scratch.c). Beyond these, what copiers do is understood: a rename of a scratch
 * file onto a document or attribute is a write to it; a rename of one of
 * these to a scratch name (an editor's backup) makes a copy of that name; and
 * what a copier believes it creates is opened (intent.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsapi/call.h"
#include "util/cleanup.h"

/* A file that may be written, of a table: an attribute or a document. */
static bool replaceable(const struct node *n)
{
	return n->row->store && (n->row->kind == &kind_attribute || n->row->kind == &kind_document);
}

/* --- unlink, rename ------------------------------------------------------------------- */

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	_cleanup_node_ struct node *n = NULL;
	struct call c;
	int r;

	call_begin(&c, req, "unlink", parent, name, NULL);
	r = call_may(&c, c.node, W_OK | X_OK);
	if (r == 0)
		r = dir_lookup(c.node, name, &n);
	if (r == 0 && n->scratch)
		r = scratch_unlink(c.node, name);
	else if (r == 0 && replaceable(n) && intent_is_copier(fuse_req_ctx(req)->pid))
		intent_unlinked(n, fuse_req_ctx(req)->pid);
	else if (r == 0)
		r = -EPERM;
	answer_err(&c, r);
}

/* A scratch file becomes the new text of a document or attribute. */
static int replace(struct call *c, struct node *from, struct node *to, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	r = call_may(c, to, W_OK);
	if (r < 0)
		return r;
	r = scratch_copy(from->scratch, &text, &len);
	if (r < 0)
		return err_set(err, r, "out of memory");
	if (to->row->kind == &kind_attribute) {
		if (len && text[len - 1] == '\n')
			text[--len] = '\0';
		if (len > ATTRIBUTE_MAX || memchr(text, '\0', len)) {
			r = err_set(err, len > ATTRIBUTE_MAX ? -EFBIG : -EINVAL, "not one value");
			node_complain(to, to->row->name, err);
			return r;
		}
	}
	r = to->row->store(to, text, len, &c->caller, err);
	return r < 0 ? r : scratch_unlink(c->node, c->name);
}

/* An editor's backup: a copy of what stays. The kernel has moved the name, so it is told. */
static int back_up(struct call *c, struct node *from)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r;

	r = text_show(from, &sb);
	if (r < 0)
		return r;
	r = scratch_put(c->node, c->name2, sb.data ? sb.data : "", sb.len, &c->caller);
	if (r < 0)
		return r;
	notify_name(c->node, c->name2);
	return 0;
}

static int rename_file(struct call *c, struct node *from, struct node *to, struct err *err)
{
	bool scratch = node_dir(c->node)->scratch;

	if (to && (c->flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (from->scratch && (!to || to->scratch))
		return scratch_rename(c->node, c->name, c->name2, true);
	if (from->scratch && !from->row->kind->open) /* a symlink */
		return -EPERM;
	if (from->scratch && replaceable(to))
		return replace(c, from, to, err);
	if (scratch && replaceable(from) && (!to || to->scratch) && scratch_name(c->name2))
		return back_up(c, from);
	return -EPERM;
}

static int rename_dir(struct call *c, struct node *from, struct node *to, struct err *err)
{
	const struct dir *d = node_dir(c->node);
	struct own_op own;
	char what[600];
	int r;

	if (from->row->name || !d->ops || !d->ops->rename)
		return -EPERM;
	if (to)
		return err_set(err, -EEXIST, "%s exists", c->name2);
	own_begin(&own, c->node, c->name);
	r = d->ops->rename(c->node, c->name, c->name2, err);
	own_end(&own);
	if (r < 0) {
		snprintf(what, sizeof(what), "rename %s to %s", c->name, c->name2);
		node_complain(from, what, err);
	}
	return r;
}

static void run_rename(struct call *c)
{
	_cleanup_node_ struct node *from = NULL;
	_cleanup_node_ struct node *to = NULL;
	struct err err = ERR_INIT;
	int r;

	r = dir_lookup(c->node, c->name, &from);
	if (r == 0) {
		r = dir_lookup(c->node, c->name2, &to);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0 && c->node != c->node2)
		r = node_is_dir(from) ? -EPERM : -EXDEV;
	else if (r == 0)
		r = node_is_dir(from) ? rename_dir(c, from, to, &err)
				      : rename_file(c, from, to, &err);
	answer_err(c, r);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	struct call c;
	int r;

	call_begin(&c, req, "rename", parent, name, NULL);
	c.node2 = node_of(c.fs, new_parent);
	c.name2 = new_name;
	c.flags = flags;
	r = call_may(&c, c.node, W_OK | X_OK);
	if (r < 0)
		answer_err(&c, r);
	else if (flags & ~(unsigned)RENAME_NOREPLACE)
		answer_err(&c, -EINVAL);
	else
		call_defer(&c, run_rename, WORK_SHORT);
}

/* --- create --------------------------------------------------------------------------- */

static int make_scratch(struct call *c, const char *target, struct node **n)
{
	struct caller caller = call_caller(c);
	int r = call_may(c, c->node, W_OK | X_OK);

	return r < 0 ? r : scratch_create(c->node, c->name, c->mode, target, &caller, n);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct node *n = NULL;
	struct call c;
	int r;

	call_begin(&c, req, "symlink", parent, name, NULL);
	r = strlen(target) < 4096 ? make_scratch(&c, target, &n) : -ENAMETOOLONG;
	if (r < 0)
		answer_err(&c, r);
	else
		answer_entry(&c, n);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	struct call c;

	(void)ino;
	call_begin(&c, req, "link", new_parent, new_name, NULL);
	answer_err(&c, -EPERM);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	struct node *n = NULL;
	struct call c;
	int r;

	(void)dev;
	call_begin(&c, req, "mknod", parent, name, NULL);
	c.mode = mode;
	r = S_ISREG(mode) ? make_scratch(&c, NULL, &n) : -EPERM;
	if (r < 0)
		answer_err(&c, r);
	else
		answer_entry(&c, n);
}

/*
 * What was there all the time is opened. Not the image of a machine's disk: whoever copies a
 * machine copies its definition, and what the copy names is the very disk of the other.
 */
static int find_or_create(struct call *c, struct node **n)
{
	int r = dir_lookup(c->node, c->name, n);

	if (r == -ENOENT)
		return make_scratch(c, NULL, n);
	if (r < 0)
		return r;
	if ((c->flags & O_EXCL) && !intent_creates(*n, fuse_req_ctx(c->req)->pid))
		r = -EEXIST;
	else if (node_is_dir(*n))
		r = -EISDIR;
	else if ((*n)->row->kind == &kind_image && (*n)->m)
		r = -EACCES;
	else
		r = call_may(c, *n, W_OK);
	if (r == 0 && (*n)->row->kind == &kind_command)
		*n = command_pick(*n, false);
	if (r == 0 && !*n)
		r = -ENOMEM;
	if (r < 0) {
		node_put(*n);
		*n = NULL;
	}
	return r;
}

static void run_create(struct call *c)
{
	int r = handle_open(c->handle, &c->caller);

	if (r < 0) {
		handle_put(c->handle);
		answer_err(c, r);
		return;
	}
	answer_create(c, node_ref(c->handle->node), c->handle);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	_cleanup_node_ struct node *n = NULL;
	struct call c;
	int r;

	call_begin(&c, req, "create", parent, name, fi);
	c.mode = mode;
	c.flags = (unsigned)fi->flags;
	c.caller = call_caller(&c);
	r = find_or_create(&c, &n);
	if (r < 0) {
		answer_err(&c, r);
		return;
	}
	c.handle = handle_new(n, fi->flags | O_TRUNC);
	if (!c.handle) {
		answer_err(&c, -ENOMEM);
	} else if (n->row->kind->storage) {
		c.owns_handle = true;
		c.after_closings = true;
		call_defer(&c, run_create, WORK_STORAGE);
	} else {
		run_create(&c);
	}
}
