// SPDX-License-Identifier: ISC
/* A machine as such: references, name, state, times, error. What it is to be is in
 * machine_config.c, what it does in lifecycle.c. */
#define LOG_MODULE "machine"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "layer.h"
#include "model_int.h"
#include "stats.h"
#include "util/cleanup.h"
#include "util/log.h"

struct timespec time_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now;
}

int machine_name_check(const char *name, struct err *err)
{
	size_t len = strlen(name);
	bool good = len > 0 && len <= MACHINE_NAME_MAX && isalnum((unsigned char)*name);

	for (const char *p = name; *p; p++)
		good = good && (isalnum((unsigned char)*p) || strchr("._-", *p));
	if (!good)
		return err_set(err, -EINVAL,
			       "'%.80s' is no name for a machine: a letter or digit, then up to 62 "
			       "letters, digits, '.', '_' or '-'",
			       name);
	return 0;
}

struct machine *machine_new(struct model *model, const char *name, const char *id,
			    struct definition *def)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct timespec now = time_now();
	pthread_condattr_t attr;

	if (!m) {
		definition_put(def);
		return NULL;
	}
	m->model = model;
	atomic_init(&m->refs, 1);
	pthread_mutex_init(&m->edit, NULL);
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->cond, &attr);
	pthread_condattr_destroy(&attr);
	strcpy(m->name, name);
	strcpy(m->id, id);
	m->alive = true;
	m->def = def;
	for (size_t i = 0; i < ASPECT_MAX; i++)
		m->changed[i] = now;
	m->disk_changed = calloc(def->n_disks + 1, sizeof(*m->disk_changed));
	m->nic_changed = calloc(def->n_nics + 1, sizeof(*m->nic_changed));
	if (!m->disk_changed || !m->nic_changed) {
		machine_put(m);
		return NULL;
	}
	for (size_t i = 0; i < def->n_disks; i++)
		m->disk_changed[i] = now;
	for (size_t i = 0; i < def->n_nics; i++)
		m->nic_changed[i] = now;
	return m;
}

struct machine *machine_get(struct machine *m)
{
	atomic_fetch_add(&m->refs, 1);
	return m;
}

void machine_put(struct machine *m)
{
	if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
		return;
	definition_put(m->def);
	free(m->damaged);
	free(m->disk_changed);
	free(m->nic_changed);
	for (size_t i = 0; i < m->n_modes; i++)
		free(m->modes[i].path);
	free(m->modes);
	free(m->error.text);
	free(m->saved_memory);
	machine_layers_free(m);
	disk_sizes_free(m);
	counters_free(m->last_counters);
	pthread_cond_destroy(&m->cond);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->edit);
	free(m);
}

/* --- looking ------------------------------------------------------------------------- */

void machine_name(struct machine *m, char name[MACHINE_NAME_MAX + 1])
{
	LOCK_SCOPE(&m->lock);
	strcpy(name, m->name);
}

uint64_t machine_serial(const struct machine *m)
{
	return m->serial;
}

enum machine_state machine_state(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->state;
}

bool machine_has_vmm(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->vmm != NULL;
}

bool machine_alive(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->alive;
}

struct definition *machine_definition(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return definition_get(m->def);
}

struct timespec machine_changed(struct machine *m, enum machine_aspect aspect, const char *name)
{
	LOCK_SCOPE(&m->lock);
	if (aspect == ASPECT_LIVE && m->vmm)
		return time_now();
	if (aspect == ASPECT_DISK && name)
		for (size_t i = 0; i < m->def->n_disks; i++)
			if (strcmp(m->def->disks[i].name, name) == 0)
				return m->disk_changed[i];
	if (aspect == ASPECT_NIC && name)
		for (size_t i = 0; i < m->def->n_nics; i++)
			if (strcmp(m->def->nics[i].name, name) == 0)
				return m->nic_changed[i];
	return m->changed[aspect < ASPECT_MAX ? aspect : ASPECT_STATE];
}

/* --- changing ------------------------------------------------------------------------ */

void machine_touch(struct machine *m, enum machine_aspect aspect, const char *name)
{
	m->changed[aspect] = time_now();
	tell_changed(m, aspect, name);
}

void machine_set_state(struct machine *m, enum machine_state state, const char *reason)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	enum machine_state old = m->state;

	if (state == old)
		return;
	if (!state_may_follow(old, state))
		log_error("machine %s: %s after %s", m->name, machine_state_name(state),
			  machine_state_name(old));
	event_begin(&sb, "state");
	event_text(&sb, "machine", m->name);
	event_text(&sb, "from", machine_state_name(old));
	event_text(&sb, "to", machine_state_name(state));
	if (reason)
		event_text(&sb, "reason", reason);
	m->state = state;
	m->entered[state]++;
	m->changed[ASPECT_LIVE] = time_now();
	model_event(m->model, &sb);
	machine_touch(m, ASPECT_STATE, NULL);
	machine_touch(m, ASPECT_COMMANDS, NULL);
	pthread_cond_broadcast(&m->cond);
}

void machine_outcome(struct machine *m, const char *what, const struct err *err)
{
	LOCK_SCOPE(&m->lock);
	if (err->code == 0 && (!m->error.text || m->error.guest))
		return; /* why the guest died stays until a command fails, or it starts again */
	outcome_set(&m->error, what, err, false);
	machine_touch(m, ASPECT_ERROR, NULL);
}

void machine_guest_failed(struct machine *m, const struct err *err)
{
	outcome_set(&m->error, "guest", err, true);
	machine_touch(m, ASPECT_ERROR, NULL);
}

void machine_error_set(struct machine *m, const char *what, const struct err *err)
{
	machine_outcome(m, what, err);
}

void machine_error_show(struct machine *m, struct strbuf *sb)
{
	LOCK_SCOPE(&m->lock);
	outcome_show(&m->error, sb);
}

/* --- waiting ------------------------------------------------------------------------- */

struct timespec deadline_in_ms(uint64_t ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += (time_t)(ms / 1000);
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

int machine_wait(struct machine *m, const struct timespec *deadline)
{
	if (!deadline) {
		pthread_cond_wait(&m->cond, &m->lock);
		return 0;
	}
	return pthread_cond_timedwait(&m->cond, &m->lock, deadline) == ETIMEDOUT ? -ETIMEDOUT : 0;
}

static void wake(void *arg)
{
	struct machine *m = arg;

	LOCK_SCOPE(&m->lock);
	pthread_cond_broadcast(&m->cond);
}

void machine_cancel_wakes(struct machine *m, struct cancel *cancel)
{
	cancel_set_wake(cancel, m ? wake : NULL, m);
}
