// SPDX-License-Identifier: ISC
/*
 * `start`: everything that may be refused is opened first, with the rights of
 * the machine's owner; then a VMM is made and given what was opened. Until its
 * vcpus run, any failure takes back all that was done. All that it waits for is ended by a
 * token of its own, which the caller's and `kill` request.
 */
#define LOG_MODULE "start"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "console.h"
#include "disk.h"
#include "host.h"
#include "paths.h"
#include "save.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/rights.h"
#include "vmm.h"

#define NOBODY	 65534 /* whom the guests of root run as */
#define ALONE_MS 200   /* for a VMM that hung up to be gone */
#define END_MS	 10000 /* for one that was killed */

struct start {
	struct machine *m;
	struct definition *def;
	struct machine_access access;
	struct cancel *cancel;
	struct err *err;
	int kvm, kernel, initrd, console, pty;
	struct saved_opened saved;		  /* it goes on from it; not open: it boots */
	struct disk_opened *disks[VMM_DISKS_MAX]; /* as in def; NULL: no medium */
	char tty[64];
	struct vmm *vmm;
};

/* --- opening --------------------------------------------------------------------------------- */

static int open_disk(struct start *s, struct disk_asks *asks, unsigned i)
{
	const struct disk *d = &s->def->disks[i];
	int r;

	if (!*d->values.source)
		return 0; /* no medium: not there */
	asks->n_before = i;
	r = disk_open_source(s->m, d, asks, &s->disks[i], s->err);
	return r < 0 ? err_prefix(s->err, "disk %s", d->name), r : 0;
}

static int open_file(struct start *s, const struct rights *rights, const char *key,
		     const char *path, int *fd)
{
	struct opener_request rq = {.rights = *rights, .path = path, .cancel = s->cancel};

	*fd = opener_file(s->m->model->opener, &rq, O_RDONLY, false, s->err);
	if (*fd < 0)
		err_prefix(s->err, "%s", key);
	return *fd < 0 ? *fd : 0;
}

static int open_all(struct start *s)
{
	const struct machine_values *v = &s->def->values;
	_cleanup_rights_ struct rights rights = {0};
	struct disk_asks asks = {.cancel = s->cancel, .before = s->disks};
	int r;

	if (!*v->kernel)
		return err_set(s->err, -EINVAL, "no kernel is set");
	r = s->m->saved ? saved_open(s->m, &s->saved, s->err) : 0;
	if (r < 0)
		return r;
	s->kvm = host_kvm_open(s->err);
	if (s->kvm < 0)
		return s->kvm;
	r = machine_owner_rights(s->m, &rights);
	if (r < 0)
		return err_set(s->err, r, "out of memory");
	asks.owner = rights;
	r = open_file(s, &rights, "kernel", v->kernel, &s->kernel);
	if (r == 0 && *v->initrd)
		r = open_file(s, &rights, "initrd", v->initrd, &s->initrd);
	for (unsigned i = 0; r == 0 && i < s->def->n_disks; i++)
		r = open_disk(s, &asks, i);
	if (r < 0)
		return r;
	s->console = console_open_log(s->m);
	if (s->console < 0)
		return err_set(s->err, s->console, "console: %s", strerror(-s->console));
	s->pty = console_open_pty(&s->access, s->tty, sizeof(s->tty));
	return s->pty < 0 ? err_set(s->err, s->pty, "no pty: %s", strerror(-s->pty)) : 0;
}

static void close_all(struct start *s)
{
	int *fds[] = {&s->kvm, &s->kernel, &s->initrd, &s->console, &s->pty};

	for (size_t i = 0; i < nitems(fds); i++)
		if (*fds[i] >= 0)
			close(take_fd(fds[i]));
	saved_close(&s->saved);
	for (size_t i = 0; i < nitems(s->disks); i++)
		disk_opened_free(s->disks[i]);
	definition_put(s->def);
	vmm_put(s->vmm);
}

/* --- telling the VMM ----------------------------------------------------------------------------
 */

static int tell(struct start *s, enum vmm_msg_type type, const void *data, size_t len,
		const int *fds, size_t n_fds)
{
	struct vmm_request rq = {.type = type,
				 .data = data,
				 .len = len,
				 .fds = fds,
				 .n_fds = n_fds,
				 .timeout_ms = VMM_LOAD_MS,
				 .cancel = s->cancel};

	return vmm_call(s->vmm, &rq, NULL, s->err);
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
	    .uid = s->access.uid ? s->access.uid : NOBODY,
	    .gid = s->access.uid && s->access.gid ? s->access.gid : NOBODY,
	};

	machine_name(s->m, config.name);
	id_bytes(s->m->id, config.id);
	return tell(s, VMM_CONFIG, &config, sizeof(config), &s->kvm, 1);
}

static int tell_disks(struct start *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->def->n_disks; i++) {
		const struct disk *d = &s->def->disks[i];

		if (!s->disks[i])
			continue;
		r = vmm_disk_tell(s->vmm, VMM_DISK, d, s->disks[i], s->cancel, NULL, s->err);
		if (r < 0)
			err_prefix(s->err, "disk %s", d->name);
	}
	return r;
}

static int tell_memory(struct start *s)
{
	const struct memory_map *map = s->saved.memory;
	size_t extents = map->n_extents * sizeof(*map->extents);
	_cleanup_free_ char *data = malloc(sizeof(struct vmm_memory) + extents);
	struct vmm_memory memory = {
	    .kind = map->kind, .n_extents = map->n_extents, .n_files = map->n_files};

	if (!data)
		return err_set(s->err, -ENOMEM, "out of memory");
	memcpy(data, &memory, sizeof(memory));
	memcpy(data + sizeof(memory), map->extents, extents);
	return tell(s, VMM_MEMORY, data, sizeof(memory) + extents, s->saved.fds, map->n_files);
}

static int tell_all(struct start *s)
{
	const char *cmdline = s->def->values.cmdline;
	struct vmm_console con = {.log_limit_bytes = CONSOLE_ALONE_MAX};
	int console_fds[] = {s->console, s->pty};
	const struct vmm_load load = {.flags = VMM_LOAD_ONCE};
	int r = tell_config(s);

	if (r == 0 && s->saved.memory)
		r = tell_memory(s);
	if (r == 0)
		r = tell(s, VMM_KERNEL, NULL, 0, &s->kernel, 1);
	if (r == 0 && s->initrd >= 0)
		r = tell(s, VMM_INITRD, NULL, 0, &s->initrd, 1);
	if (r == 0)
		r = tell(s, VMM_CMDLINE, cmdline, strlen(cmdline), NULL, 0);
	if (r == 0)
		r = tell_disks(s);
	if (r == 0)
		r = tell(s, VMM_CONSOLE, &con, sizeof(con), console_fds, 2);
	if (r == 0 && s->saved.memory)
		r = tell(s, VMM_LOAD, &load, sizeof(load), &s->saved.state, 1);
	return r == 0 ? tell(s, VMM_RUN, NULL, 0, NULL, 0) : r;
}

/* --- from one state to the other ------------------------------------------------------------- */

static enum machine_state begin_starting(struct start *s)
{
	struct machine *m = s->m;
	enum machine_state before;

	LOCK_SCOPE(&m->lock);
	before = m->state;
	machine_set_state(m, MACHINE_STARTING, "start");
	return before;
}

/* Under m->lock. Its volumes are the VMM's from now on. */
static int hand_over_disks(struct start *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->def->n_disks; i++) {
		if (!s->disks[i])
			continue;
		r = vmm_disk_set(s->vmm, &s->def->disks[i], s->disks[i]);
		if (r == 0)
			s->disks[i]->in_use = false;
	}
	return r;
}

/* The disks are known to the machine before the VMM can use them. */
static int hand_over(struct start *s)
{
	struct vmm *vmm = s->vmm;
	int r;

	pthread_mutex_lock(&s->m->lock);
	r = hand_over_disks(s);
	vmm->cpus = (unsigned)s->def->values.cpus;
	strcpy(vmm->tty, s->tty);
	pthread_mutex_unlock(&s->m->lock);
	if (r < 0)
		return err_set(s->err, r, "out of memory");
	vmm_note(vmm);
	rundir_forget_end(s->m);
	return tell_all(s);
}

/* Under m->lock: until the VMM's process is gone, or the time is over. */
static bool await_gone(struct start *s, uint64_t ms)
{
	struct timespec deadline = deadline_in_ms(ms);

	while (!s->vmm->gone && machine_wait(s->m, &deadline) == 0)
		;
	return s->vmm->gone;
}

/* Under m->lock: ends the VMM. Where it went away by itself, how it did is the reason. */
static int end_vmm(struct start *s, int code)
{
	bool alone = code == -EPIPE && await_gone(s, ALONE_MS);

	vmm_kill(s->vmm);
	if (!await_gone(s, END_MS))
		log_warn("VMM %d cannot be killed", s->vmm->pid);
	if (alone)
		return err_set(s->err, -EIO, "%s", s->vmm->how);
	return code == -EPIPE ? -EIO : code;
}

/* Takes all back: the VMM goes, the state is the one before. */
static int give_up(struct start *s, enum machine_state before, int code)
{
	struct machine *m = s->m;
	struct vmm *vmm;
	bool killed, saved;

	pthread_mutex_lock(&m->lock);
	if (s->vmm)
		code = end_vmm(s, code);
	pthread_mutex_unlock(&m->lock);
	saved = before == MACHINE_SAVED && saved_still(m);
	pthread_mutex_lock(&m->lock);
	m->saved = saved;
	if (before == MACHINE_SAVED && !saved)
		before = MACHINE_STOPPED; /* the guest had gone on from it */
	vmm = take_ptr(m->vmm);
	killed = m->killed;
	m->killed = false;
	machine_set_state(m, before, killed ? "kill" : "start failed");
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
	if (vmm)
		vmm_loop_remove(vmm);
	vmm_put(vmm);
	rundir_clear(m, false);
	return killed ? err_set(s->err, -EBUSY, "killed while it started") : code;
}

/* --- what ends it early: the caller's token, and `kill` -----------------------------------------
 */

static void pass_on(void *cancel)
{
	cancel_request(cancel);
}

static void begin_cancellable(struct start *s, struct cancel *own, struct cancel *callers)
{
	cancel_init(own);
	s->cancel = own;
	cancel_set_wake(callers, pass_on, own);
	LOCK_SCOPE(&s->m->lock);
	s->m->killed = false;
	s->m->starting = own;
}

static int end_cancellable(struct start *s, struct cancel *callers, int r)
{
	struct machine *m = s->m;

	cancel_set_wake(callers, NULL, NULL);
	pthread_mutex_lock(&m->lock);
	m->starting = NULL;
	if (r < 0 && m->killed && !m->vmm)
		r = err_set(s->err, -EBUSY, "killed while it started");
	if (!m->vmm)
		m->killed = false;
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
	cancel_destroy(s->cancel);
	return r;
}

int lifecycle_start(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	struct start s = {.m = m,
			  .err = err,
			  .kvm = -1,
			  .kernel = -1,
			  .initrd = -1,
			  .console = -1,
			  .pty = -1,
			  .saved = SAVED_NOT_OPEN};
	struct err ignored = ERR_INIT;
	enum machine_state before;
	struct cancel own;
	bool damaged;
	int r;

	(void)model, (void)call;
	begin_cancellable(&s, &own, caller->cancel);
	pthread_mutex_lock(&m->lock);
	s.def = definition_get(m->def);
	s.access = m->access;
	damaged = m->damaged;
	pthread_mutex_unlock(&m->lock);
	r = damaged ? err_set(err, -EINVAL, "its definition is damaged: replace config")
		    : open_all(&s);
	if (r == 0) {
		before = begin_starting(&s);
		r = vmm_spawn(m, &s.vmm, s.cancel, err);
		if (r == 0)
			r = hand_over(&s);
		if (r < 0)
			r = give_up(&s, before, r);
		else if (before == MACHINE_SAVED && saved_drop(m, &ignored) < 0)
			log_warn("%s", ignored.text); /* it is marked as used */
	}
	close_all(&s);
	return end_cancellable(&s, caller->cancel, r);
}
