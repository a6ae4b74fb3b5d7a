// SPDX-License-Identifier: ISC
/*
 * The pool's thread. It asks the storage when told to (the storage itself says that
 * something changed, a command did, or a while has gone by), on a strand, because an answer may
 * never come; until it does, the pool is failed, and nobody waits. What came is compared
 * with what is shown, under the lock, unless we ourselves changed something meanwhile: then it
 * is asked again.
 */
#define LOG_MODULE "pool"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pool_int.h"
#include "strand.h"
#include "util/cleanup.h"
#include "util/log.h"

#define SETTLE_MS 50 /* changes come in flocks */
#define YOUNG_S	  3  /* a file of zeroes so young may be being written */

/* What is known of a volume when the storage is asked. */
struct known {
	char name[VOLUME_NAME_MAX + 1];
	uint64_t id, born_ns;
	bool decided, busy, looked;
	enum image_format format;
	uint64_t bytes;
	struct timespec changed;
};

/* One refresh: what the strand works on, nobody else's until it is done. */
struct refresh {
	struct storage *storage;
	struct known *known; /* sorted by name */
	size_t n_known;
	bool watch; /* is to be watched, too */
	/* what came */
	int watch_fd; /* -1: none */
	struct storage_list list;
	struct found {
		bool looked, decided;
		enum image_format format;
		struct volume_look look;
	} * found;
};

static void refresh_free(void *arg)
{
	struct refresh *f = arg;

	for (size_t i = 0; f->found && i < f->list.n; i++)
		look_free(&f->found[i].look);
	free(f->found);
	free(f->known);
	storage_list_free(&f->list);
	storage_put(f->storage);
	if (f->watch_fd >= 0)
		close(f->watch_fd);
	free(f);
}

/* --- on the strand -------------------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct known *)a)->name, ((const struct known *)b)->name);
}

static bool same_file(const struct known *k, const struct storage_entry *e)
{
	return k->id == e->id && k->born_ns == e->born_ns;
}

/*
 * A format is found once, at first sight of something in the file, and kept. One that is
 * about to be copied here has nothing in it yet, or (sparse copies) only zeroes.
 */
static void decide(int fd, const struct storage_entry *e, struct found *found)
{
	bool young = time(NULL) - e->changed.tv_sec < YOUNG_S;
	unsigned char first[4] = {0};
	static const unsigned char zero[4];
	bool read_some = pread(fd, first, sizeof(first), 0) == sizeof(first);

	found->format = look_probe(fd);
	found->decided = read_some && (!young || memcmp(first, zero, sizeof(first)) != 0);
}

static void look_at(const struct storage *s, const struct storage_entry *e, const struct known *k,
		    struct found *found, struct cancel *cancel)
{
	_cleanup_close_ int fd = -1;
	struct err err = ERR_INIT;
	bool same = k && same_file(k, e);

	(void)cancel;
	found->format = same ? k->format : IMAGE_RAW;
	found->decided = same && k->decided;
	if (same && k->busy)
		return;
	if (found->decided && k->looked && k->bytes == e->bytes &&
	    memcmp(&k->changed, &e->changed, sizeof(k->changed)) == 0)
		return;
	found->looked = true;
	found->look.bytes = e->bytes;
	if (!s->type->images) {
		found->decided = true;
		look_into(-1, s, e->name, IMAGE_RAW, e->bytes, &found->look);
		return;
	}
	fd = s->type->open(s, e->name, false, &err);
	if (fd < 0) {
		found->look.trouble = strdup(err.text);
		return;
	}
	if (!found->decided)
		decide(fd, e, found);
	look_into(fd, s, e->name, found->format, e->bytes, &found->look);
}

static int ask(void *arg, struct cancel *cancel, struct err *err)
{
	struct refresh *f = arg;
	const struct storage_type *type = f->storage->type;
	int r;

	/* watched before it is listed: nothing comes in between */
	if (f->watch && type->watch)
		f->watch_fd = type->watch(f->storage, NULL);
	if (f->watch_fd < 0)
		f->watch_fd = -1;
	r = type->list(f->storage, cancel, &f->list, err);
	if (r < 0)
		return r;
	f->found = calloc(f->list.n + 1, sizeof(*f->found));
	if (!f->found)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < f->list.n && !cancel_requested(cancel); i++) {
		struct known key;

		strcpy(key.name, f->list.entries[i].name);
		look_at(f->storage, &f->list.entries[i],
			f->n_known ? bsearch(&key, f->known, f->n_known, sizeof(key), by_name)
				   : NULL,
			&f->found[i], cancel);
	}
	return cancel_requested(cancel) ? err_set(err, -ECANCELED, "ended") : 0;
}

/* --- before ------------------------------------------------------------------------------------
 */

static void know(struct known *k, const struct volume_meta *meta, const struct volume *v)
{
	strcpy(k->name, meta->name);
	k->id = meta->id;
	k->born_ns = meta->born_ns;
	k->decided = meta->decided;
	k->format = meta->format;
	if (!v)
		return;
	k->looked = v->look.info || v->look.trouble;
	k->busy = volume_used((struct volume *)v, false) || v->op || v->writer;
	k->bytes = v->entry.bytes;
	k->changed = v->entry.changed;
}

/* Under pool.lock. NULL: no storage, or no memory. */
static struct refresh *refresh_new(struct pool *pool, bool watch)
{
	struct refresh *f = calloc(1, sizeof(*f));

	if (!f || !pool->storage) {
		free(f);
		return NULL;
	}
	f->watch_fd = -1;
	f->watch = watch;
	f->storage = storage_get(pool->storage);
	f->known = calloc(pool->n_volumes + pool->n_absent + 1, sizeof(*f->known));
	if (!f->known) {
		refresh_free(f);
		return NULL;
	}
	for (size_t i = 0; i < pool->n_volumes; i++)
		know(&f->known[f->n_known++], &pool->by_name[i]->meta, pool->by_name[i]);
	for (size_t i = 0; i < pool->n_absent; i++)
		know(&f->known[f->n_known++], &pool->absent[i], NULL);
	qsort(f->known, f->n_known, sizeof(*f->known), by_name);
	return f;
}

/* --- after: all under pool.lock
 * ------------------------------------------------------------------- */

static int meta_by_name(const void *a, const void *b)
{
	return strcmp(((const struct volume_meta *)a)->name, ((const struct volume_meta *)b)->name);
}

/* They are sorted while a listing is merged. */
static struct volume_meta *find_absent(struct pool *pool, const char *name)
{
	struct volume_meta key, *found;

	if (!pool->n_absent)
		return NULL;
	snprintf(key.name, sizeof(key.name), "%s", name);
	found = bsearch(&key, pool->absent, pool->n_absent, sizeof(key), meta_by_name);
	return found && !found->taken ? found : NULL;
}

/* Those that came are absent no longer. */
static void drop_taken(struct pool *pool)
{
	size_t kept = 0;

	for (size_t i = 0; i < pool->n_absent; i++)
		if (pool->absent[i].taken)
			meta_free(&pool->absent[i]);
		else
			pool->absent[kept++] = pool->absent[i];
	pool->n_absent = kept;
}

/* It is not there now; what is known of it is kept, for when its storage is back. */
static void goes(struct pool *pool, struct volume *v)
{
	struct volume_meta *more, copy;

	if (pool->n_absent >= STORAGE_VOLUMES_MAX) {
		meta_free(&pool->absent[0]);
		pool->absent[0] = pool->absent[--pool->n_absent];
	}
	if (meta_copy(&copy, &v->meta) == 0) {
		more = realloc(pool->absent, (pool->n_absent + 1) * sizeof(*more));
		if (more) {
			pool->absent = more;
			more[pool->n_absent++] = copy;
		} else {
			meta_free(&copy);
		}
	}
	volume_get(v);
	pool_drop_volume(pool, v);
	volume_event(v, "volume-gone", NULL);
	volume_put(v);
}

/* Takes over what the look decided; true where something durable changed. */
static bool learn(struct volume_meta *meta, const struct storage_entry *e,
		  const struct found *found)
{
	bool same = meta->id == e->id && meta->born_ns == e->born_ns;
	bool changed = !same || meta->decided != found->decided || meta->format != found->format;

	if (!same) {
		/* another file of that name: nothing said of the old one counts */
		meta->fresh = false;
		meta->own_access = false;
		free(meta->named);
		meta->named = strdup("");
	}
	if (!same || !meta->fresh) {
		meta->id = e->id;
		meta->born_ns = e->born_ns;
		meta->decided = found->decided;
		meta->format = found->format;
	}
	meta->unmade = false;
	return changed && found->decided;
}

static struct volume *comes(struct pool *pool, const struct storage_entry *e)
{
	struct volume_meta *absent = find_absent(pool, e->name), meta;
	struct volume *v;

	if ((absent ? meta_copy(&meta, absent) : meta_init(&meta, e->name)) < 0)
		return NULL;
	v = volume_new(pool, &meta);
	if (!v || pool_add_volume(pool, v) < 0) {
		volume_put(v);
		return NULL;
	}
	if (absent)
		absent->taken = true;
	volume_event(v, "volume-found", NULL);
	volume_put(v); /* the pool has its own */
	return v;
}

static int entry_by_name(const void *a, const void *b)
{
	return strcmp(((const struct storage_entry *)a)->name,
		      ((const struct storage_entry *)b)->name);
}

static void drop_missing(struct pool *pool, const struct storage_list *list)
{
	/* the entries are in the storage's order: sort names of them once */
	size_t n = list->n;
	const char **names = calloc(n + 1, sizeof(*names));
	struct storage_entry *sorted = calloc(n + 1, sizeof(*sorted));

	if (names && sorted) {
		if (n)
			memcpy(sorted, list->entries, n * sizeof(*sorted));
		qsort(sorted, n, sizeof(*sorted), entry_by_name);
		for (size_t i = pool->n_volumes; i-- > 0;) {
			struct volume *v = pool->order[i];
			struct storage_entry key;

			strcpy(key.name, v->meta.name);
			if (!v->meta.unmade && !v->op &&
			    !bsearch(&key, sorted, n, sizeof(key), entry_by_name))
				goes(pool, v);
		}
	}
	free(names);
	free(sorted);
}

static void show_space(struct pool *pool, const struct storage_list *list)
{
	if (pool->capacity == list->capacity && pool->allocation == list->allocation &&
	    pool->free_bytes == list->free_bytes)
		return;
	pool->capacity = list->capacity;
	pool->allocation = list->allocation;
	pool->free_bytes = list->free_bytes;
	pool_touch(pool, POOL_CAPACITY, NULL);
}

/* A volume whose storage shows it only once it has a size is not there: it is shown all the same.
 */
static void show_unmade(struct pool *pool)
{
	for (size_t i = 0; i < pool->n_absent; i++) {
		struct storage_entry e = {0};

		strcpy(e.name, pool->absent[i].name);
		if (pool->absent[i].unmade && !pool->absent[i].taken)
			comes(pool, &e);
	}
}

/* True where what is kept of volumes changed. */
static bool merge(struct pool *pool, struct refresh *f)
{
	bool changed = false;

	drop_missing(pool, &f->list);
	if (pool->n_absent)
		qsort(pool->absent, pool->n_absent, sizeof(*pool->absent), meta_by_name);
	for (size_t i = 0; i < f->list.n; i++) {
		const struct storage_entry *e = &f->list.entries[i];
		struct volume *v = pool_find_volume(pool, e->name);

		if (!v)
			v = comes(pool, e);
		if (!v || v->op) /* what changes it looks at it itself */
			continue;
		changed |= learn(&v->meta, e, &f->found[i]);
		volume_seen(v, e, f->found[i].looked ? &f->found[i].look : NULL);
	}
	show_unmade(pool);
	drop_taken(pool);
	show_space(pool, &f->list);
	pool_set_state(pool, POOL_ACTIVE, NULL);
	return changed;
}

static void storage_failed(struct pool *pool, const struct err *err)
{
	char words[ERR_TEXT_MAX + 32];

	snprintf(words, sizeof(words), "%s %s", err_name(err->code), err->text);
	for (size_t i = pool->n_volumes; i-- > 0;)
		goes(pool, pool->order[i]);
	pool->capacity = pool->allocation = pool->free_bytes = 0;
	pool_touch(pool, POOL_CAPACITY, NULL);
	pool->failure = err->code;
	pool_set_state(pool, POOL_FAILED, words);
}

/* --- the thread
 * ------------------------------------------------------------------------------------ */

/* What the thread has between two rounds. */
struct round {
	struct strand *strand;	  /* under way, or NULL */
	struct refresh *refresh;  /* what it works on */
	uint64_t wanted, changes; /* when it began */
	struct storage *watched;  /* whose watch_fd is */
	uint64_t place;		  /* the directory that it watches */
	int watch_fd;
};

static void unwatch(struct round *round)
{
	if (round->watch_fd >= 0)
		close(take_fd(&round->watch_fd));
	storage_put(take_ptr(round->watched));
}

static bool begin(struct pool *pool, struct round *round)
{
	LOCK_SCOPE(&pool->lock);
	if (round->watched && round->watched != pool->storage)
		unwatch(round);
	round->wanted = pool->wanted;
	round->changes = pool->changes;
	round->refresh = refresh_new(pool, round->watch_fd < 0);
	if (!round->refresh || strand_start(&round->strand, ask, NULL, round->refresh) < 0) {
		if (round->refresh)
			refresh_free(take_ptr(round->refresh));
		pool->done = round->wanted; /* there is nothing to wait for */
		pthread_cond_broadcast(&pool->cond);
		return false;
	}
	return true;
}

/* The strand is done: shows what came. False where it does not count and is to be repeated. */
static bool show(struct pool *pool, struct round *round, int result, const struct err *err)
{
	struct refresh *f = round->refresh;
	bool counts, store = false;

	pthread_mutex_lock(&pool->lock);
	counts = pool->changes == round->changes && pool->storage == f->storage && pool->alive;
	if (counts && result == 0)
		store = merge(pool, f);
	else if (counts && result != -ECANCELED)
		storage_failed(pool, err);
	if (counts) {
		pool->done = round->wanted;
		pthread_cond_broadcast(&pool->cond);
	}
	pthread_mutex_unlock(&pool->lock);
	if (f->watch_fd >= 0 && counts && result == 0) {
		unwatch(round);
		round->watched = storage_get(f->storage);
		round->watch_fd = take_fd(&f->watch_fd);
		round->place = f->list.place;
	} else if (result < 0 || (counts && f->list.place != round->place)) {
		/* what was watched is no longer what is there: the next time again */
		unwatch(round);
	}
	if (store) {
		struct err words = ERR_INIT;

		LOCK_SCOPE(&pool->edit);
		if (pool_alive(pool) && pool_store_volumes(pool, &words) < 0)
			log_error("pool %s: %s", pool->name, words.text);
	}
	return counts;
}

/* Under way for too long. */
static void no_answer(struct pool *pool, struct round *round)
{
	struct err err = ERR_INIT;

	LOCK_SCOPE(&pool->lock);
	if (pool->done >= round->wanted && pool->state == POOL_FAILED)
		return;
	if (pool->storage != round->refresh->storage)
		return;
	err_set(&err, -ETIMEDOUT, "its storage does not answer (%s)", pool->source);
	storage_failed(pool, &err);
	pool->done = round->wanted;
	pthread_cond_broadcast(&pool->cond);
}

/* Carries out a refresh. Meanwhile another storage may be set: then this one is left alone. */
static void refresh_once(struct pool *pool, struct round *round)
{
	struct err err = ERR_INIT;
	int result = 0, r;
	bool again;

	if (!begin(pool, round))
		return;
	for (;;) {
		r = strand_wait(round->strand, STORAGE_WAIT_MS, &pool->cancel, &result, &err);
		if (r == 1)
			break;
		pthread_mutex_lock(&pool->lock);
		again = !pool->stopping && pool->storage == round->refresh->storage;
		pthread_mutex_unlock(&pool->lock);
		if (r < 0 || !again) {
			strand_leave(take_ptr(round->strand), refresh_free);
			round->refresh = NULL;
			return;
		}
		no_answer(pool, round);
	}
	err.code = result;
	if (!show(pool, round, result, &err)) {
		LOCK_SCOPE(&pool->lock);
		pool->wanted++;
	}
	strand_put(take_ptr(round->strand));
	refresh_free(take_ptr(round->refresh));
}

/* Waits for a reason to ask. False at the end. */
static bool await_reason(struct pool *pool, struct round *round)
{
	struct pollfd p[] = {{pool->wake, POLLIN, 0}, {round->watch_fd, POLLIN, 0}};
	uint64_t count;
	bool stop, wanted;
	int n, ms;

	pthread_mutex_lock(&pool->lock);
	wanted = pool->wanted > pool->done;
	stop = pool->stopping;
	ms = !pool->storage ? -1 : pool->state == POOL_FAILED ? RETRY_MS : REFRESH_PERIOD_MS;
	pthread_mutex_unlock(&pool->lock);
	if (stop || wanted)
		return !stop;
	n = poll(p, 2, ms);
	if (n > 0 && p[0].revents && read(pool->wake, &count, sizeof(count)) < 0)
		log_debug("woken in vain");
	if (n > 0 && p[1].revents && !p[0].revents)
		poll(p, 1, SETTLE_MS);
	if (n > 0 && p[1].revents && !round->watched->type->watched(round->watch_fd))
		unwatch(round);
	pthread_mutex_lock(&pool->lock);
	stop = pool->stopping;
	if (pool->wanted <= pool->done && !(n > 0 && p[0].revents && !p[1].revents))
		pool->wanted = pool->done + 1;
	pthread_mutex_unlock(&pool->lock);
	return !stop;
}

static void *pool_thread(void *arg)
{
	struct pool *pool = arg;
	struct round round = {.watch_fd = -1};

	pthread_setname_np(pthread_self(), "pool");
	while (await_reason(pool, &round))
		refresh_once(pool, &round);
	unwatch(&round);
	return NULL;
}

int pool_thread_start(struct pool *pool)
{
	int r;

	pool->wanted = 1;
	r = -pthread_create(&pool->thread, NULL, pool_thread, pool);
	pool->running = r == 0;
	return r;
}

static void wake(struct pool *pool)
{
	uint64_t one = 1;

	if (write(pool->wake, &one, sizeof(one)) < 0)
		log_debug("it is awake");
}

void pool_thread_stop(struct pool *pool)
{
	if (!pool->running)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->cond);
	pthread_mutex_unlock(&pool->lock);
	cancel_request(&pool->cancel);
	wake(pool);
	pthread_join(pool->thread, NULL);
	pool->running = false;
}

static void wake_waiter(void *arg)
{
	struct pool *pool = arg;

	LOCK_SCOPE(&pool->lock);
	pthread_cond_broadcast(&pool->cond);
}

int pool_refresh(struct pool *pool, bool wait, struct cancel *cancel, struct err *err)
{
	struct timespec deadline = deadline_in_ms(2 * STORAGE_WAIT_MS);
	uint64_t wanted;
	int r = 0;

	pthread_mutex_lock(&pool->lock);
	wanted = ++pool->wanted;
	pthread_mutex_unlock(&pool->lock);
	wake(pool);
	if (!wait)
		return 0;
	cancel_set_wake(cancel, wake_waiter, pool);
	pthread_mutex_lock(&pool->lock);
	while (r == 0 && pool->done < wanted) {
		if (pool->stopping)
			r = err_set(err, -ENOENT, "the pool is gone");
		else if (cancel_requested(cancel))
			r = err_set(err, -ECANCELED, "ended before its storage answered");
		else if (pthread_cond_timedwait(&pool->cond, &pool->lock, &deadline) == ETIMEDOUT)
			r = err_set(err, -ETIMEDOUT, "its storage does not answer");
	}
	if (r == 0 && pool->state == POOL_FAILED) {
		const char *words = pool->trouble ? strchr(pool->trouble, ' ') : NULL;

		r = err_set(err, pool->failure ? pool->failure : -EIO, "%s",
			    words ? words + 1 : "it failed");
	}
	pthread_mutex_unlock(&pool->lock);
	cancel_set_wake(cancel, NULL, NULL);
	return r;
}
