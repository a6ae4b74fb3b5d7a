/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_FAKE_JOBS_H
#define FV_TEST_FAKE_JOBS_H
/* No jobs, for tests of the tree alone. Included by fake_model.h. */
#include "job.h"

const char *job_state_name(enum job_state state)
{
	(void)state;
	return "done";
}

struct job *job_get(struct job *job)
{
	return job;
}

void job_put(struct job *job)
{
	(void)job;
}

struct job *model_job_get(struct model *model, struct machine *m, uint64_t number)
{
	(void)model;
	(void)m;
	(void)number;
	return NULL;
}

struct job *model_job_next(struct model *model, struct machine *m, uint64_t *cursor)
{
	(void)model;
	(void)m;
	(void)cursor;
	return NULL;
}

int model_job_remove(struct model *model, struct job *job, struct err *err)
{
	(void)model;
	(void)job;
	return err_set(err, -ENOENT, "none");
}

uint64_t job_number(const struct job *job)
{
	(void)job;
	return 0;
}

enum job_state job_state(struct job *job)
{
	(void)job;
	return JOB_DONE;
}

struct machine *job_machine(const struct job *job)
{
	(void)job;
	return NULL;
}

uid_t job_uid(const struct job *job)
{
	(void)job;
	return 0;
}

void job_command_show(struct job *job, struct strbuf *sb)
{
	(void)job;
	(void)sb;
}

void job_subject_show(struct job *job, struct strbuf *sb)
{
	(void)job;
	(void)sb;
}

void job_progress_show(struct job *job, struct strbuf *sb)
{
	(void)job;
	(void)sb;
}

void job_error_show(struct job *job, struct strbuf *sb)
{
	(void)job;
	(void)sb;
}

struct timespec job_changed(struct job *job)
{
	(void)job;
	return fake_now();
}

#endif
