/* SPDX-License-Identifier: ISC */
#ifndef FV_FSAPI_H
#define FV_FSAPI_H
/*
 * The tree: shows a model as a FUSE file system. This is the folder's only
 * public header; src/main.c alone includes it.
 *
 * Life: fsapi_mount() → fsapi_run() → fsapi_close(), all on one thread.
 * fsapi_stop() may be called from any thread meanwhile. Close before
 * model_close(): commands under way still use the model until then.
 */
#include <stdbool.h>

#include "model.h"
#include "util/err.h"

struct fsapi;

struct fsapi_options {
	const char *mountpoint; /* an existing directory */
	const char *fuse_opts;	/* as after -o: "nonempty,ro,max_read=…"; NULL: none */
	bool trace;		/* one line on stderr for each operation */
	unsigned threads;	/* that serve requests; 0: as many as suit this host */
};

/*
 * Mounts the tree and registers the model's observer. Starts no thread: what
 * is asked meanwhile waits in the kernel for fsapi_run(), so a daemon
 * may fork between the two. A stale mount that a killed daemon left there
 * (ENOTCONN) is taken away first. -ENOTEMPTY for a directory that holds files
 * (unless "nonempty" is among the options), -ENOTDIR, -ENOENT, -EINVAL for an
 * unknown option, -EBUSY where a live filevisor is already mounted.
 */
int fsapi_mount(struct fsapi **fs, struct model *model, const struct fsapi_options *options,
		struct err *err);
/*
 * Serves requests until fsapi_stop() or until somebody unmounts the tree
 * (both 0), or until the kernel's connection fails (-errno). Ends the notifier
 * and every command still waiting before it returns.
 */
int fsapi_run(struct fsapi *fs, struct err *err);
/* Asks fsapi_run() to return. Any thread (not a signal handler); idempotent. */
void fsapi_stop(struct fsapi *fs);
/* Unmounts where still mounted (lazily if in use), stops being told by the model, frees all. */
void fsapi_close(struct fsapi *fs);

#endif
