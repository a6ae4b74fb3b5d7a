// SPDX-License-Identifier: ISC
/*
 * The instant of a snapshot: VMM_SNAPSHOT.
 *
 * The guest stands still while its state goes into memory, its disks over to what was staged for
 * them, and fork(2) makes a second process with its memory as it is (hold.h). Then
 * it goes on. What may wait for storage is before or behind that: disks end what is under
 * way while the vcpus still run, the files are given their blocks before, so that writing them,
 * behind, has no reason to fail.
 *
 * Fork copies page tables, not memory. Where memory is in huge pages (or was never
 * touched) that takes a millisecond or two for each GiB; in small ones, 20 to 30.
 *
 * With pages of hugetlbfs (`hugepages`) there may be none left for the copy of one that is
 * written, and who writes, or who reads, is killed for it. Such a guest stands still until its
 * holder has ended; and is not cloned.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MODULE "control"
#include "storage/block.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm/control_int.h"
#include "vmm/hold.h"
#include "vmm/pack.h"
#include "vmm/save.h"

#define STATE_BYTES	 (64u << 10) /* of a machine with few devices, and then for each vcpu: */
#define STATE_VCPU_BYTES (16u << 10)

struct instant {
	struct control *c;
	struct vmm_snapshot asked;
	int state_fd, registers_fd, sock; /* borrowed; sock -1: none */
	struct state *state;
	const void *data; /* of the state */
	size_t len;
	struct vmm_vcpu_state *registers;
	bool ran;
	pid_t holder;
	uint64_t since; /* it stands still */
	struct vmm_snapshot_done done;
};

/* --- before: what may wait for storage ------------------------------------------------------ */

static int check_disks(struct control *c, struct err *err)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++) {
		const struct disk *disk = c->config.disks[i];

		if (disk && disk->job)
			return err_set(err, -EBUSY, "disk %s is being changed", disk->name);
		if (disk && !disk->graph)
			return err_set(err, -EBUSY,
				       "disk %s is empty: put something in, or detach it",
				       disk->name);
	}
	return 0;
}

static int reserve(int fd, uint64_t bytes)
{
	/* A file system that knows no such call says whether there is room when it is written. */
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) < 0 && errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

static int reserve_files(const struct instant *i, struct err *err)
{
	unsigned cpus = i->c->config.cpus;
	int r = reserve(i->state_fd, STATE_BYTES + (uint64_t)cpus * STATE_VCPU_BYTES);

	if (r == 0)
		r = reserve(i->registers_fd, cpus * sizeof(struct vmm_vcpu_state));
	return r < 0 ? err_set(err, r, "no room for the state: %s", strerror(-r)) : 0;
}

/* --- the instant ---------------------------------------------------------------------------- */

static int take_registers(struct instant *i, struct err *err)
{
	for (unsigned k = 0; k < i->c->config.cpus; k++) {
		int r = vm_vcpu_get(&i->c->vm, k, &i->registers[k]);

		if (r < 0)
			return err_set(err, r, "registers of vcpu %u: %s", k, strerror(-r));
		i->registers[k].running = i->ran;
	}
	return 0;
}

static int take_state(struct instant *i, struct err *err)
{
	char text[VMM_TEXT_MAX];
	enum vm_end end;

	if (vm_ended(&i->c->vm, &end, text))
		return err_set(err, -EBUSY, "the guest has just ended: %s", text);
	vm_save(&i->c->vm, i->state);
	return state_finish(i->state, &i->data, &i->len, err);
}

static int fork_holder(struct instant *i, struct err *err)
{
	struct control *c = i->c;

	if (i->sock < 0)
		return 0;
	i->holder = fork();
	if (i->holder == 0)
		hold_run(&c->memory, i->sock, &c->title, c->config.name);
	return i->holder < 0 ? err_set(err, -errno, "cannot fork: %s", strerror(errno)) : 0;
}

static void switch_disks(struct control *c)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++) {
		struct disk *disk = c->config.disks[i];

		if (disk && disk_staged(disk))
			disk_switch(disk);
	}
}

static int while_it_stands(struct instant *i, struct err *err)
{
	int r = take_state(i, err);

	if (r == 0)
		r = take_registers(i, err);
	if (r == 0)
		r = fork_holder(i, err);
	/* Last, because nothing undoes it. */
	if (r == 0 && !(i->asked.flags & VMM_SNAPSHOT_STAY))
		switch_disks(i->c);
	return r;
}

static void go_on(struct instant *i)
{
	if (!i->ran)
		return;
	if (i->holder > 0 && i->c->memory.huge) {
		control_hold(i->c, i->holder);
		return;
	}
	vm_resume(&i->c->vm);
	i->done.pause_ns = now_ns() - i->since;
}

/* --- behind --------------------------------------------------------------------------------- */

/* What the guest's writes have left in memory of the host reaches its disks. */
static int flush_disks(struct control *c, struct err *err)
{
	struct block_queue *queue;
	int r = block_queue_new_sync(&queue, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; r == 0 && i < nitems(c->config.disks); i++) {
		struct disk *disk = c->config.disks[i];

		if (!disk || disk->readonly || !disk->graph || disk->cache == VMM_CACHE_UNSAFE)
			continue;
		r = block_flush(queue, disk->graph->fleece);
		if (r < 0)
			err_set(err, r, "disk %s: %s", disk->name, strerror(-r));
	}
	block_queue_free(queue);
	return r;
}

static int write_files(const struct instant *i, struct err *err)
{
	int r = file_pwrite_all(i->state_fd, i->data, i->len, 0);

	if (r == 0)
		r = file_pwrite_all(i->registers_fd, i->registers,
				    i->c->config.cpus * sizeof(i->registers[0]), 0);
	return r < 0 ? err_set(err, r, "cannot write the state: %s", strerror(-r)) : 0;
}

static int take(struct instant *i, struct err *err)
{
	bool stay = i->asked.flags & VMM_SNAPSHOT_STAY;
	int r = reserve_files(i, err);

	if (r < 0)
		return r;
	pack_finish(&i->c->memory);
	memory_collapse_stop(&i->c->memory);
	vm_settle(&i->c->vm);
	i->since = now_ns();
	if (i->ran)
		vm_pause(&i->c->vm);
	r = while_it_stands(i, err);
	if (!stay)
		go_on(i);
	if (i->holder > 0 && !i->c->memory.huge)
		control_follow(i->c, i->holder);
	if (stay && r == 0)
		r = flush_disks(i->c, err);
	if (r == 0)
		r = write_files(i, err);
	if (r < 0 && stay)
		go_on(i);
	else if (stay && i->ran)
		control_pause(i->c);
	return r;
}

static void release(struct instant *i)
{
	state_free(i->state);
	free(i->registers);
}

int control_snapshot(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	__attribute__((cleanup(release))) struct instant i = {
	    .c = c, .state_fd = req->fds[0], .registers_fd = req->fds[1], .sock = req->fds[2]};
	int r;

	memcpy(&i.asked, req->body, sizeof(i.asked));
	if (i.asked.flags & ~(uint32_t)(VMM_SNAPSHOT_STAY | VMM_SNAPSHOT_NO_MEMORY) ||
	    (req->n_fds == 3) == !!(i.asked.flags & VMM_SNAPSHOT_NO_MEMORY))
		return err_set(err, -EPROTO, "SNAPSHOT: malformed");
	if (!c->has_vm || c->reset_at != 0)
		return err_set(err, -EBUSY, "the machine is about to be reset");
	if (c->held_fd >= 0)
		return err_set(err, -EBUSY, "its memory is being written");
	r = check_disks(c, err);
	if (r < 0)
		return r;
	i.ran = c->state == VMM_STATE_RUNNING;
	i.state = state_new();
	i.registers = calloc(c->config.cpus, sizeof(i.registers[0]));
	if (!i.state || !i.registers)
		return err_set(err, -ENOMEM, "no memory");
	r = take(&i, err);
	if (r < 0)
		return r;
	i.done.state_bytes = i.len;
	i.done.ram_top = c->memory.ram_top;
	i.done.vcpus = c->config.cpus;
	i.done.running = i.ran;
	reply_put(reply, &i.done, sizeof(i.done));
	return 0;
}
