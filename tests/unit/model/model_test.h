/* SPDX-License-Identifier: ISC */
#ifndef MODEL_TEST_H
#define MODEL_TEST_H
/* A model on directories of its own, for tests of it. Include after cmocka's own needs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "job.h"
#include "machine.h"
#include "model.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

struct fixture {
	char root[64], state[80], run[80];
	const char *vmm;
	struct model *model;
};

static const struct caller root_caller = {.pid = 1};

static inline void open_model(struct fixture *f)
{
	struct model_options o = {
	    .state_dir = f->state, .run_dir = f->run, .vmm_path = f->vmm ? f->vmm : "/bin/false"};
	struct err err = ERR_INIT;

	if (model_open(&f->model, &o, &err) < 0)
		fail_msg("model_open: %s", err.text);
}

static inline void close_model(struct fixture *f)
{
	if (f->model)
		model_close(f->model);
	f->model = NULL;
}

static inline void reopen_model(struct fixture *f)
{
	close_model(f);
	open_model(f);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_set_levels("error");
	strcpy(f->root, "/tmp/test_model.XXXXXX");
	if (!mkdtemp(f->root))
		return -1;
	snprintf(f->state, sizeof(f->state), "%s/state", f->root);
	snprintf(f->run, sizeof(f->run), "%s/run", f->root);
	*state = f;
	open_model(f);
	return 0;
}

static inline void remove_tree(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			remove_tree(fd, e->d_name);
	if (d)
		closedir(d);
	if (unlinkat(parent, name, fd < 0 ? 0 : AT_REMOVEDIR) < 0)
		perror(name);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	close_model(f);
	remove_tree(AT_FDCWD, f->root);
	free(f);
	return 0;
}

/* A machine by that name, made if absent; a reference. */
static inline struct machine *need_machine(struct fixture *f, const char *name)
{
	struct machine *m = model_machine_get(f->model, name);
	struct err err = ERR_INIT;

	if (!m && model_machine_define(f->model, name, 0755, &root_caller, &m, &err) < 0)
		fail_msg("define %s: %s", name, err.text);
	return m;
}

static inline const struct config_key *key_of(const char *name)
{
	for (size_t i = 0; i < n_machine_keys; i++)
		if (strcmp(machine_keys[i].name, name) == 0)
			return &machine_keys[i];
	fail_msg("no key %s", name);
	return NULL;
}

static inline int put(struct machine *m, const char *key, const char *text, struct err *err)
{
	return machine_key_store(m, key_of(key), text, &root_caller, err);
}

static inline void assert_value(struct machine *m, const char *key, const char *wanted)
{
	struct strbuf sb = STRBUF_INIT;

	assert_int_equal(machine_key_show(m, key_of(key), &sb), 0);
	assert_string_equal(sb.data ? sb.data : "", wanted);
	strbuf_free(&sb);
}

static inline void assert_error(struct machine *m, const char *part)
{
	struct strbuf sb = STRBUF_INIT;

	machine_error_show(m, &sb);
	if (!strstr(sb.data ? sb.data : "", part))
		fail_msg("error is '%s', not '%s'", sb.data ? sb.data : "", part);
	strbuf_free(&sb);
}

/* A file below the fixture's root gets that text. */
static inline void write_file(struct fixture *f, const char *path, const char *text)
{
	char full[400];
	int fd;

	snprintf(full, sizeof(full), "%s/%s", f->root, path);
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static inline bool exists(struct fixture *f, const char *path)
{
	char full[400];

	snprintf(full, sizeof(full), "%s/%s", f->root, path);
	return access(full, F_OK) == 0;
}

/* Names in a directory below the root, hidden ones too. */
static inline unsigned count_entries(struct fixture *f, const char *path)
{
	char full[400];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(full, sizeof(full), "%s/%s", f->root, path);
	d = opendir(full);
	assert_non_null(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	return n;
}

#define model_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
