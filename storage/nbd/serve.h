/* SPDX-License-Identifier: ISC */
#ifndef FV_NBD_SERVE_H
#define FV_NBD_SERVE_H
/* filevisor-nbd --attach and --list, once options and rights are settled. */
#include "storage/nbd/conn.h"

/* Says on @fd how it went; then serves until its other end is closed. */
void serve(const struct target *target, int fd);
/* Says on @fd what the server exports, and returns. */
void list_exports(const struct target *target, int fd);

#endif
