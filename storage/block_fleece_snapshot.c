// SPDX-License-Identifier: ISC
/*
 * A snapshot of a fleece node: a node to be read, made of the child and of the file that
 * holds what was overwritten there since (block_fleece.h has the theory).
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/block_fleece.h"
#include "util/cleanup.h"

#define PER_WORD   32 /* states in a word */
#define LOW_BITS   0x5555555555555555ull
#define STATUS_MAX (64ull << 30) /* looked at in one go, under the lock: 256 KiB of states */

/* --- states of chunks --------------------------------------------------------------------- */

enum chunk_state fleece_chunk_get(const struct fleece_snapshot *s, uint64_t chunk)
{
	return s->states[chunk / PER_WORD] >> (chunk % PER_WORD * 2) & 3;
}

void fleece_chunk_set(struct fleece_snapshot *s, uint64_t chunk, enum chunk_state state)
{
	uint64_t *word = &s->states[chunk / PER_WORD];
	unsigned shift = chunk % PER_WORD * 2;

	*word = (*word & ~(3ull << shift)) | (uint64_t)state << shift;
}

/*
 * The first chunk from @from on, before @to, whose state is @state or, @other, is not; @to if
 * there is none. Word by word, with one bit for each chunk that differs from @state.
 */
static uint64_t search(const struct fleece_snapshot *s, uint64_t from, uint64_t to,
		       enum chunk_state state, bool other)
{
	while (from < to) {
		uint64_t differs = s->states[from / PER_WORD] ^ state * LOW_BITS;

		differs = (differs | differs >> 1) & LOW_BITS;
		if (!other)
			differs ^= LOW_BITS;
		differs &= ~0ull << (from % PER_WORD * 2);
		from = from / PER_WORD * PER_WORD;
		if (differs) {
			from += __builtin_ctzll(differs) / 2;
			return from < to ? from : to;
		}
		from += PER_WORD;
	}
	return to;
}

uint64_t fleece_first_there(const struct fleece_snapshot *s, uint64_t from, uint64_t to)
{
	uint64_t end = to < s->n_chunks ? to : s->n_chunks;
	uint64_t found = search(s, from, end, CHUNK_THERE, false);

	return found < end ? found : to;
}

/* How many bytes from @offset on, of at most @bytes, have chunks of @state. */
static uint64_t alike(const struct fleece_snapshot *s, uint64_t offset, uint64_t bytes,
		      enum chunk_state state)
{
	uint64_t end = offset + bytes;
	uint64_t at = search(s, offset / FLEECE_CHUNK, (end - 1) / FLEECE_CHUNK + 1, state, true) *
		      FLEECE_CHUNK;

	if (at <= offset)
		return 0;
	return (at < end ? at : end) - offset;
}

/* --- reading ------------------------------------------------------------------------------ */

struct snapshot_read {
	struct block_req sub;
	struct fleece_snapshot *snapshot;
	struct block_req *parent;
	uint64_t moved; /* bytes of the parent that are done */
	struct iovec iov[];
};

static void go_on(struct snapshot_read *read);

static void read_end(struct snapshot_read *read, int result)
{
	struct block_req *parent = read->parent;

	free(read);
	block_req_end(parent, result);
}

static void resume_read(struct queue_io *io, int result)
{
	struct fleece_room *room = block_req_room(block_io_req(io));

	(void)result;
	go_on(room->read);
}

static void kept_done(struct block_req *req, int result)
{
	struct snapshot_read *read = (struct snapshot_read *)req;

	if (result < 0) {
		read_end(read, result == -ECANCELED ? result : -EIO);
		return;
	}
	read->moved += req->bytes;
	go_on(read);
}

/* What has been copied meanwhile may have been overwritten before we read it. */
static void there_done(struct block_req *req, int result)
{
	struct snapshot_read *read = (struct snapshot_read *)req;
	struct fleece_snapshot *s = read->snapshot;
	uint64_t good;

	pthread_mutex_lock(&s->fleece->lock);
	good = alike(s, req->offset, req->bytes, CHUNK_THERE);
	pthread_mutex_unlock(&s->fleece->lock);
	if (result < 0 && good) {
		read_end(read, result);
		return;
	}
	read->moved += good;
	go_on(read); /* sees whether the snapshot is lost */
}

static void read_from(struct snapshot_read *read, struct block *node, uint64_t bytes,
		      void (*done)(struct block_req *req, int result))
{
	struct block_req *parent = read->parent;

	read->sub = (struct block_req){.op = BLOCK_READ,
				       .offset = parent->offset + read->moved,
				       .bytes = bytes,
				       .iov = read->iov,
				       .done = done};
	read->sub.n_iov = block_iov_part(parent->iov, parent->n_iov, read->moved, bytes, read->iov);
	block_submit(parent->queue, node, &read->sub);
}

/* What is next, and how much of it: 1; 0: nothing; -EAGAIN: it waits for the instant; -EIO: lost.
 */
static int next_part(struct snapshot_read *read, enum chunk_state *state, uint64_t *bytes)
{
	struct fleece_snapshot *s = read->snapshot;
	struct block_req *parent = read->parent;
	uint64_t offset = parent->offset + read->moved;

	if (read->moved == parent->bytes)
		return 0;
	if (parent->cancelled)
		return -ECANCELED;
	LOCK_SCOPE(&s->fleece->lock);
	if (s->lost)
		return -EIO;
	if (!s->ready) {
		fleece_park(&s->fleece->parked, parent, resume_read);
		return -EAGAIN;
	}
	*state = fleece_chunk_get(s, offset / FLEECE_CHUNK);
	*bytes = alike(s, offset, parent->bytes - read->moved, *state);
	return *state == CHUNK_LOST ? -EIO : 1;
}

static void go_on(struct snapshot_read *read)
{
	struct fleece_snapshot *s = read->snapshot;
	struct block_req *parent = read->parent;
	enum chunk_state state;
	uint64_t bytes;
	int r;

	while ((r = next_part(read, &state, &bytes)) == 1 && state == CHUNK_ZERO) {
		block_iov_zero(parent->iov, parent->n_iov, read->moved, bytes);
		read->moved += bytes;
	}
	if (r == 1 && state == CHUNK_KEPT)
		read_from(read, s->keep, bytes, kept_done);
	else if (r == 1)
		read_from(read, s->fleece->child, bytes, there_done);
	else if (r != -EAGAIN)
		read_end(read, r);
}

static void snapshot_submit(struct block *block, struct block_req *req)
{
	struct snapshot_read *read;

	if (req->op != BLOCK_READ) {
		block_req_end(req, -EROFS);
		return;
	}
	read = malloc(sizeof(*read) + req->n_iov * sizeof(struct iovec));
	if (!read) {
		block_req_end(req, -ENOMEM);
		return;
	}
	((struct fleece_room *)block_req_room(req))->read = read;
	read->sub.node = NULL;
	read->snapshot = (struct fleece_snapshot *)block;
	read->parent = req;
	read->moved = 0;
	go_on(read);
}

static void snapshot_cancel(struct block *block, struct block_req *req)
{
	struct fleece *f = ((struct fleece_snapshot *)block)->fleece;
	struct snapshot_read *read = ((struct fleece_room *)block_req_room(req))->read;
	bool waits;

	pthread_mutex_lock(&f->lock);
	waits = fleece_unpark(&f->parked, req);
	pthread_mutex_unlock(&f->lock);
	if (waits)
		read_end(read, -ECANCELED);
	else
		block_cancel(&read->sub);
}

/* --- status ------------------------------------------------------------------------------- */

/* What is known without the child: true, or it has to be asked about ->bytes. */
static bool known_here(struct fleece_snapshot *s, uint64_t offset, struct block_extent *extent,
		       int *result)
{
	enum chunk_state state;

	LOCK_SCOPE(&s->fleece->lock);
	*result = s->lost ? -EIO : 0;
	if (s->lost)
		return true;
	if (!s->ready) {
		/* Writes before the instant may still change it: a little is said, to be asked
		 * again soon. */
		if (extent->bytes > FLEECE_CHUNK)
			extent->bytes = FLEECE_CHUNK;
		return true;
	}
	state = fleece_chunk_get(s, offset / FLEECE_CHUNK);
	extent->bytes = alike(s, offset, extent->bytes, state);
	if (state == CHUNK_ZERO) {
		extent->data = false;
		extent->zero = true;
	}
	return state != CHUNK_THERE;
}

static int snapshot_status(struct block *block, uint64_t offset, uint64_t bytes,
			   struct block_extent *extent)
{
	struct fleece_snapshot *s = (struct fleece_snapshot *)block;
	struct block_extent all = *extent;
	uint64_t good = 0;
	int r;

	all.bytes = bytes < STATUS_MAX ? bytes : STATUS_MAX;
	while (!good) {
		*extent = all;
		if (known_here(s, offset, extent, &r))
			return r;
		r = block_status(s->fleece->child, offset, extent->bytes, extent);
		/* True only for what has not been copied meanwhile. */
		pthread_mutex_lock(&s->fleece->lock);
		good = alike(s, offset, extent->bytes, CHUNK_THERE);
		pthread_mutex_unlock(&s->fleece->lock);
		if (r < 0 && good)
			return r;
	}
	extent->bytes = good;
	return 0;
}

/* --- beginning and end -------------------------------------------------------------------- */

bool fleece_snapshot_unref(struct fleece_snapshot *s)
{
	return --s->refs == 0;
}

void fleece_snapshot_free(struct fleece_snapshot *s)
{
	block_close(s->keep);
	free(s->states);
	free(s);
}

/* Copies under way may still write to its file: the last of them frees it. */
static void snapshot_close(struct block *block)
{
	struct fleece_snapshot *s = (struct fleece_snapshot *)block, **at;
	struct fleece *f = s->fleece;
	bool last;

	pthread_mutex_lock(&f->lock);
	for (at = &f->snapshots; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	f->n_snapshots--;
	fleece_relax(f);
	last = fleece_snapshot_unref(s);
	pthread_mutex_unlock(&f->lock);
	if (last)
		fleece_snapshot_free(s);
}

static const struct block_ops snapshot_ops = {
    .name = "snapshot",
    .submit = snapshot_submit,
    .status = snapshot_status,
    .close = snapshot_close,
    .cancel = snapshot_cancel,
};

/* The size cannot change before it is listed: none begins while the disk is resized. Under the
 * lock. */
static int begin(struct fleece *f, struct fleece_snapshot *s, struct err *err)
{
	if (f->n_snapshots == FLEECE_SNAPSHOTS_MAX)
		return err_set(err, -EBUSY, "there are %d snapshots of the disk already",
			       FLEECE_SNAPSHOTS_MAX);
	if (f->resizing)
		return err_set(err, -EBUSY, "the disk is being resized");
	block_info_get(&f->block, &s->block.info);
	s->block.info.readonly = true;
	s->block.info.discard = s->block.info.write_zeroes = false;
	s->n_chunks = (s->block.info.bytes + FLEECE_CHUNK - 1) / FLEECE_CHUNK;
	s->states = calloc(s->n_chunks / PER_WORD + 1, sizeof(uint64_t));
	if (!s->states)
		return err_set(err, -ENOMEM, "no memory for a snapshot of %llu bytes",
			       (unsigned long long)s->block.info.bytes);
	s->next = f->snapshots;
	f->snapshots = s;
	f->n_snapshots++;
	fleece_begin_drain(f);
	return 0;
}

int block_fleece_snapshot(struct block **snapshot, struct block *block, int fd, struct err *err)
{
	struct fleece *f = (struct fleece *)block;
	struct fleece_snapshot *s;
	int r;

	if (!fleece_is(block)) {
		close(fd);
		return err_set(err, -EINVAL, "a %s disk keeps nothing for snapshots",
			       block->ops->name);
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = block_file_open(&s->keep, fd, BLOCK_OPEN_GROW, err);
	if (!r) {
		s->block.ops = &snapshot_ops;
		s->fleece = f;
		s->refs = 1;
		pthread_mutex_lock(&f->lock);
		r = begin(f, s, err);
		pthread_mutex_unlock(&f->lock);
	}
	if (r < 0) {
		fleece_snapshot_free(s);
		return r;
	}
	*snapshot = &s->block;
	return 0;
}
