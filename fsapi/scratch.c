// SPDX-License-Identifier: ISC
/*
 * Scratch files: what editors and copiers write beside the file they mean to
 * change (.config.swp, sedXXXXXX, .config.XXXXXX, config~). They live in
 * memory, a few to a directory, and a rename onto a document or attribute is a
 * write to it (fuse_names.c does that). No other name can be created.
 *
 * A listed scratch file keeps its directory's node, and so itself, while nobody
 * looks. The list and the names are under fsapi.lock; the contents under the
 * file's own lock, which is taken before the former where both are needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define SCRATCH_FILES	  16u /* in one directory */
#define SCRATCH_MAX	  (1u << 20)
#define SCRATCH_MAX_TOTAL (64u << 20)

struct scratch {
	struct fsapi *fs;
	struct scratch *next; /* fsapi.lock; also name and dir */
	struct node *dir;     /* a reference, while listed */
	uint64_t seq;
	char name[256];
	char *target; /* symlink: where to; const */
	atomic_uint refs;

	pthread_mutex_t lock; /* guards what follows */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
	char *data;
	size_t len, cap;
};

static const struct row scratch_row = {.kind = &kind_scratch, .mode = 0600};
static const struct row scratch_link_row = {.kind = &kind_scratch_link, .mode = 0777};

/* --- names ---------------------------------------------------------------------------- */

static bool all(const char *s, const char *of)
{
	return *s && strspn(s, of) == strlen(s);
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), e = strlen(end);

	return n > e && strcmp(name + n - e, end) == 0;
}

bool scratch_name(const char *name)
{
	static const char digits[] = "0123456789";
	static const char alnum[] = "0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	static const char *const ends[] = {
	    "~",     ".tmp",  ".temp",	   ".new",	".bak",
	    ".bck",  ".orig", ".part",	   ".partial",	".filepart",
	    ".lock", ".save", ".dpkg-new", ".dpkg-tmp", ".kate-swp",
	};
	static const char *const begins[] = {".#", ".ansible_tmp", ".tmp", "tmp",
					     ".goutputstream-"};
	size_t len = strlen(name);
	const char *dot = strrchr(name, '.');

	if (len == 0 || len > 255)
		return false;
	for (size_t i = 0; i < nitems(ends); i++)
		if (ends_with(name, ends[i]))
			return true;
	for (size_t i = 0; i < nitems(begins); i++)
		if (strncmp(name, begins[i], strlen(begins[i])) == 0)
			return true;
	if (len <= 6 && all(name, digits)) /* vim asks by "4913" whether it may create */
		return true;
	if (len > 2 && name[0] == '#' && name[len - 1] == '#')
		return true;
	if (len == 9 && strncmp(name, "sed", 3) == 0 && all(name + 3, alnum))
		return true;
	if (!dot || dot == name || name[0] != '.')
		return false;
	if (strncmp(dot, ".sw", 3) == 0 && (strlen(dot) == 4 || strcmp(dot, ".swpx") == 0))
		return true;
	/* rsync's .NAME.XXXXXX, Python's eight letters */
	return strlen(dot) >= 7 && strlen(dot) <= 11 && all(dot + 1, alnum);
}

/* --- the list ------------------------------------------------------------------------- */

static struct scratch *find(struct node *dir, const char *name)
{
	for (struct scratch *s = dir->scratches; s; s = s->next)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}

void scratch_release(struct scratch *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	pthread_mutex_lock(&s->fs->lock);
	s->fs->scratch_bytes -= s->cap;
	pthread_mutex_unlock(&s->fs->lock);
	pthread_mutex_destroy(&s->lock);
	free(s->target);
	free(s->data);
	free(s);
}

/* With the lock: takes it off the list, whose reference passes to the caller, as does dir's. */
static void unlist(struct scratch *s)
{
	struct scratch **p = &s->dir->scratches;

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	s->dir->n_scratches--;
}

static void append(struct node *dir, struct scratch *s)
{
	struct scratch **p = &dir->scratches;

	while (*p)
		p = &(*p)->next;
	s->next = NULL;
	*p = s;
	dir->n_scratches++;
}

/* The node of a scratch file; @s is a reference, consumed. */
static int node_of(struct node *dir, struct scratch *s, struct node **n)
{
	struct child child = {.id = CHILD_ID(s->seq)};

	*n = node_get(dir, s->target ? &scratch_link_row : &scratch_row, &child);
	if (*n) {
		pthread_mutex_lock(&dir->fs->lock);
		if (!(*n)->scratch)
			(*n)->scratch = take_ptr(s);
		pthread_mutex_unlock(&dir->fs->lock);
	}
	if (s)
		scratch_release(s);
	return *n ? 0 : -ENOMEM;
}

int scratch_lookup(struct node *dir, const char *name, struct node **n)
{
	struct scratch *s;

	pthread_mutex_lock(&dir->fs->lock);
	s = find(dir, name);
	if (s)
		atomic_fetch_add(&s->refs, 1);
	pthread_mutex_unlock(&dir->fs->lock);
	return s ? node_of(dir, s, n) : -ENOENT;
}

bool scratch_next(struct node *dir, uint64_t *cursor, char name[256], struct node **n)
{
	struct scratch *s;

	pthread_mutex_lock(&dir->fs->lock);
	s = dir->scratches;
	while (s && s->seq <= *cursor)
		s = s->next;
	if (s) {
		atomic_fetch_add(&s->refs, 1);
		*cursor = s->seq;
		snprintf(name, 256, "%s", s->name);
	}
	pthread_mutex_unlock(&dir->fs->lock);
	return s && node_of(dir, s, n) == 0;
}

static struct scratch *new_scratch(struct node *dir, const char *name, mode_t mode,
				   const char *target, const struct caller *caller)
{
	struct scratch *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	if (target) {
		s->target = strdup(target);
		if (!s->target) {
			free(s);
			return NULL;
		}
	}
	s->fs = dir->fs;
	s->mode = mode & 0777;
	s->uid = caller->uid;
	s->gid = caller->gid;
	snprintf(s->name, sizeof(s->name), "%s", name);
	clock_gettime(CLOCK_REALTIME, &s->mtime);
	pthread_mutex_init(&s->lock, NULL);
	atomic_init(&s->refs, 2); /* the list's and the caller's */
	return s;
}

static bool may_be_here(const struct node *dir, const char *name)
{
	return scratch_name(name) &&
	       !(node_dir(dir)->numbers && strspn(name, "0123456789") == strlen(name));
}

int scratch_create(struct node *dir, const char *name, mode_t mode, const char *target,
		   const struct caller *caller, struct node **n)
{
	struct scratch *s;
	int r = 0;

	if (!node_dir(dir)->scratch || !may_be_here(dir, name))
		return -EPERM;
	if (!node_alive(dir))
		return -ENOENT;
	s = new_scratch(dir, name, mode, target, caller);
	if (!s)
		return -ENOMEM;
	pthread_mutex_lock(&dir->fs->lock);
	if (find(dir, name))
		r = -EEXIST;
	else if (dir->n_scratches >= SCRATCH_FILES)
		r = -ENOSPC;
	if (r == 0) {
		s->seq = ++dir->fs->scratch_seq;
		s->dir = node_ref(dir);
		append(dir, s);
	}
	pthread_mutex_unlock(&dir->fs->lock);
	if (r < 0) {
		scratch_release(s);
		scratch_release(s);
		return r;
	}
	return node_of(dir, s, n);
}

int scratch_unlink(struct node *dir, const char *name)
{
	struct scratch *s;
	struct node *held = NULL;

	pthread_mutex_lock(&dir->fs->lock);
	s = find(dir, name);
	if (s) {
		unlist(s);
		held = take_ptr(s->dir);
	}
	pthread_mutex_unlock(&dir->fs->lock);
	if (!s)
		return -ENOENT;
	scratch_release(s);
	node_put(held);
	return 0;
}

void scratch_clear(struct node *dir)
{
	char name[256] = "";

	do {
		pthread_mutex_lock(&dir->fs->lock);
		if (dir->scratches)
			memcpy(name, dir->scratches->name, sizeof(name));
		else
			name[0] = '\0';
		pthread_mutex_unlock(&dir->fs->lock);
		if (name[0])
			scratch_unlink(dir, name);
	} while (name[0]);
}

void scratch_free_list(struct node *dir)
{
	while (dir->scratches) {
		struct scratch *s = dir->scratches;

		dir->scratches = s->next;
		scratch_release(s);
	}
}

int scratch_rename(struct node *dir, const char *name, const char *new_name, bool replace)
{
	struct scratch *s, *old;
	struct node *held = NULL;
	int r = 0;

	if (!may_be_here(dir, new_name))
		return -EPERM;
	pthread_mutex_lock(&dir->fs->lock);
	s = find(dir, name);
	old = find(dir, new_name);
	if (!s)
		r = -ENOENT;
	else if (old && !replace)
		r = -EEXIST;
	if (old == s)
		old = NULL;
	if (r == 0) {
		if (old) {
			unlist(old);
			held = take_ptr(old->dir);
		}
		snprintf(s->name, sizeof(s->name), "%s", new_name);
	}
	pthread_mutex_unlock(&dir->fs->lock);
	if (held) {
		scratch_release(old);
		node_put(held);
	}
	return r;
}

void scratch_name_of(struct node *n, char name[256])
{
	LOCK_SCOPE(&n->fs->lock);
	memcpy(name, n->scratch->name, 256);
}

const char *scratch_target(const struct scratch *s)
{
	return s->target;
}

/* --- contents -----------------------------------------------------------------------------------
 */

/* Makes room, within the budget of all; with the file's lock. */
static int reserve(struct scratch *s, size_t need)
{
	size_t cap = s->cap ? s->cap : 4096;
	char *data;

	if (need > SCRATCH_MAX)
		return -EFBIG;
	if (need <= s->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	pthread_mutex_lock(&s->fs->lock);
	if (s->fs->scratch_bytes + (cap - s->cap) > SCRATCH_MAX_TOTAL) {
		pthread_mutex_unlock(&s->fs->lock);
		return -ENOSPC;
	}
	s->fs->scratch_bytes += cap - s->cap;
	pthread_mutex_unlock(&s->fs->lock);
	data = realloc(s->data, cap);
	if (!data) {
		pthread_mutex_lock(&s->fs->lock);
		s->fs->scratch_bytes -= cap - s->cap;
		pthread_mutex_unlock(&s->fs->lock);
		return -ENOMEM;
	}
	s->data = data;
	s->cap = cap;
	return 0;
}

int scratch_resize(struct scratch *s, uint64_t size)
{
	int r;

	LOCK_SCOPE(&s->lock);
	if (size > SCRATCH_MAX)
		return -EFBIG;
	r = reserve(s, size);
	if (r < 0)
		return r;
	if (size > s->len)
		memset(s->data + s->len, 0, size - s->len);
	s->len = size;
	clock_gettime(CLOCK_REALTIME, &s->mtime);
	return 0;
}

static int write_at(struct scratch *s, const char *data, size_t len, uint64_t offset)
{
	size_t end;
	int r;

	LOCK_SCOPE(&s->lock);
	if (offset > SCRATCH_MAX || len > SCRATCH_MAX - offset)
		return -EFBIG;
	end = offset + len;
	r = reserve(s, end);
	if (r < 0)
		return r;
	if (offset > s->len)
		memset(s->data + s->len, 0, offset - s->len);
	memcpy(s->data + offset, data, len);
	if (end > s->len)
		s->len = end;
	clock_gettime(CLOCK_REALTIME, &s->mtime);
	return 0;
}

int scratch_copy(struct scratch *s, char **text, size_t *len)
{
	LOCK_SCOPE(&s->lock);
	*text = malloc(s->len + 1);
	if (!*text)
		return -ENOMEM;
	if (s->len)
		memcpy(*text, s->data, s->len);
	(*text)[s->len] = '\0';
	*len = s->len;
	return 0;
}

int scratch_put(struct node *dir, const char *name, const char *text, size_t len,
		const struct caller *caller)
{
	_cleanup_node_ struct node *n = NULL;
	int r;

	scratch_unlink(dir, name);
	r = scratch_create(dir, name, 0600, NULL, caller, &n);
	return r < 0 ? r : write_at(n->scratch, text, len, 0);
}

int scratch_stat(struct scratch *s, struct stat *st)
{
	LOCK_SCOPE(&s->lock);
	st->st_mode = s->target ? S_IFLNK | 0777 : S_IFREG | s->mode;
	st->st_uid = s->uid;
	st->st_gid = s->gid;
	st->st_size = (off_t)(s->target ? strlen(s->target) : s->len);
	st->st_blocks = (st->st_size + 511) / 512;
	st->st_mtim = st->st_ctim = st->st_atim = s->mtime;
	return 0;
}

int scratch_chattr(struct scratch *s, const struct stat *st, unsigned which)
{
	LOCK_SCOPE(&s->lock);
	if (which & CHATTR_MODE)
		s->mode = st->st_mode & 0777;
	if (which & CHATTR_UID)
		s->uid = st->st_uid;
	if (which & CHATTR_GID)
		s->gid = st->st_gid;
	return 0;
}

static int scratch_open(struct handle *h, const struct caller *caller, struct err *err)
{
	(void)caller;
	(void)err;
	return h->flags & O_TRUNC ? scratch_resize(h->node->scratch, 0) : 0;
}

static ssize_t scratch_read(struct handle *h, void *buf, size_t len, uint64_t offset)
{
	struct scratch *s = h->node->scratch;

	LOCK_SCOPE(&s->lock);
	if (offset >= s->len)
		return 0;
	if (len > s->len - offset)
		len = s->len - offset;
	memcpy(buf, s->data + offset, len);
	return (ssize_t)len;
}

static int scratch_write(struct handle *h, const char *data, size_t len, uint64_t offset,
			 const struct caller *caller, struct err *err)
{
	(void)caller;
	(void)err;
	return write_at(h->node->scratch, data, len, offset);
}

static int scratch_set_size(struct handle *h, uint64_t size)
{
	return scratch_resize(h->node->scratch, size);
}

const struct kind kind_scratch = {
    .name = "scratch file",
    .format = S_IFREG,
    .open = scratch_open,
    .read = scratch_read,
    .write = scratch_write,
    .resize = scratch_set_size,
};

const struct kind kind_scratch_link = {
    .name = "scratch link",
    .format = S_IFLNK,
};
