// SPDX-License-Identifier: ISC
/*
 * What the kernel asks about files: attributes, open, read, write, poll and
 * close. Directories are in fuse_dir.c, names in fuse_names.c, answers in call.c.
 *
 * A handler never waits on its worker's thread: what may (a store with its
 * fsync, a command, a question to a VMM) goes to the pool with call_defer().
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "fsapi/call.h"
#include "util/cleanup.h"

/* --- attributes ----------------------------------------------------------------------- */

static void run_getattr(struct call *c)
{
	answer_attr(c, c->node);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "getattr", ino, NULL, fi);
	if (node_stat_waits(c.node))
		call_defer(&c, run_getattr, false);
	else
		answer_attr(&c, c.node);
}

static void run_setattr(struct call *c)
{
	struct err err = ERR_INIT;
	int r = node_chattr(c->node, &c->st, c->flags, &err);

	if (r < 0) {
		node_complain(c->node, "chmod", &err);
		answer_err(c, r);
		return;
	}
	answer_attr(c, c->node);
}

/* Truncation is what open(O_TRUNC) means, too: writers begin anew, the value stays. */
static int set_size(struct call *c, uint64_t size)
{
	const struct row *row = c->node->row;
	struct handle *h = c->handle;

	if (c->node->scratch)
		return scratch_resize(c->node->scratch, size);
	if (notifier_is(c->fs->notifier, fuse_req_ctx(c->req)->pid))
		return 0;
	if ((row->mode & 0222) == 0)
		return -EACCES;
	if (h && h->writable && row->kind->resize)
		return row->kind->resize(h, size);
	return 0;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct call c;
	int r = 0;

	call_begin(&c, req, "setattr", ino, NULL, fi);
	c.st = *attr;
	if (to_set & FUSE_SET_ATTR_MODE)
		c.flags |= CHATTR_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		c.flags |= CHATTR_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		c.flags |= CHATTR_GID;
	if (to_set & FUSE_SET_ATTR_SIZE) {
		c.size = (size_t)attr->st_size;
		r = set_size(&c, (uint64_t)attr->st_size);
	}
	if (r < 0)
		answer_err(&c, r);
	else if (c.flags)
		call_defer(&c, run_setattr, false);
	else
		answer_attr(&c, c.node); /* times are the model's */
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct call c;

	call_begin(&c, req, "access", ino, NULL, NULL);
	answer_err(&c, call_may(&c, c.node, mask));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct call c;
	int r = 0;

	call_begin(&c, req, "readlink", ino, NULL, NULL);
	if (c.node->scratch)
		strbuf_puts(&sb, scratch_target(c.node->scratch));
	else
		r = node_alive(c.node) ? c.node->row->show(c.node, &sb) : -ENOENT;
	if (r == 0 && (sb.failed || !sb.data))
		r = -ENOMEM;
	if (r < 0)
		answer_err(&c, r);
	else
		answer_link(&c, sb.data);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs vfs = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
	struct sysinfo si;
	struct call c;

	call_begin(&c, req, "statfs", ino, NULL, NULL);
	/* What it all stands on is the host's memory. */
	if (sysinfo(&si) == 0) {
		vfs.f_blocks = (fsblkcnt_t)si.totalram * si.mem_unit / 4096;
		vfs.f_bfree = (fsblkcnt_t)si.freeram * si.mem_unit / 4096;
		vfs.f_bavail = vfs.f_bfree;
	}
	vfs.f_files = model_machine_count(c.fs->model);
	vfs.f_ffree = 1u << 20;
	vfs.f_favail = vfs.f_ffree;
	answer_statfs(&c, &vfs);
}

/* --- open, close ---------------------------------------------------------------------------------
 */

static int open_handle(struct call *c, struct handle *h)
{
	struct node *n = c->node;
	struct err err = ERR_INIT;
	int r;

	if (!node_alive(n))
		return -ENOENT;
	r = n->row->kind->open ? n->row->kind->open(h, &err) : 0;
	if (r < 0) {
		if (err.text[0])
			node_complain(n, n->row->name ? n->row->name : "open", &err);
		return r;
	}
	h->opened = true;
	return 0;
}

static void run_open(struct call *c)
{
	int r = open_handle(c, c->handle);

	if (r < 0) {
		handle_free(c->handle);
		answer_err(c, r);
		return;
	}
	answer_open(c, c->handle);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	int mask, r;

	call_begin(&c, req, "open", ino, NULL, fi);
	c.flags = (unsigned)fi->flags;
	mask = (fi->flags & O_ACCMODE) == O_RDONLY   ? R_OK
	       : (fi->flags & O_ACCMODE) == O_WRONLY ? W_OK
						     : R_OK | W_OK;
	r = call_may(&c, c.node, mask);
	if (r < 0) {
		answer_err(&c, r);
		return;
	}
	c.handle = handle_new(c.node, fi->flags);
	if (!c.handle) {
		answer_err(&c, -ENOMEM);
	} else if (c.node->row->flags & ROW_SLOW) {
		c.owns_handle = true;
		call_defer(&c, run_open, false);
	} else {
		run_open(&c);
	}
}

static int flush_handle(struct call *c)
{
	const struct kind *kind = c->node->row->kind;
	struct caller caller = c->handle->writer;
	struct err err = ERR_INIT;
	int r;

	caller.cancel = &c->cancel;
	atomic_fetch_add(&c->node->storing, 1);
	r = kind->flush(c->handle, &caller, &err);
	atomic_fetch_sub(&c->node->storing, 1);
	return r;
}

static void run_flush(struct call *c)
{
	int r = flush_handle(c);

	answer_err(c, r);
}

static bool has_data(struct handle *h)
{
	LOCK_SCOPE(&h->lock);
	return h->dirty;
}

static void flush_or_sync(struct call *c)
{
	if (c->handle && c->node->row->kind->flush && has_data(c->handle))
		call_defer(c, run_flush, false);
	else
		answer_err(c, 0);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "flush", ino, NULL, fi);
	flush_or_sync(&c);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct call c;

	(void)datasync;
	call_begin(&c, req, "fsync", ino, NULL, fi);
	flush_or_sync(&c);
}

static void run_release(struct call *c)
{
	flush_handle(c);
	handle_free(c->handle);
	answer_err(c, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "release", ino, NULL, fi);
	/* The kernel may have forgotten the inode by now: the handle holds the node. */
	c.node = c.handle->node;
	if (c.node->row->kind->flush && has_data(c.handle)) {
		c.owns_handle = true;
		call_defer(&c, run_release, false);
		return;
	}
	node_ref(c.node);
	handle_free(c.handle);
	c.handle = NULL;
	answer_err(&c, 0);
	node_put(c.node);
}

/* --- read, write ---------------------------------------------------------------------- */

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	char small[4096];
	char *buf = small;
	_cleanup_free_ char *big = NULL;
	struct call c;
	ssize_t n;

	call_begin(&c, req, "read", ino, NULL, fi);
	c.size = size;
	c.offset = (uint64_t)off;
	if (size > sizeof(small)) {
		big = malloc(size);
		buf = big;
	}
	n = buf ? c.node->row->kind->read(c.handle, buf, size, (uint64_t)off) : -ENOMEM;
	if (n < 0)
		answer_err(&c, (int)n);
	else
		answer_buf(&c, buf, (size_t)n);
}

static void run_write(struct call *c)
{
	struct err err = ERR_INIT;
	int r;

	atomic_fetch_add(&c->node->storing, 1);
	r = c->node->row->kind->write(c->handle, c->data, c->size, c->offset, &c->caller, &err);
	atomic_fetch_sub(&c->node->storing, 1);
	if (r < 0)
		answer_err(c, r);
	else
		answer_write(c, c->size);
}

/* A document is taken later, by a request that may be another's, or nobody's (release). */
static void note_writer(struct call *c)
{
	struct handle *h = c->handle;

	LOCK_SCOPE(&h->lock);
	if (h->has_writer)
		return;
	h->writer = call_caller_groups(c);
	h->has_writer = true;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	const struct kind *kind;
	struct call c;

	call_begin(&c, req, "write", ino, NULL, fi);
	c.size = size;
	c.offset = (uint64_t)off;
	c.data = buf;
	c.caller = call_caller(&c);
	kind = c.node->row->kind;
	if (kind->flush)
		note_writer(&c);
	if (!kind->write || !c.handle->writable)
		answer_err(&c, -EBADF);
	else if (kind->write_waits && kind->write_waits(c.handle, buf, size))
		call_defer(&c, run_write, kind == &kind_command);
	else
		run_write(&c);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct call c;
	struct stat st;
	int64_t at;

	call_begin(&c, req, "lseek", ino, NULL, fi);
	c.offset = (uint64_t)off;
	if (c.node->row->kind->seek) {
		at = c.node->row->kind->seek(c.handle, off, whence);
	} else { /* no holes */
		at = node_stat(c.node, &st);
		if (at == 0 && (off < 0 || off >= st.st_size))
			at = -ENXIO;
		else if (at == 0)
			at = whence == SEEK_DATA ? off : st.st_size;
	}
	if (at < 0)
		answer_err(&c, (int)at);
	else
		answer_lseek(&c, at);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct call c;

	(void)mode;
	(void)offset;
	(void)length;
	call_begin(&c, req, "fallocate", ino, NULL, fi);
	answer_err(&c, -EOPNOTSUPP);
}

/* Always readable and writable, and POLLERR|POLLPRI after a change until it is read: as sysfs. */
static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		    struct fuse_pollhandle *ph)
{
	unsigned events = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
	struct call c;

	call_begin(&c, req, "poll", ino, NULL, fi);
	if (ph)
		notify_poll_keep(c.handle, ph);
	if (atomic_load(&c.handle->seen) != atomic_load(&c.node->generation))
		events |= POLLERR | POLLPRI;
	answer_poll(&c, events);
}

/* --- the beginning -------------------------------------------------------------------- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE);
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS |
				       FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_ASYNC_DIO);
}

const struct fuse_lowlevel_ops fuse_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .access = op_access,
    .readlink = op_readlink,
    .statfs = op_statfs,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .release = op_release,
    .lseek = op_lseek,
    .fallocate = op_fallocate,
    .poll = op_poll,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .mkdir = op_mkdir,
    .rmdir = op_rmdir,
    .unlink = op_unlink,
    .rename = op_rename,
    .symlink = op_symlink,
    .link = op_link,
    .mknod = op_mknod,
};
