/* SPDX-License-Identifier: ISC */
#ifndef FV_IMAGE_H
#define FV_IMAGE_H
/*
 * Disk images as a whole: chains of them opened, made, measured, copied, changed.
 * Everything here waits for storage; nothing is for a queue's own thread.
 *
 * An image's header names other files. Who opens those is the caller's choice: a
 * struct image_opener opens by path with whatever rights it has, and what it
 * refuses is not opened. A process that may open nothing is handed the chain
 * ready (struct image_chain), found by one that may. Formats are never guessed:
 * the caller names the top image's, each header names that of the one below, and
 * a backing file whose header does not name it is refused.
 */
#include <stdbool.h>
#include <stdint.h>

#include "storage/block.h"
#include "storage/qcow2.h"
#include "storage/qcow2_check.h"
#include "storage/qcow2_snapshot.h"
#include "util/cancel.h"

enum image_format { IMAGE_RAW, IMAGE_QCOW2 };

/* "raw", "qcow2"; NULL beyond. */
const char *image_format_name(enum image_format format);
/* 0, or -ENOTSUP with words. */
int image_format_parse(const char *name, enum image_format *format, struct err *err);

struct image_opener {
	/* An open descriptor (O_CLOEXEC) for @path, the caller's; or -errno with words. */
	int (*open)(void *arg, const char *path, bool write, struct err *err);
	void *arg;
};

/* Opens with the rights of the process, whatever is named. For tools and tests. */
extern const struct image_opener image_opener_plain;

/* One file of a chain, and the data file beside it. */
struct image_layer {
	enum image_format format;
	int fd;
	int data_fd; /* external data file of a qcow2 image; -1: none */
	char *path;  /* as it was opened; may be NULL */
};

#define IMAGE_DEPTH_MAX 64

/*
 * Each layer is over the next. Memory of an open chain: tables of level 1 (8 bytes for
 * each 512 MiB of disk with the usual clusters; never more than 32 MiB each), up to 1 MiB of
 * cached metadata for the top and 256 KiB for each below, as it is used; and a few clusters
 * while requests are slow. An image that is written also has its refcount table (8 MiB at
 * most), up to 32 bytes for each of its tables (so 64 KiB for 1 TiB, fully written), its
 * list of snapshots (64 MiB at most; 100 bytes each are usual) and
 * dirty bitmaps of others (32 MiB at most).
 */
struct image_chain {
	struct image_layer layers[IMAGE_DEPTH_MAX];
	unsigned n;
};

enum {
	IMAGE_READONLY = 1 << 0,
	IMAGE_DIRECT = 1 << 1,	   /* as BLOCK_OPEN_DIRECT */
	IMAGE_NO_FLUSH = 1 << 2,   /* as BLOCK_OPEN_NO_FLUSH */
	IMAGE_CHECK = 1 << 3,	   /* as QCOW2_OPEN_CHECK */
	IMAGE_NO_BACKING = 1 << 4, /* the top image alone: what it lacks reads as zeroes */
	IMAGE_ASYNC = 1 << 5,	   /* for queues that must not wait: makes worker threads */
};

/*
 * Follows the names from @path down and opens every file: the top for writing
 * unless IMAGE_READONLY, all others for reading. -ELOOP where a file comes twice or
 * the chain is too deep, -ENOTSUP for names of other kinds (nbd:, json:, …) and for
 * formats that are not named, and whatever the opener says.
 */
int image_chain_find(struct image_chain *chain, const char *path, enum image_format format,
		     unsigned flags, const struct image_opener *opener, struct err *err);
/* Closes the descriptors that were not handed on. */
void image_chain_close(struct image_chain *chain);
/*
 * Makes one node of a chain; takes its descriptors (they are -1 after), also on error.
 * @chain may come from elsewhere: the headers must agree that there is, or is not,
 * something below and beside each layer; the names in them are not looked at.
 */
int image_chain_open(struct block **block, struct image_chain *chain, unsigned flags,
		     struct err *err);
/*
 * The same over @below (NULL: none), an open node that the bottom layer has below it; without
 * layers it is @below itself. Takes @below, also on error. @workers: borrowed, outlive the node;
 * NULL: as flags say.
 */
int image_chain_open_over(struct block **block, struct image_chain *chain, struct block *below,
			  struct qcow2_workers *workers, unsigned flags, struct err *err);
/* Both in one. */
int image_open(struct block **block, const char *path, enum image_format format, unsigned flags,
	       const struct image_opener *opener, struct err *err);
/* An internal snapshot of a qcow2 image, for reading. */
int image_open_snapshot(struct block **block, const char *path, const char *snapshot,
			const struct image_opener *opener, struct err *err);
/* The path that @name in the header of @overlay means: caller frees. As image_chain_find(). */
int image_resolve(const char *overlay, const char *name, char **path, struct err *err);

/*
 * Locks an open image against others that write it (or, with @write, read it
 * while it changes): -EBUSY with words where it is in use. @share: knowingly
 * together. Where it is in use this tries for half a second: a process that was killed lets go a
 * moment after its end. The lock belongs to the open file description: it goes with a descriptor to
 * another process and ends with the last copy. QEMU and qemu-img honour it, and we theirs.
 */
int image_lock(int fd, bool write, bool share, struct err *err);
void image_unlock(int fd);
/*
 * Whoever holds the lock writes no more: of what image_lock() announced, that is taken back, so
 * that others may open the image for reading. Nothing where there is no lock. System call:
 * fcntl(F_OFD_SETLK).
 */
void image_lock_reader(int fd);
/* All files of a chain: the top as @write says, those below for reading. */
int image_chain_lock(const struct image_chain *chain, bool write, bool share, struct err *err);

/* How much of the disk is there before anybody writes. */
enum image_prealloc {
	IMAGE_PREALLOC_OFF,
	IMAGE_PREALLOC_METADATA, /* qcow2: every cluster has its place */
	IMAGE_PREALLOC_FALLOC,	 /* and the file system has reserved it */
	IMAGE_PREALLOC_FULL,	 /* and zeroes are written */
};

struct image_create {
	enum image_format format;
	uint64_t bytes; /* a multiple of 512 */
	enum image_prealloc prealloc;
	/* qcow2; 0 is the default of each */
	uint32_t version;	/* 2 or 3 (default) */
	uint32_t cluster_bytes; /* 512 to 2 MiB; default 64 KiB */
	uint32_t refcount_bits; /* 1 to 64; default 16 */
	bool extended_l2;
	bool zstd;
	bool lazy_refcounts;
	const char *backing; /* as it is to stand in the header; NULL: none */
	enum image_format backing_format;
	const char *data_file; /* as it is to stand in the header */
	int data_fd;	       /* its descriptor, borrowed; used where data_file is set */
	bool data_file_raw;
};

/*
 * Makes an image in an open, empty regular file (or over the contents of a block
 * device). Takes @fd. Synced when done. -EINVAL with words for what cannot be.
 */
int image_create(int fd, const struct image_create *params, struct err *err);

/* For long work: called now and then; progress is done of total, in bytes. */
struct image_job {
	struct cancel *cancel; /* NULL: cannot be cancelled; else -ECANCELED */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

struct image_copy {
	bool compress;	  /* the target is qcow2: write compressed clusters, by its type */
	bool whole_chain; /* else what the source's backing image has is left out */
	unsigned threads; /* 0: one for each processor */
};

/*
 * Copies the contents of @from to @to (at least as large, freshly made: what is not
 * written there reads as zeroes, or as what is below it). Flushed when done.
 */
int image_copy(struct block *to, struct block *from, const struct image_copy *params,
	       const struct image_job *job, struct err *err);

/*
 * Writes what the top image of a chain holds into the next one below it, which
 * becomes large enough and must be writable. The top image stays as it is.
 */
int image_commit(const char *path, const struct image_opener *opener, const struct image_job *job,
		 struct err *err);

/*
 * The same for open files, while others may read the chain. @chain: the image whose contents go
 * down, the one that takes them (opened for writing), and all that is below that, of which
 * @bottom is the last where it is no file (NULL: none). Takes both, also on error. No name is
 * looked at, no lock is taken.
 *
 * Whoever reads through both images, having opened them at whatever time, reads the same at
 * any moment, crashes included: nothing changes in the lower image but what the upper one hides,
 * it gets the upper one's size, and no cluster that it had in use gets another use. That is so
 * until @ready (NULL: nobody reads) has returned 0: it is called once all is on stable storage,
 * and sees to it that nobody knows the lower image as it was any more (VMM_DISK_REBASE). What was
 * overwritten is free then; should @ready fail, or the process end before, it is lost as space
 * until a check finds it.
 */
int image_commit_fds(struct image_chain *chain, struct block *bottom,
		     int (*ready)(void *arg, struct err *err), void *arg,
		     const struct image_job *job, struct err *err);

/*
 * Has a qcow2 image stand over another backing file (@backing NULL: none). Safe:
 * what would read differently is copied into the image first. @unsafe only
 * changes the names.
 */
int image_rebase(const char *path, const char *backing, enum image_format backing_format,
		 bool unsafe, const struct image_opener *opener, const struct image_job *job,
		 struct err *err);

#endif
