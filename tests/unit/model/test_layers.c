// SPDX-License-Identifier: ISC
/*
 * Layers: their text, however hostile; what is frozen stays as it was; what nobody needs is merged,
 * and reads alike whenever who merges is killed.
 */
#include <signal.h>
#include <sys/wait.h>

#include "content.h"
#include "disk.h"
#include "layer_int.h"
#include "model_test.h"

#define DISK_BYTES (4u << 20)
#define KILLS	   12

#define A "11111111-1111-4111-8111-111111111111"
#define B "22222222-2222-4222-8222-222222222222"

/* --- text ------------------------------------------------------------------------------------ */

static const char good[] = "layers 1\nparent " A "\n"
			   "disk root qcow2 1048576\nsource /a b/c.qcow2\nfile 1 2\nfile 3 4\n"
			   "layer " A "\nlayer " B "\n"
			   "disk root raw 512\nsource pool/v\n";

static void a_set_is_text_and_back(void **state)
{
	struct layer_set set, copy;
	struct strbuf sb = STRBUF_INIT;
	struct disk_layers *d;

	(void)state;
	assert_int_equal(layer_set_parse(good, strlen(good), &set, NULL), 0);
	assert_int_equal(set.n, 2);
	assert_string_equal(set.parent, A);
	assert_int_equal(layer_set_copy(&copy, &set), 0);
	layer_set_free(&set);
	d = layer_set_find(&copy, "root", "/a b/c.qcow2");
	assert_non_null(d);
	assert_int_equal(d->format, IMAGE_QCOW2);
	assert_int_equal(d->n_files, 2);
	assert_int_equal(d->chain.n, 2);
	assert_string_equal(d->chain.ids[1], B);
	assert_null(layer_set_find(&copy, "root", "/other"));
	layer_set_format(&copy, &sb);
	assert_string_equal(sb.data, good);
	layer_set_cut(&copy, 0);
	assert_non_null(layer_set_find(&copy, "root", "pool/v"));
	layer_set_free(&copy);
	strbuf_free(&sb);
}

static void damaged_sets_are_refused(void **state)
{
	static const char *const bad[] = {
	    "",
	    "layers 1",
	    "layers 2\n",
	    "layers one\n",
	    "layer " A "\n",
	    "layers 1\nlayers 1\n",
	    "layers 1\nlayer " A "\n",
	    "layers 1\nparent ../../x\n",
	    "layers 1\nparent " A "\nparent " A "\n",
	    "layers 1\ndisk root raw 1\n",
	    "layers 1\ndisk root raw\nsource /x\n",
	    "layers 1\ndisk ../x raw 1\nsource /x\n",
	    "layers 1\ndisk root vmdk 1\nsource /x\n",
	    "layers 1\ndisk root raw 99999999999999999999\nsource /x\n",
	    "layers 1\ndisk root raw 1\nsource \n",
	    "layers 1\ndisk root raw 1\nsource /x\nsource /y\n",
	    "layers 1\ndisk root raw 1\nsource /x\033\n",
	    "layers 1\ndisk root raw 1\nsource /x\nlayer ../../../etc/passwd-aaaaaaaaaaaaaaa\n",
	    "layers 1\ndisk root raw 1\nsource /x\nlayer " A "\nlayer " A "\n",
	    "layers 1\ndisk root raw 1\nsource /x\nfile 1\n",
	    "layers 1\ndisk root raw 1\nsource /x\ndisk root raw 1\nsource /x\n",
	    "layers 1\nnonsense x\n",
	    "layers 1\n\n",
	};
	struct layer_set set;
	struct err err;

	(void)state;
	for (size_t i = 0; i < nitems(bad); i++) {
		err = (struct err)ERR_INIT;
		if (layer_set_parse(bad[i], strlen(bad[i]), &set, &err) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_true(err.text[0]);
		assert_int_equal(set.n, 0);
	}
	assert_int_equal(layer_set_parse("layers 1\n\0x\n", 12, &set, NULL), -EINVAL);
	/* every text that is cut short, or has a byte changed, is refused or read */
	for (size_t len = 0; len < strlen(good); len++) {
		char text[sizeof(good)];

		memcpy(text, good, sizeof(good));
		if (layer_set_parse(text, len, &set, NULL) == 0)
			layer_set_free(&set);
		text[len] ^= 1 + (char)(len % 127);
		if (layer_set_parse(text, strlen(good), &set, NULL) == 0)
			layer_set_free(&set);
	}
}

/* --- the store ------------------------------------------------------------------------------- */

static unsigned n_files(struct fixture *f)
{
	return count_entries(f, "state/layers");
}

static void files_go_with_their_last_reference(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	char id[ID_TEXT];
	int fd;

	assert_int_equal(layer_make(f->model, LAYER_MEMORY, id, &fd, &err), 0);
	assert_int_equal(file_write_all(fd, "memory", 6), 0);
	close(fd);
	layer_get(f->model, LAYER_MEMORY, id);
	layer_put(f->model, LAYER_MEMORY, id);
	assert_int_equal(layer_refs(f->model, LAYER_MEMORY, id), 1);
	assert_true(layer_allocated(f->model, LAYER_MEMORY, id) > 0);
	fd = layer_open(f->model, LAYER_MEMORY, id, false, &err);
	assert_true(fd >= 0);
	close(fd);
	layer_put(f->model, LAYER_MEMORY, id);
	assert_int_equal(n_files(f), 0);
	assert_int_equal(layer_open(f->model, LAYER_MEMORY, id, false, &err), -ENOENT);
}

static void what_nobody_has_goes_at_start(void **state)
{
	struct fixture *f = *state;
	char id[ID_TEXT];
	int fd;

	assert_int_equal(layer_make(f->model, LAYER_DISK, id, &fd, NULL), 0);
	close(fd);
	write_file(f, "state/layers/.half.new", "");
	write_file(f, "state/layers/README", "not ours");
	reopen_model(f);
	assert_int_equal(n_files(f), 1);
	assert_true(exists(f, "state/layers/README"));
}

static void nothing_goes_where_something_is_damaged(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	char id[ID_TEXT];
	int fd;

	machine_put(m);
	assert_int_equal(layer_make(f->model, LAYER_DISK, id, &fd, NULL), 0);
	close(fd);
	write_file(f, "state/machines/m/layers", "layers 1\ndisk");
	log_set_levels("none");
	reopen_model(f);
	assert_int_equal(n_files(f), 1);
	m = need_machine(f, "m");
	assert_error(m, "layers: ");
	assert_true(m->layers_damaged);
	machine_put(m);
}

/* --- disks ----------------------------------------------------------------------------------- */

struct world {
	struct fixture *f;
	char source[96];
	uint8_t now[DISK_BYTES]; /* what the disk holds */
	unsigned seed;
};

static struct machine *with_disk(struct world *w, const char *name)
{
	struct machine *m = need_machine(w->f, name);
	struct err err = ERR_INIT;

	if (machine_disk_add(m, "root", &root_caller, &err) < 0)
		fail_msg("%s", err.text);
	if (machine_disk_source_set(m, "root", w->source, "raw", &root_caller, &err) < 0)
		fail_msg("%s", err.text);
	return m;
}

static struct world *world_new(struct fixture *f)
{
	struct world *w = calloc(1, sizeof(*w));
	int fd;

	w->f = f;
	w->seed = (unsigned)getpid();
	snprintf(w->source, sizeof(w->source), "%s/disk.img", f->root);
	for (size_t i = 0; i < DISK_BYTES; i++)
		w->now[i] = (uint8_t)(i / 512);
	fd = open(w->source, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(file_write_all(fd, w->now, DISK_BYTES), 0);
	close(fd);
	return w;
}

static void assert_content(struct content *content, const uint8_t *want)
{
	_cleanup_free_ uint8_t *buf = malloc(DISK_BYTES);

	assert_int_equal(content_size(content), DISK_BYTES);
	assert_int_equal(content_read(content, buf, DISK_BYTES, 0), DISK_BYTES);
	assert_memory_equal(buf, want, DISK_BYTES);
	content_close(content);
}

static void is_now(struct world *w, struct machine *m)
{
	struct content *content;
	struct err err = ERR_INIT;
	int r = -EBUSY;

	/* who opened files for a daemon that was killed may be there for a moment yet */
	for (int i = 0; i < 1000 && r == -EBUSY; i++) {
		r = machine_disk_content_open(m, "root", false, &root_caller, &content, &err);
		if (r == -EBUSY)
			usleep(10000);
	}
	if (r < 0)
		fail_msg("%s", err.text);
	assert_content(content, w->now);
}

/* Somewhere, some bytes; every fourth time zeroes, as a guest that discards. */
static void scribble(struct world *w, struct machine *m, unsigned times)
{
	struct content *content;
	struct err err = ERR_INIT;

	if (machine_disk_content_open(m, "root", true, &root_caller, &content, &err) < 0)
		fail_msg("%s", err.text);
	while (times--) {
		uint64_t at = (uint64_t)rand_r(&w->seed) % (DISK_BYTES / 512 - 256) * 512;
		size_t len = ((size_t)rand_r(&w->seed) % 255 + 1) * 512;

		if (rand_r(&w->seed) % 4) {
			memset(w->now + at, rand_r(&w->seed), len);
			assert_int_equal(content_write(content, w->now + at, len, at), 0);
		} else {
			memset(w->now + at, 0, len);
			assert_int_equal(content_zero(content, at, len, true), 0);
		}
	}
	assert_int_equal(content_close(content), 0);
}

/* As a snapshot does; the references are the caller's. */
static void freeze(struct machine *m, struct layer_set *frozen)
{
	struct err err = ERR_INIT;

	if (layers_stage(m, frozen, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(layers_freeze(m, frozen, NULL, &err), 0);
}

static void thaw(struct machine *m, struct layer_set *frozen)
{
	layer_set_put(m->model, frozen);
	layer_set_free(frozen);
}

static unsigned chain_length(struct machine *m)
{
	struct layer_set set;
	unsigned n;

	assert_int_equal(machine_layers(m, &set), 0);
	n = set.n ? set.disks[0].chain.n : 0;
	layer_set_free(&set);
	return n;
}

static void await_jobs(struct model *model, struct machine *m)
{
	uint64_t cursor = 0;
	struct job *job;

	while ((job = model_job_next(model, m, &cursor))) {
		for (int i = 0; i < 6000 && job_state(job) == JOB_RUNNING; i++)
			usleep(10000);
		assert_int_not_equal(job_state(job), JOB_RUNNING);
		job_put(job);
	}
}

static void tidy(struct machine *m)
{
	layers_tidy(m);
	await_jobs(m->model, m);
}

static void assert_frozen(struct machine *m, const struct layer_set *frozen, const uint8_t *want)
{
	const struct rights root = {0};
	struct content *content;
	struct err err = ERR_INIT;

	assert_int_equal(frozen->n, 1);
	if (layers_content_open(m->model, &frozen->disks[0], &root, &content, &err) < 0)
		fail_msg("%s", err.text);
	assert_content(content, want);
}

static void assert_source(struct world *w)
{
	_cleanup_free_ uint8_t *buf = malloc(DISK_BYTES);
	_cleanup_close_ int fd = open(w->source, O_RDONLY);

	assert_int_equal(file_pread_all(fd, buf, DISK_BYTES, 0), 0);
	assert_memory_equal(buf, w->now, DISK_BYTES);
}

static void what_is_frozen_stays(void **state)
{
	struct world *w = world_new(*state);
	struct machine *m = with_disk(w, "m");
	struct layer_set frozen[6];
	uint8_t *was[6];

	for (size_t i = 0; i < nitems(frozen); i++) {
		was[i] = malloc(DISK_BYTES);
		memcpy(was[i], w->now, DISK_BYTES);
		freeze(m, &frozen[i]);
		assert_int_equal(frozen[i].disks[0].chain.n, i);
		scribble(w, m, 20);
	}
	is_now(w, m);
	assert_int_equal(n_files(w->f), 6);
	tidy(m);
	assert_int_equal(chain_length(m), 6); /* somebody refers to each */
	for (size_t i = 0; i < nitems(frozen); i++)
		assert_frozen(m, &frozen[i], was[i]);
	/* two in the middle are not needed any more */
	thaw(m, &frozen[2]);
	thaw(m, &frozen[3]);
	tidy(m);
	assert_int_equal(chain_length(m), 4);
	for (size_t i = 0; i < nitems(frozen); i++)
		if (i != 2 && i != 3)
			assert_frozen(m, &frozen[i], was[i]);
	is_now(w, m);
	thaw(m, &frozen[5]);
	thaw(m, &frozen[4]);
	tidy(m);
	assert_int_equal(chain_length(m), 2);
	is_now(w, m);
	assert_frozen(m, &frozen[0], was[0]);
	assert_frozen(m, &frozen[1], was[1]);
	thaw(m, &frozen[1]);
	thaw(m, &frozen[0]);
	tidy(m);
	assert_int_equal(chain_length(m), 0);
	assert_int_equal(n_files(w->f), 0);
	assert_source(w);
	for (size_t i = 0; i < nitems(frozen); i++)
		free(was[i]);
	machine_put(m);
	free(w);
}

static void others_do_not_write_what_is_frozen(void **state)
{
	struct world *w = world_new(*state);
	struct machine *m = with_disk(w, "m"), *other = with_disk(w, "other");
	struct layer_set frozen;
	struct content *content;
	struct err err = ERR_INIT;

	freeze(m, &frozen);
	assert_int_equal(
	    machine_disk_content_open(other, "root", true, &root_caller, &content, &err), -EBUSY);
	assert_non_null(strstr(err.text, "machine m"));
	assert_int_equal(
	    layers_refuse_frozen(w->f->model, frozen.disks[0].files, frozen.disks[0].n_files, &err),
	    -EBUSY);
	is_now(w, other);
	scribble(w, m, 3);
	thaw(m, &frozen);
	tidy(m);
	assert_source(w);
	scribble(w, other, 3);
	is_now(w, m);
	machine_put(m);
	machine_put(other);
	free(w);
}

static void layers_survive_the_daemon_and_go_with_the_machine(void **state)
{
	struct world *w = world_new(*state);
	struct machine *m = with_disk(w, "m");
	struct layer_set frozen;
	struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;

	freeze(m, &frozen);
	scribble(w, m, 10);
	assert_int_equal(machine_disk_layers_show(m, "root", &sb), 0);
	assert_non_null(strstr(sb.data, "/state/layers/"));
	strbuf_free(&sb);
	layer_set_free(&frozen);
	assert_int_equal(machine_layers_parent(m, NULL, A, &err), 0);
	assert_int_equal(machine_layers_parent(m, B, "", &err), 0);
	machine_put(m);
	reopen_model(w->f);
	m = need_machine(w->f, "m");
	is_now(w, m);
	await_jobs(w->f->model, m);
	tidy(m); /* the content that was open ended the first */
	assert_int_equal(chain_length(m), 0);
	assert_source(w);
	freeze(m, &frozen);
	thaw(m, &frozen);
	assert_int_equal(model_machine_undefine(w->f->model, m, &err), 0);
	assert_int_equal(n_files(w->f), 0);
	machine_put(m);
	free(w);
}

static void a_resize_is_of_the_top_layer(void **state)
{
	struct world *w = world_new(*state);
	struct machine *m = with_disk(w, "m");
	struct layer_set frozen;
	struct err err = ERR_INIT;
	struct content *content;
	struct stat st;

	freeze(m, &frozen);
	if (disk_resize(m, "root", 2 * DISK_BYTES, false, &root_caller, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(machine_disk_size(m, "root"), 2 * DISK_BYTES);
	assert_int_equal(stat(w->source, &st), 0);
	assert_int_equal(st.st_size, DISK_BYTES);
	assert_frozen(m, &frozen, w->now);
	thaw(m, &frozen);
	machine_put(m);
	reopen_model(w->f);
	m = need_machine(w->f, "m");
	assert_int_equal(machine_disk_content_open(m, "root", false, &root_caller, &content, &err),
			 0);
	assert_int_equal(content_size(content), 2 * DISK_BYTES);
	content_close(content);
	await_jobs(w->f->model, m);
	tidy(m);
	assert_int_equal(chain_length(m), 0);
	assert_int_equal(stat(w->source, &st), 0);
	assert_int_equal(st.st_size, 2 * DISK_BYTES);
	machine_put(m);
	free(w);
}

/* --- who merges is killed -------------------------------------------------------------------- */

static void merge_and_be_killed(struct fixture *f)
{
	struct machine *m;

	f->model = NULL;
	open_model(f);
	m = need_machine(f, "m");
	for (;;) {
		layers_tidy(m);
		usleep(200);
	}
}

static void a_merge_may_be_killed(void **state)
{
	struct world *w = world_new(*state);
	struct machine *m = with_disk(w, "m");

	for (unsigned k = 0; k < KILLS; k++) {
		struct layer_set frozen;
		pid_t pid;

		for (int i = 0; i < 3; i++) {
			freeze(m, &frozen);
			scribble(w, m, 15);
			layer_set_free(&frozen); /* as if another daemon's */
		}
		machine_put(m);
		close_model(w->f);
		pid = fork();
		if (pid == 0)
			merge_and_be_killed(w->f);
		usleep((useconds_t)rand_r(&w->seed) % 60000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		for (int i = 0; i < 500; i++) { /* until its locks are gone */
			struct model_options o = {.state_dir = w->f->state,
						  .run_dir = w->f->run,
						  .vmm_path = "/bin/false"};

			if (model_open(&w->f->model, &o, NULL) == 0)
				break;
			usleep(10000);
		}
		assert_non_null(w->f->model);
		m = need_machine(w->f, "m");
		is_now(w, m);
	}
	tidy(m);
	assert_int_equal(chain_length(m), 0);
	assert_int_equal(n_files(w->f), 0);
	assert_source(w);
	machine_put(m);
	free(w);
}

/* Who was killed between giving both names to the merged file and noting that leaves no third. */
static void a_merge_that_was_not_noted(void **state)
{
	struct world *w = world_new(*state);
	struct machine *m = with_disk(w, "m");
	struct layer_set frozen[3], set;
	char upper[200], lower[200];

	for (size_t i = 0; i < nitems(frozen); i++) {
		freeze(m, &frozen[i]);
		if (i != 1)
			scribble(w, m, 5);
	}
	assert_int_equal(machine_layers(m, &set), 0);
	snprintf(upper, sizeof(upper), "%s/layers/%s.qcow2", w->f->state,
		 set.disks[0].chain.ids[1]);
	snprintf(lower, sizeof(lower), "%s/layers/%s.qcow2", w->f->state,
		 set.disks[0].chain.ids[2]);
	layer_set_free(&set);
	assert_int_equal(unlink(upper), 0);
	assert_int_equal(link(lower, upper), 0);
	thaw(m, &frozen[1]);
	thaw(m, &frozen[2]);
	tidy(m);
	assert_int_equal(chain_length(m), 1);
	assert_int_equal(n_files(w->f), 1);
	is_now(w, m);
	thaw(m, &frozen[0]);
	machine_put(m);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_set_is_text_and_back),
	    cmocka_unit_test(damaged_sets_are_refused),
	    model_test(files_go_with_their_last_reference),
	    model_test(what_nobody_has_goes_at_start),
	    model_test(nothing_goes_where_something_is_damaged),
	    model_test(what_is_frozen_stays),
	    model_test(others_do_not_write_what_is_frozen),
	    model_test(layers_survive_the_daemon_and_go_with_the_machine),
	    model_test(a_resize_is_of_the_top_layer),
	    model_test(a_merge_may_be_killed),
	    model_test(a_merge_that_was_not_noted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
