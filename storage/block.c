// SPDX-License-Identifier: ISC
/*
 * Nodes: dispatch of requests to them with the checks that all nodes share
 * (range, read-only), and the calls that wait.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/block_node.h"

void block_close(struct block *block)
{
	if (block)
		block->ops->close(block);
}

void block_info_get(struct block *block, struct block_info *info)
{
	*info = block->info;
	info->bytes = block_size(block);
}

static bool in_range(const struct block *block, const struct block_req *req)
{
	uint64_t end;

	if (__builtin_add_overflow(req->offset, req->bytes, &end) || end > INT64_MAX)
		return false;
	return block->grow || end <= block_size(block);
}

/* What can be said of a request without its node: 1 to go on, else 0 or -errno to end it with. */
static int check(const struct block *block, const struct block_req *req)
{
	switch (req->op) {
	case BLOCK_FLUSH:
		return block->info.readonly ? 0 : 1;
	case BLOCK_WRITE:
	case BLOCK_DISCARD:
	case BLOCK_WRITE_ZEROES:
		if (block->info.readonly)
			return -EROFS;
		/* fall through */
	case BLOCK_READ:
		if (!in_range(block, req))
			return -ERANGE;
		return req->bytes ? 1 : 0;
	}
	return -EINVAL;
}

void block_forward(struct block *child, struct block_req *req)
{
	req->node = child;
	child->ops->submit(child, req);
}

void block_submit(struct block_queue *queue, struct block *block, struct block_req *req)
{
	int r = check(block, req);

	req->queue = queue;
	req->node = block;
	req->cancelled = false;
	queue->under_way++;
	if (r == 1)
		block->ops->submit(block, req);
	else
		block_req_end(req, r);
}

void block_cancel(struct block_req *req)
{
	struct block *block = req->node;

	if (!block)
		return; /* it has ended */
	req->cancelled = true;
	if (block->ops->cancel)
		block->ops->cancel(block, req);
}

int block_status(struct block *block, uint64_t offset, uint64_t bytes, struct block_extent *extent)
{
	uint64_t size = block_size(block);

	if (!bytes || offset >= size)
		return -ERANGE;
	if (bytes > size - offset)
		bytes = size - offset;
	*extent = (struct block_extent){.bytes = bytes, .data = true, .own = true};
	return block->ops->status ? block->ops->status(block, offset, bytes, extent) : 0;
}

int block_resize(struct block *block, uint64_t bytes, struct err *err)
{
	if (!block->ops->resize)
		return err_set(err, -ENOTSUP, "a %s disk has no size of its own", block->ops->name);
	if (bytes > INT64_MAX)
		return err_set(err, -EFBIG, "size too large");
	return block->ops->resize(block, bytes, err);
}

static void waited(struct block_req *req, int result)
{
	(void)req;
	(void)result;
}

static int submit_and_wait(struct block_queue *queue, struct block *block, struct block_req *req)
{
	req->done = waited;
	block_submit(queue, block, req);
	block_queue_drain(queue);
	return req->result;
}

int block_pread(struct block_queue *queue, struct block *block, void *buf, uint64_t bytes,
		uint64_t offset)
{
	struct iovec iov = {.iov_base = buf, .iov_len = bytes};
	struct block_req req = {
	    .op = BLOCK_READ, .offset = offset, .bytes = bytes, .iov = &iov, .n_iov = 1};

	return submit_and_wait(queue, block, &req);
}

int block_pwrite(struct block_queue *queue, struct block *block, const void *buf, uint64_t bytes,
		 uint64_t offset)
{
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = bytes};
	struct block_req req = {
	    .op = BLOCK_WRITE, .offset = offset, .bytes = bytes, .iov = &iov, .n_iov = 1};

	return submit_and_wait(queue, block, &req);
}

int block_flush(struct block_queue *queue, struct block *block)
{
	struct block_req req = {.op = BLOCK_FLUSH};

	return submit_and_wait(queue, block, &req);
}

int block_zero(struct block_queue *queue, struct block *block, uint64_t offset, uint64_t bytes,
	       unsigned flags)
{
	struct block_req req = {
	    .op = BLOCK_WRITE_ZEROES, .flags = flags, .offset = offset, .bytes = bytes};

	return submit_and_wait(queue, block, &req);
}

int block_discard(struct block_queue *queue, struct block *block, uint64_t offset, uint64_t bytes)
{
	struct block_req req = {.op = BLOCK_DISCARD, .offset = offset, .bytes = bytes};

	return submit_and_wait(queue, block, &req);
}
