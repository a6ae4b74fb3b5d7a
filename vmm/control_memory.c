// SPDX-License-Identifier: ISC
/* What memory begins as, and reading it: VMM_MEMORY, VMM_PEEK_MEMORY. */
#include <errno.h>
#include <stdlib.h>

#include "util/cleanup.h"
#include "vmm/control_int.h"
#include "vmm/pack.h"

/* --- what it begins as --------------------------------------------------------------------------
 */

static int load_raw(struct control *c, const struct request *req, const struct vmm_memory *m,
		    struct err *err)
{
	size_t bytes = m->n_extents * sizeof(struct vmm_extent);
	_cleanup_free_ struct vmm_extent *extents = malloc(bytes + 1);

	if (!extents)
		return err_set(err, -ENOMEM, "no memory");
	memcpy(extents, req->body + sizeof(*m), bytes);
	return memory_lay_files(&c->memory, extents, m->n_extents, req->fds, m->n_files, err);
}

static int load_packed(struct control *c, struct request *req, struct err *err)
{
	c->memory.to_load = stats_counter(c->stats, "memory.to_load_bytes");
	return pack_load(&c->memory, req->fds[0], c->wake_fd, err);
}

static int load(struct control *c, struct request *req, const struct vmm_memory *m, struct err *err)
{
	int ret = memory_map(&c->memory, err);

	if (ret < 0)
		return ret;
	ret = m->kind == VMM_MEMORY_RAW ? load_raw(c, req, m, err) : load_packed(c, req, err);
	if (ret < 0)
		memory_wipe(&c->memory);
	return ret;
}

int control_memory(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_memory m;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	if (m.kind > VMM_MEMORY_PACKED || m.n_extents > VMM_EXTENTS_MAX ||
	    m.n_files != req->n_fds ||
	    req->hdr.len != sizeof(m) + m.n_extents * sizeof(struct vmm_extent) ||
	    (m.kind == VMM_MEMORY_PACKED && (m.n_extents != 0 || m.n_files != 1)))
		return err_set(err, -EPROTO, "MEMORY: malformed");
	if (!c->configured || c->has_vm)
		return err_set(err, -EINVAL, "no configuration yet, or loaded already");
	if (c->memory.filled)
		return err_set(err, -EBUSY, "there is memory already");
	return load(c, req, &m, err);
}

/* --- reading it ---------------------------------------------------------------------------------
 */

int control_peek_memory(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	struct vmm_snapshot_info info;
	int ret = memory_reader_add(&c->memory_readers, &c->memory, take_fd(&req->fds[0]),
				    c->wake_fd, &info, &reply->own_fd, err);

	if (ret < 0)
		return ret;
	reply_put(reply, &info, sizeof(info));
	reply->fds[reply->n_fds++] = reply->own_fd;
	return 0;
}
