// SPDX-License-Identifier: ISC
/*
 * Interfaces made, made anew as another type, renamed and removed. What is made bears our alias;
 * only that is removed or renamed. One that is made anew is made beside the old one, under a name
 * that is nobody's, which it changes when the old one is gone: what the kernel refuses changes
 * nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "interfaces_int.h"
#include "util/cleanup.h"
#include "util/size.h"

#define VLAN_MAX 4094 /* IEEE 802.1Q */

enum needs { NEEDS_NOTHING, NEEDS_LOWER, NEEDS_LOWER_AND_TAG, NEEDS_PEER };

static const struct type {
	const char *name, *kind; /* kind: as the kernel calls it */
	int make;		 /* enum host_link_kind; -1: a tap */
	enum needs needs;
} types[] = {
    {"bridge", "bridge", HOST_BRIDGE, NEEDS_NOTHING},
    {"tap", "tun", -1, NEEDS_NOTHING},
    {"dummy", "dummy", HOST_DUMMY, NEEDS_NOTHING},
    {"bond", "bond", HOST_BOND, NEEDS_NOTHING},
    {"veth", "veth", HOST_VETH, NEEDS_PEER},
    {"vlan", "vlan", HOST_VLAN, NEEDS_LOWER_AND_TAG},
    {"macvtap", "macvtap", HOST_MACVTAP, NEEDS_LOWER},
};

static const struct type *find_type(const char *name)
{
	for (size_t k = 0; k < nitems(types); k++)
		if (strcmp(types[k].name, name) == 0)
			return &types[k];
	return NULL;
}

const char *interface_type(const struct host_link *link)
{
	for (size_t k = 0; k < nitems(types); k++)
		if (strcmp(types[k].kind, link->kind) == 0)
			return types[k].name;
	if (link->flags & IFF_LOOPBACK)
		return "loopback";
	if (*link->kind)
		return link->kind;
	return link->physical ? "physical" : "other";
}

/* --- making ------------------------------------------------------------------------------------
 */

static int make_tap(const char *name, const char *alias, struct err *err)
{
	struct host_link_set set = {.up = -1, .master = -1, .alias = alias};
	int index = host_tap_lasting(name, err), r;

	if (index < 0)
		return index == -EBUSY
			   ? err_set(err, -EEXIST, "there is an interface %s already", name)
			   : index;
	r = host_link_set(index, &set, err);
	if (r < 0)
		host_link_remove(index, NULL);
	return r < 0 ? r : index;
}

static int alias_peer(const char *peer, const char *alias, struct err *err)
{
	struct host_link_set set = {.up = -1, .master = -1, .alias = alias};
	struct host_link link;
	int r = host_link_find(peer, 0, &link);

	return r < 0 ? err_set(err, r, "%s: %s", peer, strerror(-r))
		     : host_link_set(link.index, &set, err);
}

int interface_make(struct interfaces *all, const char *type, const char *name, const char *lower,
		   unsigned vlan, struct err *err)
{
	const struct type *t = find_type(type);
	struct host_link_new what = {.name = name, .alias = all->alias, .vlan = vlan};
	struct host_link link;
	int index, r;

	if (!t)
		return err_set(err, -EINVAL, "'%.40s' is no type of an interface", type);
	if (t->make < 0)
		return make_tap(name, all->alias, err);
	what.kind = (enum host_link_kind)t->make;
	if (t->needs == NEEDS_PEER) {
		if (host_link_find(lower, 0, &link) == 0)
			return err_set(err, -EEXIST, "there is an interface %s already", lower);
		what.peer = lower;
	} else if (t->needs != NEEDS_NOTHING) {
		r = host_link_find(lower, 0, &link);
		if (r < 0)
			return err_set(err, r, "there is no interface %.40s", lower);
		what.lower = link.index;
	}
	index = host_link_make(&what, err);
	if (index < 0 || t->needs != NEEDS_PEER)
		return index;
	r = alias_peer(lower, all->alias, err);
	if (r < 0)
		host_link_remove(index, NULL);
	return r < 0 ? r : index;
}

/* mkdir, under work. */
static int make_bridge(struct interfaces *all, const char *name, struct err *err)
{
	struct host_link link;
	int r;

	if (host_link_find(name, 0, &link) == 0)
		return err_set(err, -EEXIST, "there is an interface %s already", name);
	r = trial_note_made(all, name, err);
	if (r == 0)
		r = interface_make(all, "bridge", name, "", 0, err);
	interfaces_look(all);
	return r < 0 ? r : 0;
}

int model_interface_make(struct model *model, const char *name, const struct caller *caller,
			 struct interface **i, struct err *err)
{
	struct interfaces *all = model->interfaces;
	int r = interfaces_may(caller, err);

	if (r == 0 && strlen(name) > INTERFACE_NAME_MAX)
		r = err_set(err, -EINVAL, "'%.40s…' is too long: %d bytes at most", name,
			    INTERFACE_NAME_MAX);
	if (r < 0)
		return r;
	pthread_mutex_lock(&all->work);
	r = make_bridge(all, name, err);
	pthread_mutex_unlock(&all->work);
	if (r < 0)
		return r;
	*i = model_interface_get(model, name);
	if (!*i)
		return err_set(err, -ENODEV, "%s has vanished", name);
	interfaces_event(all, "interface-made", name, NULL, NULL, caller);
	return 0;
}

/* --- what stands in the way --------------------------------------------------------------------
 */

struct above {
	const struct host_link *of;
	char name[IFNAMSIZ]; /* a port of it, or one that is over it */
};

static int find_above(const struct host_link *link, void *arg)
{
	struct above *above = arg;
	bool over = link->lower == above->of->index && strcmp(link->kind, "veth") != 0;

	if (link->index != above->of->index && (link->master == above->of->index || over))
		memcpy(above->name, link->name, sizeof(above->name));
	return 0;
}

static int must_be_alone(const struct host_link *link, struct err *err)
{
	struct above above = {.of = link};
	int r = host_links(find_above, &above);

	if (r < 0)
		return err_set(err, r, "%s: %s", link->name, strerror(-r));
	if (*above.name)
		return err_set(err, -EBUSY, "%s is in it or over it", above.name);
	return 0;
}

static int must_be_ours(struct interface *i, struct host_link *link, struct err *err)
{
	int r = interface_link(i, link, err);

	if (r < 0)
		return r;
	return interfaces_made(i->all, link)
		   ? 0
		   : err_set(err, -EPERM, "%s was not made here", link->name);
}

static int must_be_unused(const struct host_link *link, struct err *err)
{
	struct address_list addresses;
	int r = must_be_alone(link, err);

	if (r < 0)
		return r;
	r = addresses_of(link->index, &addresses);
	free(addresses.list);
	if (r < 0)
		return err_set(err, r, "%s: %s", link->name, strerror(-r));
	if ((link->flags & IFF_UP) || link->master || addresses.n)
		return err_set(err, -EBUSY,
			       "%s is in use: its type is written while it is new: down, without "
			       "addresses and master",
			       link->name);
	return 0;
}

static bool is_veth(const struct host_link *link)
{
	return strcmp(link->kind, "veth") == 0;
}

/* As it was made: nobody uses it, nor its other end. */
static int must_be_new(const struct host_link *link, struct err *err)
{
	struct host_link peer;
	int r = must_be_unused(link, err);

	if (r < 0 || !is_veth(link) || host_link_find(NULL, link->lower, &peer) < 0)
		return r;
	return must_be_unused(&peer, err);
}

/* With a veth goes its other end. */
static int note_with_peer(struct interfaces *all, const struct host_link *link, struct err *err)
{
	struct host_link peer;
	int r = trial_note_was(all, link, err);

	if (r < 0 || !is_veth(link) || host_link_find(NULL, link->lower, &peer) < 0)
		return r;
	return trial_note_was(all, &peer, err);
}

/* --- another type ------------------------------------------------------------------------------
 */

struct wanted {
	char words[128];
	const char *type, *lower;
	unsigned vlan;
};

static int parse_type(const char *text, struct wanted *w, struct err *err)
{
	static const char *const usages[] = {[NEEDS_NOTHING] = "",
					     [NEEDS_LOWER] = " OVER",
					     [NEEDS_LOWER_AND_TAG] = " OVER TAG",
					     [NEEDS_PEER] = " PEER"};
	static const unsigned words[] = {
	    [NEEDS_NOTHING] = 1, [NEEDS_LOWER] = 2, [NEEDS_LOWER_AND_TAG] = 3, [NEEDS_PEER] = 2};
	char *word[4], *save = NULL;
	const struct type *t;
	unsigned n = 0;
	uint64_t tag = 0;

	snprintf(w->words, sizeof(w->words), "%s", strlen(text) < sizeof(w->words) ? text : "");
	for (char *p = strtok_r(w->words, " \t", &save); p && n < nitems(word);
	     p = strtok_r(NULL, " \t", &save))
		word[n++] = p;
	t = n ? find_type(word[0]) : NULL;
	if (!t)
		return err_set(err, -EINVAL, "'%.40s' is no type of an interface", text);
	if (n != words[t->needs])
		return err_set(err, -EINVAL, "usage: %s%s", t->name, usages[t->needs]);
	w->type = t->name;
	w->lower = n > 1 ? word[1] : "";
	if (t->needs == NEEDS_LOWER_AND_TAG && uint_parse(word[2], 1, VLAN_MAX, &tag) < 0)
		return err_set(err, -EINVAL, "'%.40s' is no tag of a VLAN: 1 to %d", word[2],
			       VLAN_MAX);
	w->vlan = (unsigned)tag;
	return 0;
}

/* Under a name that is nobody's. */
static int make_beside(struct interface *i, const struct host_link *old, const struct wanted *w,
		       struct err *err)
{
	char name[IFNAMSIZ];
	int r;

	if (strcmp(w->lower, old->name) == 0)
		return err_set(err, -EINVAL, "an interface cannot be over itself");
	snprintf(name, sizeof(name), "fvnew%u", (unsigned)(interface_serial(i) % 1000000));
	r = trial_note_made(i->all, name, err);
	if (r == 0)
		r = trial_note_made(i->all, old->name, err);
	return r < 0 ? r : interface_make(i->all, w->type, name, w->lower, w->vlan, err);
}

static int take_name(int index, const struct host_link *old, struct err *err)
{
	struct host_link_set set = HOST_LINK_SET;
	int r = host_link_remove(old->index, err);

	set.name = old->name;
	if (r == 0)
		r = host_link_set(index, &set, err);
	return r;
}

int interface_set_type(struct interface *i, const char *text, struct err *err)
{
	struct wanted w = {0};
	struct host_link old;
	int r = must_be_ours(i, &old, err), index;

	if (r == 0 && strcmp(text, interface_type(&old)) == 0)
		return 0;
	if (r == 0)
		r = parse_type(text, &w, err);
	if (r == 0)
		r = must_be_new(&old, err);
	if (r < 0)
		return r;
	r = note_with_peer(i->all, &old, err);
	index = r < 0 ? r : make_beside(i, &old, &w, err);
	if (index < 0)
		return index;
	r = take_name(index, &old, err);
	if (r < 0) {
		host_link_remove(index, NULL);
		return r;
	}
	interface_moved(i, index);
	return 0;
}

/* --- rmdir, mv ---------------------------------------------------------------------------------
 */

static int remove_one(struct interface *i, char name[IFNAMSIZ], struct err *err)
{
	struct host_link link;
	int r;

	LOCK_SCOPE(&i->all->work);
	r = must_be_ours(i, &link, err);
	if (r == 0)
		r = must_be_alone(&link, err);
	if (r == 0)
		r = note_with_peer(i->all, &link, err);
	if (r == 0)
		r = host_link_remove(link.index, err);
	interfaces_look(i->all);
	if (r == 0)
		memcpy(name, link.name, IFNAMSIZ);
	return r;
}

int model_interface_remove(struct model *model, struct interface *i, const struct caller *caller,
			   struct err *err)
{
	char name[IFNAMSIZ];
	int r = interfaces_may(caller, err);

	if (r == 0)
		r = remove_one(i, name, err);
	if (r == 0)
		interfaces_event(model->interfaces, "interface-removed", name, NULL, NULL, caller);
	return r;
}

static int rename_one(struct interface *i, const char *name, char old_name[IFNAMSIZ],
		      struct err *err)
{
	struct host_link_set set = HOST_LINK_SET;
	struct host_link link, other;
	int r;

	LOCK_SCOPE(&i->all->work);
	r = must_be_ours(i, &link, err);
	if (r < 0)
		return r;
	if (host_link_find(name, 0, &other) == 0)
		return err_set(err, -EEXIST, "there is an interface %s already", name);
	set.name = name;
	r = trial_note_was(i->all, &link, err);
	if (r == 0)
		r = trial_note_made(i->all, name, err);
	if (r == 0)
		r = host_link_set(link.index, &set, err);
	if (r == -EBUSY)
		err_set(err, r, "%s is up: this kernel renames only what is down", link.name);
	interfaces_look(i->all);
	memcpy(old_name, link.name, IFNAMSIZ);
	return r;
}

int model_interface_rename(struct model *model, struct interface *i, const char *name,
			   const struct caller *caller, struct err *err)
{
	char old_name[IFNAMSIZ];
	int r = interfaces_may(caller, err);

	if (r == 0)
		r = rename_one(i, name, old_name, err);
	if (r == 0)
		interfaces_event(model->interfaces, "interface-renamed", name, "old", old_name,
				 caller);
	return r;
}
