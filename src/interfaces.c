// SPDX-License-Identifier: ISC
/*
 * All interfaces of the host, as the kernel had them at the last look. The thread `interfaces`
 * looks some time after the kernel told of a change, whoever made it: all at once, as a dump of
 * them is one conversation and changes come in showers. Who changes one here looks himself before
 * he returns.
 */
#define LOG_MODULE "interface"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "interfaces_int.h"
#include "network_int.h"
#include "util/cleanup.h"
#include "util/log.h"

#define QUIET_MS 20   /* from the first change to the look */
#define LOOK_MS	 2000 /* where the kernel tells of none */

/* --- one of them -------------------------------------------------------------------------------
 */

struct interface *interface_get(struct interface *i)
{
	atomic_fetch_add(&i->refs, 1);
	return i;
}

void interface_put(struct interface *i)
{
	if (!i || atomic_fetch_sub(&i->refs, 1) != 1)
		return;
	free(i->addresses);
	free(i);
}

void interface_name(struct interface *i, char name[INTERFACE_NAME_MAX + 1])
{
	LOCK_SCOPE(&i->all->lock);
	strcpy(name, i->link.name);
}

uint64_t interface_serial(const struct interface *i)
{
	return i->serial;
}

bool interface_alive(struct interface *i)
{
	LOCK_SCOPE(&i->all->lock);
	return i->alive;
}

struct timespec interface_changed(struct interface *i, enum interface_aspect aspect)
{
	LOCK_SCOPE(&i->all->lock);
	return i->changed[aspect < INTERFACE_ASPECT_MAX ? aspect : INTERFACE_STATE];
}

int interface_link(struct interface *i, struct host_link *link, struct err *err)
{
	char name[INTERFACE_NAME_MAX + 1];
	int index, r = -ENODEV;

	pthread_mutex_lock(&i->all->lock);
	index = i->alive ? i->link.index : 0;
	strcpy(name, i->link.name);
	pthread_mutex_unlock(&i->all->lock);
	if (index)
		r = host_link_find(NULL, index, link);
	return r < 0 ? err_set(err, r, "%s: %s", name, strerror(-r)) : 0;
}

void interface_moved(struct interface *i, int index)
{
	LOCK_SCOPE(&i->all->lock);
	i->link.index = index;
}

bool interfaces_made(const struct interfaces *all, const struct host_link *link)
{
	return strcmp(link->alias, all->alias) == 0;
}

/* --- a look ------------------------------------------------------------------------------------
 */

/* What the kernel has. */
struct look {
	struct host_link *links;
	uint32_t *speeds;
	size_t n_links;
	struct host_address *addresses;
	size_t n_addresses;
};

static int take_link(const struct host_link *link, void *arg)
{
	struct look *look = arg;
	void *more = realloc(look->links, (look->n_links + 1) * sizeof(*link));

	if (!more)
		return -ENOMEM;
	look->links = more;
	look->links[look->n_links++] = *link;
	return 0;
}

static int take_address(const struct host_address *address, void *arg)
{
	struct look *look = arg;
	void *more = realloc(look->addresses, (look->n_addresses + 1) * sizeof(*address));

	if (!more)
		return -ENOMEM;
	look->addresses = more;
	look->addresses[look->n_addresses++] = *address;
	return 0;
}

static int look_up(struct look *look)
{
	int r = host_links(take_link, look);

	if (r == 0)
		r = host_addresses(take_address, look);
	if (r == 0 && !(look->speeds = calloc(look->n_links + 1, sizeof(*look->speeds))))
		r = -ENOMEM;
	/* Others' speed is that of what they are made of, or what somebody thought of. */
	for (size_t i = 0; r == 0 && i < look->n_links; i++)
		if (look->links[i].physical)
			look->speeds[i] = host_link_speed(look->links[i].name);
	return r;
}

static const char *name_of(const struct look *look, int index)
{
	for (size_t i = 0; index && i < look->n_links; i++)
		if (look->links[i].index == index)
			return look->links[i].name;
	return "";
}

/* One a line, or NULL. */
static char *addresses_text(const struct look *look, int index)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	for (size_t i = 0; i < look->n_addresses; i++) {
		if (look->addresses[i].index != index)
			continue;
		address_show(&look->addresses[i], &sb);
		strbuf_putc(&sb, '\n');
	}
	return sb.len ? strbuf_steal(&sb) : NULL;
}

/* --- what changed; under the lock --------------------------------------------------------------
 */

static void touch(struct interface *i, enum interface_aspect aspect)
{
	i->changed[aspect] = time_now();
	tell_interface_changed(i, aspect);
}

static struct interface *find_index(struct interfaces *all, int index)
{
	for (size_t k = 0; k < all->n; k++)
		if (all->list[k]->link.index == index)
			return all->list[k];
	return NULL;
}

static struct interface *add(struct interfaces *all, const struct host_link *link)
{
	struct interface **more = realloc(all->list, (all->n + 1) * sizeof(*more));
	struct interface *i = more ? calloc(1, sizeof(*i)) : NULL;

	if (more)
		all->list = more;
	if (!i)
		return NULL;
	i->all = all;
	atomic_init(&i->refs, 1);
	i->serial = model_next_serial(all->model);
	i->alive = true;
	i->link = *link;
	for (size_t k = 0; k < INTERFACE_ASPECT_MAX; k++)
		i->changed[k] = time_now();
	all->list[all->n++] = i;
	return i;
}

static bool same_state(const struct interface *i, const struct host_link *link, uint32_t speed)
{
	return i->link.flags == link->flags && i->link.operstate == link->operstate &&
	       i->speed_mbit == speed;
}

static bool same_settings(const struct interface *i, const struct host_link *link,
			  const char *master, const char *lower)
{
	const struct host_link *l = &i->link;

	return strcmp(l->kind, link->kind) == 0 && strcmp(l->alias, link->alias) == 0 &&
	       memcmp(l->mac, link->mac, sizeof(l->mac)) == 0 && l->mtu == link->mtu &&
	       l->vlan == link->vlan && strcmp(i->master, master) == 0 &&
	       strcmp(i->lower, lower) == 0;
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static void take(struct interfaces *all, const struct look *look, size_t k)
{
	const struct host_link *link = &look->links[k];
	const char *master = name_of(look, link->master), *lower = name_of(look, link->lower);
	struct interface *i = find_index(all, link->index);
	_cleanup_free_ char *addresses = addresses_text(look, link->index);
	bool came = !i, renamed, state, settings, addressed;
	char old_name[IFNAMSIZ];

	if (!i)
		i = add(all, link);
	if (!i)
		return;
	renamed = strcmp(i->link.name, link->name) != 0;
	state = !same_state(i, link, look->speeds[k]);
	settings = !same_settings(i, link, master, lower);
	addressed = !same_text(i->addresses, addresses);
	strcpy(old_name, i->link.name);
	i->seen = true;
	i->link = *link;
	i->speed_mbit = look->speeds[k];
	snprintf(i->master, sizeof(i->master), "%s", master);
	snprintf(i->lower, sizeof(i->lower), "%s", lower);
	if (addressed) {
		free(i->addresses);
		i->addresses = take_ptr(addresses);
	}
	if (came || renamed) {
		all->changed = time_now();
		tell_interface(i, came ? INTERFACE_NEWS_ADDED : INTERFACE_NEWS_RENAMED, old_name);
	}
	if (came)
		return;
	if (state)
		touch(i, INTERFACE_STATE);
	if (settings)
		touch(i, INTERFACE_SETTINGS);
	if (addressed)
		touch(i, INTERFACE_ADDRESSES);
}

static void drop(struct interfaces *all, size_t k)
{
	struct interface *i = all->list[k];

	memmove(&all->list[k], &all->list[k + 1], (all->n - k - 1) * sizeof(*all->list));
	all->n--;
	i->alive = false;
	all->changed = time_now();
	tell_interface(i, INTERFACE_NEWS_REMOVED, NULL);
	interface_put(i);
}

void interfaces_look(struct interfaces *all)
{
	struct look look = {0};
	int r = look_up(&look);

	if (r < 0)
		log_warn("interfaces of this host: %s", strerror(-r));
	pthread_mutex_lock(&all->lock);
	for (size_t k = 0; k < all->n; k++)
		all->list[k]->seen = r < 0;
	/* First those that went: their names may be others' now. */
	for (size_t k = 0; r == 0 && k < look.n_links; k++) {
		struct interface *i = find_index(all, look.links[k].index);

		if (i)
			i->seen = true;
	}
	for (size_t k = all->n; k > 0; k--)
		if (!all->list[k - 1]->seen)
			drop(all, k - 1);
	for (size_t k = 0; r == 0 && k < look.n_links; k++)
		take(all, &look, k);
	pthread_mutex_unlock(&all->lock);
	free(look.links);
	free(look.speeds);
	free(look.addresses);
}

/* --- what is said of all of them ---------------------------------------------------------------
 */

void interfaces_tell_ctl(struct interfaces *all)
{
	pthread_mutex_lock(&all->lock);
	all->told = time_now();
	pthread_mutex_unlock(&all->lock);
	tell_interfaces_ctl(all->model);
}

void interfaces_outcome(struct interfaces *all, const char *what, const struct err *err)
{
	pthread_mutex_lock(&all->lock);
	outcome_set(&all->error, what, err, false);
	pthread_mutex_unlock(&all->lock);
	interfaces_tell_ctl(all);
}

void interfaces_event(struct interfaces *all, const char *kind, const char *name, const char *key,
		      const char *value, const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	if (name)
		event_text(&sb, "interface", name);
	if (key)
		event_text(&sb, key, value);
	if (caller)
		event_number(&sb, "uid", caller->uid);
	model_event(all->model, &sb);
}

void interfaces_error_show(struct model *model, struct strbuf *sb)
{
	LOCK_SCOPE(&model->interfaces->lock);
	outcome_show(&model->interfaces->error, sb);
}

void interfaces_error_set(struct model *model, const char *what, const struct err *err)
{
	interfaces_outcome(model->interfaces, what, err);
}

void interfaces_trial_show(struct model *model, struct strbuf *sb)
{
	struct interfaces *all = model->interfaces;

	LOCK_SCOPE(&all->lock);
	if (all->trying)
		strbuf_printf(sb, "ends=%lld changes=%zu", (long long)all->trial_ends,
			      all->trial_changes);
}

struct timespec interfaces_told(struct model *model)
{
	LOCK_SCOPE(&model->interfaces->lock);
	return model->interfaces->told;
}

/* --- the thread --------------------------------------------------------------------------------
 */

static void *watch_thread(void *arg)
{
	struct interfaces *all = arg;
	struct pollfd fds[] = {{.fd = all->wake, .events = POLLIN},
			       {.fd = all->watch, .events = POLLIN}};

	pthread_setname_np(pthread_self(), "interfaces");
	while (!cancel_requested(&all->model->stopping)) {
		int limit = trial_wait_ms(all);
		uint64_t count;
		int some;

		if (all->watch < 0 && (limit < 0 || limit > LOOK_MS))
			limit = LOOK_MS;
		some = poll(fds, nitems(fds), limit);
		if (some > 0 && (fds[1].revents & POLLIN) &&
		    !cancel_requested(&all->model->stopping))
			poll(NULL, 0, QUIET_MS);
		if (read(all->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
			log_warn("interfaces of this host: %m");
		if (cancel_requested(&all->model->stopping))
			break;
		LOCK_SCOPE(&all->work);
		if (all->watch < 0 || host_watch_read(all->watch))
			interfaces_look(all);
		trial_check(all);
	}
	return NULL;
}

void interfaces_wake(struct interfaces *all)
{
	uint64_t one = 1;

	if (write(all->wake, &one, sizeof(one)) < 0)
		return; /* it is readable already */
}

/* --- opening and closing -----------------------------------------------------------------------
 */

int interfaces_open(struct interfaces **out, struct model *model, struct err *err)
{
	struct interfaces *all = calloc(1, sizeof(*all));
	int r;

	if (!all)
		return err_set(err, -ENOMEM, "out of memory");
	all->model = model;
	all->changed = all->told = time_now();
	pthread_mutex_init(&all->work, NULL);
	pthread_mutex_init(&all->lock, NULL);
	all->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	all->watch = host_watch_open(); /* before the look: nothing is missed */
	/* Two daemons of one host leave each other's alone. */
	snprintf(all->alias, sizeof(all->alias), INTERFACES_ALIAS "%s", model->networks->table);
	*out = all;
	if (all->wake < 0)
		return err_set(err, -errno, "cannot watch interfaces: %m");
	pthread_mutex_lock(&all->work);
	trial_load(all);
	interfaces_look(all);
	pthread_mutex_unlock(&all->work);
	r = pthread_create(&all->thread, NULL, watch_thread, all);
	all->threaded = r == 0;
	return r ? err_set(err, -r, "cannot watch interfaces: %s", strerror(r)) : 0;
}

void interfaces_close(struct interfaces *all)
{
	struct err err = ERR_INIT;

	if (!all)
		return;
	if (all->threaded) {
		interfaces_wake(all);
		pthread_join(all->thread, NULL);
	}
	pthread_mutex_lock(&all->work);
	if (all->trial && trial_undo(all, &err) < 0)
		log_error("not all of what was tried is put back: %s", err.text);
	pthread_mutex_unlock(&all->work);
	for (size_t k = 0; k < all->n; k++)
		interface_put(all->list[k]);
	trial_free(all->trial);
	free(all->list);
	free(all->error.text);
	if (all->wake >= 0)
		close(all->wake);
	if (all->watch >= 0)
		close(all->watch);
	pthread_mutex_destroy(&all->lock);
	pthread_mutex_destroy(&all->work);
	free(all);
}

/* --- the list ----------------------------------------------------------------------------------
 */

struct interface *model_interface_get(struct model *model, const char *name)
{
	struct interfaces *all = model->interfaces;

	LOCK_SCOPE(&all->lock);
	for (size_t k = 0; k < all->n; k++)
		if (strcmp(all->list[k]->link.name, name) == 0)
			return interface_get(all->list[k]);
	return NULL;
}

struct interface *model_interface_next(struct model *model, uint64_t *cursor)
{
	struct interfaces *all = model->interfaces;
	size_t low = 0, high;

	LOCK_SCOPE(&all->lock);
	high = all->n; /* the first whose serial is greater */
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (all->list[mid]->serial > *cursor)
			high = mid;
		else
			low = mid + 1;
	}
	if (low == all->n)
		return NULL;
	*cursor = all->list[low]->serial;
	return interface_get(all->list[low]);
}

size_t model_interface_count(struct model *model)
{
	LOCK_SCOPE(&model->interfaces->lock);
	return model->interfaces->n;
}

struct timespec model_interfaces_changed(struct model *model)
{
	LOCK_SCOPE(&model->interfaces->lock);
	return model->interfaces->changed;
}
