// SPDX-License-Identifier: ISC
/*
 * A machine from an archive. It must be new: defined, without disks, snapshots or a saved state;
 * its op is held from the first byte to the last, so it stays so.
 *
 * While the archive comes, disks go to qcow2 images and kernel and initrd to files, all hidden
 * (archive_images.h), memory to a layer that nothing refers to, the state to a file without a name.
 * Nothing of that is anybody's before the end has been seen and all checksums were right. Then:
 *
 *	1	the files are synced, get their owner and their names
 *	2	the machine is saved with the memory, the state and the definition (save.h); that is
 *		stored with all checks of a write to `config`
 *
 * What fails takes back what was done before it. Whoever crashes in between leaves the machine as
 * it was, or all of it.
 */
#define LOG_MODULE "snapshot"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive_images.h"
#include "command.h"
#include "content_int.h"
#include "disk.h"
#include "save.h"
#include "snapshot_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define LOW_RAM_END 0xc0000000ull
#define HIGH_RAM    0x100000000ull
#define KERNEL_MAX  (4ull << 30) /* and an initrd */
#define STATE_MAX   (64ull << 20)
#define SECTOR	    512u
#define GAP_FIRST   (64u << 10) /* extents of memory that are nearer are one */
#define NO_DISK	    UINT_MAX

struct archive_import {
	struct machine *m; /* a reference; its op is held */
	struct caller caller;
	gid_t *groups; /* of caller */
	struct archive_in *in;
	struct archive_meta meta;
	struct definition *def; /* as it is to be */
	int dir;		/* STATE/images; -1: nothing was needed yet */
	struct archive_file disks[VMM_DISKS_MAX], kernel, initrd, state;
	unsigned n_disks;	 /* of them that were made */
	unsigned disk;		 /* whose pieces come, or NO_DISK */
	struct content *content; /* of it */
	uint64_t got[ARCHIVE_KIND_MAX];
	int memory;		/* the layer; -1: none */
	struct memory_map *map; /* its file is the layer, with a reference; NULL: none */
	uint64_t gap;
};

/* --- what it says ---------------------------------------------------------------------------- */

static int refuse(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "the archive does not agree with itself: %s", what);
}

/* The first address behind so much RAM. */
static uint64_t top_of(uint64_t memory)
{
	return memory <= LOW_RAM_END ? memory : memory - LOW_RAM_END + HIGH_RAM;
}

static int take_meta(struct archive_import *im, const char *text, size_t len, struct err *err)
{
	struct archive_meta *meta = &im->meta;
	int r = archive_meta_parse(text, len, meta, err);

	if (r < 0)
		return r;
	if (meta->kernel > KERNEL_MAX || meta->initrd > KERNEL_MAX)
		return refuse(err, "a kernel or initrd that is too large");
	if (!meta->memory != !meta->state || meta->state > STATE_MAX || meta->registers > STATE_MAX)
		return refuse(err, "memory and state");
	for (unsigned i = 0; i < meta->n_disks; i++)
		if (!meta->disks[i].bytes)
			return refuse(err, "a disk without size");
	return 0;
}

static unsigned find_disk(const struct archive_meta *meta, const char *name)
{
	for (unsigned i = 0; i < meta->n_disks; i++)
		if (strcmp(meta->disks[i].name, name) == 0)
			return i;
	return NO_DISK;
}

static int set_text(char **text, const char *to)
{
	char *copy = strdup(to);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* What it names is what came with it, and nothing else of the host that it is from. */
static int set_file(const char *base, const struct archive_file *file, char **text)
{
	char path[PATH_MAX];

	if (!file || file->fd < 0)
		return set_text(text, "");
	if (snprintf(path, sizeof(path), "%s/%s", base, file->name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	return set_text(text, path);
}

static int set_disk(struct archive_import *im, const char *base, struct disk *disk)
{
	unsigned i = find_disk(&im->meta, disk->name);
	int r = set_file(base, i == NO_DISK ? NULL : &im->disks[i], &disk->values.source);

	if (r == 0)
		r = set_text(&disk->values.backing, "");
	if (i != NO_DISK)
		disk->values.format = IMAGE_QCOW2;
	return r;
}

static int set_files(struct archive_import *im, struct err *err)
{
	struct definition *def = im->def;
	char base[PATH_MAX];
	int r = archive_files_path(im->dir, base, sizeof(base));

	if (r == 0)
		r = set_file(base, &im->kernel, &def->values.kernel);
	if (r == 0)
		r = set_file(base, &im->initrd, &def->values.initrd);
	for (size_t i = 0; r == 0 && i < def->n_disks; i++)
		r = set_disk(im, base, &def->disks[i]);
	return r < 0 ? err_set(err, r, "STATE/images: %s", strerror(-r)) : 0;
}

/* --- files to be ----------------------------------------------------------------------------- */

static int make_disk(struct archive_import *im, unsigned i, struct err *err)
{
	const struct archive_disk *disk = &im->meta.disks[i];
	struct image_create params = {
	    .format = IMAGE_QCOW2,
	    .bytes = disk->bytes + (SECTOR - disk->bytes % SECTOR) % SECTOR,
	};
	char suffix[DISK_NAME_MAX + 16];
	int fd, r;

	snprintf(suffix, sizeof(suffix), "%s.qcow2", disk->name);
	r = archive_file_make(im->dir, im->m, suffix, &im->disks[i], err);
	if (r < 0)
		return r;
	im->n_disks = i + 1;
	fd = fcntl(im->disks[i].fd, F_DUPFD_CLOEXEC, 3);
	r = fd < 0 ? err_set(err, -errno, "%s", strerror(errno)) : image_create(fd, &params, err);
	return r < 0 ? (err_prefix(err, "disk %s", disk->name), r) : 0;
}

static int make_memory(struct archive_import *im, struct err *err)
{
	int r;

	im->map = calloc(1, sizeof(*im->map));
	if (!im->map)
		return err_set(err, -ENOMEM, "out of memory");
	*im->map =
	    (struct memory_map){.kind = VMM_MEMORY_RAW, .bytes = im->meta.memory, .n_files = 1};
	im->gap = GAP_FIRST;
	r = layer_make(im->m->model, LAYER_MEMORY, im->map->files[0], &im->memory, err);
	if (r < 0) {
		free(take_ptr(im->map));
		return r;
	}
	if (ftruncate(im->memory, (off_t)im->meta.memory) < 0)
		return err_set(err, -errno, "memory: %s", strerror(errno));
	return 0;
}

static int make_files(struct archive_import *im, struct err *err)
{
	int r = im->dir = archive_files_dir(im->m->model, true);

	if (r < 0)
		return err_set(err, r, "STATE/images: %s", strerror(-r));
	r = 0;
	if (im->meta.kernel)
		r = archive_file_make(im->dir, im->m, "kernel", &im->kernel, err);
	if (r == 0 && im->meta.initrd)
		r = archive_file_make(im->dir, im->m, "initrd", &im->initrd, err);
	if (r == 0 && im->meta.state)
		r = archive_file_make(im->dir, im->m, "state", &im->state, err);
	for (unsigned i = 0; r == 0 && i < im->meta.n_disks; i++)
		r = make_disk(im, i, err);
	if (r == 0 && im->meta.memory)
		r = make_memory(im, err);
	return r == 0 ? set_files(im, err) : r;
}

static int take_config(struct archive_import *im, const char *text, size_t len, struct err *err)
{
	int r = config_parse(text, len, &im->def, err);

	if (r < 0)
		return err_prefix(err, "the archive's config");
	for (unsigned i = 0; i < im->meta.n_disks; i++)
		if (!definition_disk(im->def, im->meta.disks[i].name))
			return refuse(err, "a disk that is not defined");
	if (im->meta.memory && (im->meta.memory != top_of(im->def->values.memory) ||
				im->meta.cpus != im->def->values.cpus))
		return refuse(err, "the size of its memory, or its cpus");
	return make_files(im, err);
}

/* --- contents -------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static int close_disk(struct archive_import *im, struct err *err)
{
	unsigned i = im->disk;
	int r;

	if (!im->content)
		return 0;
	r = content_close(take_ptr(im->content));
	return r < 0 ? err_set(err, r, "disk %s: %s", im->meta.disks[i].name, strerror(-r)) : 0;
}

static int open_disk(struct archive_import *im, unsigned i, struct err *err)
{
	struct content_block_params params = {.write = true};
	struct image_chain chain = {.n = 1};
	struct block *block;
	int r = close_disk(im, err);

	if (r < 0)
		return r;
	im->disk = i;
	chain.layers[0] = (struct image_layer){.format = IMAGE_QCOW2, .data_fd = -1};
	chain.layers[0].fd = fcntl(im->disks[i].fd, F_DUPFD_CLOEXEC, 3);
	if (chain.layers[0].fd < 0)
		return err_set(err, -errno, "%s", strerror(errno));
	r = image_chain_open(&block, &chain, 0, err);
	image_chain_close(&chain);
	return r < 0 ? r : content_block_open(&im->content, block, &params, err);
}

static int take_disk(struct archive_import *im, const struct archive_record *record,
		     const uint8_t *data, struct err *err)
{
	unsigned i = find_disk(&im->meta, record->name);
	int r = 0;

	if (i == NO_DISK || (im->disk != NO_DISK && i < im->disk))
		return refuse(err, "a disk that may not come there");
	if (record->offset > im->meta.disks[i].bytes ||
	    record->bytes > im->meta.disks[i].bytes - record->offset)
		return refuse(err, "a piece behind the end of its disk");
	if (i != im->disk)
		r = open_disk(im, i, err);
	if (r < 0 || is_zero(data, record->bytes))
		return r;
	r = content_write(im->content, data, record->bytes, record->offset);
	return r < 0 ? err_set(err, r, "disk %s: %s", record->name, strerror(-r)) : 0;
}

/* How far it is from the extent before it; UINT64_MAX: it can never be one with that. */
static uint64_t gap_before(const struct vmm_extent *before, const struct vmm_extent *e)
{
	return before->gpa < LOW_RAM_END && e->gpa >= HIGH_RAM
		   ? UINT64_MAX
		   : e->gpa - before->gpa - before->bytes;
}

/* One more; what is nearer than the gap becomes one. */
static bool add_extent(struct memory_map *map, uint64_t gap, const struct vmm_extent *e)
{
	struct vmm_extent *last = map->n_extents ? &map->extents[map->n_extents - 1] : NULL;

	if (last && gap_before(last, e) <= gap) {
		last->bytes = e->gpa + e->bytes - last->gpa;
		return true;
	}
	if (map->n_extents == VMM_EXTENTS_MAX)
		return false;
	map->extents[map->n_extents++] = *e;
	return true;
}

static void note_extent(struct archive_import *im, const struct vmm_extent *e)
{
	while (!add_extent(im->map, im->gap, e)) {
		unsigned n = im->map->n_extents;

		im->gap *= 2;
		im->map->n_extents = 0;
		for (unsigned i = 0; i < n; i++) {
			struct vmm_extent again = im->map->extents[i];

			add_extent(im->map, im->gap, &again);
		}
	}
}

static int take_memory(struct archive_import *im, const struct archive_record *record,
		       const uint8_t *data, struct err *err)
{
	uint64_t from = record->offset, to = from + record->bytes;
	const struct vmm_extent e = {.gpa = from, .bytes = record->bytes, .offset = from};
	int r;

	if (!im->map || to > im->meta.memory || (to > LOW_RAM_END && from < HIGH_RAM))
		return refuse(err, "memory where there is none");
	if (is_zero(data, record->bytes))
		return 0;
	r = file_pwrite_all(im->memory, data, record->bytes, (off_t)from);
	if (r < 0)
		return err_set(err, r, "memory: %s", strerror(-r));
	note_extent(im, &e);
	return 0;
}

/* A piece of a file that META told the size of; @fd -1: it is not kept. */
static int take_piece(struct archive_import *im, const struct archive_record *record,
		      const void *data, int fd, uint64_t bytes, struct err *err)
{
	int r;

	if (record->bytes > bytes || record->offset > bytes - record->bytes)
		return refuse(err, "a piece behind the end of its file");
	im->got[record->kind] = record->offset + record->bytes;
	r = fd < 0 ? 0 : file_pwrite_all(fd, data, record->bytes, (off_t)record->offset);
	return r < 0 ? err_set(err, r, "cannot write what is in it: %s", strerror(-r)) : 0;
}

static int take(void *arg, const struct archive_record *record, const void *data, struct err *err)
{
	struct archive_import *im = arg;

	switch (record->kind) {
	case ARCHIVE_META:
		return take_meta(im, data, record->bytes, err);
	case ARCHIVE_CONFIG:
		return take_config(im, data, record->bytes, err);
	case ARCHIVE_KERNEL:
		return take_piece(im, record, data, im->kernel.fd, im->meta.kernel, err);
	case ARCHIVE_INITRD:
		return take_piece(im, record, data, im->initrd.fd, im->meta.initrd, err);
	case ARCHIVE_DISK:
		return take_disk(im, record, data, err);
	case ARCHIVE_MEMORY:
		return take_memory(im, record, data, err);
	case ARCHIVE_STATE:
		return take_piece(im, record, data, im->state.fd, im->meta.state, err);
	case ARCHIVE_REGISTERS:
		return take_piece(im, record, data, -1, im->meta.registers, err);
	case ARCHIVE_END:
	case ARCHIVE_KIND_MAX:
		break;
	}
	return refuse(err, "a record of an unknown kind");
}

/* --- the end --------------------------------------------------------------------------------- */

static int check_whole(struct archive_import *im, struct err *err)
{
	const struct archive_meta *meta = &im->meta;

	if (!im->def)
		return refuse(err, "there is no definition");
	if (im->got[ARCHIVE_KERNEL] != meta->kernel || im->got[ARCHIVE_INITRD] != meta->initrd ||
	    im->got[ARCHIVE_STATE] != meta->state || im->got[ARCHIVE_REGISTERS] != meta->registers)
		return refuse(err, "a part is shorter than it says");
	return 0;
}

/* As far as the daemon looks at it: a VMM does not believe it either. */
static int check_state(struct archive_import *im, struct err *err)
{
	char magic[sizeof(VMM_STATE_MAGIC) - 1];
	uint32_t used;

	if (im->state.fd < 0)
		return 0;
	if (file_pread_all(im->state.fd, magic, sizeof(magic), 0) < 0 ||
	    memcmp(magic, VMM_STATE_MAGIC, sizeof(magic)) != 0 ||
	    file_pread_all(im->state.fd, &used, sizeof(used), VMM_STATE_USED_AT) < 0 || used)
		return refuse(err, "its state is none, or was used");
	return 0;
}

static int place_files(struct archive_import *im, struct err *err)
{
	int r = close_disk(im, err);

	if (r == 0 && im->kernel.fd >= 0)
		r = archive_file_place(im->dir, im->m, &im->kernel, err);
	if (r == 0 && im->initrd.fd >= 0)
		r = archive_file_place(im->dir, im->m, &im->initrd, err);
	for (unsigned i = 0; r == 0 && i < im->n_disks; i++)
		r = archive_file_place(im->dir, im->m, &im->disks[i], err);
	if (r == 0 && im->memory >= 0 && fsync(im->memory) < 0)
		r = err_set(err, -errno, "memory: %s", strerror(errno));
	if (r == 0) {
		r = file_sync_dir(im->dir);
		if (r == 0)
			r = file_sync_dir(im->m->model->state_fd);
		if (r < 0)
			err_set(err, r, "STATE/images: %s", strerror(-r));
	}
	return r;
}

struct definition_to_be {
	struct archive_import *im;
	struct strbuf text;
};

static int store(void *arg, struct err *err)
{
	struct definition_to_be *d = arg;
	struct archive_import *im = d->im;

	return machine_config_store(im->m, d->text.data, d->text.len, &im->caller, err);
}

/* The definition, and the saved state. */
static int settle(struct archive_import *im, struct err *err)
{
	struct definition_to_be d = {im, STRBUF_INIT};
	const struct saved_config config = {&d.text, store, &d};
	int r = definition_check(im->def, err);

	if (r == 0 && definition_complete(im->def, NULL) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		config_format(im->def, &d.text);
	if (r == 0 && d.text.failed)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0 && !im->map)
		r = store(&d, err);
	else if (r == 0)
		r = saved_make(im->m, im->state.fd, im->map, NULL, &config, "archive", err);
	strbuf_free(&d.text);
	return r;
}

static void note_sizes(struct archive_import *im)
{
	for (unsigned i = 0; i < im->n_disks; i++) {
		disk_size_note(im->m, im->meta.disks[i].name, im->meta.disks[i].bytes);
		LOCK_SCOPE(&im->m->lock);
		machine_touch(im->m, ASPECT_DISK_CONTENT, im->meta.disks[i].name);
	}
}

/* Lets go of everything; of what was made, too, unless it is the machine's now. */
static void finish(struct archive_import *im, bool keep)
{
	if (im->content)
		content_close(im->content);
	for (unsigned i = 0; i < im->n_disks; i++)
		archive_file_close(im->dir, &im->disks[i], !keep);
	if (im->kernel.fd >= 0)
		archive_file_close(im->dir, &im->kernel, !keep);
	if (im->initrd.fd >= 0)
		archive_file_close(im->dir, &im->initrd, !keep);
	if (im->state.fd >= 0)
		archive_file_close(im->dir, &im->state, true);
	if (im->map) /* who is saved with it has a reference of his own */
		layer_put(im->m->model, LAYER_MEMORY, im->map->files[0]);
	if (im->memory >= 0)
		close(im->memory);
	if (im->dir >= 0)
		close(im->dir);
	archive_in_free(im->in);
	definition_put(im->def);
	machine_op_end(im->m);
	machine_put(im->m);
	free(im->map);
	free(im->groups);
	free(im);
}

/* --- snapshot.h ------------------------------------------------------------------------------ */

/* Its op is held. */
static int check_new(struct machine *m, const struct caller *caller, struct err *err)
{
	LOCK_SCOPE(&m->lock);
	if (caller->uid != 0 && caller->uid != m->access.uid)
		return err_set(err, -EACCES, "what an archive brings is its owner's: you are not");
	if (m->state != MACHINE_DEFINED || m->vmm || m->saved)
		return err_set(err, -EBUSY, "the machine is %s, and not one that was just made",
			       machine_state_name(m->state));
	if (m->def->n_disks)
		return err_set(err, -EBUSY, "the machine has disks: make a new one");
	if (snapshots_bound(m))
		return err_set(err, -EBUSY, "the machine has snapshots: make a new one");
	return 0;
}

static int begin(struct archive_import *im, const struct caller *caller, struct err *err)
{
	int r = check_new(im->m, caller, err);

	if (r < 0)
		return r;
	im->caller = *caller;
	im->caller.cancel = NULL;
	im->groups = calloc(caller->n_groups + 1, sizeof(*im->groups));
	if (!im->groups)
		return err_set(err, -ENOMEM, "out of memory");
	if (caller->n_groups)
		memcpy(im->groups, caller->groups, caller->n_groups * sizeof(*im->groups));
	im->caller.groups = im->groups;
	return archive_in_open(&im->in, take, im, err);
}

int machine_archive_begin(struct machine *m, const struct caller *caller,
			  struct archive_import **import, struct err *err)
{
	struct archive_import *im = calloc(1, sizeof(*im));
	int r;

	if (!im)
		return err_set(err, -ENOMEM, "out of memory");
	r = machine_op_begin(m, "archive", err);
	if (r < 0) {
		free(im);
		return r;
	}
	im->m = machine_get(m);
	im->dir = im->memory = im->kernel.fd = im->initrd.fd = im->state.fd = -1;
	im->disk = NO_DISK;
	r = begin(im, caller, err);
	if (r < 0)
		finish(im, false);
	else
		*import = im;
	return r;
}

int machine_archive_write(struct archive_import *im, const void *data, size_t len, struct err *err)
{
	return archive_in_put(im->in, data, len, err);
}

int machine_archive_end(struct archive_import *im, struct err *err)
{
	int r = archive_in_end(im->in, err);

	if (r == 0)
		r = check_whole(im, err);
	if (r == 0)
		r = check_state(im, err);
	if (r == 0)
		r = place_files(im, err);
	if (r == 0)
		r = settle(im, err);
	if (r == 0)
		note_sizes(im);
	finish(im, r == 0);
	return r;
}

void machine_archive_abort(struct archive_import *im)
{
	if (im)
		finish(im, false);
}
