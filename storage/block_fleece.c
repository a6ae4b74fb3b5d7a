// SPDX-License-Identifier: ISC
/*
 * The fleece node: requests on their way down, past the gate (block_fleece.h has the theory).
 *
 * Only WRITE, WRITE_ZEROES and DISCARD are looked at. Each is counted while it is below:
 * its done() is replaced on the way, so a request goes through one fleece
 * node at most.
 *
 * System calls: futex; write (to the eventfds of queues); memory may be mapped and unmapped.
 * Making a snapshot: those of block_file.c's opening. Resizing: eventfd2 read poll close, those
 * of the synchronous engine.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/block_fleece.h"
#include "util/cleanup.h"

/* --- lines of requests that wait -------------------------------------------------------- */

void fleece_park(struct req_list *list, struct block_req *req,
		 void (*resume)(struct queue_io *io, int result))
{
	block_req_io(req)->done = resume;
	req->next = NULL;
	*list->last = req;
	list->last = &req->next;
}

void fleece_wake(struct req_list *list)
{
	struct block_req *req, *next;

	for (req = list->first; req; req = next) {
		next = req->next;
		queue_post(req->queue, block_req_io(req), 0);
	}
	req_list_init(list);
}

bool fleece_unpark(struct req_list *list, const struct block_req *req)
{
	struct block_req **at;

	for (at = &list->first; *at; at = &(*at)->next) {
		if (*at != req)
			continue;
		*at = req->next;
		if (!*at)
			list->last = at;
		return true;
	}
	return false;
}

/* --- counting ----------------------------------------------------------------------------- */

static struct fleece_shard *shard_of(struct fleece *f, const struct block_queue *queue)
{
	return &f->shards[(uintptr_t)queue * 0x9e3779b97f4a7c15ull >> 58];
}

_Static_assert(FLEECE_SHARDS == 1 << (64 - 58), "the hash gives a shard's number");

static uint32_t writes_under_way(const struct fleece *f, uint32_t generation)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < FLEECE_SHARDS; i++)
		sum += __atomic_load_n(&f->shards[i].writes[generation], __ATOMIC_SEQ_CST);
	return sum;
}

void fleece_relax(struct fleece *f)
{
	if (!f->n_snapshots && !f->draining)
		__atomic_store_n(&f->gate, f->gate & ~FLEECE_ACTIVE, __ATOMIC_SEQ_CST);
}

/* If those are over who were under way when the gate changed, so is the wait for them. Under lock.
 */
static void end_drain(struct fleece *f)
{
	if (!f->draining || writes_under_way(f, !fleece_generation(f->gate)))
		return;
	f->draining = false;
	for (struct fleece_snapshot *s = f->snapshots; s; s = s->next)
		s->ready = true;
	fleece_wake(&f->parked);
	fleece_relax(f);
}

void fleece_begin_drain(struct fleece *f)
{
	if (f->draining)
		return; /* the same instant does */
	f->draining = true;
	__atomic_store_n(&f->gate, (f->gate + 2) | FLEECE_ACTIVE, __ATOMIC_SEQ_CST);
	end_drain(f);
}

static void count_in(struct fleece *f, const struct block_queue *queue, uint32_t generation)
{
	__atomic_fetch_add(&shard_of(f, queue)->writes[generation], 1, __ATOMIC_SEQ_CST);
}

static void count_out(struct fleece *f, const struct block_queue *queue, uint32_t generation)
{
	uint32_t gate;

	__atomic_fetch_sub(&shard_of(f, queue)->writes[generation], 1, __ATOMIC_SEQ_CST);
	gate = __atomic_load_n(&f->gate, __ATOMIC_SEQ_CST);
	if (fleece_generation(gate) == generation)
		return;
	LOCK_SCOPE(&f->lock);
	end_drain(f);
}

static void write_done(struct block_req *req, int result)
{
	struct fleece *f = (struct fleece *)req->outer;

	count_out(f, req->queue, req->outer_state);
	req->done = req->outer_done;
	req->done(req, result);
}

/* @req has been counted in that generation. */
static void go_down(struct fleece *f, struct block_req *req, uint32_t generation)
{
	req->outer = &f->block;
	req->outer_done = req->done;
	req->outer_state = generation;
	req->done = write_done;
	block_forward(f->child, req);
}

/* --- the way down ------------------------------------------------------------------------- */

/* It may have been woken for a copy that another could begin now. */
static void give_up(struct fleece *f, struct block_req *req)
{
	pthread_mutex_lock(&f->lock);
	fleece_feed(f);
	pthread_mutex_unlock(&f->lock);
	block_req_end(req, -ECANCELED);
}

void fleece_resume_write(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);

	(void)result;
	if (req->cancelled)
		give_up((struct fleece *)req->node, req);
	else
		fleece_admit((struct fleece *)req->node, req);
}

/* Where the search for chunks to copy goes on: a snapshot made since has none. Under lock. */
static void find_needed(struct fleece *f, struct block_req *req, uint64_t to)
{
	struct fleece_room *room = block_req_room(req);

	if ((room->gate ^ f->gate) & ~FLEECE_ACTIVE) {
		room->gate = f->gate;
		room->at = req->offset / FLEECE_CHUNK;
	}
	room->at = fleece_first_needed(f, room->at, to);
}

void fleece_admit(struct fleece *f, struct block_req *req)
{
	struct fleece_room *room = block_req_room(req);
	uint64_t to = (req->offset + req->bytes - 1) / FLEECE_CHUNK + 1;
	uint32_t generation;
	bool passes;

	pthread_mutex_lock(&f->lock);
	if (f->draining) {
		fleece_park(&f->parked, req, fleece_resume_write);
		fleece_feed(f);
		pthread_mutex_unlock(&f->lock);
		return;
	}
	find_needed(f, req, to);
	if (room->at < to && req->op != BLOCK_DISCARD) {
		fleece_copy_for(f, req, room->at, to);
		return;
	}
	fleece_feed(f); /* it may have been woken for a copy that it does not need any more */
	passes = room->at == to && !room->keep_only;
	generation = fleece_generation(f->gate);
	if (passes)
		count_in(f, req->queue, generation);
	pthread_mutex_unlock(&f->lock);
	if (passes)
		go_down(f, req, generation);
	else
		block_req_end(req, 0);
}

static void admit_first(struct fleece *f, struct block_req *req, bool keep_only)
{
	*(struct fleece_room *)block_req_room(req) = (struct fleece_room){
	    .at = req->offset / FLEECE_CHUNK,
	    .gate = __atomic_load_n(&f->gate, __ATOMIC_ACQUIRE),
	    .keep_only = keep_only,
	};
	fleece_admit(f, req);
}

static void fleece_submit(struct block *block, struct block_req *req)
{
	struct fleece *f = (struct fleece *)block;
	uint32_t gate;

	if (req->op == BLOCK_READ || req->op == BLOCK_FLUSH) {
		block_forward(f->child, req);
		return;
	}
	gate = __atomic_load_n(&f->gate, __ATOMIC_ACQUIRE);
	if (!(gate & FLEECE_ACTIVE)) {
		uint32_t generation = fleece_generation(gate);

		count_in(f, req->queue, generation);
		if (__atomic_load_n(&f->gate, __ATOMIC_SEQ_CST) == gate) {
			go_down(f, req, generation);
			return;
		}
		count_out(f, req->queue, generation); /* was in nobody's way */
	}
	admit_first(f, req, false);
}

static void fleece_cancel(struct block *block, struct block_req *req)
{
	struct fleece *f = (struct fleece *)block;
	bool waits;

	pthread_mutex_lock(&f->lock);
	waits = fleece_unpark(&f->parked, req) || fleece_unwait(f, req);
	pthread_mutex_unlock(&f->lock);
	if (waits)
		block_req_end(req, -ECANCELED);
}

/* --- the node ----------------------------------------------------------------------------- */

static int fleece_status(struct block *block, uint64_t offset, uint64_t bytes,
			 struct block_extent *extent)
{
	return block_status(((struct fleece *)block)->child, offset, bytes, extent);
}

static void kept(struct block_req *req, int result)
{
	(void)req;
	(void)result;
}

/* Snapshots keep what is cut off. */
static int keep_tail(struct fleece *f, uint64_t from, uint64_t to, struct err *err)
{
	struct block_req req = {.op = BLOCK_WRITE_ZEROES,
				.offset = from,
				.bytes = to - from,
				.node = &f->block,
				.done = kept};
	int r = block_queue_new_sync(&req.queue, err);

	if (r < 0)
		return r;
	req.queue->under_way++;
	admit_first(f, &req, true);
	block_queue_drain(req.queue);
	block_queue_free(req.queue);
	return 0;
}

static int resize_child(struct fleece *f, uint64_t bytes, struct err *err)
{
	uint64_t old = block_size(&f->block);
	bool active;
	int r = 0;

	pthread_mutex_lock(&f->lock);
	active = f->n_snapshots;
	pthread_mutex_unlock(&f->lock);
	if (bytes && bytes < old) {
		block_set_size(&f->block, bytes);
		if (active)
			r = keep_tail(f, bytes, old, err);
	}
	if (!r)
		r = block_resize(f->child, bytes, err);
	block_set_size(&f->block, block_size(f->child));
	return r;
}

static int fleece_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct fleece *f = (struct fleece *)block;
	bool busy;
	int r;

	pthread_mutex_lock(&f->lock);
	busy = f->resizing;
	f->resizing = true; /* no snapshot begins meanwhile */
	pthread_mutex_unlock(&f->lock);
	if (busy)
		return err_set(err, -EBUSY, "the disk is being resized");
	r = resize_child(f, bytes, err);
	pthread_mutex_lock(&f->lock);
	f->resizing = false;
	pthread_mutex_unlock(&f->lock);
	return r;
}

static void fleece_close(struct block *block)
{
	struct fleece *f = (struct fleece *)block;

	block_close(f->child);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static const struct block_ops fleece_ops = {
    .name = "fleece",
    .submit = fleece_submit,
    .status = fleece_status,
    .resize = fleece_resize,
    .close = fleece_close,
    .cancel = fleece_cancel,
};

bool fleece_is(const struct block *block)
{
	return block->ops == &fleece_ops;
}

int block_fleece_open(struct block **block, struct block *child, struct err *err)
{
	struct fleece *f = aligned_alloc(_Alignof(struct fleece), sizeof(*f));

	if (!f) {
		block_close(child);
		return err_set(err, -ENOMEM, "out of memory");
	}
	memset(f, 0, sizeof(*f));
	f->block.ops = &fleece_ops;
	block_info_get(child, &f->block.info);
	f->child = child;
	pthread_mutex_init(&f->lock, NULL);
	req_list_init(&f->parked);
	req_list_init(&f->starved);
	*block = &f->block;
	return 0;
}
