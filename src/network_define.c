// SPDX-License-Identifier: ISC
/* Networks come, go, change their name; their keys. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"

#define MTU_MIN	 68
#define MTU6_MIN 1280

/* --- what values may be ------------------------------------------------------------------------
 */

/*
 * Keys that apply to a network that runs; the others wait until it is stopped. How macvtaps hear
 * of each other is settled when they are made.
 */
static bool is_live(struct network *network, const struct config_key *key)
{
	static const char *const names[] = {"autostart", "host", "guests", "filter"};
	bool direct;

	pthread_mutex_lock(&network->lock);
	direct = network->direct;
	pthread_mutex_unlock(&network->lock);
	for (size_t i = 0; i < (direct ? 2 : nitems(names)); i++)
		if (strcmp(key->name, names[i]) == 0)
			return true;
	return false;
}

static int may_be(const struct network_values *values, const struct caller *caller, struct err *err)
{
	if (values->mode != MODE_USER && geteuid() != 0)
		return err_set(err, -EPERM, "without root's rights there is mode user only");
	if (values->mode != MODE_USER && caller->uid != 0)
		return err_set(err, -EPERM,
			       "only root may have a network of another mode than user");
	if (values->vlan && values->mode != MODE_BRIDGE)
		return err_set(err, -EINVAL,
			       "a vlan is of mode bridge: a network of another mode is by itself");
	if (values->mtu && values->mtu < MTU_MIN)
		return err_set(err, -ERANGE, "an mtu is at least %d", MTU_MIN);
	if (values->mtu && values->mtu < MTU6_MIN && *values->subnet6)
		return err_set(err, -ERANGE, "with IPv6 an mtu is at least %d", MTU6_MIN);
	if ((values->mode == MODE_NAT || values->mode == MODE_ROUTE) && !*values->subnet &&
	    !*values->subnet6)
		return err_set(err, -EINVAL, "a network that is routed has a subnet");
	return 0;
}

static int complete_one(struct network *network, char **text, const char *before, int family,
			struct err *err)
{
	struct networks *networks = network->model->networks;
	char *chosen = NULL;
	struct subnet s;
	int index, r;

	if (strcmp(*text, "auto") == 0) {
		r = subnet_choose(networks, network, family, &chosen, err);
		if (r == 0) {
			free(*text);
			*text = chosen;
		}
		return r;
	}
	r = subnet_parse(*text, family, &s, err);
	if (r < 0 || (before && strcmp(before, *text) == 0))
		return r;
	pthread_mutex_lock(&network->lock);
	index = network->bridge_index;
	pthread_mutex_unlock(&network->lock);
	return subnet_must_be_free(networks, network, &s, index, err);
}

/* Finds subnets where they are to be found; @old: values that were there before. */
static int complete(struct network *network, struct network_values *values,
		    const struct network_values *old, struct err *err)
{
	bool was = old && network_has_bridge(old);
	int r;

	if (!network_has_bridge(values))
		return 0;
	r = complete_one(network, &values->subnet, was ? old->subnet : NULL, AF_INET, err);
	if (r < 0)
		return err_prefix(err, "subnet");
	r = complete_one(network, &values->subnet6, was ? old->subnet6 : NULL, AF_INET6, err);
	return r < 0 ? err_prefix(err, "subnet6") : 0;
}

/* --- come ---------------------------------------------------------------------------------- */

static int name_check(const char *name, struct err *err)
{
	if (machine_name_check(name, NULL) < 0)
		return err_set(err, -EINVAL,
			       "'%.80s' is no name for a network: a letter or digit, then up to 62 "
			       "letters, digits, '.', '_' or '-'",
			       name);
	return 0;
}

static int define(struct model *model, const char *name, mode_t mode, const struct caller *caller,
		  struct network **out, struct err *err)
{
	_cleanup_network_ struct network *network = NULL;
	struct networks *networks = model->networks;
	char id[ID_TEXT];
	int r;

	LOCK_SCOPE(&networks->edit);
	r = networks_may_add(networks, name, err);
	if (r < 0)
		return r;
	model_make_id(id);
	network = network_new(model, name, id);
	if (!network)
		return err_set(err, -ENOMEM, "out of memory");
	network->access = (struct machine_access){caller->uid, caller->gid, mode & 07777};
	if (geteuid() != 0 || caller->uid != 0)
		network->values->mode = MODE_USER;
	r = complete(network, network->values, NULL, err);
	if (r == 0)
		r = network_store_define(network, err);
	if (r < 0)
		return r;
	r = networks_insert(networks, network);
	if (r < 0) {
		network_store_undefine(network, NULL);
		return err_set(err, r, "out of memory");
	}
	if (out)
		*out = network_get(network);
	network_event(network, "network-defined", NULL, caller);
	tell_network(network, NETWORK_NEWS_ADDED, NULL);
	return 0;
}

int model_network_define(struct model *model, const char *name, mode_t mode,
			 const struct caller *caller, struct network **network, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = name_check(name, e);

	if (r == 0)
		r = define(model, name, mode, caller, network, e);
	e->code = r;
	if (r < 0)
		model_error_set(model, "mkdir", e);
	return r;
}

/* --- go, and change its name ------------------------------------------------------------------ */

int model_network_undefine(struct model *model, struct network *network,
			   const struct caller *caller, struct err *err)
{
	struct subject subject = {.kind = SUBJECT_NETWORK, .model = model, .network = network};
	int r;

	pthread_mutex_lock(&model->networks->edit);
	pthread_mutex_lock(&network->work);
	r = network_alive(network) ? network_stop(network, false, err)
				   : err_set(err, -ENOENT, "the network is gone");
	if (r == 0)
		r = network_store_undefine(network, err);
	if (r == 0) {
		LOCK_SCOPE(&network->lock);
		network->alive = false;
	}
	pthread_mutex_unlock(&network->work);
	pthread_mutex_unlock(&model->networks->edit);
	if (r < 0)
		return r;
	network_get(network);
	networks_remove(model->networks, network);
	network_event(network, "network-undefined", NULL, caller);
	tell_network(network, NETWORK_NEWS_REMOVED, NULL);
	jobs_drop(model->jobs, &subject);
	network_put(network);
	return 0;
}

static int must_be_stopped(struct network *network, struct err *err)
{
	LOCK_SCOPE(&network->lock);
	if (!network->alive)
		return err_set(err, -ENOENT, "the network is gone");
	if (network->state == NETWORK_RUNNING || network->state == NETWORK_STARTING ||
	    network->n_ports || *network->bridge)
		return err_set(err, -EBUSY, "the network is %s: stop it first",
			       network_state_name(network->state));
	return 0;
}

/* Cards name their network: those that named this one are connected to none, or to another. */
int model_network_rename(struct model *model, struct network *network, const char *name,
			 const struct caller *caller, struct err *err)
{
	char old_name[NETWORK_NAME_MAX + 1];
	int r = name_check(name, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&model->networks->edit);
	pthread_mutex_lock(&network->work);
	network_name(network, old_name);
	r = strcmp(old_name, name) == 0 ? 1 : must_be_stopped(network, err);
	if (r == 0)
		r = networks_may_add(model->networks, name, err);
	if (r == 0)
		r = network_store_rename(network, name, err);
	if (r == 0)
		networks_rename(model->networks, network, name);
	pthread_mutex_unlock(&network->work);
	pthread_mutex_unlock(&model->networks->edit);
	if (r)
		return r < 0 ? r : 0;
	network_event(network, "network-renamed", old_name, caller);
	tell_network(network, NETWORK_NEWS_RENAMED, old_name);
	return 0;
}

/* --- keys ------------------------------------------------------------------------------------- */

int network_key_show(struct network *network, const struct config_key *key, struct strbuf *sb)
{
	LOCK_SCOPE(&network->lock);
	value_show(network->values, key, sb);
	return sb->failed ? -ENOMEM : 0;
}

int network_config_show(struct network *network, struct strbuf *sb)
{
	LOCK_SCOPE(&network->lock);
	network_values_format(network->values, sb);
	return sb->failed ? -ENOMEM : 0;
}

static int may_set(struct network *network, const struct network_values *old,
		   const struct caller *caller, struct err *err)
{
	struct machine_access access;

	network_access_get(network, &access);
	if (caller->uid == 0 || caller->uid == geteuid())
		return 0;
	if (caller->uid != access.uid || old->mode != MODE_USER)
		return err_set(err, -EPERM, "only %s sets this",
			       old->mode == MODE_USER ? "the network's owner" : "root");
	return 0;
}

/* What differs may, of a network that runs, or it is stopped. */
static int may_change(struct network *network, const struct network_values *old,
		      const struct network_values *values, struct err *err)
{
	for (size_t i = 0; i < n_network_keys; i++)
		if (!is_live(network, &network_keys[i]) &&
		    !value_equal(old, values, &network_keys[i])) {
			int r = must_be_stopped(network, err);

			return r < 0 ? err_prefix(err, "%s", network_keys[i].name) : 0;
		}
	return 0;
}

static void swap_values(struct network *network, struct network_values **values)
{
	struct network_values *old;

	LOCK_SCOPE(&network->lock);
	old = network->values;
	network->values = *values;
	*values = old;
	network_touch(network, NETWORK_DEFINITION);
}

/* Under edit and work. Stores @values, which it takes; the old ones are in their place then. */
static int commit(struct network *network, struct network_values **values,
		  const struct caller *caller, struct err *err)
{
	_cleanup_values_ struct network_values *old = network_values(network);
	int r;

	if (!old)
		return err_set(err, -ENOMEM, "out of memory");
	r = network_alive(network) ? may_set(network, old, caller, err)
				   : err_set(err, -ENOENT, "the network is gone");
	if (r == 0)
		r = may_be(*values, caller, err);
	if (r == 0)
		r = complete(network, *values, old, err);
	if (r == 0)
		r = may_change(network, old, *values, err);
	if (r == 0)
		r = network_store_config(network, *values, err);
	if (r == 0)
		swap_values(network, values);
	return r;
}

/* What of it applies to a network that runs. */
static int apply(struct network *network, const struct network_values *old,
		 const struct caller *caller, struct err *err)
{
	_cleanup_values_ struct network_values *now = network_values(network);
	struct host_link tap;
	int r = 0;

	if (!now)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&network->lock);
	if (now->mode == MODE_BRIDGE && *network->bridge && !network->direct)
		network->ruled = network_strict(now);
	pthread_mutex_unlock(&network->lock);
	for (size_t i = 0; r == 0 && now->guests_separate != old->guests_separate; i++) {
		char name[IFNAMSIZ];

		pthread_mutex_lock(&network->lock);
		if (i < network->n_ports)
			strcpy(name, network->ports[i].tap);
		else
			*name = '\0';
		pthread_mutex_unlock(&network->lock);
		if (!*name)
			break;
		if (host_link_find(name, 0, &tap) == 0)
			r = host_port_isolate(tap.index, now->guests_separate, err);
	}
	return r < 0 ? r : rules_apply(network->model->networks, caller->cancel, err);
}

static int change(struct network *network, struct network_values **values,
		  const struct caller *caller, struct err *err)
{
	int r;

	pthread_mutex_lock(&network->model->networks->edit);
	pthread_mutex_lock(&network->work);
	r = commit(network, values, caller, err);
	pthread_mutex_unlock(&network->model->networks->edit);
	if (r == 0)
		r = apply(network, *values, caller, err);
	pthread_mutex_unlock(&network->work);
	return r;
}

int network_key_store(struct network *network, const struct config_key *key, const char *text,
		      const struct caller *caller, struct err *err)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = values ? value_parse(values, key, text, e) : err_set(e, -ENOMEM, "out of memory");

	if (r == 0)
		r = change(network, &values, caller, e);
	e->code = r;
	network_outcome(network, key->name, e);
	return r;
}

int network_config_store(struct network *network, const char *text, size_t len,
			 const struct caller *caller, struct err *err)
{
	_cleanup_values_ struct network_values *values = NULL;
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = network_values_parse(text, len, &values, e);

	if (r == 0)
		r = change(network, &values, caller, e);
	e->code = r;
	network_outcome(network, "config", e);
	return r;
}
