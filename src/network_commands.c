// SPDX-License-Identifier: ISC
/* A network as the subject of commands, and their table. */
#include <errno.h>
#include <string.h>

#include "network_int.h"
#include "util/cleanup.h"

static int may_run(struct network *network, const struct caller *caller, struct err *err)
{
	struct machine_access access;

	network_access_get(network, &access);
	if (caller->uid != 0 && caller->uid != geteuid() && caller->uid != access.uid)
		return err_set(err, -EPERM, "only the network's owner does this");
	return 0;
}

static int start(struct model *model, struct machine *m, struct command_call *call,
		 const struct caller *caller, struct err *err)
{
	struct network *network = call->subject.network;
	int r = may_run(network, caller, err);

	(void)model, (void)m;
	if (r < 0)
		return r;
	LOCK_SCOPE(&network->work);
	return network_start(network, caller->cancel, err);
}

static int stop(struct model *model, struct machine *m, struct command_call *call,
		const struct caller *caller, struct err *err)
{
	struct network *network = call->subject.network;
	int r = may_run(network, caller, err);

	(void)model, (void)m;
	if (r < 0)
		return r;
	LOCK_SCOPE(&network->work);
	return network_stop(network, false, err);
}

static const struct command network_commands[] = {
    {.name = "start",
     .usage = "start",
     .help = "make it on the host: bridge, addresses, DHCP; its first machine does so, too",
     .states = IN(NETWORK_STOPPED) | IN(NETWORK_FAILED),
     .run = start},
    {.name = "stop",
     .usage = "stop",
     .help = "take it off the host; not while a machine is connected",
     .states = IN(NETWORK_RUNNING) | IN(NETWORK_FAILED),
     .run = stop},
};
static const size_t n_network_commands = nitems(network_commands);

/* --- the subject ------------------------------------------------------------------------------ */

static void get(const struct subject *s)
{
	network_get(s->network);
}

static void put(const struct subject *s)
{
	network_put(s->network);
}

static bool alive(const struct subject *s)
{
	return network_alive(s->network);
}

static bool allowed(const struct subject *s, const struct command *c)
{
	return c->states & IN(network_state(s->network));
}

static int begin(const struct subject *s, const struct command *c, struct err *err)
{
	LOCK_SCOPE(&s->network->lock);
	if (!s->network->alive)
		return err_set(err, -ENOENT, "the network is gone");
	if (!(c->states & IN(s->network->state)))
		return err_set(err, -EBUSY, "the network is %s",
			       network_state_name(s->network->state));
	return 0;
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	network_outcome(s->network, what, err);
}

static void event(const struct subject *s, struct strbuf *sb)
{
	char name[NETWORK_NAME_MAX + 1];

	network_name(s->network, name);
	event_text(sb, "network", name);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	char name[NETWORK_NAME_MAX + 1];

	network_name(s->network, name);
	strbuf_printf(sb, "networks/%s", name);
}

const struct subject_ops network_subject_ops = {
    .commands = network_commands,
    .n_commands = &n_network_commands,
    .get = get,
    .put = put,
    .alive = alive,
    .allowed = allowed,
    .begin = begin,
    .outcome = outcome,
    .event = event,
    .path = path,
};

/* --- network.h ----------------------------------------------------------------------------------
 */

int network_command_run(struct network *network, const char *line, const struct caller *caller,
			struct err *err)
{
	struct subject s = {.kind = SUBJECT_NETWORK, .model = network->model, .network = network};

	return command_run(&s, line, caller, err);
}

void network_command_list(struct network *network, struct strbuf *sb)
{
	struct subject s = {.kind = SUBJECT_NETWORK, .model = network->model, .network = network};

	command_list(&s, sb);
}

void network_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_NETWORK, sb);
}
