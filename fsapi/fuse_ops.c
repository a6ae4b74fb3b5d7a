// SPDX-License-Identifier: ISC
/*
 * What the kernel asks about files: attributes, open, read, write, poll and
 * close. Directories are in fuse_dir.c, names in fuse_names.c, answers in call.c.
 *
 * A handler never waits on its worker's thread: what may (a store with its
 * fsync, a command, a question to a VMM, storage) goes to the crew with call_defer().
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
		call_defer(&c, run_getattr, WORK_SHORT);
	else
		answer_attr(&c, c.node);
}

/* truncate(2) of an image, by a handle of its own where it comes without one. */
static int resize_image(struct call *c)
{
	const struct kind *kind = c->node->row->kind;
	struct err err = ERR_INIT;
	struct handle *h = c->handle;
	int r = 0;

	if (!h) {
		h = handle_new(c->node, O_WRONLY);
		if (!h)
			return -ENOMEM;
		r = handle_open(h, &c->caller);
	}
	if (r == 0)
		r = kind->resize(h, (uint64_t)c->st.st_size);
	if (r == 0 && h != c->handle)
		r = kind->flush(h, &c->caller, &err);
	if (h != c->handle)
		handle_put(h);
	return r;
}

static void run_setattr(struct call *c)
{
	struct err err = ERR_INIT;
	int r = node_chattr(c->node, &c->st, c->flags, &err);

	if (r < 0)
		node_complain(c->node, "chmod", &err);
	else if (c->resizes)
		r = resize_image(c);
	if (r < 0)
		answer_err(c, r);
	else
		answer_set_attr(c, c->node);
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
	if (row->kind->storage)
		c->resizes = true;
	else if (h && h->writable && row->kind->resize)
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
	else if (c.resizes)
		call_defer(&c, run_setattr, WORK_STORAGE);
	else if (c.flags)
		call_defer(&c, run_setattr, WORK_SHORT);
	else
		answer_set_attr(&c, c.node); /* times are the model's */
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
	uint64_t capacity, allocation, free_bytes;
	struct sysinfo si;
	struct call c;

	call_begin(&c, req, "statfs", ino, NULL, NULL);
	if (c.node->pool) {
		pool_space(c.node->pool, &capacity, &allocation, &free_bytes);
		vfs.f_blocks = capacity / 4096;
		vfs.f_bfree = free_bytes / 4096;
		vfs.f_bavail = vfs.f_bfree;
	} else if (sysinfo(&si) == 0) { /* what all else stands on is the host's memory */
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

static enum work_class class_of(const struct node *n)
{
	return n->row->kind->storage ? WORK_STORAGE : WORK_SHORT;
}

static void run_open(struct call *c)
{
	int r = handle_open(c->handle, &c->caller);

	if (r < 0) {
		handle_put(c->handle);
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
	c.caller = call_caller(&c);
	c.handle = handle_new(c.node, fi->flags);
	if (!c.handle) {
		answer_err(&c, -ENOMEM);
	} else if (c.node->row->flags & ROW_SLOW) {
		c.owns_handle = true;
		c.after_closings = c.node->row->kind->storage;
		call_defer(&c, run_open, class_of(c.node));
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

	caller.cancel = c->caller.cancel;
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
		call_defer(c, run_flush, class_of(c->node));
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
	if (c.node->row->kind->storage) /* another may have written it */
		call_defer(&c, run_flush, WORK_STORAGE);
	else
		flush_or_sync(&c);
}

static void run_release(struct call *c)
{
	if (c->node->row->kind->flush && has_data(c->handle))
		flush_handle(c);
	handle_put(c->handle);
	answer_err(c, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "release", ino, NULL, fi);
	/* The kernel may have forgotten the inode by now: the handle holds the node. */
	c.node = c.handle->node;
	if (c.node->row->kind->storage || (c.node->row->kind->flush && has_data(c.handle))) {
		c.owns_handle = true;
		c.closes = c.node->row->kind->storage;
		call_defer(&c, run_release, class_of(c.node));
		return;
	}
	node_ref(c.node);
	handle_put(c.handle);
	c.handle = NULL;
	answer_err(&c, 0);
	node_put(c.node);
}

/* --- read, write ---------------------------------------------------------------------- */

static void run_read(struct call *c)
{
	char small[4096];
	char *buf = small;
	_cleanup_free_ char *big = NULL;
	ssize_t n;

	if (c->size > sizeof(small)) {
		big = malloc(c->size);
		buf = big;
	}
	n = buf ? c->node->row->kind->read(c->handle, buf, c->size, c->offset) : -ENOMEM;
	if (n < 0)
		answer_err(c, (int)n);
	else
		answer_buf(c, buf, (size_t)n);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "read", ino, NULL, fi);
	c.size = size;
	c.offset = (uint64_t)off;
	if (c.node->row->kind->storage)
		call_defer(&c, run_read, WORK_STORAGE);
	else
		run_read(&c);
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
	c.after_closings = !kind->storage;
	if (kind == &kind_document)
		note_writer(&c);
	if (!kind->write || !c.handle->writable)
		answer_err(&c, -EBADF);
	else if (kind->write_waits && kind->write_waits(c.handle, buf, size))
		call_defer(&c, run_write, kind == &kind_command ? WORK_COMMAND : class_of(c.node));
	else
		run_write(&c);
}

static void run_lseek(struct call *c)
{
	const struct kind *kind = c->node->row->kind;
	int64_t offset = (int64_t)c->offset, at;
	int whence = (int)c->flags;
	struct stat st;

	if (kind->seek) {
		at = kind->seek(c->handle, offset, whence);
	} else { /* no holes */
		at = node_stat(c->node, &st);
		if (at == 0 && (offset < 0 || offset >= st.st_size))
			at = -ENXIO;
		else if (at == 0)
			at = whence == SEEK_DATA ? offset : st.st_size;
	}
	if (at < 0)
		answer_err(c, (int)at);
	else
		answer_lseek(c, at);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "lseek", ino, NULL, fi);
	c.offset = (uint64_t)off;
	c.flags = (unsigned)whence;
	if (c.node->row->kind->storage)
		call_defer(&c, run_lseek, WORK_STORAGE);
	else
		run_lseek(&c);
}

static void run_fallocate(struct call *c)
{
	int r;

	atomic_fetch_add(&c->node->storing, 1);
	r = c->node->row->kind->allocate(c->handle, (int)c->flags, c->offset, c->size);
	atomic_fetch_sub(&c->node->storing, 1);
	answer_err(c, r);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req, "fallocate", ino, NULL, fi);
	c.flags = (unsigned)mode;
	c.offset = (uint64_t)offset;
	c.size = (size_t)length;
	if (!c.node->row->kind->allocate)
		answer_err(&c, -EOPNOTSUPP);
	else if (!c.handle->writable)
		answer_err(&c, -EBADF);
	else
		call_defer(&c, run_fallocate, class_of(c.node));
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
