// SPDX-License-Identifier: ISC
/*
 * The store of layers: STATE/layers/, and who refers to what is in it.
 *
 * References are counted here, by kind and id, from nothing at every start: whoever is loaded
 * takes his. Until layers_sweep() no file goes, as those that refer to it may not be loaded yet;
 * and none goes at all where something that could refer to it could not be read.
 *
 * layers.lock is a leaf; files are removed without it. A file has its name before anybody
 * refers to it, so what a daemon that was killed left is found by the next one's sweep.
 */
#define LOG_MODULE "layer"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define BUCKETS_FIRST 256

struct layer {
	struct layer *next;
	enum layer_kind kind;
	char id[ID_TEXT];
	unsigned refs;
	bool merging;
};

static const char *const suffixes[] = {
    [LAYER_DISK] = "qcow2", [LAYER_MEMORY] = "mem", [LAYER_SOURCE] = "not a file of ours"};

void layer_file_name(char name[LAYER_NAME_MAX], enum layer_kind kind, const char *id)
{
	snprintf(name, LAYER_NAME_MAX, "%s.%s", id, suffixes[kind]);
}

/* --- counts: under layers.lock --------------------------------------------------------------- */

static size_t bucket_of(const struct layers *layers, const char *id)
{
	uint64_t h = 14695981039346656037ull;

	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 1099511628211ull;
	return (size_t)(h % layers->n_buckets);
}

static struct layer **find(struct layers *layers, enum layer_kind kind, const char *id)
{
	struct layer **link = &layers->buckets[bucket_of(layers, id)];

	while (*link && ((*link)->kind != kind || strcmp((*link)->id, id) != 0))
		link = &(*link)->next;
	return link;
}

static void grow(struct layers *layers)
{
	size_t n_old = layers->n_buckets;
	struct layer **old = layers->buckets, **more = calloc(n_old * 4, sizeof(*more));

	if (!more)
		return; /* longer chains */
	layers->buckets = more;
	layers->n_buckets = n_old * 4;
	for (size_t i = 0; i < n_old; i++)
		while (old[i]) {
			struct layer *l = old[i], **to = &more[bucket_of(layers, l->id)];

			old[i] = l->next;
			l->next = *to;
			*to = l;
		}
	free(old);
}

/* One more reference. Without memory nothing is removed any more. */
static void count(struct layers *layers, enum layer_kind kind, const char *id)
{
	struct layer **link = find(layers, kind, id);

	if (!*link) {
		*link = calloc(1, sizeof(**link));
		if (!*link) {
			layers->keep_all = true;
			return;
		}
		(*link)->kind = kind;
		strcpy((*link)->id, id);
		layers->n++;
	}
	(*link)->refs++;
	if (layers->n > layers->n_buckets * 2)
		grow(layers);
}

/* One less: whether its file is to go. */
static bool discount(struct layers *layers, enum layer_kind kind, const char *id)
{
	struct layer **link = find(layers, kind, id), *l = *link;

	if (!l || --l->refs)
		return false;
	*link = l->next;
	free(l);
	layers->n--;
	return kind != LAYER_SOURCE && layers->swept && !layers->keep_all;
}

void layer_get(struct model *model, enum layer_kind kind, const char *id)
{
	LOCK_SCOPE(&model->layers->lock);
	count(model->layers, kind, id);
}

void layer_put(struct model *model, enum layer_kind kind, const char *id)
{
	struct layers *layers = model->layers;
	char name[LAYER_NAME_MAX];
	bool last;

	pthread_mutex_lock(&layers->lock);
	last = discount(layers, kind, id);
	pthread_mutex_unlock(&layers->lock);
	if (!last)
		return;
	layer_file_name(name, kind, id);
	if (unlinkat(layers->dir, name, 0) < 0)
		log_warn("cannot remove layers/%s: %m", name);
}

/*
 * Sources are counted, too, by what their names hash to: who merges layers into one must be the
 * only one whose layers are over it. (Two of one hash would be left unmerged.)
 */
static void source_key(const char *source, char key[ID_TEXT])
{
	uint64_t a = 14695981039346656037ull, b = a ^ 0x5bd1e995;

	for (const char *c = source; *c; c++) {
		a = (a ^ (unsigned char)*c) * 1099511628211ull;
		b = (b + (unsigned char)*c) * 6364136223846793005ull + 1442695040888963407ull;
	}
	snprintf(key, ID_TEXT, "%016llx%016llx", (unsigned long long)a, (unsigned long long)b);
}

void layer_set_get(struct model *model, const struct layer_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		char key[ID_TEXT];

		source_key(set->disks[i].source, key);
		layer_get(model, LAYER_SOURCE, key);
		for (unsigned k = 0; k < set->disks[i].chain.n; k++)
			layer_get(model, LAYER_DISK, set->disks[i].chain.ids[k]);
	}
}

void layer_set_put(struct model *model, const struct layer_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		char key[ID_TEXT];

		source_key(set->disks[i].source, key);
		layer_put(model, LAYER_SOURCE, key);
		for (unsigned k = 0; k < set->disks[i].chain.n; k++)
			layer_put(model, LAYER_DISK, set->disks[i].chain.ids[k]);
	}
}

unsigned layers_source_refs(struct model *model, const char *source)
{
	char key[ID_TEXT];

	source_key(source, key);
	return layer_refs(model, LAYER_SOURCE, key);
}

unsigned layer_refs(struct model *model, enum layer_kind kind, const char *id)
{
	const struct layer *l;

	LOCK_SCOPE(&model->layers->lock);
	l = *find(model->layers, kind, id);
	return l ? l->refs : 0;
}

/* Under layers.lock. */
static bool is_merging(struct layers *layers, const char *id)
{
	const struct layer *l = id ? *find(layers, LAYER_DISK, id) : NULL;

	return l && l->merging;
}

static void set_merging(struct layers *layers, const char *id, bool merging)
{
	struct layer *l = id ? *find(layers, LAYER_DISK, id) : NULL;

	if (l)
		l->merging = merging;
}

bool layers_claim(struct model *model, const char *upper, const char *lower)
{
	LOCK_SCOPE(&model->layers->lock);
	if (is_merging(model->layers, upper) || is_merging(model->layers, lower))
		return false;
	set_merging(model->layers, upper, true);
	set_merging(model->layers, lower, true);
	return true;
}

void layers_unclaim(struct model *model, const char *upper, const char *lower)
{
	LOCK_SCOPE(&model->layers->lock);
	set_merging(model->layers, upper, false);
	set_merging(model->layers, lower, false);
}

uint64_t layer_allocated(struct model *model, enum layer_kind kind, const char *id)
{
	char name[LAYER_NAME_MAX];
	struct stat st;

	layer_file_name(name, kind, id);
	if (fstatat(model->layers->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_blocks * 512;
}

struct file_id layer_file_id(struct model *model, const char *id)
{
	char name[LAYER_NAME_MAX];
	struct stat st;

	layer_file_name(name, LAYER_DISK, id);
	if (fstatat(model->layers->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return (struct file_id){0, 0};
	return (struct file_id){st.st_dev, st.st_ino};
}

/* --- files ------------------------------------------------------------------------------------ */

static int refused(struct err *err, int code)
{
	if (code == -EDQUOT)
		code = -ENOSPC;
	return err_set(err, code, "cannot make a layer: %s", strerror(-code));
}

int layer_make(struct model *model, enum layer_kind kind, char id[ID_TEXT], int *fd,
	       struct err *err)
{
	char name[LAYER_NAME_MAX];

	model_make_id(id);
	layer_file_name(name, kind, id);
	*fd = openat(model->layers->dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		     0600);
	if (*fd < 0)
		return refused(err, -errno);
	layer_get(model, kind, id);
	return 0;
}

int layer_open(struct model *model, enum layer_kind kind, const char *id, bool write,
	       struct err *err)
{
	char name[LAYER_NAME_MAX];
	struct stat st;
	int fd;

	layer_file_name(name, kind, id);
	fd = openat(model->layers->dir, name,
		    (write ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return err_set(err, -ENOENT, "its layer layers/%s is missing", name);
	if (fd < 0)
		return err_set(err, -errno, "layers/%s: %m", name);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return err_set(err, -EIO, "layers/%s is no regular file", name);
}

/* What stands in its header, for others to follow. */
static void backing_name(struct model *model, const struct disk_layers *below, struct strbuf *sb)
{
	char name[LAYER_NAME_MAX];

	if (below->chain.n) {
		layer_file_name(name, LAYER_DISK, below->chain.ids[0]);
		strbuf_puts(sb, name);
		return;
	}
	if (*below->source == '/')
		strbuf_puts(sb, below->source);
	else
		disk_volume_path(model, below->source, sb);
	if (!sb->len || sb->len > LAYER_BACKING_MAX) {
		/* it has no path, or none that a header could hold */
		strbuf_reset(sb);
		strbuf_printf(sb, "filevisor:%.255s", below->source);
	}
}

int layer_write_over(struct model *model, const struct disk_layers *below, uint64_t bytes, int fd,
		     struct err *err)
{
	_cleanup_strbuf_ struct strbuf backing = STRBUF_INIT;
	struct image_create params = {
	    .format = IMAGE_QCOW2,
	    .bytes = bytes,
	    .backing_format = below->chain.n ? IMAGE_QCOW2 : (enum image_format)below->format};
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	backing_name(model, below, &backing);
	if (copy < 0 || backing.failed) {
		if (copy >= 0)
			close(copy);
		return err_set(err, backing.failed ? -ENOMEM : -errno, "cannot make a layer");
	}
	params.backing = backing.data;
	return image_create(copy, &params, err);
}

int layer_make_over(struct model *model, const struct disk_layers *below, uint64_t bytes,
		    char id[ID_TEXT], int *fd, struct err *err)
{
	int r;

	if (below->chain.n >= LAYERS_MAX)
		return err_set(err, -ENOSPC, "it has %d layers already", LAYERS_MAX);
	r = layer_make(model, LAYER_DISK, id, fd, err);
	if (r < 0)
		return r;
	r = layer_write_over(model, below, bytes, *fd, err);
	if (r == 0 && (r = file_sync_dir(model->layers->dir)) < 0)
		refused(err, r);
	if (r < 0) {
		close(take_fd(fd));
		layer_put(model, LAYER_DISK, id);
	}
	return r;
}

/* --- opening, and what is left over ---------------------------------------------------------- */

int layers_open(struct model *model, struct err *err)
{
	struct layers *layers = calloc(1, sizeof(*layers));

	if (!layers)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&layers->lock, NULL);
	pthread_cond_init(&layers->cond, NULL);
	model->layers = layers;
	layers->n_buckets = BUCKETS_FIRST;
	layers->buckets = calloc(layers->n_buckets, sizeof(*layers->buckets));
	layers->dir = -1;
	if (!layers->buckets)
		return err_set(err, -ENOMEM, "out of memory");
	if (mkdirat(model->state_fd, "layers", 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s/layers: %m", model->state_dir);
	layers->dir =
	    openat(model->state_fd, "layers", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return layers->dir < 0 ? err_set(err, -errno, "%s/layers: %m", model->state_dir) : 0;
}

void layers_keep_all(struct model *model)
{
	LOCK_SCOPE(&model->layers->lock);
	model->layers->keep_all = true;
}

/* Whether a file of that name is somebody's: a layer that is referred to, or none of ours. */
static bool is_wanted(struct layers *layers, const char *name)
{
	const char *dot = strrchr(name, '.');
	char id[ID_TEXT];

	if (*name == '.')
		return false; /* half of one */
	if (!dot || dot - name != ID_TEXT - 1)
		return true;
	memcpy(id, name, ID_TEXT - 1);
	id[ID_TEXT - 1] = '\0';
	for (int kind = 0; kind < LAYER_KIND_MAX; kind++)
		if (strcmp(dot + 1, suffixes[kind]) == 0 && layer_id_good(id)) {
			LOCK_SCOPE(&layers->lock);
			return *find(layers, (enum layer_kind)kind, id);
		}
	return true;
}

void layers_sweep(struct model *model)
{
	struct layers *layers = model->layers;
	int fd = openat(layers->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	unsigned n = 0;
	bool keep;

	pthread_mutex_lock(&layers->lock);
	keep = layers->keep_all;
	layers->swept = true;
	pthread_mutex_unlock(&layers->lock);
	if (!d && fd >= 0)
		close(fd);
	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    is_wanted(layers, e->d_name))
			continue;
		n++;
		if (!keep && unlinkat(layers->dir, e->d_name, 0) < 0)
			log_warn("cannot remove layers/%s: %m", e->d_name);
	}
	if (n && keep)
		log_warn("%u layers seem to be nobody's; they stay, as not everything could be "
			 "read",
			 n);
	else if (n)
		log_info("removed %u layers that nobody had", n);
}

void layers_close(struct model *model)
{
	struct layers *layers = take_ptr(model->layers);

	if (!layers)
		return;
	for (size_t i = 0; layers->buckets && i < layers->n_buckets; i++)
		while (layers->buckets[i]) {
			struct layer *l = layers->buckets[i];

			layers->buckets[i] = l->next;
			free(l);
		}
	free(layers->buckets);
	if (layers->dir >= 0)
		close(layers->dir);
	pthread_cond_destroy(&layers->cond);
	pthread_mutex_destroy(&layers->lock);
	free(layers);
}
