// SPDX-License-Identifier: ISC
/* The model as a whole: opening and closing, telling, outcomes, defining and undefining. */
#define LOG_MODULE "model"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive_images.h"
#include "command.h"
#include "pool_int.h"
#include "pools.h"
#include "disk.h"
#include "interfaces_int.h"
#include "network_int.h"
#include "nic_int.h"
#include "opener.h"
#include "save.h"
#include "snapshot_int.h"
#include "spare.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"
#include "vsock_int.h"

/* --- outcomes ------------------------------------------------------------------------ */

void outcome_set(struct outcome *o, const char *what, const struct err *err, bool guest)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	free(take_ptr(o->text));
	o->code = err->code;
	o->guest = guest;
	if (err->code == 0)
		return;
	strbuf_printf(&sb, "%s ", err_name(err->code));
	for (size_t i = 0; i < 80 && what[i]; i++)
		strbuf_putc(&sb, (unsigned char)what[i] < 0x20 ? '?' : what[i]);
	strbuf_printf(&sb, ": %s", err->text[0] ? err->text : strerror(-err->code));
	o->text = strbuf_steal(&sb);
}

void outcome_show(const struct outcome *o, struct strbuf *sb)
{
	if (o->text)
		strbuf_puts(sb, o->text);
}

void model_error_set(struct model *model, const char *what, const struct err *err)
{
	LOCK_SCOPE(&model->lock);
	outcome_set(&model->error, what, err, false);
}

void model_error_show(struct model *model, struct strbuf *sb)
{
	LOCK_SCOPE(&model->lock);
	outcome_show(&model->error, sb);
}

/* --- telling ------------------------------------------------------------------------- */

void model_set_observer(struct model *model, const struct model_observer *observer, void *arg)
{
	pthread_rwlock_wrlock(&model->observer_lock);
	model->observer = observer;
	model->observer_arg = arg;
	pthread_rwlock_unlock(&model->observer_lock);
}

/* TELL(model, call, arguments…): the observer's call, if there is one. */
#define TELL(model, call, ...)                                                                     \
	do {                                                                                       \
		pthread_rwlock_rdlock(&(model)->observer_lock);                                    \
		if ((model)->observer && (model)->observer->call)                                  \
			(model)->observer->call((model)->observer_arg, ##__VA_ARGS__);             \
		pthread_rwlock_unlock(&(model)->observer_lock);                                    \
	} while (0)

void tell_added(struct machine *m)
{
	TELL(m->model, machine_added, m);
}

void tell_removed(struct machine *m)
{
	TELL(m->model, machine_removed, m);
}

void tell_renamed(struct machine *m, const char *old_name)
{
	TELL(m->model, machine_renamed, m, old_name);
}

void tell_changed(struct machine *m, enum machine_aspect aspect, const char *name)
{
	TELL(m->model, machine_changed, m, aspect, name);
}

void tell_job(struct model *model, struct job *job, enum job_news news)
{
	switch (news) {
	case JOB_NEWS_ADDED:
		TELL(model, job_added, job);
		break;
	case JOB_NEWS_CHANGED:
		TELL(model, job_changed, job);
		break;
	case JOB_NEWS_REMOVED:
		TELL(model, job_removed, job);
		break;
	}
}

void tell_pool(struct pool *pool, enum pool_news news, const char *old_name)
{
	switch (news) {
	case POOL_NEWS_ADDED:
		TELL(pool->model, pool_added, pool);
		break;
	case POOL_NEWS_REMOVED:
		TELL(pool->model, pool_removed, pool);
		break;
	case POOL_NEWS_RENAMED:
		TELL(pool->model, pool_renamed, pool, old_name);
		break;
	}
}

void tell_pool_changed(struct pool *pool, int aspect, const char *name)
{
	TELL(pool->model, pool_changed, pool, aspect, name);
}

void tell_volume_changed(struct volume *volume, int aspect)
{
	TELL(volume->pool->model, volume_changed, volume, aspect);
}

void tell_network(struct network *network, enum network_news news, const char *old_name)
{
	switch (news) {
	case NETWORK_NEWS_ADDED:
		TELL(network->model, network_added, network);
		break;
	case NETWORK_NEWS_REMOVED:
		TELL(network->model, network_removed, network);
		break;
	case NETWORK_NEWS_RENAMED:
		TELL(network->model, network_renamed, network, old_name);
		break;
	}
}

void tell_network_changed(struct network *network, int aspect)
{
	TELL(network->model, network_changed, network, aspect);
}

void tell_interface(struct interface *i, enum interface_news news, const char *old_name)
{
	switch (news) {
	case INTERFACE_NEWS_ADDED:
		TELL(i->all->model, interface_added, i);
		break;
	case INTERFACE_NEWS_REMOVED:
		TELL(i->all->model, interface_removed, i);
		break;
	case INTERFACE_NEWS_RENAMED:
		TELL(i->all->model, interface_renamed, i, old_name);
		break;
	}
}

void tell_interface_changed(struct interface *i, int aspect)
{
	TELL(i->all->model, interface_changed, i, aspect);
}

void tell_interfaces_ctl(struct model *model)
{
	TELL(model, interfaces_told);
}

void tell_snapshot(struct snapshot *s, enum snapshot_aspect aspect)
{
	pthread_mutex_lock(&s->lock);
	s->changed[aspect] = time_now();
	pthread_mutex_unlock(&s->lock);
	TELL(s->m->model, snapshot_changed, s, (int)aspect);
}

void model_event(struct model *model, struct strbuf *sb)
{
	events_write(model->events, sb);
	TELL(model, events_grew);
}

void command_event(const struct subject *subject, const char *line, const struct caller *caller,
		   const struct job *job, const struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "command");
	if (subject_ops(subject)->event)
		subject_ops(subject)->event(subject, &sb);
	event_text(&sb, "command", line);
	event_number(&sb, "uid", caller->uid);
	if (job)
		event_number(&sb, "job", job_number(job));
	event_text(&sb, "result", err->code ? err_name(err->code) : "ok");
	if (err->code)
		event_text(&sb, "error", err->text);
	model_event(subject->model, &sb);
}

int model_events_open(struct model *model, bool old)
{
	return events_open_file(model->events, old);
}

int model_events_stat(struct model *model, bool old, uint64_t *size, struct timespec *mtime)
{
	return events_stat(model->events, old, size, mtime);
}

/* --- opening and closing --------------------------------------------------------------- */

static int open_parts(struct model *model, struct err *err)
{
	int r = opener_start(&model->opener); /* first: it forks */

	if (r < 0)
		return err_set(err, r, "cannot start: %s", strerror(-r));
	r = store_open(model, err);
	if (r < 0)
		return r;
	opener_trust(model->opener, "/");
	opener_trust(model->opener, model->state_dir);
	r = events_open(&model->events, model->run_fd, EVENTS_MAX);
	if (r < 0)
		return err_set(err, r, "%s/events: %s", model->run_dir, strerror(-r));
	r = layers_open(model, err);
	if (r < 0)
		return r;
	r = jobs_open(&model->jobs, model);
	if (r == 0)
		r = vmm_loop_open(&model->loop);
	if (r == 0)
		r = disk_sizes_open(&model->disk_sizes, model);
	if (r == 0)
		r = nic_releases_open(&model->nic_releases);
	if (r == 0)
		r = vsock_calls_open(&model->vsock_calls);
	if (r < 0)
		return err_set(err, r, "cannot start: %s", strerror(-r));
	r = store_load(model, err);
	if (r == 0) {
		layers_load_all(model);
		snapshots_load_all(model);
		saved_load_all(model);
		layers_sweep(model);
		archive_images_sweep(model, true);
	}
	if (r == 0)
		r = pools_open(&model->pools, model, err);
	if (r == 0) {
		vmm_recover_all(model);
		layers_tidy_all(model);
		disk_sizes_look(model);
		r = networks_open(&model->networks, model, err);
		if (r == 0)
			r = interfaces_open(&model->interfaces, model, err);
		if (r == 0 && nic_releases_start(model->nic_releases) < 0)
			r = err_set(err, -EAGAIN, "cannot start a thread");
	}
	return r;
}

/* filevisor-nbd in the directory of filevisor-vmm. */
static char *beside(const char *vmm_path)
{
	const char *slash = strrchr(vmm_path, '/');
	char *path;

	return asprintf(&path, "%.*sfilevisor-nbd", slash ? (int)(slash + 1 - vmm_path) : 0,
			vmm_path) < 0
		   ? NULL
		   : path;
}

int model_open(struct model **out, const struct model_options *options, struct err *err)
{
	struct model *model = calloc(1, sizeof(*model));
	int r = -ENOMEM;

	if (!model)
		return err_set(err, r, "out of memory");
	model->state_fd = model->machines_fd = model->run_fd = model->run_machines_fd = -1;
	model->state_lock_fd = model->run_lock_fd = -1;
	model->opened = time_now();
	pthread_rwlock_init(&model->observer_lock, NULL);
	pthread_mutex_init(&model->lock, NULL);
	cancel_init(&model->stopping);
	model->state_dir = strdup(options->state_dir);
	model->run_dir = strdup(options->run_dir);
	model->vmm_path = strdup(options->vmm_path);
	model->nbd_path = options->nbd_path ? strdup(options->nbd_path) : beside(options->vmm_path);
	if (!model->state_dir || !model->run_dir || !model->vmm_path || !model->nbd_path ||
	    registry_init(&model->registry) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	else
		r = open_parts(model, err);
	if (r < 0) {
		model_close(model);
		return r;
	}
	*out = model;
	return 0;
}

void model_keep_spare(struct model *model)
{
	int r = spares_start(model);

	if (r < 0)
		log_warn("no VMM is kept at the ready: %s", strerror(-r));
}

int model_idle(struct model *model, struct err *err)
{
	uint64_t cursor = 0;
	struct machine *next;

	while ((next = model_machine_next(model, &cursor))) {
		_cleanup_machine_ struct machine *m = next;
		char name[MACHINE_NAME_MAX + 1];

		machine_name(m, name);
		LOCK_SCOPE(&m->lock);
		if (m->vmm)
			return err_set(err, -EBUSY, "machine %s runs: stop or kill it first", name);
	}
	return 0;
}

/* Machines let go of their VMMs, which run on. */
static void disconnect_all(struct model *model)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		struct vmm *vmm;

		pthread_mutex_lock(&m->lock);
		vmm = take_ptr(m->vmm);
		pthread_mutex_unlock(&m->lock);
		if (vmm)
			vmm_disconnect(vmm);
		vmm_put(vmm);
		snapshots_free(m, false);
		machine_put(m);
	}
}

void model_close(struct model *model)
{
	cancel_request(&model->stopping);
	if (model->autostarting)
		pthread_join(model->autostart, NULL);
	if (model->jobs)
		jobs_stop(model->jobs);
	disk_sizes_close(take_ptr(model->disk_sizes));
	spares_stop(take_ptr(model->spares));
	if (model->loop)
		vmm_loop_stop(model->loop);
	vsock_calls_close(take_ptr(model->vsock_calls));
	if (model->registry.buckets)
		disconnect_all(model);
	if (model->loop)
		vmm_loop_close(model->loop);
	if (model->jobs)
		jobs_close(model->jobs);
	nic_releases_close(take_ptr(model->nic_releases));
	interfaces_close(model->interfaces);
	model->interfaces = NULL;
	networks_close(model->networks);
	model->networks = NULL;
	pools_close(model->pools); /* its threads look there until they end */
	model->pools = NULL;
	registry_destroy(&model->registry);
	layers_close(model);
	events_close(model->events);
	store_close(model);
	opener_stop(model->opener);
	free(model->error.text);
	free(model->state_dir);
	free(model->run_dir);
	free(model->vmm_path);
	free(model->nbd_path);
	cancel_destroy(&model->stopping);
	pthread_mutex_destroy(&model->lock);
	pthread_rwlock_destroy(&model->observer_lock);
	free(model);
}

uint64_t model_next_serial(struct model *model)
{
	return atomic_fetch_add(&model->last_serial, 1) + 1;
}

struct timespec model_opened(const struct model *model)
{
	return model->opened;
}

/* --- machines: come, go, change their name ----------------------------------------------- */

/* A random UUID (RFC 4122, version 4). */
void model_make_id(char text[ID_TEXT])
{
	unsigned char b[16];

	while (getrandom(b, sizeof(b), 0) != sizeof(b))
		;
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(text, ID_TEXT,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
}

static void machine_event(struct machine *m, const char *kind, const char *name,
			  const char *old_name, const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	event_text(&sb, "machine", name);
	if (old_name)
		event_text(&sb, "old", old_name);
	if (caller)
		event_number(&sb, "uid", caller->uid);
	model_event(m->model, &sb);
}

/* Makes, stores and shows a machine of a reserved name. */
static int define_reserved(struct model *model, const char *name, mode_t mode,
			   const struct caller *caller, struct machine **out, struct err *err)
{
	struct definition *def = definition_new();
	_cleanup_machine_ struct machine *m = NULL;
	char id[ID_TEXT];
	int r;

	model_make_id(id);
	if (def)
		m = machine_new(model, name, id, def);
	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->access = (struct machine_access){caller->uid, caller->gid, mode & 07777};
	r = store_define(m, err);
	if (r < 0)
		return r;
	r = registry_insert(&model->registry, m);
	if (r < 0) {
		store_undefine(m, NULL);
		store_sweep(m);
		return err_set(err, r, "out of memory");
	}
	machine_event(m, "defined", name, NULL, caller);
	tell_added(m);
	if (out)
		*out = take_ptr(m);
	return 0;
}

int model_machine_define(struct model *model, const char *name, mode_t mode,
			 const struct caller *caller, struct machine **m, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = machine_name_check(name, e);

	e->code = r;
	if (r == 0)
		r = registry_reserve(&model->registry, name, e);
	if (r == 0) {
		r = define_reserved(model, name, mode, caller, m, e);
		if (r < 0)
			registry_unreserve(&model->registry, name);
	}
	if (r < 0)
		model_error_set(model, "mkdir", e);
	return r;
}

/* Claims the machine for its end: 0, or why not. Under m->lock. */
static int may_undefine(struct machine *m, struct err *err)
{
	if (!m->alive)
		return err_set(err, -ENOENT, "it is gone");
	if (m->op)
		return err_set(err, -EBUSY, "%s is under way", m->op);
	if (m->state == MACHINE_SAVED)
		return err_set(err, -EBUSY, "it is saved: discard its state first");
	if (m->vmm || m->state == MACHINE_STARTING)
		return err_set(err, -EBUSY, "it is %s: stop or kill it first",
			       machine_state_name(m->state));
	return snapshots_refuse_undefine(m, err);
}

static void end_op(struct machine *m, bool alive)
{
	LOCK_SCOPE(&m->lock);
	m->op = NULL;
	m->alive = alive;
	pthread_cond_broadcast(&m->cond);
}

int model_machine_undefine(struct model *model, struct machine *m, struct err *err)
{
	char name[MACHINE_NAME_MAX + 1];
	struct err ignored = ERR_INIT;
	int r;

	nics_await_released(m, NULL, &ignored); /* or its networks could not go right after it */
	LOCK_SCOPE(&m->edit);
	pthread_mutex_lock(&m->lock);
	r = may_undefine(m, err);
	if (r == 0)
		m->op = "rmdir";
	strcpy(name, m->name);
	pthread_mutex_unlock(&m->lock);
	if (r < 0)
		return r;
	r = store_undefine(m, err);
	end_op(m, r < 0);
	if (r < 0)
		return r;
	machine_get(m);
	registry_remove(&model->registry, m);
	machine_event(m, "undefined", name, NULL, NULL);
	tell_removed(m);
	jobs_drop_machine(model->jobs, m);
	snapshots_free(m, true);
	machine_layers_drop(m);
	rundir_clear(m, true);
	store_sweep(m);
	archive_images_sweep(model, false);
	machine_put(m);
	return 0;
}

int model_machine_rename(struct model *model, struct machine *m, const char *new_name,
			 struct err *err)
{
	char old_name[MACHINE_NAME_MAX + 1];
	int r = machine_name_check(new_name, err);

	if (r < 0)
		return r;
	LOCK_SCOPE(&m->edit);
	machine_name(m, old_name);
	if (!machine_alive(m))
		return err_set(err, -ENOENT, "%s is gone", old_name);
	if (strcmp(old_name, new_name) == 0)
		return 0;
	if (m->unnamed) /* changes under m->edit, too */
		return err_set(err, -EBUSY, "%s is being made", old_name);
	r = registry_reserve(&model->registry, new_name, err);
	if (r < 0)
		return r;
	r = store_rename(m, new_name, err);
	if (r < 0) {
		registry_unreserve(&model->registry, new_name);
		return r;
	}
	registry_rename(&model->registry, m, new_name);
	machine_event(m, "renamed", new_name, old_name, NULL);
	tell_renamed(m, old_name);
	return 0;
}
