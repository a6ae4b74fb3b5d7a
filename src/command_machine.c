// SPDX-License-Identifier: ISC
/* A machine as the subject of commands: when they are allowed, and one at a time. */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "util/cleanup.h"

static void get(const struct subject *s)
{
	machine_get(s->m);
}

static void put(const struct subject *s)
{
	machine_put(s->m);
}

static bool alive(const struct subject *s)
{
	return machine_alive(s->m);
}

/* Under m->lock: whether the state permits it. */
static bool permitted(const struct machine *m, const struct command *c)
{
	if (c->ends_start && m->starting)
		return true;
	if (c->needs_no_vmm && m->vmm)
		return false;
	return c->states & IN(m->state) &&
	       (!c->needs_vmm || m->vmm || m->state == MACHINE_STARTING);
}

static bool allowed(const struct subject *s, const struct command *c)
{
	LOCK_SCOPE(&s->m->lock);
	return permitted(s->m, c);
}

static int not_permitted(const struct machine *m, const struct command *c, struct err *err)
{
	const char *state = machine_state_name(m->state);

	if (strcmp(c->name, "start") == 0 && m->state == MACHINE_CRASHED)
		return err_set(err, -EBUSY, "it is crashed and preserved: kill it first");
	if (m->state == MACHINE_SAVED)
		return err_set(err, -EBUSY,
			       "the machine is saved, not running: start lets it go on, discard "
			       "forgets its state");
	if (strcmp(c->name, "start") == 0 || strcmp(c->name, "pause") == 0)
		return err_set(err, -EBUSY, "%s %s", m->vmm ? "already" : "it is", state);
	return err_set(err, -EBUSY, "the machine is %s%s", state, m->vmm ? "" : ", not running");
}

/* Under m->lock: nothing is under way. */
static int is_free(const struct machine *m, struct err *err)
{
	if (!m->op)
		return 0;
	return err_set(
	    err, -EBUSY, "%s %s is under way",
	    m->state == MACHINE_STARTING ? "already starting:" : "another command:", m->op);
}

int machine_op_begin(struct machine *m, const char *op, struct err *err)
{
	int r;

	LOCK_SCOPE(&m->lock);
	r = m->alive ? is_free(m, err) : err_set(err, -ENOENT, "the machine is gone");
	if (r == 0)
		m->op = op;
	return r;
}

void machine_op_end(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	m->op = NULL;
	m->reason = NULL;
	pthread_cond_broadcast(&m->cond);
}

static int begin(const struct subject *s, const struct command *c, struct err *err)
{
	struct machine *m = s->m;

	LOCK_SCOPE(&m->lock);
	if (!m->alive)
		return err_set(err, -ENOENT, "the machine is gone");
	if (c->op && is_free(m, err) < 0)
		return -EBUSY;
	if (!permitted(m, c))
		return not_permitted(m, c, err);
	if (c->op)
		m->op = c->name;
	return 0;
}

static void end(const struct subject *s, const struct command *c)
{
	if (c->op)
		machine_op_end(s->m);
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	machine_outcome(s->m, what, err);
}

static void event(const struct subject *s, struct strbuf *sb)
{
	char name[MACHINE_NAME_MAX + 1];

	machine_name(s->m, name);
	event_text(sb, "machine", name);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	char name[MACHINE_NAME_MAX + 1];

	machine_name(s->m, name);
	strbuf_printf(sb, "machines/%s", name);
}

static void jobs_changed(const struct subject *s)
{
	LOCK_SCOPE(&s->m->lock);
	machine_touch(s->m, ASPECT_JOBS, NULL);
}

const struct subject_ops machine_subject_ops = {
    .commands = machine_commands,
    .n_commands = &n_machine_commands,
    .get = get,
    .put = put,
    .alive = alive,
    .allowed = allowed,
    .begin = begin,
    .end = end,
    .outcome = outcome,
    .event = event,
    .path = path,
    .jobs_changed = jobs_changed,
};

/* --- machine.h ------------------------------------------------------------------------------ */

int machine_command_run(struct machine *m, const char *line, const struct caller *caller,
			struct err *err)
{
	struct subject s = {.kind = SUBJECT_MACHINE, .model = m->model, .m = m};

	return command_run(&s, line, caller, err);
}

void machine_command_list(struct machine *m, struct strbuf *sb)
{
	struct subject s = {.kind = SUBJECT_MACHINE, .model = m->model, .m = m};

	command_list(&s, sb);
}

void machine_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_MACHINE, sb);
}
