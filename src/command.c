// SPDX-License-Identifier: ISC
/* From a line of ctl to a command that runs, its outcome, and the lists of commands. */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "util/cleanup.h"

/* --- subjects ----------------------------------------------------------------------------- */

static const struct subject_ops *const ops_of_kind[SUBJECT_KIND_MAX] = {
    [SUBJECT_MODEL] = &model_subject_ops,
    [SUBJECT_MACHINE] = &machine_subject_ops,
    [SUBJECT_DISK] = &disk_subject_ops,
    [SUBJECT_POOL] = &pool_subject_ops,
    [SUBJECT_VOLUME] = &volume_subject_ops,
    [SUBJECT_SNAPSHOT] = &snapshot_subject_ops,
    [SUBJECT_NETWORK] = &network_subject_ops,
    [SUBJECT_NIC] = &nic_subject_ops,
    [SUBJECT_INTERFACES] = &interfaces_subject_ops,
};

const struct subject_ops *subject_ops(const struct subject *s)
{
	return ops_of_kind[s->kind];
}

void subject_get(const struct subject *s)
{
	if (subject_ops(s)->get)
		subject_ops(s)->get(s);
}

void subject_put(const struct subject *s)
{
	if (subject_ops(s)->put)
		subject_ops(s)->put(s);
}

bool subject_alive(const struct subject *s)
{
	return !subject_ops(s)->alive || subject_ops(s)->alive(s);
}

bool subject_within(const struct subject *s, const struct subject *of)
{
	switch (of->kind) {
	case SUBJECT_MODEL:
		return true;
	case SUBJECT_MACHINE:
		return s->m == of->m;
	case SUBJECT_DISK:
		return s->kind == SUBJECT_DISK && s->m == of->m && strcmp(s->disk, of->disk) == 0;
	case SUBJECT_NIC:
		return s->kind == SUBJECT_NIC && s->m == of->m && strcmp(s->disk, of->disk) == 0;
	case SUBJECT_POOL:
		return s->pool == of->pool;
	case SUBJECT_VOLUME:
		return s->volume == of->volume;
	case SUBJECT_SNAPSHOT:
		return s->snapshot == of->snapshot;
	case SUBJECT_NETWORK:
		return s->network == of->network;
	case SUBJECT_INTERFACES:
		return s->kind == SUBJECT_INTERFACES;
	case SUBJECT_KIND_MAX:
		break;
	}
	return false;
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

static const struct command *find_command(const struct subject_ops *ops, const char *name)
{
	for (size_t i = 0; i < *ops->n_commands; i++)
		if (strcmp(ops->commands[i].name, name) == 0)
			return &ops->commands[i];
	return NULL;
}

static int understand(const struct subject *subject, const char *line, struct command_call *call,
		      bool *job, struct err *err)
{
	char *save = NULL, *name;
	int r;

	call->subject = *subject;
	call->n_args = 0;
	call->job = NULL;
	r = trim(line, call, job, err);
	if (r < 0)
		return r;
	strcpy(call->words, call->line);
	name = strtok_r(call->words, " \t", &save);
	call->command = name ? find_command(subject_ops(subject), name) : NULL;
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

int command_execute(struct command_call *call, const struct caller *caller, struct err *err)
{
	const struct subject_ops *ops = subject_ops(&call->subject);
	int r = ops->begin ? ops->begin(&call->subject, call->command, err) : 0;

	if (r < 0)
		return r;
	r = call->command->run(call->subject.model, call->subject.m, call, caller, err);
	if (ops->end)
		ops->end(&call->subject, call->command);
	return r;
}

int command_run(const struct subject *subject, const char *line, const struct caller *caller,
		struct err *err)
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
	r = understand(subject, line, call, &job, words);
	if (r == 0 && job) {
		r = job_start(call, caller, NULL, words);
		if (r == 0)
			return 0; /* its outcome is the job's */
	} else if (r == 0) {
		r = command_execute(call, caller, words);
	}
	words->code = r;
	command_event(subject, call->line, caller, NULL, words);
	subject_ops(subject)->outcome(subject, call->line, words);
	return r;
}

/* --- lists ----------------------------------------------------------------------------------- */

void command_list(const struct subject *subject, struct strbuf *sb)
{
	const struct subject_ops *ops = subject_ops(subject);

	for (size_t i = 0; i < *ops->n_commands; i++) {
		const struct command *c = &ops->commands[i];

		if (!ops->allowed || ops->allowed(subject, c))
			strbuf_printf(sb, "# %-20s %s\n", c->usage, c->help);
	}
}

void command_help(enum subject_kind kind, struct strbuf *sb)
{
	const struct subject_ops *ops = ops_of_kind[kind];

	for (size_t i = 0; i < *ops->n_commands; i++)
		strbuf_printf(sb, "%s\t%s\n", ops->commands[i].usage, ops->commands[i].help);
}
