// SPDX-License-Identifier: ISC
/*
 * What is in a snapshot, as files: its disks, its memory, a core made of it, and how large
 * all of that is on disk. What is open stays readable when the snapshot is removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_int.h"
#include "core.h"
#include "disk.h"
#include "snapshot_int.h"
#include "util/cleanup.h"
#include "util/file.h"

/* --- disks -----------------------------------------------------------------------------------
 */

bool snapshot_disk_at(struct snapshot *s, size_t index, char name[DISK_NAME_MAX + 1])
{
	if (index >= s->def->n_disks)
		return false;
	strcpy(name, s->def->disks[index].name);
	return true;
}

bool snapshot_disk_exists(struct snapshot *s, const char *disk)
{
	return definition_disk(s->def, disk);
}

static const struct disk_layers *find_layers(const struct snapshot *s, const char *disk)
{
	for (size_t i = 0; i < s->layers.n; i++)
		if (strcmp(s->layers.disks[i].name, disk) == 0)
			return &s->layers.disks[i];
	return NULL;
}

uint64_t snapshot_disk_size(struct snapshot *s, const char *disk)
{
	const struct disk_layers *layers = find_layers(s, disk);

	return layers ? layers->bytes : 0;
}

int snapshot_disk_key_show(struct snapshot *s, const char *disk, const struct config_key *key,
			   struct strbuf *sb)
{
	const struct disk *d = definition_disk(s->def, disk);

	if (!d)
		return -ENOENT;
	value_show(&d->values, key, sb);
	return sb->failed ? -ENOMEM : 0;
}

/*
 * With the rights of the machine's owner: who may read the snapshot's files is what their
 * modes say.
 */
int snapshot_disk_content_open(struct snapshot *s, const char *disk, const struct caller *caller,
			       struct content **content, struct err *err)
{
	const struct disk_layers *layers = find_layers(s, disk);
	_cleanup_rights_ struct rights owner = {0};
	int r;

	(void)caller;
	if (!layers)
		return err_set(err, -ENODEV, "disk %s had no medium", disk);
	r = machine_owner_rights(s->m, &owner);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = layers_content_open(s->m->model, layers, &owner, content, err);
	if (r < 0)
		err_prefix(err, "disk %s", disk);
	return r;
}

/* --- memory ----------------------------------------------------------------------------------
 */

uint64_t snapshot_memory_size(struct snapshot *s)
{
	return s->memory ? s->memory->bytes : 0;
}

int snapshot_memory_open(struct snapshot *s, struct content **content, struct err *err)
{
	int fds[VMM_MEMORY_FILES_MAX], r;

	if (!s->memory)
		return err_set(err, -ENODEV, "the snapshot is without memory");
	r = memory_map_open(s->m->model, s->memory, fds, err);
	return r < 0 ? r : memory_map_content(s->memory, fds, content, err);
}

/* --- the core --------------------------------------------------------------------------------
 */

struct core_content {
	struct content content; /* first */
	struct machine_core *core;
	uint64_t bytes;
};

static struct core_content *of(struct content *content)
{
	return (struct core_content *)content;
}

static uint64_t core_content_size(struct content *content)
{
	return of(content)->bytes;
}

static ssize_t core_content_read(struct content *content, void *buf, size_t len, uint64_t offset)
{
	return machine_core_read(of(content)->core, buf, len, offset);
}

static int64_t core_content_seek(struct content *content, int64_t offset, int whence)
{
	return machine_core_seek(of(content)->core, offset, whence);
}

static int core_content_close(struct content *content)
{
	machine_core_close(of(content)->core);
	free(content);
	return 0;
}

static const struct content_ops core_ops = {.size = core_content_size,
					    .read = core_content_read,
					    .seek = core_content_seek,
					    .close = core_content_close};

uint64_t snapshot_core_size(struct snapshot *s)
{
	return core_size(snapshot_memory_size(s), s->cpus);
}

static int read_registers(struct snapshot *s, struct vmm_vcpu_state *states, struct err *err)
{
	_cleanup_close_ int dir = snapshot_dir(s), fd = -1;
	int r = dir;

	if (r >= 0) {
		fd = openat(dir, "registers", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? -errno : file_pread_all(fd, states, s->cpus * sizeof(*states), 0);
	}
	return r < 0 ? err_set(err, r, "the snapshot's registers: %s", strerror(-r)) : 0;
}

static int make_core(struct snapshot *s, struct machine_core **core, struct err *err)
{
	_cleanup_free_ struct vmm_vcpu_state *states = calloc(s->cpus, sizeof(*states));
	char name[MACHINE_NAME_MAX + 1];
	struct core_params p = {
	    .states = states, .cpus = s->cpus, .kernel = s->def->values.kernel, .name = name};
	int r = states ? read_registers(s, states, err) : err_set(err, -ENOMEM, "out of memory");

	if (r == 0)
		r = snapshot_memory_open(s, &p.memory, err);
	if (r < 0)
		return r;
	machine_name(s->m, name);
	return core_make(&p, core, err);
}

int snapshot_core_open(struct snapshot *s, struct content **content, struct err *err)
{
	struct core_content *c;
	int r;

	if (!s->memory)
		return err_set(err, -ENODEV, "the snapshot is without memory");
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	r = make_core(s, &c->core, err);
	if (r < 0) {
		free(c);
		return r;
	}
	c->content.ops = &core_ops;
	c->bytes = snapshot_core_size(s);
	*content = &c->content;
	return 0;
}

/* --- how large -------------------------------------------------------------------------------
 */

struct size {
	uint64_t own, shared;
};

static void add(struct size *size, struct model *model, enum layer_kind kind, const char *id)
{
	uint64_t bytes = layer_allocated(model, kind, id);

	if (layer_refs(model, kind, id) > 1)
		size->shared += bytes;
	else
		size->own += bytes;
}

/* Its own files. */
static uint64_t dir_bytes(struct snapshot *s)
{
	_cleanup_closedir_ DIR *d = NULL;
	int dir = snapshot_dir(s);
	uint64_t bytes = 0;
	struct dirent *e;
	struct stat st;

	if (dir < 0)
		return 0;
	d = fdopendir(dir);
	if (!d) {
		close(dir);
		return 0;
	}
	while ((e = readdir(d)))
		if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_blocks * 512;
	return bytes;
}

void snapshot_size_show(struct snapshot *s, struct strbuf *sb)
{
	struct model *model = s->m->model;
	struct size size = {.own = dir_bytes(s)};

	for (size_t i = 0; i < s->layers.n; i++)
		for (unsigned l = 0; l < s->layers.disks[i].chain.n; l++)
			add(&size, model, LAYER_DISK, s->layers.disks[i].chain.ids[l]);
	for (unsigned i = 0; s->memory && i < s->memory->n_files; i++)
		add(&size, model, LAYER_MEMORY, s->memory->files[i]);
	strbuf_printf(sb, "own %llu\nshared %llu", (unsigned long long)size.own,
		      (unsigned long long)size.shared);
}
