// SPDX-License-Identifier: ISC
/*
 * What a server exports. Here nothing else goes on, so libnbd may wait; a thread ends the
 * process when nobody wants the answer any more.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/nbd/serve.h"
#include "util/cleanup.h"

struct list {
	struct nbd_export *exports; /* room for NBD_EXPORTS_MAX */
	uint32_t n;
};

static void *end_with_listener(void *arg)
{
	struct pollfd p = {.fd = *(int *)arg, .events = POLLRDHUP};

	while (poll(&p, 1, -1) < 0)
		;
	_exit(0);
}

static void watch_listener(int *fd)
{
	pthread_t thread;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, end_with_listener, fd) == 0)
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static bool fits(const char *name)
{
	size_t len = strlen(name);

	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return false;
	return len <= NBD_EXPORT_MAX;
}

static int take_name(void *arg, const char *name, const char *description)
{
	struct list *list = arg;

	(void)description;
	if (list->n < NBD_EXPORTS_MAX && fits(name))
		memcpy(list->exports[list->n++].name, name, strlen(name) + 1);
	return 0;
}

/* Size and flag of an export; false: it cannot be had. */
static bool ask(struct nbd_handle *nbd, struct nbd_export *export)
{
	int64_t bytes;

	if (nbd_set_export_name(nbd, export->name) < 0 || nbd_opt_info(nbd) < 0)
		return false;
	bytes = nbd_get_size(nbd);
	if (bytes < 0)
		return false;
	export->bytes = (uint64_t)bytes;
	export->readonly = nbd_is_read_only(nbd) == 1;
	return true;
}

static int collect(struct nbd_handle *nbd, const struct target *target, struct list *list,
		   struct err *err)
{
	_cleanup_free_ char *own = NULL;
	uint32_t n = 0;
	int r = conn_connect(nbd, target->uri, err);

	if (r < 0)
		return r;
	own = nbd_get_export_name(nbd);
	if (own && own[0]) {
		take_name(list, own, NULL);
		if (!list->n || !ask(nbd, &list->exports[0]))
			return err_set(err, -ENOENT, "the server has no export \"%s\"", own);
		return 0;
	}
	if (!nbd_aio_is_negotiating(nbd))
		return err_set(err, -EOPNOTSUPP, "the server cannot list what it exports");
	if (nbd_opt_list(nbd, (nbd_list_callback){.callback = take_name, .user_data = list}) < 0) {
		r = conn_error(err);
		return r == -ENOTSUP ? err_set(err, r, "the server does not list what it exports%s",
					       conn_hint(target))
				     : r;
	}
	for (uint32_t i = 0; i < list->n; i++)
		if (ask(nbd, &list->exports[i]))
			list->exports[n++] = list->exports[i];
	list->n = n;
	return 0;
}

static void send_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return;
		p += n < 0 ? 0 : n;
		len -= n < 0 ? 0 : (size_t)n;
	}
}

void list_exports(const struct target *target, int fd)
{
	struct nbd_hello hello = {.magic = NBD_HELLO_MAGIC};
	struct list list = {.exports = calloc(NBD_EXPORTS_MAX, sizeof(struct nbd_export))};
	struct err err = ERR_INIT;
	struct nbd_handle *nbd = conn_handle(&err);

	watch_listener(&fd);
	if (nbd && !list.exports)
		err_set(&err, -ENOMEM, "out of memory");
	else if (nbd)
		collect(nbd, target, &list, &err);
	hello.error = err.code;
	hello.n_exports = err.code ? 0 : list.n;
	memcpy(hello.text, err.text, sizeof(hello.text));
	send_all(fd, &hello, sizeof(hello));
	send_all(fd, list.exports, hello.n_exports * sizeof(struct nbd_export));
	if (nbd && nbd_aio_is_negotiating(nbd))
		nbd_opt_abort(nbd);
	nbd_close(nbd);
	free(list.exports);
}
