/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_HOST_NL_H
#define FV_NET_HOST_NL_H
/* One conversation with rtnetlink, by libmnl. Inside net/host_*.c. */
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include "net/host_link.h"

#define NL_ROOM 8192

struct nl_request {
	char room[NL_ROOM];
	struct nlmsghdr *hdr;
};

/* Begins one; the family's own header of @extra bytes, zeroed, is returned. */
void *nl_begin(struct nl_request *rq, uint16_t type, uint16_t flags, size_t extra);
/*
 * Sends it and waits for the acknowledgement, or, of a dump, calls @fn with each message once all
 * are there. A dump of what changed meanwhile is asked for again; -EINTR where it does so for ever.
 */
int nl_talk(struct nl_request *rq, mnl_cb_t fn, void *arg);
/* 0, or @code with words, which begin with @what. */
int nl_words(int code, struct err *err, const char *what, const char *name);

#endif
