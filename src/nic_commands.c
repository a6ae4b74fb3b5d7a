// SPDX-License-Identifier: ISC
/* A machine's network card as the subject of commands (nics/NAME/ctl), and their table. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "nic_int.h"
#include "util/cleanup.h"
#include "util/size.h"

#define LIVE	       (IN(MACHINE_RUNNING) | IN(MACHINE_PAUSED))
#define CAPTURE_PRESET (16ull << 20)
#define CAPTURE_MIN    4096
#define CAPTURE_MAX    (4ull << 30)

static int check_detach(struct command_call *call, struct err *err)
{
	if (call->n_args && strcmp(call->args[0], "force") != 0)
		return err_set(err, -EINVAL, "usage: %s", call->command->usage);
	return 0;
}

/* How much to capture; 0: no more. */
static int capture_bytes(struct command_call *call, uint64_t *bytes, struct err *err)
{
	bool on = strcmp(call->args[0], "on") == 0;
	int r = 0;

	if ((!on && strcmp(call->args[0], "off") != 0) || (!on && call->n_args > 1))
		return err_set(err, -EINVAL, "usage: %s", call->command->usage);
	*bytes = on ? CAPTURE_PRESET : 0;
	if (call->n_args > 1)
		r = size_parse(call->args[1], bytes);
	if (r < 0)
		return err_set(err, r, "'%.40s' is not a size (bytes, or as 10M)", call->args[1]);
	if (on && (*bytes < CAPTURE_MIN || *bytes > CAPTURE_MAX))
		return err_set(err, -ERANGE, "a capture has between 4K and 4G");
	return 0;
}

static int check_capture(struct command_call *call, struct err *err)
{
	uint64_t bytes;

	return capture_bytes(call, &bytes, err);
}

static int run_attach(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	(void)model;
	return nic_attach(m, call->subject.disk, caller->cancel, err);
}

static int run_detach(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	(void)model;
	return nic_detach(m, call->subject.disk, call->n_args > 0, caller->cancel, err);
}

static int run_capture(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err)
{
	uint64_t bytes;
	int r = capture_bytes(call, &bytes, err);

	(void)model, (void)caller;
	return r < 0 ? r : nic_capture(m, call->subject.disk, bytes, err);
}

static const struct command nic_commands[] = {
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
    {.name = "capture",
     .usage = "capture on [SIZE] | off",
     .help = "write its frames to `pcap` from now on, at most SIZE (16M)",
     .states = LIVE,
     .needs_vmm = true,
     .min_args = 1,
     .max_args = 2,
     .check = check_capture,
     .run = run_capture},
};
static const size_t n_nic_commands = nitems(nic_commands);

/* --- the subject ------------------------------------------------------------------------------ */

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
	return machine_alive(s->m) && machine_nic_exists(s->m, s->disk);
}

/* The state that counts is the machine's. */
static bool permitted(const struct machine *m, const struct command *c)
{
	return c->states & IN(m->state) && !(c->needs_vmm && !m->vmm);
}

static bool allowed(const struct subject *s, const struct command *c)
{
	LOCK_SCOPE(&s->m->lock);
	return permitted(s->m, c);
}

static int begin(const struct subject *s, const struct command *c, struct err *err)
{
	struct machine *m = s->m;

	LOCK_SCOPE(&m->lock);
	if (!m->alive || !definition_nic(m->def, s->disk))
		return err_set(err, -ENOENT, "the network card is gone");
	if (!permitted(m, c))
		return err_set(err, -EBUSY, "the machine is %s", machine_state_name(m->state));
	return 0;
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	char words[DISK_NAME_MAX + 96];

	snprintf(words, sizeof(words), "nics/%s: %.80s", s->disk, what);
	machine_outcome(s->m, words, err);
}

static void event(const struct subject *s, struct strbuf *sb)
{
	machine_subject_ops.event(s, sb);
	event_text(sb, "nic", s->disk);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	machine_subject_ops.path(s, sb);
	strbuf_printf(sb, "/nics/%s", s->disk);
}

static void jobs_changed(const struct subject *s)
{
	machine_subject_ops.jobs_changed(s);
}

const struct subject_ops nic_subject_ops = {
    .commands = nic_commands,
    .n_commands = &n_nic_commands,
    .get = get,
    .put = put,
    .alive = alive,
    .allowed = allowed,
    .begin = begin,
    .outcome = outcome,
    .event = event,
    .path = path,
    .jobs_changed = jobs_changed,
};

/* --- nic.h ------------------------------------------------------------------------------------ */

static struct subject subject_of(struct machine *m, const char *nic)
{
	struct subject s = {.kind = SUBJECT_NIC, .model = m->model, .m = m};

	snprintf(s.disk, sizeof(s.disk), "%s", nic);
	return s;
}

int machine_nic_command_run(struct machine *m, const char *nic, const char *line,
			    const struct caller *caller, struct err *err)
{
	struct subject s = subject_of(m, nic);

	return command_run(&s, line, caller, err);
}

void machine_nic_command_list(struct machine *m, const char *nic, struct strbuf *sb)
{
	struct subject s = subject_of(m, nic);

	command_list(&s, sb);
}

void machine_nic_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_NIC, sb);
}
