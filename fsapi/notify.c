// SPDX-License-Identifier: ISC
/*
 * Telling watchers.
 *
 * inotify sees only what passes through the mount. So for a change that no
 * client made, something is done to our own mount that makes the right
 * event and that the handlers know to ignore, as the request comes from the
 * hand (hand.c): truncate(file, 0) makes IN_MODIFY, mkdir and rmdir of a directory
 * that has come or gone already make IN_CREATE and IN_DELETE. The notifier's thread
 * decides what, one after the other, and holds no lock meanwhile, since
 * workers must answer; nobody waits for it but notifier_stop(), while the workers
 * still run.
 *
 * What is told: only nodes that the kernel knows (nobody can watch others), each
 * queued once however often it changes, and batches come no faster than
 * every BATCH_MS, so that a guest that prints a lot costs little. A command
 * file with a writer is passed over: the kernel would make us wait for its inode. What lies
 * below a directory in which a client's mkdir takes long (snapshots/) waits for the end of that.
 *
 * poll(2) needs none of this: waiters are woken at once by notify_changed().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define EVENTS_MAX 4096u
#define BATCH_MS   10

enum event_kind { EVENT_CHILD, EVENT_GONE, EVENT_NAME };

/* Something about a name in a directory. */
struct event {
	struct event *next;
	enum event_kind kind;
	struct node *dir;   /* a reference */
	struct thing thing; /* a reference */
	uint64_t id;
	char name[256];
};

struct notifier {
	struct fsapi *fs;
	pthread_t thread;
	bool started;
	struct hand *hand;

	pthread_mutex_t lock; /* guards what follows, and fields of nodes and handles */
	pthread_cond_t wake;
	bool stop;
	struct node *first, **last; /* changed files: each a reference */
	struct event *events, **last_event;
	unsigned n_events;
	uint64_t queued, dropped, sent;
	struct event *held_events, **last_held_event; /* until notifier_go_on() */
	struct node *held, **last_held;

	/* what the thread is doing just now */
	struct node *dir;
	char name[256];
	bool makes;
	struct node *ghost; /* a reference */
};

int notifier_open(struct notifier **out, struct fsapi *fs)
{
	struct notifier *nt = calloc(1, sizeof(*nt));
	pthread_condattr_t attr;

	if (!nt)
		return -ENOMEM;
	nt->fs = fs;
	nt->last = &nt->first;
	nt->last_event = &nt->events;
	nt->last_held_event = &nt->held_events;
	nt->last_held = &nt->held;
	pthread_mutex_init(&nt->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&nt->wake, &attr);
	pthread_condattr_destroy(&attr);
	*out = nt;
	return hand_open(&nt->hand, fs);
}

static void free_event(struct event *e)
{
	node_put(e->dir);
	thing_put(e->thing);
	free(e);
}

/* With the lock. What was held comes first: it is older. */
static void release_held(struct notifier *nt)
{
	if (nt->held_events) {
		*nt->last_held_event = nt->events;
		if (!nt->events)
			nt->last_event = nt->last_held_event;
		nt->events = nt->held_events;
		nt->held_events = NULL;
		nt->last_held_event = &nt->held_events;
	}
	if (nt->held) {
		*nt->last_held = nt->first;
		if (!nt->first)
			nt->last = nt->last_held;
		nt->first = nt->held;
		nt->held = NULL;
		nt->last_held = &nt->held;
	}
}

void notifier_close(struct notifier *nt)
{
	if (!nt)
		return;
	release_held(nt);
	while (nt->first) {
		struct node *n = nt->first;

		nt->first = n->queue_next;
		node_put(n);
	}
	while (nt->events) {
		struct event *e = nt->events;

		nt->events = e->next;
		free_event(e);
	}
	hand_close(nt->hand);
	pthread_cond_destroy(&nt->wake);
	pthread_mutex_destroy(&nt->lock);
	free(nt);
}

/* --- queueing ------------------------------------------------------------------------- */

/* With the lock. */
static void queue_node(struct notifier *nt, struct node *n)
{
	if (n->queued || nt->stop)
		return;
	n->queued = true;
	n->queue_next = NULL;
	*nt->last = node_ref(n);
	nt->last = &n->queue_next;
	nt->queued++;
	pthread_cond_signal(&nt->wake);
}

/* With the lock: a poll handle serves once. */
static void unlink_poller(struct handle *h)
{
	*h->poll_prev = h->poll_next;
	if (h->poll_next)
		h->poll_next->poll_prev = h->poll_prev;
	h->poll_prev = NULL;
}

static void wake_pollers(struct node *n)
{
	while (n->pollers) {
		struct handle *h = n->pollers;

		unlink_poller(h);
		wire_poll_wake(h->poll);
		wire_poll_free(h->poll);
		h->poll = NULL;
	}
}

void notifier_go_on(struct notifier *nt)
{
	LOCK_SCOPE(&nt->lock);
	release_held(nt);
	pthread_cond_signal(&nt->wake);
}

void notify_changed(struct node *n)
{
	struct notifier *nt = n->fs->notifier;

	atomic_fetch_add(&n->generation, 1);
	if (node_known(n) && node_attr_told(n))
		wire_forget_attr(n);
	LOCK_SCOPE(&nt->lock);
	wake_pollers(n);
	/* A client's write makes its event by itself, when it has returned. */
	if (!node_is_dir(n) && node_known(n) && atomic_load(&n->storing) == 0)
		queue_node(nt, n);
}

static void queue_event(struct node *dir, enum event_kind kind, uint64_t id, const char *name,
			struct thing t)
{
	struct notifier *nt = dir->fs->notifier;
	struct event *e = NULL;

	if (!node_known(dir))
		return;
	LOCK_SCOPE(&nt->lock);
	if (nt->stop)
		return;
	if (nt->n_events < EVENTS_MAX || kind == EVENT_GONE)
		e = calloc(1, sizeof(*e));
	if (!e) {
		nt->dropped++;
		return;
	}
	e->kind = kind;
	e->dir = node_ref(dir);
	e->id = id;
	e->thing = thing_get(t);
	snprintf(e->name, sizeof(e->name), "%s", name ? name : "");
	*nt->last_event = e;
	nt->last_event = &e->next;
	nt->n_events++;
	nt->queued++;
	pthread_cond_signal(&nt->wake);
}

void notify_child(struct node *dir, uint64_t id, const char *name, struct thing t)
{
	queue_event(dir, EVENT_CHILD, t.kind == THING_NONE ? id : CHILD_ID(thing_number(t)), name,
		    t);
}

void notify_gone(struct node *dir, struct thing t, const char *name)
{
	queue_event(dir, EVENT_GONE, CHILD_ID(thing_number(t)), name, t);
}

void notify_name(struct node *dir, const char *name)
{
	queue_event(dir, EVENT_NAME, 0, name, (struct thing){0});
}

void notify_vcpus(struct node *dir)
{
	struct notifier *nt = dir->fs->notifier;

	if (!node_known(dir))
		return;
	if (node_attr_told(dir))
		wire_forget_attr(dir);
	LOCK_SCOPE(&nt->lock);
	queue_node(nt, dir);
}

void notify_vcpus_seen(struct node *dir)
{
	struct notifier *nt = dir->fs->notifier;
	unsigned count = machine_vcpu_count(dir->m);

	LOCK_SCOPE(&nt->lock);
	if (!dir->shown_set)
		dir->shown = count;
	dir->shown_set = true;
}

void notify_poll_keep(struct handle *h, struct fuse_pollhandle *ph)
{
	struct node *n = h->node;

	LOCK_SCOPE(&n->fs->notifier->lock);
	if (h->poll) {
		wire_poll_free(h->poll);
	} else {
		h->poll_next = n->pollers;
		h->poll_prev = &n->pollers;
		if (n->pollers)
			n->pollers->poll_prev = &h->poll_next;
		n->pollers = h;
	}
	h->poll = ph;
}

void notify_poll_drop(struct handle *h)
{
	LOCK_SCOPE(&h->node->fs->notifier->lock);
	if (!h->poll)
		return;
	unlink_poller(h);
	wire_poll_free(h->poll);
	h->poll = NULL;
}

void notifier_stats(struct notifier *nt, struct notifier_stats *stats)
{
	LOCK_SCOPE(&nt->lock);
	*stats =
	    (struct notifier_stats){.queued = nt->queued, .dropped = nt->dropped, .sent = nt->sent};
}

/* --- what the handlers ask ------------------------------------------------------------ */

bool notifier_is(struct notifier *nt, pid_t pid)
{
	return hand_is(nt->hand, pid);
}

bool notifier_makes(struct notifier *nt, struct node *dir, const char *name)
{
	LOCK_SCOPE(&nt->lock);
	return nt->dir == dir && nt->makes && strcmp(nt->name, name) == 0;
}

struct node *notifier_ghost(struct notifier *nt, struct node *dir, const char *name)
{
	LOCK_SCOPE(&nt->lock);
	if (nt->dir != dir || nt->makes || !nt->ghost || strcmp(nt->name, name) != 0)
		return NULL;
	return node_ref(nt->ghost);
}

/* --- the thread's work, with no lock held --------------------------------------------- */

/* What the handlers find when they meet the hand's requests. */
static void doing(struct notifier *nt, struct node *dir, const char *name, bool makes,
		  struct node *ghost)
{
	LOCK_SCOPE(&nt->lock);
	nt->dir = dir;
	nt->makes = makes;
	nt->ghost = ghost;
	snprintf(nt->name, sizeof(nt->name), "%s", name);
}

static int child_path(struct node *dir, const char *name, char *path, size_t size)
{
	size_t len;
	int r = node_path(dir, path, size);

	if (r < 0)
		return r;
	len = strlen(path);
	if ((size_t)snprintf(path + len, size - len, "%s%s", len ? "/" : "", name) >= size - len)
		return -ENAMETOOLONG;
	return 0;
}

static void tell_made(struct notifier *nt, struct node *dir, const char *name)
{
	char path[1024];

	if (child_path(dir, name, path, sizeof(path)) < 0)
		return;
	doing(nt, dir, name, true, NULL);
	/* Another lookup between the hand's and its mkdir makes the name known again. */
	for (int try = 0; try < 3; try++)
		if (hand_do(nt->hand, HAND_MKDIR, path) != -EEXIST)
			break;
	doing(nt, NULL, "", false, NULL);
}

struct search {
	const struct node *dir;
	const char *name;
	struct node *found; /* a reference */
};

static void match_gone(struct node *n, void *arg)
{
	struct search *s = arg;
	char name[256];

	if (s->found || n->parent != s->dir || n->thing.kind == THING_NONE || thing_alive(n->thing))
		return;
	thing_name(n->thing, name);
	if (strcmp(name, s->name) == 0)
		s->found = node_ref(n);
}

/* The node of what is gone: of volumes and snapshots only the name was told, and their nodes have
 * numbers. */
static struct node *gone_node(struct node *dir, uint64_t id, const char *name)
{
	struct search s = {.dir = dir, .name = name};

	if (dir->row->dir == DIR_VOLUMES && !id)
		nodes_of_thing(dir->fs, thing_of(THING_POOL, dir->pool), match_gone, &s);
	else if (dir->row->dir == DIR_SNAPSHOTS && !id)
		nodes_of_thing(dir->fs, thing_of(THING_MACHINE, dir->m), match_gone, &s);
	else
		return node_find(dir, &node_dir(dir)->child, id, id ? NULL : name);
	return s.found;
}

static void tell_gone(struct notifier *nt, struct node *dir, uint64_t id, const char *name)
{
	const struct row *row = &node_dir(dir)->child;
	_cleanup_node_ struct node *ghost = gone_node(dir, id, name);
	char path[1024];

	if (!ghost) {
		struct child child = {.row = row, .id = id};

		snprintf(child.name, sizeof(child.name), "%s", name);
		ghost = node_get(dir, row, &child);
	}
	if (!ghost || child_path(dir, name, path, sizeof(path)) < 0)
		return;
	scratch_clear(ghost);
	doing(nt, dir, name, false, ghost);
	hand_do(nt->hand, HAND_RMDIR, path);
	doing(nt, NULL, "", false, NULL);
}

/* The kernel looks a name up anew that is to be made; it is there, so nothing is made. */
static void tell_name(struct notifier *nt, struct node *dir, const char *name)
{
	char path[1024];

	if (child_path(dir, name, path, sizeof(path)) == 0)
		hand_do(nt->hand, HAND_MKDIR, path);
}

/* Names are asked for only now: the model may not be asked when it tells of a change. */
static void event_name(const struct event *e, char name[256])
{
	if (e->name[0])
		memcpy(name, e->name, sizeof(e->name));
	else if (e->thing.kind != THING_NONE)
		thing_name(e->thing, name);
	else
		snprintf(name, 256, "%llu", (unsigned long long)(e->id - CHILD_ID(0)));
}

static void tell_event(struct notifier *nt, struct event *e)
{
	const struct dir_ops *ops = node_dir(e->dir)->ops;
	struct child child = {0};
	char name[256];
	bool exists, same;

	event_name(e, name);
	if (e->kind == EVENT_NAME) {
		tell_name(nt, e->dir, name);
		return;
	}
	exists = ops && ops->find(e->dir, name, &child) == 0;
	same = exists && (child.id == e->id || !e->id) && e->kind == EVENT_CHILD;
	child_release(&child);
	if (same)
		tell_made(nt, e->dir, name);
	else if (!exists) /* else another has the name by now, and its maker told of it */
		tell_gone(nt, e->dir, e->id, name);
}

static void tell_vcpus(struct notifier *nt, struct node *dir)
{
	unsigned count = machine_vcpu_count(dir->m);
	unsigned shown;
	char name[16];

	pthread_mutex_lock(&nt->lock);
	shown = dir->shown;
	dir->shown = count;
	pthread_mutex_unlock(&nt->lock);
	for (unsigned i = shown; i < count; i++) {
		snprintf(name, sizeof(name), "%u", i);
		tell_made(nt, dir, name);
	}
	for (unsigned i = shown; i > count; i--) {
		snprintf(name, sizeof(name), "%u", i - 1);
		tell_gone(nt, dir, CHILD_ID(i - 1), name);
	}
}

static void tell_node(struct notifier *nt, struct node *n)
{
	char path[1024];

	if (!node_known(n) || !node_alive(n))
		return;
	if (node_is_dir(n)) {
		tell_vcpus(nt, n);
		return;
	}
	if (node_path(n, path, sizeof(path)) < 0)
		return;
	hand_do(nt->hand, HAND_TOUCH, path);
	if (n->row->kind == &kind_command)
		command_notified(n);
}

/* --- the thread ----------------------------------------------------------------------- */

/* Puts aside what comes next as long as the hand would hang behind a client. With both locks. */
static void hold(struct notifier *nt)
{
	while (nt->events && own_takes_long(nt->events->dir)) {
		struct event *e = nt->events;

		nt->events = e->next;
		if (!nt->events)
			nt->last_event = &nt->events;
		e->next = NULL;
		*nt->last_held_event = e;
		nt->last_held_event = &e->next;
	}
	while (nt->first && own_takes_long(nt->first)) {
		struct node *n = nt->first;

		nt->first = n->queue_next;
		if (!nt->first)
			nt->last = &nt->first;
		n->queue_next = NULL;
		*nt->last_held = n;
		nt->last_held = &n->queue_next;
	}
}

/* Takes one piece of what was queued when the batch began. */
static bool take(struct notifier *nt, struct event **e, struct node **n)
{
	LOCK_SCOPE(&nt->fs->lock);
	LOCK_SCOPE(&nt->lock);
	hold(nt);
	*e = NULL;
	*n = NULL;
	if (nt->stop)
		return false;
	if (nt->events) {
		*e = nt->events;
		nt->events = (*e)->next;
		if (!nt->events)
			nt->last_event = &nt->events;
		nt->n_events--;
	} else if (nt->first) {
		*n = nt->first;
		nt->first = (*n)->queue_next;
		if (!nt->first)
			nt->last = &nt->first;
		(*n)->queued = false;
	} else {
		return false;
	}
	nt->sent++;
	return true;
}

static void run_batch(struct notifier *nt)
{
	struct event *e;
	struct node *n;

	while (take(nt, &e, &n)) {
		if (e) {
			tell_event(nt, e);
			free_event(e);
		} else {
			tell_node(nt, n);
			node_put(n);
		}
	}
}

/* Until something is queued; false at the end. */
static bool wait_for_work(struct notifier *nt, const struct timespec *not_before)
{
	LOCK_SCOPE(&nt->lock);
	while (!nt->stop && !nt->first && !nt->events)
		pthread_cond_wait(&nt->wake, &nt->lock);
	while (!nt->stop && pthread_cond_timedwait(&nt->wake, &nt->lock, not_before) != ETIMEDOUT)
		;
	return !nt->stop;
}

static void *notifier_thread(void *arg)
{
	struct notifier *nt = arg;
	struct timespec next = {0};

	pthread_setname_np(pthread_self(), "notify");
	while (wait_for_work(nt, &next)) {
		run_batch(nt);
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_nsec += BATCH_MS * 1000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_sec++;
			next.tv_nsec -= 1000000000;
		}
	}
	return NULL;
}

int notifier_start(struct notifier *nt)
{
	int r = hand_start(nt->hand);

	if (r < 0)
		return r;
	r = pthread_create(&nt->thread, NULL, notifier_thread, nt);
	nt->started = r == 0;
	return -r;
}

void notifier_stop(struct notifier *nt)
{
	pthread_mutex_lock(&nt->lock);
	nt->stop = true;
	pthread_cond_signal(&nt->wake);
	pthread_mutex_unlock(&nt->lock);
	if (nt->started)
		pthread_join(nt->thread, NULL);
	nt->started = false;
	hand_stop(nt->hand);
}
