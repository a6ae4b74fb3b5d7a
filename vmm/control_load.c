// SPDX-License-Identifier: ISC
/*
 * VMM_LOAD: a machine goes on from where another one stood still (control_snapshot.c), with the
 * memory that it has by now.
 *
 * A state that only one may go on from (VMM_LOAD_ONCE) is marked as used, on stable storage,
 * before the first vcpu runs. Whoever finds one that is not marked knows that no guest ever ran
 * from it, whatever was killed in between.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LOG_MODULE "control"
#include "util/cleanup.h"
#include "util/file.h"
#include "vmm/control_int.h"
#include "vmm/save.h"
#include "vmm/state.h"
#include "vmm/vmgenid.h"

static void state_freep(struct state **st)
{
	state_free(*st);
}
#define _cleanup_state_ __attribute__((cleanup(state_freep)))

static void drop_machine(struct control *c)
{
	vm_destroy(&c->vm);
	c->has_vm = false;
}

int control_load(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	_cleanup_state_ struct state *st = NULL;
	struct vmm_load m;
	int r;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	if (m.flags & ~(uint32_t)(VMM_LOAD_ONCE | VMM_LOAD_CLONE))
		return err_set(err, -EPROTO, "LOAD: malformed");
	if (!c->configured || c->has_vm)
		return err_set(err, -EINVAL, "no configuration yet, or loaded already");
	r = state_read_file(&st, req->fds[0], err);
	if (r == 0)
		r = vm_load_config(&c->config, st, err);
	if (r == 0)
		r = control_make_bare(c, err);
	if (r < 0)
		return r;
	vm_pause(&c->vm);
	vm_load(&c->vm, st);
	r = state_result(st, err);
	if (r < 0) {
		drop_machine(c);
		return r;
	}
	if (m.flags & VMM_LOAD_CLONE)
		vmgenid_renew(&c->vm, m.generation);
	vmgenid_get(&c->vm, c->config.generation);
	if (m.flags & VMM_LOAD_ONCE)
		c->once_fd = take_fd(&req->fds[0]);
	return 0;
}

int control_load_mark(struct control *c, struct err *err)
{
	const uint32_t used = 1;
	int r;

	if (c->once_fd < 0)
		return 0;
	r = file_pwrite_all(c->once_fd, &used, sizeof(used), VMM_STATE_USED_AT);
	if (r == 0 && fdatasync(c->once_fd) < 0)
		r = -errno;
	if (r < 0)
		return err_set(err, r, "cannot mark the saved state as used: %s", strerror(-r));
	close(take_fd(&c->once_fd));
	return 0;
}
