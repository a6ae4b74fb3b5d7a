// SPDX-License-Identifier: ISC
/*
 * Sizes of disks, kept so that who lists them waits for nobody. While a VMM has the disk the
 * size is known; else it is what was seen last. It is looked at when the daemon
 * starts, when a source is set, and, at most every few seconds, when somebody asks: a thread
 * of its own does that, with the owner's rights, and gives up soon on storage that hangs.
 */
#define LOG_MODULE "disk"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "disk.h"
#include "layer_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"

#define FRESH_MS 3000 /* not looked at again within this time */
#define LOOK_MS	 3000 /* given up after */

struct disk_kept {
	struct disk_kept *next;
	char name[DISK_NAME_MAX + 1];
	uint64_t bytes;
	struct timespec seen; /* CLOCK_MONOTONIC; looked at or about to be */
};

struct look {
	struct look *next;
	struct machine *m;
	char name[DISK_NAME_MAX + 1];
};

struct disk_sizes {
	struct model *model;
	pthread_t thread;
	struct cancel stopping;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t cond;
	struct look *first, **last;
	bool stop;
};

/* --- what is kept: under machine.lock ----------------------------------------------------------
 */

static struct disk_kept *find(struct machine *m, const char *name, bool make)
{
	struct disk_kept *k = m->kept;

	while (k && strcmp(k->name, name) != 0)
		k = k->next;
	if (!k && make && (k = calloc(1, sizeof(*k)))) {
		snprintf(k->name, sizeof(k->name), "%s", name);
		k->next = m->kept;
		m->kept = k;
	}
	return k;
}

void disk_sizes_free(struct machine *m)
{
	while (m->kept) {
		struct disk_kept *k = m->kept;

		m->kept = k->next;
		free(k);
	}
}

static bool is_fresh(const struct disk_kept *k)
{
	struct timespec now = deadline_in_ms(0);

	return k->seen.tv_sec &&
	       (now.tv_sec - k->seen.tv_sec) * 1000 + (now.tv_nsec - k->seen.tv_nsec) / 1000000 <
		   FRESH_MS;
}

void disk_size_note(struct machine *m, const char *name, uint64_t bytes)
{
	struct disk_kept *k;

	LOCK_SCOPE(&m->lock);
	if (!definition_disk(m->def, name))
		return;
	k = find(m, name, true);
	if (!k)
		return;
	k->seen = deadline_in_ms(0);
	if (k->bytes == bytes)
		return;
	k->bytes = bytes;
	machine_touch(m, ASPECT_DISK_CONTENT, name);
}

void disk_size_keep(struct machine *m, const char *name, uint64_t bytes)
{
	struct disk_kept *k = find(m, name, true);

	if (!k)
		return;
	k->bytes = bytes;
	k->seen = deadline_in_ms(0);
}

/* Under machine.lock. */
static void enqueue(struct machine *m, const char *name)
{
	struct disk_sizes *sizes = m->model->disk_sizes;
	struct disk_kept *k = find(m, name, true);
	struct look *look;

	if (!sizes || !k || is_fresh(k))
		return;
	look = calloc(1, sizeof(*look));
	if (!look)
		return;
	k->seen = deadline_in_ms(0);
	look->m = machine_get(m);
	snprintf(look->name, sizeof(look->name), "%s", name);
	LOCK_SCOPE(&sizes->lock);
	*sizes->last = look;
	sizes->last = &look->next;
	pthread_cond_signal(&sizes->cond);
}

/* Pools keep the sizes of their volumes themselves. */
static uint64_t volume_kept(struct model *model, const char *source)
{
	char pool_of[POOL_NAME_MAX + 1];
	int n = disk_source_pool(source);
	_cleanup_pool_ struct pool *pool = NULL;
	_cleanup_volume_ struct volume *volume = NULL;

	snprintf(pool_of, sizeof(pool_of), "%.*s", n, source);
	pool = model_pool_get(model, pool_of);
	volume = pool ? pool_volume_get(pool, source + n + 1) : NULL;
	return volume ? volume_size(volume) : 0;
}

/* Whether a VMM has it: then its size; else what is kept of one that is no volume. */
static bool size_known(struct machine *m, const struct disk *d, uint64_t *bytes)
{
	const struct vmm_has_disk *has;
	struct disk_kept *k;

	LOCK_SCOPE(&m->lock);
	has = m->vmm ? vmm_disk_find(m->vmm, d->name) : NULL;
	if (has) {
		*bytes = has->bytes;
		return true;
	}
	if (disk_source_pool(d->values.source) > 0 &&
	    !(m->layers && layer_set_find(m->layers, d->name, d->values.source)))
		return false;
	if (*d->values.source)
		enqueue(m, d->name);
	k = *d->values.source ? find(m, d->name, false) : NULL;
	*bytes = k ? k->bytes : 0;
	return true;
}

uint64_t machine_disk_size(struct machine *m, const char *name)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	const struct disk *d = definition_disk(def, name);
	uint64_t bytes = 0;

	if (!d || size_known(m, d, &bytes))
		return bytes;
	return volume_kept(m->model, d->values.source);
}

/* --- the thread ------------------------------------------------------------------------------ */

static void look_at(struct look *look, struct cancel *cancel)
{
	_cleanup_definition_ struct definition *def = machine_definition(look->m);
	const struct disk *d = definition_disk(def, look->name);
	_cleanup_rights_ struct rights rights = {0};
	struct probe_ask ask = {.format_known = true, .timeout_ms = LOOK_MS};
	struct probed_disk probed;
	struct err err = ERR_INIT;
	struct caller owner;

	if (d && layers_disk_bytes(look->m, d, &probed.bytes)) {
		disk_size_note(look->m, look->name, probed.bytes);
		return;
	}
	if (!d || *d->values.source != '/' || machine_owner_rights(look->m, &rights) < 0)
		return;
	owner = (struct caller){.uid = rights.uid,
				.gid = rights.gid,
				.groups = rights.groups,
				.n_groups = rights.n_groups,
				.cancel = cancel};
	ask.format = (enum image_format)d->values.format;
	if (disk_probe_source(look->m->model, d->values.source, &ask, &owner, &probed, &err) == 0)
		disk_size_note(look->m, look->name, probed.bytes);
	else
		log_debug("disk %s: %s", look->name, err.text);
}

static struct look *next_look(struct disk_sizes *sizes)
{
	struct look *look;

	LOCK_SCOPE(&sizes->lock);
	while (!sizes->first && !sizes->stop)
		pthread_cond_wait(&sizes->cond, &sizes->lock);
	look = sizes->stop ? NULL : sizes->first;
	if (look) {
		sizes->first = look->next;
		if (!sizes->first)
			sizes->last = &sizes->first;
	}
	return look;
}

static void *look_thread(void *arg)
{
	struct disk_sizes *sizes = arg;
	struct look *look;

	pthread_setname_np(pthread_self(), "disks");
	while ((look = next_look(sizes))) {
		look_at(look, &sizes->stopping);
		machine_put(look->m);
		free(look);
	}
	return NULL;
}

int disk_sizes_open(struct disk_sizes **out, struct model *model)
{
	struct disk_sizes *sizes = calloc(1, sizeof(*sizes));
	int r;

	if (!sizes)
		return -ENOMEM;
	sizes->model = model;
	sizes->last = &sizes->first;
	pthread_mutex_init(&sizes->lock, NULL);
	pthread_cond_init(&sizes->cond, NULL);
	cancel_init(&sizes->stopping);
	r = -pthread_create(&sizes->thread, NULL, look_thread, sizes);
	if (r < 0) {
		cancel_destroy(&sizes->stopping);
		free(sizes);
		return r;
	}
	*out = sizes;
	return 0;
}

void disk_sizes_look(struct model *model)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		pthread_mutex_lock(&m->lock);
		for (size_t i = 0; i < m->def->n_disks; i++)
			if (*m->def->disks[i].values.source == '/')
				enqueue(m, m->def->disks[i].name);
		pthread_mutex_unlock(&m->lock);
		machine_put(m);
	}
}

void disk_sizes_close(struct disk_sizes *sizes)
{
	if (!sizes)
		return;
	pthread_mutex_lock(&sizes->lock);
	sizes->stop = true;
	pthread_cond_signal(&sizes->cond);
	pthread_mutex_unlock(&sizes->lock);
	cancel_request(&sizes->stopping);
	pthread_join(sizes->thread, NULL);
	while (sizes->first) {
		struct look *look = sizes->first;

		sizes->first = look->next;
		machine_put(look->m);
		free(look);
	}
	cancel_destroy(&sizes->stopping);
	pthread_cond_destroy(&sizes->cond);
	pthread_mutex_destroy(&sizes->lock);
	free(sizes);
}
