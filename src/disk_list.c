// SPDX-License-Identifier: ISC
/*
 * What each VMM has: kept to say who uses an image, to show the state of disks, and in the
 * note from which a later daemon knows it again:
 *
 *   disk NAME STATE w|u|r s|- v|- BYTES WRITTEN SOURCE    (u: written, and staged)
 *   file DEV INO                                      of the disk above, the written ones first
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "util/cleanup.h"
#include "vmm.h"

static const char *const state_words[] = {
    [VMM_DISK_HAS] = "attached", [VMM_DISK_WAITS] = "waiting", [VMM_DISK_EMPTY] = "ejected"};

const char *vmm_disk_state_name(enum vmm_disk_state state)
{
	return state_words[state];
}

static void has_free(struct vmm_has_disk *d)
{
	if (!d)
		return;
	free(d->source);
	free(d->ids);
	free(d);
}

struct vmm_has_disk *vmm_disk_find(struct vmm *vmm, const char *name)
{
	struct vmm_has_disk *d = vmm->disks;

	while (d && strcmp(d->name, name) != 0)
		d = d->next;
	return d;
}

void vmm_disk_drop(struct vmm *vmm, const char *name)
{
	for (struct vmm_has_disk **link = &vmm->disks; *link; link = &(*link)->next)
		if (strcmp((*link)->name, name) == 0) {
			struct vmm_has_disk *d = *link;

			*link = d->next;
			has_free(d);
			return;
		}
}

/* At the end, so that the order is that of attachment. */
static void append(struct vmm *vmm, struct vmm_has_disk *d)
{
	struct vmm_has_disk **link = &vmm->disks;

	while (*link)
		link = &(*link)->next;
	*link = d;
}

int vmm_disk_set(struct vmm *vmm, const struct disk *disk, const struct disk_opened *opened)
{
	struct vmm_has_disk *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	strcpy(d->name, disk->name);
	d->source = strdup(opened ? disk->values.source : "");
	d->state = opened ? VMM_DISK_HAS : VMM_DISK_EMPTY;
	d->written = !disk->values.readonly;
	d->share = disk->values.share;
	if (opened) {
		d->volume = opened->volume;
		d->bytes = opened->bytes;
		d->n_ids = opened->n_ids;
		d->n_written = opened->n_written;
		d->ids = calloc(d->n_ids + 1, sizeof(*d->ids));
		if (d->ids)
			memcpy(d->ids, opened->ids, d->n_ids * sizeof(*d->ids));
	}
	if (!d->source || (opened && !d->ids)) {
		has_free(d);
		return -ENOMEM;
	}
	vmm_disk_drop(vmm, disk->name);
	append(vmm, d);
	return 0;
}

void vmm_disks_free(struct vmm *vmm)
{
	while (vmm->disks)
		vmm_disk_drop(vmm, vmm->disks->name);
}

/* --- the note -----------------------------------------------------------------------------------
 */

void vmm_disks_note(struct vmm *vmm, struct strbuf *sb)
{
	for (struct vmm_has_disk *d = vmm->disks; d; d = d->next) {
		strbuf_printf(sb, "disk %s %s %c %c %c %llu %u %s\n", d->name,
			      state_words[d->state],
			      !d->written ? 'r'
			      : d->staged ? 'u'
					  : 'w',
			      d->share ? 's' : '-', d->volume ? 'v' : '-',
			      (unsigned long long)d->bytes, d->n_written, d->source);
		for (unsigned i = 0; i < d->n_ids; i++)
			strbuf_printf(sb, "file %llu %llu\n", (unsigned long long)d->ids[i].dev,
				      (unsigned long long)d->ids[i].ino);
	}
}

static bool read_disk(struct vmm *vmm, const char *line)
{
	struct vmm_has_disk *d = calloc(1, sizeof(*d));
	char state[16], w, s, v;
	unsigned long long bytes;
	int at = 0;

	if (!d)
		return false;
	if (sscanf(line, "disk %31s %15s %c %c %c %llu %u%n", d->name, state, &w, &s, &v, &bytes,
		   &d->n_written, &at) < 7 ||
	    line[at] != ' ' || vmm_disk_find(vmm, d->name)) {
		free(d);
		return false;
	}
	for (size_t i = 0; i < nitems(state_words); i++)
		if (strcmp(state, state_words[i]) == 0)
			d->state = (enum vmm_disk_state)i;
	d->written = w != 'r';
	d->staged = w == 'u';
	d->share = s == 's';
	d->volume = v == 'v';
	d->bytes = bytes;
	d->source = strdup(line + at + 1);
	if (!d->source) {
		free(d);
		return false;
	}
	append(vmm, d);
	return true;
}

static bool read_file(struct vmm *vmm, const char *line)
{
	struct vmm_has_disk *d = vmm->disks;
	unsigned long long dev, ino;
	struct file_id *more;

	while (d && d->next)
		d = d->next;
	if (!d || d->n_ids == 2 * IMAGE_DEPTH_MAX ||
	    sscanf(line, "file %llu %llu", &dev, &ino) != 2)
		return false;
	more = realloc(d->ids, (d->n_ids + 1) * sizeof(*more));
	if (!more)
		return false;
	d->ids = more;
	more[d->n_ids++] = (struct file_id){(dev_t)dev, (ino_t)ino};
	return true;
}

bool vmm_disks_read(struct vmm *vmm, const char *line)
{
	return strncmp(line, "disk ", 5) == 0 ? read_disk(vmm, line) : read_file(vmm, line);
}

/* --- who has it ------------------------------------------------------------------------------ */

bool file_ids_meet(const struct file_id *a, unsigned n_a, const struct file_id *b, unsigned n_b)
{
	for (unsigned i = 0; i < n_a; i++)
		for (unsigned k = 0; k < n_b; k++)
			if (a[i].dev == b[k].dev && a[i].ino == b[k].ino)
				return true;
	return false;
}

void disk_find_user(struct model *model, const struct file_id *ids, unsigned n, struct strbuf *sb)
{
	uint64_t cursor = 0;
	struct machine *m;
	bool found = false;

	while (!found && (m = model_machine_next(model, &cursor))) {
		pthread_mutex_lock(&m->lock);
		for (struct vmm_has_disk *d = m->vmm ? m->vmm->disks : NULL; d && !found;
		     d = d->next)
			if (file_ids_meet(d->ids, d->n_ids, ids, n)) {
				strbuf_printf(sb, "machine %s (disk %s)", m->name, d->name);
				found = true;
			}
		pthread_mutex_unlock(&m->lock);
		machine_put(m);
	}
	if (!found)
		strbuf_puts(sb, "another program, or by who has its image open");
}

void vmm_disks_release(struct vmm *vmm)
{
	char names[VMM_DISKS_MAX][DISK_NAME_MAX + 1];
	unsigned n = 0;

	pthread_mutex_lock(&vmm->m->lock);
	for (struct vmm_has_disk *d = vmm->disks; d && n < VMM_DISKS_MAX; d = d->next)
		if (d->volume)
			strcpy(names[n++], d->name);
	pthread_mutex_unlock(&vmm->m->lock);
	for (unsigned i = 0; i < n; i++)
		volume_use_end(vmm->m->model, vmm->m, names[i]);
}
