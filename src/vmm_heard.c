// SPDX-License-Identifier: ISC
/*
 * What the events thread hears of a VMM, and what becomes of the machine. All
 * of it runs in the order of the VMM's socket, its end comes last.
 */
#define LOG_MODULE "vmm"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console.h"
#include "disk.h"
#include "nic_int.h"
#include "layer.h"
#include "stats.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm.h"

#define MEMORY_BYTES_MAX (1ull << 46) /* of a guest that was found */
#define VMM_LOG_MAX	 (1u << 20)
#define DISK_FAILED_MS	 500 /* between two that are told of */

static const char *const reason_names[] = {
    [VMM_REASON_NONE] = "reset",    [VMM_REASON_POWEROFF] = "poweroff",
    [VMM_REASON_REBOOT] = "reboot", [VMM_REASON_CRASH] = "crash",
    [VMM_REASON_FAULT] = "fault",   [VMM_REASON_IO] = "io-error",
};

static const char *reason_name(uint32_t reason)
{
	return reason < nitems(reason_names) ? reason_names[reason] : "unknown";
}

/* Words of the VMM as they may be shown: lines of printable bytes. */
static void make_printable(char text[VMM_TEXT_MAX])
{
	text[VMM_TEXT_MAX - 1] = '\0';
	for (char *p = text; *p; p++)
		if (((unsigned char)*p < 0x20 && *p != '\n') || *p == 0x7f)
			*p = '?';
	for (size_t n = strlen(text); n && text[n - 1] == '\n'; n--)
		text[n - 1] = '\0';
}

/* --- under machine.lock ---------------------------------------------------------------------- */

static void guest_words(struct machine *m, const char *words)
{
	struct err err = {.code = -EIO};

	/* several lines: not by err_set(), which makes one of them */
	snprintf(err.text, sizeof(err.text), "%.*s", ERR_TEXT_MAX - 1, words);
	machine_guest_failed(m, &err);
}

static void reset_event(struct machine *m, const struct vmm_status *status)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "reset");
	event_text(&sb, "machine", m->name);
	event_text(&sb, "reason", m->reason ? m->reason : reason_name(status->reason));
	if (status->reason == VMM_REASON_CRASH && status->text[0])
		event_text(&sb, "error", status->text);
	event_number(&sb, "resets", status->resets);
	model_event(m->model, &sb);
}

static void crash_event(struct machine *m, const char *words)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "crash");
	event_text(&sb, "machine", m->name);
	event_text(&sb, "error", words);
	model_event(m->model, &sb);
}

/* Before the VMM, which alone knows, is let go: a daemon killed now must not leave the next one
 * guessing. */
static void note_coming_end(struct vmm *vmm)
{
	struct machine *m = vmm->m;
	bool asked = m->killed || vmm->status.reason == VMM_REASON_POWEROFF ||
		     vmm->status.reason == VMM_REASON_REBOOT;

	if (!asked)
		guest_words(m, vmm->status.text);
	rundir_note_end(m, asked ? MACHINE_STOPPED : MACHINE_CRASHED);
}

/* The guest has ended; the VMM has not. */
static void follow_end(struct vmm *vmm)
{
	struct machine *m = vmm->m;

	vmm->ended = true;
	if (vmm->status.reason == VMM_REASON_CRASH &&
	    m->def->values.on_crash == VMM_ACTION_PRESERVE && !m->killed) {
		guest_words(m, vmm->status.text);
		crash_event(m, vmm->status.text);
		machine_set_state(m, MACHINE_CRASHED, reason_name(vmm->status.reason));
		rundir_note_end(m, m->state);
	} else {
		note_coming_end(vmm);
		vmm_quit(vmm);
	}
}

/* A disk failed, and its on_error says pause. */
static void follow_io_error(struct vmm *vmm)
{
	struct machine *m = vmm->m;

	if (!vmm->io_error) {
		struct err err = {.code = vmm->disk_error ? vmm->disk_error : -EIO};

		snprintf(err.text, sizeof(err.text), "%.400s: paused; `resume` tries again",
			 vmm->status.text[0] ? vmm->status.text : "a disk failed");
		vmm->io_error = true;
		machine_guest_failed(m, &err);
	}
	machine_set_state(m, MACHINE_PAUSED, "io-error");
}

/* It goes on: what a disk failed with is over. */
static void forget_io_error(struct vmm *vmm)
{
	static const struct err none = ERR_INIT;
	struct machine *m = vmm->m;

	if (!vmm->io_error)
		return;
	vmm->io_error = false;
	vmm->disk_error = 0;
	if (!m->error.guest)
		return;
	outcome_set(&m->error, "", &none, false);
	machine_touch(m, ASPECT_ERROR, NULL);
}

void vmm_follow_status(struct vmm *vmm)
{
	struct machine *m = vmm->m;

	if (vmm->ended || m->vmm != vmm)
		return;
	switch (vmm->status.state) {
	case VMM_STATE_RUNNING:
		forget_io_error(vmm);
		machine_set_state(m, MACHINE_RUNNING, m->reason);
		break;
	case VMM_STATE_PAUSED:
		if (vmm->status.reason == VMM_REASON_IO)
			follow_io_error(vmm);
		else
			machine_set_state(m, MACHINE_PAUSED, m->reason);
		break;
	case VMM_STATE_ENDED:
		follow_end(vmm);
		break;
	default:
		break;
	}
}

/* What it prints is bounded: it may be the guest that makes it print. */
static void trim_log(struct vmm *vmm)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (fstatat(vmm->run_dir, "vmm.log", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_size <= VMM_LOG_MAX)
		return;
	fd = openat(vmm->run_dir, "vmm.log", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, 0) < 0)
		log_warn("cannot empty the log of VMM %d: %m", vmm->pid);
}

/* --- heard ----------------------------------------------------------------------------------- */

void vmm_heard_status(struct vmm *vmm, const struct vmm_status *status)
{
	struct machine *m = vmm->m;
	struct vmm_status old;

	trim_log(vmm);
	LOCK_SCOPE(&m->lock);
	old = vmm->status;
	vmm->status = *status;
	make_printable(vmm->status.text);
	if (!vmm->cpus)
		vmm->cpus = status->cpus < VMM_CPUS_MAX ? status->cpus : VMM_CPUS_MAX;
	if (!vmm->memory_bytes && status->memory_bytes <= MEMORY_BYTES_MAX)
		vmm->memory_bytes = status->memory_bytes;
	if (m->vmm != vmm || !vmm->ready || vmm->ended)
		return;
	if (vmm->status.resets != old.resets) {
		reset_event(m, &vmm->status);
		if (m->stopping && vmm->status.reason == VMM_REASON_POWEROFF &&
		    vmm->status.state == VMM_STATE_RUNNING)
			vmm->status.state = VMM_STATE_ENDED; /* not again: it is to stop */
	}
	vmm_follow_status(vmm);
}

/* The vcpus run. What the guest did since then may have been heard already. */
static void heard_run(struct vmm *vmm)
{
	static const struct err none = ERR_INIT;
	struct machine *m = vmm->m;

	vmm->ready = true;
	m->saved = false;
	if (m->error.guest) {
		outcome_set(&m->error, "", &none, false);
		machine_touch(m, ASPECT_ERROR, NULL);
	}
	machine_set_state(m, MACHINE_RUNNING, "start");
	machine_touch(m, ASPECT_VCPUS, NULL);
	if (vmm->status.state != VMM_STATE_NEW)
		vmm_follow_status(vmm);
}

void vmm_heard_done(struct vmm *vmm, enum vmm_msg_type type)
{
	struct machine *m = vmm->m;

	LOCK_SCOPE(&m->lock);
	if (m->vmm != vmm || vmm->ended)
		return;
	if (type == VMM_RUN && m->state == MACHINE_STARTING)
		heard_run(vmm);
	else if (type == VMM_PAUSE && m->state == MACHINE_RUNNING)
		machine_set_state(m, MACHINE_PAUSED, m->reason);
	else if (type == VMM_RESUME && m->state == MACHINE_PAUSED) {
		forget_io_error(vmm);
		machine_set_state(m, MACHINE_RUNNING, m->reason);
	}
}

void vmm_heard_console(struct vmm *vmm)
{
	struct machine *m = vmm->m;

	trim_log(vmm);
	console_rotate(vmm, CONSOLE_MAX);
	LOCK_SCOPE(&m->lock);
	machine_touch(m, ASPECT_CONSOLE, NULL);
}

/* --- disks --------------------------------------------------------------------------------------
 */

static void disk_event(struct machine *m, const char *kind, const char *disk, int code,
		       const char *words)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	event_text(&sb, "machine", m->name);
	event_text(&sb, "disk", disk);
	if (code)
		event_text(&sb, "errno", err_name(code));
	if (words)
		event_text(&sb, code ? "error" : "note", words);
	model_event(m->model, &sb);
}

/* The VMM says at most one a second; one that was taken over by its guest may say more. */
static bool too_soon(struct vmm *vmm)
{
	struct timespec now = deadline_in_ms(0), *then = &vmm->disk_heard;
	long ms = (now.tv_sec - then->tv_sec) * 1000 + (now.tv_nsec - then->tv_nsec) / 1000000;

	if (then->tv_sec && ms < DISK_FAILED_MS)
		return true;
	*then = now;
	return false;
}

/* Under machine.lock. */
static void disk_failed(struct vmm *vmm, const char *name, const struct vmm_disk_event *event)
{
	struct machine *m = vmm->m;
	struct err err = ERR_INIT;
	int code = event->error ? vmm_believable(event->error) : -EIO;

	vmm->disk_error = code;
	if (too_soon(vmm))
		return;
	err_set(&err, code, "%.100s", event->text);
	disk_event(m, "disk-error", name, code, err.text);
	err_prefix(&err, "disks/%s", name);
	machine_guest_failed(m, &err);
}

/* Under machine.lock: its state, and what is in it. */
static void show_disk(struct machine *m, const char *name)
{
	machine_touch(m, ASPECT_DISK, name);
	machine_touch(m, ASPECT_DISK_CONTENT, name);
}

void vmm_disk_gone(struct vmm *vmm, const char *name, const char *note)
{
	struct machine *m = vmm->m;
	const struct vmm_has_disk *has;
	bool volume;

	pthread_mutex_lock(&m->lock);
	has = vmm_disk_find(vmm, name);
	volume = has && has->volume;
	pthread_mutex_unlock(&m->lock);
	if (volume)
		volume_use_end(m->model, m, name); /* before anybody can attach it again */
	pthread_mutex_lock(&m->lock);
	has = vmm_disk_find(vmm, name);
	if (has) {
		disk_size_keep(m, name, has->bytes);
		vmm_disk_drop(vmm, name);
		disk_event(m, "disk-detached", name, 0, note && *note ? note : NULL);
		show_disk(m, name);
		pthread_cond_broadcast(&m->cond);
	}
	pthread_mutex_unlock(&m->lock);
	vmm_note(vmm);
}

/* A name that is not known here means nothing. */
void vmm_heard_disk(struct vmm *vmm, const struct vmm_disk_event *event)
{
	struct machine *m = vmm->m;
	struct vmm_disk_event e = *event;
	struct vmm_has_disk *has;
	bool known;

	e.name[sizeof(e.name) - 1] = e.text[sizeof(e.text) - 1] = '\0';
	pthread_mutex_lock(&m->lock);
	has = vmm_disk_find(vmm, e.name);
	known = m->vmm == vmm && has;
	if (known && e.what == VMM_DISK_ATTACHED && !has->used) {
		has->used = true;
		disk_event(m, "disk-attached", e.name, 0, NULL);
	}
	if (known && e.what == VMM_DISK_FAILED)
		disk_failed(vmm, e.name, &e);
	pthread_mutex_unlock(&m->lock);
	if (known && e.what == VMM_DISK_DETACHED)
		vmm_disk_gone(vmm, e.name, e.text);
}

/* A name that is not known here means nothing. */
void vmm_heard_nic(struct vmm *vmm, const struct vmm_nic_event *event)
{
	struct vmm_nic_event e = *event;

	e.name[sizeof(e.name) - 1] = e.text[sizeof(e.text) - 1] = '\0';
	vmm_nic_gone(vmm, e.name, e.text);
}

/* --- its end ------------------------------------------------------------------------------------
 */

/* The last line that the VMM printed, behind ": "; "" where it printed nothing. */
static void last_line(struct vmm *vmm, char *line, size_t size)
{
	_cleanup_close_ int fd = openat(vmm->run_dir, "vmm.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char buf[512];
	struct stat st;
	ssize_t n;
	char *start;

	*line = '\0';
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	n = pread(fd, buf, sizeof(buf) - 1,
		  st.st_size > (off_t)sizeof(buf) ? st.st_size - (off_t)sizeof(buf) + 1 : 0);
	while (n > 0 && buf[n - 1] == '\n')
		n--;
	if (n <= 0)
		return;
	buf[n] = '\0';
	start = memrchr(buf, '\n', (size_t)n);
	snprintf(line, size, ": %.200s", start ? start + 1 : buf);
}

static void settle(struct machine *m, enum machine_state state, const char *reason,
		   const char *words)
{
	if (state == MACHINE_CRASHED) {
		guest_words(m, words);
		crash_event(m, words);
	} else if (m->state == MACHINE_CRASHED) {
		static const struct err none = ERR_INIT;

		outcome_set(&m->error, "", &none, false); /* preserved, and now let go */
	}
	machine_set_state(m, state, reason);
}

/* Under machine.lock: what it said last, or printed, says more than how its process ended. */
static void note_how(struct vmm *vmm, const char *how)
{
	const struct vmm_status *s = &vmm->status;
	char line[256];

	if (s->state == VMM_STATE_ENDED && s->text[0]) {
		snprintf(vmm->how, sizeof(vmm->how), "%s", s->text);
		return;
	}
	last_line(vmm, line, sizeof(line));
	snprintf(vmm->how, sizeof(vmm->how), "%s%s", how, line);
}

/* Under machine.lock: from what was heard, the state that follows. */
static void conclude(struct vmm *vmm)
{
	struct machine *m = vmm->m;
	const struct vmm_status *s = &vmm->status;

	if (m->killed) {
		settle(m, m->saved ? MACHINE_SAVED : MACHINE_STOPPED,
		       m->reason ? m->reason : "kill", "");
	} else if (!vmm->ended) {
		settle(m, MACHINE_CRASHED, "crash", vmm->how);
	} else if (s->reason == VMM_REASON_POWEROFF || s->reason == VMM_REASON_REBOOT) {
		settle(m, MACHINE_STOPPED, m->reason ? m->reason : reason_name(s->reason), "");
	} else {
		settle(m, MACHINE_CRASHED, reason_name(s->reason),
		       s->text[0] ? s->text : "the VMM says no reason");
	}
}

/* Whether nobody else does what is to be done about its end. */
static bool claim_end(struct vmm *vmm)
{
	bool claimed;

	LOCK_SCOPE(&vmm->m->lock);
	claimed = !vmm->end_claimed;
	vmm->end_claimed = true;
	return claimed;
}

static void take_end(struct vmm *vmm, const char *how)
{
	struct machine *m = vmm->m;
	struct counters *counters = counters_read(vmm);

	vmm_disks_release(vmm); /* before anybody can start it again */
	pthread_mutex_lock(&m->lock);
	for (struct vmm_has_disk *d = vmm->disks; d; d = d->next)
		disk_size_keep(m, d->name, d->bytes);
	vmm->gone = true;
	for (struct vmm_has_nic *n = vmm->nics; n; n = n->next)
		machine_touch(m, ASPECT_NIC, n->plug.name);
	nic_release(m, take_ptr(vmm->nics));
	note_how(vmm, how);
	if (m->vmm != vmm || !vmm->ready) {
		/* who starts it finds out, and cleans up */
		pthread_cond_broadcast(&m->cond);
		pthread_mutex_unlock(&m->lock);
		counters_free(counters);
		return;
	}
	if (counters) {
		counters_free(m->last_counters);
		m->last_counters = counters;
	}
	m->vmm = NULL;
	conclude(vmm);
	m->killed = false;
	machine_touch(m, ASPECT_VCPUS, NULL);
	machine_touch(m, ASPECT_CONSOLE, NULL);
	for (struct vmm_has_disk *d = vmm->disks; d; d = d->next)
		show_disk(m, d->name);
	rundir_note_end(m, m->state);
	rundir_clear(m, false);
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
	layers_tidy(m);
	vmm_put(vmm);
}

void vmm_heard_exit(struct vmm *vmm, const char *how)
{
	if (!claim_end(vmm))
		return;
	console_rotate(vmm, CONSOLE_MAX);
	take_end(vmm, how);
}

bool vmm_leave(struct vmm *vmm)
{
	if (!claim_end(vmm))
		return false;
	vmm_kill(vmm);
	vmm_fail_calls(vmm, -EPIPE);
	take_end(vmm, "the VMM was ended by signal 9 (Killed)");
	return true;
}
