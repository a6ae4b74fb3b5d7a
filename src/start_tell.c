// SPDX-License-Identifier: ISC
/* What a VMM is told before its guest runs: vmm_proto.h, "Order of a start". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "console.h"
#include "start_int.h"
#include "util/cleanup.h"
#include "vsock_int.h"

static int tell(struct start *s, enum vmm_msg_type type, const void *data, size_t len,
		const int *fds, size_t n_fds)
{
	struct vmm_request rq = {
	    .type = type, .data = data, .len = len, .fds = fds, .n_fds = n_fds};

	return vmm_burst_add(&s->burst, &rq, "", s->err);
}

/* Again to one that is known: for what comes with its answer, its counters. */
static int tell_hello(struct start *s)
{
	struct vmm_hello hello = {.version = VMM_PROTO_VERSION};

	return s->vmm->met ? tell(s, VMM_HELLO, &hello, sizeof(hello), NULL, 0) : 0;
}

static void id_bytes(const char *text, uint8_t id[16])
{
	for (int i = 0; i < 16 && *text; i++, text += 2) {
		unsigned byte = 0;

		if (*text == '-')
			text++;
		sscanf(text, "%2x", &byte);
		id[i] = (uint8_t)byte;
	}
}

static int tell_config(struct start *s)
{
	const struct machine_values *v = &s->def->values;
	struct vmm_config config = {
	    .cpus = (uint32_t)v->cpus,
	    .hugepages = (uint32_t)v->hugepages,
	    .memory_bytes = v->memory,
	    .on_reboot = (uint32_t)v->on_reboot,
	    .on_poweroff = (uint32_t)v->on_poweroff,
	    .on_crash = (uint32_t)v->on_crash,
	    .uid = vmm_uid(&s->access),
	    .gid = vmm_gid(&s->access),
	};

	machine_name(s->m, config.name);
	id_bytes(s->m->id, config.id);
	return tell(s, VMM_CONFIG, &config, sizeof(config), &s->kvm, 1);
}

/* Where memory begins as something else than zeroes. */
static int tell_memory(struct start *s)
{
	const struct memory_map *map = s->resume ? s->resume->memory : NULL;
	struct vmm_memory memory;
	_cleanup_free_ char *data = NULL;
	size_t extents;

	if (!map)
		return 0;
	memory = (struct vmm_memory){
	    .kind = map->kind, .n_extents = map->n_extents, .n_files = map->n_files};
	extents = map->n_extents * sizeof(*map->extents);
	data = malloc(sizeof(memory) + extents);
	if (!data)
		return err_set(s->err, -ENOMEM, "out of memory");
	memcpy(data, &memory, sizeof(memory));
	memcpy(data + sizeof(memory), map->extents, extents);
	return tell(s, VMM_MEMORY, data, sizeof(memory) + extents, s->resume->memory_fds,
		    map->n_files);
}

static int tell_boot(struct start *s)
{
	const char *cmdline = s->def->values.cmdline;
	int r = 0;

	if (s->kernel >= 0)
		r = tell(s, VMM_KERNEL, NULL, 0, &s->kernel, 1);
	if (r == 0 && s->initrd >= 0)
		r = tell(s, VMM_INITRD, NULL, 0, &s->initrd, 1);
	return r == 0 ? tell(s, VMM_CMDLINE, cmdline, strlen(cmdline), NULL, 0) : r;
}

static int tell_disks(struct start *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->def->n_disks; i++) {
		const struct disk *d = &s->def->disks[i];

		if (!s->disks[i])
			continue;
		r = vmm_disk_tell(s->vmm, VMM_DISK, d, s->disks[i], &s->burst, NULL, s->err);
	}
	return r;
}

/* The last one first: their slots go downward, and guests count upward. */
static int tell_nics(struct start *s)
{
	int r = 0;

	for (unsigned i = s->n_nics; r == 0 && i-- > 0;)
		r = vmm_nic_tell(s->vmm, &s->def->nics[i], &s->nics[i], &s->burst, NULL, s->err);
	return r;
}

static int tell_vsock(struct start *s)
{
	struct vmm_vsock vsock = {.cid = vsock_cid(s->m->id)};

	return s->def->values.vsock ? tell(s, VMM_VSOCK, &vsock, sizeof(vsock), NULL, 0) : 0;
}

static int tell_console(struct start *s)
{
	struct vmm_console con = {.log_limit_bytes = CONSOLE_ALONE_MAX};
	int fds[] = {s->console, s->pty};

	return tell(s, VMM_CONSOLE, &con, sizeof(con), fds, 2);
}

static int tell_load(struct start *s)
{
	struct vmm_load load = {0};

	if (!s->resume)
		return 0;
	if (s->resume->once)
		load.flags |= VMM_LOAD_ONCE;
	if (s->resume->clone) {
		load.flags |= VMM_LOAD_CLONE;
		if (getentropy(load.generation, sizeof(load.generation)) < 0)
			return err_set(s->err, -errno, "no random numbers: %m");
	}
	return tell(s, VMM_LOAD, &load, sizeof(load), &s->resume->state, 1);
}

/* All else was done: it would boot what could not be loaded. */
static int tell_run(struct start *s)
{
	const struct resume *resume = s->resume;
	struct vmm_request rq = {.type = VMM_RUN, .timeout_ms = VMM_LOAD_MS, .cancel = s->cancel};
	int r = resume && resume->may_run ? resume->may_run(resume->arg, s->err) : 0;

	return r < 0 ? r : vmm_call(s->vmm, &rq, NULL, s->err);
}

typedef int step_fn(struct start *s);

static int take_steps(struct start *s, step_fn *const steps[], size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = steps[i](s);
	return r;
}

int start_tell_first(struct start *s)
{
	static step_fn *const steps[] = {tell_hello, tell_config, tell_memory};

	if (s->vmm->ahead.vmm) {
		vmm_burst_move(&s->burst, &s->vmm->ahead, s->cancel);
		return 0;
	}
	vmm_burst_begin(&s->burst, s->vmm, VMM_LOAD_MS, s->cancel);
	return take_steps(s, steps, nitems(steps));
}

int start_tell(struct start *s)
{
	static step_fn *const steps[] = {tell_boot,  tell_disks,   tell_nics,
					 tell_vsock, tell_console, tell_load};
	struct err later = ERR_INIT;
	int r = s->burst.vmm ? 0 : start_tell_first(s), end;

	if (r == 0)
		r = take_steps(s, steps, nitems(steps));
	end = vmm_burst_end(&s->burst, r == 0 ? s->err : &later);
	if (r == 0)
		r = end;
	return r == 0 ? tell_run(s) : r;
}
