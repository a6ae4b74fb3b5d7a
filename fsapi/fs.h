/* SPDX-License-Identifier: ISC */
#ifndef FV_FSAPI_FS_H
#define FV_FSAPI_FS_H
/*
 * What the parts of fsapi/ know of each other.
 *
 *   row     a name in a directory: a line of a table (tree_*.c), const
 *   dir     a directory's rows, and how its dynamic children are found
 *   kind    what a file promises (attribute, document, command, log, blob)
 *   node    an inode that the kernel, a handle or the notifier knows (node.c)
 *   handle  an open file or directory
 *
 * Locks, in the order in which they may be taken (none while calling the
 * model, except that the model's observer may take any of them under the
 * model's own locks): shard.lock, fsapi.lock, notifier.lock.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "content.h"
#include "fsapi/crew.h"
#include "interfaces.h"
#include "job.h"
#include "machine.h"
#include "model.h"
#include "nic.h"
#include "pool.h"
#include "snapshot.h"
#include "util/cancel.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/strbuf.h"

struct fsapi;
struct node;
struct handle;
struct notifier;
struct scratch;
struct fuse_session;
struct fuse_pollhandle;

#define ATTRIBUTE_MAX (64u << 10) /* bytes of a value */
#define COMMAND_MAX   (64u << 10) /* bytes of a line of ctl */
#define DOCUMENT_MAX  (1u << 20)

/* --- rows and directories ------------------------------------------------------------- */

enum dir_id {
	DIR_NONE,
	DIR_ROOT,
	DIR_MACHINES,
	DIR_MACHINE,
	DIR_DISKS,
	DIR_DISK,
	DIR_VCPUS,
	DIR_VCPU,
	DIR_JOBS,
	DIR_JOB,
	DIR_SNAPSHOTS,
	DIR_SNAPSHOT,
	DIR_SNAPSHOT_DISKS,
	DIR_SNAPSHOT_DISK,
	DIR_NICS,
	DIR_NIC,
	DIR_VSOCK,
	DIR_NETWORKS,
	DIR_NETWORK,
	DIR_POOLS,
	DIR_POOL,
	DIR_VOLUMES,
	DIR_VOLUME,
	DIR_INTERFACES,
	DIR_INTERFACE,
	DIR_HOST, /* its subdirectories follow after DIR_STATIC */
	DIR_STATIC,
	DIR_MAX = DIR_STATIC + 32,
};

/*
 * Aspects of rows: those of a machine (enum machine_aspect), of a snapshot, of a pool, of a
 * volume, of a network, of an interface of the host, and others.
 */
#define ASPECT_SNAPSHOT(aspect)	 (ASPECT_MAX + (int)(aspect))
#define ASPECT_POOL(aspect)	 (ASPECT_SNAPSHOT(SNAPSHOT_ASPECT_MAX) + (int)(aspect))
#define ASPECT_VOLUME(aspect)	 (ASPECT_POOL(POOL_ASPECT_MAX) + (int)(aspect))
#define ASPECT_NETWORK(aspect)	 (ASPECT_VOLUME(VOLUME_ASPECT_MAX) + (int)(aspect))
#define ASPECT_INTERFACE(aspect) (ASPECT_NETWORK(NETWORK_ASPECT_MAX) + (int)(aspect))
enum {
	ASPECT_FIXED = -1,    /* never changes while the daemon lives */
	ASPECT_EVENTS = -2,   /* the log of events, and what the last command left */
	ASPECT_MACHINES = -3, /* a machine came, went or was renamed */
	ASPECT_JOB = -4,      /* the job of this directory */
	ASPECT_JOBLIST = -5,
	ASPECT_HOST = -6,	      /* may change at any time; never told */
	ASPECT_POOLS = -7,	      /* a pool came, went or was renamed */
	ASPECT_NETWORKS = -8,	      /* the same of a network */
	ASPECT_INTERFACES = -9,	      /* ... of an interface of the host */
	ASPECT_INTERFACES_TOLD = -10, /* what is said of all of them */
};

enum row_flags {
	ROW_MAY_BE_EMPTY = 1 << 0, /* an empty value shows as an empty file, without the newline */
	ROW_SLOW = 1 << 1,	 /* opening may wait (for a VMM's answer): never on a FUSE worker */
	ROW_FIXED_SIZE = 1 << 3, /* registers: their length is known without asking */
	ROW_VOLATILE = 1 << 2,	 /* comes and goes, or changes untold: nothing of it is cached */
};

struct row {
	const char *name;
	const struct kind *kind;
	mode_t mode; /* permission bits; those of the machine's directory mask them */
	int aspect;
	unsigned flags;
	enum dir_id dir; /* directories: which */
	/* Text of an attribute (a final newline is added where absent), document, command list. */
	int (*show)(struct node *n, struct strbuf *sb);
	/* Sets an attribute's value (NUL-terminated, newline off) or a document's text. */
	int (*store)(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err);
	/*
	 * Of a document of lines that stand each by itself, or NULL: what store would say of whole
	 * ones, asked at write(2) already, as shells do not look at what close(2) returns.
	 */
	int (*check)(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err);
	const void *ops; /* the kind's own: struct log_ops, blob_ops, image_ops */
	const void *arg; /* the row's own: a config_key, a host_fact */
	const char *help;
};

/* --- things of the model that have a directory (thing.c) ------------------------------ */

enum thing_kind {
	THING_NONE,
	THING_MACHINE,
	THING_JOB,
	THING_POOL,
	THING_VOLUME,
	THING_SNAPSHOT,
	THING_NETWORK,
	THING_INTERFACE,
	THING_KIND_MAX,
};

/* A reference to one of them, or to none. */
struct thing {
	enum thing_kind kind;
	void *ref;
};

static inline struct thing thing_of(enum thing_kind kind, void *ref)
{
	return (struct thing){.kind = kind, .ref = ref};
}
/* Another reference. */
struct thing thing_get(struct thing t);
void thing_put(struct thing t);
/* Its present name. */
void thing_name(struct thing t, char name[256]);
/* The number that is in the id of its node. */
uint64_t thing_number(struct thing t);
bool thing_alive(struct thing t);

/* A dynamic child, as a directory finds it. The references move to the node made of it. */
#define CHILD_ID(number) ((uint64_t)(number) + 1)
struct child {
	const struct row *row;
	uint64_t id; /* CHILD_ID(), or 0: known by its name */
	char name[256];
	struct thing thing;
};
/* Fills in the child of @dir that shows @t: a reference, consumed. */
void child_of_thing(struct node *dir, struct thing t, struct child *child);

struct dir_ops {
	/* Finds a dynamic child by name: 0, -ENOENT. */
	int (*find)(struct node *dir, const char *name, struct child *child);
	/* The next one after *cursor (0 starts, kept below 2^60), which it moves on; false at the
	 * end. @h keeps what a listing needs between calls. */
	bool (*next)(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child);
	size_t (*count)(struct node *dir); /* how many there are */
	/* mkdir, rmdir, rename within the directory; NULL where none is allowed. All may wait. */
	int (*make)(struct node *dir, const char *name, mode_t mode, const struct caller *caller,
		    struct child *child, struct err *err);
	int (*remove)(struct node *dir, const char *name, const struct caller *caller,
		      struct err *err);
	int (*rename)(struct node *dir, const char *name, const char *new_name, struct err *err);
};

/* Parts of a machine that are known by name (parts.c): of machine.h, nic.h. */
struct part_ops {
	bool (*exists)(struct machine *m, const char *name);
	bool (*at)(struct machine *m, size_t index, char name[DISK_NAME_MAX + 1]);
	int (*add)(struct machine *m, const char *name, const struct caller *caller,
		   struct err *err);
	int (*remove)(struct machine *m, const char *name, const struct caller *caller,
		      struct err *err);
};

extern const struct dir_ops parts_ops; /* for a directory whose `parts` are set */

struct dir {
	const struct row *rows;
	size_t n_rows;
	struct row child; /* what each dynamic child is; it has no name */
	const struct dir_ops *ops;
	const struct part_ops *parts;
	bool scratch;	   /* editors may leave their files here */
	bool numbers;	   /* ... but none whose name is a number: that is a child's */
	bool takes_long;   /* mkdir and rmdir here: as a command does, and cancelled like one */
	bool no_copies;	   /* what is made here is no part of a copy of what it belongs to */
	const char *title; /* for README */
	struct row *made;  /* `rows`, where this directory owns their memory */
	char *made_name;   /* its own name, likewise */
};

/* --- kinds ---------------------------------------------------------------------------- */

struct kind {
	const char *name; /* as README and the manual call it */
	mode_t format;	  /* S_IFREG, S_IFDIR, S_IFLNK */
	/* True size, of what a handle opened now would read. */
	int (*size)(struct node *n, uint64_t *size);
	int (*open)(struct handle *h, const struct caller *caller, struct err *err);
	/* Up to @len bytes; 0 at the end. */
	ssize_t (*read)(struct handle *h, void *buf, size_t len, uint64_t offset);
	/* All bytes are taken or none: 0 or -errno. */
	int (*write)(struct handle *h, const char *data, size_t len, uint64_t offset,
		     const struct caller *caller, struct err *err);
	/* Whether @write may wait: then it runs on a thread of the crew. */
	bool (*write_waits)(struct handle *h, const char *data, size_t len);
	/* flush, fsync, and release: takes what was collected. */
	int (*flush)(struct handle *h, const struct caller *caller, struct err *err);
	int64_t (*seek)(struct handle *h, int64_t offset, int whence);
	/* ftruncate(2) through this handle. */
	int (*resize)(struct handle *h, uint64_t size);
	/* fallocate(2) */
	int (*allocate)(struct handle *h, int mode, uint64_t offset, uint64_t len);
	/* Bytes that it occupies; NULL: its size. */
	uint64_t (*occupies)(struct node *n);
	void (*close)(struct handle *h);
	/* Whatever is done with a handle may wait for storage: never on a FUSE worker. */
	bool storage;
};

extern const struct kind kind_attribute, kind_document, kind_command, kind_log, kind_blob,
    kind_image, kind_link, kind_dir, kind_scratch, kind_scratch_link, kind_archive;

struct log_ops {
	int (*open)(struct node *n); /* a descriptor; -ENOENT: empty so far */
	int (*stat)(struct node *n, uint64_t *size, struct timespec *mtime);
	/* What is written to it; NULL: read-only. Never waits. */
	int (*type)(struct node *n, const void *data, size_t len, struct err *err);
};

struct blob_ops {
	int (*open)(struct handle *h,
		    struct err *err); /* fills h->content or h->core; neither: empty */
	uint64_t (*size)(struct node *n);
};

struct image_ops {
	int (*open)(struct node *n, bool write, const struct caller *caller,
		    struct content **content, struct err *err);
	uint64_t (*size)(struct node *n);
	uint64_t (*occupies)(struct node *n); /* NULL: little */
};

/* --- nodes (node.c) ------------------------------------------------------------------- */

/*
 * An inode. It lives while anyone refers to it: the kernel (each of its
 * lookups is a reference), open handles, children, the notifier, a call under way.
 */
struct node {
	struct fsapi *fs;
	struct node *parent; /* a reference; NULL for the root */
	const struct row *row;
	uint64_t id;	    /* CHILD_ID() of a thing's or vcpu's number; 0: none */
	char *name;	    /* disks and scratch files: their name; else NULL */
	uint64_t ino;	    /* st_ino: the same for the same thing, always */
	struct thing thing; /* what this directory shows; of THING_NONE for all others */
	struct machine *m;  /* what it belongs to, by itself or the directories above, which */
	struct job *job;    /* hold the references; NULL where it does not */
	struct pool *pool;
	struct network *network;
	struct interface *interface;
	struct volume *volume;
	struct snapshot *snapshot;
	struct scratch *scratch; /* of a scratch file's node: a reference */

	atomic_uint_fast64_t refs;
	atomic_uint_fast64_t lookups; /* of these, the kernel's */
	atomic_uint generation;	      /* counts changes, for poll(2) */
	atomic_uint storing; /* writes by clients under way: they make events by themselves */

	struct node *next; /* in its shard's chain; shard.lock */
	struct lane lane;  /* image: who waits for its storage */

	/* fsapi.lock: */
	unsigned writers;	   /* command: handles open for writing */
	bool notifying;		   /* command: the notifier is at it */
	uint64_t contended_ns;	   /* directory: until then each lookup of its command file gets
				      a node of its own */
	struct scratch *scratches; /* directory: its scratch files, oldest first */
	unsigned n_scratches;

	/* notifier.lock: */
	struct node *queue_next;
	bool queued;
	struct handle *pollers; /* those that keep a poll handle */
	unsigned shown;		/* vcpu/: how many of them watchers have been told of */
	bool shown_set;
};

#define NODE_SHARDS 64

struct shard {
	pthread_mutex_t lock; /* guards all here, and the chains */
	struct node **buckets;
	size_t n_buckets; /* a power of two */
	size_t n_nodes;
};

int nodes_init(struct fsapi *fs);
void nodes_destroy(struct fsapi *fs);
/* A reference; @n is returned. */
struct node *node_ref(struct node *n);
/* Drops @count references. */
void node_unref(struct node *n, uint64_t count);
static inline void node_put(struct node *n)
{
	if (n)
		node_unref(n, 1);
}
static inline void node_putp(struct node **n)
{
	node_put(*n);
}
#define _cleanup_node_ __attribute__((cleanup(node_putp)))

/*
 * The node of @row (and @child, for dynamic ones: its references are consumed
 * in any case) in @dir, made if there is none. A reference, NULL without memory.
 */
struct node *node_get(struct node *dir, const struct row *row, struct child *child);
/* The same if it is known already, else NULL. Takes no lock but a shard's. */
struct node *node_find(struct node *dir, const struct row *row, uint64_t id, const char *name);
/* One of its own beside the well-known one, with the same st_ino; nobody finds it. */
struct node *node_variant(struct node *n);
/* Calls @fn with each node that belongs to @t, with no lock held; @fn must not keep it. */
void nodes_of_thing(struct fsapi *fs, struct thing t, void (*fn)(struct node *n, void *arg),
		    void *arg);
/* Inode number of a row or child without making a node. */
uint64_t node_ino(const struct node *dir, const struct row *row, uint64_t id, const char *name);
void child_release(struct child *child);

static inline bool node_is_dir(const struct node *n)
{
	return S_ISDIR(n->row->kind->format);
}
/* The present name of the node in its directory. */
void node_name(struct node *n, char name[256]);
/* Path from the root ("machines/a/state", "" for the root); -ENAMETOOLONG. */
int node_path(struct node *n, char *path, size_t size);
/* Path below its machine's, pool's or network's directory ("disks/root/source"), for what belongs
 * to one. */
int node_owner_path(struct node *n, char *path, size_t size);
/* Whether it is the directory of something with an owner, which mkdir(2) made with all in it. */
static inline bool node_is_owner(const struct node *n)
{
	return n->thing.kind == THING_MACHINE || n->thing.kind == THING_POOL ||
	       n->thing.kind == THING_NETWORK || n->thing.kind == THING_VOLUME;
}
/* Whether only mkdir(2), rmdir(2) and rename(2) change what its name is. */
static inline bool thing_name_stays(struct thing t)
{
	return t.kind == THING_MACHINE || t.kind == THING_POOL || t.kind == THING_NETWORK;
}
/* Attributes as stat(2) shows them. -ENOENT where it is gone. */
int node_stat(struct node *n, struct stat *st);
/* Whether each change of its attributes is told, so that the kernel may keep them. */
bool node_attr_told(const struct node *n);
/* Whether node_stat() may wait, as its size is that of an answer of a VMM's. */
bool node_stat_waits(const struct node *n);
/* Whether the kernel knows it. */
static inline bool node_known(struct node *n)
{
	return !n->parent || atomic_load(&n->lookups) > 0;
}
/* Whether what it shows still exists. */
bool node_alive(struct node *n);
enum { CHATTR_MODE = 1, CHATTR_UID = 2, CHATTR_GID = 4 };
/* chmod, chown of what @which says. */
int node_chattr(struct node *n, const struct stat *st, unsigned which, struct err *err);
/* Puts words of a refusal where its user will look: the nearest `error` above. */
void node_complain(struct node *n, const char *what, const struct err *err);
struct timespec node_mtime(struct node *n);

/* --- directories (dir.c) -------------------------------------------------------------- */

static inline const struct dir *node_dir(const struct node *n);
const struct row *dir_row(const struct dir *d, const char *name);
/* Finds @name in @dir: a reference in *@n; -ENOENT. */
int dir_lookup(struct node *dir, const char *name, struct node **n);
/*
 * Walks entries from *@offset (0 starts; opaque, stable while others come and
 * go). Calls @emit with what is needed for an entry and the offset after it; @emit returns
 * false when there is no more room. . and .. are not among them.
 */
typedef bool dir_emit(void *arg, const char *name, const struct row *row, struct child *child,
		      struct node *known, uint64_t next_offset);
int dir_list(struct handle *h, uint64_t offset, dir_emit *emit, void *arg);

/* --- handles -------------------------------------------------------------------------- */

struct handle {
	atomic_uint refs;  /* the kernel's, and those of calls that it no longer waits for */
	struct node *node; /* a reference */
	struct handle *next, **prev; /* all of them; fsapi.handles_lock */
	int flags;		     /* of open(2) */
	bool writable;
	pthread_mutex_t lock;

	bool opened; /* by its kind: to be closed by it */
	bool fresh;  /* nothing was read since it was opened; lock */

	/* attribute, document, command: what a reader sees; lock */
	char *text;
	size_t len;

	/* what a writer wrote; lock */
	struct strbuf written;
	uint64_t next_offset; /* end of the last write */
	bool dirty;	      /* document, archive: not taken yet; image: not flushed yet */
	bool whole;	      /* document: begins empty, not with the old text */
	bool loaded;	      /* document: `written` holds the text so far */
	int refused;	      /* document, archive: why a write to it was */
	bool has_writer;
	struct caller writer; /* document: who wrote first, as whom the text is taken */

	int fd; /* log; else -1 */
	struct machine_core *core;
	struct content *content;	    /* image, blob */
	struct archive_import *import;	    /* archive: what is being written; lock */
	char (*listing)[DISK_NAME_MAX + 1]; /* disks/: its names as of opendir; lock */
	size_t n_listing;

	/* poll(2); notifier.lock */
	struct fuse_pollhandle *poll;
	struct handle *poll_next, **poll_prev;
	atomic_uint seen; /* generation last read; any thread */
};

/* What a reader of an attribute, document or command would see now. */
int text_show(struct node *n, struct strbuf *sb);
/* Command files: the node that this lookup gets, see kind_command.c; consumes @n. */
struct node *command_pick(struct node *n, bool notifier);
/* A handle opens it for writing: -ESTALE where another has (the kernel then looks up again). */
int command_claim(struct node *n);
void command_unclaim(struct node *n);
/* The notifier has done with what command_pick(n, true) gave it. */
void command_notified(struct node *n);

struct handle *handle_new(struct node *n, int flags);
/* By its kind; words of a refusal go where its user will look. */
int handle_open(struct handle *h, const struct caller *caller);
struct handle *handle_get(struct handle *h);
/* The last one closes it, by its kind where that opened it. */
void handle_put(struct handle *h);

/* --- scratch files (scratch.c) -------------------------------------------------------- */

/* Whether editors and copiers use such a name for what they write beside the file proper. */
bool scratch_name(const char *name);
/* Makes one: a reference to its node. -EPERM (no such name), -ENOSPC, -EEXIST. @target: symlink. */
int scratch_create(struct node *dir, const char *name, mode_t mode, const char *target,
		   const struct caller *caller, struct node **n);
int scratch_lookup(struct node *dir, const char *name, struct node **n);
int scratch_unlink(struct node *dir, const char *name);
/* Renames to another scratch name of the same directory. */
int scratch_rename(struct node *dir, const char *name, const char *new_name, bool replace);
/* Copy of the contents (caller frees, NUL-terminated). */
int scratch_copy(struct scratch *s, char **text, size_t *len);
/* A scratch file with these contents, replacing one of the name. */
int scratch_put(struct node *dir, const char *name, const char *text, size_t len,
		const struct caller *caller);
/* Walks a directory's, oldest first; *cursor 0 starts. False at the end. */
bool scratch_next(struct node *dir, uint64_t *cursor, char name[256], struct node **n);
int scratch_stat(struct scratch *s, struct stat *st);
int scratch_chattr(struct scratch *s, const struct stat *st, unsigned which);
int scratch_resize(struct scratch *s, uint64_t size);
const char *scratch_target(const struct scratch *s);
void scratch_release(struct scratch *s);
void scratch_name_of(struct node *n, char name[256]);
/* Drops all of a directory, when what it shows is gone. */
void scratch_clear(struct node *dir);
/* The same for a node that is being freed with everything. */
void scratch_free_list(struct node *dir);

/* --- what a process is about to do with a name (intent.c) ----------------------------- */

struct intent {
	pid_t pid;
	uint64_t what; /* an inode number */
	uint64_t until_ns;
};
/* Whether @pid goes by the name of a program that unlinks what it then writes. */
bool intent_is_copier(pid_t pid);
/* @pid made this machine; unlinked this file. */
void intent_made(struct node *n, pid_t pid);
void intent_unlinked(struct node *n, pid_t pid);
/* Whether @pid has reason to believe that @n does not exist and may create it. */
bool intent_creates(struct node *n, pid_t pid);
/* Whether, besides, it waits in a system call that does so. */
bool intent_hides(struct node *n, pid_t pid);
/* Whether @pid copies what it made: all below the directory of which @n is a part. */
bool intent_copies(struct node *n, pid_t pid);

/* --- images that are being closed (closing.c) ----------------------------------------- */

struct closing { /* part of the call that closes */
	uint64_t number, since_ns;
	struct closing *next;
};
struct closings {
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t ended;
	uint64_t begun;
	struct closing *first;
};
void closings_init(struct closings *cs);
void closings_destroy(struct closings *cs);
void closing_begin(struct closings *cs, struct closing *c);
void closing_end(struct closings *cs, struct closing *c);
/* Until those that have begun are done, or take long. */
void closings_wait(struct closings *cs);

/* --- clients' signals (signals.c) ------------------------------------------------------------ */

struct signals;
/* A request whose client got a signal; part of what its cancel token belongs to. */
struct interrupted {
	pid_t tid; /* the client */
	struct cancel *cancel;
	bool deadly; /* only by what ends the client: regular files know no other interrupt */
	struct interrupted *next, **prev; /* signals.lock */
};
int signals_open(struct signals **s);
int signals_start(struct signals *s);
void signals_stop(struct signals *s);
void signals_close(struct signals *s);
/* Requests the cancel at once or as soon as the client has a signal that asks for it. */
void signals_heard(struct signals *s, struct interrupted *i);
/* It is done: never requested after this returns. */
void signals_forget(struct signals *s, struct interrupted *i);

/* --- the notifier (notify.c) and the model's observer (observe.c) --------------------- */

int notifier_open(struct notifier **nt, struct fsapi *fs);
/* Starts the thread; after the workers, which serve what it does to the tree. */
int notifier_start(struct notifier *nt);
/* Waits for its end; before the workers end. */
void notifier_stop(struct notifier *nt);
void notifier_close(struct notifier *nt);
/* Whether a request comes from the notifier itself. */
bool notifier_is(struct notifier *nt, pid_t pid);
/* Whether the notifier is making this name appear to watchers just now ... */
bool notifier_makes(struct notifier *nt, struct node *dir, const char *name);
/* ... or disappear: then a node for it, a reference, else NULL. */
struct node *notifier_ghost(struct notifier *nt, struct node *dir, const char *name);

/* These may be called with the model's locks held; none waits. */

/* The contents changed: the kernel forgets its attributes now, watchers are told soon. */
void notify_changed(struct node *n);
/*
 * A directory in @dir came or went (which, shows when its turn comes), not by a
 * client's hand: that of @t, or where that is none, number @id, or where that is 0, @name.
 */
void notify_child(struct node *dir, uint64_t id, const char *name, struct thing t);
/* What was called so no longer is. */
void notify_gone(struct node *dir, struct thing t, const char *name);
/* The kernel is mistaken about what @name in @dir is. */
void notify_name(struct node *dir, const char *name);
/* What had to wait for a client's mkdir (own_takes_long()) may be told now. With fsapi.lock. */
void notifier_go_on(struct notifier *nt);
/* vcpu/: their number may differ from what watchers know. */
void notify_vcpus(struct node *dir);
/* Somebody looks at vcpu/ for the first time: what there is, is no news. */
void notify_vcpus_seen(struct node *dir);

void notify_poll_keep(struct handle *h, struct fuse_pollhandle *ph);
void notify_poll_drop(struct handle *h);
struct notifier_stats {
	uint64_t queued, dropped, sent;
};
void notifier_stats(struct notifier *nt, struct notifier_stats *stats);

/* The thread that does things to our own mount (hand.c). */
enum hand_deed { HAND_TOUCH, HAND_MKDIR, HAND_RMDIR };
struct hand;
int hand_open(struct hand **hand, struct fsapi *fs);
int hand_start(struct hand *hand);
void hand_stop(struct hand *hand);
void hand_close(struct hand *hand);
/* Does it to @path below the mount, and waits until it is done: 0 or -errno. From one thread. */
int hand_do(struct hand *hand, enum hand_deed deed, const char *path);
bool hand_is(struct hand *hand, pid_t tid);

extern const struct model_observer fsapi_observer;
/* This thread does a client's mkdir, rmdir or rename: the kernel tells watchers of it itself. */
struct own_op {
	struct node *dir;
	const char *name;
	pthread_t thread;
	struct own_op *next;
};
void own_begin(struct own_op *op, struct node *dir, const char *name);
void own_end(struct own_op *op);
/* Whether it does so to @dir just now, or another thread does to @name there (may be NULL). */
bool own_is(struct node *dir, const char *name);
/* Whether the kernel holds the lock of @n or of a directory above for one that takes long. With
 * fsapi.lock. */
bool own_takes_long(const struct node *n);

/* --- what only the files that include libfuse can do ---------------------------------- */

/* Waits for nothing that a client could hold. */
void wire_forget_attr(struct node *n);
void wire_poll_wake(struct fuse_pollhandle *ph);
void wire_poll_free(struct fuse_pollhandle *ph);

/* --- tables (tree_*.c) and texts ------------------------------------------------------ */

int tree_build(struct dir dirs[DIR_MAX]);
void tree_destroy(struct dir dirs[DIR_MAX]);
/* Each fills in the directories of its file; 0 or -ENOMEM. */
int tree_root_build(struct dir dirs[DIR_MAX]);
int tree_machine_build(struct dir dirs[DIR_MAX]);
int tree_disk_build(struct dir dirs[DIR_MAX]);
int tree_vcpu_build(struct dir dirs[DIR_MAX]);
int tree_jobs_build(struct dir dirs[DIR_MAX]);
int tree_host_build(struct dir dirs[DIR_MAX]);
int tree_interfaces_build(struct dir dirs[DIR_MAX]);
int tree_nic_build(struct dir dirs[DIR_MAX]);
int tree_vsock_build(struct dir dirs[DIR_MAX]);
int tree_network_build(struct dir dirs[DIR_MAX]);
int tree_pool_build(struct dir dirs[DIR_MAX]);
int tree_volume_build(struct dir dirs[DIR_MAX]);
int tree_snapshot_build(struct dir dirs[DIR_MAX]);
/* Adds rows to a directory; they are copied. */
int dir_add_rows(struct dir *d, const struct row *rows, size_t n);
/* A row for each key, an attribute: shown, stored and told as @row says. */
int dir_add_keys(struct dir *d, const struct config_key *keys, size_t n, const struct row *row);

/* README of a directory, from its rows. */
int help_show(struct node *n, struct strbuf *sb);
void help_dir(const struct dir *d, struct strbuf *sb);

/* --- the whole ------------------------------------------------------------------------ */

struct fsapi {
	struct model *model;
	struct fuse_session *session;
	char *mountpoint; /* absolute */
	uint64_t mount_id;
	bool trace;
	bool permissions; /* the kernel enforces them */
	bool mounted;
	unsigned n_workers;
	uid_t uid;
	gid_t gid;

	struct dir dirs[DIR_MAX];
	struct row root_row;
	struct node *root;
	struct shard shards[NODE_SHARDS];

	pthread_mutex_t lock; /* fields of nodes that say so, own_ops, scratch files */
	struct own_op *own_ops;
	struct intent intents[64];
	size_t scratch_bytes; /* in all directories */
	uint64_t scratch_seq;

	pthread_mutex_t handles_lock;
	struct handle *handles; /* open: whatever the kernel has not released at the end */

	struct closings closings;
	struct crew *crew;
	struct signals *signals;
	struct notifier *notifier;
	int stop_fd; /* eventfd: readable when asked to stop */

	atomic_uint_fast64_t n_nodes, n_handles, n_calls, n_variants;
};

static inline const struct dir *node_dir(const struct node *n)
{
	return &n->fs->dirs[n->row->dir];
}

/* All but the mount (fs.c). */
int fs_new(struct fsapi **fs, struct model *model);
void fs_free(struct fsapi *fs);

/* A number that tells mounts apart, without asking the file system. 0 or -errno. */
int mount_identity(int fd, const char *path, uint64_t *id);

#endif
