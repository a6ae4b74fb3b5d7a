// SPDX-License-Identifier: ISC
/*
 * convert and copy: the content of a volume into a new image, beside its place, which it then
 * takes. Whatever ends it before leaves what was there whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pool_int.h"
#include "util/cleanup.h"

/* From where to where, and how. */
struct transfer {
	struct volume *from, *to; /* the same: in place */
	struct volume_values values;
	bool compress;
	struct command_call *call;
	const struct caller *caller;
};

/* A node to write to @fd, which stays the caller's. */
static int open_target(int fd, enum image_format format, struct block **block, struct err *err)
{
	struct image_chain chain = {.n = 1};

	chain.layers[0] = (struct image_layer){
	    .format = format, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	if (chain.layers[0].fd < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor");
	return image_chain_open(block, &chain, 0, err);
}

static int copy_content(const struct transfer *t, struct block *from, int fd, struct err *err)
{
	struct image_copy params = {.compress = t->compress, .whole_chain = true};
	struct image_job job = volume_job(t->call, t->caller);
	struct block *to = NULL;
	int r = open_target(fd, (enum image_format)t->values.format, &to, err);

	if (r == 0)
		r = image_copy(to, from, &params, &job, err);
	block_close(to);
	return r;
}

static int make_target(const struct transfer *t, int fd, struct err *err)
{
	struct image_create create;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor");
	values_to_create(&t->values, &create);
	return image_create(copy, &create, err);
}

/* Into a new file, which takes the place of the old one when it is complete. */
static int to_file(const struct transfer *t, struct storage *s, struct block *from, int *made,
		   struct err *err)
{
	char hidden[STORAGE_NAME_MAX + 64];
	_cleanup_close_ int fd = -1;
	mode_t mode;
	int r;

	fd = storage_create_waiting(s, t->to->meta.name, 0, t->caller->cancel, hidden, err);
	if (fd < 0)
		return fd;
	pthread_mutex_lock(&t->to->pool->lock);
	mode = t->to->entry.mode;
	pthread_mutex_unlock(&t->to->pool->lock);
	if (mode && fchmod(fd, mode) < 0)
		r = err_set(err, -errno, "cannot set the mode of the new image: %m");
	else
		r = make_target(t, fd, err);
	if (r == 0)
		r = copy_content(t, from, fd, err);
	if (r == 0 && cancel_requested(t->caller->cancel))
		r = err_set(err, -ECANCELED, "ended before it was complete");
	if (r == 0)
		r = volume_announce(t->to, fd, (enum image_format)t->values.format, err);
	if (r == 0)
		r = storage_rename_waiting(s, hidden, t->to->meta.name, true, NULL, err);
	if (r < 0)
		storage_remove_waiting(s, hidden, NULL, NULL);
	else
		*made = take_fd(&fd);
	return r;
}

/* Into a device, made or resized for it. */
static int to_device(const struct transfer *t, struct storage *s, struct block *from,
		     struct err *err)
{
	struct volume_values values = t->values;
	_cleanup_close_ int fd = -1;
	int r;

	r = volume_make_anew(t->to, &values, NULL, NULL, t->caller->cancel, err);
	if (r < 0)
		return r;
	fd = storage_open_waiting(s, t->to->meta.name, true, t->caller->cancel, err);
	return fd < 0 ? fd : copy_content(t, from, fd, err);
}

static int transfer(struct transfer *t, struct err *err)
{
	_cleanup_storage_ struct storage *s = pool_storage(t->to->pool, err);
	_cleanup_close_ int made = -1;
	struct block *from = NULL;
	struct block_info info;
	int r;

	if (!s)
		return -ENXIO;
	r = volume_block_open(t->from, false, t->caller->cancel, &from, err);
	if (r == 0) {
		/* as it is, whatever was seen of it last */
		block_info_get(from, &info);
		t->values.size = (info.bytes + 511) & ~511ull;
	}
	if (r == 0)
		r = s->type->rename ? to_file(t, s, from, &made, err) : to_device(t, s, from, err);
	block_close(from);
	if (r == 0 && made >= 0)
		r = volume_settle_new(t->to, &t->values, NULL, made, err);
	if (r == 0)
		r = volume_settle(t->to, err);
	if (r == 0)
		r = volume_look_now(t->to, NULL, err);
	pthread_mutex_lock(&t->to->pool->lock);
	volume_touch(t->to, VOLUME_CONTENT);
	pthread_mutex_unlock(&t->to->pool->lock);
	return r;
}

/* --- convert ------------------------------------------------------------------------------------
 */

static int take_option(struct transfer *t, char *word, struct err *err)
{
	char *value = strchr(word, '=');
	const struct config_key *key;

	if (!value && strcmp(word, "compress") == 0) {
		t->compress = true;
		return 0;
	}
	if (!value)
		return err_set(err, -EINVAL, "'%.40s' is neither `compress` nor KEY=VALUE", word);
	*value++ = '\0';
	key = volume_key(word);
	if (!key || key == volume_key("size") || key == volume_key("backing") ||
	    key == volume_key("format"))
		return err_set(err, -EINVAL, "'%.40s' is no option of convert", word);
	return volume_value_parse(&t->values, key, value, err) < 0 ? err_prefix(err, "%.40s", word)
								   : 0;
}

static int take_options(struct transfer *t, struct err *err)
{
	int r = volume_value_parse(&t->values, volume_key("format"), t->call->args[0], err);

	for (unsigned i = 1; r == 0 && i < t->call->n_args; i++)
		r = take_option(t, t->call->args[i], err);
	if (r == 0 && t->compress && t->values.format != IMAGE_QCOW2)
		r = err_set(err, -EINVAL, "only qcow2 images are compressed");
	return r;
}

/* What would be lost, or no longer be understood. */
static int may_convert(struct volume *v, const struct volume_values *values, struct err *err)
{
	bool other_format, snapshots;

	pthread_mutex_lock(&v->pool->lock);
	other_format = values->format != (uint64_t)v->meta.format;
	snapshots = v->look.snapshots;
	pthread_mutex_unlock(&v->pool->lock);
	if (snapshots)
		return err_set(err, -EBUSY, "its snapshots would be lost: delete them first");
	return other_format ? volume_must_not_back(v, err) : 0;
}

/* The values of @v as they are, over nothing. */
static int values_of(struct volume *v, struct volume_values *values)
{
	int r;

	LOCK_SCOPE(&v->pool->lock);
	r = volume_values_copy(values, &v->values);
	if (r == 0)
		*values->backing = '\0';
	return r;
}

int volume_convert(struct model *model, struct machine *m, struct command_call *call,
		   const struct caller *caller, struct err *err)
{
	struct volume *v = call->subject.volume;
	struct transfer t = {.from = v, .to = v, .call = call, .caller = caller};
	int r = values_of(v, &t.values);

	(void)model, (void)m;
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = take_options(&t, err);
	if (r == 0)
		r = may_convert(v, &t.values, err);
	if (r == 0)
		r = transfer(&t, err);
	volume_values_free(&t.values);
	return r;
}

/* --- copy
 * ------------------------------------------------------------------------------------------ */

static int find_target(struct transfer *t, const char *name, struct err *err)
{
	struct rights rights = {t->caller->uid, t->caller->gid, t->caller->groups,
				t->caller->n_groups};
	int r = model_volume_find(t->from->pool->model, name, &t->to, err);

	if (r < 0)
		return r;
	if (t->to == t->from)
		return err_set(err, -EINVAL, "that is itself");
	pthread_mutex_lock(&t->to->pool->lock);
	if (!t->to->meta.fresh)
		r = err_set(err, -EEXIST, "%s is not new: its content would be lost", name);
	else if (volume_values_copy(&t->values, &t->to->meta.wanted) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_unlock(&t->to->pool->lock);
	if (r == 0)
		r = volume_may_use(t->to, &rights, true, err);
	if (r == 0 && *t->values.backing)
		r = err_set(err, -EINVAL, "%s is over something: echo none > backing", name);
	return r;
}

int volume_copy(struct model *model, struct machine *m, struct command_call *call,
		const struct caller *caller, struct err *err)
{
	struct transfer t = {.from = call->subject.volume, .call = call, .caller = caller};
	int r;

	(void)model, (void)m;
	if (call->n_args > 1 && strcmp(call->args[1], "compress") != 0)
		return err_set(err, -EINVAL, "'%.40s' is not `compress`", call->args[1]);
	t.compress = call->n_args > 1;
	r = find_target(&t, call->args[0], err);
	if (r == 0)
		r = volume_claim(t.to, "copy", err);
	if (r == 0) {
		r = transfer(&t, err);
		volume_unclaim(t.to);
	}
	volume_values_free(&t.values);
	volume_put(t.to);
	return r;
}
