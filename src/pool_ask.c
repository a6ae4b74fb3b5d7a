// SPDX-License-Identifier: ISC
/*
 * Asking a pool's storage what it holds, and looking into what is new or changed there. Runs on a
 * strand, because an answer may never come: all that it needs is its own copy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool_ask.h"
#include "util/cleanup.h"

#define YOUNG_S 3 /* a file of zeroes so young may be being written */

void refresh_free(void *arg)
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

/* --- on the strand ----------------------------------------------------------------------- */

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
	/* a daemon ended between putting it in its place and noting that */
	bool next =
	    k && !same && k->next_id && k->next_id == e->id && k->next_born_ns == e->born_ns;

	(void)cancel;
	found->format = same ? k->format : next ? k->next_format : IMAGE_RAW;
	found->decided = next || (same && k->decided);
	if (same && k->busy)
		return;
	if (same && found->decided && k->looked && k->bytes == e->bytes &&
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

int refresh_ask(void *arg, struct cancel *cancel, struct err *err)
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

/* --- before ------------------------------------------------------------------------------ */

static void know(struct known *k, const struct volume_meta *meta, const struct volume *v)
{
	strcpy(k->name, meta->name);
	k->id = meta->id;
	k->born_ns = meta->born_ns;
	k->decided = meta->decided;
	k->format = meta->format;
	k->next_id = meta->next_id;
	k->next_born_ns = meta->next_born_ns;
	k->next_format = meta->next_format;
	if (!v)
		return;
	k->looked = v->look.info || v->look.trouble;
	k->busy = volume_used((struct volume *)v, false) || v->op || v->writer;
	k->bytes = v->entry.bytes;
	k->changed = v->entry.changed;
}

struct refresh *refresh_new(struct pool *pool, bool watch)
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
