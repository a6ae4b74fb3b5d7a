// SPDX-License-Identifier: ISC
/*
 * Images that change their place in a chain while they are read: the top one that goes below
 * another and is never written again, and the one whose backing is exchanged.
 *
 * Who may still know what was taken away is found by the generations in which requests
 * count themselves (qcow2_int.h): twice a generation is begun once the one before the present one
 * is over, and then every request that was there at first has ended. Nobody is kept out
 * meanwhile, and no lock is held, so nothing that waits for a request of its own can be in the way.
 */
#include <errno.h>

#include "storage/qcow2_bitmap.h"

/* Until all requests that are under way now have ended. */
static void wait_for_requests(struct qcow2 *q)
{
	LOCK_SCOPE(&q->lock);
	for (unsigned i = 0; i < 2; i++) {
		while (q->in_flight[!q->generation])
			pthread_cond_wait(&q->idle, &q->lock);
		q->generation = !q->generation;
	}
}

struct block *qcow2_swap_backing(struct qcow2 *q, struct block *backing)
{
	struct block *old;

	pthread_mutex_lock(&q->meta);
	pthread_mutex_lock(&q->lock);
	old = q->backing;
	__atomic_store_n(&q->backing, backing, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_unlock(&q->meta);
	wait_for_requests(q);
	return old;
}

int qcow2_freeze(struct qcow2 *q)
{
	int r;

	pthread_mutex_lock(&q->meta);
	r = q->readonly ? 0 : q->broken ? -EIO : qcow2_flush(q);
	pthread_mutex_unlock(&q->meta);
	if (r < 0 || q->readonly)
		return r;
	/* From here on nobody knows a cluster that was freed: all can be counted down. */
	wait_for_requests(q);
	LOCK_SCOPE(&q->meta);
	r = q->broken ? -EIO : qcow2_write_back(q);
	if (r == 0)
		q->readonly = true;
	return r;
}

void qcow2_abandon(struct qcow2 *q)
{
	LOCK_SCOPE(&q->meta);
	q->readonly = true;
}

bool qcow2_is_empty(struct qcow2 *q)
{
	LOCK_SCOPE(&q->meta);
	for (uint32_t i = 0; i < q->l1_entries; i++)
		if (q->l1[i])
			return false;
	return true;
}
