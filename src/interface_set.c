// SPDX-License-Identifier: ISC
/*
 * Settings of an interface. Each is one conversation with the kernel, which refuses what cannot
 * be; before it, what there was is noted if changes are tried, after it all are looked at, so that
 * who has written reads what he wrote.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "interfaces_int.h"
#include "nic.h"
#include "util/cleanup.h"
#include "util/size.h"

#define MTU_MIN 68 /* RFC 791 */
#define MTU_MAX 65535

/* --- who may, and what -------------------------------------------------------------------------
 */

int interfaces_may(const struct caller *caller, struct err *err)
{
	if (caller->uid != 0 && caller->uid != geteuid())
		return err_set(err, -EPERM, "only root changes interfaces of the host");
	return 0;
}

static bool of_network(const struct host_link *link)
{
	return strncmp(link->alias, NETWORKS_ALIAS, strlen(NETWORKS_ALIAS)) == 0;
}

static int refuse_network(const struct host_link *link, struct err *err)
{
	return err_set(err, -EPERM, "%s belongs to a network of filevisor: see networks/",
		       link->name);
}

int interface_may_change(struct interface *i, const struct host_link *link, struct err *err)
{
	bool managed;

	if (interfaces_made(i->all, link))
		return 0;
	if (of_network(link))
		return refuse_network(link, err);
	pthread_mutex_lock(&i->all->lock);
	managed = i->managed;
	pthread_mutex_unlock(&i->all->lock);
	if (!managed)
		return err_set(err, -EPERM,
			       "%s was not made here: write true to its `manage` first",
			       link->name);
	return 0;
}

static int flag_parse(const char *text, bool *flag, struct err *err)
{
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		return err_set(err, -EINVAL, "'%.40s' is neither true nor false", text);
	*flag = strcmp(text, "true") == 0;
	return 0;
}

/* --- one conversation --------------------------------------------------------------------------
 */

static int set(struct interface *i, const struct host_link_set *what, struct err *err)
{
	struct host_link link;
	int r = interface_link(i, &link, err);

	if (r < 0)
		return r;
	r = host_link_set(link.index, what, NULL);
	return r < 0 ? err_set(err, r, "%s: the kernel refuses that: %s", link.name, strerror(-r))
		     : 0;
}

int interface_set_up(struct interface *i, const char *text, struct err *err)
{
	struct host_link_set what = HOST_LINK_SET;
	bool up = false;
	int r = flag_parse(text, &up, err);

	what.up = up;
	return r < 0 ? r : set(i, &what, err);
}

int interface_set_mtu(struct interface *i, const char *text, struct err *err)
{
	struct host_link_set what = HOST_LINK_SET;
	uint64_t mtu = 0;
	int r = uint_parse(text, MTU_MIN, MTU_MAX, &mtu);

	if (r == -ERANGE)
		return err_set(err, r, "'%.40s': an mtu is between %d and %d", text, MTU_MIN,
			       MTU_MAX);
	if (r < 0)
		return err_set(err, r, "'%.40s' is no number", text);
	what.mtu = (uint32_t)mtu;
	return set(i, &what, err);
}

int interface_set_mac(struct interface *i, const char *text, struct err *err)
{
	struct host_link_set what = HOST_LINK_SET;
	uint8_t mac[6];
	int r = nic_mac_parse(text, mac, err);

	what.mac = mac;
	return r < 0 ? r : set(i, &what, err);
}

/* --- master ------------------------------------------------------------------------------------
 */

/* The bridge or bond of that name, which gets a port: it is to be ours to change, too. */
static int find_master(struct interfaces *all, const char *name, struct host_link *master,
		       struct err *err)
{
	_cleanup_interface_ struct interface *i = model_interface_get(all->model, name);

	if (!i || host_link_find(name, 0, master) < 0)
		return err_set(err, -ENODEV, "there is no interface %.40s", name);
	if (strcmp(master->kind, "bridge") != 0 && strcmp(master->kind, "bond") != 0)
		return err_set(err, -EINVAL, "%s is neither a bridge nor a bond", name);
	return interface_may_change(i, master, err);
}

/* A bond takes only what is down, and switches it on itself. */
static int join(struct interface *i, const struct host_link *link, const struct host_link *master,
		struct err *err)
{
	struct host_link_set what = HOST_LINK_SET, down = HOST_LINK_SET;
	bool was_up = link->flags & IFF_UP;
	int r = 0;

	what.master = master->index;
	down.up = 0;
	if (strcmp(master->kind, "bond") == 0 && was_up)
		r = set(i, &down, err);
	if (r == 0)
		r = set(i, &what, err);
	if (r < 0 && strcmp(master->kind, "bond") == 0 && was_up) {
		down.up = 1;
		set(i, &down, NULL);
	}
	return r;
}

int interface_set_master(struct interface *i, const char *text, struct err *err)
{
	struct host_link_set none = HOST_LINK_SET;
	struct host_link link, master;
	int r = interface_link(i, &link, err);

	if (r < 0)
		return r;
	none.master = 0;
	if (!*text)
		return link.master ? set(i, &none, err) : 0;
	r = find_master(i->all, text, &master, err);
	if (r < 0 || link.master == master.index)
		return r;
	if (master.index == link.index)
		return err_set(err, -ELOOP, "%s cannot be a port of itself", link.name);
	return join(i, &link, &master, err);
}

/* --- manage ------------------------------------------------------------------------------------
 */

int interface_set_manage(struct interface *i, const char *text, struct err *err)
{
	struct host_link link;
	bool manage = false;
	int r = flag_parse(text, &manage, err);

	if (r == 0)
		r = interface_link(i, &link, err);
	if (r < 0)
		return r;
	if (interfaces_made(i->all, &link))
		return manage ? 0 : err_set(err, -EPERM, "%s was made here", link.name);
	if (manage && of_network(&link))
		return refuse_network(&link, err);
	LOCK_SCOPE(&i->all->lock);
	if (i->managed != manage) {
		i->managed = manage;
		i->changed[INTERFACE_SETTINGS] = time_now();
		tell_interface_changed(i, INTERFACE_SETTINGS);
	}
	return 0;
}

/* --- a value is written ------------------------------------------------------------------------
 */

/* Under work. */
static int store(struct interface *i, const struct interface_key *key, const char *text,
		 struct err *err)
{
	struct host_link link;
	int r = interface_link(i, &link, err);

	if (r < 0)
		return r;
	if (key->set == interface_set_manage)
		return key->set(i, text, err);
	r = interface_may_change(i, &link, err);
	if (r == 0)
		r = trial_note_was(i->all, &link, err);
	if (r == 0)
		r = key->set(i, text, err);
	interfaces_look(i->all);
	return r;
}

static int check(struct interface *i, const struct interface_key *key, const char *text,
		 const struct caller *caller, struct err *err)
{
	struct host_link link;
	int r = interfaces_may(caller, err);

	if (r == 0)
		r = interface_link(i, &link, err);
	if (r == 0)
		r = interface_may_change(i, &link, err);
	return r == 0 ? key->check(text, err) : r;
}

/* Who is told of what failed by a write, and where. */
static void tell_outcome(struct interface *i, const struct interface_key *key,
			 const struct err *err)
{
	char what[80], name[INTERFACE_NAME_MAX + 1];

	interface_name(i, name);
	snprintf(what, sizeof(what), "%s/%s", name, key->name);
	interfaces_outcome(i->all, what, err);
}

int interface_key_check(struct interface *i, const struct interface_key *key, const char *text,
			const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	int r = check(i, key, text, caller, words);

	words->code = r;
	if (r < 0)
		tell_outcome(i, key, words);
	return r;
}

int interface_key_store(struct interface *i, const struct interface_key *key, const char *text,
			const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	char name[INTERFACE_NAME_MAX + 1];
	int r =
	    key->set ? interfaces_may(caller, words) : err_set(words, -EACCES, "it is only shown");

	interface_name(i, name);
	if (r == 0) {
		LOCK_SCOPE(&i->all->work);
		r = store(i, key, text, words);
	}
	words->code = r;
	if (r == 0)
		interfaces_event(i->all, "interface-set", name, key->name, text, caller);
	tell_outcome(i, key, words);
	return r;
}
