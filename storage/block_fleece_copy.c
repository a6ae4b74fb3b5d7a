// SPDX-License-Identifier: ISC
/*
 * Copies of what is about to be overwritten (block_fleece.h has the theory).
 *
 * One copy is a run of chunks that the same snapshots need: read from the child once,
 * then written to the file of one snapshot after the other, on the queue of the request that asked
 * first. A file that takes no more loses its snapshot; what the child cannot
 * give is lost to the snapshot, chunk by chunk. The write that waits goes on in any case.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/block_fleece.h"
#include "util/cleanup.h"

/* --- what is needed ------------------------------------------------------------------------- */

static bool needs(const struct fleece_snapshot *s, uint64_t chunk)
{
	return !s->lost && chunk < s->n_chunks && fleece_chunk_get(s, chunk) == CHUNK_THERE;
}

/* Which snapshots need it, by their place in the list. */
static unsigned who_needs(const struct fleece *f, uint64_t chunk)
{
	unsigned i = 0, mask = 0;

	for (const struct fleece_snapshot *s = f->snapshots; s; s = s->next, i++)
		mask |= needs(s, chunk) ? 1u << i : 0;
	return mask;
}

_Static_assert(FLEECE_SNAPSHOTS_MAX <= 32, "a mask of snapshots");

uint64_t fleece_first_needed(const struct fleece *f, uint64_t from, uint64_t to)
{
	for (const struct fleece_snapshot *s = f->snapshots; s; s = s->next)
		if (!s->lost)
			to = fleece_first_there(s, from, to);
	return to;
}

static struct fleece_copy *copy_of(const struct fleece *f, uint64_t chunk)
{
	struct fleece_copy *copy = f->copies;

	while (copy && (chunk < copy->first || chunk - copy->first >= copy->n))
		copy = copy->next;
	return copy;
}

bool fleece_unwait(struct fleece *f, const struct block_req *req)
{
	struct fleece_copy *copy;

	if (fleece_unpark(&f->starved, req))
		return true;
	for (copy = f->copies; copy; copy = copy->next)
		if (fleece_unpark(&copy->waiting, req))
			return true;
	return false;
}

void fleece_feed(struct fleece *f)
{
	struct block_req *req = f->starved.first;

	if (!req || f->n_copies == FLEECE_COPIES_MAX)
		return;
	f->starved.first = req->next;
	if (!f->starved.first)
		f->starved.last = &f->starved.first;
	queue_post(req->queue, block_req_io(req), 0);
}

/* --- a copy's life ---------------------------------------------------------------------------- */

/* Takes @copy out of the list, and lets those go on who wait for it. */
static void finish(struct fleece_copy *copy)
{
	struct fleece_snapshot *over[FLEECE_SNAPSHOTS_MAX];
	struct fleece *f = copy->fleece;
	struct fleece_copy **at;
	unsigned n_over = 0;

	pthread_mutex_lock(&f->lock);
	for (at = &f->copies; *at != copy; at = &(*at)->next)
		;
	*at = copy->next;
	f->n_copies--;
	for (unsigned t = 0; t < copy->n_targets; t++) {
		struct fleece_snapshot *s = copy->targets[t];

		for (unsigned i = 0; i < copy->n && !s->lost; i++)
			fleece_chunk_set(s, copy->first + i,
					 copy->unread	       ? CHUNK_LOST
					 : copy->zero >> i & 1 ? CHUNK_ZERO
							       : CHUNK_KEPT);
		if (fleece_snapshot_unref(s))
			over[n_over++] = s;
	}
	fleece_wake(&copy->waiting);
	fleece_feed(f);
	pthread_mutex_unlock(&f->lock);
	while (n_over)
		fleece_snapshot_free(over[--n_over]);
	free(copy->data);
	free(copy);
}

static void write_next(struct fleece_copy *copy);

static void written(struct block_req *req, int result)
{
	struct fleece_copy *copy = (struct fleece_copy *)req;
	struct fleece *f = copy->fleece;

	if (result < 0) {
		pthread_mutex_lock(&f->lock);
		copy->targets[copy->at_target]->lost = true;
		pthread_mutex_unlock(&f->lock);
		copy->at_chunk = copy->n;
	}
	write_next(copy);
}

/* Writes the next chunks in a row that are not zero to the target that is next. */
static bool write_some(struct fleece_copy *copy, struct fleece_snapshot *s)
{
	unsigned from = copy->at_chunk, to;
	uint64_t offset, end;

	while (from < copy->n && copy->zero >> from & 1)
		from++;
	for (to = from; to < copy->n && !(copy->zero >> to & 1); to++)
		;
	copy->at_chunk = to;
	if (from == to)
		return false;
	offset = (copy->first + from) * FLEECE_CHUNK;
	end = (copy->first + to) * FLEECE_CHUNK;
	if (end > s->block.info.bytes)
		end = s->block.info.bytes;
	copy->iov = (struct iovec){copy->data + from * (size_t)FLEECE_CHUNK, end - offset};
	copy->req = (struct block_req){.op = BLOCK_WRITE,
				       .offset = offset,
				       .bytes = end - offset,
				       .iov = &copy->iov,
				       .n_iov = 1,
				       .done = written};
	block_submit(copy->queue, s->keep, &copy->req);
	return true;
}

static void write_next(struct fleece_copy *copy)
{
	for (; copy->at_target < copy->n_targets; copy->at_target++, copy->at_chunk = 0)
		if (write_some(copy, copy->targets[copy->at_target]))
			return;
	finish(copy);
}

static bool is_zero(const uint8_t *p, uint64_t bytes)
{
	return !p[0] && !memcmp(p, p + 1, bytes - 1);
}

static void read_done(struct block_req *req, int result)
{
	struct fleece_copy *copy = (struct fleece_copy *)req;

	if (result < 0) {
		copy->unread = true;
		finish(copy);
		return;
	}
	for (unsigned i = 0; i < copy->n; i++) {
		uint64_t at = i * (uint64_t)FLEECE_CHUNK, left = copy->req.bytes - at;

		if (is_zero(copy->data + at, left < FLEECE_CHUNK ? left : FLEECE_CHUNK))
			copy->zero |= 1u << i;
	}
	write_next(copy);
}

static void start(struct fleece_copy *copy)
{
	uint64_t offset = copy->first * FLEECE_CHUNK, bytes = copy->n * (uint64_t)FLEECE_CHUNK;
	uint64_t most = 0;

	for (unsigned i = 0; i < copy->n_targets; i++)
		if (copy->targets[i]->block.info.bytes > most)
			most = copy->targets[i]->block.info.bytes;
	if (bytes > most - offset)
		bytes = most - offset;
	copy->iov = (struct iovec){copy->data, bytes};
	copy->req = (struct block_req){.op = BLOCK_READ,
				       .offset = offset,
				       .bytes = bytes,
				       .iov = &copy->iov,
				       .n_iov = 1,
				       .done = read_done};
	block_submit(copy->queue, copy->fleece->child, &copy->req);
}

/* A copy that begins at @chunk, listed; NULL: no memory. Under the lock. */
static struct fleece_copy *copy_new(struct fleece *f, struct block_queue *queue, uint64_t chunk,
				    uint64_t to)
{
	struct fleece_copy *copy = calloc(1, sizeof(*copy));
	unsigned who = who_needs(f, chunk);

	if (!copy)
		return NULL;
	for (copy->n = 1; copy->n < FLEECE_RUN && chunk + copy->n < to; copy->n++)
		if (who_needs(f, chunk + copy->n) != who || copy_of(f, chunk + copy->n))
			break;
	copy->data = aligned_alloc(4096, copy->n * (size_t)FLEECE_CHUNK);
	if (!copy->data) {
		free(copy);
		return NULL;
	}
	copy->fleece = f;
	copy->queue = queue;
	copy->first = chunk;
	req_list_init(&copy->waiting);
	for (struct fleece_snapshot *s = f->snapshots; s; s = s->next, who >>= 1) {
		if (!(who & 1))
			continue;
		s->refs++;
		copy->targets[copy->n_targets++] = s;
	}
	copy->next = f->copies;
	f->copies = copy;
	f->n_copies++;
	return copy;
}

/* Without memory for a copy those who need it are lost. Under the lock. */
static void lose(struct fleece *f, uint64_t chunk)
{
	for (struct fleece_snapshot *s = f->snapshots; s; s = s->next)
		s->lost |= needs(s, chunk);
}

void fleece_copy_for(struct fleece *f, struct block_req *req, uint64_t chunk, uint64_t to)
{
	struct fleece_copy *copy = copy_of(f, chunk), *made = NULL;
	bool lost = false;

	if (copy) {
		fleece_park(&copy->waiting, req, fleece_resume_write);
	} else if (f->n_copies == FLEECE_COPIES_MAX) {
		fleece_park(&f->starved, req, fleece_resume_write);
	} else if ((made = copy_new(f, req->queue, chunk, to))) {
		fleece_park(&made->waiting, req, fleece_resume_write);
	} else {
		lose(f, chunk);
		lost = true;
	}
	fleece_feed(f);
	pthread_mutex_unlock(&f->lock);
	if (made)
		start(made);
	if (lost)
		fleece_admit(f, req);
}
