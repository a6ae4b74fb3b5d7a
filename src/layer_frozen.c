// SPDX-License-Identifier: ISC
/*
 * Sources that are frozen: what machines and snapshots have layers over, or (a snapshot)
 * refer to as it is. Found by the files that were noted when the layers were made, and by
 * name: numbers of devices change with some mounts, and network disks have no file.
 */
#include <errno.h>
#include <string.h>

#include "layer_int.h"
#include "pool_int.h"
#include "snapshot_int.h"
#include "util/cleanup.h"

struct search {
	const char *source; /* NULL: by files alone */
	const struct file_id *ids;
	unsigned n;
	const struct machine *except;
	const char *disk;
	const char *pool; /* any volume of it; NULL: none */
	size_t pool_len;
};

static bool meets(const struct search *s, const struct disk_layers *d)
{
	if (s->pool)
		return strncmp(s->pool, d->source, s->pool_len) == 0 &&
		       d->source[s->pool_len] == '/';
	return (s->source && strcmp(s->source, d->source) == 0) ||
	       file_ids_meet(d->files, d->n_files, s->ids, s->n);
}

/* Under m->lock. */
static const struct disk_layers *look_machine(const struct search *s, const struct machine *m)
{
	for (size_t i = 0; m->layers && i < m->layers->n; i++) {
		const struct disk_layers *d = &m->layers->disks[i];

		if (s->except == m && strcmp(d->name, s->disk) == 0 &&
		    (!s->source || strcmp(d->source, s->source) == 0))
			continue;
		if (meets(s, d))
			return d;
	}
	return NULL;
}

/* Under m->lock. */
static const struct snapshot *look_snapshots(const struct search *s, const struct machine *m)
{
	for (size_t i = 0; m->snapshots && i < m->snapshots->n; i++) {
		const struct layer_set *set = &m->snapshots->list[i]->layers;

		for (size_t k = 0; k < set->n; k++)
			if (meets(s, &set->disks[k]))
				return m->snapshots->list[i];
	}
	return NULL;
}

static int look(const struct search *s, struct machine *m, struct err *err)
{
	struct snapshot *snapshot;
	const struct disk_layers *d;

	LOCK_SCOPE(&m->lock);
	snapshot = (struct snapshot *)look_snapshots(s, m);
	if (snapshot) {
		LOCK_SCOPE(&snapshot->lock);
		return err_set(err, -EBUSY, "%s is below snapshot %s of machine %s",
			       s->source ? s->source : "it", snapshot->name, m->name);
	}
	d = look_machine(s, m);
	return d ? err_set(err, -EBUSY, "%s is below layers of machine %s (disk %s)",
			   s->source ? s->source : "it", m->name, d->name)
		 : 0;
}

static int look_everywhere(struct model *model, const struct search *search, struct err *err)
{
	uint64_t cursor = 0;
	struct machine *m;
	int r = 0;

	while (r == 0 && (m = model_machine_next(model, &cursor))) {
		r = look(search, m, err);
		machine_put(m);
	}
	return r;
}

int layers_refuse_but(struct model *model, const char *source, const struct file_id *ids,
		      unsigned n, const struct machine *except, const char *disk, struct err *err)
{
	struct search search = {
	    .source = source, .ids = ids, .n = n, .except = except, .disk = disk};

	return look_everywhere(model, &search, err);
}

int layers_refuse_source(struct model *model, const char *source, const struct file_id *ids,
			 unsigned n, struct err *err)
{
	return layers_refuse_but(model, source, ids, n, NULL, NULL, err);
}

int layers_refuse_frozen(struct model *model, const struct file_id *ids, unsigned n,
			 struct err *err)
{
	return layers_refuse_source(model, NULL, ids, n, err);
}

int layers_refuse_volume(struct volume *v, struct err *err)
{
	char name[POOL_NAME_MAX + VOLUME_NAME_MAX + 2];

	pool_name(v->pool, name);
	snprintf(name + strlen(name), VOLUME_NAME_MAX + 2, "/%s", v->meta.name);
	return layers_refuse_source(v->pool->model, name, NULL, 0, err);
}

int layers_refuse_pool(struct model *model, const char *pool, struct err *err)
{
	struct search search = {.pool = pool, .pool_len = strlen(pool)};
	int r = look_everywhere(model, &search, err);

	return r < 0 ? err_prefix(err, "of its volumes, one is frozen"), r : 0;
}
