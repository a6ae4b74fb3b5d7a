/* SPDX-License-Identifier: ISC */
#ifndef FV_FSAPI_CALL_H
#define FV_FSAPI_CALL_H
/*
 * A request of the kernel's from its arrival to its one answer. Only the files
 * that speak FUSE include this: fuse_*.c, call.c, mount.c.
 *
 * A handler fills a struct call on its stack and either answers it (every
 * answer_*() ends the call) or hands it to the crew with call_defer(), which
 * copies what it needs. What waits for storage may be answered before it is done,
 * when its client is killed: its own answer, when it comes, is then dropped.
 */
#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>

#include "fsapi/fs.h"

struct call {
	struct work work; /* first: the crew's part */
	struct fsapi *fs;
	fuse_req_t req;
	const char *op; /* name, for --trace */
	char *path;	/* for --trace; NULL without */
	uint64_t start_ns;
	struct node *node, *node2; /* deferred: references */
	struct handle *handle;
	const char *name, *name2; /* deferred: copies */
	const char *data;	  /* deferred: a copy */
	size_t size;
	uint64_t offset;
	unsigned flags; /* the operation's own */
	mode_t mode;
	struct stat st;
	struct fuse_file_info fi;
	bool owns_handle;    /* until it is answered */
	bool resizes;	     /* setattr: to st.st_size */
	bool closes;	     /* release of an image */
	bool deadly;	     /* only a signal that ends the client cancels it */
	bool after_closings; /* begins when what was closed before is closed (closing.c) */

	void (*run)(struct call *c); /* deferred */
	struct caller caller;
	struct cancel cancel;  /* an interrupt requests it */
	struct cancel storage; /* WORK_STORAGE: what its work is given */
	struct interrupted interrupted;
	struct closing closing;
	bool deferred;
	bool holds_handle; /* a reference, until it is done */
	bool answered;	   /* before it was done; cancel.lock */
};

void call_begin(struct call *c, fuse_req_t req, const char *op, fuse_ino_t ino, const char *name,
		struct fuse_file_info *fi);
/*
 * Runs @run on a thread of the crew, with a copy of @c whose caller has his groups (but
 * for what is done with an open image) and a token that an interrupt requests. @c is done with.
 * Where that cannot be, the request is answered with why, and a handle that
 * was to be opened or released is freed.
 */
void call_defer(struct call *c, void (*run)(struct call *c), enum work_class class);
/* Who asks, without groups: for what is done on the worker itself. */
struct caller call_caller(const struct call *c);
/* The same with a copy of the groups, which the caller frees. */
struct caller call_caller_groups(const struct call *c);
/* 0, or -EACCES where the kernel leaves checking to us and he may not (R_OK, W_OK, X_OK). */
int call_may(const struct call *c, struct node *n, int mask);

void answer_err(struct call *c, int r); /* 0 or -errno */
void answer_attr(struct call *c, struct node *n);
/*
 * The same of a setattr. The kernel takes what it is given here even when it was told meanwhile
 * to forget what it has (of a getattr it does not): so it is not to keep it.
 */
void answer_set_attr(struct call *c, struct node *n);
/* Gives the node (a reference, consumed) to the kernel. */
void answer_entry(struct call *c, struct node *n);
/* Gives the handle to the kernel, or drops it. */
void answer_open(struct call *c, struct handle *h);
void answer_create(struct call *c, struct node *n, struct handle *h);
int answer_buf(struct call *c, const void *data, size_t len); /* <0: nobody wanted it */
void answer_write(struct call *c, size_t len);
void answer_link(struct call *c, const char *target);
void answer_lseek(struct call *c, int64_t offset);
void answer_poll(struct call *c, unsigned events);
void answer_statfs(struct call *c, const struct statvfs *vfs);
/* Traces and frees what was answered by hand. */
void answer_end(struct call *c, int r);

/* Fills an entry as the kernel is to remember it; 0 or -errno. Takes no reference. */
int entry_fill(struct node *n, struct fuse_entry_param *e);
/* Counts a lookup of the kernel's, whose reference is the caller's one. */
static inline void entry_given(struct node *n)
{
	atomic_fetch_add(&n->lookups, 1);
}

static inline struct node *node_of(struct fsapi *fs, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? fs->root : (struct node *)(uintptr_t)ino;
}
static inline fuse_ino_t id_of(const struct node *n)
{
	return n->parent ? (fuse_ino_t)(uintptr_t)n : FUSE_ROOT_ID;
}

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
}

/* Handlers of fuse_dir.c and, from op_unlink() on, of fuse_names.c. */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
/* The table, in fuse_ops.c. */
extern const struct fuse_lowlevel_ops fuse_ops;

#endif
