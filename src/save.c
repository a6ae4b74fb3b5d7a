// SPDX-License-Identifier: ISC
/*
 * `save` and `discard`; the files are saved.c's.
 *
 * The VMM pauses the guest, writes its state and leaves a holder, which writes memory, packed,
 * to a new layer. Until all of it is on stable storage and has its name, anything that goes
 * wrong, and a cancelled job, lets the guest go on as if nothing had been.
 */
#define LOG_MODULE "save"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "command.h"
#include "hold.h"
#include "layer_int.h"
#include "save.h"
#include "util/cleanup.h"
#include "util/log.h"

#define END_MS 30000

struct save {
	struct machine *m;
	struct vmm *vmm;
	int dir;
	bool was_running;
	struct instant instant;
	struct memory_map *memory; /* made; with a reference */
	struct job *job;
	struct cancel *cancel;
	struct err *err;
};

/* It stands still from now on, whatever becomes of it. */
static void begin(struct save *s)
{
	pthread_mutex_lock(&s->m->lock);
	s->was_running = s->m->state == MACHINE_RUNNING;
	s->m->reason = "save";
	pthread_mutex_unlock(&s->m->lock);
	if (s->was_running)
		rundir_note_saving(s->m, true);
}

static void note_paused(struct save *s)
{
	LOCK_SCOPE(&s->m->lock);
	if (s->m->vmm == s->vmm && s->m->state == MACHINE_RUNNING)
		machine_set_state(s->m, MACHINE_PAUSED, "save");
}

static int stand_still(struct save *s)
{
	_cleanup_close_ int registers = memfd_create("registers", MFD_CLOEXEC);
	_cleanup_close_ int state = -1;
	int r;

	unlinkat(s->dir, SAVED_STATE_NEW, 0);
	state = openat(s->dir, SAVED_STATE_NEW, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		       0600);
	if (state < 0 || registers < 0)
		return err_set(s->err, -errno, "cannot make %s: %s", SAVED_STATE_NEW,
			       strerror(errno));
	r = instant_take(s->vmm, VMM_SNAPSHOT_STAY, state, registers, &s->instant, s->cancel,
			 s->err);
	if (r < 0)
		return r;
	note_paused(s);
	if (fsync(state) < 0)
		return err_set(s->err, -errno, "cannot write the state: %s", strerror(errno));
	return 0;
}

static int write_memory(struct save *s)
{
	struct vmm_hold_done done;
	_cleanup_close_ int fd = -1;
	char id[ID_TEXT];
	int r;

	s->memory = calloc(1, sizeof(*s->memory));
	if (!s->memory)
		return err_set(s->err, -ENOMEM, "out of memory");
	r = layer_make(s->m->model, LAYER_MEMORY, id, &fd, s->err);
	if (r < 0)
		return r;
	s->memory->kind = VMM_MEMORY_PACKED;
	s->memory->bytes = s->instant.done.ram_top;
	r = hold_write(s->instant.hold, VMM_MEMORY_PACKED, fd, id, NULL, NULL, s->memory, &done,
		       s->job, s->cancel, s->err);
	if (r == 0 && fsync(fd) < 0)
		r = err_set(s->err, -errno, "cannot write the guest's memory: %s", strerror(errno));
	if (r == 0)
		return 0;
	layer_put(s->m->model, LAYER_MEMORY, id);
	free(take_ptr(s->memory));
	return r == -ECANCELED ? err_set(s->err, r, "ended before it was saved: the guest goes on")
			       : r;
}

/* The VMM goes. False: it went before, with a guest that ended while its state was stored. */
static bool end_vmm(struct save *s)
{
	struct timespec deadline = deadline_in_ms(END_MS);
	struct machine *m = s->m;

	LOCK_SCOPE(&m->lock);
	if (m->vmm != s->vmm || m->killed)
		return false;
	free(saved_memory_swap(m, take_ptr(s->memory)));
	m->saved = m->killed = true;
	m->reason = "save";
	vmm_kill(s->vmm); /* its disks are flushed, and its guest is here */
	while (m->vmm == s->vmm && machine_wait(m, &deadline) == 0)
		;
	return true;
}

static void go_on(struct save *s)
{
	struct vmm_request resume = {.type = VMM_RESUME, .timeout_ms = VMM_ORDER_MS};
	struct err ignored = ERR_INIT;

	saved_forget(s->dir);
	if (s->memory)
		memory_map_put(s->m->model, s->memory);
	if (!s->was_running)
		return;
	if (vmm_call(s->vmm, &resume, NULL, &ignored) < 0)
		log_info("after a save that failed: %s", ignored.text);
	rundir_note_saving(s->m, false);
}

int lifecycle_save(struct model *model, struct machine *m, struct command_call *call,
		   const struct caller *caller, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	_cleanup_close_ int dir = store_open_dir(m);
	struct save s = {
	    .m = m, .vmm = vmm, .dir = dir, .job = call->job, .cancel = caller->cancel, .err = err};
	struct tidy_pause pause;
	int r;

	(void)model;
	if (!vmm)
		return err_set(err, -EBUSY, "it has ended meanwhile");
	if (dir < 0)
		return err_set(err, dir, "its directory: %s", strerror(-dir));
	layers_tidy_pause(m, &pause); /* or the VMM would refuse: a disk is being changed */
	begin(&s);
	r = stand_still(&s);
	if (r == 0)
		r = write_memory(&s);
	hold_end(s.instant.hold);
	if (r == 0)
		r = saved_commit(dir, s.memory, err);
	if (r == 0 && !end_vmm(&s))
		r = err_set(err, -EBUSY, "it has ended meanwhile");
	if (r < 0)
		go_on(&s);
	layers_tidy_go(&pause);
	layers_tidy(m);
	free(s.memory);
	return r == -EPIPE ? err_set(err, -EBUSY, "it has ended meanwhile") : r;
}

int lifecycle_discard(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	int r = saved_drop(m, err);

	(void)model, (void)call, (void)caller;
	if (r < 0)
		return r;
	LOCK_SCOPE(&m->lock);
	m->saved = false;
	machine_set_state(m, MACHINE_STOPPED, "discard");
	return 0;
}
