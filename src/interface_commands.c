// SPDX-License-Identifier: ISC
/* The host's interfaces as the subject of commands, and their table. */
#include <errno.h>
#include <stdio.h>

#include "interfaces_int.h"
#include "util/cleanup.h"
#include "util/size.h"

enum { NOT_TRYING, TRYING };

static int seconds_of(const char *text, uint64_t *seconds, struct err *err)
{
	int r = uint_parse(text, 1, TRIAL_SECONDS_MAX, seconds);

	return r < 0 ? err_set(err, r, "'%.40s': it is within 1 to %d seconds", text,
			       TRIAL_SECONDS_MAX)
		     : 0;
}

static int check_within(struct command_call *call, struct err *err)
{
	uint64_t seconds;

	return seconds_of(call->args[0], &seconds, err);
}

static int commit_within(struct model *model, struct machine *m, struct command_call *call,
			 const struct caller *caller, struct err *err)
{
	struct interfaces *all = model->interfaces;
	uint64_t seconds = 0;
	int r = interfaces_may(caller, err);

	(void)m;
	if (r == 0)
		r = seconds_of(call->args[0], &seconds, err);
	if (r < 0)
		return r;
	LOCK_SCOPE(&all->work);
	return trial_begin(all, (unsigned)seconds, err);
}

static int commit(struct model *model, struct machine *m, struct command_call *call,
		  const struct caller *caller, struct err *err)
{
	struct interfaces *all = model->interfaces;
	int r = interfaces_may(caller, err);

	(void)m, (void)call;
	if (r < 0)
		return r;
	LOCK_SCOPE(&all->work);
	return trial_commit(all, err);
}

static int undo(struct model *model, struct machine *m, struct command_call *call,
		const struct caller *caller, struct err *err)
{
	struct interfaces *all = model->interfaces;
	int r = interfaces_may(caller, err);

	(void)m, (void)call;
	if (r < 0)
		return r;
	LOCK_SCOPE(&all->work);
	if (!all->trial)
		return err_set(err, -EBUSY, "nothing is being tried");
	return trial_undo(all, err);
}

static const struct command interfaces_commands[] = {
    {.name = "commit-within",
     .usage = "commit-within SECONDS",
     .help = "changes from now on are put back then, unless `commit` comes before",
     .states = IN(NOT_TRYING),
     .min_args = 1,
     .max_args = 1,
     .check = check_within,
     .run = commit_within},
    {.name = "commit",
     .usage = "commit",
     .help = "keep what was changed since commit-within",
     .states = IN(TRYING),
     .run = commit},
    {.name = "undo", .usage = "undo", .help = "put it back now", .states = IN(TRYING), .run = undo},
};
static const size_t n_interfaces_commands = nitems(interfaces_commands);

static bool allowed(const struct subject *s, const struct command *c)
{
	LOCK_SCOPE(&s->model->interfaces->lock);
	return c->states & IN(s->model->interfaces->trying ? TRYING : NOT_TRYING);
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	interfaces_outcome(s->model->interfaces, what, err);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	(void)s;
	strbuf_puts(sb, "host/interfaces");
}

const struct subject_ops interfaces_subject_ops = {
    .commands = interfaces_commands,
    .n_commands = &n_interfaces_commands,
    .allowed = allowed,
    .outcome = outcome,
    .path = path,
};

/* --- interfaces.h ------------------------------------------------------------------------------
 */

int interfaces_command_run(struct model *model, const char *line, const struct caller *caller,
			   struct err *err)
{
	struct subject s = {.kind = SUBJECT_INTERFACES, .model = model};

	return command_run(&s, line, caller, err);
}

void interfaces_command_list(struct model *model, struct strbuf *sb)
{
	struct subject s = {.kind = SUBJECT_INTERFACES, .model = model};

	command_list(&s, sb);
}

void interfaces_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_INTERFACES, sb);
}
