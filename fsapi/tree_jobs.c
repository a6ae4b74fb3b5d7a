// SPDX-License-Identifier: ISC
/* jobs/ of the root (all) and of a machine (its own): a directory for each long command. */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"
#include "util/size.h"

static int command_show(struct node *n, struct strbuf *sb)
{
	job_command_show(n->job, sb);
	return 0;
}

static int state_show(struct node *n, struct strbuf *sb)
{
	strbuf_puts(sb, job_state_name(job_state(n->job)));
	return 0;
}

static int progress_show(struct node *n, struct strbuf *sb)
{
	job_progress_show(n->job, sb);
	return 0;
}

static int error_show(struct node *n, struct strbuf *sb)
{
	job_error_show(n->job, sb);
	return 0;
}

static int subject_show(struct node *n, struct strbuf *sb)
{
	job_subject_show(n->job, sb);
	return 0;
}

static const struct row job_rows[] = {
    {.name = "command",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_JOB,
     .show = command_show,
     .help = "what it runs"},
    {.name = "subject",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_JOB,
     .flags = ROW_MAY_BE_EMPTY,
     .show = subject_show,
     .help = "what it works on: machines/NAME, pools/NAME/volumes/NAME"},
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_JOB,
     .show = state_show,
     .help = "running done failed cancelled"},
    {.name = "progress",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_JOB,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = progress_show,
     .help = "done= total= unit= percent=, where it can tell"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_JOB,
     .flags = ROW_MAY_BE_EMPTY,
     .show = error_show,
     .help = "why it failed"},
};

/* --- jobs/ ---------------------------------------------------------------------------- */

static struct job *job_named(struct node *dir, const char *name)
{
	uint64_t number;

	if ((name[0] == '0' && name[1]) || uint_parse(name, 0, INT64_MAX, &number) < 0)
		return NULL;
	return model_job_get(dir->fs->model, dir->m, number);
}

static int jobs_find(struct node *dir, const char *name, struct child *child)
{
	struct job *job = job_named(dir, name);

	if (!job)
		return -ENOENT;
	child_of_thing(dir, thing_of(THING_JOB, job), child);
	return 0;
}

static bool jobs_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	struct job *job = model_job_next(dir->fs->model, dir->m, cursor);

	(void)h;
	if (!job)
		return false;
	child_of_thing(dir, thing_of(THING_JOB, job), child);
	return true;
}

static size_t jobs_count(struct node *dir)
{
	uint64_t cursor = 0;
	struct job *job;
	size_t n = 0;

	while ((job = model_job_next(dir->fs->model, dir->m, &cursor))) {
		job_put(job);
		n++;
	}
	return n;
}

static int jobs_remove(struct node *dir, const char *name, const struct caller *caller,
		       struct err *err)
{
	struct job *job = job_named(dir, name);
	int r;

	(void)caller;
	if (!job)
		return err_set(err, -ENOENT, "no job %s", name);
	r = model_job_remove(dir->fs->model, job, err);
	job_put(job);
	return r;
}

static const struct dir_ops jobs_ops = {
    .find = jobs_find,
    .next = jobs_next,
    .count = jobs_count,
    .remove = jobs_remove,
};

int tree_jobs_build(struct dir dirs[DIR_MAX])
{
	dirs[DIR_JOBS].ops = &jobs_ops;
	dirs[DIR_JOBS].child =
	    (struct row){.kind = &kind_dir, .mode = 0755, .aspect = ASPECT_JOB, .dir = DIR_JOB};
	dirs[DIR_JOB].rows = job_rows;
	dirs[DIR_JOB].n_rows = nitems(job_rows);
	dirs[DIR_JOB].title = "A long command.";
	return 0;
}
