// SPDX-License-Identifier: ISC
/* A machine's disk as the subject of commands (disks/NAME/ctl), and their table. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "util/cleanup.h"

static const struct command disk_commands[] = {};
static const size_t n_disk_commands = nitems(disk_commands);

/* --- the subject ---------------------------------------------------------------------------- */

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
	return machine_alive(s->m) && machine_disk_exists(s->m, s->disk);
}

/* The state that counts is the machine's. */
static bool permitted(const struct machine *m, const struct command *c)
{
	return c->states & IN(m->state) && !(c->needs_vmm && !m->vmm) &&
	       !(c->needs_no_vmm && m->vmm);
}

static bool allowed(const struct subject *s, const struct command *c)
{
	LOCK_SCOPE(&s->m->lock);
	return permitted(s->m, c);
}

/* Of the commands marked so one at a time on the whole machine. */
static int begin(const struct subject *s, const struct command *c, struct err *err)
{
	struct machine *m = s->m;

	LOCK_SCOPE(&m->lock);
	if (!m->alive || !definition_disk(m->def, s->disk))
		return err_set(err, -ENOENT, "the disk is gone");
	if (c->op && m->op)
		return err_set(err, -EBUSY, "another command: %s is under way", m->op);
	if (!permitted(m, c))
		return err_set(err, -EBUSY, "the machine is %s", machine_state_name(m->state));
	if (c->op)
		m->op = c->name;
	return 0;
}

static void end(const struct subject *s, const struct command *c)
{
	if (!c->op)
		return;
	LOCK_SCOPE(&s->m->lock);
	s->m->op = NULL;
	s->m->reason = NULL;
	pthread_cond_broadcast(&s->m->cond);
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	char words[DISK_NAME_MAX + 96];

	snprintf(words, sizeof(words), "disks/%s: %.80s", s->disk, what);
	machine_outcome(s->m, words, err);
}

static void event(const struct subject *s, struct strbuf *sb)
{
	machine_subject_ops.event(s, sb);
	event_text(sb, "disk", s->disk);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	machine_subject_ops.path(s, sb);
	strbuf_printf(sb, "/disks/%s", s->disk);
}

static void jobs_changed(const struct subject *s)
{
	machine_subject_ops.jobs_changed(s);
}

const struct subject_ops disk_subject_ops = {
    .commands = disk_commands,
    .n_commands = &n_disk_commands,
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

static struct subject subject_of(struct machine *m, const char *disk)
{
	struct subject s = {.kind = SUBJECT_DISK, .model = m->model, .m = m};

	snprintf(s.disk, sizeof(s.disk), "%s", disk);
	return s;
}

int machine_disk_command_run(struct machine *m, const char *disk, const char *line,
			     const struct caller *caller, struct err *err)
{
	struct subject s = subject_of(m, disk);

	return command_run(&s, line, caller, err);
}

void machine_disk_command_list(struct machine *m, const char *disk, struct strbuf *sb)
{
	struct subject s = subject_of(m, disk);

	command_list(&s, sb);
}

void machine_disk_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_DISK, sb);
}
