// SPDX-License-Identifier: ISC
/* All networks: a few, in an array by serial. */
#define LOG_MODULE "network"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/log.h"

/* --- the list; under the lock ----------------------------------------------------------------- */

static struct network *find(struct networks *networks, const char *name)
{
	for (size_t i = 0; i < networks->n; i++)
		if (strcmp(networks->list[i]->name, name) == 0)
			return networks->list[i];
	return NULL;
}

int networks_may_add(struct networks *networks, const char *name, struct err *err)
{
	LOCK_SCOPE(&networks->lock);
	if (find(networks, name))
		return err_set(err, -EEXIST, "there is a network %s already", name);
	if (networks->n >= NETWORKS_MAX)
		return err_set(err, -ENOSPC, "there are %d networks already", NETWORKS_MAX);
	return 0;
}

int networks_insert(struct networks *networks, struct network *network)
{
	struct network **more;

	LOCK_SCOPE(&networks->lock);
	more = realloc(networks->list, (networks->n + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	networks->list = more;
	network->serial = model_next_serial(networks->model);
	networks->list[networks->n++] = network_get(network);
	networks->changed = time_now();
	return 0;
}

void networks_remove(struct networks *networks, struct network *network)
{
	pthread_mutex_lock(&networks->lock);
	for (size_t i = 0; i < networks->n; i++)
		if (networks->list[i] == network) {
			memmove(&networks->list[i], &networks->list[i + 1],
				(networks->n - i - 1) * sizeof(*networks->list));
			networks->n--;
			break;
		}
	networks->changed = time_now();
	pthread_mutex_unlock(&networks->lock);
	network_put(network);
}

void networks_rename(struct networks *networks, struct network *network, const char *name)
{
	LOCK_SCOPE(&networks->lock);
	pthread_mutex_lock(&network->lock);
	strcpy(network->name, name);
	pthread_mutex_unlock(&network->lock);
	networks->changed = time_now();
}

/* --- opening and closing -----------------------------------------------------------------------
 */

/* Two daemons of one host have tables of their own: each is named after its state. */
static void name_table(struct networks *networks)
{
	_cleanup_free_ char *path = realpath(networks->model->state_dir, NULL);
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (const char *p = path ? path : networks->model->state_dir; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	snprintf(networks->table, sizeof(networks->table), "filevisor_%08x", hash);
}

int networks_open(struct networks **out, struct model *model, struct err *err)
{
	struct networks *networks = calloc(1, sizeof(*networks));
	int r;

	if (!networks)
		return err_set(err, -ENOMEM, "out of memory");
	networks->model = model;
	networks->dir = networks->run_dir = -1;
	networks->changed = time_now();
	networks->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	networks->notes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	pthread_mutex_init(&networks->edit, NULL);
	pthread_mutex_init(&networks->rules, NULL);
	pthread_mutex_init(&networks->lock, NULL);
	name_table(networks);
	__atomic_store_n(out, networks, __ATOMIC_RELEASE); /* VMMs are heard by now: nic_news.c */
	if (networks->wake < 0 || networks->notes < 0)
		return err_set(err, -errno, "cannot watch networks: %m");
	r = networks_store_open(networks, err);
	if (r == 0)
		r = networks_store_load(networks, err);
	if (r < 0)
		return r;
	networks_find(networks);
	r = networks_watch_start(networks);
	return r < 0 ? err_set(err, r, "cannot watch networks: %s", strerror(-r)) : 0;
}

void networks_autostart(struct networks *networks)
{
	uint64_t cursor = 0;
	struct network *next;

	while ((next = model_network_next(networks->model, &cursor))) {
		_cleanup_network_ struct network *network = next;
		struct err err = ERR_INIT;
		bool wanted;

		pthread_mutex_lock(&network->lock);
		wanted = network->alive && !network->damaged && network->values->autostart;
		pthread_mutex_unlock(&network->lock);
		if (!wanted)
			continue;
		pthread_mutex_lock(&network->work);
		if (network_start(network, &networks->model->stopping, &err) < 0)
			log_error("network %s: %s", network->name, err.text);
		pthread_mutex_unlock(&network->work);
	}
}

/* Those without machines end with the daemon. */
static void stop_idle(struct networks *networks)
{
	for (size_t i = 0; i < networks->n; i++) {
		struct network *network = networks->list[i];
		struct err err = ERR_INIT;

		LOCK_SCOPE(&network->work);
		if (network->n_ports == 0 && network_stop(network, false, &err) < 0)
			log_warn("network %s: %s", network->name, err.text);
	}
}

void networks_close(struct networks *networks)
{
	if (!networks)
		return;
	networks_watch_stop(networks);
	stop_idle(networks);
	for (size_t i = 0; i < networks->n; i++)
		network_put(networks->list[i]);
	if (networks->dir >= 0)
		close(networks->dir);
	if (networks->run_dir >= 0)
		close(networks->run_dir);
	if (networks->wake >= 0)
		close(networks->wake);
	if (networks->notes >= 0)
		close(networks->notes);
	pthread_mutex_destroy(&networks->lock);
	pthread_mutex_destroy(&networks->rules);
	pthread_mutex_destroy(&networks->edit);
	free(networks->applied);
	free(networks->list);
	free(networks);
}

/* --- network.h ----------------------------------------------------------------------------------
 */

struct network *model_network_get(struct model *model, const char *name)
{
	struct network *network;

	LOCK_SCOPE(&model->networks->lock);
	network = find(model->networks, name);
	return network ? network_get(network) : NULL;
}

struct network *model_network_next(struct model *model, uint64_t *cursor)
{
	struct networks *networks = model->networks;

	LOCK_SCOPE(&networks->lock);
	for (size_t i = 0; i < networks->n; i++)
		if (networks->list[i]->serial > *cursor) {
			*cursor = networks->list[i]->serial;
			return network_get(networks->list[i]);
		}
	return NULL;
}

size_t model_network_count(struct model *model)
{
	LOCK_SCOPE(&model->networks->lock);
	return model->networks->n;
}

struct timespec model_networks_changed(struct model *model)
{
	LOCK_SCOPE(&model->networks->lock);
	return model->networks->changed;
}
