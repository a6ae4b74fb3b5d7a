// SPDX-License-Identifier: ISC
/* A machine's disk as the subject of commands (disks/NAME/ctl), and their table. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "disk.h"
#include "util/cleanup.h"
#include "util/size.h"

#define STILL (IN(MACHINE_DEFINED) | IN(MACHINE_STOPPED) | IN(MACHINE_CRASHED))
#define LIVE  (IN(MACHINE_RUNNING) | IN(MACHINE_PAUSED))

static int check_detach(struct command_call *call, struct err *err)
{
	if (call->n_args && strcmp(call->args[0], "force") != 0)
		return err_set(err, -EINVAL, "usage: %s", call->command->usage);
	return 0;
}

static int check_resize(struct command_call *call, struct err *err)
{
	uint64_t bytes;
	int r = size_parse(call->args[0], &bytes);

	if (r == -ERANGE)
		return err_set(err, r, "%.40s is too large", call->args[0]);
	if (r < 0)
		return err_set(err, r, "'%.40s' is not a size (bytes, or as 10G)", call->args[0]);
	if (bytes == 0 || bytes % 512)
		return err_set(err, -EINVAL, "a disk has whole sectors of 512 bytes");
	if (call->n_args > 1 && strcmp(call->args[1], "shrink") != 0)
		return err_set(err, -EINVAL, "usage: %s", call->command->usage);
	return 0;
}

static int run_attach(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	(void)model;
	return disk_attach(m, call->subject.disk, caller->cancel, err);
}

static int run_detach(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	(void)model;
	return disk_detach(m, call->subject.disk, call->n_args > 0, caller->cancel, err);
}

static int run_eject(struct model *model, struct machine *m, struct command_call *call,
		     const struct caller *caller, struct err *err)
{
	(void)model;
	return machine_disk_source_set(m, call->subject.disk, "", NULL, caller, err);
}

static int run_change(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	(void)model;
	return machine_disk_source_set(m, call->subject.disk, call->args[0],
				       call->n_args > 1 ? call->args[1] : NULL, caller, err);
}

static int run_resize(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	uint64_t bytes = 0;

	(void)model;
	size_parse(call->args[0], &bytes); /* checked before */
	return disk_resize(m, call->subject.disk, bytes, call->n_args > 1, caller, err);
}

static const struct command disk_commands[] = {
    {.name = "attach",
     .usage = "attach",
     .help = "plug it into the guest that runs",
     .states = LIVE,
     .needs_vmm = true,
     .run = run_attach},
    {.name = "detach",
     .usage = "detach [force]",
     .help = "unplug it until the next start or `attach`; the guest is asked first, unless forced",
     .states = LIVE,
     .needs_vmm = true,
     .max_args = 1,
     .check = check_detach,
     .run = run_detach},
    {.name = "eject",
     .usage = "eject",
     .help = "take the medium away; the device stays, without a source",
     .states = STILL | LIVE,
     .run = run_eject},
    {.name = "change",
     .usage = "change SOURCE [FORMAT]",
     .help = "another medium, as writing source (and format) does",
     .states = STILL | LIVE,
     .min_args = 1,
     .max_args = 2,
     .run = run_change},
    {.name = "resize",
     .usage = "resize SIZE [shrink]",
     .help = "another size, which a running guest is told; smaller only where you say so",
     .states = STILL | LIVE,
     .op = true,
     .min_args = 1,
     .max_args = 2,
     .check = check_resize,
     .run = run_resize},
};
static const size_t n_disk_commands = nitems(disk_commands);

/* --- the subject ----------------------------------------------------------------------------- */

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

/* --- machine.h ------------------------------------------------------------------------------- */

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
