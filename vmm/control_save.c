// SPDX-License-Identifier: ISC
/*
 * VMM_SAVE and VMM_LOAD: a guest's state into a file, and a machine out of one. Memory is not
 * written here: the daemon has its descriptor, and copies it while the guest stands still.
 * It is read here, as who maps it is here.
 *
 * A state is good for one continuation: when its guest has gone on, the disks have, too. So
 * the file is marked as used, on stable storage, before the first vcpu runs. Whoever finds
 * one that is not marked knows that no guest ever ran from it, whatever was killed in between.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_MODULE "control"
#include "storage/block.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm/control_int.h"
#include "vmm/save.h"

#define READ_BYTES (8u << 20)

static void state_freep(struct state **st)
{
	state_free(*st);
}
#define _cleanup_state_ __attribute__((cleanup(state_freep)))

/* --- saving --------------------------------------------------------------------------------- */

/* What the guest's writes have left in memory of the host reaches the disk. */
static int flush_disk(struct block_queue *queue, struct disk *disk, struct err *err)
{
	int r;

	if (disk->job)
		return err_set(err, -EBUSY, "disk %s is being changed", disk->name);
	if (!disk->graph)
		return err_set(err, -EBUSY, "disk %s is empty: put something in, or detach it",
			       disk->name);
	if (disk->readonly || disk->cache == VMM_CACHE_UNSAFE)
		return 0;
	r = block_flush(queue, disk->graph->fleece);
	return r < 0 ? err_set(err, r, "disk %s: %s", disk->name, strerror(-r)) : 0;
}

static int flush_disks(struct control *c, struct err *err)
{
	struct block_queue *queue;
	int r = block_queue_new_sync(&queue, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; r == 0 && i < nitems(c->config.disks); i++)
		if (c->config.disks[i])
			r = flush_disk(queue, c->config.disks[i], err);
	block_queue_free(queue);
	return r;
}

int control_save(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	_cleanup_state_ struct state *st = state_new();
	const void *data;
	uint64_t bytes;
	size_t len;
	int r;

	if (!c->has_vm || c->reset_at != 0)
		return err_set(err, -EBUSY, "the machine is about to be reset");
	if (!st)
		return err_set(err, -ENOMEM, "no memory");
	r = flush_disks(c, err);
	if (r < 0)
		return r;
	vm_save(&c->vm, st);
	r = state_finish(st, &data, &len, err);
	if (r < 0)
		return r;
	r = file_pwrite_all(req->fds[0], data, len, 0);
	if (r < 0)
		return err_set(err, r, "cannot write the state: %s", strerror(-r));
	bytes = len;
	reply_put(reply, &bytes, sizeof(bytes));
	return 0;
}

/* --- loading -------------------------------------------------------------------------------- */

/* What the file has as data, into memory, which is all zeroes. */
static int read_piece(int fd, uint8_t *to, off_t start, off_t end)
{
	for (off_t at = start, hole; at < end; at = hole) {
		at = lseek(fd, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		if (at >= end)
			return 0;
		hole = lseek(fd, at, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if (hole > end)
			hole = end;
		for (off_t n; at < hole; at += n) {
			int r;

			n = hole - at < (off_t)READ_BYTES ? hole - at : (off_t)READ_BYTES;
			r = file_pread_all(fd, to + (at - start), (size_t)n, at);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int read_memory(struct control *c, int fd, struct err *err)
{
	const struct memory *m = &c->memory;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "saved memory: fstat");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->ram_top)
		return err_set(err, -EINVAL, "saved memory: it has %lld bytes, not %llu",
			       (long long)st.st_size, (unsigned long long)m->ram_top);
	r = memory_map(&c->memory, err);
	if (r < 0)
		return r;
	r = read_piece(fd, m->low, 0, (off_t)m->low_bytes);
	if (r == 0 && m->high_bytes)
		r = read_piece(fd, m->high, (off_t)(m->ram_top - m->high_bytes), st.st_size);
	return r < 0 ? err_set(err, r, "saved memory: %s", strerror(-r)) : 0;
}

int control_load(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	_cleanup_state_ struct state *st = NULL;
	int r;

	(void)reply;
	if (req->n_fds < 2)
		return err_set(err, -EOPNOTSUPP, "not yet");
	if (!c->configured || c->has_vm)
		return err_set(err, -EINVAL, "no configuration yet, or loaded already");
	r = state_read_file(&st, req->fds[0], err);
	if (r == 0)
		r = vm_load_config(&c->config, st, err);
	if (r == 0)
		r = read_memory(c, req->fds[1], err);
	if (r == 0)
		r = control_make_bare(c, err);
	if (r < 0)
		return r;
	vm_pause(&c->vm);
	vm_load(&c->vm, st);
	r = state_result(st, err);
	if (r == 0) {
		c->loaded_fd = take_fd(&req->fds[0]);
		return 0;
	}
	vm_destroy(&c->vm);
	c->has_vm = false;
	memory_wipe(&c->memory);
	return r;
}

int control_load_mark(struct control *c, struct err *err)
{
	const uint32_t used = 1;
	int r = file_pwrite_all(c->loaded_fd, &used, sizeof(used), VMM_STATE_USED_AT);

	if (r == 0 && fdatasync(c->loaded_fd) < 0)
		r = -errno;
	if (r < 0)
		return err_set(err, r, "cannot mark the saved state as used: %s", strerror(-r));
	close(take_fd(&c->loaded_fd));
	return 0;
}
