/* SPDX-License-Identifier: ISC */
#ifndef FV_OPENER_H
#define FV_OPENER_H
/*
 * Files that users name, opened for them with their rights, in processes of their own.
 * What they name may lie on a network mount that is dead, or on a FUSE mount whose owner
 * never answers: a thread that waits for such an open(2) cannot be interrupted, and
 * not even a daemon that was killed ends before it returns. So the daemon forks, when it starts
 * and has no other threads yet, a process that does nothing but fork again for each
 * request; that child opens, reads headers, locks, and sends the descriptors back. Who
 * waits for it may be cancelled; the child is then left to itself.
 *
 * (Closing a descriptor may wait for such a mount, too; it is done by who asked for it, who holds
 * no lock then.)
 */
#include "storage/image.h"
#include "util/rights.h"

struct opener;

/* Call while the process has one thread. -errno. */
int opener_start(struct opener **opener);
/* NULL is fine. Requests under way fail. */
void opener_stop(struct opener *opener);

/*
 * The file system on which @path is, if it is on a disk of this host or in its memory, holds
 * nobody up: raw images and other files there are opened without a process. Before others use
 * @opener.
 */
void opener_trust(struct opener *opener, const char *path);

/* What is asked of each file. */
struct opener_request {
	struct rights rights; /* borrowed, as the rest */
	const char *path;
	struct cancel *cancel; /* NULL: cannot be cancelled */
	unsigned timeout_ms;   /* -ETIMEDOUT after; 0: never */
};

/*
 * As rights_open(): a descriptor or -errno (also -ECANCELED; -EBUSY for too many that hang),
 * with words that begin with the path.
 */
int opener_file(struct opener *opener, const struct opener_request *rq, int flags, bool block,
		struct err *err);

/* A stream socket that is connected to the unix socket at the path: a descriptor, or -errno, as
 * above; without waiting for who listens there. */
int opener_socket(struct opener *opener, const struct opener_request *rq, struct err *err);

/* Which file it is, under whatever name. A block device: its number and 0. */
struct file_id {
	dev_t dev;
	ino_t ino;
};

struct opener_disk {
	enum image_format format;
	bool readonly;
	bool lock; /* as image_chain_lock(); -EBUSY */
	bool share;
	/* Paths besides those in the top image's own directory that it may be over; one blank
	 * between. */
	const char *backing;
};

/* What was opened. The descriptors are the caller's: image_chain_close(). */
struct opened_disk {
	struct image_chain chain;
	struct file_id ids[2 * IMAGE_DEPTH_MAX]; /* of the layers, and of their data files */
	unsigned n_ids, n_written;		 /* the first of them are those to be written */
	uint64_t bytes;				 /* size of the disk */
};

/*
 * An image and all that is below it. A name in a header is followed only to regular files in
 * the directory of the top image (or below that, without symbolic links), and to what
 * @disk->backing names: an image never makes us open what its user did not mean. -EACCES
 * with words for others. On -EBUSY, out->ids still tells which files it is about.
 */
int opener_disk(struct opener *opener, const struct opener_request *rq,
		const struct opener_disk *disk, struct opened_disk *out, struct err *err);

struct probe_ask {
	bool write;	   /* whether he may write, too */
	bool format_known; /* then @format is it, whatever the bytes look like */
	enum image_format format;
	unsigned timeout_ms; /* as above */
};

struct probed_disk {
	enum image_format format; /* as the first bytes look, or as it is known */
	uint64_t bytes;		  /* of the disk that it then is; 0 where its header is bad */
};
/* Opens, looks, closes. */
int opener_probe(struct opener *opener, const struct opener_request *rq,
		 const struct probe_ask *ask, struct probed_disk *out, struct err *err);

#endif
