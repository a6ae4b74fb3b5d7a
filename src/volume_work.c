// SPDX-License-Identifier: ISC
/*
 * Commands that work on the image of a volume which nobody else has: check, repair, commit,
 * rebase, internal snapshots, and its size. Each opens what it needs by a volume_opener,
 * locks it against other programs, and looks at the volume again when it is done.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"
#include "util/size.h"

static void progress(void *arg, uint64_t done, uint64_t total)
{
	job_progress(arg, done, total, "bytes");
}

struct image_job volume_job(struct command_call *call, const struct caller *caller)
{
	return (struct image_job){.cancel = caller->cancel, .progress = progress, .arg = call->job};
}

static enum image_format format_of(struct volume *v)
{
	LOCK_SCOPE(&v->pool->lock);
	return v->meta.format;
}

/*
 * The image with an open description of its own, locked: the lock lasts while the functions of
 * storage/image.h open it again by path. A descriptor or -errno.
 */
static int hold(struct volume *v, bool write, struct cancel *cancel, struct err *err)
{
	_cleanup_storage_ struct storage *s = pool_storage(v->pool, err);
	_cleanup_close_ int fd = -1;
	int r;

	if (!s)
		return -ENXIO;
	fd = storage_open_waiting(s, v->meta.name, write, cancel, err);
	if (fd < 0)
		return fd;
	r = image_lock(fd, write, false, err);
	return r < 0 ? r : take_fd(&fd);
}

/* Opens its image alone or with what is below it; @held keeps it locked. */
int volume_open_image(struct volume *v, unsigned flags, struct cancel *cancel, struct block **block,
		      int *held, struct err *err)
{
	struct volume_opener o;
	int r = volume_opener_init(&o, v, cancel, err);

	if (r == 0)
		r = *held = hold(v, !(flags & IMAGE_READONLY), cancel, err);
	if (r >= 0)
		r = image_open(block, o.files[0].path, format_of(v), flags, &o.opener, err);
	volume_opener_free(&o);
	return r;
}

static void look_after(struct volume *v)
{
	volume_look_now(v, NULL, NULL);
	LOCK_SCOPE(&v->pool->lock);
	volume_touch(v, VOLUME_CONTENT);
}

/* --- size ------------------------------------------------------------------------------------ */

static int size_of_text(const char *text, uint64_t *bytes, struct err *err)
{
	int r = size_parse(text, bytes);

	if (r == -ERANGE)
		return err_set(err, r, "%.40s is too large", text);
	if (r < 0)
		return err_set(err, r, "'%.40s' is not a size (bytes, or as 64M, 2G)", text);
	if (*bytes % 512 || !*bytes)
		return err_set(err, -EINVAL, "%.40s is not a multiple of 512", text);
	return 0;
}

/* A machine runs with it: its guest must hear of it. 1: no machine has it. */
static int resize_running(struct volume *v, uint64_t bytes, const struct caller *caller,
			  struct err *err)
{
	const struct volume_use *use;
	char disk[DISK_NAME_MAX + 1], line[40], name[MACHINE_NAME_MAX + 1];
	struct machine *m = NULL;
	int r;

	pthread_mutex_lock(&v->pool->lock);
	use = volume_used(v, true);
	if (use) {
		m = machine_get(use->m);
		strcpy(disk, use->disk);
	}
	pthread_mutex_unlock(&v->pool->lock);
	if (!m)
		return 1;
	snprintf(line, sizeof(line), "resize %" PRIu64, bytes);
	r = machine_disk_command_run(m, disk, line, caller, err);
	machine_name(m, name);
	if (r < 0)
		err_prefix(err, "machine %s, disk %s", name, disk);
	machine_put(m);
	if (r == 0)
		volume_look_again(v);
	return r;
}

static int resize_file(struct volume *v, uint64_t bytes, struct cancel *cancel, struct err *err)
{
	_cleanup_storage_ struct storage *s = pool_storage(v->pool, err);
	_cleanup_close_ int held = -1;
	struct block *block = NULL;
	int r;

	if (!s)
		return -ENXIO;
	if (s->type->resize)
		return storage_resize_waiting(s, v->meta.name, bytes, cancel, err);
	if (!s->type->open)
		return err_set(err, -EOPNOTSUPP, "its size is its server's business");
	r = volume_open_image(v, 0, cancel, &block, &held, err);
	if (r == 0)
		r = block_resize(block, bytes, err);
	block_close(block);
	return r;
}

/* Not claimed yet. */
static int resize(struct volume *v, uint64_t bytes, bool shrink, const struct caller *caller,
		  struct err *err)
{
	uint64_t now = volume_size(v);
	int r;

	if (bytes < now && !shrink)
		return err_set(err, -EINVAL,
			       "%" PRIu64 " is less than %" PRIu64
			       ", what is beyond would be lost: resize %" PRIu64 " shrink",
			       bytes, now, bytes);
	r = resize_running(v, bytes, caller, err);
	if (r <= 0)
		return r;
	r = volume_claim(v, "resize", err);
	if (r < 0)
		return r;
	if (bytes != now)
		r = resize_file(v, bytes, caller->cancel, err);
	look_after(v);
	volume_unclaim(v);
	return r;
}

int volume_grow(struct volume *v, const char *size, const struct caller *caller, struct err *err)
{
	uint64_t bytes;
	int r = size_of_text(size, &bytes, err);

	return r < 0 ? r : resize(v, bytes, false, caller, err);
}

int volume_resize(struct model *model, struct machine *m, struct command_call *call,
		  const struct caller *caller, struct err *err)
{
	struct volume *v = call->subject.volume;
	bool shrink = call->n_args > 1, fresh;
	uint64_t bytes;
	int r = size_of_text(call->args[0], &bytes, err);

	(void)model, (void)m;
	if (r < 0)
		return r;
	if (shrink && strcmp(call->args[1], "shrink") != 0)
		return err_set(err, -EINVAL, "'%.40s' is not `shrink`", call->args[1]);
	pthread_mutex_lock(&v->pool->lock);
	fresh = v->meta.fresh;
	pthread_mutex_unlock(&v->pool->lock);
	if (fresh) /* nothing can be lost */
		return volume_key_store(v, volume_key("size"), call->args[0], caller, err);
	return resize(v, bytes, shrink, caller, err);
}

/* --- check, repair
 * --------------------------------------------------------------------------------- */

static void note_check(struct volume *v, const struct qcow2_check_result *c)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	strbuf_printf(&sb,
		      "check_corruptions %" PRIu64 "\ncheck_leaks %" PRIu64
		      "\ncheck_corruptions_fixed %" PRIu64 "\ncheck_leaks_fixed %" PRIu64
		      "\ncheck_allocated_clusters %" PRIu64 "\ncheck_total_clusters %" PRIu64
		      "\ncheck_compressed_clusters %" PRIu64 "\ncheck_image_end %" PRIu64 "\n",
		      c->corruptions, c->leaks, c->corruptions_fixed, c->leaks_fixed,
		      c->allocated_clusters, c->total_clusters, c->compressed_clusters,
		      c->image_end);
	LOCK_SCOPE(&v->pool->lock);
	free(v->checked);
	v->checked = strbuf_steal(&sb);
	volume_touch(v, VOLUME_DEFINITION);
}

static int check(struct volume *v, bool leaks, bool errors, const struct caller *caller,
		 struct err *err)
{
	struct qcow2_check_params params = {
	    .fix_leaks = leaks, .fix_errors = errors, .cancel = caller->cancel};
	struct qcow2_check_result result = {0};
	_cleanup_close_ int held = -1;
	struct block *block = NULL;
	unsigned flags = IMAGE_CHECK | IMAGE_NO_BACKING | (leaks ? 0 : IMAGE_READONLY);
	int r = volume_open_image(v, flags, caller->cancel, &block, &held, err);

	if (r == 0)
		r = qcow2_check(block, &params, &result, err);
	block_close(block);
	if (r < 0)
		return r;
	note_check(v, &result);
	if (result.corruptions > result.corruptions_fixed)
		return err_set(err, -EIO, "%" PRIu64 " errors and %" PRIu64 " lost clusters%s",
			       result.corruptions - result.corruptions_fixed,
			       result.leaks - result.leaks_fixed,
			       errors ? " are left" : ": echo repair all > ctl");
	if (result.leaks > result.leaks_fixed)
		return err_set(err, -EUCLEAN, "%" PRIu64 " lost clusters: echo repair leaks > ctl",
			       result.leaks - result.leaks_fixed);
	return 0;
}

int volume_check(struct model *model, struct machine *m, struct command_call *call,
		 const struct caller *caller, struct err *err)
{
	(void)model, (void)m;
	return check(call->subject.volume, false, false, caller, err);
}

int volume_repair(struct model *model, struct machine *m, struct command_call *call,
		  const struct caller *caller, struct err *err)
{
	bool all = !call->n_args || strcmp(call->args[0], "all") == 0;
	int r;

	(void)model, (void)m;
	if (!all && strcmp(call->args[0], "leaks") != 0)
		return err_set(err, -EINVAL, "'%.40s' is neither leaks nor all", call->args[0]);
	r = check(call->subject.volume, true, all, caller, err);
	look_after(call->subject.volume);
	return r;
}

/* --- snapshots
 * ---------------------------------------------------------------------------------------- */

static int snapshot_name_check(const char *name, struct err *err)
{
	if (strlen(name) > 255)
		return err_set(err, -EINVAL, "a name has at most 255 bytes");
	return 0;
}

static int on_snapshot(struct command_call *call, const struct caller *caller,
		       int (*what)(struct block *block, const char *name, struct err *err),
		       struct err *err)
{
	struct volume *v = call->subject.volume;
	_cleanup_close_ int held = -1;
	struct block *block = NULL;
	int r = snapshot_name_check(call->args[0], err);

	if (r == 0)
		r = volume_open_image(v, IMAGE_NO_BACKING, caller->cancel, &block, &held, err);
	if (r == 0)
		r = what(block, call->args[0], err);
	block_close(block);
	look_after(v);
	return r;
}

int volume_snapshot(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	(void)model, (void)m;
	return on_snapshot(call, caller, qcow2_snapshot_create, err);
}

int volume_snapshot_apply(struct model *model, struct machine *m, struct command_call *call,
			  const struct caller *caller, struct err *err)
{
	(void)model, (void)m;
	return on_snapshot(call, caller, qcow2_snapshot_apply, err);
}

int volume_snapshot_delete(struct model *model, struct machine *m, struct command_call *call,
			   const struct caller *caller, struct err *err)
{
	(void)model, (void)m;
	return on_snapshot(call, caller, qcow2_snapshot_delete, err);
}

/* --- commit, rebase
 * ------------------------------------------------------------------------------------- */

/* The volume that it is over; a reference, claimed for @op. */
static int claim_below(struct volume *v, const char *op, const struct caller *caller,
		       struct volume **base, struct err *err)
{
	struct rights rights = {caller->uid, caller->gid, caller->groups, caller->n_groups};
	char full[POOL_NAME_MAX + VOLUME_NAME_MAX + 2];
	int r;

	pthread_mutex_lock(&v->pool->lock);
	if (v->look.sibling)
		snprintf(full, sizeof(full), "%s/%s", v->pool->name, v->look.below);
	else
		snprintf(full, sizeof(full), "%.190s", v->meta.named);
	pthread_mutex_unlock(&v->pool->lock);
	if (*full == '/' || !*full)
		return err_set(err, -EOPNOTSUPP, "what it is over is no volume");
	r = model_volume_find(v->pool->model, full, base, err);
	if (r == 0)
		r = volume_may_use(*base, &rights, true, err);
	if (r == 0)
		r = volume_claim(*base, op, err);
	if (r < 0) {
		err_prefix(err, "%s", full);
		volume_put(take_ptr(*base));
	}
	return r;
}

int volume_commit(struct model *model, struct machine *m, struct command_call *call,
		  const struct caller *caller, struct err *err)
{
	struct volume *v = call->subject.volume;
	_cleanup_volume_ struct volume *base = NULL;
	struct image_job job = volume_job(call, caller);
	_cleanup_close_ int held = -1, held_base = -1;
	struct volume_opener o;
	int r = claim_below(v, "commit", caller, &base, err);

	(void)model, (void)m;
	if (r < 0)
		return r;
	r = volume_opener_init(&o, v, caller->cancel, err);
	o.writable = base;
	if (r == 0)
		r = held = hold(v, false, caller->cancel, err);
	if (r >= 0)
		r = held_base = hold(base, true, caller->cancel, err);
	if (r >= 0)
		r = volume_settle(base, err);
	if (r == 0)
		r = image_commit(o.files[0].path, &o.opener, &job, err);
	volume_opener_free(&o);
	look_after(base);
	volume_unclaim(base);
	return r;
}

/* What is noted of who named it, so that it will be opened. */
static int note_backing(struct volume *v, const struct volume_backing *b,
			const struct caller *caller, struct err *err)
{
	char *named = strdup(b ? b->named : "");

	if (!named)
		return err_set(err, -ENOMEM, "out of memory");
	LOCK_SCOPE(&v->pool->edit);
	pthread_mutex_lock(&v->pool->lock);
	free(v->meta.named);
	v->meta.named = named;
	v->meta.named_uid = caller->uid;
	v->meta.named_gid = caller->gid;
	v->meta.fresh = false;
	pthread_mutex_unlock(&v->pool->lock);
	return pool_store_volumes(v->pool, err);
}

static int allow_extra(struct volume_opener *o, const struct volume_backing *b,
		       const struct caller *caller)
{
	gid_t *groups = calloc(caller->n_groups + 1, sizeof(*groups));

	if (groups && caller->n_groups)
		memcpy(groups, caller->groups, caller->n_groups * sizeof(*groups));
	o->extra.path = strdup(b->path);
	o->extra.volume = b->volume ? volume_get(b->volume) : NULL;
	o->extra.rights = (struct rights){caller->uid, caller->gid, groups, caller->n_groups};
	return o->extra.path && groups ? 0 : -ENOMEM;
}

int volume_rebase(struct model *model, struct machine *m, struct command_call *call,
		  const struct caller *caller, struct err *err)
{
	struct volume *v = call->subject.volume;
	bool none = strcmp(call->args[0], "none") == 0, unsafe = call->n_args > 1;
	struct image_job job = volume_job(call, caller);
	struct volume_backing b = {0};
	_cleanup_close_ int held = -1;
	struct volume_opener o;
	int r = 0;

	(void)model, (void)m;
	if (unsafe && strcmp(call->args[1], "unsafe") != 0)
		return err_set(err, -EINVAL, "'%.40s' is not `unsafe`", call->args[1]);
	if (!none)
		r = backing_find(v, call->args[0], caller, &b, err);
	if (r == 0)
		r = volume_opener_init(&o, v, caller->cancel, err);
	if (r < 0) {
		backing_free(&b);
		return r;
	}
	if (!none)
		r = allow_extra(&o, &b, caller);
	if (r == 0)
		r = held = hold(v, true, caller->cancel, err);
	if (r >= 0)
		r = image_rebase(o.files[0].path, none ? NULL : b.name, b.format, unsafe, &o.opener,
				 &job, err);
	if (r == 0)
		r = note_backing(v, none ? NULL : &b, caller, err);
	volume_opener_free(&o);
	backing_free(&b);
	look_after(v);
	return r;
}
