// SPDX-License-Identifier: ISC
/*
 * All machines: by name (a hash) and in the order in which they came (an array
 * sorted by serial, in which those that went leave a gap until gaps prevail). A
 * name is taken first, without a machine, so that nobody else makes one of
 * that name while the disk is being written, and no lock is held meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model_int.h"
#include "util/cleanup.h"

struct name_slot {
	struct name_slot *next;
	struct machine *m; /* NULL: reserved */
	char name[MACHINE_NAME_MAX + 1];
};

static size_t hash(const char *name)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
	return (size_t)(h ^ h >> 32);
}

int registry_init(struct registry *reg)
{
	memset(reg, 0, sizeof(*reg));
	reg->n_buckets = 64;
	reg->buckets = calloc(reg->n_buckets, sizeof(*reg->buckets));
	if (!reg->buckets)
		return -ENOMEM;
	reg->changed = time_now();
	return -pthread_rwlock_init(&reg->lock, NULL);
}

void registry_destroy(struct registry *reg)
{
	if (!reg->buckets)
		return;
	for (size_t i = 0; i < reg->n_buckets; i++)
		for (struct name_slot *s = reg->buckets[i], *next; s; s = next) {
			next = s->next;
			machine_put(s->m);
			free(s);
		}
	free(reg->buckets);
	free(reg->order);
	free(reg->serials);
	pthread_rwlock_destroy(&reg->lock);
}

/* The link to the slot of that name, or to the chain's end. */
static struct name_slot **find(struct registry *reg, const char *name)
{
	struct name_slot **link = &reg->buckets[hash(name) & (reg->n_buckets - 1)];

	while (*link && strcmp((*link)->name, name) != 0)
		link = &(*link)->next;
	return link;
}

static void grow(struct registry *reg)
{
	size_t n = reg->n_buckets * 2;
	struct name_slot **buckets = calloc(n, sizeof(*buckets));

	if (!buckets)
		return; /* longer chains, then */
	for (size_t i = 0; i < reg->n_buckets; i++)
		for (struct name_slot *s = reg->buckets[i], *next; s; s = next) {
			struct name_slot **link = &buckets[hash(s->name) & (n - 1)];

			next = s->next;
			s->next = *link;
			*link = s;
		}
	free(reg->buckets);
	reg->buckets = buckets;
	reg->n_buckets = n;
}

int registry_reserve(struct registry *reg, const char *name, struct err *err)
{
	struct name_slot *slot = calloc(1, sizeof(*slot)), **link;
	int r = 0;

	if (!slot)
		return err_set(err, -ENOMEM, "out of memory");
	strcpy(slot->name, name);
	pthread_rwlock_wrlock(&reg->lock);
	if (reg->n_slots >= reg->n_buckets)
		grow(reg);
	link = find(reg, name);
	if (*link)
		r = -EEXIST;
	else if (reg->n_slots >= MACHINES_MAX)
		r = -ENOSPC;
	else
		*link = take_ptr(slot), reg->n_slots++;
	pthread_rwlock_unlock(&reg->lock);
	free(slot);
	if (r == -ENOSPC)
		return err_set(err, r, "there are %d machines already", MACHINES_MAX);
	return r ? err_set(err, r, "there is a machine %s already", name) : 0;
}

/* Under the lock. */
static void drop_slot(struct registry *reg, const char *name)
{
	struct name_slot **link = find(reg, name), *slot = *link;

	*link = slot->next;
	reg->n_slots--;
	free(slot);
}

void registry_unreserve(struct registry *reg, const char *name)
{
	pthread_rwlock_wrlock(&reg->lock);
	drop_slot(reg, name);
	pthread_rwlock_unlock(&reg->lock);
}

/* Index of the first entry with a serial of at least that. */
static size_t lower_bound(const struct registry *reg, uint64_t serial)
{
	size_t low = 0, high = reg->n_order;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (reg->serials[middle] < serial)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void close_gaps(struct registry *reg)
{
	size_t n = 0;

	for (size_t i = 0; i < reg->n_order; i++)
		if (reg->order[i]) {
			reg->order[n] = reg->order[i];
			reg->serials[n++] = reg->serials[i];
		}
	reg->n_order = n;
	reg->n_gone = 0;
}

static int order_room(struct registry *reg)
{
	size_t cap = reg->cap ? reg->cap * 2 : 64;
	struct machine **order;
	uint64_t *serials;

	if (reg->n_order < reg->cap)
		return 0;
	order = realloc(reg->order, cap * sizeof(*order));
	if (!order)
		return -ENOMEM;
	reg->order = order;
	serials = realloc(reg->serials, cap * sizeof(*serials));
	if (!serials)
		return -ENOMEM;
	reg->serials = serials;
	reg->cap = cap;
	return 0;
}

int registry_insert(struct registry *reg, struct machine *m)
{
	int r;

	pthread_rwlock_wrlock(&reg->lock);
	r = order_room(reg);
	if (r == 0) {
		m->serial = model_next_serial(m->model);
		reg->order[reg->n_order] = m;
		reg->serials[reg->n_order++] = m->serial;
		(*find(reg, m->name))->m = machine_get(m);
		reg->count++;
		reg->changed = time_now();
	}
	pthread_rwlock_unlock(&reg->lock);
	return r;
}

void registry_remove(struct registry *reg, struct machine *m)
{
	size_t i;

	pthread_rwlock_wrlock(&reg->lock);
	drop_slot(reg, m->name);
	i = lower_bound(reg, m->serial);
	reg->order[i] = NULL;
	reg->count--;
	if (++reg->n_gone > reg->n_order / 2)
		close_gaps(reg);
	reg->changed = time_now();
	pthread_rwlock_unlock(&reg->lock);
	machine_put(m);
}

void registry_rename(struct registry *reg, struct machine *m, const char *new_name)
{
	pthread_rwlock_wrlock(&reg->lock);
	(*find(reg, new_name))->m = m;
	drop_slot(reg, m->name);
	pthread_mutex_lock(&m->lock);
	strcpy(m->name, new_name);
	pthread_mutex_unlock(&m->lock);
	reg->changed = time_now();
	pthread_rwlock_unlock(&reg->lock);
}

/* --- model.h ------------------------------------------------------------------------- */

struct machine *model_machine_get(struct model *model, const char *name)
{
	struct registry *reg = &model->registry;
	struct name_slot *slot;
	struct machine *m = NULL;

	pthread_rwlock_rdlock(&reg->lock);
	slot = *find(reg, name);
	if (slot && slot->m)
		m = machine_get(slot->m);
	pthread_rwlock_unlock(&reg->lock);
	return m;
}

struct machine *model_machine_next(struct model *model, uint64_t *cursor)
{
	struct registry *reg = &model->registry;
	struct machine *m = NULL;

	pthread_rwlock_rdlock(&reg->lock);
	for (size_t i = lower_bound(reg, *cursor + 1); i < reg->n_order && !m; i++)
		if (reg->order[i]) {
			m = machine_get(reg->order[i]);
			*cursor = m->serial;
		}
	pthread_rwlock_unlock(&reg->lock);
	return m;
}

size_t model_machine_count(struct model *model)
{
	size_t n;

	pthread_rwlock_rdlock(&model->registry.lock);
	n = model->registry.count;
	pthread_rwlock_unlock(&model->registry.lock);
	return n;
}

struct timespec model_machines_changed(struct model *model)
{
	struct timespec t;

	pthread_rwlock_rdlock(&model->registry.lock);
	t = model->registry.changed;
	pthread_rwlock_unlock(&model->registry.lock);
	return t;
}
