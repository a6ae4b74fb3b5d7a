// SPDX-License-Identifier: ISC
/*
 * Reading, and the fast path of reading and writing: a request whose whole range is
 * mapped by cached tables becomes requests to the nodes below, on the same queue.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"

#define PIECES_MAX 64

/* --- the fast path ------------------------------------------------------------------------ */

struct piece {
	struct block *node;
	uint64_t at; /* offset within the request */
	uint64_t offset, bytes;
};

struct fan {
	struct qcow2 *q;
	struct block_req *parent;
	unsigned generation;
	unsigned n, left;
	int result;
	struct block_req reqs[]; /* and the iovecs behind them */
};

static void fan_end(struct fan *fan)
{
	qcow2_leave(fan->q, fan->generation);
	block_req_end(fan->parent, fan->result);
	free(fan);
}

static void part_done(struct block_req *req, int result)
{
	struct fan *fan = (struct fan *)(uintptr_t)req->user;

	if (result < 0 && !fan->result)
		fan->result = result;
	if (--fan->left == 0)
		fan_end(fan);
}

static bool may_write_here(struct qcow2 *q, const struct qcow2_map *map)
{
	uint64_t at, end = map->host + map->bytes;

	if (map->kind != MAP_DATA || !map->copied || q->broken)
		return false;
	if (q->external)
		return true;
	for (at = map->host & ~(uint64_t)(q->cluster_bytes - 1); at < end; at += q->cluster_bytes)
		if (qcow2_is_metadata(q, at))
			return false; /* the slow path finds the words for it */
	return true;
}

/* Splits what @map says into at most one piece; what reads as zero needs none. */
static bool add_piece(struct qcow2 *q, const struct block_req *req, const struct qcow2_map *map,
		      uint64_t at, struct piece *piece, unsigned *n)
{
	uint64_t guest = req->offset + at, below = 0;
	struct block *backing = qcow2_backing(q);

	if (req->op == BLOCK_WRITE) {
		if (!may_write_here(q, map))
			return false;
		*piece = (struct piece){q->data, at, map->host, map->bytes};
		++*n;
		return true;
	}
	if (map->kind == MAP_COMPRESSED)
		return false;
	if (map->kind == MAP_DATA) {
		*piece = (struct piece){q->data, at, map->host, map->bytes};
		++*n;
		return true;
	}
	if (map->kind == MAP_UNALLOCATED && backing && guest < block_size(backing)) {
		below = min_u64(map->bytes, block_size(backing) - guest);
		*piece = (struct piece){backing, at, guest, below};
		++*n;
	}
	block_iov_zero(req->iov, req->n_iov, at + below, map->bytes - below);
	return true;
}

/* Under lock. */
static bool find_pieces(struct qcow2 *q, const struct block_req *req, struct piece *pieces,
			unsigned *n)
{
	struct qcow2_map map;
	uint64_t at;

	*n = 0;
	if (q->exclusive)
		return false;
	/* FUA needs the entries on stable storage too. */
	if (req->op == BLOCK_WRITE && (req->flags & BLOCK_FUA) &&
	    (!qcow2_metadata_written(q) || q->external))
		return false;
	for (at = 0; at < req->bytes; at += map.bytes) {
		if (*n == PIECES_MAX ||
		    qcow2_map(q, req->offset + at, req->bytes - at, false, &map) < 0)
			return false;
		if (!add_piece(q, req, &map, at, &pieces[*n], n))
			return false;
	}
	return true;
}

static struct fan *fan_new(struct qcow2 *q, struct block_req *req, const struct piece *pieces,
			   unsigned n)
{
	size_t n_iov = (size_t)req->n_iov + n;
	struct fan *fan =
	    malloc(sizeof(*fan) + n * sizeof(struct block_req) + n_iov * sizeof(struct iovec));
	struct iovec *iov;
	unsigned i;

	if (!fan)
		return NULL;
	fan->q = q;
	fan->parent = req;
	fan->n = fan->left = n;
	fan->result = 0;
	iov = (struct iovec *)(fan->reqs + n);
	for (i = 0; i < n; i++) {
		struct block_req *part = &fan->reqs[i];

		*part = (struct block_req){.op = req->op,
					   .flags = req->flags,
					   .offset = pieces[i].offset,
					   .bytes = pieces[i].bytes,
					   .iov = iov,
					   .user = (uintptr_t)fan,
					   .done = part_done};
		part->n_iov =
		    block_iov_part(req->iov, req->n_iov, pieces[i].at, pieces[i].bytes, iov);
		iov += part->n_iov;
	}
	return fan;
}

bool qcow2_fast_rw(struct qcow2 *q, struct block_req *req)
{
	struct piece pieces[PIECES_MAX];
	struct fan *fan;
	unsigned n, i;
	bool ok;

	pthread_mutex_lock(&q->lock);
	ok = find_pieces(q, req, pieces, &n);
	if (ok && n && (fan = fan_new(q, req, pieces, n)))
		fan->generation = qcow2_enter(q);
	else if (n)
		ok = false;
	pthread_mutex_unlock(&q->lock);
	if (!ok)
		return false;
	if (!n)
		block_req_end(req, 0);
	else
		*(struct fan **)block_req_room(req) = fan;
	for (i = 0; i < n; i++)
		block_submit(req->queue, pieces[i].node, &fan->reqs[i]);
	return true;
}

void qcow2_fast_cancel(struct block_req *req)
{
	struct fan *fan = *(struct fan **)block_req_room(req);
	unsigned i;

	for (i = 0; fan && i < fan->n; i++)
		block_cancel(&fan->reqs[i]);
}

/* --- the slow path ------------------------------------------------------------------------ */

static void waited(struct block_req *req, int result)
{
	(void)req;
	(void)result;
}

/* Reads or writes a part of an iovec and waits for it. */
int qcow2_data_io(struct qcow2_ctx *ctx, struct block *node, enum block_op op, uint64_t offset,
		  uint64_t bytes, const struct iovec *iov, unsigned n_iov, uint64_t skip)
{
	_cleanup_free_ struct iovec *part = malloc((n_iov + 1) * sizeof(*part));
	struct block_req req = {
	    .op = op, .offset = offset, .bytes = bytes, .iov = part, .done = waited};

	if (!part)
		return -ENOMEM;
	req.n_iov = block_iov_part(iov, n_iov, skip, bytes, part);
	block_submit(ctx->queue, node, &req);
	block_queue_drain(ctx->queue);
	return req.result;
}

static int read_packed(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t word)
{
	uint64_t offset, size = block_size(q->file);
	uint32_t bytes;
	int r = qcow2_packed_range(q, word, &offset, &bytes);

	if (r < 0 || offset >= size)
		return -EIO;
	/* At most: as many sectors as the descriptor can count, which is two clusters. */
	if (!ctx->packed)
		ctx->packed = malloc(2 * (size_t)q->cluster_bytes + 512);
	if (!ctx->packed || !qcow2_ctx_cluster(q, ctx))
		return -ENOMEM;
	bytes = min_u64(bytes, size - offset);
	if (bytes > 2 * q->cluster_bytes + 512)
		return -EIO;
	r = block_pread(ctx->queue, q->file, ctx->packed, bytes, offset);
	if (!r)
		r = qcow2_unpack(q->header.compression == QCOW2_COMPRESSION_ZSTD, ctx->packed,
				 bytes, ctx->cluster, q->cluster_bytes);
	return r;
}

/* Reads what @map describes; its host cannot change hands meanwhile. */
static int read_mapped(struct qcow2 *q, struct qcow2_ctx *ctx, const struct qcow2_map *map,
		       uint64_t guest, const struct iovec *iov, unsigned n_iov, uint64_t skip)
{
	struct block *backing = qcow2_backing(q);
	uint64_t below = 0;
	int r = 0;

	switch (map->kind) {
	case MAP_COMPRESSED:
		r = read_packed(q, ctx, map->host);
		if (!r)
			block_iov_fill(iov, n_iov, skip, ctx->cluster + guest % q->cluster_bytes,
				       map->bytes);
		return r;
	case MAP_DATA:
		return qcow2_data_io(ctx, q->data, BLOCK_READ, map->host, map->bytes, iov, n_iov,
				     skip);
	case MAP_UNALLOCATED:
		if (backing && guest < block_size(backing)) {
			below = min_u64(map->bytes, block_size(backing) - guest);
			r = qcow2_data_io(ctx, backing, BLOCK_READ, guest, below, iov, n_iov, skip);
		}
		break;
	case MAP_ZERO:
		break;
	}
	block_iov_zero(iov, n_iov, skip + below, map->bytes - below);
	return r;
}

int qcow2_read(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes,
	       const struct iovec *iov, unsigned n_iov, uint64_t skip)
{
	struct qcow2_map map;
	unsigned generation = 0;
	int r;

	while (bytes) {
		pthread_mutex_lock(&q->meta);
		r = qcow2_map(q, offset, bytes, true, &map);
		if (!r) {
			pthread_mutex_lock(&q->lock);
			generation = qcow2_enter(q);
			pthread_mutex_unlock(&q->lock);
		}
		pthread_mutex_unlock(&q->meta);
		if (r < 0)
			return r;
		r = read_mapped(q, ctx, &map, offset, iov, n_iov, skip);
		qcow2_leave(q, generation);
		if (r < 0)
			return r;
		offset += map.bytes;
		skip += map.bytes;
		bytes -= map.bytes;
	}
	return 0;
}

int qcow2_read_buf(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes,
		   void *buf)
{
	struct iovec iov = {buf, bytes};

	return qcow2_read(q, ctx, offset, bytes, &iov, 1, 0);
}
