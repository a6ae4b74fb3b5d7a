// SPDX-License-Identifier: ISC
/*
 * A guest connects to a port of the host: the unix socket that `vsock_listen` names for it is
 * connected to, with the rights of the machine's owner, by a process of its own (opener.h), and
 * handed to the VMM. A few threads wait for these; of each guest but one at a time, so that one
 * whose socket lies on a dead mount holds up nobody but itself.
 */
#define LOG_MODULE "vsock"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "opener.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/size.h"
#include "vsock_int.h"

#define THREADS	     4
#define CONNECT_MS   5000
#define SUN_PATH_MAX 107
#define LISTEN_MAX   64 /* ports of one machine */

struct call {
	struct call *next;
	struct vmm *vmm; /* a reference */
	uint64_t id;
	char *path;
};

struct vsock_calls {
	pthread_mutex_t lock; /* guards what follows, and what of VMMs is said so; a leaf */
	pthread_cond_t cond;
	struct call *first, **last;
	pthread_t threads[THREADS];
	unsigned n_threads, n_idle;
	bool stop;
	struct cancel stopping;
};

/* --- the text ------------------------------------------------------------------------------- */

/* "PORT=PATH", its first @len bytes. */
static int parse_word(const char *word, size_t len, uint32_t *port, const char **path,
		      struct err *err)
{
	const char *equals = memchr(word, '=', len);
	char number[16] = "";
	uint64_t value;

	if (!equals || (size_t)(equals - word) >= sizeof(number))
		return err_set(err, -EINVAL, "'%.*s' is not PORT=PATH", (int)(len > 80 ? 80 : len),
			       word);
	memcpy(number, word, (size_t)(equals - word));
	if (uint_parse(number, 0, UINT32_MAX - 1, &value) < 0)
		return err_set(err, -EINVAL, "'%s' is no port: 0 to %u", number, UINT32_MAX - 1);
	*port = (uint32_t)value;
	*path = equals + 1;
	len -= (size_t)(*path - word);
	if (**path != '/' || len < 2)
		return err_set(err, -EINVAL, "port %u: '%.*s' is no absolute path", *port,
			       (int)(len > 80 ? 80 : len), *path);
	if (len > SUN_PATH_MAX)
		return err_set(err, -EINVAL, "port %u: a socket's path has at most %d bytes", *port,
			       SUN_PATH_MAX);
	return 0;
}

int vsock_refine_listen(const char *text, char **refined, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	uint32_t ports[LISTEN_MAX];
	unsigned n = 0;
	int r = 0;

	for (size_t len; r == 0 && *(text += strspn(text, " \t\n")); text += len) {
		uint32_t port = 0;
		const char *path;

		len = strcspn(text, " \t\n");
		r = parse_word(text, len, &port, &path, err);
		for (unsigned i = 0; r == 0 && i < n; i++)
			if (ports[i] == port)
				r = err_set(err, -EINVAL, "port %u is given twice", port);
		if (r == 0 && n == LISTEN_MAX)
			r = err_set(err, -ENOSPC, "more than %d ports", LISTEN_MAX);
		if (r < 0)
			break;
		ports[n++] = port;
		strbuf_printf(&sb, "%s%u=%.*s", sb.len ? " " : "", port,
			      (int)(len - (size_t)(path - text)), path);
	}
	if (r == 0)
		*refined = sb.len ? strbuf_steal(&sb) : strdup("");
	return r;
}

char *vsock_listen_find(const char *text, uint32_t port)
{
	struct err ignored = ERR_INIT;

	for (size_t len; *(text += strspn(text, " ")); text += len) {
		const char *path;
		uint32_t here;

		len = strcspn(text, " ");
		if (parse_word(text, len, &here, &path, &ignored) == 0 && here == port)
			return strndup(path, len - (size_t)(path - text));
	}
	return NULL;
}

/* --- answering ------------------------------------------------------------------------------ */

static void answer(struct vmm *vmm, uint64_t id, int fd)
{
	struct vmm_vsock_answer msg = {.id = id, .error = fd < 0 ? fd : 0};

	if (!vmm_post(vmm, VMM_VSOCK_ANSWER, &msg, sizeof(msg), fd < 0 ? NULL : &fd,
		      fd < 0 ? 0 : 1))
		log_debug("VMM %d takes no answer", vmm->pid);
}

static void free_call(struct call *call)
{
	vmm_put(call->vmm);
	free(call->path);
	free(call);
}

static void connect_call(struct call *call, struct cancel *cancel)
{
	_cleanup_rights_ struct rights rights = {0};
	struct opener_request rq = {.path = call->path, .cancel = cancel, .timeout_ms = CONNECT_MS};
	struct machine *m = call->vmm->m;
	_cleanup_close_ int fd = -1;
	struct err err = ERR_INIT;
	int r = machine_owner_rights(m, &rights);

	rq.rights = rights;
	if (r == 0)
		r = fd = opener_socket(m->model->opener, &rq, &err);
	if (r < 0)
		log_debug("vsock of machine %s: %s", m->id, err.text);
	answer(call->vmm, call->id, fd >= 0 ? fd : -ECONNREFUSED);
}

/* --- threads -------------------------------------------------------------------------------- */

/* Under the lock: the first of a guest of which none is under way, off the list. */
static struct call *take_call(struct vsock_calls *calls)
{
	for (struct call **at = &calls->first; *at; at = &(*at)->next) {
		struct call *call = *at;

		if (call->vmm->vsock->calling)
			continue;
		*at = call->next;
		if (!*at)
			calls->last = at;
		call->vmm->vsock->calling = true;
		return call;
	}
	return NULL;
}

static struct call *next_call(struct vsock_calls *calls)
{
	struct call *call = NULL;

	LOCK_SCOPE(&calls->lock);
	calls->n_idle++;
	while (!calls->stop && !(call = take_call(calls)))
		pthread_cond_wait(&calls->cond, &calls->lock);
	calls->n_idle--;
	return call;
}

static void *call_thread(void *arg)
{
	struct vsock_calls *calls = arg;
	struct call *call;

	pthread_setname_np(pthread_self(), "vsock");
	while ((call = next_call(calls))) {
		connect_call(call, &calls->stopping);
		pthread_mutex_lock(&calls->lock);
		call->vmm->vsock->calling = false;
		call->vmm->vsock->waiting--;
		pthread_cond_signal(&calls->cond); /* the next of this guest */
		pthread_mutex_unlock(&calls->lock);
		free_call(call);
	}
	return NULL;
}

int vsock_calls_open(struct vsock_calls **out)
{
	struct vsock_calls *calls = *out = calloc(1, sizeof(*calls));

	if (!calls)
		return -ENOMEM;
	pthread_mutex_init(&calls->lock, NULL);
	pthread_cond_init(&calls->cond, NULL);
	cancel_init(&calls->stopping);
	calls->last = &calls->first;
	return 0;
}

void vsock_calls_close(struct vsock_calls *calls)
{
	struct call *call;

	if (!calls)
		return;
	pthread_mutex_lock(&calls->lock);
	calls->stop = true;
	pthread_cond_broadcast(&calls->cond);
	pthread_mutex_unlock(&calls->lock);
	cancel_request(&calls->stopping);
	for (unsigned i = 0; i < calls->n_threads; i++)
		pthread_join(calls->threads[i], NULL);
	while ((call = calls->first)) {
		calls->first = call->next;
		free_call(call);
	}
	cancel_destroy(&calls->stopping);
	pthread_cond_destroy(&calls->cond);
	pthread_mutex_destroy(&calls->lock);
	free(calls);
}

/* False: too many wait, or nobody can be found to do it. */
static bool add_call(struct vsock_calls *calls, struct call *call)
{
	struct vmm_vsock_ports *v = call->vmm->vsock;

	LOCK_SCOPE(&calls->lock);
	if (calls->stop || v->waiting >= VSOCK_CALLS_WAITING)
		return false;
	if (!calls->n_idle && calls->n_threads < THREADS &&
	    pthread_create(&calls->threads[calls->n_threads], NULL, call_thread, calls) == 0)
		calls->n_threads++;
	if (!calls->n_threads)
		return false;
	v->waiting++;
	*calls->last = call;
	calls->last = &call->next;
	pthread_cond_signal(&calls->cond);
	return true;
}

/* The socket for that port of the host; NULL: none. */
static char *path_of(struct vmm *vmm, uint32_t port)
{
	LOCK_SCOPE(&vmm->m->lock);
	return vmm->m->vmm == vmm ? vsock_listen_find(vmm->m->def->values.vsock_listen, port)
				  : NULL;
}

void vmm_heard_vsock(struct vmm *vmm, const struct vmm_vsock_event *event)
{
	struct call *call = vmm->vsock ? calloc(1, sizeof(*call)) : NULL;
	bool taken = false;

	if (call) {
		call->vmm = vmm_get(vmm);
		call->id = event->id;
		call->path = path_of(vmm, event->port);
		taken = call->path && add_call(vmm->m->model->vsock_calls, call);
	}
	if (!taken)
		answer(vmm, event->id, -ECONNREFUSED);
	if (call && !taken)
		free_call(call);
}
