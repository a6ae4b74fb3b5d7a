// SPDX-License-Identifier: ISC
/*
 * A raw node: a regular file or a block device.
 *
 * Every request becomes a chain of ios: a short transfer is continued, FUA on
 * zeroes is followed by a sync, an operation that the file system does not know is
 * tried in the next way (see zero_ways). Where O_DIRECT needs alignment that a
 * request has not, it goes through block_bounce.c. After a failed sync every later
 * one fails too: the kernel has dropped the dirty pages and would say "done".
 *
 * System calls beyond those of the engines: fstat statx fcntl ioctl lseek (open),
 * lseek (status), ftruncate (resize).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "storage/block_file.h"
#include "util/cleanup.h"

#define ZERO_CHUNK (64 << 10)
#define ZERO_IOVS  16

static const uint8_t zeroes[ZERO_CHUNK] __attribute__((aligned(4096)));

/* Ways to have a range read as zeroes; each needs what it says of the range. */
static const struct zero_way {
	int mode;
	unsigned known_bad; /* bit in ->unsupported */
	bool extends;	    /* works beyond the end of the file */
	bool frees;
} zero_ways[] = {
    {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, false, true},
    {FALLOC_FL_ZERO_RANGE, 2, true, false},
    {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, false, false},
};

static struct file_room *room_of(struct block_req *req)
{
	return block_req_room(req);
}

/* Ends @req and lets those go on that wait for it. */
void file_req_end(struct block_req *req, int result)
{
	struct block_file *file = (struct block_file *)req->node;
	uint64_t end = req->offset + req->bytes;

	if (!result && file->block.grow &&
	    (req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES))
		file_grown(file, end);
	if (file->direct && req->op != BLOCK_READ && req->op != BLOCK_FLUSH)
		bounce_gate_leave(file, req);
	block_req_end(req, result);
}

void file_grown(struct block_file *file, uint64_t end)
{
	uint64_t size = block_size(&file->block);

	while (end > size &&
	       !__atomic_compare_exchange_n(&file->block.info.bytes, &size, end, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
}

/* --- flush ------------------------------------------------------------------------------ */

static void flush_done(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct block_file *file = (struct block_file *)req->node;

	if (result == -EINTR)
		result = -ECANCELED; /* nothing else interrupts it */
	if (result < 0 && result != -ECANCELED)
		__atomic_store_n(&file->sync_error, result, __ATOMIC_RELEASE);
	file_req_end(req, result);
}

static void file_flush(struct block_file *file, struct block_req *req)
{
	struct queue_io *io = block_req_io(req);
	int r = __atomic_load_n(&file->sync_error, __ATOMIC_ACQUIRE);

	if (r < 0 || file->no_flush) {
		file_req_end(req, r);
		return;
	}
	*io = (struct queue_io){.kind = QUEUE_FSYNC, .fd = file->fd, .done = flush_done};
	file_io_submit(req, io);
}

/* --- reading and writing ------------------------------------------------------------------ */

/* The part of @req's buffers from @skip on, into @iov; returns how many entries. */
static unsigned iov_tail(const struct block_req *req, uint64_t skip, struct iovec *iov)
{
	unsigned i, n = 0;

	for (i = 0; i < req->n_iov && n < IOV_MAX; i++) {
		if (skip >= req->iov[i].iov_len) {
			skip -= req->iov[i].iov_len;
			continue;
		}
		iov[n].iov_base = (char *)req->iov[i].iov_base + skip;
		iov[n++].iov_len = req->iov[i].iov_len - skip;
		skip = 0;
	}
	return n;
}

static void zero_tail(const struct block_req *req, uint64_t skip)
{
	unsigned i;

	for (i = 0; i < req->n_iov; i++) {
		size_t len = req->iov[i].iov_len;

		if (skip < len)
			memset((char *)req->iov[i].iov_base + skip, 0, len - skip);
		skip -= skip < len ? skip : len;
	}
}

static void rw_done(struct queue_io *io, int result);

static void rw_end(struct block_req *req, int result)
{
	free(take_ptr(room_of(req)->buffer));
	file_req_end(req, result);
}

/* Moves what has not been moved yet. */
static void rw_continue(struct block_file *file, struct block_req *req)
{
	struct file_room *room = room_of(req);
	struct queue_io *io = block_req_io(req);
	unsigned room_iovs = req->n_iov < IOV_MAX ? req->n_iov : IOV_MAX;

	io->iov = req->iov;
	io->n_iov = req->n_iov;
	if (room->moved || req->n_iov > IOV_MAX) {
		if (!room->buffer)
			room->buffer = calloc(room_iovs, sizeof(struct iovec));
		if (!room->buffer) {
			rw_end(req, -ENOMEM);
			return;
		}
		io->n_iov = iov_tail(req, room->moved, room->buffer);
		io->iov = room->buffer;
	}
	io->kind = req->op == BLOCK_READ ? QUEUE_READV : QUEUE_WRITEV;
	io->fd = file->fd;
	io->flags = (req->flags & BLOCK_FUA) && !file->no_flush ? RWF_DSYNC : 0;
	io->offset = req->offset + room->moved;
	io->cached = !file->direct && !file->device && !io->flags;
	io->done = rw_done;
	file_io_submit(req, io);
}

static void rw_done(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct block_file *file = (struct block_file *)req->node;
	struct file_room *room = room_of(req);

	if (result == -EINTR || result == -EAGAIN)
		result = 0;
	else if (result == 0 && req->op == BLOCK_READ) {
		zero_tail(req, room->moved); /* beyond the end of the file */
		result = req->bytes - room->moved;
	} else if (result == 0)
		result = -EIO;
	if (result < 0) {
		rw_end(req, result);
		return;
	}
	room->moved += result;
	if (room->moved < req->bytes)
		rw_continue(file, req);
	else
		rw_end(req, 0);
}

static void file_rw(struct block_file *file, struct block_req *req)
{
	if (file->direct && !bounce_aligned(file, req)) {
		bounce_submit(file, req);
		return;
	}
	*room_of(req) = (struct file_room){0};
	rw_continue(file, req);
}

/* --- zeroes and discard --------------------------------------------------------------------- */

static void write_zero_chunk(struct block_file *file, struct block_req *req);

static void zero_fua_done(struct queue_io *io, int result)
{
	flush_done(io, result);
}

static void zero_end(struct block_req *req, int result)
{
	struct block_file *file = (struct block_file *)req->node;
	struct queue_io *io = block_req_io(req);

	free(take_ptr(room_of(req)->buffer));
	if (result < 0 || !(req->flags & BLOCK_FUA) || file->no_flush) {
		file_req_end(req, result);
		return;
	}
	*io = (struct queue_io){.kind = QUEUE_FSYNC, .fd = file->fd, .done = zero_fua_done};
	file_io_submit(req, io);
}

static void zero_chunk_done(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct file_room *room = room_of(req);

	if (result == 0)
		result = -EIO;
	if (result == -EINTR || result == -EAGAIN)
		result = 0;
	if (result < 0) {
		zero_end(req, result);
		return;
	}
	room->moved += result;
	if (room->moved < req->bytes)
		write_zero_chunk((struct block_file *)req->node, req);
	else
		zero_end(req, 0);
}

/* Where nothing cheaper is known: writes zeroes, up to 1 MiB at a time. */
static void write_zero_chunk(struct block_file *file, struct block_req *req)
{
	struct file_room *room = room_of(req);
	struct queue_io *io = block_req_io(req);
	struct iovec *iov = room->buffer;
	uint64_t left = req->bytes - room->moved;
	unsigned n;

	for (n = 0; n < ZERO_IOVS && left; n++) {
		iov[n].iov_base = (void *)zeroes;
		iov[n].iov_len = left < ZERO_CHUNK ? left : ZERO_CHUNK;
		left -= iov[n].iov_len;
	}
	*io = (struct queue_io){.kind = QUEUE_WRITEV,
				.fd = file->fd,
				.iov = iov,
				.n_iov = n,
				.offset = req->offset + room->moved,
				.done = zero_chunk_done};
	file_io_submit(req, io);
}

static void write_zeroes_plainly(struct block_file *file, struct block_req *req)
{
	struct file_room *room = room_of(req);

	room->moved = 0;
	if (file->direct && !bounce_aligned(file, req)) {
		bounce_submit(file, req);
		return;
	}
	room->buffer = calloc(ZERO_IOVS, sizeof(struct iovec));
	if (room->buffer)
		write_zero_chunk(file, req);
	else
		zero_end(req, -ENOMEM);
}

static bool way_fits(const struct block_file *file, const struct block_req *req,
		     const struct zero_way *way)
{
	uint64_t end = req->offset + req->bytes;

	if (__atomic_load_n(&file->unsupported, __ATOMIC_RELAXED) & way->known_bad)
		return false;
	if (way->frees && !(req->flags & BLOCK_UNMAP))
		return false;
	if (!way->extends && end > block_size(&file->block))
		return false;
	return !file->device || (req->offset | req->bytes) % file->block.info.logical_block == 0;
}

static void zero_next_way(struct block_file *file, struct block_req *req);

static void zero_way_done(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct block_file *file = (struct block_file *)req->node;
	struct file_room *room = room_of(req);

	if (result == -EOPNOTSUPP || result == -ENODEV) {
		__atomic_fetch_or(&file->unsupported, zero_ways[room->way].known_bad,
				  __ATOMIC_RELAXED);
		room->way++;
		zero_next_way(file, req);
	} else if (result == -EINTR || result == -EAGAIN) {
		zero_next_way(file, req);
	} else {
		zero_end(req, result);
	}
}

static void zero_next_way(struct block_file *file, struct block_req *req)
{
	struct file_room *room = room_of(req);
	struct queue_io *io = block_req_io(req);

	while (room->way < nitems(zero_ways) && !way_fits(file, req, &zero_ways[room->way]))
		room->way++;
	if (room->way == nitems(zero_ways)) {
		write_zeroes_plainly(file, req);
		return;
	}
	*io = (struct queue_io){.kind = QUEUE_FALLOCATE,
				.fd = file->fd,
				.flags = zero_ways[room->way].mode,
				.offset = req->offset,
				.bytes = req->bytes,
				.done = zero_way_done};
	file_io_submit(req, io);
}

static void discard_done(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct block_file *file = (struct block_file *)req->node;

	if (result == -EOPNOTSUPP || result == -ENODEV) {
		__atomic_fetch_or(&file->unsupported, 1, __ATOMIC_RELAXED);
		result = 0; /* a hint that was not taken */
	}
	if (result == -EINTR || result == -EAGAIN)
		result = 0;
	file_req_end(req, result);
}

static void file_discard(struct block_file *file, struct block_req *req)
{
	struct queue_io *io = block_req_io(req);
	uint64_t unit = file->device ? file->block.info.logical_block : 1;
	uint64_t from = (req->offset + unit - 1) / unit * unit;
	uint64_t to = (req->offset + req->bytes) / unit * unit;

	if (to > block_size(&file->block))
		to = block_size(&file->block);
	if (from >= to || (__atomic_load_n(&file->unsupported, __ATOMIC_RELAXED) & 1)) {
		file_req_end(req, 0);
		return;
	}
	*io = (struct queue_io){.kind = QUEUE_FALLOCATE,
				.fd = file->fd,
				.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				.offset = from,
				.bytes = to - from,
				.done = discard_done};
	file_io_submit(req, io);
}

/* Past the gate (where there is one): the request may touch the file. */
void file_start(struct block_req *req)
{
	struct block_file *file = (struct block_file *)req->node;

	switch (req->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		file_rw(file, req);
		break;
	case BLOCK_WRITE_ZEROES:
		*room_of(req) = (struct file_room){0};
		zero_next_way(file, req);
		break;
	case BLOCK_DISCARD:
		file_discard(file, req);
		break;
	case BLOCK_FLUSH:
		file_flush(file, req);
		break;
	}
}

static void file_submit(struct block *block, struct block_req *req)
{
	struct block_file *file = (struct block_file *)block;

	if (file->direct && req->op != BLOCK_READ && req->op != BLOCK_FLUSH)
		bounce_gate_enter(file, req);
	else
		file_start(req);
}

/* --- the node --------------------------------------------------------------------------------- */

static int file_status(struct block *block, uint64_t offset, uint64_t bytes,
		       struct block_extent *extent)
{
	struct block_file *file = (struct block_file *)block;
	off_t data, hole;

	if (file->device)
		return 0;
	data = lseek(file->fd, offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		data = offset + bytes; /* a hole up to the end */
	} else if (data < 0) {
		return 0; /* a file system that does not tell */
	}
	if ((uint64_t)data > offset) {
		uint64_t len = data - offset;

		*extent = (struct block_extent){
		    .bytes = len < bytes ? len : bytes, .zero = true, .own = true};
		return 0;
	}
	hole = lseek(file->fd, offset, SEEK_HOLE);
	if (hole > (off_t)offset && (uint64_t)hole - offset < bytes)
		extent->bytes = hole - offset;
	return 0;
}

/* The size as the kernel has it now. */
static int read_size(const struct block_file *file, uint64_t *bytes)
{
	struct stat st;

	if (file->device)
		return ioctl(file->fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
	if (fstat(file->fd, &st) < 0)
		return -errno;
	*bytes = st.st_size;
	return 0;
}

static int file_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct block_file *file = (struct block_file *)block;
	uint64_t now;
	int r;

	if (bytes && !file->device) {
		if (block->info.readonly)
			return err_set(err, -EROFS, "opened for reading only");
		if (ftruncate(file->fd, bytes) < 0) {
			r = -errno;
			return err_set(err, r, "cannot set the size of the file: %s", err_name(r));
		}
	}
	r = read_size(file, &now);
	if (r < 0)
		return err_set(err, r, "cannot read the size: %s", err_name(r));
	if (bytes && now != bytes)
		return err_set(err, -ENOTSUP, "a block device of %llu bytes cannot be resized here",
			       (unsigned long long)now);
	block_set_size(block, now);
	return 0;
}

static void file_close(struct block *block)
{
	struct block_file *file = (struct block_file *)block;

	bounce_gate_destroy(file);
	if (file->fd >= 0)
		close(file->fd);
	free(file);
}

/* One that waits at the gate has no io yet, and none is found; then its first one is refused. */
static void file_cancel(struct block *block, struct block_req *req)
{
	(void)block;
	queue_cancel(req->queue, block_req_io(req));
}

static const struct block_ops file_ops = {
    .name = "file",
    .submit = file_submit,
    .cancel = file_cancel,
    .status = file_status,
    .resize = file_resize,
    .close = file_close,
};

static int learn_device(struct block_file *file, struct err *err)
{
	struct block_info *info = &file->block.info;
	int logical = 512;
	unsigned physical = 512;

	if (ioctl(file->fd, BLKSSZGET, &logical) < 0 || ioctl(file->fd, BLKPBSZGET, &physical) < 0)
		return err_set(err, -errno, "not a usable block device");
	if (logical < 512 || logical > 4096 || (logical & (logical - 1)))
		return err_set(err, -EINVAL, "unsupported block size %d", logical);
	info->logical_block = logical;
	info->physical_block = physical < (unsigned)logical ? (unsigned)logical : physical;
	file->align_offset = logical;
	file->align_memory = logical;
	return 0;
}

static void learn_direct_alignment(struct block_file *file)
{
	struct statx stx = {0};

	file->align_offset = file->align_memory = 4096; /* safe wherever the kernel does not say */
#ifdef STATX_DIOALIGN
	if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align &&
	    stx.stx_dio_offset_align <= 4096 && stx.stx_dio_mem_align <= 4096) {
		file->align_offset = stx.stx_dio_offset_align;
		file->align_memory = stx.stx_dio_mem_align;
	}
#else
	(void)stx;
#endif
}

static int set_direct(struct block_file *file, struct err *err)
{
	int fl = fcntl(file->fd, F_GETFL);

	if (fl < 0 || fcntl(file->fd, F_SETFL, fl | O_DIRECT) < 0)
		return err_set(err, -EINVAL, "the file system refuses O_DIRECT");
	file->direct = true;
	if (!file->device)
		learn_direct_alignment(file);
	return 0;
}

static int learn(struct block_file *file, unsigned flags, struct err *err)
{
	struct block_info *info = &file->block.info;
	struct stat st;
	int r;

	if (fstat(file->fd, &st) < 0)
		return err_set(err, -errno, "cannot stat the disk");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "neither a regular file nor a block device");
	file->device = S_ISBLK(st.st_mode);
	info->logical_block = 512;
	info->physical_block = 4096;
	info->readonly = flags & BLOCK_OPEN_READONLY;
	info->discard = info->write_zeroes = !info->readonly;
	file->block.grow = (flags & BLOCK_OPEN_GROW) && !file->device;
	file->no_flush = flags & BLOCK_OPEN_NO_FLUSH;
	if (file->device) {
		r = learn_device(file, err);
		if (r < 0)
			return r;
	}
	r = read_size(file, &info->bytes);
	if (r < 0)
		return err_set(err, r, "cannot read the disk's size");
	return flags & BLOCK_OPEN_DIRECT ? set_direct(file, err) : 0;
}

int block_file_fd(const struct block *block)
{
	return block->ops == &file_ops ? ((const struct block_file *)block)->fd : -1;
}

int block_file_open(struct block **block, int fd, unsigned flags, struct err *err)
{
	struct block_file *file = calloc(1, sizeof(*file));
	int r;

	if (!file) {
		close(fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	file->block.ops = &file_ops;
	file->fd = fd;
	bounce_gate_init(file);
	r = learn(file, flags, err);
	if (r < 0) {
		file_close(&file->block);
		return r;
	}
	*block = &file->block;
	return 0;
}
