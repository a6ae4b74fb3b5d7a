// SPDX-License-Identifier: ISC
/* A volume as the subject of commands, and their table. What they do is in volume_work.c. */
#include <errno.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"

/* What a command needs, as bits of its `states`. */
enum { ANY_FORMAT, QCOW2_ONLY, WITH_BACKING, FILES_ONLY };

static const struct command volume_commands[] = {
    {.name = "resize",
     .usage = "resize SIZE [shrink]",
     .help = "another size; less than now only with `shrink`: what is beyond is lost",
     .states = IN(ANY_FORMAT),
     .min_args = 1,
     .max_args = 2,
     .run = volume_resize},
    {.name = "check",
     .usage = "check",
     .help = "look for damage; what was found is in `info`",
     .states = IN(QCOW2_ONLY),
     .op = true,
     .run = volume_check},
    {.name = "repair",
     .usage = "repair [leaks|all]",
     .help = "give back lost space; `all` (the default) mends damage, too",
     .states = IN(QCOW2_ONLY),
     .op = true,
     .max_args = 1,
     .run = volume_repair},
    {.name = "commit",
     .usage = "commit",
     .help = "write what it holds into the volume that it is over",
     .states = IN(WITH_BACKING),
     .op = true,
     .run = volume_commit},
    {.name = "rebase",
     .usage = "rebase BACKING|none [unsafe]",
     .help = "be over something else, content kept; `unsafe` changes the name only",
     .states = IN(QCOW2_ONLY),
     .op = true,
     .min_args = 1,
     .max_args = 2,
     .run = volume_rebase},
    {.name = "convert",
     .usage = "convert FORMAT [compress] [KEY=VALUE…]",
     .help = "another format or other options, in place, over nothing",
     .states = IN(FILES_ONLY),
     .op = true,
     .min_args = 1,
     .max_args = COMMAND_WORDS,
     .run = volume_convert},
    {.name = "copy",
     .usage = "copy POOL/VOLUME [compress]",
     .help = "its content into a new volume, in that one's format",
     .states = IN(ANY_FORMAT),
     .op = true,
     .min_args = 1,
     .max_args = 2,
     .run = volume_copy},
    {.name = "snapshot",
     .usage = "snapshot NAME",
     .help = "keep its content as of now inside the image",
     .states = IN(QCOW2_ONLY),
     .op = true,
     .min_args = 1,
     .max_args = 1,
     .run = volume_snapshot},
    {.name = "snapshot-apply",
     .usage = "snapshot-apply NAME",
     .help = "back to that content",
     .states = IN(QCOW2_ONLY),
     .op = true,
     .min_args = 1,
     .max_args = 1,
     .run = volume_snapshot_apply},
    {.name = "snapshot-delete",
     .usage = "snapshot-delete NAME",
     .help = "forget that content",
     .states = IN(QCOW2_ONLY),
     .op = true,
     .min_args = 1,
     .max_args = 1,
     .run = volume_snapshot_delete},
};
static const size_t n_volume_commands = nitems(volume_commands);

/* --- the subject --------------------------------------------------------------------------------
 */

static void get(const struct subject *s)
{
	volume_get(s->volume);
}

static void put(const struct subject *s)
{
	volume_put(s->volume);
}

static bool alive(const struct subject *s)
{
	return volume_alive(s->volume);
}

/* Under pool.lock. */
static int fits(const struct volume *v, const struct command *c, struct err *err)
{
	const struct storage_type *type = v->pool->type;

	if (v->meta.unmade)
		return err_set(err, -EINVAL, "it has no size yet");
	if (c->states & IN(FILES_ONLY) && !type->rename)
		return err_set(err, -EOPNOTSUPP, "volumes of a pool of type %s are raw",
			       type->name);
	if (c->states & (IN(QCOW2_ONLY) | IN(WITH_BACKING)) && v->meta.format != IMAGE_QCOW2)
		return err_set(err, -EOPNOTSUPP, "its format is raw: that is for qcow2");
	if (c->states & IN(WITH_BACKING) && !v->look.below)
		return err_set(err, -EINVAL, "it is over nothing");
	return 0;
}

static bool allowed(const struct subject *s, const struct command *c)
{
	struct volume *v = s->volume;

	LOCK_SCOPE(&v->pool->lock);
	return v->alive && fits(v, c, NULL) == 0 && !(c->op && (v->op || volume_used(v, true)));
}

static int begin(const struct subject *s, const struct command *c, struct err *err)
{
	struct volume *v = s->volume;
	int r;

	pthread_mutex_lock(&v->pool->lock);
	r = v->alive ? fits(v, c, err) : err_set(err, -ENOENT, "the volume is gone");
	pthread_mutex_unlock(&v->pool->lock);
	return r == 0 && c->op ? volume_claim(v, c->name, err) : r;
}

static void end(const struct subject *s, const struct command *c)
{
	if (c->op)
		volume_unclaim(s->volume);
}

static void outcome(const struct subject *s, const char *what, const struct err *err)
{
	volume_outcome(s->volume, what, err);
}

static void event(const struct subject *s, struct strbuf *sb)
{
	pool_subject_ops.event(s, sb);
	event_text(sb, "volume", s->volume->meta.name);
}

static void path(const struct subject *s, struct strbuf *sb)
{
	pool_subject_ops.path(s, sb);
	strbuf_printf(sb, "/volumes/%s", s->volume->meta.name);
}

const struct subject_ops volume_subject_ops = {
    .commands = volume_commands,
    .n_commands = &n_volume_commands,
    .get = get,
    .put = put,
    .alive = alive,
    .allowed = allowed,
    .begin = begin,
    .end = end,
    .outcome = outcome,
    .event = event,
    .path = path,
};

/* --- pool.h
 * --------------------------------------------------------------------------------------- */

static struct subject subject_of(struct volume *v)
{
	return (struct subject){
	    .kind = SUBJECT_VOLUME, .model = v->pool->model, .pool = v->pool, .volume = v};
}

int volume_command_run(struct volume *v, const char *line, const struct caller *caller,
		       struct err *err)
{
	struct subject s = subject_of(v);

	return command_run(&s, line, caller, err);
}

void volume_command_list(struct volume *v, struct strbuf *sb)
{
	struct subject s = subject_of(v);

	command_list(&s, sb);
}

void volume_command_help(struct strbuf *sb)
{
	command_help(SUBJECT_VOLUME, sb);
}
