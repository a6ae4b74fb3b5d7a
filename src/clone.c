// SPDX-License-Identifier: ISC
/*
 * `clone NEW [COUNT] [KEY=VALUE…]`: new machines that go on from a snapshot or from a
 * machine as it is now, all of them or none.
 *
 *	order    what is written is understood, and names are reserved
 *	source   what they come from is frozen at one instant (clone_source.c)
 *	make     they are defined, each with layers of its own over the frozen disks
 *		 (clone_make.c)
 *	start    where there is memory to go on from, each has a VMM (clone_start.c)
 *
 * They belong to the caller. Without memory they are defined, and not started.
 */
#include <errno.h>
#include <string.h>

#include "clone_int.h"
#include "paths.h"
#include "spare.h"
#include "util/cleanup.h"

/* All behind the command's name. */
static const char *words_of(const struct command_call *call)
{
	const char *p = call->line + strcspn(call->line, " \t");

	return p + strspn(p, " \t");
}

/* What the new machines are to be: refused where a write of it would be. */
static int make_definition(struct clones *c)
{
	int r;

	c->def = definition_copy(c->source.def);
	if (!c->def)
		return err_set(c->err, -ENOMEM, "out of memory");
	r = clone_order_apply(&c->order, c->def, c->source.resumed, c->err);
	if (r == 0)
		r = paths_check(c->model, c->def, c->source.def, c->caller, c->err);
	return r == 0 ? clone_may(c) : r;
}

static int make_all(struct clones *c)
{
	int r;

	spares_hold(c->model->spares);
	r = clone_source_begin(c);

	if (r == 0)
		r = make_definition(c);
	if (r == 0)
		r = clones_reserve(c);
	if (r == 0)
		r = clone_source_open(c);
	if (r == 0)
		r = clones_make(c);
	if (r == 0)
		r = clones_start(c);
	if (r < 0)
		clones_unmake(c);
	clones_free(c);
	clone_source_free(c);
	spares_let_go(c->model->spares);
	return r;
}

static int make_clones(struct clones *c, const struct command_call *call)
{
	int r = clone_order_parse(words_of(call), &c->order, c->err);

	if (r == 0)
		return make_all(c);
	clone_order_free(&c->order);
	return r;
}

int lifecycle_clone(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	struct clones c = {
	    .model = model, .caller = caller, .job = call->job, .err = err, .source.m = m};

	return make_clones(&c, call);
}

int snapshot_clone(struct snapshot *s, struct command_call *call, const struct caller *caller,
		   struct err *err)
{
	struct clones c = {.model = s->m->model,
			   .caller = caller,
			   .job = call->job,
			   .err = err,
			   .source.m = s->m,
			   .source.snapshot = s};

	return make_clones(&c, call);
}
