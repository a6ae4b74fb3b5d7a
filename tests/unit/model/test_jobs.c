// SPDX-License-Identifier: ISC
/* Jobs: numbered, bounded, cancelled, and gone with their machine. */
#include "model_test.h"

/* Until the job has ended. A generous deadline only ends a hang. */
static enum job_state ended(struct job *job)
{
	for (int i = 0; i < 60000 && job_state(job) == JOB_RUNNING; i++)
		usleep(1000);
	return job_state(job);
}

static struct job *only_job(struct fixture *f, struct machine *m)
{
	uint64_t cursor = 0;
	struct job *job = model_job_next(f->model, m, &cursor), *second;

	second = model_job_next(f->model, m, &cursor);
	assert_null(second);
	return job;
}

static void run(struct machine *m, const char *line)
{
	struct err err = ERR_INIT;

	if (machine_command_run(m, line, &root_caller, &err) < 0)
		fail_msg("%s: %s", line, err.text);
}

static void assert_shows(struct job *job, void (*show)(struct job *, struct strbuf *),
			 const char *part)
{
	struct strbuf sb = STRBUF_INIT;

	show(job, &sb);
	if (!strstr(sb.data ? sb.data : "", part))
		fail_msg("'%s', not '%s'", sb.data ? sb.data : "", part);
	strbuf_free(&sb);
}

static void one_succeeds_one_fails_one_is_cancelled(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m"), *other = need_machine(f, "other");
	struct job *job;

	run(m, "wait defined 10 &");
	job = only_job(f, m);
	assert_ptr_equal(job_machine(job), m);
	assert_int_equal(ended(job), JOB_DONE);
	assert_shows(job, job_command_show, "wait defined 10");
	assert_null(only_job(f, other));
	assert_int_equal(model_job_remove(f->model, job, NULL), 0);
	assert_int_equal(model_job_remove(f->model, job, NULL), -ENOENT);
	job_put(job);

	run(m, "wait running 0  &");
	job = only_job(f, NULL);
	assert_int_equal(ended(job), JOB_FAILED);
	assert_shows(job, job_error_show, "ETIMEDOUT wait running 0: ");
	assert_int_equal(job_number(job), 2);
	assert_int_equal(model_job_remove(f->model, job, NULL), 0);
	job_put(job);

	run(m, "wait running 1000 &");
	job = only_job(f, m);
	assert_int_equal(job_state(job), JOB_RUNNING);
	assert_int_equal(model_job_remove(f->model, job, NULL), 0);
	assert_int_equal(ended(job), JOB_CANCELLED);
	for (int i = 0; i < 60000; i++) {
		struct job *left = only_job(f, NULL);

		job_put(left);
		if (!left)
			break;
		usleep(1000);
	}
	assert_null(only_job(f, NULL));
	job_put(job);
	assert_int_equal(machine_command_run(m, "fly &", &root_caller, NULL), -EINVAL);
	assert_null(only_job(f, NULL));
	machine_put(m);
	machine_put(other);
}

static void those_that_ended_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	uint64_t cursor = 0, last = 0;
	struct job *job, *waiting;
	int n = 0;

	run(m, "wait running 1000 &");
	waiting = only_job(f, m);
	for (int i = 0; i < 250; i++)
		run(m, "wait defined 1 &");
	for (int i = 0; i < 60000; i++) {
		bool busy = false;

		cursor = 0, n = 0;
		while ((job = model_job_next(f->model, m, &cursor))) {
			busy |= job != waiting && job_state(job) == JOB_RUNNING;
			last = job_number(job);
			job_put(job);
			n++;
		}
		if (!busy && n <= 101) /* one may end while this walks */
			break;
		usleep(1000);
	}
	assert_int_equal(n, 101);
	assert_int_equal(last, 251);
	assert_int_equal(job_state(waiting), JOB_RUNNING);
	assert_int_equal(model_command_run(f->model, "clear-jobs", &root_caller, NULL), 0);
	job = only_job(f, NULL);
	assert_ptr_equal(job, waiting);
	job_put(job);
	job_put(waiting);
	machine_put(m);
}

static void they_go_with_their_machine(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct job *job;

	run(m, "wait defined 1 &");
	job = only_job(f, m);
	ended(job);
	job_put(job);
	run(m, "wait running 1000 &");
	assert_int_equal(model_machine_undefine(f->model, m, NULL), 0);
	for (int i = 0; i < 60000; i++) {
		uint64_t cursor = 0;

		job = model_job_next(f->model, NULL, &cursor);
		if (!job)
			break;
		job_put(job);
		usleep(1000);
	}
	assert_null(job);
	machine_put(m);
}

static void closing_the_model_ends_them(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");

	for (int i = 0; i < 20; i++)
		run(m, "wait running 1000 &");
	machine_put(m);
	reopen_model(f);
	assert_null(only_job(f, NULL));
}

static void there_are_not_too_many(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;
	int n = 0;

	while (n < 5000 && machine_command_run(m, "wait running 1000 &", &root_caller, &err) == 0)
		n++;
	assert_int_equal(n, 1024);
	assert_int_equal(err.code, -ENOSPC);
	machine_put(m);
}

static void stop_all_with_nothing_to_stop(void **state)
{
	struct fixture *f = *state;
	struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;
	struct job *job;

	machine_put(need_machine(f, "m"));
	assert_int_equal(model_command_run(f->model, "stop-all 5", &root_caller, &err), 0);
	assert_int_equal(model_command_run(f->model, "stop-all x", &root_caller, &err), -EINVAL);
	model_error_show(f->model, &sb);
	assert_non_null(strstr(sb.data, "EINVAL stop-all x: 'x' is no number of seconds"));
	strbuf_free(&sb);
	assert_int_equal(model_command_run(f->model, "stop-all &", &root_caller, &err), 0);
	job = only_job(f, NULL);
	assert_int_equal(ended(job), JOB_DONE);
	assert_null(job_machine(job));
	job_put(job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(one_succeeds_one_fails_one_is_cancelled),
	    model_test(those_that_ended_are_bounded),
	    model_test(they_go_with_their_machine),
	    model_test(closing_the_model_ends_them),
	    model_test(there_are_not_too_many),
	    model_test(stop_all_with_nothing_to_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
