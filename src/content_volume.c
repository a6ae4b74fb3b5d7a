// SPDX-License-Identifier: ISC
/*
 * The content of a volume. Where a machine writes it, it is read through that machine; else its
 * image is opened here, locked against all others that matter, and machines and commands
 * find the volume busy meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "content_int.h"
#include "layer.h"
#include "pool_int.h"
#include "storage/block_nbd.h"
#include "util/cleanup.h"

#define STEP_BYTES (64u << 20) /* by which a qcow2 image grows while it is written */

/* What is to be given back when it is closed. */
struct opened {
	struct volume *volume; /* a reference */
	bool write;
};

/* --- claims ----------------------------------------------------------------------------------- */

/* Under pool.lock. 1: a machine writes it, whose disk is in *use. */
static int may_open(struct volume *v, bool write, const struct volume_use **use, struct err *err)
{
	char name[MACHINE_NAME_MAX + 1];
	int r;

	if (!v->alive)
		return err_set(err, -ENOENT, "the volume is gone");
	if (v->op)
		return err_set(err, -EBUSY, "%s is under way", v->op);
	*use = volume_used(v, write);
	if (*use && !write)
		return 1;
	if (*use) {
		machine_name((*use)->m, name);
		return err_set(err, -EBUSY, "machine %s has it (disk %s)", name, (*use)->disk);
	}
	if (write && v->entry.readonly)
		return err_set(err, -EROFS, "the volume %s can only be read", v->meta.name);
	r = volume_await_closed(v, write, err);
	if (r == 0 && (v->op || volume_used(v, write)))
		return err_set(err, -EBUSY, "it has just been taken");
	return r;
}

static void give_back(void *arg, bool written)
{
	struct opened *o = arg;
	struct volume *v = o->volume;

	pthread_mutex_lock(&v->pool->lock);
	if (o->write)
		v->writer = false;
	else
		v->n_readers--;
	pthread_cond_broadcast(&v->pool->cond);
	if (written)
		volume_touch(v, VOLUME_CONTENT);
	pthread_mutex_unlock(&v->pool->lock);
	if (written)
		volume_look_now(v, NULL, NULL);
	volume_put(v);
	free(o);
}

/* --- opening ------------------------------------------------------------------------------------
 */

int volume_block_open(struct volume *v, bool write, struct cancel *cancel, struct block **block,
		      struct err *err)
{
	struct volume_chain chain;
	int r = volume_chain_open(v, write, false, cancel, &chain, err);

	if (r < 0)
		return r;
	if (chain.images.n) {
		r = image_chain_open(block, &chain.images, write ? 0 : IMAGE_READONLY, err);
	} else {
		struct block_nbd_params p = {
		    .bytes = chain.link.bytes, .flags = chain.link.flags, .readonly = !write};

		r = block_nbd_open(block, take_fd(&chain.link.fd), &p, err);
	}
	volume_chain_close(&chain);
	return r;
}

static int open_claimed(struct volume *v, bool write, const struct caller *caller, struct opened *o,
			struct content **content, struct err *err)
{
	struct content_block_params params = {.write = write, .closed = give_back, .arg = o};
	struct block_info info;
	struct block *block;
	bool files, qcow2;
	int r = write ? volume_settle(v, err) : 0;

	if (r == 0)
		r = volume_block_open(v, write, caller->cancel, &block, err);
	if (r < 0) {
		give_back(o, false);
		return r;
	}
	block_info_get(block, &info);
	pthread_mutex_lock(&v->pool->lock);
	files = v->pool->type->rename;
	qcow2 = v->meta.format == IMAGE_QCOW2;
	pthread_mutex_unlock(&v->pool->lock);
	params.may_resize = write && files;
	params.may_grow = write && files && info.bytes == 0;
	params.step_bytes = qcow2 ? STEP_BYTES : 0;
	return content_block_open(content, block, &params, err);
}

int volume_content_open(struct volume *v, bool write, const struct caller *caller,
			struct content **content, struct err *err)
{
	struct opened *o = calloc(1, sizeof(*o));
	const struct volume_use *use = NULL;
	char disk[DISK_NAME_MAX + 1];
	struct machine *m = NULL;
	int r;

	if (!o)
		return err_set(err, -ENOMEM, "out of memory");
	r = write ? layers_refuse_volume(v, err) : 0;
	if (r < 0) {
		free(o);
		return r;
	}
	pthread_mutex_lock(&v->pool->lock);
	r = may_open(v, write, &use, err);
	if (r == 1) {
		m = machine_get(use->m);
		strcpy(disk, use->disk);
	} else if (r == 0 && write) {
		v->writer = true;
	} else if (r == 0) {
		v->n_readers++;
	}
	pthread_mutex_unlock(&v->pool->lock);
	if (r < 0) {
		free(o);
		return r;
	}
	if (m) {
		struct caller self = {.uid = geteuid(), .gid = getegid(), .cancel = caller->cancel};

		free(o);
		r = machine_disk_content_open(m, disk, false, &self, content, err);
		machine_put(m);
		return r;
	}
	o->volume = volume_get(v);
	o->write = write;
	return open_claimed(v, write, caller, o, content, err);
}
