// SPDX-License-Identifier: ISC
/* Machines by name and in order, who is told of what, and what their states permit. */
#include <pthread.h>

#include "command.h"
#include "model_test.h"

/* --- names and order -------------------------------------------------------------------------- */

static void names_are_checked(void **state)
{
	static const char *const good[] = {
	    "a", "0", "web-1.example_com", "A.-_",
	    "n23456789012345678901234567890123456789012345678901234567890123"};
	static const char *const bad[] = {
	    "",		".",   "..",
	    "-x",	".x",  "_x",
	    "a b",	"a/b", "a\n",
	    "\xc3\xbc", "a~",  "n234567890123456789012345678901234567890123456789012345678901234"};
	struct fixture *f = *state;
	struct err err;

	for (size_t i = 0; i < nitems(good); i++)
		machine_put(need_machine(f, good[i]));
	for (size_t i = 0; i < nitems(bad); i++) {
		assert_int_equal(
		    model_machine_define(f->model, bad[i], 0755, &root_caller, NULL, &err),
		    -EINVAL);
		assert_true(err.text[0]);
	}
	assert_int_equal(model_machine_count(f->model), nitems(good));
	assert_int_equal(count_entries(f, "state/machines"), nitems(good));
}

static void a_name_is_taken_once(void **state)
{
	struct fixture *f = *state;
	struct machine *a = need_machine(f, "a"), *b = need_machine(f, "b"), *found;
	struct err err = ERR_INIT;

	assert_int_equal(model_machine_define(f->model, "a", 0755, &root_caller, NULL, &err),
			 -EEXIST);
	assert_int_equal(model_machine_rename(f->model, a, "b", &err), -EEXIST);
	assert_int_equal(model_machine_rename(f->model, a, "a", &err), 0);
	assert_int_equal(model_machine_rename(f->model, a, "c", &err), 0);
	found = model_machine_get(f->model, "c");
	assert_ptr_equal(found, a);
	machine_put(found);
	assert_null(model_machine_get(f->model, "a"));
	assert_int_equal(model_machine_undefine(f->model, b, &err), 0);
	assert_int_equal(model_machine_undefine(f->model, b, &err), -ENOENT);
	assert_int_equal(put(b, "cpus", "2", &err), -ENOENT);
	assert_int_equal(machine_command_run(b, "start", &root_caller, &err), -ENOENT);
	assert_int_equal(model_machine_rename(f->model, b, "d", &err), -ENOENT);
	assert_int_equal(model_machine_rename(f->model, a, "b", &err), 0);
	machine_put(a);
	machine_put(b);
}

/* A walk sees those that stay exactly once, whatever comes and goes meanwhile. */
static void a_walk_is_stable(void **state)
{
	enum { N = 300 };
	struct fixture *f = *state;
	bool seen[N] = {false};
	uint64_t cursor = 0, last = 0;
	struct machine *m;
	char name[64];
	int steps = 0;

	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		machine_put(need_machine(f, name));
	}
	while ((m = model_machine_next(f->model, &cursor))) {
		int n;

		machine_name(m, name);
		if (sscanf(name, "m%d", &n) == 1) {
			assert_false(seen[n]);
			seen[n] = true;
			assert_true(machine_serial(m) > last);
			last = machine_serial(m);
		}
		machine_put(m);
		/* those of uneven number go, others come */
		snprintf(name, sizeof(name), "m%d", (steps * 2 + 1) % N);
		m = model_machine_get(f->model, name);
		if (m)
			assert_int_equal(model_machine_undefine(f->model, m, NULL), 0);
		machine_put(m);
		if (steps++ < 50) {
			snprintf(name, sizeof(name), "x%d", steps);
			machine_put(need_machine(f, name));
		}
	}
	for (int i = 0; i < N; i += 2)
		assert_true(seen[i]);
	assert_int_equal(model_machine_count(f->model), N / 2 + 50);
}

/* Many threads want the same few names; in the end disk and memory agree. */
static void *scramble(void *arg)
{
	struct fixture *f = arg;
	unsigned seed = (unsigned)(uintptr_t)pthread_self();

	for (int i = 0; i < 60; i++) {
		char name[8], other[8];
		struct machine *m = NULL;

		snprintf(name, sizeof(name), "n%d", rand_r(&seed) % 4);
		snprintf(other, sizeof(other), "n%d", rand_r(&seed) % 4);
		switch (rand_r(&seed) % 4) {
		case 0:
			model_machine_define(f->model, name, 0755, &root_caller, NULL, NULL);
			continue;
		case 1:
			m = model_machine_get(f->model, name);
			if (m)
				model_machine_undefine(f->model, m, NULL);
			break;
		case 2:
			m = model_machine_get(f->model, name);
			if (m)
				model_machine_rename(f->model, m, other, NULL);
			break;
		default:
			m = model_machine_get(f->model, name);
			if (m)
				put(m, "cpus", i % 2 ? "2" : "3", NULL);
		}
		machine_put(m);
	}
	return NULL;
}

static void threads_agree(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[6];
	uint64_t cursor = 0;
	struct machine *m;

	for (size_t i = 0; i < nitems(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, scramble, f), 0);
	for (size_t i = 0; i < nitems(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(count_entries(f, "state/machines"), model_machine_count(f->model));
	while ((m = model_machine_next(f->model, &cursor))) {
		char path[200], name[64];

		machine_name(m, name);
		snprintf(path, sizeof(path), "state/machines/%s/access", name);
		assert_true(exists(f, path));
		machine_put(m);
	}
}

/* --- who is told
 * ----------------------------------------------------------------------------------- */

struct heard {
	int added, removed, renamed, events;
	int changed[ASPECT_MAX];
};

static void on_added(void *arg, struct machine *m)
{
	(void)m;
	((struct heard *)arg)->added++;
}

static void on_removed(void *arg, struct machine *m)
{
	(void)m;
	((struct heard *)arg)->removed++;
}

static void on_renamed(void *arg, struct machine *m, const char *old_name)
{
	(void)m;
	assert_string_equal(old_name, "a");
	((struct heard *)arg)->renamed++;
}

static void on_changed(void *arg, struct machine *m, enum machine_aspect aspect, const char *name)
{
	(void)m;
	if (aspect == ASPECT_DISKS || aspect == ASPECT_DISK)
		assert_string_equal(name, "root");
	((struct heard *)arg)->changed[aspect]++;
}

static void on_events(void *arg)
{
	((struct heard *)arg)->events++;
}

static void the_observer_hears_what_changed(void **state)
{
	static const struct model_observer observer = {.machine_added = on_added,
						       .machine_removed = on_removed,
						       .machine_renamed = on_renamed,
						       .machine_changed = on_changed,
						       .events_grew = on_events};
	static const char config[] = "cpus = 2; disks = { root = { readonly = true; }; };";
	size_t cpus = (size_t)(key_of("cpus") - machine_keys);
	struct fixture *f = *state;
	struct heard h = {0};
	struct machine *m;

	model_set_observer(f->model, &observer, &h);
	m = need_machine(f, "a");
	assert_int_equal(h.added, 1);
	put(m, "cpus", "2", NULL);
	assert_int_equal(h.changed[ASPECT_KEY0 + cpus], 1);
	assert_int_equal(h.changed[ASPECT_DEFINITION], 1);
	put(m, "cpus", "none", NULL);
	assert_int_equal(h.changed[ASPECT_KEY0 + cpus], 1);
	assert_int_equal(h.changed[ASPECT_ERROR], 1);
	machine_disk_add(m, "root", &root_caller, NULL);
	assert_int_equal(h.changed[ASPECT_DISKS], 1);
	assert_int_equal(h.changed[ASPECT_ERROR], 2); /* empty again */
	machine_config_store(m, config, strlen(config), &root_caller, NULL);
	assert_int_equal(h.changed[ASPECT_KEY0 + cpus], 1);
	assert_int_equal(h.changed[ASPECT_DISK], 1);
	assert_int_equal(h.changed[ASPECT_DEFINITION], 3);
	model_machine_rename(f->model, m, "b", NULL);
	assert_int_equal(h.renamed, 1);
	model_machine_undefine(f->model, m, NULL);
	assert_int_equal(h.removed, 1);
	assert_true(h.events >= 6);
	machine_put(m);
	model_set_observer(f->model, NULL, NULL);
	machine_put(need_machine(f, "c"));
	assert_int_equal(h.added, 1);
}

static void times_are_kept(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	enum machine_aspect cpus =
	    ASPECT_KEY0 + (enum machine_aspect)(key_of("cpus") - machine_keys);
	struct timespec before, after;

	put(m, "cpus", "2", NULL);
	before = machine_changed(m, cpus, NULL);
	machine_put(m);
	reopen_model(f);
	m = model_machine_get(f->model, "m");
	after = machine_changed(m, cpus, NULL);
	assert_int_equal(before.tv_sec, after.tv_sec);
	assert_int_equal(before.tv_nsec, after.tv_nsec);
	machine_put(m);
}

/* --- states and commands
 * ------------------------------------------------------------------------------ */

static void the_table_of_states_is_sound(void **state)
{
	(void)state;
	for (int s = 0; s < MACHINE_STATE_MAX; s++) {
		assert_non_null(machine_state_name((enum machine_state)s));
		assert_false(state_may_follow((enum machine_state)s, (enum machine_state)s));
	}
	/* a run begins with starting, and ends stopped or crashed */
	for (int s = 0; s < MACHINE_STATE_MAX; s++) {
		bool runs = s == MACHINE_RUNNING || s == MACHINE_PAUSED;

		assert_int_equal(state_may_follow((enum machine_state)s, MACHINE_RUNNING),
				 s == MACHINE_STARTING || s == MACHINE_PAUSED);
		assert_int_equal(state_may_follow((enum machine_state)s, MACHINE_STARTING),
				 s == MACHINE_DEFINED || s == MACHINE_STOPPED ||
				     s == MACHINE_CRASHED || s == MACHINE_SAVED);
		/* what is saved stood still before, or goes on where another one did */
		assert_int_equal(state_may_follow((enum machine_state)s, MACHINE_SAVED),
				 s != MACHINE_RUNNING && s != MACHINE_SAVED &&
				     s != MACHINE_MIGRATING);
		if (runs)
			assert_true(state_may_follow((enum machine_state)s, MACHINE_STOPPED) &&
				    state_may_follow((enum machine_state)s, MACHINE_CRASHED));
	}
}

/* Each command in each state: what the table permits is what is listed, all else is refused. */
static void commands_go_by_the_table(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");

	for (int s = 0; s < MACHINE_STATE_MAX; s++) {
		struct strbuf list = STRBUF_INIT;

		m->state = (enum machine_state)s;
		machine_command_list(m, &list);
		for (size_t i = 0; i < n_machine_commands; i++) {
			const struct command *c = &machine_commands[i];
			bool allowed =
			    c->states & IN(s) && (!c->needs_vmm || s == MACHINE_STARTING);
			char line[80];
			struct err err = ERR_INIT;

			snprintf(line, sizeof(line), "# %s ", c->usage);
			assert_int_equal(strstr(list.data, line) != NULL, allowed);
			if (allowed)
				continue;
			snprintf(line, sizeof(line), "%s%s", c->name, c->min_args ? " x" : "");
			assert_int_equal(machine_command_run(m, line, &root_caller, &err), -EBUSY);
			assert_non_null(
			    strstr(err.text, machine_state_name((enum machine_state)s)));
			assert_int_equal(m->state, s);
		}
		strbuf_free(&list);
	}
	m->state = MACHINE_DEFINED;
	machine_put(m);
}

static void lines_are_understood(void **state)
{
	static const char *const nothing[] = {"", "   ", "\t", "# start", "  #x"};
	static const char *const refused[] = {"fly",
					      "START",
					      "start now",
					      "start start",
					      "wait",
					      "wait flying 3",
					      "wait running",
					      "wait running x",
					      "wait running -1",
					      "stop;start",
					      "/bin/sh",
					      "start\x01",
					      "\xff\xff",
					      "wait running 99999999999999999999",
					      "a b c d e f g h i j k",
					      "&",
					      "fly &",
					      "start&"};
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err;
	char *longer = malloc(100001);

	for (size_t i = 0; i < nitems(nothing); i++)
		assert_int_equal(machine_command_run(m, nothing[i], &root_caller, &err), 0);
	assert_error(m, "");
	for (size_t i = 0; i < nitems(refused); i++) {
		int r = machine_command_run(m, refused[i], &root_caller, &err);

		if (r != -EINVAL && r != -ERANGE)
			fail_msg("'%s' gave %d", refused[i], r);
		assert_true(err.text[0]);
	}
	machine_command_run(m, "  fly  high  ", &root_caller, &err);
	assert_error(m, "EINVAL fly  high: there is no such command");
	memset(longer, 'x', 100000);
	longer[100000] = '\0';
	assert_int_equal(machine_command_run(m, longer, &root_caller, &err), -EFBIG);
	free(longer);
	assert_int_equal(machine_command_run(m, "  wait \t defined  0 ", &root_caller, &err), 0);
	assert_error(m, "");
	assert_int_equal(machine_command_run(m, "start", &root_caller, &err), -EINVAL);
	assert_error(m, "EINVAL start: no kernel is set");
	machine_put(m);
}

static void *run_wait(void *arg)
{
	struct cancel *cancel = arg;
	struct caller caller = {.pid = 1, .cancel = cancel};
	struct machine *m = cancel->arg;
	struct err err = ERR_INIT;

	cancel->arg = NULL;
	return (void *)(intptr_t)machine_command_run(m, "wait running 1000", &caller, &err);
}

static void a_wait_ends_when_it_is_cancelled_or_in_vain(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");

	for (int i = 0; i < 2; i++) {
		struct cancel cancel;
		pthread_t thread;
		void *result;

		cancel_init(&cancel);
		cancel.arg = m;
		pthread_create(&thread, NULL, run_wait, &cancel);
		if (i == 0) {
			cancel_request(&cancel);
		} else {
			usleep(10000); /* most likely it waits by now; either way it ends */
			assert_int_equal(model_machine_undefine(f->model, m, NULL), 0);
		}
		pthread_join(thread, &result);
		assert_int_equal((intptr_t)result, i == 0 ? -ECANCELED : -ENOENT);
		cancel_destroy(&cancel);
	}
	machine_put(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(names_are_checked),
	    model_test(a_name_is_taken_once),
	    model_test(a_walk_is_stable),
	    model_test(threads_agree),
	    model_test(the_observer_hears_what_changed),
	    model_test(times_are_kept),
	    model_test(the_table_of_states_is_sound),
	    model_test(commands_go_by_the_table),
	    model_test(lines_are_understood),
	    model_test(a_wait_ends_when_it_is_cancelled_or_in_vain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
