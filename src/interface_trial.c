// SPDX-License-Identifier: ISC
/*
 * Changes of the host's interfaces that are tried: whoever cuts off his own ssh has it back when
 * the time is over.
 *
 * Before an interface is changed or removed, what it was is noted: its link, addresses and the
 * routes through it (once: what it became later in the trial is no matter). Before one is made,
 * its name is. The notes are in RUN/interfaces.trial before the kernel is asked, so that the
 * daemon may be killed at any moment: the next one goes on to the same end.
 *
 * Put back, in this order: those made are removed; those removed are made again, over and over
 * until none follows, as one may be over another; then names, masters, mtu, mac, up or down,
 * addresses, and at last routes, which the kernel drops with the interface or the address that
 * they go through. Whatever others did to the host meanwhile stays. What cannot be put back does
 * not keep the rest from being; the first such is in `error`.
 */
#define LOG_MODULE "interface"
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "interfaces_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define TRIAL_FILE  "interfaces.trial"
#define TRIAL_BYTES (8u << 20)
#define NOTES_MAX   256
#define BOOT_ID	    "/proc/sys/kernel/random/boot_id"
#define NS_IN_S	    1000000000ll

enum note_kind { NOTE_WAS, NOTE_MADE };

/* As it is in the file, too: read by a daemon that was built alike, or not at all. */
struct note_head {
	uint32_t kind, n_addresses, n_routes;
	struct host_link link; /* MADE: its name alone */
	char master[IFNAMSIZ], lower[IFNAMSIZ];
};

struct note {
	struct note_head head;
	struct host_address *addresses;
	struct host_route *routes;
};

struct trial_head {
	char magic[8];
	uint32_t note_bytes, address_bytes, route_bytes, n;
	char boot[40];
	int64_t ends; /* ns of CLOCK_BOOTTIME */
};

struct trial {
	struct trial_head head;
	struct note notes[NOTES_MAX];
};

static int64_t boot_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * NS_IN_S + ts.tv_nsec;
}

void trial_free(struct trial *trial)
{
	if (!trial)
		return;
	for (size_t k = 0; k < trial->head.n; k++) {
		free(trial->notes[k].addresses);
		free(trial->notes[k].routes);
	}
	free(trial);
}

static struct trial *trial_new(int64_t ends)
{
	static const struct trial_head empty = {.magic = "fvtrial1",
						.note_bytes = sizeof(struct note_head),
						.address_bytes = sizeof(struct host_address),
						.route_bytes = sizeof(struct host_route)};
	struct trial *trial = calloc(1, sizeof(*trial));
	_cleanup_free_ char *boot = NULL;

	if (!trial)
		return NULL;
	trial->head = empty;
	trial->head.ends = ends;
	if (file_read(AT_FDCWD, BOOT_ID, 100, &boot, NULL) == 0)
		snprintf(trial->head.boot, sizeof(trial->head.boot), "%.36s", boot);
	return trial;
}

/* What is shown of it. */
static void show(struct interfaces *all)
{
	pthread_mutex_lock(&all->lock);
	all->trying = all->trial != NULL;
	if (all->trial) {
		all->trial_ends =
		    time(NULL) + (all->trial->head.ends - boot_now() + NS_IN_S - 1) / NS_IN_S;
		all->trial_changes = all->trial->head.n;
	}
	pthread_mutex_unlock(&all->lock);
	interfaces_tell_ctl(all);
}

/* --- its file ----------------------------------------------------------------------------------
 */

static int save(struct interfaces *all, const struct trial *trial, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r;

	strbuf_add(&sb, &trial->head, sizeof(trial->head));
	for (size_t k = 0; k < trial->head.n; k++) {
		const struct note *note = &trial->notes[k];

		strbuf_add(&sb, &note->head, sizeof(note->head));
		strbuf_add(&sb, note->addresses, note->head.n_addresses * sizeof(*note->addresses));
		strbuf_add(&sb, note->routes, note->head.n_routes * sizeof(*note->routes));
	}
	if (sb.failed)
		return err_set(err, -ENOMEM, "out of memory");
	r = file_replace(all->model->run_fd, TRIAL_FILE, sb.data, sb.len, 0600);
	return r < 0 ? err_set(err, r, "cannot note what there is: %s", strerror(-r)) : 0;
}

struct reader {
	const char *p;
	size_t left;
};

static bool take(struct reader *rd, void *to, size_t len)
{
	if (len > rd->left)
		return false;
	memcpy(to, rd->p, len);
	rd->p += len;
	rd->left -= len;
	return true;
}

static bool take_array(struct reader *rd, void **to, uint32_t n, size_t size)
{
	*to = n && n <= rd->left / size ? malloc(n * size) : NULL;
	return n == 0 || (*to && take(rd, *to, n * size));
}

static void end_texts(struct note_head *head)
{
	head->link.name[IFNAMSIZ - 1] = head->link.kind[HOST_KIND_MAX - 1] = '\0';
	head->link.alias[HOST_ALIAS_MAX - 1] = head->master[IFNAMSIZ - 1] = '\0';
	head->lower[IFNAMSIZ - 1] = '\0';
}

static bool take_note(struct reader *rd, struct note *note)
{
	if (!take(rd, &note->head, sizeof(note->head)))
		return false;
	end_texts(&note->head);
	return take_array(rd, (void **)&note->addresses, note->head.n_addresses,
			  sizeof(*note->addresses)) &&
	       take_array(rd, (void **)&note->routes, note->head.n_routes, sizeof(*note->routes));
}

/* NULL: it is none of this boot and this build. */
static struct trial *parse(const char *text, size_t len)
{
	struct reader rd = {.p = text, .left = len};
	struct trial *trial = trial_new(0);
	struct trial_head head;
	bool good;

	if (!trial)
		return NULL;
	good = take(&rd, &head, sizeof(head)) && head.n <= NOTES_MAX &&
	       memcmp(head.magic, trial->head.magic, sizeof(head.magic)) == 0 &&
	       memcmp(head.boot, trial->head.boot, sizeof(head.boot)) == 0 &&
	       head.note_bytes == trial->head.note_bytes &&
	       head.address_bytes == trial->head.address_bytes &&
	       head.route_bytes == trial->head.route_bytes;
	for (uint32_t k = 0; good && k < head.n; k++)
		good = take_note(&rd, &trial->notes[trial->head.n++]);
	trial->head.ends = head.ends;
	if (good && rd.left == 0)
		return trial;
	trial_free(trial);
	return NULL;
}

void trial_load(struct interfaces *all)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(all->model->run_fd, TRIAL_FILE, TRIAL_BYTES, &text, &len);

	if (r == -ENOENT)
		return;
	all->trial = r == 0 ? parse(text, len) : NULL;
	if (!all->trial) {
		log_warn("changes of interfaces that were tried are not known any more");
		unlinkat(all->model->run_fd, TRIAL_FILE, 0);
	}
	show(all);
}

/* --- noting ------------------------------------------------------------------------------------
 */

struct route_list {
	int index;
	struct host_route *list;
	size_t n;
};

/* Those that the kernel makes by itself, and those that a router tells, come by themselves. */
static int take_route(const struct host_route *route, void *arg)
{
	struct route_list *list = arg;
	struct host_route *more;

	if (route->index != list->index || route->protocol == RTPROT_KERNEL ||
	    route->protocol == RTPROT_RA)
		return 0;
	more = realloc(list->list, (list->n + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	list->list = more;
	list->list[list->n++] = *route;
	return 0;
}

static void name_of(int index, char name[IFNAMSIZ])
{
	struct host_link link;

	*name = '\0';
	if (index && host_link_find(NULL, index, &link) == 0)
		memcpy(name, link.name, IFNAMSIZ);
}

static int describe(const struct host_link *link, struct note *note)
{
	struct address_list addresses;
	struct route_list routes = {.index = link->index};
	int r = addresses_of(link->index, &addresses);

	if (r == 0)
		r = host_routes(take_route, &routes);
	note->head.kind = NOTE_WAS;
	note->head.link = *link;
	name_of(link->master, note->head.master);
	name_of(link->lower, note->head.lower);
	note->addresses = addresses.list;
	note->head.n_addresses = (uint32_t)addresses.n;
	note->routes = routes.list;
	note->head.n_routes = (uint32_t)routes.n;
	return r;
}

static bool has_note(const struct trial *trial, enum note_kind kind, int index, const char *name)
{
	for (size_t k = 0; k < trial->head.n; k++) {
		const struct note_head *head = &trial->notes[k].head;

		if (head->kind == kind && ((index && head->link.index == index) ||
					   (name && strcmp(head->link.name, name) == 0)))
			return true;
	}
	return false;
}

/* Takes what is in @note. */
static int add(struct interfaces *all, struct note *note, struct err *err)
{
	struct trial *trial = all->trial;
	int r = 0;

	if (trial->head.n == NOTES_MAX) {
		r = err_set(err, -ENOSPC, "%d interfaces have changed in this trial: commit them",
			    NOTES_MAX);
	} else {
		trial->notes[trial->head.n++] = *note;
		r = save(all, trial, err);
		if (r < 0)
			trial->head.n--;
	}
	if (r < 0) {
		free(note->addresses);
		free(note->routes);
		return r;
	}
	show(all);
	return 0;
}

int trial_note_was(struct interfaces *all, const struct host_link *link, struct err *err)
{
	struct note note = {0};
	int r;

	if (!all->trial || has_note(all->trial, NOTE_WAS, link->index, link->name) ||
	    has_note(all->trial, NOTE_MADE, 0, link->name))
		return 0;
	r = describe(link, &note);
	if (r < 0) {
		free(note.addresses);
		free(note.routes);
		return err_set(err, r, "cannot note what %s is: %s", link->name, strerror(-r));
	}
	return add(all, &note, err);
}

int trial_note_made(struct interfaces *all, const char *name, struct err *err)
{
	struct note note = {.head = {.kind = NOTE_MADE}};

	if (!all->trial || has_note(all->trial, NOTE_MADE, 0, name))
		return 0;
	snprintf(note.head.link.name, sizeof(note.head.link.name), "%s", name);
	return add(all, &note, err);
}

/* --- putting back ------------------------------------------------------------------------------
 */

/* The first thing that went wrong is what is told. */
static void went_wrong(int *first, struct err *err, int r, const char *name, const struct err *why)
{
	log_warn("%s is not put back: %s", name, why->text);
	if (*first == 0)
		*first = err_set(err, r, "%s is not put back: %s", name, why->text);
}

static void remove_made(struct interfaces *all, int *first, struct err *err)
{
	const struct trial *trial = all->trial;

	for (size_t k = trial->head.n; k > 0; k--) {
		const struct note_head *head = &trial->notes[k - 1].head;
		struct err why = ERR_INIT;
		struct host_link link;
		int r;

		if (head->kind != NOTE_MADE || host_link_find(head->link.name, 0, &link) < 0 ||
		    !interfaces_made(all, &link) || has_note(trial, NOTE_WAS, link.index, NULL))
			continue;
		r = host_link_remove(link.index, &why);
		if (r < 0 && r != -ENODEV)
			went_wrong(first, err, r, link.name, &why);
	}
}

/* By its number, or one of ours that has its name. */
static int find(struct interfaces *all, const struct note_head *head, struct host_link *link)
{
	int r = host_link_find(NULL, head->link.index, link);

	if (r == 0)
		return 0;
	r = host_link_find(head->link.name, 0, link);
	return r == 0 && !interfaces_made(all, link) ? -EEXIST : r;
}

/* Makes those that are missing; whether any was made. */
static bool make_missing(struct interfaces *all, bool last, int *first, struct err *err)
{
	bool some = false;

	for (size_t k = 0; k < all->trial->head.n; k++) {
		const struct note_head *head = &all->trial->notes[k].head;
		struct err why = ERR_INIT;
		struct host_link link;
		int r;

		if (head->kind != NOTE_WAS || find(all, head, &link) != -ENODEV)
			continue;
		if (strcmp(head->link.alias, all->alias) != 0)
			r = err_set(&why, -ENODEV, "it has vanished");
		else
			r = interface_make(all, interface_type(&head->link), head->link.name,
					   head->lower, head->link.vlan, &why);
		some = some || r >= 0;
		if (r < 0 && last)
			went_wrong(first, err, r, head->link.name, &why);
	}
	return some;
}

static void set_one(int *first, struct err *err, const struct host_link *link,
		    const struct host_link_set *set)
{
	struct err why = ERR_INIT;
	int r = host_link_set(link->index, set, &why);

	if (r < 0)
		went_wrong(first, err, r, link->name, &why);
}

static void put_name(const struct note_head *head, struct host_link *link, int *first,
		     struct err *err)
{
	struct host_link_set down = HOST_LINK_SET, set = HOST_LINK_SET;

	if (strcmp(link->name, head->link.name) == 0)
		return;
	set.name = head->link.name;
	if (host_link_set(link->index, &set, NULL) < 0) {
		down.up = 0;
		host_link_set(link->index, &down, NULL);
		set_one(first, err, link, &set);
	}
}

static void put_master(const struct note_head *head, const struct host_link *link, int *first,
		       struct err *err)
{
	struct host_link_set set = HOST_LINK_SET, down = HOST_LINK_SET;
	struct host_link master = {0};

	if (*head->master && host_link_find(head->master, 0, &master) < 0) {
		struct err why = ERR_INIT;

		err_set(&why, -ENODEV, "there is no %s any more", head->master);
		went_wrong(first, err, -ENODEV, link->name, &why);
		return;
	}
	if (link->master == master.index)
		return;
	down.up = 0;
	if (strcmp(master.kind, "bond") == 0)
		host_link_set(link->index, &down, NULL);
	set.master = master.index;
	set_one(first, err, link, &set);
}

/* Some cards take another mac only while they are down. */
static void put_mac(const struct note_head *head, const struct host_link *link, int *first,
		    struct err *err)
{
	struct host_link_set set = HOST_LINK_SET, down = HOST_LINK_SET;
	static const uint8_t none[6];

	if (memcmp(link->mac, head->link.mac, sizeof(link->mac)) == 0 ||
	    memcmp(head->link.mac, none, sizeof(none)) == 0)
		return;
	set.mac = head->link.mac;
	if (host_link_set(link->index, &set, NULL) == 0)
		return;
	down.up = 0;
	host_link_set(link->index, &down, NULL);
	set_one(first, err, link, &set);
}

static void put_link(const struct note_head *head, const struct host_link *link, int *first,
		     struct err *err)
{
	struct host_link_set mtu = HOST_LINK_SET, up = HOST_LINK_SET;

	put_master(head, link, first, err);
	mtu.mtu = head->link.mtu;
	if (link->mtu != head->link.mtu)
		set_one(first, err, link, &mtu);
	put_mac(head, link, first, err);
	up.up = (head->link.flags & IFF_UP) != 0;
	set_one(first, err, link, &up);
}

static bool among(const struct host_address *address, const struct host_address *list, size_t n)
{
	for (size_t k = 0; k < n; k++)
		if (address_same(address, &list[k]))
			return true;
	return false;
}

static void put_addresses(const struct note *note, const struct host_link *link, int *first,
			  struct err *err)
{
	struct address_list now;
	struct err why = ERR_INIT;

	if (addresses_of(link->index, &now) < 0)
		now.n = 0;
	for (size_t k = 0; k < now.n; k++)
		if (!address_of_link(&now.list[k]) &&
		    !among(&now.list[k], note->addresses, note->head.n_addresses))
			host_address_remove(&now.list[k], NULL);
	/* Each, as the kernel may have removed one with another. */
	for (size_t k = 0; k < note->head.n_addresses; k++) {
		struct host_address address = note->addresses[k];
		int r;

		address.index = link->index;
		r = address_of_link(&address) ? 0 : host_address_add(&address, &why);
		if (r < 0 && r != -EEXIST)
			went_wrong(first, err, r, link->name, &why);
	}
	free(now.list);
}

/* The way to a router is before what lies behind it: once more for those that came too early. */
static void put_routes(const struct note *note, const struct host_link *link, int *first,
		       struct err *err)
{
	for (int round = 0; round < 2; round++)
		for (size_t k = 0; k < note->head.n_routes; k++) {
			struct host_route route = note->routes[k];
			struct err why = ERR_INIT;
			int r;

			route.index = link->index;
			r = host_route_add(&route, &why);
			if (r < 0 && r != -EEXIST && round == 1)
				went_wrong(first, err, r, link->name, &why);
		}
}

enum step { STEP_NAME, STEP_LINK, STEP_ADDRESSES, STEP_ROUTES, STEPS };

static void put_step(struct interfaces *all, enum step step, int *first, struct err *err)
{
	for (size_t k = 0; k < all->trial->head.n; k++) {
		const struct note *note = &all->trial->notes[k];
		struct host_link link;

		if (note->head.kind != NOTE_WAS || find(all, &note->head, &link) < 0)
			continue;
		switch (step) {
		case STEP_NAME:
			put_name(&note->head, &link, first, err);
			break;
		case STEP_LINK:
			put_link(&note->head, &link, first, err);
			break;
		case STEP_ADDRESSES:
			put_addresses(note, &link, first, err);
			break;
		case STEP_ROUTES:
			if (note->head.link.flags & IFF_UP)
				put_routes(note, &link, first, err);
			break;
		case STEPS:
			break;
		}
	}
}

static void end_trial(struct interfaces *all)
{
	unlinkat(all->model->run_fd, TRIAL_FILE, 0);
	trial_free(take_ptr(all->trial));
	show(all);
}

int trial_undo(struct interfaces *all, struct err *err)
{
	char count[24];
	int first = 0;

	snprintf(count, sizeof(count), "%u", all->trial->head.n);
	remove_made(all, &first, err);
	while (make_missing(all, false, &first, err))
		;
	make_missing(all, true, &first, err);
	put_step(all, STEP_NAME, &(int){-1}, NULL); /* two may have each other's */
	for (enum step step = STEP_NAME; step < STEPS; step++)
		put_step(all, step, &first, err);
	end_trial(all);
	interfaces_look(all);
	interfaces_event(all, "interfaces-put-back", NULL, "changes", count, NULL);
	return first;
}

/* --- beginning and end -------------------------------------------------------------------------
 */

int trial_begin(struct interfaces *all, unsigned seconds, struct err *err)
{
	struct trial *trial;
	int r;

	if (all->trial)
		return err_set(err, -EBUSY, "changes are being tried: commit or undo them first");
	trial = trial_new(boot_now() + seconds * NS_IN_S);
	if (!trial)
		return err_set(err, -ENOMEM, "out of memory");
	r = save(all, trial, err);
	if (r < 0) {
		trial_free(trial);
		return r;
	}
	all->trial = trial;
	show(all);
	interfaces_wake(all);
	return 0;
}

int trial_commit(struct interfaces *all, struct err *err)
{
	if (!all->trial)
		return err_set(err, -EBUSY, "nothing is being tried");
	if (unlinkat(all->model->run_fd, TRIAL_FILE, 0) < 0 && errno != ENOENT)
		return err_set(err, -errno, "%s: %m", TRIAL_FILE);
	end_trial(all);
	return 0;
}

int trial_wait_ms(struct interfaces *all)
{
	int64_t left;

	LOCK_SCOPE(&all->work);
	if (!all->trial)
		return -1;
	left = (all->trial->head.ends - boot_now()) / 1000000 + 1;
	return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

void trial_check(struct interfaces *all)
{
	struct err err = ERR_INIT;
	uint32_t n;

	if (!all->trial || boot_now() < all->trial->head.ends)
		return;
	n = all->trial->head.n;
	if (trial_undo(all, &err) == 0)
		err_set(&err, -ETIMEDOUT, "no commit came in time: what was tried (%u) is put back",
			n);
	interfaces_outcome(all, "commit-within", &err);
}
