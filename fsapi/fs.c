// SPDX-License-Identifier: ISC
/* The parts of a tree put together, without the mount: see mount.c. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define ROOT_INO 1

static int make_root(struct fsapi *fs)
{
	struct node *root = calloc(1, sizeof(*root));
	int r;

	if (!root)
		return -ENOMEM;
	fs->root = root;
	fs->root_row =
	    (struct row){.kind = &kind_dir, .mode = 0755, .aspect = ASPECT_FIXED, .dir = DIR_ROOT};
	root->fs = fs;
	root->row = &fs->root_row;
	root->ino = ROOT_INO;
	atomic_init(&root->refs, 1);
	r = tree_build(fs->dirs);
	return r < 0 ? r : nodes_init(fs);
}

int fs_new(struct fsapi **out, struct model *model)
{
	struct fsapi *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs)
		return -ENOMEM;
	fs->model = model;
	fs->uid = geteuid();
	fs->gid = getegid();
	pthread_mutex_init(&fs->lock, NULL);
	pthread_mutex_init(&fs->handles_lock, NULL);
	closings_init(&fs->closings);
	fs->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = fs->stop_fd < 0 ? -errno : make_root(fs);
	if (r == 0)
		r = crew_open(&fs->crew);
	if (r == 0)
		r = signals_open(&fs->signals);
	if (r == 0)
		r = notifier_open(&fs->notifier, fs);
	if (r < 0) {
		fs_free(fs);
		return r;
	}
	*out = fs;
	return 0;
}

void fs_free(struct fsapi *fs)
{
	crew_close(fs->crew);
	notifier_close(fs->notifier);
	signals_close(fs->signals);
	nodes_destroy(fs);
	tree_destroy(fs->dirs);
	free(fs->root);
	free(fs->mountpoint);
	if (fs->stop_fd >= 0)
		close(fs->stop_fd);
	closings_destroy(&fs->closings);
	pthread_mutex_destroy(&fs->handles_lock);
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}
