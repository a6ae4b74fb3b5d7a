/* SPDX-License-Identifier: ISC */
#ifndef POOL_TEST_H
#define POOL_TEST_H
/* Pools on real directories, for tests of them. */
#include "model_test.h"
#include "pool.h"
#include "volume.h"

static inline const struct config_key *pool_key_of(const char *name)
{
	for (size_t i = 0; i < n_pool_keys; i++)
		if (strcmp(pool_keys[i].name, name) == 0)
			return &pool_keys[i];
	fail_msg("no key %s", name);
	return NULL;
}

static inline const struct config_key *volume_key_of(const char *name)
{
	for (size_t i = 0; i < n_volume_keys; i++)
		if (strcmp(volume_keys[i].name, name) == 0)
			return &volume_keys[i];
	fail_msg("no key %s", name);
	return NULL;
}

/* The path of @name below the fixture's root. */
static inline const char *at(struct fixture *f, const char *name)
{
	static __thread char paths[4][400];
	static __thread unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, 400, "%s/%s", f->root, name);
	return path;
}

static inline int pool_put_key(struct pool *pool, const char *key, const char *text,
			       struct err *err)
{
	return pool_key_store(pool, pool_key_of(key), text, &root_caller, err);
}

static inline int volume_put_key(struct volume *v, const char *key, const char *text,
				 struct err *err)
{
	*err = (struct err)ERR_INIT;
	return volume_key_store(v, volume_key_of(key), text, &root_caller, err);
}

static inline void set(struct volume *v, const char *key, const char *text)
{
	struct err err = ERR_INIT;

	if (volume_put_key(v, key, text, &err) < 0)
		fail_msg("%s = %s: %s", key, text, err.text);
}

/* A pool over a new directory of the same name below the root; a reference. */
static inline struct pool *need_pool(struct fixture *f, const char *name)
{
	struct pool *pool = NULL;
	struct err err = ERR_INIT;

	if (mkdir(at(f, name), 0755) < 0 && errno != EEXIST)
		fail_msg("mkdir: %m");
	if (model_pool_define(f->model, name, 0755, &root_caller, &pool, &err) < 0 ||
	    pool_put_key(pool, "source", at(f, name), &err) < 0)
		fail_msg("%s: %s", name, err.text);
	assert_int_equal(pool_state(pool), POOL_ACTIVE);
	return pool;
}

static inline struct volume *need_volume(struct pool *pool, const char *name)
{
	struct volume *v = NULL;
	struct err err = ERR_INIT;

	if (pool_volume_make(pool, name, 0755, &root_caller, &v, &err) < 0)
		fail_msg("%s: %s", name, err.text);
	return v;
}

static inline void refresh(struct pool *pool)
{
	struct err err = ERR_INIT;

	if (pool_command_run(pool, "refresh", &root_caller, &err) < 0)
		fail_msg("refresh: %s", err.text);
}

static inline void run_on(struct volume *v, const char *line)
{
	struct err err = ERR_INIT;

	if (volume_command_run(v, line, &root_caller, &err) < 0)
		fail_msg("%s: %s %s", line, err_name(err.code), err.text);
}

/* It is refused with that errno, with words that have @part. */
static inline void refused(struct volume *v, const char *line, int code, const char *part)
{
	struct err err = ERR_INIT;
	int r = volume_command_run(v, line, &root_caller, &err);

	if (r != code || !strstr(err.text, part))
		fail_msg("%s: %s %s", line, err_name(r), err.text);
}

static inline void key_refused(struct volume *v, const char *key, const char *text, int code,
			       const char *part)
{
	struct err err = ERR_INIT;
	int r = volume_put_key(v, key, text, &err);

	if (r != code || !strstr(err.text, part))
		fail_msg("%s = %s: %s %s", key, text, err_name(r), err.text);
}

static inline void assert_key(struct volume *v, const char *key, const char *wanted)
{
	struct strbuf sb = STRBUF_INIT;

	assert_int_equal(volume_key_show(v, volume_key_of(key), &sb), 0);
	if (strcmp(sb.data ? sb.data : "", wanted) != 0)
		fail_msg("%s is '%s', not '%s'", key, sb.data ? sb.data : "", wanted);
	strbuf_free(&sb);
}

static inline bool shows(void (*show)(struct volume *v, struct strbuf *sb), struct volume *v,
			 const char *part)
{
	struct strbuf sb = STRBUF_INIT;
	bool found;

	show(v, &sb);
	found = *part ? sb.data && strstr(sb.data, part) : !sb.len;
	strbuf_free(&sb);
	return found;
}

static inline bool pool_says(struct pool *pool, const char *part)
{
	struct strbuf sb = STRBUF_INIT;
	bool found;

	pool_error_show(pool, &sb);
	found = sb.data && strstr(sb.data, part);
	strbuf_free(&sb);
	return found;
}

/* Waits until it is so. A generous deadline only ends a hang. */
#define await(condition)                                                                           \
	do {                                                                                       \
		for (int i_ = 0; i_ < 60000 && !(condition); i_++)                                 \
			usleep(1000);                                                              \
		assert_true(condition);                                                            \
	} while (0)

static inline bool has_volume(struct pool *pool, const char *name)
{
	struct volume *v = pool_volume_get(pool, name);

	volume_put(v);
	return v;
}

static inline void sh(const char *format, ...)
{
	char command[2000];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

#endif
