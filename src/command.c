// SPDX-License-Identifier: ISC
/* From a line of ctl to a command that runs, its outcome, and the lists of commands. */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "util/cleanup.h"

/* A table of commands; @m of those functions below is NULL for the root's. */
static void table_of(const struct machine *m, const struct command **commands, size_t *n)
{
	*commands = m ? machine_commands : model_commands;
	*n = m ? n_machine_commands : n_model_commands;
}

/* --- understanding a line ---------------------------------------------------------------- */

/* Copies the line without blanks around it. *@job: it had a trailing " &". */
static int trim(const char *line, struct command_call *call, bool *job, struct err *err)
{
	size_t n;

	line += strspn(line, " \t");
	n = strlen(line);
	while (n && strchr(" \t", line[n - 1]))
		n--;
	*job = n >= 2 && line[n - 1] == '&' && strchr(" \t", line[n - 2]);
	if (*job)
		for (n--; n && strchr(" \t", line[n - 1]);)
			n--;
	if (n > COMMAND_LINE_MAX) {
		snprintf(call->line, 32, "%s", line);
		return err_set(err, -EFBIG, "a line of %zu bytes is too long", n);
	}
	memcpy(call->line, line, n);
	call->line[n] = '\0';
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)call->line[i] < 0x20 || call->line[i] == 0x7f) {
			if (call->line[i] != '\t')
				return err_set(err, -EINVAL, "a control character at byte %zu", i);
		}
	return 0;
}

static const struct command *find_command(const struct machine *m, const char *name)
{
	const struct command *commands;
	size_t n;

	table_of(m, &commands, &n);
	for (size_t i = 0; i < n; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int understand(const struct machine *m, const char *line, struct command_call *call,
		      bool *job, struct err *err)
{
	char *save = NULL, *name;
	int r;

	call->n_args = 0;
	call->job = NULL;
	r = trim(line, call, job, err);
	if (r < 0)
		return r;
	strcpy(call->words, call->line);
	name = strtok_r(call->words, " \t", &save);
	call->command = name ? find_command(m, name) : NULL;
	if (!call->command)
		return err_set(err, -EINVAL, "there is no such command; `cat ctl` lists them");
	for (char *word; (word = strtok_r(NULL, " \t", &save));) {
		if (call->n_args == COMMAND_WORDS)
			return err_set(err, -EINVAL, "too many words; usage: %s",
				       call->command->usage);
		call->args[call->n_args++] = word;
	}
	if (call->n_args < call->command->min_args || call->n_args > call->command->max_args)
		return err_set(err, -EINVAL, "usage: %s", call->command->usage);
	return call->command->check ? call->command->check(call, err) : 0;
}

/* --- running it --------------------------------------------------------------------------- */

/* Under m->lock: whether the state permits it. */
static bool permitted(const struct machine *m, const struct command *c)
{
	if (c->needs_no_vmm && m->vmm)
		return false;
	return c->states & IN(m->state) &&
	       (!c->needs_vmm || m->vmm || m->state == MACHINE_STARTING);
}

static int not_permitted(const struct machine *m, const struct command *c, struct err *err)
{
	const char *state = machine_state_name(m->state);

	if (strcmp(c->name, "start") == 0 && m->state == MACHINE_CRASHED)
		return err_set(err, -EBUSY, "it is crashed and preserved: kill it first");
	if (strcmp(c->name, "start") == 0 || strcmp(c->name, "pause") == 0)
		return err_set(err, -EBUSY, "%s %s", m->vmm ? "already" : "it is", state);
	return err_set(err, -EBUSY, "the machine is %s%s", state, m->vmm ? "" : ", not running");
}

static int begin(struct machine *m, const struct command *c, struct err *err)
{
	LOCK_SCOPE(&m->lock);
	if (!m->alive)
		return err_set(err, -ENOENT, "the machine is gone");
	if (c->op && m->op)
		return err_set(
		    err, -EBUSY, "%s %s is under way",
		    m->state == MACHINE_STARTING ? "already starting:" : "another command:", m->op);
	if (!permitted(m, c))
		return not_permitted(m, c, err);
	if (c->op)
		m->op = c->name;
	return 0;
}

static void end(struct machine *m, const struct command *c)
{
	if (!c->op)
		return;
	LOCK_SCOPE(&m->lock);
	m->op = NULL;
	m->reason = NULL;
	pthread_cond_broadcast(&m->cond);
}

int command_execute(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	const struct command *c = call->command;
	int r;

	if (!m)
		return c->run(model, NULL, call, caller, err);
	r = begin(m, c, err);
	if (r < 0)
		return r;
	r = c->run(model, m, call, caller, err);
	end(m, c);
	return r;
}

/* The same for the root's (m NULL) and a machine's lines. */
static int run_line(struct model *model, struct machine *m, const char *line,
		    const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	_cleanup_free_ struct command_call *call = NULL;
	bool job = false;
	int r;

	line += strspn(line, " \t");
	if (!*line || *line == '#')
		return 0;
	call = malloc(sizeof(*call));
	if (!call)
		return err_set(err, -ENOMEM, "out of memory");
	*words = (struct err)ERR_INIT;
	r = understand(m, line, call, &job, words);
	if (r == 0 && job) {
		r = job_start(model, m, call, caller, NULL, words);
		if (r == 0)
			return 0; /* its outcome is the job's */
	} else if (r == 0) {
		r = command_execute(model, m, call, caller, words);
	}
	words->code = r;
	command_event(model, m, call->line, caller, NULL, words);
	if (m)
		machine_outcome(m, call->line, words);
	else
		model_error_set(model, call->line, words);
	return r;
}

int machine_command_run(struct machine *m, const char *line, const struct caller *caller,
			struct err *err)
{
	return run_line(m->model, m, line, caller, err);
}

int model_command_run(struct model *model, const char *line, const struct caller *caller,
		      struct err *err)
{
	return run_line(model, NULL, line, caller, err);
}

/* --- lists ----------------------------------------------------------------------------------- */

static void list_line(const struct command *c, struct strbuf *sb)
{
	strbuf_printf(sb, "# %-20s %s\n", c->usage, c->help);
}

void machine_command_list(struct machine *m, struct strbuf *sb)
{
	LOCK_SCOPE(&m->lock);
	for (size_t i = 0; i < n_machine_commands; i++)
		if (permitted(m, &machine_commands[i]))
			list_line(&machine_commands[i], sb);
}

void model_command_list(struct model *model, struct strbuf *sb)
{
	(void)model;
	for (size_t i = 0; i < n_model_commands; i++)
		list_line(&model_commands[i], sb);
}

void machine_command_help(struct strbuf *sb)
{
	for (size_t i = 0; i < n_machine_commands; i++)
		strbuf_printf(sb, "%s\t%s\n", machine_commands[i].usage, machine_commands[i].help);
}
