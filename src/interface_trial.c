// SPDX-License-Identifier: ISC
/*
 * Changes of the host's interfaces that are tried: whoever cuts off his own ssh has it back when
 * the time is over.
 *
 * Before an interface is changed or removed, what it was is noted: its link, addresses and the
 * routes through it (once: what it became later in the trial is no matter). Before one is made,
 * its name is. The notes are in RUN/interfaces.trial before the kernel is asked, so that the
 * daemon may be killed at any moment: the next one goes on to the same end.
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
#define BOOT_ID	    "/proc/sys/kernel/random/boot_id"
#define NS_IN_S	    1000000000ll

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
	struct trial_head head = {.ends = 0};
	bool good;

	if (!trial)
		return NULL;
	good = take(&rd, &head, sizeof(head)) && head.n <= NOTES_MAX && head.ends >= 0 &&
	       head.ends <= boot_now() + TRIAL_SECONDS_MAX * NS_IN_S &&
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

bool trial_has_note(const struct trial *trial, enum note_kind kind, int index, const char *name)
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

	if (!all->trial || trial_has_note(all->trial, NOTE_WAS, link->index, link->name) ||
	    trial_has_note(all->trial, NOTE_MADE, 0, link->name))
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

	if (!all->trial || trial_has_note(all->trial, NOTE_MADE, 0, name))
		return 0;
	snprintf(note.head.link.name, sizeof(note.head.link.name), "%s", name);
	return add(all, &note, err);
}

/* --- beginning and end -------------------------------------------------------------------------
 */

void trial_end(struct interfaces *all)
{
	unlinkat(all->model->run_fd, TRIAL_FILE, 0);
	trial_free(take_ptr(all->trial));
	show(all);
}

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
	trial_end(all);
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
