/* SPDX-License-Identifier: ISC */
#ifndef FV_POOL_INT_H
#define FV_POOL_INT_H
/*
 * What the parts of pools and volumes know of each other.
 *
 *   pools.c           all pools: by name and in order; opening and closing
 *   pool.c            a pool as such: references, state, access, error
 *   pool_define.c     define, undefine, rename; type and source
 *   pool_store.c      STATE/pools/NAME/: access, config, volumes
 *   pool_refresh.c    the pool's thread: when its storage is asked
 *   pool_ask.c        asking it, on threads that may hang
 *   pool_merge.c      showing what came of it
 *   pool_look.c       looking into an image
 *   storage_call.c    storage as commands use it: never for ever
 *   volume.c          a volume as such
 *   volume_keys.c     size, format, backing …
 *   volume_backing.c  what it may be over
 *   volume_new.c      making it anew while it is `new`
 *   volume_make.c     mkdir and rmdir
 *   volume_open.c     descriptors of it and of what is below it
 *   volume_use.c      who has it
 *   volume_work.c     the commands that work on its image
 *   volume_convert.c  those that make another of it
 *
 * Locks, in the order in which they may be taken:
 *   pool.edit    held over writes to the state: one change of a pool's files at a time
 *   pools.lock   names and order
 *   pool.lock    all of the pool and of its volumes that changes; a machine's lock is taken
 *                under it (for its name), so nothing here is called under a machine's lock
 * None is held while storage is waited for. What a command does to a volume is guarded by the
 * volume's op instead: one at a time.
 */
#include "access.h"
#include "command.h"
#include "storage/image.h"
#include "storage/pool.h"
#include "volume.h"

#define POOLS_MAX	  1000
#define STORAGE_WAIT_MS	  5000	/* then its storage does not answer */
#define COMMAND_WAIT_MS	  60000 /* a command waits for a single answer of its storage */
#define REFRESH_PERIOD_MS 15000 /* network mounts tell nothing */
#define RETRY_MS	  3000	/* after a failure */

/* One slot for each row of volume_keys[]. Text is never NULL. */
struct volume_values {
	uint64_t size, format, prealloc, cluster_size, version, refcount_bits;
	uint64_t extended_l2, lazy_refcounts, compression;
	char *backing;
};

/* What is known of a volume besides its content: a line of the pool's `volumes`. */
struct volume_meta {
	char name[VOLUME_NAME_MAX + 1];
	uint64_t id, born_ns; /* of the file that it is said of */
	bool fresh;	      /* `new`: made anew at each change of a key */
	bool unmade;	      /* its storage has it once it has a size */
	bool decided;	      /* @format counts; else it is looked at again */
	enum image_format format;
	/* The file that is about to take its place, and its format; 0: none. */
	uint64_t next_id, next_born_ns;
	enum image_format next_format;
	bool own_access; /* @access was given; else it is that of the file */
	struct machine_access access;
	/* What `backing` was set to, and by whom: "" where nobody did. */
	char *named;
	uid_t named_uid;
	gid_t named_gid;
	struct volume_values wanted; /* while it is new */
	bool taken;		     /* of those that are absent: it has just come */
};

/* What a look into a volume found. Text is NULL where there is none. */
struct volume_look {
	uint64_t bytes; /* of the disk */
	char *trouble;	/* why it cannot be used */
	char *info;
	char *snapshots;
	char *below; /* path that its header names, resolved; or the name of a sibling */
	bool sibling;
	bool qcow2;
	uint64_t cluster_bytes, version, refcount_bits;
	bool extended_l2, lazy_refcounts, zstd;
};

struct volume {
	atomic_uint refs;
	struct pool *pool; /* a reference */
	uint64_t serial;

	/* pool.lock: */
	bool alive;
	struct volume_meta meta;
	struct storage_entry entry; /* as last seen */
	struct volume_look look;
	struct volume_values values; /* what the keys show */
	struct outcome error;
	char *checked;	    /* the last check's result, for info */
	const char *op;	    /* what changes it now, or NULL */
	unsigned n_readers; /* contents open for reading */
	bool writer;	    /* a content is open for writing */
	struct timespec changed[VOLUME_ASPECT_MAX];
};

/* A machine that has a volume. */
struct volume_use {
	struct volume_use *next;
	char volume[VOLUME_NAME_MAX + 1];
	struct machine *m; /* a reference */
	char disk[DISK_NAME_MAX + 1];
	bool write, share;
};

struct pool {
	atomic_uint refs;
	struct model *model;
	uint64_t serial;
	char id[ID_TEXT];

	pthread_mutex_t edit; /* order: see above */

	pthread_mutex_t lock; /* guards all that follows */
	pthread_cond_t cond;  /* CLOCK_MONOTONIC: refreshed, an op ended */
	char name[POOL_NAME_MAX + 1];
	bool alive;
	bool damaged; /* its files in the state cannot be read: nothing is asked or written */
	const struct storage_type *type;
	char *source;		 /* "": none */
	struct storage *storage; /* a reference; NULL without a source */
	struct machine_access access;
	struct file_mode *modes;
	size_t n_modes;
	struct timespec changed[POOL_ASPECT_MAX];
	struct outcome error;
	enum pool_state state;
	char *trouble; /* of its storage: words while it failed */
	int failure;   /* errno of these */
	uint64_t capacity, allocation, free_bytes;

	struct volume **by_name; /* sorted; a reference each */
	struct volume **order;	 /* the same by serial */
	size_t n_volumes, cap;
	struct volume_meta *absent; /* of those that its storage has not now */
	size_t n_absent;
	bool unstored; /* what is known of volumes is not in the state yet */
	struct volume_use *uses;

	/* the thread */
	pthread_t thread;
	bool running, stopping;
	int wake; /* eventfd */
	struct cancel cancel;
	uint64_t wanted, done; /* refreshes */
	uint64_t changes;      /* by our own: what was listed before does not count */
};

struct pools {
	struct model *model;
	int dir; /* STATE/pools */
	pthread_mutex_t lock;
	struct pool **list; /* by serial; a reference each */
	size_t n;
	char **reserved; /* names being made */
	size_t n_reserved;
	struct timespec changed;
};

/* --- pools.c ---------------------------------------------------------------------------- */

/* Takes the name: -EEXIST, -ENOSPC. */
int pools_reserve(struct pools *pools, const char *name, struct err *err);
void pools_unreserve(struct pools *pools, const char *name);
/* Shows it, ends the reservation. Takes a reference. */
int pools_insert(struct pools *pools, struct pool *pool);
void pools_remove(struct pools *pools, struct pool *pool);
/* To the reserved name. */
void pools_rename(struct pools *pools, struct pool *pool, const char *new_name);

/* --- pool.c ----------------------------------------------------------------------------- */

struct pool *pool_new(struct model *model, const char *name, const char *id);
/* Under pool.lock: notes the time and tells. */
void pool_touch(struct pool *pool, enum pool_aspect aspect, const char *name);
/* Under pool.lock. @trouble: words where it failed. */
void pool_set_state(struct pool *pool, enum pool_state state, const char *trouble);
void pool_outcome(struct pool *pool, const char *what, const struct err *err);
/* A reference to its storage; NULL with words (-ENXIO) where it has none, or that failed. */
struct storage *pool_storage(struct pool *pool, struct err *err);
/* Makes its storage of type, source and owner. Not under its lock. */
int pool_activate(struct pool *pool, struct err *err);

/* --- pool_store.c ------------------------------------------------------------------------- */

int pools_store_open(struct pools *pools, struct err *err);
int pools_store_load(struct pools *pools, struct err *err);
int pool_store_define(struct pool *pool, struct err *err);
int pool_store_undefine(struct pool *pool, struct err *err);
void pool_store_sweep(struct pool *pool);
int pool_store_rename(struct pool *pool, const char *new_name, struct err *err);
/* Under pool.edit: durable when they return. */
int pool_store_config(struct pool *pool, const struct storage_type *type, const char *source,
		      struct err *err);
int pool_store_access(struct pool *pool, const struct machine_access *access,
		      const struct file_mode *modes, size_t n_modes, struct err *err);
int pool_store_volumes(struct pool *pool, struct err *err);

/* --- pool_meta.c: lines of `volumes` --------------------------------------------------------- */

void meta_format(const struct volume_meta *meta, struct strbuf *sb);
/* -EINVAL, -ENOMEM. Release with meta_free() in any case. */
int meta_parse(char *line, struct volume_meta *meta);
int meta_init(struct volume_meta *meta, const char *name);
void meta_free(struct volume_meta *meta);
int meta_copy(struct volume_meta *to, const struct volume_meta *from);
int volume_values_init(struct volume_values *values);
void volume_values_free(struct volume_values *values);
int volume_values_copy(struct volume_values *to, const struct volume_values *from);

/* --- pool_refresh.c ------------------------------------------------------------------------ */

int pool_thread_start(struct pool *pool);
void pool_thread_stop(struct pool *pool);
/* Has the storage asked anew; waits for it if @wait. 0, -ECANCELED, -ETIMEDOUT; or why it failed.
 */
int pool_refresh(struct pool *pool, bool wait, struct cancel *cancel, struct err *err);

/* --- pool_look.c --------------------------------------------------------------------------- */

/* Looks into an image of that format; what is wrong with it is in look->trouble. */
void look_into(int fd, const struct storage *s, const char *name, enum image_format format,
	       uint64_t bytes, struct volume_look *look);
/* Which format the first bytes look like. */
enum image_format look_probe(int fd);
void look_free(struct volume_look *look);

/* --- volume.c ------------------------------------------------------------------------------ */

/* One that nobody knows yet. Takes what is in @meta. */
struct volume *volume_new(struct pool *pool, struct volume_meta *meta);
/* Under pool.lock: */
struct volume *pool_find_volume(struct pool *pool, const char *name);
int pool_add_volume(struct pool *pool, struct volume *volume);
void pool_drop_volume(struct pool *pool, struct volume *volume);
void volume_touch(struct volume *volume, enum volume_aspect aspect);
/* Under pool.lock: takes over a new look and shows what changed. */
void volume_seen(struct volume *volume, const struct storage_entry *entry,
		 struct volume_look *look);
void volume_outcome(struct volume *volume, const char *what, const struct err *err);
/* Under pool.lock: the machine that has it (to write, or @any); NULL: none. */
const struct volume_use *volume_used(struct volume *volume, bool any);
/*
 * Claims it for a change: -EBUSY with words while a machine has it, another change is under
 * way, or its content is open; -ENOENT. Then volume_unclaim().
 */
int volume_claim(struct volume *volume, const char *op, struct err *err);
void volume_unclaim(struct volume *volume);
/*
 * Under pool.lock, which it may let go of: waits a moment for contents that are about to
 * be closed (close(2) does not wait for that). -EBUSY with words where they are not. @all:
 * those that read, too.
 */
int volume_await_closed(struct volume *volume, bool all, struct err *err);
/* Looks at its file now, after a change. Not under a lock. */
int volume_look_now(struct volume *volume, struct cancel *cancel, struct err *err);
void volume_event(struct volume *volume, const char *kind, const struct caller *caller);

/* --- storage_call.c: storage that may hang: -ETIMEDOUT, -ECANCELED; else as struct storage_type */

/* As rights_open(). */
int path_open_waiting(const struct rights *rights, const char *path, bool write,
		      struct cancel *cancel, struct err *err);
int storage_attach_waiting(struct storage *s, const char *name, bool write, struct cancel *cancel,
			   struct nbd_link *link, struct err *err);

int storage_open_waiting(struct storage *s, const char *name, bool write, struct cancel *cancel,
			 struct err *err);
int storage_create_waiting(struct storage *s, const char *name, uint64_t bytes,
			   struct cancel *cancel, char hidden[STORAGE_NAME_MAX + 64],
			   struct err *err);
int storage_rename_waiting(struct storage *s, const char *hidden, const char *name, bool replace,
			   struct cancel *cancel, struct err *err);
int storage_remove_waiting(struct storage *s, const char *name, struct cancel *cancel,
			   struct err *err);
int storage_resize_waiting(struct storage *s, const char *name, uint64_t bytes,
			   struct cancel *cancel, struct err *err);
int storage_list_waiting(struct storage *s, struct cancel *cancel, struct storage_list *list,
			 struct err *err);

/* --- volume_open.c ------------------------------------------------------------------------------
 */

/* A file that an image may name, and how it is opened. */
struct allowed_file {
	char *path;
	struct volume *volume; /* a reference; NULL: a path, with these rights */
	struct rights rights;  /* groups are its own */
};

/*
 * Opens what an image names, as the owners of volumes allow: for the functions of
 * storage/image.h. Begins with @volume. A name in its header is followed within its pool, and
 * to what `backing` of that volume was set to by somebody who may; the same then holds for
 * what is found there.
 */
struct volume_opener {
	struct image_opener opener;
	struct model *model;
	struct cancel *cancel;
	struct allowed_file files[2 * IMAGE_DEPTH_MAX + 4]; /* opened so far */
	unsigned n, last;
	struct allowed_file extra; /* may be opened, too; path NULL: none */
	struct volume *writable;   /* borrowed: besides the top, this may be written; NULL: none */
};

int volume_opener_init(struct volume_opener *o, struct volume *volume, struct cancel *cancel,
		       struct err *err);
void volume_opener_free(struct volume_opener *o);
/* The path of the volume as its opener knows it; caller frees. */
char *volume_path(struct volume *volume);

/* Its first use: from now on its format is what it is, its keys are no wishes. Not claimed. */
int volume_settle(struct volume *volume, struct err *err);

/* --- volume_keys.c --------------------------------------------------------------------------- */

/* What `backing` may be set to: a volume, or a path. */
struct volume_backing {
	struct volume *volume; /* a reference, or NULL: a path */
	char *name;	       /* as it stands in the header */
	char *path;	       /* where it is */
	char *named;	       /* as it is kept */
	enum image_format format;
	uint64_t bytes;
};

/* Finds it, and whether the caller may use it so. */
int backing_find(struct volume *volume, const char *text, const struct caller *caller,
		 struct volume_backing *backing, struct err *err);
void backing_free(struct volume_backing *backing);
/*
 * The file at @fd is about to take the volume's place: noted durably, so that its format is
 * known whenever the host or the daemon ends.
 */
int volume_announce(struct volume *volume, int fd, enum image_format format, struct err *err);
/* The file at @fd is the volume's from now on, as @values say: noted durably. @fd -1: a device. */
int volume_settle_new(struct volume *volume, const struct volume_values *values,
		      const struct caller *named_by, int fd, struct err *err);
/* The format and options as image_create() wants them, from the words of keys. */
void values_to_create(const struct volume_values *values, struct image_create *create);
/*
 * Makes the image of a new volume as @values say, in the place of what was there. Claimed.
 * @named_by: who set `backing`; may be NULL.
 */
int volume_make_anew(struct volume *volume, struct volume_values *values,
		     const struct volume_backing *backing, const struct caller *named_by,
		     struct cancel *cancel, struct err *err);
const struct config_key *volume_key(const char *name);

/* Sets one from text; -EINVAL, -ERANGE with words. */
int volume_value_parse(struct volume_values *values, const struct config_key *key, const char *text,
		       struct err *err);
/* -EBUSY with words where the image of another volume is over this one's. */
int volume_must_not_back(struct volume *volume, struct err *err);
/* Makes it larger, through the machine that runs with it where one does. Not claimed. */
int volume_grow(struct volume *volume, const char *size, const struct caller *caller,
		struct err *err);

/* --- volume_work.c, volume_convert.c
 * ---------------------------------------------------------------------------- */

/* All of it, for its content: as volume_chain_open(), as one node. */
int volume_block_open(struct volume *volume, bool write, struct cancel *cancel,
		      struct block **block, struct err *err);
/* Its image alone or with what is below it (IMAGE_…); @held keeps it locked: close it after. */
int volume_open_image(struct volume *volume, unsigned flags, struct cancel *cancel,
		      struct block **block, int *held, struct err *err);
struct image_job volume_job(struct command_call *call, const struct caller *caller);
command_fn volume_resize, volume_check, volume_repair, volume_commit, volume_rebase, volume_convert,
    volume_copy, volume_snapshot, volume_snapshot_apply, volume_snapshot_delete;

/* model.c */
enum pool_news { POOL_NEWS_ADDED, POOL_NEWS_REMOVED, POOL_NEWS_RENAMED };
void tell_pool(struct pool *pool, enum pool_news news, const char *old_name);
void tell_pool_changed(struct pool *pool, int aspect, const char *name);
void tell_volume_changed(struct volume *volume, int aspect);

#endif
