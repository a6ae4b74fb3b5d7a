// SPDX-License-Identifier: ISC
/*
 * A server may lose, when it is killed, all that it has answered since the last flush, as a
 * disk does when the power fails. But here the machine goes on, and believes what it was
 * told. So each write stays here, with its data, when it has been answered, until a flush that
 * was started after the answer has succeeded. When the server comes back:
 *
 *   1. what is kept is done again, in the order in which it was done;
 *   2. then goes what the server had not answered, in the order in which it came;
 *   3. then whatever came meanwhile.
 *
 * That this gives the machine's view of the disk again rests on one rule: what
 * touches a range that something earlier is writing, or writes one that something earlier
 * reads, waits for its end. So of two kept writes of a range the later was also done later, and
 * a read never meets a range in between.
 *
 * A write with FUA is on stable storage when answered, but is kept also where
 * anything is: an older write of the same range, done again, would undo it. TRIM leaves
 * contents undefined and is not kept. What is kept is bounded: at half the bound we flush
 * ourselves, at all of it writes wait until that is done.
 *
 * A flush of our own that fails is told with the client's next flush, once, as fsync(2) does;
 * after any failed flush what it was to cover is not kept longer, as flushing again
 * would tell nothing about it.
 *
 * What cannot be helped from here: a server that lives on after the connection to it broke
 * may still carry out what it had received, after what was sent over the new one. serve.c waits
 * for its answers where it can, and conn.c sees to it that nothing is delivered late.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/nbd/ops.h"

static void list_unlink(struct op *op)
{
	struct op_list *list = op->on;

	*(op->prev ? &op->prev->next : &list->first) = op->next;
	*(op->next ? &op->next->prev : &list->last) = op->prev;
	op->prev = op->next = NULL;
	op->on = NULL;
}

/* Behind @prev, NULL: at the beginning. */
static void list_insert(struct op_list *list, struct op *prev, struct op *op)
{
	op->on = list;
	op->prev = prev;
	op->next = prev ? prev->next : list->first;
	*(op->next ? &op->next->prev : &list->last) = op;
	*(prev ? &prev->next : &list->first) = op;
}

static void list_move(struct op_list *list, struct op *prev, struct op *op)
{
	if (op->on)
		list_unlink(op);
	list_insert(list, prev, op);
}

void op_free(struct op *op)
{
	if (op)
		free(op->data);
	free(op);
}

/* Of what is still to be replied the owner of replies disposes. */
static void drop(struct op *op)
{
	list_unlink(op);
	op->kept = false;
	if (!op->replying)
		op_free(op);
}

void ops_init(struct ops *ops, bool keeps)
{
	*ops = (struct ops){.keeps = keeps};
}

void ops_free(struct ops *ops)
{
	while (ops->waiting.first)
		drop(ops->waiting.first);
	while (ops->flying.first)
		drop(ops->flying.first);
	while (ops->kept.first)
		drop(ops->kept.first);
}

void ops_add(struct ops *ops, struct op *op)
{
	op->seq = ++ops->seq;
	list_insert(&ops->waiting, ops->waiting.last, op);
}

static bool has_range(const struct op *op)
{
	return op->cmd != NBD_CMD_FLUSH;
}

static bool is_kept_kind(const struct op *op)
{
	return op->cmd == NBD_CMD_WRITE || op->cmd == NBD_CMD_WRITE_ZEROES;
}

static bool conflict(const struct op *a, const struct op *b)
{
	if (!has_range(a) || !has_range(b))
		return false;
	if (a->cmd == NBD_CMD_READ && b->cmd == NBD_CMD_READ)
		return false;
	return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

/* Does @op have to wait for any from @first up to @end? */
static bool conflicts_with(const struct op *op, const struct op *first, const struct op *end)
{
	for (; first && first != end; first = first->next)
		if (conflict(first, op))
			return true;
	return false;
}

static size_t cost(const struct op *op)
{
	return OP_COST + (op->data ? op->length : 0);
}

static struct op *fly(struct ops *ops, struct op *op)
{
	if (op->cmd == NBD_CMD_FLUSH)
		op->stamp = ops->clock;
	list_move(&ops->flying, ops->flying.last, op);
	return op;
}

/* --- starting -------------------------------------------------------------------------------- */

/* The kept are done again without leaving their list, where they stand in order. */
static struct op *start_again(struct ops *ops)
{
	struct op *op = ops->again;

	if (ops->n_again_flying == OPS_AGAIN_MAX)
		return NULL;
	for (unsigned i = 0; i < ops->n_again_flying; i++)
		if (conflict(ops->again_flying[i], op))
			return NULL;
	op->kept = true;
	ops->again = op->next;
	ops->again_flying[ops->n_again_flying++] = op;
	return op;
}

static struct op *start_flush(struct ops *ops)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL; /* with the next write, then */
	op->cmd = NBD_CMD_FLUSH;
	op->internal = true;
	op->seq = ++ops->seq;
	ops->want_flush = false;
	ops->flush_flying = true;
	return fly(ops, op);
}

static size_t flying_writes(const struct ops *ops)
{
	size_t bytes = 0;

	for (const struct op *op = ops->flying.first; op; op = op->next)
		bytes += is_kept_kind(op) ? cost(op) : 0;
	return bytes;
}

static struct op *start_waiting(struct ops *ops)
{
	size_t held = ops->keeps ? ops->kept_bytes + flying_writes(ops) : 0;

	for (struct op *op = ops->waiting.first; op; op = op->next) {
		bool full = held && is_kept_kind(op) && held + cost(op) > OPS_KEEP_MAX;

		if (full)
			ops->want_flush = true;
		else if (!conflicts_with(op, ops->flying.first, NULL) &&
			 !conflicts_with(op, ops->waiting.first, op))
			return fly(ops, op);
	}
	return NULL;
}

struct op *ops_start(struct ops *ops)
{
	struct op *op;

	if (ops->again)
		return start_again(ops);
	if (ops->n_again_flying)
		return NULL;
	if (ops->kept_bytes > OPS_KEEP_MAX / 2)
		ops->want_flush = true;
	op = start_waiting(ops);
	if (op || !ops->want_flush || ops->flush_flying)
		return op;
	ops->want_flush = false;
	return ops->kept.first ? start_flush(ops) : NULL;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Forgets what was answered before the flush @op started. */
static void release_covered(struct ops *ops, const struct op *op)
{
	while (ops->kept.first && ops->kept.first->stamp <= op->stamp) {
		ops->kept_bytes -= cost(ops->kept.first);
		drop(ops->kept.first);
	}
}

static enum ops_outcome flush_done(struct ops *ops, struct op *op)
{
	release_covered(ops, op);
	list_unlink(op);
	if (op->internal) {
		ops->flush_flying = false;
		if (op->error)
			ops->flush_failed = true;
		op_free(op);
		return OPS_SILENT;
	}
	if (ops->flush_failed)
		op->error = EIO;
	ops->flush_failed = false;
	return OPS_REPLY;
}

static enum ops_outcome again_done(struct ops *ops, struct op *op, int error)
{
	op->kept = false;
	for (unsigned i = 0; i < ops->n_again_flying; i++)
		if (ops->again_flying[i] == op)
			ops->again_flying[i--] = ops->again_flying[--ops->n_again_flying];
	return error ? OPS_AGAIN_FAILED : OPS_SILENT;
}

enum ops_outcome ops_done(struct ops *ops, struct op *op, int error)
{
	op->conn = NULL;
	if (op->kept)
		return again_done(ops, op, error);
	op->error = error;
	if (op->cmd == NBD_CMD_FLUSH)
		return flush_done(ops, op);
	list_unlink(op);
	if (!error && ops->keeps && is_kept_kind(op) &&
	    (!(op->flags & NBD_CMD_FLAG_FUA) || ops->kept.first)) {
		op->stamp = ++ops->clock;
		ops->kept_bytes += cost(op);
		list_insert(&ops->kept, ops->kept.last, op);
	}
	return OPS_REPLY;
}

/* --- loss ----------------------------------------------------------------------------------------
 */

void ops_lost(struct ops *ops)
{
	struct op *op, *next;

	for (op = ops->kept.first; op; op = op->next) {
		op->kept = false;
		op->conn = NULL;
	}
	ops->again = ops->kept.first;
	ops->n_again_flying = 0;
	for (op = ops->flying.first; op; op = next) {
		struct op *prev = ops->waiting.last;

		next = op->next;
		op->conn = NULL;
		if (op->internal) { /* another will be made when it is time */
			ops->flush_flying = false;
			ops->want_flush = true;
			drop(op);
			continue;
		}
		while (prev && prev->seq > op->seq)
			prev = prev->prev;
		list_move(&ops->waiting, prev, op);
	}
}

void ops_abandon(struct ops *ops)
{
	while (ops->waiting.first)
		drop(ops->waiting.first);
	ops->want_flush = true;
}

bool ops_caught_up(const struct ops *ops)
{
	return !ops->again && !ops->n_again_flying;
}

bool ops_idle(const struct ops *ops)
{
	return !ops->waiting.first && !ops->flying.first && !ops->kept.first;
}
