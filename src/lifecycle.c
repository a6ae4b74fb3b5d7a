// SPDX-License-Identifier: ISC
/*
 * The commands that act on a running machine. Each asks the VMM and waits;
 * the state is changed by the events thread, in the order of what happened.
 * `kill` always gets through: it makes what another command waits for fail.
 */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "util/cleanup.h"
#include "util/size.h"
#include "vmm.h"

#define END_MS 30000 /* for a killed process to be gone */

/* Under m->lock: waits until @vmm is no longer the machine's. */
static int await_end(struct machine *m, const struct vmm *vmm, const struct timespec *deadline,
		     struct cancel *cancel)
{
	int r = 0;

	while (r == 0 && m->vmm == vmm) {
		if (cancel_requested(cancel))
			return -ECANCELED;
		r = machine_wait(m, deadline);
	}
	return m->vmm == vmm ? r : 0;
}

/* --- kill ------------------------------------------------------------------------------- */

/* Under m->lock: who starts it gives up, and takes back what was done. */
static int kill_starting(struct machine *m, struct err *err)
{
	struct timespec deadline = deadline_in_ms(END_MS);
	int r = 0;

	m->killed = true;
	if (m->starting)
		cancel_request(m->starting);
	if (m->vmm)
		vmm_kill(m->vmm);
	while (r == 0 && m->starting && m->killed)
		r = machine_wait(m, &deadline);
	return r < 0 ? err_set(err, r, "it is still being killed") : 0;
}

int lifecycle_kill(struct model *model, struct machine *m, struct command_call *call,
		   const struct caller *caller, struct err *err)
{
	struct timespec deadline = deadline_in_ms(END_MS);
	_cleanup_vmm_ struct vmm *vmm = NULL;

	(void)model, (void)call, (void)caller;
	LOCK_SCOPE(&m->lock);
	if (m->starting) {
		int r = kill_starting(m, err);

		if (r < 0 || !m->vmm || !m->killed)
			return r;
	}
	if (!m->vmm)
		return err_set(err, -EBUSY, "it has ended meanwhile");
	vmm = vmm_get(m->vmm);
	m->killed = true;
	m->reason = "kill";
	vmm_quit(vmm);
	if (await_end(m, vmm, &deadline, NULL) < 0)
		return err_set(err, -ETIMEDOUT, "it is still being killed");
	return 0;
}

/* --- stop ------------------------------------------------------------------------------- */

static int press_button(struct vmm *vmm, struct cancel *cancel, struct err *err)
{
	struct vmm_request rq = {
	    .type = VMM_POWER_BUTTON, .timeout_ms = VMM_ORDER_MS, .cancel = cancel};
	int r = vmm_call(vmm, &rq, NULL, err);

	return r == -EPIPE ? 0 : r; /* gone already: that is what was wanted */
}

/* Under m->lock. */
static int await_stop(struct machine *m, struct vmm *vmm, uint64_t seconds, struct cancel *cancel,
		      struct err *err)
{
	struct timespec deadline = deadline_in_ms(seconds * 1000);
	int r = await_end(m, vmm, &deadline, cancel);

	if (r == -ECANCELED)
		return err_set(err, r, "ended before it had stopped");
	if (r == 0)
		return 0;
	m->killed = true;
	vmm_quit(vmm);
	deadline = deadline_in_ms(END_MS);
	r = await_end(m, vmm, &deadline, NULL);
	return r < 0 ? err_set(err, r, "it is still being killed") : 0;
}

int lifecycle_stop(struct model *model, struct machine *m, struct command_call *call,
		   const struct caller *caller, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	uint64_t seconds;
	int r;

	(void)model;
	if (!vmm)
		return 0;
	pthread_mutex_lock(&m->lock);
	seconds = m->def->values.stop_timeout_s;
	m->stopping = true;
	m->reason = "stop";
	pthread_mutex_unlock(&m->lock);
	if (call->n_args)
		uint_parse(call->args[0], 0, UINT64_MAX, &seconds); /* checked before */

	r = press_button(vmm, caller->cancel, err);
	machine_cancel_wakes(m, caller->cancel);
	pthread_mutex_lock(&m->lock);
	if (r == 0)
		r = await_stop(m, vmm, seconds, caller->cancel, err);
	m->stopping = false;
	if (r == 0 && m->state == MACHINE_CRASHED)
		r = err_set(err, -EIO, "the guest crashed instead");
	pthread_mutex_unlock(&m->lock);
	machine_cancel_wakes(NULL, caller->cancel);
	return r;
}

/* --- pause, resume, reset ----------------------------------------------------------------- */

static int order(struct machine *m, enum vmm_msg_type type, const char *reason,
		 const struct caller *caller, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	struct vmm_request rq = {
	    .type = type, .timeout_ms = VMM_ORDER_MS, .cancel = caller->cancel};
	int r;

	if (!vmm)
		return err_set(err, -EBUSY, "it has ended meanwhile");
	pthread_mutex_lock(&m->lock);
	m->reason = reason;
	pthread_mutex_unlock(&m->lock);
	r = vmm_call(vmm, &rq, NULL, err);
	return r == -EPIPE ? err_set(err, -EBUSY, "it has ended meanwhile") : r;
}

int lifecycle_pause(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	(void)model, (void)call;
	return order(m, VMM_PAUSE, "pause", caller, err);
}

int lifecycle_resume(struct model *model, struct machine *m, struct command_call *call,
		     const struct caller *caller, struct err *err)
{
	(void)model, (void)call;
	return order(m, VMM_RESUME, "resume", caller, err);
}

int lifecycle_reset(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	(void)model, (void)call;
	return order(m, VMM_RESET, "reset", caller, err);
}
