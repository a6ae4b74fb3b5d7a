// SPDX-License-Identifier: ISC
/*
 * The least that a file system of libfuse's low-level API can do: a root with one
 * file, `state`, that holds a word. What it needs for an open, read and close is the
 * floor to which benchmarks compare the tree. It lets the kernel remember names and
 * attributes, serves with libfuse's own loop of threads, and does no work.
 *
 *   minimal_fs MOUNTPOINT     goes to the background; ends when unmounted
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <string.h>

static const char word[] = "running\n";
enum { STATE_INO = 2 };

static void fill(fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_nlink = 1;
	st->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0444;
	st->st_size = ino == FUSE_ROOT_ID ? 0 : (off_t)strlen(word);
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.ino = STATE_INO, .attr_timeout = 3600, .entry_timeout = 3600};

	if (parent != FUSE_ROOT_ID || strcmp(name, "state") != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill(STATE_INO, &e.attr);
	fuse_reply_entry(req, &e);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	fill(ino, &st);
	fuse_reply_attr(req, &st, 3600);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	size_t len = strlen(word);

	(void)ino;
	(void)fi;
	if ((size_t)off >= len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, word + off,
			       size < len - (size_t)off ? size : len - (size_t)off);
}

static const struct fuse_lowlevel_ops ops = {
    .lookup = do_lookup,
    .getattr = do_getattr,
    .open = do_open,
    .read = do_read,
};

int main(int argc, char **argv)
{
	char *fuse_argv[] = {argv[0], "-o", "fsname=minimal_fs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, fuse_argv);
	struct fuse_loop_config config = {.clone_fd = 0, .max_idle_threads = 10};
	struct fuse_session *se;
	int status = 1;

	if (argc != 2) {
		fprintf(stderr, "usage: minimal_fs MOUNTPOINT\n");
		return 2;
	}
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!se)
		return 1;
	if (fuse_set_signal_handlers(se) == 0 && fuse_session_mount(se, argv[1]) == 0) {
		fuse_daemonize(0);
		status = fuse_session_loop_mt(se, &config) != 0;
		fuse_session_unmount(se);
		fuse_remove_signal_handlers(se);
	}
	fuse_session_destroy(se);
	return status;
}
