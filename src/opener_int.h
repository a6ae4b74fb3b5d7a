/* SPDX-License-Identifier: ISC */
#ifndef FV_OPENER_INT_H
#define FV_OPENER_INT_H
/*
 * Inside of opener.h. Between the daemon (opener.c) and the process that opens (opener_child.c):
 * packets over a socket pair for each request. The daemon sends struct open_ask, groups, the path
 * and the backing names; the child answers with struct open_answer: one for each layer, with its
 * descriptors, and one at the end.
 */
#include "opener.h"

#define OPEN_PATH_MAX	 4096
#define OPEN_BACKING_MAX 16385
#define OPEN_GROUPS_PART 8192 /* groups in one packet */

enum open_what { OPEN_FILE, OPEN_DISK, OPEN_PROBE, OPEN_SOCKET };

struct open_ask {
	enum open_what what;
	int flags;
	bool block;
	bool format_known;	 /* PROBE: disk.format is it */
	struct opener_disk disk; /* ->backing comes apart */
	uid_t uid;
	gid_t gid;
	size_t n_groups;
	size_t path_len, backing_len;
};

struct open_answer {
	bool end;      /* the last one: @code counts, and the words in @text */
	bool written;  /* a layer opened to be written */
	bool has_data; /* a second descriptor: the layer's data file */
	bool no_fds;   /* a layer of which only the ids are told */
	enum image_format format;
	int code;
	uint64_t bytes;
	struct file_id id, data_id;
	char text[OPEN_PATH_MAX]; /* the layer's path; of the end: words */
};

/* --- opener_here.c: by the daemon itself, where that surely waits for nobody ------------------ */

/* Devices of file systems that are this host's own. */
struct opener_known {
	dev_t devices[4];
	unsigned n;
};

/* That on which @path is, if it is one. */
void opener_know(struct opener_known *known, const char *path);
/* These do as opener_file() and so on do, of regular files; -EAGAIN, without words: ask the
 * process. */
int opener_here(const struct opener_known *known, const struct opener_request *rq, int flags);
int opener_here_probe(const struct opener_known *known, const struct opener_request *rq,
		      const struct probe_ask *ask, struct probed_disk *out);
/* -EBUSY as opener_disk(), too. */
int opener_here_disk(const struct opener_known *known, const struct opener_request *rq,
		     const struct opener_disk *disk, struct opened_disk *out, struct err *err);

/* --- opener_child.c ---------------------------------------------------------------------------
 */

/* Serves the request that comes over the socket, then ends the process. */
_Noreturn void opener_child(int sock);

#endif
