// SPDX-License-Identifier: ISC
/*
 * A filter that fails requests as a test plans it. Requests go down as copies,
 * so that the node's size can follow its child's when they end.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/block_filter.h"
#include "storage/block_node.h"
#include "util/cleanup.h"

struct fault {
	struct block block;
	struct block *child;
	struct block_fault_plan plan;
};

struct copy {
	struct block_req req;
	struct block_req *parent;
	bool torn;
	struct iovec iov[];
};

static void copy_done(struct block_req *req, int result)
{
	struct copy *copy = (struct copy *)req;
	struct fault *f = (struct fault *)copy->parent->node;

	block_set_size(&f->block, block_size(f->child));
	block_req_end(copy->parent, !result && copy->torn ? -EIO : result);
	free(copy);
}

/* Keeps the first half of a request's buffers. */
static void tear(struct copy *copy, const struct block_req *req)
{
	uint64_t left = req->bytes / 2 / 512 * 512;
	unsigned i;

	copy->torn = true;
	copy->req.bytes = left;
	copy->req.iov = copy->iov;
	copy->req.n_iov = 0;
	for (i = 0; i < req->n_iov && left; i++) {
		copy->iov[i] = req->iov[i];
		if (copy->iov[i].iov_len > left)
			copy->iov[i].iov_len = left;
		left -= copy->iov[i].iov_len;
		copy->req.n_iov++;
	}
}

static void fault_submit(struct block *block, struct block_req *req)
{
	struct fault *f = (struct fault *)block;
	int what = f->plan.decide(f->plan.arg, req);
	struct copy *copy;

	if (what < 0) {
		block_req_end(req, what);
		return;
	}
	copy = calloc(1, sizeof(*copy) + req->n_iov * sizeof(struct iovec));
	if (!copy) {
		block_req_end(req, -ENOMEM);
		return;
	}
	copy->req = *req;
	copy->req.done = copy_done;
	copy->parent = req;
	*(struct copy **)block_req_room(req) = copy;
	if (what == BLOCK_FAULT_TEAR && req->op == BLOCK_WRITE)
		tear(copy, req);
	block_submit(req->queue, f->child, &copy->req);
}

static void fault_cancel(struct block *block, struct block_req *req)
{
	struct copy *copy = *(struct copy **)block_req_room(req);

	(void)block;
	block_cancel(&copy->req);
}

static int fault_status(struct block *block, uint64_t offset, uint64_t bytes,
			struct block_extent *extent)
{
	return block_status(((struct fault *)block)->child, offset, bytes, extent);
}

static int fault_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct fault *f = (struct fault *)block;
	int r = block_resize(f->child, bytes, err);

	block_set_size(block, block_size(f->child));
	return r;
}

static void fault_close(struct block *block)
{
	block_close(((struct fault *)block)->child);
	free(block);
}

static const struct block_ops fault_ops = {
    .name = "fault",
    .submit = fault_submit,
    .status = fault_status,
    .resize = fault_resize,
    .close = fault_close,
    .cancel = fault_cancel,
};

int block_fault_open(struct block **block, struct block *child, const struct block_fault_plan *plan,
		     struct err *err)
{
	struct fault *f = calloc(1, sizeof(*f));

	if (!f) {
		block_close(child);
		return err_set(err, -ENOMEM, "out of memory");
	}
	f->block = (struct block){.ops = &fault_ops, .grow = child->grow};
	block_info_get(child, &f->block.info);
	f->child = child;
	f->plan = *plan;
	*block = &f->block;
	return 0;
}
