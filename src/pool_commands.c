// SPDX-License-Identifier: ISC
/* A pool as the subject of commands, and their table. */
#include <errno.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"

static int refresh(struct model *model, struct machine *m, struct command_call *call,
		   const struct caller *caller, struct err *err)
{
	(void)model, (void)m;
	return pool_refresh(call->subject.pool, true, caller->cancel, err);
}

static const struct command pool_commands[] = {
    {.name = "refresh",
     .usage = "refresh",
     .help = "ask its storage now; done when it has answered",
     .states = IN(POOL_ACTIVE) | IN(POOL_FAILED),
     .run = refresh},
};
static const size_t n_pool_commands = nitems(pool_commands);

/* --- the subject ------------------------------------------------------------------------------ */

static void get(const struct subject *s)
{
	pool_get(s->pool);
}

static void put(const struct subject *s)
{
	pool_put(s->pool);
}

static bool alive(const struct subject *s)
{
	return pool_alive(s->pool);
}

static bool allowed(const struct subject *s, const struct command *c)
{
	LOCK_SCOPE(&s->pool->lock);
	return c->states & IN(s->pool->state);
}

static int begin(const struct subject *s, const struct command *c, struct err *err)
{
	LOCK_SCOPE(&s->pool->lock);
	if (!s->pool->alive)
		return err_set(err, -ENOENT, "the pool is gone");
	if (!(c->states & IN(s->pool->state)))
		return err_set(err, -EBUSY, "the pool is %s", pool_state_name(s->pool->state));
	return 0;
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	pool_outcome(s->pool, what, err);
}

static void event(const struct subject *s, struct strbuf *sb)
{
	char name[POOL_NAME_MAX + 1];

	pool_name(s->pool, name);
	event_text(sb, "pool", name);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	char name[POOL_NAME_MAX + 1];

	pool_name(s->pool, name);
	strbuf_printf(sb, "pools/%s", name);
}

const struct subject_ops pool_subject_ops = {
    .commands = pool_commands,
    .n_commands = &n_pool_commands,
    .get = get,
    .put = put,
    .alive = alive,
    .allowed = allowed,
    .begin = begin,
    .outcome = outcome,
    .event = event,
    .path = path,
};

/* --- pool.h ----------------------------------------------------------------------------------- */

int pool_command_run(struct pool *pool, const char *line, const struct caller *caller,
		     struct err *err)
{
	struct subject s = {.kind = SUBJECT_POOL, .model = pool->model, .pool = pool};

	return command_run(&s, line, caller, err);
}

void pool_command_list(struct pool *pool, struct strbuf *sb)
{
	struct subject s = {.kind = SUBJECT_POOL, .model = pool->model, .pool = pool};

	command_list(&s, sb);
}

void pool_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_POOL, sb);
}
