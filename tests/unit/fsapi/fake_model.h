/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_FAKE_MODEL_H
#define FV_TEST_FAKE_MODEL_H
/*
 * A model in memory, for tests of the tree alone: machines with two keys and
 * a config of the form "cpus = N;", whose commands are start, kill, `wait STATE S`
 * and `sleep` (until cancelled). Defines every function of the model that
 * fsapi/ uses, so the real one is not linked. Included by one file of a program.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "job.h"
#include "machine.h"
#include "model.h"
#include "pool.h"
#include "snapshot.h"
#include "util/cleanup.h"
#include "util/size.h"

#define FAKE_MACHINES 4096
#define FAKE_DISKS    8
#define FAKE_SNAPS    8

struct machine {
	atomic_uint refs;
	struct model *model;
	uint64_t serial;
	char name[64];
	bool alive;
	enum machine_state state;
	struct machine_access access;
	unsigned cpus;
	char kernel[128];
	char error[600];
	char disks[FAKE_DISKS][DISK_NAME_MAX + 1];
	char typed[256];
	struct snapshot *snapshots[FAKE_SNAPS];
	char imported[64]; /* what was written to `archive` */
	struct timespec changed;
};

struct model {
	pthread_mutex_t lock; /* guards all here and in machines; held while observers are told */
	pthread_cond_t cond;
	struct machine *machines[FAKE_MACHINES]; /* by serial */
	uint64_t serials;
	size_t count;
	struct timespec opened;
	struct pool *pools[8];
	uint64_t pool_serials;
	char error[600];
	const struct model_observer *observer;
	void *arg;
	int events; /* memfd */
};

static const char *const yes_no[] = {"yes", "no", NULL};
const struct config_key machine_keys[] = {
    {.name = "cpus", .type = KEY_UINT, .min = 1, .max = 64, .help = "processors"},
    {.name = "kernel", .type = KEY_PATH, .max = 100, .words = yes_no, .help = "kernel"},
};
const size_t n_machine_keys = 2;
const struct config_key disk_keys[] = {{.name = "source", .type = KEY_PATH, .help = "file"}};
const size_t n_disk_keys = 1;
static void show_cpus(struct strbuf *sb)
{
	strbuf_puts(sb, "2");
}
const struct host_fact host_facts[] = {{"cpus", show_cpus, "processors"},
				       {"kvm/api_version", show_cpus, "of KVM"}};
const size_t n_host_facts = 2;

static struct timespec fake_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts;
}

static struct model *fake_model(void)
{
	struct model *model = calloc(1, sizeof(*model));

	pthread_mutex_init(&model->lock, NULL);
	pthread_cond_init(&model->cond, NULL);
	model->opened = fake_now();
	model->events = memfd_create("events", MFD_CLOEXEC);
	return model;
}

void model_close(struct model *model)
{
	for (size_t i = 0; i < model->serials; i++)
		if (model->machines[i])
			machine_put(model->machines[i]);
	for (size_t i = 0; i < nitems(model->pools); i++)
		if (model->pools[i])
			pool_put(model->pools[i]);
	close(model->events);
	free(model);
}

#define TELL(model, what, ...)                                                                     \
	do {                                                                                       \
		if ((model)->observer)                                                             \
			(model)->observer->what((model)->arg, ##__VA_ARGS__);                      \
	} while (0)

/* With the lock. */
static void fake_changed(struct machine *m, enum machine_aspect aspect, const char *name)
{
	m->changed = fake_now();
	TELL(m->model, machine_changed, m, aspect, name);
}

static void fake_event(struct model *model, const char *text)
{
	dprintf(model->events, "{\"event\":\"%s\"}\n", text);
	TELL(model, events_grew);
}

static void fake_error(struct machine *m, const char *what, int code, const char *words)
{
	if (code)
		snprintf(m->error, sizeof(m->error), "%s %s: %s\n", err_name(code), what, words);
	else
		m->error[0] = '\0';
	fake_changed(m, ASPECT_ERROR, NULL);
	fake_event(m->model, what);
}

void model_set_observer(struct model *model, const struct model_observer *o, void *arg)
{
	LOCK_SCOPE(&model->lock);
	model->observer = o;
	model->arg = arg;
}

struct timespec model_opened(const struct model *model)
{
	return model->opened;
}

struct timespec model_machines_changed(struct model *model)
{
	return model->opened;
}

size_t model_machine_count(struct model *model)
{
	LOCK_SCOPE(&model->lock);
	return model->count;
}

struct machine *machine_get(struct machine *m)
{
	atomic_fetch_add(&m->refs, 1);
	return m;
}

void machine_put(struct machine *m)
{
	if (atomic_fetch_sub(&m->refs, 1) == 1)
		free(m);
}

static struct machine *fake_find(struct model *model, const char *name)
{
	for (size_t i = 0; i < model->serials; i++)
		if (model->machines[i] && strcmp(model->machines[i]->name, name) == 0)
			return model->machines[i];
	return NULL;
}

struct machine *model_machine_get(struct model *model, const char *name)
{
	struct machine *m;

	LOCK_SCOPE(&model->lock);
	m = fake_find(model, name);
	return m ? machine_get(m) : NULL;
}

struct machine *model_machine_next(struct model *model, uint64_t *cursor)
{
	LOCK_SCOPE(&model->lock);
	while (*cursor < model->serials)
		if (model->machines[(*cursor)++])
			return machine_get(model->machines[*cursor - 1]);
	return NULL;
}

int machine_name_check(const char *name, struct err *err)
{
	if (strlen(name) > 63 ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(name))
		return err_set(err, -EINVAL, "a bad name");
	return 0;
}

int model_machine_define(struct model *model, const char *name, mode_t mode,
			 const struct caller *caller, struct machine **out, struct err *err)
{
	struct machine *m;

	if (machine_name_check(name, err) < 0)
		return -EINVAL;
	LOCK_SCOPE(&model->lock);
	if (fake_find(model, name))
		return err_set(err, -EEXIST, "it exists");
	if (model->serials == FAKE_MACHINES)
		return err_set(err, -ENOSPC, "too many");
	m = calloc(1, sizeof(*m));
	atomic_init(&m->refs, 1);
	m->model = model;
	m->serial = model->serials;
	m->alive = true;
	m->cpus = 1;
	m->access = (struct machine_access){caller->uid, caller->gid, mode};
	m->changed = fake_now();
	snprintf(m->name, sizeof(m->name), "%s", name);
	model->machines[model->serials++] = m;
	model->count++;
	TELL(model, machine_added, m);
	if (out)
		*out = machine_get(m);
	return 0;
}

int model_machine_undefine(struct model *model, struct machine *m, struct err *err)
{
	LOCK_SCOPE(&model->lock);
	if (!m->alive)
		return err_set(err, -ENOENT, "gone");
	if (m->state == MACHINE_RUNNING)
		return err_set(err, -EBUSY, "it runs");
	m->alive = false;
	model->machines[m->serial] = NULL;
	model->count--;
	TELL(model, machine_removed, m);
	machine_put(m);
	return 0;
}

int model_machine_rename(struct model *model, struct machine *m, const char *name, struct err *err)
{
	char old[64];

	if (machine_name_check(name, err) < 0)
		return -EINVAL;
	LOCK_SCOPE(&model->lock);
	if (fake_find(model, name))
		return err_set(err, -EEXIST, "it exists");
	memcpy(old, m->name, sizeof(old));
	snprintf(m->name, sizeof(m->name), "%s", name);
	TELL(model, machine_renamed, m, old);
	return 0;
}

int model_events_open(struct model *model, bool old)
{
	char path[64];

	if (old)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", model->events);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int model_events_stat(struct model *model, bool old, uint64_t *size, struct timespec *mtime)
{
	struct stat st;

	*mtime = model->opened;
	*size = 0;
	if (old || fstat(model->events, &st) < 0)
		return -ENOENT;
	*size = (uint64_t)st.st_size;
	return 0;
}

int model_command_run(struct model *model, const char *line, const struct caller *caller,
		      struct err *err)
{
	struct machine *m;
	char name[64];

	(void)caller;
	if (sscanf(line, "remove %63s", name) != 1)
		return err_set(err, -EINVAL, "no such command");
	m = model_machine_get(model, name);
	if (!m)
		return err_set(err, -ENOENT, "no such machine");
	model_machine_undefine(model, m, err);
	machine_put(m);
	return 0;
}

void model_command_list(struct model *model, struct strbuf *sb)
{
	(void)model;
	strbuf_puts(sb, "# remove NAME\n");
}

void model_error_show(struct model *model, struct strbuf *sb)
{
	LOCK_SCOPE(&model->lock);
	strbuf_puts(sb, model->error);
}

void model_error_set(struct model *model, const char *what, const struct err *err)
{
	LOCK_SCOPE(&model->lock);
	snprintf(model->error, sizeof(model->error), "%s %s: %s\n", err_name(err->code), what,
		 err->text);
}

const char *machine_state_name(enum machine_state state)
{
	return state == MACHINE_RUNNING ? "running" : "defined";
}

void machine_name(struct machine *m, char name[MACHINE_NAME_MAX + 1])
{
	LOCK_SCOPE(&m->model->lock);
	memcpy(name, m->name, MACHINE_NAME_MAX + 1);
}

uint64_t machine_serial(const struct machine *m)
{
	return m->serial;
}

enum machine_state machine_state(struct machine *m)
{
	LOCK_SCOPE(&m->model->lock);
	return m->state;
}

bool machine_alive(struct machine *m)
{
	LOCK_SCOPE(&m->model->lock);
	return m->alive;
}

struct timespec machine_changed(struct machine *m, enum machine_aspect aspect, const char *name)
{
	(void)aspect;
	(void)name;
	LOCK_SCOPE(&m->model->lock);
	return m->changed;
}

void machine_access_get(struct machine *m, struct machine_access *access)
{
	LOCK_SCOPE(&m->model->lock);
	*access = m->access;
}

int machine_access_set(struct machine *m, const struct machine_access *access, struct err *err)
{
	(void)err;
	LOCK_SCOPE(&m->model->lock);
	m->access = *access;
	fake_changed(m, ASPECT_ACCESS, NULL);
	return 0;
}

bool machine_file_mode_get(struct machine *m, const char *path, mode_t *mode)
{
	(void)m;
	(void)path;
	(void)mode;
	return false;
}

int machine_file_mode_set(struct machine *m, const char *path, mode_t mode, struct err *err)
{
	(void)m;
	(void)path;
	(void)mode;
	return err_set(err, -EPERM, "not here");
}

int machine_key_show(struct machine *m, const struct config_key *key, struct strbuf *sb)
{
	LOCK_SCOPE(&m->model->lock);
	if (key == &machine_keys[0])
		strbuf_printf(sb, "%u", m->cpus);
	else
		strbuf_puts(sb, m->kernel);
	return 0;
}

int machine_key_store(struct machine *m, const struct config_key *key, const char *text,
		      const struct caller *caller, struct err *err)
{
	uint64_t v = 0;
	int r = 0;

	(void)caller;
	if (key == &machine_keys[0])
		r = uint_parse(text, 1, 64, &v);
	LOCK_SCOPE(&m->model->lock);
	if (r < 0) {
		fake_error(m, key->name, r, "not a number of processors");
		return err_set(err, r, "no number");
	}
	fake_error(m, key->name, 0, "");
	if (key == &machine_keys[0])
		m->cpus = (unsigned)v;
	else
		snprintf(m->kernel, sizeof(m->kernel), "%s", text);
	fake_changed(m, (enum machine_aspect)(ASPECT_KEY0 + (key - machine_keys)), NULL);
	fake_changed(m, ASPECT_DEFINITION, NULL);
	return 0;
}

int machine_config_show(struct machine *m, struct strbuf *sb)
{
	LOCK_SCOPE(&m->model->lock);
	strbuf_printf(sb, "cpus = %u;\n", m->cpus);
	return 0;
}

int machine_config_store(struct machine *m, const char *text, size_t len,
			 const struct caller *caller, struct err *err)
{
	unsigned cpus;
	char end;

	(void)len;
	(void)caller;
	LOCK_SCOPE(&m->model->lock);
	if (sscanf(text, "cpus = %u%c", &cpus, &end) != 2 || end != ';') {
		fake_error(m, "config", -EINVAL, "line 1");
		return err_set(err, -EINVAL, "line 1");
	}
	m->cpus = cpus;
	fake_error(m, "config", 0, "");
	fake_changed(m, ASPECT_KEY0, NULL);
	fake_changed(m, ASPECT_DEFINITION, NULL);
	return 0;
}

static int fake_disk(struct machine *m, const char *name)
{
	for (int i = 0; i < FAKE_DISKS; i++)
		if (strcmp(m->disks[i], name) == 0)
			return i;
	return -1;
}

int machine_disk_add(struct machine *m, const char *name, const struct caller *caller,
		     struct err *err)
{
	int i;

	(void)caller;
	LOCK_SCOPE(&m->model->lock);
	i = fake_disk(m, "");
	if (i < 0 || strlen(name) > DISK_NAME_MAX)
		return err_set(err, -ENOSPC, "too many");
	strcpy(m->disks[i], name);
	fake_changed(m, ASPECT_DISKS, name);
	return 0;
}

int machine_disk_remove(struct machine *m, const char *name, const struct caller *caller,
			struct err *err)
{
	int i;

	(void)caller;
	LOCK_SCOPE(&m->model->lock);
	i = fake_disk(m, name);
	if (i < 0)
		return err_set(err, -ENOENT, "none");
	for (; i < FAKE_DISKS - 1; i++)
		memcpy(m->disks[i], m->disks[i + 1], sizeof(m->disks[i]));
	m->disks[i][0] = '\0';
	fake_changed(m, ASPECT_DISKS, name);
	return 0;
}

bool machine_disk_exists(struct machine *m, const char *name)
{
	LOCK_SCOPE(&m->model->lock);
	return fake_disk(m, name) >= 0;
}

bool machine_disk_at(struct machine *m, size_t index, char name[DISK_NAME_MAX + 1])
{
	LOCK_SCOPE(&m->model->lock);
	if (index >= FAKE_DISKS || !m->disks[index][0])
		return false;
	strcpy(name, m->disks[index]);
	return true;
}

int machine_disk_key_show(struct machine *m, const char *disk, const struct config_key *key,
			  struct strbuf *sb)
{
	(void)key;
	strbuf_puts(sb, disk);
	return machine_disk_exists(m, disk) ? 0 : -ENOENT;
}

int machine_disk_key_store(struct machine *m, const char *disk, const struct config_key *key,
			   const char *text, const struct caller *caller, struct err *err)
{
	(void)m;
	(void)disk;
	(void)key;
	(void)text;
	(void)caller;
	return err_set(err, -EINVAL, "not here");
}

int machine_disk_command_run(struct machine *m, const char *disk, const char *line,
			     const struct caller *caller, struct err *err)
{
	(void)m;
	(void)disk;
	(void)line;
	(void)caller;
	return err_set(err, -EINVAL, "no such command");
}

void machine_disk_command_list(struct machine *m, const char *disk, struct strbuf *sb)
{
	(void)m;
	(void)disk;
	strbuf_puts(sb, "# eject\n");
}

void machine_disk_command_help(struct strbuf *sb)
{
	strbuf_puts(sb, "eject\ttake it out\n");
}

int machine_disk_state_show(struct machine *m, const char *disk, struct strbuf *sb)
{
	strbuf_puts(sb, "detached");
	return machine_disk_exists(m, disk) ? 0 : -ENOENT;
}

int machine_disk_layers_show(struct machine *m, const char *disk, struct strbuf *sb)
{
	(void)m;
	(void)disk;
	(void)sb;
	return 0;
}

static void fake_wake(void *arg)
{
	struct model *model = arg;

	pthread_mutex_lock(&model->lock);
	pthread_cond_broadcast(&model->cond);
	pthread_mutex_unlock(&model->lock);
}

static int fake_sleep(struct machine *m, const struct caller *caller)
{
	cancel_set_wake(caller->cancel, fake_wake, m->model);
	pthread_mutex_lock(&m->model->lock);
	while (!cancel_requested(caller->cancel) && m->state != MACHINE_RUNNING)
		pthread_cond_wait(&m->model->cond, &m->model->lock);
	pthread_mutex_unlock(&m->model->lock);
	cancel_set_wake(caller->cancel, NULL, NULL);
	return cancel_requested(caller->cancel) ? -ECANCELED : 0;
}

int machine_command_run(struct machine *m, const char *line, const struct caller *caller,
			struct err *err)
{
	if (strcmp(line, "sleep") == 0)
		return fake_sleep(m, caller);
	LOCK_SCOPE(&m->model->lock);
	if (!m->alive)
		return err_set(err, -ENOENT, "gone");
	if (strcmp(line, "start") == 0) {
		m->state = MACHINE_RUNNING;
	} else if (strcmp(line, "kill") == 0) {
		m->state = MACHINE_DEFINED;
	} else {
		fake_error(m, line, -EINVAL, "no such command");
		return err_set(err, -EINVAL, "no such command");
	}
	fake_error(m, line, 0, "");
	fake_changed(m, ASPECT_STATE, NULL);
	fake_changed(m, ASPECT_COMMANDS, NULL);
	fake_changed(m, ASPECT_VCPUS, NULL);
	pthread_cond_broadcast(&m->model->cond);
	return 0;
}

void machine_command_list(struct machine *m, struct strbuf *sb)
{
	strbuf_puts(sb, machine_state(m) == MACHINE_RUNNING ? "# kill\n" : "# start\n");
}

void machine_command_help(struct strbuf *sb)
{
	strbuf_puts(sb, "start\trun it\nkill\tend it\n");
}

void machine_error_show(struct machine *m, struct strbuf *sb)
{
	LOCK_SCOPE(&m->model->lock);
	strbuf_puts(sb, m->error);
}

void machine_error_set(struct machine *m, const char *what, const struct err *err)
{
	LOCK_SCOPE(&m->model->lock);
	fake_error(m, what, err->code, err->text);
}

int machine_console_open(struct machine *m, bool old)
{
	(void)m;
	(void)old;
	return -ENOENT;
}

int machine_console_stat(struct machine *m, bool old, uint64_t *size, struct timespec *mtime)
{
	(void)m;
	(void)old;
	(void)size;
	(void)mtime;
	return -ENOENT;
}

int machine_console_type(struct machine *m, const void *data, size_t len, struct err *err)
{
	LOCK_SCOPE(&m->model->lock);
	if (m->state != MACHINE_RUNNING)
		return err_set(err, -EBUSY, "no guest runs");
	snprintf(m->typed, sizeof(m->typed), "%.*s", (int)len, (const char *)data);
	return 0;
}

int machine_tty(struct machine *m, struct strbuf *sb)
{
	strbuf_puts(sb, "/dev/pts/7");
	return machine_state(m) == MACHINE_RUNNING ? 0 : -ENOENT;
}

unsigned machine_vcpu_count(struct machine *m)
{
	LOCK_SCOPE(&m->model->lock);
	return m->state == MACHINE_RUNNING ? m->cpus : 0;
}

int machine_registers_show(struct machine *m, unsigned vcpu, struct strbuf *sb, struct err *err)
{
	(void)m;
	(void)vcpu;
	(void)err;
	strbuf_puts(sb, "rip 0\n");
	return 0;
}

size_t machine_registers_size(void)
{
	return 6;
}

int machine_vcpu_state_show(struct machine *m, unsigned vcpu, struct strbuf *sb)
{
	(void)m;
	(void)vcpu;
	strbuf_puts(sb, "halted");
	return 0;
}

int machine_affinity_show(struct machine *m, unsigned vcpu, struct strbuf *sb)
{
	return machine_vcpu_state_show(m, vcpu, sb);
}

int machine_affinity_store(struct machine *m, unsigned vcpu, const char *text, struct err *err)
{
	(void)m;
	(void)vcpu;
	(void)text;
	return err_set(err, -EINVAL, "not here");
}

void machine_stats_show(struct machine *m, struct strbuf *sb)
{
	(void)m;
	(void)sb;
}

void machine_metrics_show(struct machine *m, struct strbuf *sb)
{
	(void)m;
	(void)sb;
}

void machine_stats_show_prefix(struct machine *m, const char *prefix, struct strbuf *sb)
{
	(void)m;
	(void)prefix;
	(void)sb;
}

int machine_memory_open(struct machine *m, struct content **content, struct err *err)
{
	(void)m;
	(void)content;
	return err_set(err, -ENODEV, "no guest");
}

uint64_t machine_memory_size(struct machine *m)
{
	(void)m;
	return 0;
}

int machine_core_open(struct machine *m, struct machine_core **core, struct err *err)
{
	(void)m;
	(void)core;
	return err_set(err, -ENODEV, "no guest");
}

uint64_t machine_core_size(struct machine *m)
{
	(void)m;
	return 0;
}

ssize_t machine_core_read(struct machine_core *core, void *buf, size_t len, uint64_t offset)
{
	(void)core;
	(void)buf;
	(void)len;
	(void)offset;
	return 0;
}

int64_t machine_core_seek(struct machine_core *core, int64_t offset, int whence)
{
	(void)core;
	(void)offset;
	(void)whence;
	return -ENXIO;
}

void machine_core_close(struct machine_core *core)
{
	(void)core;
}

#include "tests/unit/fsapi/fake_jobs.h"
#include "tests/unit/fsapi/fake_interfaces.h"
#include "tests/unit/fsapi/fake_network.h"
#include "tests/unit/fsapi/fake_pool.h"
#include "tests/unit/fsapi/fake_snapshot.h"

#endif
