// SPDX-License-Identifier: ISC
/*
 * Requests that O_DIRECT (or a disk of 4096-byte blocks) cannot take as they are.
 *
 * They go through an aligned buffer, piece by piece of at most BOUNCE_MAX. A
 * write whose ends are not on block boundaries reads the blocks first and
 * writes them back changed. Two such writes, or one and an aligned write, to the same
 * block would lose data, so all writers of a direct node pass a gate: aligned
 * ones freely, an unaligned one alone, first come first served. Requests that
 * wait are continued on their own queue's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/block_file.h"
#include "util/cleanup.h"

#define BOUNCE_MAX (256u << 10)

static bool ends_aligned(const struct block_file *file, const struct block_req *req)
{
	return (req->offset | req->bytes) % file->align_offset == 0;
}

bool bounce_aligned(const struct block_file *file, const struct block_req *req)
{
	unsigned i;

	if (!ends_aligned(file, req))
		return false;
	if (req->op == BLOCK_WRITE_ZEROES)
		return true;
	for (i = 0; i < req->n_iov; i++)
		if ((uintptr_t)req->iov[i].iov_base % file->align_memory ||
		    req->iov[i].iov_len % file->align_offset)
			return false;
	return true;
}

/* --- the gate ----------------------------------------------------------------------------- */

static bool wants_alone(const struct block_file *file, const struct block_req *req)
{
	return !ends_aligned(file, req) &&
	       (req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES);
}

void bounce_gate_init(struct block_file *file)
{
	pthread_mutex_init(&file->gate_lock, NULL);
	file->gate_last = &file->gate_first;
}

void bounce_gate_destroy(struct block_file *file)
{
	pthread_mutex_destroy(&file->gate_lock);
}

/* Under the lock: lets @req in if it may go now. */
static bool admit(struct block_file *file, const struct block_req *req)
{
	bool alone = wants_alone(file, req);

	if (file->gate_alone || (alone && file->gate_inside))
		return false;
	file->gate_alone = alone;
	file->gate_inside++;
	return true;
}

static void resume(struct queue_io *io, int result)
{
	(void)result;
	file_start(block_io_req(io));
}

void bounce_gate_enter(struct block_file *file, struct block_req *req)
{
	bool go;

	pthread_mutex_lock(&file->gate_lock);
	go = !file->gate_first && admit(file, req);
	if (!go) {
		req->next = NULL;
		*file->gate_last = req;
		file->gate_last = &req->next;
	}
	pthread_mutex_unlock(&file->gate_lock);
	if (go)
		file_start(req);
}

void bounce_gate_leave(struct block_file *file, struct block_req *req)
{
	struct block_req *next;

	(void)req;
	LOCK_SCOPE(&file->gate_lock);
	file->gate_inside--;
	file->gate_alone = false; /* whoever was alone is the one that leaves */
	while ((next = file->gate_first) && admit(file, next)) {
		file->gate_first = next->next;
		if (!file->gate_first)
			file->gate_last = &file->gate_first;
		block_req_io(next)->done = resume;
		queue_post(next->queue, block_req_io(next), 0);
	}
}

/* --- the buffer --------------------------------------------------------------------------- */

/* Copies between the request's buffers at @pos and @mem. */
static void copy(const struct block_req *req, uint64_t pos, uint8_t *mem, uint64_t len, bool out)
{
	unsigned i;

	if (req->op == BLOCK_WRITE_ZEROES) {
		memset(mem, 0, len);
		return;
	}
	for (i = 0; i < req->n_iov && len; i++) {
		uint64_t have = req->iov[i].iov_len, n;
		uint8_t *p = req->iov[i].iov_base;

		if (pos >= have) {
			pos -= have;
			continue;
		}
		n = have - pos < len ? have - pos : len;
		if (out)
			memcpy(p + pos, mem, n);
		else
			memcpy(mem, p + pos, n);
		mem += n;
		len -= n;
		pos = 0;
	}
}

static struct file_room *room_of(struct block_req *req)
{
	return block_req_room(req);
}

/* How much of the request the present piece covers, and where it lies in the buffer. */
static uint64_t piece_bytes(struct block_req *req, uint64_t *at)
{
	struct file_room *room = room_of(req);
	uint64_t pos = req->offset + room->moved;
	uint64_t left = req->bytes - room->moved;
	uint64_t end = room->bounce_from + room->bounce_bytes;

	*at = pos - room->bounce_from;
	return left < end - pos ? left : end - pos;
}

static void piece_read(struct queue_io *io, int result);
static void piece_written(struct queue_io *io, int result);

static void bounce_end(struct block_req *req, int result)
{
	free(take_ptr(room_of(req)->buffer));
	file_req_end(req, result);
}

static void piece_io(struct block_file *file, struct block_req *req, enum queue_io_kind kind)
{
	struct file_room *room = room_of(req);
	struct queue_io *io = block_req_io(req);
	struct iovec *iov = room->buffer; /* the head of the buffer holds the iovec */

	iov->iov_base = (uint8_t *)room->buffer + 4096;
	iov->iov_len = room->bounce_bytes;
	*io = (struct queue_io){.kind = kind,
				.fd = file->fd,
				.iov = iov,
				.n_iov = 1,
				.offset = room->bounce_from,
				.done = kind == QUEUE_READV ? piece_read : piece_written};
	if (kind == QUEUE_WRITEV && (req->flags & BLOCK_FUA) && !file->no_flush)
		io->flags = RWF_DSYNC;
	file_io_submit(req, io);
}

static void next_piece(struct block_file *file, struct block_req *req)
{
	struct file_room *room = room_of(req);
	uint64_t unit = file->align_offset;
	uint64_t pos = req->offset + room->moved;
	uint64_t end = (req->offset + req->bytes + unit - 1) / unit * unit;
	uint64_t at, n;

	room->bounce_from = pos / unit * unit;
	room->bounce_bytes = end - room->bounce_from;
	if (room->bounce_bytes > BOUNCE_MAX)
		room->bounce_bytes = BOUNCE_MAX;
	n = piece_bytes(req, &at);
	if (req->op == BLOCK_READ || n < room->bounce_bytes) {
		piece_io(file, req, QUEUE_READV);
		return;
	}
	copy(req, room->moved, (uint8_t *)room->buffer + 4096, n, false);
	piece_io(file, req, QUEUE_WRITEV);
}

static void piece_done(struct block_file *file, struct block_req *req, uint64_t n)
{
	struct file_room *room = room_of(req);

	room->moved += n;
	if (room->moved < req->bytes)
		next_piece(file, req);
	else
		bounce_end(req, 0);
}

static void piece_read(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct block_file *file = (struct block_file *)req->node;
	struct file_room *room = room_of(req);
	uint8_t *mem = (uint8_t *)room->buffer + 4096;
	uint64_t at, n = piece_bytes(req, &at);

	if (result == -EINTR || result == -EAGAIN) {
		piece_io(file, req, QUEUE_READV);
		return;
	}
	if (result < 0) {
		bounce_end(req, result);
		return;
	}
	/* A direct read is short only at the end of the file. */
	memset(mem + result, 0, room->bounce_bytes - result);
	copy(req, room->moved, mem + at, n, req->op == BLOCK_READ);
	if (req->op == BLOCK_READ)
		piece_done(file, req, n);
	else
		piece_io(file, req, QUEUE_WRITEV);
}

/* Rounding up must not leave a file longer than its disk. */
static int trim_tail(const struct block_file *file, const struct file_room *room)
{
	uint64_t size = block_size(&file->block);

	if (file->device || file->block.grow || room->bounce_from + room->bounce_bytes <= size)
		return 0;
	return ftruncate(file->fd, size) < 0 ? -errno : 0;
}

static void piece_written(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct block_file *file = (struct block_file *)req->node;
	struct file_room *room = room_of(req);
	uint64_t at, n = piece_bytes(req, &at);

	if (result == -EINTR || result == -EAGAIN) {
		piece_io(file, req, QUEUE_WRITEV);
		return;
	}
	if (result >= 0 && (uint64_t)result < room->bounce_bytes)
		result = -EIO; /* a short direct write: the device is full or failing */
	if (result >= 0)
		result = trim_tail(file, room);
	if (result < 0)
		bounce_end(req, result);
	else
		piece_done(file, req, n);
}

void bounce_submit(struct block_file *file, struct block_req *req)
{
	struct file_room *room = room_of(req);
	uint64_t unit = file->align_offset;
	uint64_t from = req->offset / unit * unit;
	uint64_t bytes = (req->offset + req->bytes + unit - 1) / unit * unit - from;

	*room = (struct file_room){0};
	if (bytes > BOUNCE_MAX)
		bytes = BOUNCE_MAX;
	if (posix_memalign(&room->buffer, 4096, 4096 + bytes)) {
		room->buffer = NULL;
		bounce_end(req, -ENOMEM);
		return;
	}
	next_piece(file, req);
}
