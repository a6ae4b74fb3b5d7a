// SPDX-License-Identifier: ISC
/*
 * The thread `cables`: when a VMM has ended, or a guest has let go of a card, its cable is
 * pulled out of its network. A machine starts again only when those of its last run are out.
 */
#define LOG_MODULE "nic"
#include <errno.h>
#include <stdlib.h>

#include "nic_int.h"
#include "util/cleanup.h"
#include "util/log.h"

#define RELEASED_MS 60000

struct release {
	struct release *next;
	struct machine *m; /* a reference */
	struct vmm_has_nic *list;
};

struct nic_releases {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards what follows; comes after machine.lock */
	pthread_cond_t cond;
	struct release *first, **last;
	bool stop;
};

/* The next, or NULL: it is to end. */
static struct release *next(struct nic_releases *rs)
{
	struct release *r;

	LOCK_SCOPE(&rs->lock);
	while (!rs->first && !rs->stop)
		pthread_cond_wait(&rs->cond, &rs->lock);
	r = rs->first;
	if (r)
		rs->first = r->next;
	if (!rs->first)
		rs->last = &rs->first;
	return r;
}

static void free_release(struct release *r)
{
	struct vmm_has_nic *n;

	while ((n = r->list)) {
		r->list = n->next;
		free(n);
	}
	machine_put(r->m);
	free(r);
}

static void do_release(struct release *r)
{
	for (struct vmm_has_nic *n = r->list; n; n = n->next)
		nic_pull(r->m, &n->plug);
	pthread_mutex_lock(&r->m->lock);
	r->m->nics_going--;
	pthread_cond_broadcast(&r->m->cond);
	pthread_mutex_unlock(&r->m->lock);
	free_release(r);
}

static void *release_thread(void *arg)
{
	struct release *r;

	while ((r = next(arg)))
		do_release(r);
	return NULL;
}

int nic_releases_open(struct nic_releases **releases)
{
	struct nic_releases *rs = *releases = calloc(1, sizeof(*rs));

	if (!rs)
		return -ENOMEM;
	pthread_mutex_init(&rs->lock, NULL);
	pthread_cond_init(&rs->cond, NULL);
	rs->last = &rs->first;
	return 0;
}

int nic_releases_start(struct nic_releases *rs)
{
	int r = pthread_create(&rs->thread, NULL, release_thread, rs);

	if (r)
		return -r;
	pthread_setname_np(rs->thread, "cables");
	rs->started = true;
	return 0;
}

void nic_releases_close(struct nic_releases *rs)
{
	struct release *r;

	if (!rs)
		return;
	pthread_mutex_lock(&rs->lock);
	rs->stop = true;
	pthread_cond_signal(&rs->cond);
	pthread_mutex_unlock(&rs->lock);
	if (rs->started)
		pthread_join(rs->thread, NULL);
	while ((r = rs->first)) { /* there never were networks */
		rs->first = r->next;
		free_release(r);
	}
	pthread_cond_destroy(&rs->cond);
	pthread_mutex_destroy(&rs->lock);
	free(rs);
}

void nic_release(struct machine *m, struct vmm_has_nic *list)
{
	struct nic_releases *rs = m->model->nic_releases;
	struct release *r = list ? calloc(1, sizeof(*r)) : NULL;

	if (list && !r)
		log_error("out of memory: cables of machine %s stay in", m->name);
	if (!r)
		return;
	r->m = machine_get(m);
	r->list = list;
	m->nics_going++;
	LOCK_SCOPE(&rs->lock);
	*rs->last = r;
	rs->last = &r->next;
	pthread_cond_signal(&rs->cond);
}

int nics_await_released(struct machine *m, struct cancel *cancel, struct err *err)
{
	struct timespec deadline = deadline_in_ms(RELEASED_MS);
	int r = 0;

	machine_cancel_wakes(m, cancel);
	pthread_mutex_lock(&m->lock);
	while (r == 0 && m->nics_going)
		r = cancel_requested(cancel) ? -ECANCELED : machine_wait(m, &deadline);
	pthread_mutex_unlock(&m->lock);
	machine_cancel_wakes(NULL, cancel);
	if (r == -ECANCELED)
		return err_set(err, r, "ended before it had started");
	return r < 0 ? err_set(err, -EBUSY, "its network still has the cards of its last run") : 0;
}
