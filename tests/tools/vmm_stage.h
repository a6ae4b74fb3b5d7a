/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_VMM_STAGE_H
#define FV_TEST_VMM_STAGE_H
/*
 * Of vmm_run: layers of its disks. The files below are named by the headers of those above, as
 * the daemon would find them.
 */
#include "tests/tools/vmm_run.h"

/* !stage NAME FILE: a new, empty qcow2 image that the next !instant puts on top */
static void disk_stage(struct run *r, char *args)
{
	struct vmm_disk_name m = {{0}};
	int fd;

	snprintf(m.name, sizeof(m.name), "%.63s", strsep(&args, " "));
	fd = open(args ? args : "", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %m", args);
	if (image_lock(fd, true, false, NULL) < 0)
		die("%s is in use", args);
	if (ask(r, VMM_DISK_STAGE, &m, sizeof(m), &fd, 1, NULL, NULL, NULL) == 0)
		fprintf(stderr, "staged %s\n", m.name);
	close(fd);
}

/* !freeze NAME */
static void disk_freeze(struct run *r, const char *name)
{
	struct vmm_disk_name m = {{0}};

	snprintf(m.name, sizeof(m.name), "%.63s", name);
	if (ask(r, VMM_DISK_FREEZE, &m, sizeof(m), NULL, 0, NULL, NULL, NULL) == 0)
		fprintf(stderr, "frozen %s\n", m.name);
}

struct rebase {
	struct run *r;
	struct vmm_disk_rebase m;
	const char *merging;
};

/* Below the top @keep layers are those of @chain from @from on. */
static int send_rebase(struct rebase *b, const struct image_chain *chain, unsigned from,
		       struct err *err)
{
	for (unsigned i = from; i < chain->n; i++) {
		const struct image_layer *l = &chain->layers[i];
		struct vmm_layer layer = {.kind = l->format == IMAGE_QCOW2 ? VMM_LAYER_QCOW2
									   : VMM_LAYER_RAW,
					  .has_data = l->data_fd >= 0};
		int fds[] = {l->fd, l->data_fd};

		must(b->r, VMM_LAYER, &layer, sizeof(layer), fds, layer.has_data ? 2 : 1);
	}
	b->m.n_layers = chain->n - from;
	if (ask(b->r, VMM_DISK_REBASE, &b->m, sizeof(b->m), NULL, 0, NULL, NULL, NULL) < 0)
		return err_set(err, -EINVAL, "not rebased");
	fprintf(stderr, "rebased %s\n", b->m.name);
	return 0;
}

static void find_chain(struct image_chain *chain, const char *path)
{
	struct err err = ERR_INIT;

	if (image_chain_find(chain, path, IMAGE_QCOW2, IMAGE_READONLY, &image_opener_plain, &err) <
	    0)
		die("%s", err.text);
}

static int rebase_merged(void *arg, struct err *err)
{
	struct rebase *b = arg;
	struct image_chain chain;
	int r;

	find_chain(&chain, b->merging);
	r = send_rebase(b, &chain, 1, err);
	image_chain_close(&chain);
	return r;
}

/*
 * !merge NAME KEEP FILE: FILE, which is below the top KEEP layers, goes down into what its header
 * names; the disk has that in its place then
 */
static void disk_merge(struct run *r, char *args)
{
	struct rebase b = {.r = r};
	struct image_chain chain;
	struct err err = ERR_INIT;
	int fd;

	snprintf(b.m.name, sizeof(b.m.name), "%.63s", strsep(&args, " "));
	b.m.keep = (uint32_t)strtoul(strsep(&args, " "), NULL, 0);
	b.merging = args;
	find_chain(&chain, args);
	if (chain.n < 2)
		die("%s has nothing below it", args);
	fd = open(chain.layers[1].path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %m", chain.layers[1].path);
	close(chain.layers[1].fd);
	chain.layers[1].fd = fd;
	if (image_commit_fds(&chain, NULL, rebase_merged, &b, NULL, &err) < 0)
		fprintf(stderr, "merge: %s\n", err.text);
	else
		fprintf(stderr, "merged %s\n", args);
}

#endif
