// SPDX-License-Identifier: ISC
/* A conversation with rtnetlink. See host_nl.h. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "net/host_nl.h"
#include "util/cleanup.h"

/* Larger than any message of a dump (MNL_SOCKET_BUFFER_SIZE may not be). */
#define ANSWER_MAX 65536
#define ALL_MAX	   (256u << 20)
#define TRIES	   100 /* to have a list of what does not change meanwhile */

void *nl_begin(struct nl_request *rq, uint16_t type, uint16_t flags, size_t extra)
{
	memset(rq->room, 0, sizeof(rq->room));
	rq->hdr = mnl_nlmsg_put_header(rq->room);
	rq->hdr->nlmsg_type = type;
	rq->hdr->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	if ((flags & NLM_F_DUMP) != NLM_F_DUMP) /* its bits mean others in other requests */
		rq->hdr->nlmsg_flags |= NLM_F_ACK;
	return mnl_nlmsg_put_extra_header(rq->hdr, extra);
}

/* All of the answer to @rq, a buffer that is the caller's. -EINTR: what is listed changed
 * meanwhile. */
static int receive(struct mnl_socket *nl, const struct nl_request *rq, char **answer, size_t *len)
{
	unsigned port = mnl_socket_get_portid(nl);
	int r = MNL_CB_OK;

	*answer = NULL;
	*len = 0;
	while (r > MNL_CB_STOP) {
		char *more = *len > ALL_MAX ? NULL : realloc(*answer, *len + ANSWER_MAX);
		ssize_t n;

		if (!more)
			return -ENOMEM;
		*answer = more;
		do
			n = mnl_socket_recvfrom(nl, more + *len, ANSWER_MAX);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		errno = 0;
		r = mnl_cb_run(more + *len, (size_t)n, rq->hdr->nlmsg_seq, port, NULL, NULL);
		*len += (size_t)n;
	}
	return r < 0 ? (errno ? -errno : -EIO) : 0;
}

static int ask(struct nl_request *rq, mnl_cb_t fn, void *arg)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	_cleanup_free_ char *answer = NULL;
	size_t len = 0;
	int r;

	if (!nl)
		return -errno;
	rq->hdr->nlmsg_seq = (uint32_t)time(NULL);
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(nl, rq->hdr, rq->hdr->nlmsg_len) < 0)
		r = -errno;
	else
		r = receive(nl, rq, &answer, &len);
	errno = 0;
	if (r == 0 &&
	    mnl_cb_run(answer, len, rq->hdr->nlmsg_seq, mnl_socket_get_portid(nl), fn, arg) < 0)
		r = errno ? -errno : -EIO;
	mnl_socket_close(nl);
	return r;
}

int nl_talk(struct nl_request *rq, mnl_cb_t fn, void *arg)
{
	int r = -EINTR;

	for (int i = 0; i < TRIES && r == -EINTR; i++)
		r = ask(rq, fn, arg);
	return r;
}

int nl_words(int code, struct err *err, const char *what, const char *name)
{
	if (code == -EOPNOTSUPP)
		return err_set(err, code, "%s %s: this kernel does not have that", what, name);
	return code < 0 ? err_set(err, code, "%s %s: %s", what, name, strerror(-code)) : 0;
}
