// SPDX-License-Identifier: ISC
/*
 * Nodes: the inodes that somebody knows.
 *
 * A nodeid that the kernel gets is the node's address. A node is found again
 * by its directory, its row and (for dynamic children) number or name, in a
 * hash table of 64 shards; so it is made at the first lookup, is the same for
 * as long as anyone refers to it, and costs nothing when nobody does: a
 * thousand defined machines that nobody looks at have no nodes.
 *
 * References: one for each lookup of the kernel's, one for each child node,
 * handle, queued notification and call under way. The last reference is
 * dropped under the shard's lock, so that nobody finds a node that is going.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define BUCKETS_MIN 16

int nodes_init(struct fsapi *fs)
{
	for (size_t i = 0; i < NODE_SHARDS; i++) {
		struct shard *s = &fs->shards[i];

		pthread_mutex_init(&s->lock, NULL);
		s->n_buckets = BUCKETS_MIN;
		s->buckets = calloc(s->n_buckets, sizeof(s->buckets[0]));
		if (!s->buckets)
			return -ENOMEM;
	}
	return 0;
}

static void free_node(struct node *n)
{
	atomic_fetch_sub(&n->fs->n_nodes, 1);
	scratch_free_list(n);
	if (n->scratch)
		scratch_release(n->scratch);
	thing_put(n->thing);
	free(n->name);
	free(n);
}

/* Whatever the kernel still knew when its connection ended goes with it. */
void nodes_destroy(struct fsapi *fs)
{
	for (size_t i = 0; i < NODE_SHARDS; i++) {
		struct shard *s = &fs->shards[i];

		for (size_t b = 0; s->buckets && b < s->n_buckets; b++) {
			while (s->buckets[b]) {
				struct node *n = s->buckets[b];

				s->buckets[b] = n->next;
				free_node(n);
			}
		}
		free(s->buckets);
		s->buckets = NULL;
		pthread_mutex_destroy(&s->lock);
	}
}

/* --- hashing -------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	return h;
}

static uint64_t mix_text(uint64_t h, const char *s)
{
	for (; s && *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return mix(h, 0);
}

/*
 * A number for st_ino that follows from what the thing is, so that it stays
 * while nodes come and go. 53 bits, so that scripts in any language can hold it.
 */
uint64_t node_ino(const struct node *dir, const struct row *row, uint64_t id, const char *name)
{
	uint64_t h = mix(dir ? dir->ino : 1, id);

	h = mix_text(h, row->name);
	h = mix_text(h, name);
	h &= ((uint64_t)1 << 53) - 1;
	return h > 1 ? h : 2;
}

static struct shard *shard_of(struct fsapi *fs, uint64_t ino)
{
	return &fs->shards[ino % NODE_SHARDS];
}

static struct node **bucket_of(struct shard *s, uint64_t ino)
{
	return &s->buckets[(ino / NODE_SHARDS) & (s->n_buckets - 1)];
}

/* Doubles the buckets; without memory the chains merely get longer. */
static void grow(struct shard *s)
{
	size_t old = s->n_buckets;
	struct node **buckets = s->buckets;
	struct node **more;

	more = calloc(old * 2, sizeof(more[0]));
	if (!more)
		return;
	s->buckets = more;
	s->n_buckets = old * 2;
	for (size_t b = 0; b < old; b++) {
		while (buckets[b]) {
			struct node *n = buckets[b];
			struct node **to = bucket_of(s, n->ino);

			buckets[b] = n->next;
			n->next = *to;
			*to = n;
		}
	}
	free(buckets);
}

static void insert(struct shard *s, struct node *n)
{
	struct node **b;

	if (s->n_nodes >= s->n_buckets * 2)
		grow(s);
	b = bucket_of(s, n->ino);
	n->next = *b;
	*b = n;
	s->n_nodes++;
}

static bool same_name(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* With the shard locked. */
static struct node *find(struct shard *s, uint64_t ino, const struct node *dir,
			 const struct row *row, uint64_t id, const char *name)
{
	for (struct node *n = *bucket_of(s, ino); n; n = n->next)
		if (n->ino == ino && n->parent == dir && n->row == row && n->id == id &&
		    same_name(n->name, name))
			return n;
	return NULL;
}

/* --- references ----------------------------------------------------------------------- */

struct node *node_ref(struct node *n)
{
	atomic_fetch_add(&n->refs, 1);
	return n;
}

static void unlink_node(struct shard *s, struct node *n)
{
	struct node **p = bucket_of(s, n->ino);

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	s->n_nodes--;
}

void node_unref(struct node *n, uint64_t count)
{
	while (n) {
		uint64_t refs = atomic_load(&n->refs);
		struct node *parent = n->parent;
		struct shard *s = shard_of(n->fs, n->ino);
		bool last;

		while (refs > count)
			if (atomic_compare_exchange_weak(&n->refs, &refs, refs - count))
				return;
		pthread_mutex_lock(&s->lock);
		last = atomic_fetch_sub(&n->refs, count) == count;
		if (last)
			unlink_node(s, n);
		pthread_mutex_unlock(&s->lock);
		if (!last)
			return;
		free_node(n);
		n = parent;
		count = 1;
	}
}

/* What it belongs to: what the directory does, and what it shows itself. */
static void belong(struct node *n, const struct node *dir, struct child *child)
{
	n->m = dir->m;
	n->job = dir->job;
	n->pool = dir->pool;
	n->volume = dir->volume;
	n->snapshot = dir->snapshot;
	n->network = dir->network;
	n->interface = dir->interface;
	if (!child)
		return;
	n->thing = child->thing;
	child->thing = (struct thing){0};
	switch (n->thing.kind) {
	case THING_MACHINE:
		n->m = n->thing.ref;
		break;
	case THING_JOB:
		n->job = n->thing.ref;
		break;
	case THING_POOL:
		n->pool = n->thing.ref;
		break;
	case THING_VOLUME:
		n->volume = n->thing.ref;
		break;
	case THING_SNAPSHOT:
		n->snapshot = n->thing.ref;
		break;
	case THING_NETWORK:
		n->network = n->thing.ref;
		break;
	case THING_INTERFACE:
		n->interface = n->thing.ref;
		break;
	case THING_NONE:
	case THING_KIND_MAX:
		break;
	}
}

static struct node *new_node(struct node *dir, const struct row *row, struct child *child)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	if (child && child->name[0] && !child->id) {
		n->name = strdup(child->name);
		if (!n->name) {
			free(n);
			return NULL;
		}
	}
	n->fs = dir->fs;
	n->parent = node_ref(dir);
	n->row = row;
	n->id = child ? child->id : 0;
	belong(n, dir, child);
	atomic_init(&n->refs, 1);
	atomic_fetch_add(&n->fs->n_nodes, 1);
	return n;
}

/* A child that has a number is known by it, one that has not by its name. */
static const char *key_name(const struct child *child)
{
	return child && !child->id && child->name[0] ? child->name : NULL;
}

struct node *node_get(struct node *dir, const struct row *row, struct child *child)
{
	uint64_t id = child ? child->id : 0;
	const char *name = key_name(child);
	uint64_t ino = node_ino(dir, row, id, name);
	struct shard *s = shard_of(dir->fs, ino);
	struct node *n, *made;

	n = node_find(dir, row, id, name);
	if (n) {
		child_release(child);
		return n;
	}
	made = new_node(dir, row, child);
	child_release(child);
	if (!made)
		return NULL;
	made->ino = ino;
	pthread_mutex_lock(&s->lock);
	n = find(s, ino, dir, row, id, made->name);
	if (n)
		node_ref(n);
	else
		insert(s, made);
	pthread_mutex_unlock(&s->lock);
	if (!n)
		return made;
	free_node(made); /* somebody was faster */
	node_put(dir);
	return n;
}

struct node *node_find(struct node *dir, const struct row *row, uint64_t id, const char *name)
{
	uint64_t ino = node_ino(dir, row, id, name);
	struct shard *s = shard_of(dir->fs, ino);
	struct node *n;

	LOCK_SCOPE(&s->lock);
	n = find(s, ino, dir, row, id, name);
	return n ? node_ref(n) : NULL;
}

struct node *node_variant(struct node *n)
{
	struct node *v = new_node(n->parent, n->row, NULL);
	struct shard *s = shard_of(n->fs, n->ino);

	if (!v)
		return NULL;
	v->id = atomic_fetch_add(&n->fs->n_variants, 1) + 1;
	v->ino = n->ino;
	LOCK_SCOPE(&s->lock);
	insert(s, v);
	return v;
}

static bool belongs(const struct node *n, struct thing t)
{
	switch (t.kind) {
	case THING_MACHINE:
		return n->m == t.ref;
	case THING_JOB:
		return n->job == t.ref;
	case THING_POOL:
		return n->pool == t.ref;
	case THING_VOLUME:
		return n->volume == t.ref;
	case THING_SNAPSHOT:
		return n->snapshot == t.ref;
	case THING_NETWORK:
		return n->network == t.ref;
	case THING_INTERFACE:
		return n->interface == t.ref;
	case THING_NONE:
	case THING_KIND_MAX:
		break;
	}
	return false;
}

/* A shard's nodes of a thing, collected under its lock. */
static size_t collect(struct shard *s, struct thing t, struct node ***list)
{
	size_t count = 0;

	LOCK_SCOPE(&s->lock);
	*list = malloc((s->n_nodes + 1) * sizeof((*list)[0]));
	for (size_t b = 0; *list && b < s->n_buckets; b++)
		for (struct node *n = s->buckets[b]; n; n = n->next)
			if (belongs(n, t))
				(*list)[count++] = node_ref(n);
	return count;
}

void nodes_of_thing(struct fsapi *fs, struct thing t, void (*fn)(struct node *n, void *arg),
		    void *arg)
{
	for (size_t i = 0; i < NODE_SHARDS; i++) {
		struct node **list;
		size_t count = collect(&fs->shards[i], t, &list);

		for (size_t k = 0; k < count; k++) {
			fn(list[k], arg);
			node_put(list[k]);
		}
		free(list);
	}
}

/* --- names and paths ------------------------------------------------------------------ */

void node_name(struct node *n, char name[256])
{
	if (!n->parent)
		name[0] = '\0';
	else if (n->scratch)
		scratch_name_of(n, name);
	else if (n->row->name)
		snprintf(name, 256, "%s", n->row->name);
	else if (n->name)
		snprintf(name, 256, "%s", n->name);
	else if (n->thing.kind != THING_NONE)
		thing_name(n->thing, name);
	else
		snprintf(name, 256, "%llu", (unsigned long long)n->id - 1);
}

/* Path from @top (not named), which is an ancestor. */
static int path_from(struct node *n, const struct node *top, char *path, size_t size)
{
	char name[256];
	size_t len = 0;
	int r;

	if (n == top) {
		path[0] = '\0';
		return 0;
	}
	r = path_from(n->parent, top, path, size);
	if (r < 0)
		return r;
	len = strlen(path);
	node_name(n, name);
	if ((size_t)snprintf(path + len, size - len, "%s%s", len ? "/" : "", name) >= size - len)
		return -ENAMETOOLONG;
	return 0;
}

int node_path(struct node *n, char *path, size_t size)
{
	return path_from(n, n->fs->root, path, size);
}

int node_owner_path(struct node *n, char *path, size_t size)
{
	const struct node *top = n;

	while (top->parent && !thing_name_stays(top->thing))
		top = top->parent;
	return path_from(n, top, path, size);
}
