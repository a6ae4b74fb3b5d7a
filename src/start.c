// SPDX-License-Identifier: ISC
/*
 * Starting a machine, and ending its VMM: everything that may be refused is opened first
 * (start_open.c); then a VMM is made and told (start_tell.c). Until its
 * vcpus run, any failure takes back all that was done. All that it waits for is ended by a
 * token of its own, which the caller's and `kill` request.
 */
#define LOG_MODULE "start"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "spare.h"
#include "start_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vsock_int.h"

#define ALONE_MS 200   /* for a VMM that hung up to be gone */
#define END_MS	 30000 /* for one that was killed */

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

/* Under m->lock: their cables are pulled out when it has gone. */
static int hand_over_nics(struct start *s)
{
	int r = 0;

	while (r == 0 && s->n_nics_given < s->n_nics) {
		r = vmm_nic_set(s->vmm, &s->nics[s->n_nics_given]);
		if (r == 0)
			s->n_nics_given++;
	}
	return r;
}

/* Under m->lock: one that is gone by now does not hear of what it has. */
static int hand_over_devices(struct start *s)
{
	int r = hand_over_disks(s);

	if (r == 0 && !s->vmm->gone)
		r = hand_over_nics(s);
	if (r == 0 && s->def->values.vsock)
		r = vmm_vsock_set(s->vmm);
	return r;
}

/* Disks and cards are known to the machine before the VMM can use them. */
static int hand_over(struct start *s)
{
	struct vmm *vmm = s->vmm;
	int r;

	pthread_mutex_lock(&s->m->lock);
	r = hand_over_devices(s);
	vmm->cpus = (unsigned)s->def->values.cpus;
	vmm->memory_bytes = s->def->values.memory;
	strcpy(vmm->tty, s->tty);
	pthread_mutex_unlock(&s->m->lock);
	if (r < 0)
		return err_set(s->err, r, "out of memory");
	vmm_note(vmm);
	rundir_forget_end(s->m);
	return start_tell(s);
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
	if (m->vmm)
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
	bool killed;

	cancel_set_wake(callers, NULL, NULL);
	pthread_mutex_lock(&m->lock);
	m->starting = NULL;
	/* or its end may have been noted before who starts it heard */
	killed = m->killed || (r == -ECANCELED && !cancel_requested(callers));
	if (r < 0 && killed && !m->vmm)
		r = err_set(s->err, -EBUSY, "killed while it started");
	if (!m->vmm)
		m->killed = false;
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
	cancel_destroy(s->cancel);
	return r;
}

/* --- starting ----------------------------------------------------------------------------------
 */

/* With the disks and files that it needs open. */
static int run(struct start *s)
{
	enum machine_state before = begin_starting(s);
	int r = vmm_adopt(s->vmm, s->cancel, s->err);

	if (r == 0)
		r = hand_over(s);
	return r < 0 ? give_up(s, before, r) : 0;
}

/* The program is loaded, and its virtual machine made, while files are opened. */
static int open_and_run(struct start *s)
{
	struct hold *hold = s->resume ? s->resume->hold : NULL;
	int r = start_may(s);

	if (r == 0 && !s->vmm)
		r = vmm_launch(s->m, hold, &s->vmm, s->cancel, s->err);
	if (r == 0 && s->vmm->met)
		r = start_tell_first(s);
	if (r == 0)
		r = start_open(s);
	if (r == 0)
		return run(s);
	if (s->vmm)
		vmm_discard(s->vmm);
	return r;
}

static int begin(struct start *s, struct saved_opened *saved, struct resume *own)
{
	struct machine *m = s->m;
	bool damaged, is_saved;
	int r;

	pthread_mutex_lock(&m->lock);
	s->def = definition_get(m->def);
	s->access = m->access;
	damaged = m->damaged;
	is_saved = m->saved;
	pthread_mutex_unlock(&m->lock);
	if (damaged)
		return err_set(s->err, -EINVAL, "its definition is damaged: replace config");
	if (s->resume || !is_saved)
		return 0;
	r = saved_open(m, saved, s->err);
	*own = (struct resume){.state = saved->state,
			       .memory = saved->memory,
			       .memory_fds = saved->fds,
			       .once = true,
			       .clone = saved->again};
	s->resume = own;
	return r;
}

static int start(struct machine *m, const struct resume *resume, struct vmm *launched,
		 struct cancel *cancel, struct err *err)
{
	struct start s = {.m = m,
			  .vmm = launched,
			  .resume = resume,
			  .err = err,
			  .kvm = -1,
			  .kernel = -1,
			  .initrd = -1,
			  .console = -1,
			  .pty = -1};
	struct saved_opened saved = SAVED_NOT_OPEN;
	struct err ignored = ERR_INIT;
	struct resume of_saved;
	struct cancel own;
	int r;

	spares_hold(m->model->spares);
	begin_cancellable(&s, &own, cancel);
	r = begin(&s, &saved, &of_saved);
	if (r == 0)
		r = open_and_run(&s);
	else if (s.vmm)
		vmm_discard(s.vmm);
	if (r == 0 && s.resume == &of_saved && saved_drop_used(m, &ignored) < 0)
		log_warn("%s", ignored.text);
	start_close(&s);
	saved_close(&saved);
	spares_let_go(m->model->spares);
	return end_cancellable(&s, cancel, r);
}

int machine_start(struct machine *m, const struct resume *resume, struct cancel *cancel,
		  struct err *err)
{
	return start(m, resume, NULL, cancel, err);
}

int machine_tell_ahead(struct machine *m, struct vmm *vmm, const struct memory_map *memory,
		       struct err *err)
{
	int fds[VMM_MEMORY_FILES_MAX], r;
	const struct resume resume = {.memory = memory, .memory_fds = fds};
	_cleanup_definition_ struct definition *def = machine_definition(m);
	struct start s = {.m = m, .vmm = vmm, .resume = &resume, .def = def, .err = err, .kvm = -1};

	if (!vmm->met)
		return 0;
	machine_access_get(m, &s.access);
	r = memory_map_open(m->model, memory, fds, err);
	if (r < 0)
		return r;
	r = start_may(&s);
	if (r == 0)
		r = start_tell_first(&s);
	if (s.kvm >= 0)
		close(s.kvm);
	for (unsigned i = 0; i < memory->n_files; i++)
		close(fds[i]);
	if (s.burst.vmm)
		vmm_burst_move(&vmm->ahead, &s.burst, NULL);
	return r;
}

int machine_start_launched(struct machine *m, struct vmm *launched, struct cancel *cancel,
			   struct err *err)
{
	return start(m, NULL, launched, cancel, err);
}

int lifecycle_start(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	(void)model, (void)call;
	return machine_start(m, NULL, caller->cancel, err);
}

/* --- ending ---------------------------------------------------------------------------------- */

/* Under m->lock: whether it has nothing that the next one would have to wait for. */
static bool may_leave(const struct vmm *vmm)
{
	return vmm->ready && !vmm->nics && !vmm->vsock && !vmm->m->def->values.hugepages;
}

int machine_leave_vmm(struct machine *m, const char *reason, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = NULL;

	pthread_mutex_lock(&m->lock);
	if (m->vmm && may_leave(m->vmm)) {
		vmm = vmm_get(m->vmm);
		m->killed = true;
		m->reason = reason;
	}
	pthread_mutex_unlock(&m->lock);
	return vmm && vmm_leave(vmm) ? 0 : machine_end_vmm(m, reason, err);
}

int machine_end_vmm(struct machine *m, const char *reason, struct err *err)
{
	struct timespec deadline = deadline_in_ms(END_MS);
	_cleanup_vmm_ struct vmm *vmm = NULL;
	int r = 0;

	LOCK_SCOPE(&m->lock);
	if (!m->vmm)
		return 0;
	vmm = vmm_get(m->vmm);
	m->killed = true;
	m->reason = reason;
	vmm_kill(vmm);
	while (r == 0 && m->vmm == vmm)
		r = machine_wait(m, &deadline);
	if (m->vmm == vmm)
		return err_set(err, -ETIMEDOUT, "its VMM, process %d, is still being killed",
			       vmm->pid);
	return 0;
}
