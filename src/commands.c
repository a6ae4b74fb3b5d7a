// SPDX-License-Identifier: ISC
/* The tables of commands, of machines and of the root, and those that wait. */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "snapshot_int.h"
#include "util/cleanup.h"
#include "util/size.h"

#define SECONDS_MAX 1000000000 /* some 30 years */

static int check_seconds(const char *text, uint64_t *seconds, struct err *err)
{
	int r = uint_parse(text, 0, SECONDS_MAX, seconds);

	if (r == -ERANGE)
		return err_set(err, r, "%.40s seconds are too many", text);
	return r < 0 ? err_set(err, r, "'%.40s' is no number of seconds", text) : 0;
}

static int check_optional_seconds(struct command_call *call, struct err *err)
{
	uint64_t seconds;

	return call->n_args ? check_seconds(call->args[0], &seconds, err) : 0;
}

/* --- wait ---------------------------------------------------------------------------------- */

static int find_state(const char *name)
{
	for (int s = 0; s < MACHINE_STATE_MAX; s++)
		if (strcmp(name, machine_state_name((enum machine_state)s)) == 0)
			return s;
	return -EINVAL;
}

static int check_wait(struct command_call *call, struct err *err)
{
	uint64_t seconds;

	if (find_state(call->args[0]) < 0)
		return err_set(err, -EINVAL, "'%.40s' is no state", call->args[0]);
	return check_seconds(call->args[1], &seconds, err);
}

/*
 * A state that came and went since counts, too: who waits for `running` has
 * seen it, however soon the guest ended.
 */
static int wait_state(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	enum machine_state wanted = (enum machine_state)find_state(call->args[0]);
	struct timespec deadline;
	uint64_t seconds = 0, entered;
	int r = check_seconds(call->args[1], &seconds, err);

	(void)model;
	deadline = deadline_in_ms(seconds * 1000);
	machine_cancel_wakes(m, caller->cancel);
	pthread_mutex_lock(&m->lock);
	entered = m->entered[wanted];
	while (r == 0 && m->state != wanted && m->entered[wanted] == entered) {
		if (!m->alive)
			r = err_set(err, -ENOENT, "the machine is gone");
		else if (cancel_requested(caller->cancel))
			r = err_set(err, -ECANCELED, "ended before it was so");
		else if (machine_wait(m, &deadline) < 0 && m->state != wanted &&
			 m->entered[wanted] == entered)
			r = err_set(err, -ETIMEDOUT, "it is %s", machine_state_name(m->state));
	}
	pthread_mutex_unlock(&m->lock);
	machine_cancel_wakes(NULL, caller->cancel);
	return r;
}

/* --- the root's ------------------------------------------------------------------------------ */

struct stop_list {
	struct job **jobs;
	size_t n;
};

/* A job for each machine that runs. */
static int stop_each(struct model *model, const char *seconds, const struct caller *caller,
		     struct stop_list *list, struct err *err)
{
	struct command_call *call = calloc(1, sizeof(*call));
	uint64_t cursor = 0;
	struct machine *next;
	int r = call ? 0 : err_set(err, -ENOMEM, "out of memory");

	while (r == 0 && (next = model_machine_next(model, &cursor))) {
		_cleanup_machine_ struct machine *m = next;
		struct job **more;

		if (!machine_has_vmm(m))
			continue;
		more = realloc(list->jobs, (list->n + 1) * sizeof(*more));
		if (!more) {
			r = err_set(err, -ENOMEM, "out of memory");
			break;
		}
		list->jobs = more;
		for (size_t i = 0; i < n_machine_commands; i++)
			if (strcmp(machine_commands[i].name, "stop") == 0)
				call->command = &machine_commands[i];
		snprintf(call->line, sizeof(call->line), "stop%s%.20s", *seconds ? " " : "",
			 seconds);
		snprintf(call->words, sizeof(call->words), "%.20s", seconds);
		call->args[0] = call->words;
		call->n_args = *seconds ? 1 : 0;
		call->subject = (struct subject){.kind = SUBJECT_MACHINE, .model = model, .m = m};
		r = job_start(call, caller, &list->jobs[list->n], err);
		if (r == 0)
			list->n++;
	}
	free(call);
	return r;
}

static int stop_all(struct model *model, struct machine *none, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	const char *seconds = call->n_args ? call->args[0] : "";
	struct stop_list list = {0};
	int r = stop_each(model, seconds, caller, &list, err);
	size_t failed = 0;

	(void)none;
	for (size_t i = 0; i < list.n; i++) {
		struct err ignored;

		job_progress(call->job, i, list.n, "machines");
		failed += job_wait(list.jobs[i], caller->cancel, &ignored) < 0;
		job_put(list.jobs[i]);
	}
	job_progress(call->job, list.n, list.n, "machines");
	free(list.jobs);
	if (r == 0 && cancel_requested(caller->cancel))
		return err_set(err, -ECANCELED, "ended before all had stopped");
	if (r == 0 && failed)
		return err_set(err, -EBUSY, "%zu of %zu machines did not stop: see their jobs",
			       failed, list.n);
	return r;
}

static int clear_jobs(struct model *model, struct machine *none, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	(void)none, (void)call, (void)caller, (void)err;
	jobs_clear(model);
	return 0;
}

/* --- the tables ------------------------------------------------------------------------------ */

#define EVERY_STATE ((1u << MACHINE_STATE_MAX) - 1)

const struct command machine_commands[] = {
    {.name = "start",
     .usage = "start",
     .help = "run it; done when its vcpus run",
     .states = IN(MACHINE_DEFINED) | IN(MACHINE_STOPPED) | IN(MACHINE_CRASHED) | IN(MACHINE_SAVED),
     .op = true,
     .needs_no_vmm = true,
     .run = lifecycle_start},
    {.name = "stop",
     .usage = "stop [SECONDS]",
     .help = "press the power button; kill it after SECONDS, else stop_timeout_s",
     .states = IN(MACHINE_RUNNING),
     .op = true,
     .needs_vmm = true,
     .max_args = 1,
     .check = check_optional_seconds,
     .run = lifecycle_stop},
    {.name = "kill",
     .usage = "kill",
     .help = "pull the plug",
     .states =
	 IN(MACHINE_STARTING) | IN(MACHINE_RUNNING) | IN(MACHINE_PAUSED) | IN(MACHINE_CRASHED),
     .needs_vmm = true,
     .ends_start = true,
     .run = lifecycle_kill},
    {.name = "reset",
     .usage = "reset",
     .help = "press the reset button",
     .states = IN(MACHINE_RUNNING),
     .op = true,
     .needs_vmm = true,
     .run = lifecycle_reset},
    {.name = "pause",
     .usage = "pause",
     .help = "let it stand still",
     .states = IN(MACHINE_RUNNING),
     .op = true,
     .needs_vmm = true,
     .run = lifecycle_pause},
    {.name = "resume",
     .usage = "resume",
     .help = "let it go on",
     .states = IN(MACHINE_PAUSED),
     .op = true,
     .needs_vmm = true,
     .run = lifecycle_resume},
    {.name = "save",
     .usage = "save",
     .help = "stop it with all its state on disk; start goes on from there",
     .states = IN(MACHINE_RUNNING) | IN(MACHINE_PAUSED),
     .op = true,
     .needs_vmm = true,
     .run = lifecycle_save},
    {.name = "snapshot",
     .usage = "snapshot NAME",
     .help = "keep memory and disks as they are now in snapshots/NAME; it goes on",
     .states = IN(MACHINE_DEFINED) | IN(MACHINE_RUNNING) | IN(MACHINE_PAUSED) |
	       IN(MACHINE_STOPPED) | IN(MACHINE_CRASHED),
     .min_args = 1,
     .max_args = 1,
     .run = lifecycle_snapshot},
    {.name = "clone",
     .usage = "clone NEW [COUNT] [KEY=VALUE…]",
     .help = "new machines that go on from where it is now, NEW or NEW1 … NEWCOUNT",
     .states = IN(MACHINE_DEFINED) | IN(MACHINE_RUNNING) | IN(MACHINE_PAUSED) | IN(MACHINE_SAVED) |
	       IN(MACHINE_STOPPED) | IN(MACHINE_CRASHED),
     .min_args = 1,
     .max_args = COMMAND_WORDS,
     .run = lifecycle_clone},
    {.name = "discard",
     .usage = "discard",
     .help = "forget its saved state",
     .states = IN(MACHINE_SAVED),
     .op = true,
     .needs_no_vmm = true,
     .run = lifecycle_discard},
    {.name = "wait",
     .usage = "wait STATE SECONDS",
     .help = "done when it comes to that state; ETIMEDOUT after SECONDS",
     .states = EVERY_STATE,
     .min_args = 2,
     .max_args = 2,
     .check = check_wait,
     .run = wait_state},
};
const size_t n_machine_commands = nitems(machine_commands);

const struct command model_commands[] = {
    {.name = "stop-all",
     .usage = "stop-all [SECONDS]",
     .help = "stop every machine that runs, all at once; done when they have stopped",
     .max_args = 1,
     .check = check_optional_seconds,
     .run = stop_all},
    {.name = "clear-jobs",
     .usage = "clear-jobs",
     .help = "forget the jobs that have ended",
     .run = clear_jobs},
};
const size_t n_model_commands = nitems(model_commands);

/* --- the root as a subject ------------------------------------------------------------------- */

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	model_error_set(s->model, what, err);
}

const struct subject_ops model_subject_ops = {
    .commands = model_commands, .n_commands = &n_model_commands, .outcome = outcome};

int model_command_run(struct model *model, const char *line, const struct caller *caller,
		      struct err *err)
{
	struct subject s = {.kind = SUBJECT_MODEL, .model = model};

	return command_run(&s, line, caller, err);
}

void model_command_list(struct model *model, struct strbuf *sb)
{
	struct subject s = {.kind = SUBJECT_MODEL, .model = model};

	command_list(&s, sb);
}
