/* SPDX-License-Identifier: ISC */
#ifndef FV_NBD_H
#define FV_NBD_H
/*
 * Network disks, as the daemon reaches them: through a process filevisor-nbd for each,
 * which runs with the rights of whom it works for and speaks to the server by libnbd
 * (nbd://, nbds://, nbd+unix://, nbds+unix://). A server that hangs holds up nobody but who waits
 * for it, and can be cancelled.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cancel.h"
#include "util/err.h"
#include "util/rights.h"

#define NBD_EXPORT_MAX 255 /* bytes of a name that we take */
#define NBD_URI_MAX    1024

struct nbd_export {
	char name[NBD_EXPORT_MAX + 1];
	uint64_t bytes;
	bool readonly;
};

/* 0, or -EINVAL with words: whether @uri is one that we take. Opens nothing. */
int nbd_uri_check(const char *uri, struct err *err);
/*
 * The server's exports, in its order; caller frees. Where @uri names an export itself, that
 * one alone. Left out: those whose name is longer than we take or has control characters, and
 * those that the server lists and will not open. -ECONNREFUSED, -ETIMEDOUT, -ECANCELED, …
 * with words. @cancel may be NULL.
 */
int nbd_list(const char *program, const char *uri, const struct rights *rights,
	     struct cancel *cancel, struct nbd_export **exports, size_t *n, struct err *err);

struct nbd_link {
	int fd; /* for block_nbd_open(), here or in another process. The caller's */
	uint64_t bytes;
	uint32_t flags; /* NBD's transmission flags, and more in the upper half: hand them on */
};

/*
 * Connects to an export (of @uri's own name if @export is NULL). The process ends when the
 * last copy of the descriptor is closed, or once it has flushed what it wrote then; it
 * reconnects by itself whenever the server comes back. @program: path of filevisor-nbd.
 * -ENOENT: no such export; -EROFS: to be written, and the server does not let us; otherwise
 * as nbd_list().
 */
int nbd_attach(const char *program, const char *uri, const char *export,
	       const struct rights *rights, bool readonly, struct cancel *cancel,
	       struct nbd_link *link, struct err *err);

#endif
