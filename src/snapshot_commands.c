// SPDX-License-Identifier: ISC
/*
 * A snapshot as the subject of commands, with their table; and what mkdir(2), rmdir(2) and
 * rename(2) do to snapshots.
 */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "snapshot_int.h"
#include "util/cleanup.h"

/* --- the table --------------------------------------------------------------------------------
 */

static int run_restore(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err)
{
	int r = machine_op_begin(m, "restore", err);

	(void)model;
	if (r < 0)
		return r;
	r = snapshot_restore(call->subject.snapshot, call->job, caller->cancel, err);
	machine_op_end(m);
	return r;
}

static int run_clone(struct model *model, struct machine *m, struct command_call *call,
		     const struct caller *caller, struct err *err)
{
	(void)model, (void)m;
	return snapshot_clone(call->subject.snapshot, call, caller, err);
}

static int run_archive(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err)
{
	(void)model, (void)m;
	return snapshot_archive(call->subject.snapshot, call->job, caller->cancel, err);
}

#define NOT_MIGRATING                                                                              \
	(IN(MACHINE_DEFINED) | IN(MACHINE_RUNNING) | IN(MACHINE_PAUSED) | IN(MACHINE_SAVED) |      \
	 IN(MACHINE_STOPPED) | IN(MACHINE_CRASHED))
#define EVERY_STATE (IN(MACHINE_STATE_MAX) - 1)

static const struct command snapshot_commands[] = {
    {.name = "restore",
     .usage = "restore",
     .help = "the machine goes on from here: what it is now is lost",
     .states = NOT_MIGRATING,
     .op = true,
     .run = run_restore},
    {.name = "clone",
     .usage = "clone NEW [COUNT] [KEY=VALUE…]",
     .help = "new machines that go on from here, NEW or NEW1 … NEWCOUNT",
     .states = EVERY_STATE,
     .min_args = 1,
     .max_args = COMMAND_WORDS,
     .run = run_clone},
    {.name = "archive",
     .usage = "archive",
     .help = "make the file `archive`: all of it in one",
     .states = EVERY_STATE,
     .op = true,
     .run = run_archive},
};
static const size_t n_snapshot_commands = nitems(snapshot_commands);

/* --- the subject ------------------------------------------------------------------------------
 */

static void get(const struct subject *s)
{
	snapshot_get(s->snapshot);
}

static void put(const struct subject *s)
{
	snapshot_put(s->snapshot);
}

static bool alive(const struct subject *s)
{
	return snapshot_alive(s->snapshot);
}

static bool allowed(const struct subject *s, const struct command *c)
{
	unsigned state = IN(machine_state(s->m));

	LOCK_SCOPE(&s->snapshot->lock);
	return s->snapshot->alive && c->states & state && !(c->op && s->snapshot->op);
}

static int begin(const struct subject *s, const struct command *c, struct err *err)
{
	enum machine_state state = machine_state(s->m);
	int r;

	if (!(c->states & IN(state)))
		return err_set(err, -EBUSY, "the machine is %s", machine_state_name(state));
	r = snapshot_use(s->snapshot, err);
	if (r == 0 && c->op) {
		r = snapshot_claim(s->snapshot, c->name, err);
		if (r < 0)
			snapshot_unuse(s->snapshot);
		else
			tell_snapshot(s->snapshot, SNAPSHOT_COMMANDS);
	}
	return r;
}

static void end(const struct subject *s, const struct command *c)
{
	if (c->op) {
		snapshot_unclaim(s->snapshot);
		tell_snapshot(s->snapshot, SNAPSHOT_COMMANDS);
	}
	snapshot_unuse(s->snapshot);
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	snapshot_error_set(s->snapshot, what, err);
}

static void event(const struct subject *s, struct strbuf *sb)
{
	char name[SNAPSHOT_NAME_MAX + 1];

	machine_subject_ops.event(s, sb);
	snapshot_name(s->snapshot, name);
	event_text(sb, "snapshot", name);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	char name[SNAPSHOT_NAME_MAX + 1];

	machine_subject_ops.path(s, sb);
	snapshot_name(s->snapshot, name);
	strbuf_printf(sb, "/snapshots/%s", name);
}

const struct subject_ops snapshot_subject_ops = {
    .commands = snapshot_commands,
    .n_commands = &n_snapshot_commands,
    .get = get,
    .put = put,
    .alive = alive,
    .allowed = allowed,
    .begin = begin,
    .end = end,
    .outcome = outcome,
    .event = event,
    .path = path,
};

static struct subject subject_of(struct snapshot *s)
{
	return (struct subject){
	    .kind = SUBJECT_SNAPSHOT, .model = s->m->model, .m = s->m, .snapshot = s};
}

int snapshot_command_run(struct snapshot *s, const char *line, const struct caller *caller,
			 struct err *err)
{
	struct subject subject = subject_of(s);

	return command_run(&subject, line, caller, err);
}

void snapshot_command_list(struct snapshot *s, struct strbuf *sb)
{
	struct subject subject = subject_of(s);

	command_list(&subject, sb);
}

void snapshot_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_SNAPSHOT, sb);
}

/* --- mkdir -------------------------------------------------------------------------------------
 */

static const struct command *machine_command(const char *name)
{
	for (size_t i = 0; i < n_machine_commands; i++)
		if (strcmp(machine_commands[i].name, name) == 0)
			return &machine_commands[i];
	return NULL;
}

/* `snapshot NAME` as a job, and its end. */
static int make_by_job(struct machine *m, const char *name, const struct caller *caller,
		       struct err *err)
{
	_cleanup_free_ struct command_call *call = calloc(1, sizeof(*call));
	struct job *job = NULL;
	int r;

	if (!call)
		return err_set(err, -ENOMEM, "out of memory");
	call->command = machine_command("snapshot");
	snprintf(call->line, sizeof(call->line), "snapshot %s", name);
	strcpy(call->words, name);
	call->args[0] = call->words;
	call->n_args = 1;
	call->subject = (struct subject){.kind = SUBJECT_MACHINE, .model = m->model, .m = m};
	r = job_start(call, caller, &job, err);
	if (r == 0) {
		r = job_wait(job, caller->cancel, err);
		job_put(job);
	}
	return r;
}

int machine_snapshot_make(struct machine *m, const char *name, const struct caller *caller,
			  struct snapshot **s, struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	int r = snapshots_reserve(m, name, words); /* what is refused at once is no job */

	if (r == 0) {
		snapshots_unreserve(m, name);
		r = make_by_job(m, name, caller, words);
	}
	words->code = r;
	machine_outcome(m, "mkdir", words);
	if (r == 0 && s) {
		*s = machine_snapshot_get(m, name);
		if (!*s)
			return err_set(err, -ENOENT, "it was removed at once");
	}
	return r;
}

/* --- rmdir -------------------------------------------------------------------------------------
 */

static int claim_removal(struct snapshot *s, struct err *err)
{
	LOCK_SCOPE(&s->lock);
	if (!s->alive)
		return err_set(err, -ENOENT, "the snapshot is gone");
	if (s->op)
		return err_set(err, -EBUSY, "%s is under way", s->op);
	if (s->users)
		return err_set(err, -EBUSY,
			       "it is in use: a clone, an archive or another snapshot is made "
			       "from it");
	s->op = "rmdir";
	return 0;
}

/* Those that were taken after it are now after the one before it. */
static int hand_on_children(struct snapshot *s, struct err *err)
{
	uint64_t cursor = 0;
	struct snapshot *child;
	int r = 0;

	while (r == 0 && (child = machine_snapshot_next(s->m, &cursor))) {
		bool mine;

		pthread_mutex_lock(&child->lock);
		mine = strcmp(child->parent, s->id) == 0;
		if (mine)
			strcpy(child->parent, s->parent);
		pthread_mutex_unlock(&child->lock);
		if (mine) {
			r = snapshot_store_meta(child, err);
			tell_snapshot(child, SNAPSHOT_PARENT);
		}
		snapshot_put(child);
	}
	return r;
}

static int take_out(struct snapshot *s, struct err *err)
{
	_cleanup_close_ int parent = snapshots_dir(s->m, false);
	int r;

	if (parent < 0)
		return err_set(err, parent, "snapshots: %s", strerror(-parent));
	LOCK_SCOPE(&s->m->edit);
	r = snapshot_store_remove(s, parent, err);
	if (r == 0)
		snapshots_remove(s);
	return r;
}

void snapshots_tell_sizes(struct machine *m)
{
	uint64_t cursor = 0;
	struct snapshot *s;

	while ((s = machine_snapshot_next(m, &cursor))) {
		tell_snapshot(s, SNAPSHOT_SIZE);
		snapshot_put(s);
	}
}

static int remove_it(struct machine *m, struct snapshot *s, const struct caller *caller,
		     struct err *err)
{
	struct subject subject = subject_of(s);
	int r = claim_removal(s, err);

	if (r < 0)
		return r;
	r = hand_on_children(s, err);
	if (r == 0)
		r = machine_layers_parent(m, s->id, s->parent, err);
	if (r == 0)
		r = take_out(s, err);
	if (r < 0) {
		snapshot_unclaim(s);
		return r;
	}
	snapshot_event(s, "snapshot-removed", NULL, caller);
	jobs_drop(m->model->jobs, &subject);
	snapshot_store_sweep(s);
	layer_set_put(m->model, &s->layers);
	if (s->memory)
		memory_map_put(m->model, s->memory);
	layers_tidy(m);
	snapshots_tell_sizes(m);
	return 0;
}

int machine_snapshot_remove(struct machine *m, struct snapshot *s, const struct caller *caller,
			    struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	int r = remove_it(m, s, caller, words);

	words->code = r;
	if (r < 0)
		snapshot_error_set(s, "rmdir", words);
	return r;
}

/* --- rename ------------------------------------------------------------------------------------
 */

/* Under m->edit, the new name is reserved. */
static int rename_it(struct snapshot *s, int parent, const char *old, const char *name,
		     struct err *err)
{
	struct machine *m = s->m;
	int r;

	if (!snapshot_alive(s))
		return err_set(err, -ENOENT, "the snapshot is gone");
	r = snapshot_store_rename(s, parent, name, err);
	if (r < 0)
		return r;
	LOCK_SCOPE(&m->lock);
	pthread_mutex_lock(&s->lock);
	strcpy(s->name, name);
	pthread_mutex_unlock(&s->lock);
	machine_touch(m, ASPECT_SNAPSHOTS, old);
	machine_touch(m, ASPECT_SNAPSHOTS, name);
	return 0;
}

static void tell_children(struct snapshot *s)
{
	uint64_t cursor = 0;
	struct snapshot *child;

	while ((child = machine_snapshot_next(s->m, &cursor))) {
		bool mine;

		pthread_mutex_lock(&child->lock);
		mine = strcmp(child->parent, s->id) == 0;
		pthread_mutex_unlock(&child->lock);
		if (mine)
			tell_snapshot(child, SNAPSHOT_PARENT);
		snapshot_put(child);
	}
}

int machine_snapshot_rename(struct machine *m, struct snapshot *s, const char *name,
			    struct err *err)
{
	_cleanup_close_ int parent = snapshots_dir(m, false);
	char old[SNAPSHOT_NAME_MAX + 1];
	int r;

	snapshot_name(s, old);
	if (strcmp(old, name) == 0)
		return 0;
	if (parent < 0)
		return err_set(err, parent, "snapshots: %s", strerror(-parent));
	r = snapshots_reserve(m, name, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->edit);
	snapshot_name(s, old);
	r = rename_it(s, parent, old, name, err);
	pthread_mutex_unlock(&m->edit);
	snapshots_unreserve(m, name);
	if (r < 0)
		return r;
	snapshot_event(s, "snapshot-renamed", old, NULL);
	tell_children(s);
	return 0;
}
