// SPDX-License-Identifier: ISC
/*
 * Jobs: commands that run on a thread of their own. A job is in the list from its
 * start until it is removed; a few that ended are kept to be looked at.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "util/cleanup.h"

#define JOBS_RUNNING_MAX  1024
#define JOBS_FINISHED_MAX 100
#define JOB_STACK	  (512u << 10)

struct job {
	atomic_uint refs;
	struct model *model;
	uint64_t number;
	struct command_call call; /* a reference to its subject */
	struct caller caller;	  /* its groups are the job's own */
	struct cancel cancel;

	/* jobs.lock: */
	enum job_state state;
	bool unwanted; /* goes when it has ended */
	bool listed;
	struct err err;
	struct timespec changed;
	uint64_t done, total;
	const char *unit;
};

struct jobs {
	struct model *model;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t ended; /* a job ended */
	struct job **list;    /* by number; a reference each */
	size_t n, cap;
	size_t n_running, n_threads;
	uint64_t last_number;
	bool stopping;
};

static const char *const state_names[JOB_STATE_MAX] = {
    [JOB_RUNNING] = "running",
    [JOB_DONE] = "done",
    [JOB_FAILED] = "failed",
    [JOB_CANCELLED] = "cancelled",
};

const char *job_state_name(enum job_state state)
{
	return state_names[state];
}

/* --- references ----------------------------------------------------------------------------- */

struct job *job_get(struct job *job)
{
	atomic_fetch_add(&job->refs, 1);
	return job;
}

void job_put(struct job *job)
{
	if (!job || atomic_fetch_sub(&job->refs, 1) != 1)
		return;
	subject_put(&job->call.subject);
	free((gid_t *)job->caller.groups);
	cancel_destroy(&job->cancel);
	free(job);
}

static struct job *job_new(const struct command_call *call, const struct caller *caller)
{
	struct job *job = calloc(1, sizeof(*job));
	gid_t *groups = calloc(caller->n_groups + 1, sizeof(*groups));

	if (!job || !groups) {
		free(job);
		free(groups);
		return NULL;
	}
	atomic_init(&job->refs, 1);
	job->model = call->subject.model;
	job->call = *call;
	subject_get(&call->subject);
	for (unsigned i = 0; i < call->n_args; i++)
		job->call.args[i] = job->call.words + (call->args[i] - call->words);
	job->call.job = job;
	if (caller->n_groups)
		memcpy(groups, caller->groups, caller->n_groups * sizeof(*groups));
	cancel_init(&job->cancel);
	job->caller = *caller;
	job->caller.groups = groups;
	job->caller.cancel = &job->cancel;
	job->changed = time_now();
	return job;
}

/* --- the list: all under jobs.lock ------------------------------------------------------------ */

static size_t lower_bound(const struct jobs *jobs, uint64_t number)
{
	size_t low = 0, high = jobs->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (jobs->list[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void touch_subject(struct job *job)
{
	const struct subject *s = &job->call.subject;

	if (subject_ops(s)->jobs_changed)
		subject_ops(s)->jobs_changed(s);
}

/* Those of a machine's disks are the machine's. */
static bool is_of(const struct job *job, const struct machine *m)
{
	return !m || job->call.subject.m == m;
}

static void unlist(struct jobs *jobs, struct job *job)
{
	size_t i = lower_bound(jobs, job->number);

	memmove(&jobs->list[i], &jobs->list[i + 1], (jobs->n - i - 1) * sizeof(*jobs->list));
	jobs->n--;
	job->listed = false;
	tell_job(jobs->model, job, JOB_NEWS_REMOVED);
	job_put(job);
}

static int enlist(struct jobs *jobs, struct job *job)
{
	if (jobs->stopping)
		return -ECANCELED;
	if (jobs->n_running >= JOBS_RUNNING_MAX)
		return -ENOSPC;
	if (jobs->n == jobs->cap) {
		size_t cap = jobs->cap ? jobs->cap * 2 : 16;
		struct job **list = realloc(jobs->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		jobs->list = list;
		jobs->cap = cap;
	}
	job->number = ++jobs->last_number;
	job->listed = true;
	jobs->list[jobs->n++] = job_get(job);
	jobs->n_running++;
	jobs->n_threads++;
	return 0;
}

/* The oldest that ended go. */
static void trim(struct jobs *jobs)
{
	size_t finished = jobs->n - jobs->n_running;

	for (size_t i = 0; i < jobs->n && finished > JOBS_FINISHED_MAX;) {
		if (jobs->list[i]->state == JOB_RUNNING) {
			i++;
			continue;
		}
		unlist(jobs, jobs->list[i]);
		finished--;
	}
}

/* --- running ------------------------------------------------------------------------------------
 */

static void finish(struct job *job, const struct err *err)
{
	struct jobs *jobs = job->model->jobs;
	bool alive = subject_alive(&job->call.subject);

	command_event(&job->call.subject, job->call.line, &job->caller, job, err);
	LOCK_SCOPE(&jobs->lock);
	job->err = *err;
	job->state = err->code == 0	       ? JOB_DONE
		     : err->code == -ECANCELED ? JOB_CANCELLED
					       : JOB_FAILED;
	job->changed = time_now();
	tell_job(job->model, job, JOB_NEWS_CHANGED);
	jobs->n_running--;
	if (job->unwanted || !alive)
		unlist(jobs, job);
	trim(jobs);
	pthread_cond_broadcast(&jobs->ended);
}

static void *job_thread(void *arg)
{
	struct job *job = arg;
	struct model *model = job->model;
	struct err err = ERR_INIT;
	char name[16];

	snprintf(name, sizeof(name), "job/%llu", (unsigned long long)job->number);
	pthread_setname_np(pthread_self(), name);
	err.code = command_execute(&job->call, &job->caller, &err);
	finish(job, &err);
	touch_subject(job);
	job_put(job);
	/* the last that this thread does with anything of the model */
	LOCK_SCOPE(&model->jobs->lock);
	model->jobs->n_threads--;
	pthread_cond_broadcast(&model->jobs->ended);
	return NULL;
}

static int run_thread(struct job *job)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, JOB_STACK);
	r = -pthread_create(&thread, &attr, job_thread, job);
	pthread_attr_destroy(&attr);
	return r;
}

int job_start(const struct command_call *call, const struct caller *caller, struct job **out,
	      struct err *err)
{
	struct model *model = call->subject.model;
	struct job *job = job_new(call, caller);
	struct jobs *jobs = model->jobs;
	int r;

	if (!job)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&jobs->lock);
	r = enlist(jobs, job);
	if (r == 0) {
		tell_job(model, job, JOB_NEWS_ADDED);
		job_get(job); /* the thread's */
		r = run_thread(job);
		if (r < 0) {
			jobs->n_running--;
			jobs->n_threads--;
			job->state = JOB_FAILED;
			unlist(jobs, job);
			job_put(job);
		}
	}
	pthread_mutex_unlock(&jobs->lock);
	if (r == 0)
		touch_subject(job);
	if (r == 0 && out)
		*out = job;
	else
		job_put(job);
	return r == -ENOSPC ? err_set(err, r, "%d jobs are under way already", JOBS_RUNNING_MAX)
	       : r < 0	    ? err_set(err, r, "cannot start a job: %s", strerror(-r))
			    : 0;
}

void job_progress(struct job *job, uint64_t done, uint64_t total, const char *unit)
{
	if (!job)
		return;
	LOCK_SCOPE(&job->model->jobs->lock);
	job->done = done;
	job->total = total;
	job->unit = unit;
	job->changed = time_now();
	tell_job(job->model, job, JOB_NEWS_CHANGED);
}

static void wake_waiters(void *arg)
{
	struct jobs *jobs = arg;

	LOCK_SCOPE(&jobs->lock);
	pthread_cond_broadcast(&jobs->ended);
}

int job_wait(struct job *job, struct cancel *cancel, struct err *err)
{
	struct jobs *jobs = job->model->jobs;
	bool asked = false;

	cancel_set_wake(cancel, wake_waiters, jobs);
	pthread_mutex_lock(&jobs->lock);
	while (job->state == JOB_RUNNING) {
		if (!asked && cancel_requested(cancel)) {
			asked = true;
			pthread_mutex_unlock(&jobs->lock);
			cancel_request(&job->cancel);
			pthread_mutex_lock(&jobs->lock);
			continue;
		}
		pthread_cond_wait(&jobs->ended, &jobs->lock);
	}
	*err = job->err;
	pthread_mutex_unlock(&jobs->lock);
	cancel_set_wake(cancel, NULL, NULL);
	return err->code;
}

/* --- all of them
 * ---------------------------------------------------------------------------------- */

int jobs_open(struct jobs **out, struct model *model)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));

	if (!jobs)
		return -ENOMEM;
	jobs->model = model;
	pthread_mutex_init(&jobs->lock, NULL);
	pthread_cond_init(&jobs->ended, NULL);
	*out = jobs;
	return 0;
}

/* Asks those of @subject and of what is within it to end, or all. */
static void cancel_some(struct jobs *jobs, const struct subject *subject)
{
	_cleanup_free_ struct job **some = NULL;
	size_t n = 0;

	pthread_mutex_lock(&jobs->lock);
	some = calloc(jobs->n + 1, sizeof(*some));
	for (size_t i = 0; some && i < jobs->n; i++)
		if (!subject || subject_within(&jobs->list[i]->call.subject, subject))
			some[n++] = job_get(jobs->list[i]);
	for (size_t i = 0; i < n; i++) {
		some[i]->unwanted = true;
		if (some[i]->state != JOB_RUNNING)
			unlist(jobs, some[i]);
	}
	pthread_mutex_unlock(&jobs->lock);
	for (size_t i = 0; i < n; i++) {
		cancel_request(&some[i]->cancel);
		job_put(some[i]);
	}
}

void jobs_stop(struct jobs *jobs)
{
	pthread_mutex_lock(&jobs->lock);
	jobs->stopping = true;
	pthread_mutex_unlock(&jobs->lock);
	cancel_some(jobs, NULL);
	pthread_mutex_lock(&jobs->lock);
	while (jobs->n_threads)
		pthread_cond_wait(&jobs->ended, &jobs->lock);
	pthread_mutex_unlock(&jobs->lock);
}

void jobs_close(struct jobs *jobs)
{
	pthread_mutex_lock(&jobs->lock);
	while (jobs->n)
		unlist(jobs, jobs->list[jobs->n - 1]);
	pthread_mutex_unlock(&jobs->lock);
	pthread_cond_destroy(&jobs->ended);
	pthread_mutex_destroy(&jobs->lock);
	free(jobs->list);
	free(jobs);
}

void jobs_drop(struct jobs *jobs, const struct subject *subject)
{
	cancel_some(jobs, subject);
}

void jobs_drop_machine(struct jobs *jobs, struct machine *m)
{
	struct subject s = {.kind = SUBJECT_MACHINE, .model = m->model, .m = m};

	cancel_some(jobs, &s);
}

size_t jobs_clear(struct model *model)
{
	struct jobs *jobs = model->jobs;
	size_t before;

	LOCK_SCOPE(&jobs->lock);
	before = jobs->n;
	for (size_t i = jobs->n; i-- > 0;)
		if (jobs->list[i]->state != JOB_RUNNING)
			unlist(jobs, jobs->list[i]);
	return before - jobs->n;
}

/* --- job.h
 * ------------------------------------------------------------------------------------------ */

struct job *model_job_get(struct model *model, struct machine *m, uint64_t number)
{
	struct jobs *jobs = model->jobs;
	struct job *job = NULL;
	size_t i;

	LOCK_SCOPE(&jobs->lock);
	i = lower_bound(jobs, number);
	if (i < jobs->n && jobs->list[i]->number == number && is_of(jobs->list[i], m))
		job = job_get(jobs->list[i]);
	return job;
}

struct job *model_job_next(struct model *model, struct machine *m, uint64_t *cursor)
{
	struct jobs *jobs = model->jobs;

	LOCK_SCOPE(&jobs->lock);
	for (size_t i = lower_bound(jobs, *cursor + 1); i < jobs->n; i++)
		if (is_of(jobs->list[i], m)) {
			*cursor = jobs->list[i]->number;
			return job_get(jobs->list[i]);
		}
	return NULL;
}

int model_job_remove(struct model *model, struct job *job, struct err *err)
{
	struct jobs *jobs = model->jobs;
	bool gone;

	pthread_mutex_lock(&jobs->lock);
	gone = !job->listed;
	job->unwanted = true;
	if (!gone && job->state != JOB_RUNNING)
		unlist(jobs, job);
	pthread_mutex_unlock(&jobs->lock);
	if (gone)
		return err_set(err, -ENOENT, "the job is gone");
	cancel_request(&job->cancel);
	touch_subject(job);
	return 0;
}

uint64_t job_number(const struct job *job)
{
	return job->number;
}

struct machine *job_machine(const struct job *job)
{
	return job->call.subject.m;
}

uid_t job_uid(const struct job *job)
{
	return job->caller.uid;
}

enum job_state job_state(struct job *job)
{
	LOCK_SCOPE(&job->model->jobs->lock);
	return job->state;
}

void job_command_show(struct job *job, struct strbuf *sb)
{
	strbuf_puts(sb, job->call.line);
}

void job_subject_show(struct job *job, struct strbuf *sb)
{
	const struct subject *s = &job->call.subject;

	if (subject_ops(s)->path)
		subject_ops(s)->path(s, sb);
}

void job_progress_show(struct job *job, struct strbuf *sb)
{
	LOCK_SCOPE(&job->model->jobs->lock);
	if (!job->total)
		return;
	strbuf_printf(sb, "done=%llu total=%llu unit=%s percent=%llu",
		      (unsigned long long)job->done, (unsigned long long)job->total, job->unit,
		      (unsigned long long)(job->done * 100 / job->total));
}

void job_error_show(struct job *job, struct strbuf *sb)
{
	LOCK_SCOPE(&job->model->jobs->lock);
	if (job->err.code)
		strbuf_printf(sb, "%s %s: %s", err_name(job->err.code), job->call.line,
			      job->err.text[0] ? job->err.text : strerror(-job->err.code));
}

struct timespec job_changed(struct job *job)
{
	LOCK_SCOPE(&job->model->jobs->lock);
	return job->changed;
}
