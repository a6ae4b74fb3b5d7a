// SPDX-License-Identifier: ISC
/*
 * Snapshots as objects: references, the list of a machine's, names, who uses them, and what
 * can be told of one without looking at its content (snapshot_content.c).
 *
 * A machine has few of them (SNAPSHOTS_MAX), so that the list is walked. Names that are being
 * taken are reserved in it, as the registry does for machines.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "snapshot_int.h"
#include "util/cleanup.h"

#define SNAPSHOTS_MAX 1000
#define NAMES_SHOWN   5 /* in words */

_Static_assert(SNAPSHOT_NAME_MAX == MACHINE_NAME_MAX, "one rule for names");

/* --- the object --------------------------------------------------------------------------------
 */

struct snapshot *snapshot_new(struct machine *m, const char *name, const char *id)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	struct timespec now = time_now();

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	pthread_mutex_init(&s->lock, NULL);
	s->m = machine_get(m);
	s->serial = model_next_serial(m->model);
	strcpy(s->name, name);
	strcpy(s->id, id);
	s->time = now;
	s->was = MACHINE_STOPPED;
	s->alive = true;
	for (size_t i = 0; i < SNAPSHOT_ASPECT_MAX; i++)
		s->changed[i] = now;
	return s;
}

struct snapshot *snapshot_get(struct snapshot *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void snapshot_put(struct snapshot *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	definition_put(s->def);
	layer_set_free(&s->layers);
	free(s->memory);
	free(s->error.text);
	pthread_mutex_destroy(&s->lock);
	machine_put(s->m);
	free(s);
}

struct machine *snapshot_machine(const struct snapshot *s)
{
	return s->m;
}

void snapshot_name(struct snapshot *s, char name[SNAPSHOT_NAME_MAX + 1])
{
	LOCK_SCOPE(&s->lock);
	strcpy(name, s->name);
}

uint64_t snapshot_serial(const struct snapshot *s)
{
	return s->serial;
}

bool snapshot_alive(struct snapshot *s)
{
	LOCK_SCOPE(&s->lock);
	return s->alive;
}

struct timespec snapshot_changed(struct snapshot *s, enum snapshot_aspect aspect)
{
	LOCK_SCOPE(&s->lock);
	return s->changed[aspect < SNAPSHOT_ASPECT_MAX ? aspect : SNAPSHOT_FIXED];
}

/* --- the list: under m->lock --------------------------------------------------------------------
 */

static bool is_named(struct snapshot *s, const char *name)
{
	LOCK_SCOPE(&s->lock);
	return strcmp(s->name, name) == 0;
}

static struct snapshot *find(const struct machine *m, const char *name)
{
	const struct snapshots *all = m->snapshots;

	for (size_t i = 0; all && i < all->n; i++)
		if (is_named(all->list[i], name))
			return all->list[i];
	return NULL;
}

static bool is_reserved(const struct machine *m, const char *name)
{
	const struct snapshots *all = m->snapshots;

	for (size_t i = 0; all && i < all->n_reserved; i++)
		if (strcmp(all->reserved[i], name) == 0)
			return true;
	return false;
}

size_t snapshots_bound(const struct machine *m)
{
	return m->snapshots ? m->snapshots->n + m->snapshots->n_reserved : 0;
}

struct snapshot *machine_snapshot_get(struct machine *m, const char *name)
{
	struct snapshot *s;

	LOCK_SCOPE(&m->lock);
	s = find(m, name);
	return s ? snapshot_get(s) : NULL;
}

struct snapshot *machine_snapshot_by_id(struct machine *m, const char *id)
{
	if (!id || !*id)
		return NULL;
	LOCK_SCOPE(&m->lock);
	for (size_t i = 0; m->snapshots && i < m->snapshots->n; i++)
		if (strcmp(m->snapshots->list[i]->id, id) == 0)
			return snapshot_get(m->snapshots->list[i]);
	return NULL;
}

struct snapshot *machine_snapshot_next(struct machine *m, uint64_t *cursor)
{
	LOCK_SCOPE(&m->lock);
	for (size_t i = 0; m->snapshots && i < m->snapshots->n; i++)
		if (m->snapshots->list[i]->serial > *cursor) {
			*cursor = m->snapshots->list[i]->serial;
			return snapshot_get(m->snapshots->list[i]);
		}
	return NULL;
}

size_t machine_snapshot_count(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->snapshots ? m->snapshots->n : 0;
}

int snapshots_refuse_undefine(const struct machine *m, struct err *err)
{
	const struct snapshots *all = m->snapshots;
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	if (!snapshots_bound(m))
		return 0;
	for (size_t i = 0; i < all->n && i < NAMES_SHOWN; i++) {
		LOCK_SCOPE(&all->list[i]->lock);
		strbuf_printf(&sb, "%s%s", i ? ", " : "", all->list[i]->name);
	}
	if (all->n > NAMES_SHOWN)
		strbuf_printf(&sb, " and %zu more", all->n - NAMES_SHOWN);
	if (!all->n)
		return err_set(err, -EBUSY, "snapshot %s is being taken", all->reserved[0]);
	return err_set(err, -EBUSY, "it has snapshots (%s): rmdir them first",
		       sb.data ? sb.data : "?");
}

/* --- names
 * --------------------------------------------------------------------------------------- */

static int name_check(const char *name, struct err *err)
{
	if (machine_name_check(name, NULL) < 0)
		return err_set(err, -EINVAL,
			       "'%.80s' is no name for a snapshot: a letter or digit, then up to "
			       "62 letters, digits, '.', '_' or '-'",
			       name);
	return 0;
}

/* Under m->lock. */
static struct snapshots *of_machine(struct machine *m)
{
	if (!m->snapshots)
		m->snapshots = calloc(1, sizeof(*m->snapshots));
	return m->snapshots;
}

/* Under m->lock. */
static int reserve(struct machine *m, const char *name, struct err *err)
{
	struct snapshots *all = of_machine(m);
	char(*more)[SNAPSHOT_NAME_MAX + 1];

	if (!m->alive)
		return err_set(err, -ENOENT, "the machine is gone");
	if (find(m, name))
		return err_set(err, -EEXIST, "there is a snapshot %s already", name);
	if (is_reserved(m, name))
		return err_set(err, -EEXIST, "snapshot %s is being taken", name);
	if (snapshots_bound(m) >= SNAPSHOTS_MAX)
		return err_set(err, -ENOSPC, "it has %d snapshots already", SNAPSHOTS_MAX);
	more = all ? realloc(all->reserved, (all->n_reserved + 1) * sizeof(*more)) : NULL;
	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	all->reserved = more;
	strcpy(more[all->n_reserved++], name);
	return 0;
}

/* A directory that no snapshot has: one that could not be loaded. */
static bool is_damaged(struct machine *m, const char *name)
{
	_cleanup_close_ int dir = snapshots_dir(m, false);
	struct snapshot *s = machine_snapshot_get(m, name);
	bool known = s;

	snapshot_put(s);
	return !known && dir >= 0 && faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int snapshots_reserve(struct machine *m, const char *name, struct err *err)
{
	int r = name_check(name, err);

	if (r < 0)
		return r;
	if (is_damaged(m, name))
		return err_set(err, -EEXIST, "there is a snapshot %s, which is damaged", name);
	LOCK_SCOPE(&m->lock);
	return reserve(m, name, err);
}

void snapshots_unreserve(struct machine *m, const char *name)
{
	struct snapshots *all;

	LOCK_SCOPE(&m->lock);
	all = m->snapshots;
	for (size_t i = 0; all && i < all->n_reserved; i++)
		if (strcmp(all->reserved[i], name) == 0) {
			memmove(&all->reserved[i], &all->reserved[i + 1],
				(all->n_reserved - i - 1) * sizeof(*all->reserved));
			all->n_reserved--;
			break;
		}
}

/* --- come and go
 * --------------------------------------------------------------------------------- */

int snapshots_insert(struct snapshot *s)
{
	struct machine *m = s->m;
	struct snapshots *all;

	LOCK_SCOPE(&m->lock);
	all = of_machine(m);
	if (all && all->n == all->cap) {
		size_t cap = all->cap ? 2 * all->cap : 8;
		struct snapshot **list = realloc(all->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		all->list = list;
		all->cap = cap;
	}
	if (!all)
		return -ENOMEM;
	/* those that are taken at once may be whole in another order */
	s->serial = model_next_serial(m->model);
	all->list[all->n++] = s;
	machine_touch(m, ASPECT_SNAPSHOTS, s->name);
	return 0;
}

void snapshots_remove(struct snapshot *s)
{
	struct machine *m = s->m;
	struct snapshots *all;
	bool was = false;

	pthread_mutex_lock(&m->lock);
	all = m->snapshots;
	for (size_t i = 0; all && i < all->n; i++)
		if (all->list[i] == s) {
			memmove(&all->list[i], &all->list[i + 1],
				(all->n - i - 1) * sizeof(*all->list));
			all->n--;
			was = true;
			break;
		}
	pthread_mutex_lock(&s->lock);
	s->alive = false;
	pthread_mutex_unlock(&s->lock);
	machine_touch(m, ASPECT_SNAPSHOTS, s->name);
	pthread_mutex_unlock(&m->lock);
	if (was)
		snapshot_put(s);
}

static void drop_kept(struct model *model, const struct snapshots *all)
{
	for (size_t i = 0; i < all->n_kept_layers; i++)
		layer_set_put(model, &all->kept_layers[i]);
	for (size_t i = 0; i < all->n_kept_memory; i++)
		if (all->kept_memory[i])
			memory_map_put(model, all->kept_memory[i]);
}

void snapshots_free(struct machine *m, bool drop)
{
	struct snapshots *all;

	pthread_mutex_lock(&m->lock);
	all = take_ptr(m->snapshots);
	pthread_mutex_unlock(&m->lock);
	if (!all)
		return;
	if (drop)
		drop_kept(m->model, all);
	for (size_t i = 0; i < all->n; i++)
		snapshot_put(all->list[i]);
	for (size_t i = 0; i < all->n_kept_layers; i++)
		layer_set_free(&all->kept_layers[i]);
	for (size_t i = 0; i < all->n_kept_memory; i++)
		free(all->kept_memory[i]);
	free(all->kept_layers);
	free(all->kept_memory);
	free(all->reserved);
	free(all->list);
	free(all);
}

/* --- who uses it
 * --------------------------------------------------------------------------------- */

int snapshot_claim(struct snapshot *s, const char *op, struct err *err)
{
	LOCK_SCOPE(&s->lock);
	if (!s->alive)
		return err_set(err, -ENOENT, "the snapshot is gone");
	if (s->op)
		return err_set(err, -EBUSY, "another command: %s is under way", s->op);
	s->op = op;
	return 0;
}

void snapshot_unclaim(struct snapshot *s)
{
	LOCK_SCOPE(&s->lock);
	s->op = NULL;
}

int snapshot_use(struct snapshot *s, struct err *err)
{
	LOCK_SCOPE(&s->lock);
	if (!s->alive)
		return err_set(err, -ENOENT, "the snapshot is gone");
	if (s->op && strcmp(s->op, "rmdir") == 0)
		return err_set(err, -EBUSY, "it is being deleted");
	s->users++;
	return 0;
}

void snapshot_unuse(struct snapshot *s)
{
	LOCK_SCOPE(&s->lock);
	s->users--;
}

/* --- telling
 * ------------------------------------------------------------------------------------- */

void snapshot_event(struct snapshot *s, const char *kind, const char *old,
		    const struct caller *caller)
{
	char machine[MACHINE_NAME_MAX + 1], name[SNAPSHOT_NAME_MAX + 1];
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	machine_name(s->m, machine);
	snapshot_name(s, name);
	event_begin(&sb, kind);
	event_text(&sb, "machine", machine);
	event_text(&sb, "snapshot", name);
	if (old)
		event_text(&sb, "old", old);
	if (caller)
		event_number(&sb, "uid", caller->uid);
	if (strcmp(kind, "snapshot-taken") == 0)
		event_number(&sb, "pause_ns", s->pause_ns);
	model_event(s->m->model, &sb);
}

void snapshot_error_set(struct snapshot *s, const char *what, const struct err *err)
{
	pthread_mutex_lock(&s->lock);
	if (err->code == 0 && !s->error.text) {
		pthread_mutex_unlock(&s->lock);
		return;
	}
	outcome_set(&s->error, what, err, false);
	pthread_mutex_unlock(&s->lock);
	tell_snapshot(s, SNAPSHOT_ERROR);
}

void snapshot_error_show(struct snapshot *s, struct strbuf *sb)
{
	LOCK_SCOPE(&s->lock);
	outcome_show(&s->error, sb);
}

/* --- what it is
 * ---------------------------------------------------------------------------------- */

struct timespec snapshot_time(struct snapshot *s)
{
	return s->time;
}

uint64_t snapshot_pause_ns(struct snapshot *s)
{
	return s->pause_ns;
}

void snapshot_state_show(struct snapshot *s, struct strbuf *sb)
{
	strbuf_puts(sb, machine_state_name(s->was));
}

void snapshot_parent_show(struct snapshot *s, struct strbuf *sb)
{
	char id[ID_TEXT], name[SNAPSHOT_NAME_MAX + 1];
	struct snapshot *parent;

	pthread_mutex_lock(&s->lock);
	strcpy(id, s->parent);
	pthread_mutex_unlock(&s->lock);
	parent = machine_snapshot_by_id(s->m, id);
	if (!parent)
		return;
	snapshot_name(parent, name);
	strbuf_puts(sb, name);
	snapshot_put(parent);
}

int snapshot_config_show(struct snapshot *s, struct strbuf *sb)
{
	config_format(s->def, sb);
	return sb->failed ? -ENOMEM : 0;
}
