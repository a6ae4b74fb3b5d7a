// SPDX-License-Identifier: ISC
/* A network as such: references, state, access, error. */
#define LOG_MODULE "network"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/log.h"

static const char *const state_names[NETWORK_STATE_MAX] = {[NETWORK_STOPPED] = "stopped",
							   [NETWORK_STARTING] = "starting",
							   [NETWORK_RUNNING] = "running",
							   [NETWORK_FAILED] = "failed"};

const char *network_state_name(enum network_state state)
{
	return state_names[state];
}

struct network *network_new(struct model *model, const char *name, const char *id)
{
	struct network *network = calloc(1, sizeof(*network));
	struct timespec now = time_now();

	if (!network)
		return NULL;
	atomic_init(&network->refs, 1);
	network->model = model;
	network->dns_fd = network->watch = -1;
	pthread_mutex_init(&network->work, NULL);
	pthread_mutex_init(&network->lock, NULL);
	strcpy(network->name, name);
	strcpy(network->id, id);
	network->alive = true;
	network->values = network_values_new();
	for (size_t i = 0; i < NETWORK_ASPECT_MAX; i++)
		network->changed[i] = now;
	if (!network->values) {
		network_put(network);
		return NULL;
	}
	return network;
}

struct network *network_get(struct network *network)
{
	atomic_fetch_add(&network->refs, 1);
	return network;
}

void network_put(struct network *network)
{
	if (!network || atomic_fetch_sub(&network->refs, 1) != 1)
		return;
	for (size_t i = 0; i < network->n_modes; i++)
		free(network->modes[i].path);
	for (size_t i = 0; i < network->n_ports; i++)
		machine_put(network->ports[i].m);
	if (network->dns_fd >= 0)
		close(network->dns_fd);
	network_values_free(network->values);
	free(network->modes);
	free(network->forwards);
	free(network->held);
	free(network->ports);
	free(network->leases);
	free(network->trouble);
	free(network->error.text);
	pthread_mutex_destroy(&network->lock);
	pthread_mutex_destroy(&network->work);
	free(network);
}

/* --- looking ---------------------------------------------------------------------------------- */

void network_name(struct network *network, char name[NETWORK_NAME_MAX + 1])
{
	LOCK_SCOPE(&network->lock);
	strcpy(name, network->name);
}

uint64_t network_serial(const struct network *network)
{
	return network->serial;
}

bool network_alive(struct network *network)
{
	LOCK_SCOPE(&network->lock);
	return network->alive;
}

enum network_state network_state(struct network *network)
{
	LOCK_SCOPE(&network->lock);
	return network->state;
}

struct timespec network_changed(struct network *network, enum network_aspect aspect)
{
	LOCK_SCOPE(&network->lock);
	return network->changed[aspect < NETWORK_ASPECT_MAX ? aspect : NETWORK_STATE_OF];
}

struct network_values *network_values(struct network *network)
{
	LOCK_SCOPE(&network->lock);
	return network_values_copy(network->values);
}

void network_bridge_show(struct network *network, struct strbuf *sb)
{
	LOCK_SCOPE(&network->lock);
	strbuf_puts(sb, network->bridge);
}

/* --- changing --------------------------------------------------------------------------------- */

void network_touch(struct network *network, enum network_aspect aspect)
{
	network->changed[aspect] = time_now();
	tell_network_changed(network, aspect);
}

static void state_event(struct network *network, enum network_state state, const char *trouble)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "network-state");
	event_text(&sb, "network", network->name);
	event_text(&sb, "from", network_state_name(network->state));
	event_text(&sb, "to", network_state_name(state));
	if (trouble)
		event_text(&sb, "reason", trouble);
	model_event(network->model, &sb);
}

void network_set_state(struct network *network, enum network_state state, const char *trouble)
{
	bool same = trouble ? network->trouble && strcmp(trouble, network->trouble) == 0
			    : !network->trouble;

	if (!same) {
		free(network->trouble);
		network->trouble = trouble ? strdup(trouble) : NULL;
		network_touch(network, NETWORK_ERROR);
	}
	if (state == network->state)
		return;
	state_event(network, state, trouble);
	network->state = state;
	network_touch(network, NETWORK_STATE_OF);
	network_touch(network, NETWORK_COMMANDS);
}

void network_event(struct network *network, const char *kind, const char *old_name,
		   const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	char name[NETWORK_NAME_MAX + 1];

	network_name(network, name);
	event_begin(&sb, kind);
	event_text(&sb, "network", name);
	if (old_name)
		event_text(&sb, "old", old_name);
	if (caller)
		event_number(&sb, "uid", caller->uid);
	model_event(network->model, &sb);
}

void network_outcome(struct network *network, const char *what, const struct err *err)
{
	LOCK_SCOPE(&network->lock);
	if (err->code == 0 && !network->error.text)
		return;
	outcome_set(&network->error, what, err, false);
	network_touch(network, NETWORK_ERROR);
}

void network_error_set(struct network *network, const char *what, const struct err *err)
{
	network_outcome(network, what, err);
}

/* What is wrong with it goes before what a command said. */
void network_error_show(struct network *network, struct strbuf *sb)
{
	LOCK_SCOPE(&network->lock);
	if (network->trouble)
		strbuf_puts(sb, network->trouble);
	else
		outcome_show(&network->error, sb);
}

/* --- access ----------------------------------------------------------------------------------- */

void network_access_get(struct network *network, struct machine_access *access)
{
	LOCK_SCOPE(&network->lock);
	*access = network->access;
}

static int must_live(struct network *network, struct err *err)
{
	return network_alive(network) ? 0 : err_set(err, -ENOENT, "the network is gone");
}

int network_access_set(struct network *network, const struct machine_access *access,
		       struct err *err)
{
	LOCK_SCOPE(&network->model->networks->edit);
	int r = must_live(network, err);

	if (r == 0)
		r = network_store_access(network, access, network->modes, network->n_modes, err);
	if (r < 0)
		return r;
	LOCK_SCOPE(&network->lock);
	network->access = *access;
	network_touch(network, NETWORK_ACCESS);
	return 0;
}

bool network_file_mode_get(struct network *network, const char *path, mode_t *mode)
{
	LOCK_SCOPE(&network->lock);
	for (size_t i = 0; i < network->n_modes; i++)
		if (strcmp(network->modes[i].path, path) == 0) {
			*mode = network->modes[i].mode;
			return true;
		}
	return false;
}

int network_file_mode_set(struct network *network, const char *path, mode_t mode, struct err *err)
{
	struct access_file copy = {0}, old = {0};
	int r;

	if (!*path || strpbrk(path, " \n"))
		return err_set(err, -EINVAL, "no such file");
	LOCK_SCOPE(&network->model->networks->edit);
	r = must_live(network, err);
	if (r == 0) {
		r = access_modes_with(network->modes, network->n_modes, path, mode & 07777, &copy);
		if (r < 0)
			err_set(err, r, "too many files with modes of their own");
	}
	if (r == 0)
		r = network_store_access(network, &network->access, copy.modes, copy.n_modes, err);
	if (r < 0) {
		access_free(&copy);
		return r;
	}
	pthread_mutex_lock(&network->lock);
	old.modes = network->modes;
	old.n_modes = network->n_modes;
	network->modes = copy.modes;
	network->n_modes = copy.n_modes;
	network_touch(network, NETWORK_ACCESS);
	pthread_mutex_unlock(&network->lock);
	access_free(&old);
	return 0;
}
