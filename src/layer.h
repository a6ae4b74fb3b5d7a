/* SPDX-License-Identifier: ISC */
#ifndef FV_LAYER_H
#define FV_LAYER_H
/*
 * Layers: the files that snapshots and clones are made of, in STATE/layers/:
 *
 *	ID.qcow2   an image over what a disk's source names, or over another layer. Written while
 *		   it is the top of one machine's disk, never again once something is over it
 *	ID.mem     guest memory (memory_map.h); never written again once it has its name
 *
 * The source that a user names stays what the definition says; that there are layers over it
 * is known here alone. A machine's layers are in STATE/machines/NAME/layers, a snapshot's in its
 * own files. A new, empty layer changes nothing of what a disk reads as: so a machine's layers are
 * written down, on stable storage, before its VMM writes to the new ones, and whatever is
 * killed in between, the next opening finds every byte.
 *
 * A layer lives as long as something refers to it: chains of machines, of snapshots, maps of
 * memory. References are counted in memory, and anew at every start; a file that nothing
 * refers to is removed then, as it is when its last reference goes.
 *
 * A source that is under layers is frozen: nobody opens it for writing but who has merged all
 * layers into it. Layers that only a chain passes through (no snapshot ends there, no other
 * chain has them) are merged into the one below by a job, of a running machine, too.
 */
#include "model_int.h"
#include "opener.h"
#include "storage/image.h"

struct layers; /* model.layers */
struct content;
struct rights;

#define LAYERS_MAX 48 /* over a source; at most IMAGE_DEPTH_MAX with what is below it */

#define LAYER_FILES_MAX 32 /* of a source that are noted */

/* The top first. n 0: the source alone. */
struct layer_chain {
	unsigned n;
	char ids[LAYERS_MAX][ID_TEXT];
};

/* A disk as layers know it. */
struct disk_layers {
	char name[DISK_NAME_MAX + 1];
	char *source;	 /* what the bottom one is over, as the definition said; never NULL */
	uint64_t format; /* enum image_format of the source */
	uint64_t bytes;	 /* of the disk, when its top layer was made */
	struct layer_chain chain;
	/* Which files the source is made of, where that is known: they are frozen. */
	struct file_id files[LAYER_FILES_MAX];
	unsigned n_files;
};

/*
 * Those of a machine, or of a snapshot. A disk whose source was changed while there were layers
 * over it has an entry for each source: who goes back to one finds its data.
 */
struct layer_set {
	struct disk_layers *disks;
	size_t n;
	char *parent; /* id of the snapshot that the machine goes on from; NULL: none */
	/* From machine_layers(): which it is a copy of. 0: of none. */
	uint64_t version;
};

/* Frees what is in it; it is empty then. */
void layer_set_free(struct layer_set *set);
int layer_set_copy(struct layer_set *to, const struct layer_set *from);
/* That disk over that source; NULL: it has no layers. */
struct disk_layers *layer_set_find(const struct layer_set *set, const char *disk,
				   const char *source);
/* Appends a copy of @disk. -ENOMEM. */
int layer_set_add(struct layer_set *set, const struct disk_layers *disk);
/* @id is the top of its chain from now on; no reference is taken. -ENOSPC with words. */
int disk_layers_push(struct disk_layers *disk, const char id[ID_TEXT], struct err *err);
/* Takes the one at @index out. */
void layer_set_cut(struct layer_set *set, size_t index);
/*
 * As text and back; -EINVAL with words. A line each:
 *
 *	layers 1
 *	parent ID		where there is one
 *	disk NAME FORMAT BYTES	for each; what follows is of that disk:
 *	source REST OF THE LINE
 *	file DEV INO		what the source is made of
 *	layer ID		the top first
 */
void layer_set_format(const struct layer_set *set, struct strbuf *sb);
/* The same, as a machine notes it: without disks that have no layers. */
void layer_set_format_noted(const struct layer_set *set, struct strbuf *sb);
int layer_set_parse(const char *text, size_t len, struct layer_set *set, struct err *err);

/* A UUID as it names a file. NULL is none. */
bool layer_id_good(const char *id);

/* --- the store -------------------------------------------------------------------------------- */

/* At start, before anything refers to a layer: makes the directory, and the counts. */
int layers_open(struct model *model, struct err *err);
/* Before layers_sweep(): something that may refer to layers cannot be read, so nothing of what
 * seems to be left over is removed by this daemon. */
void layers_keep_all(struct model *model);
/*
 * When machines, snapshots and saved states have been loaded and refer to theirs: removes
 * the rest. No file is removed before.
 */
void layers_sweep(struct model *model);
void layers_close(struct model *model);

enum layer_kind { LAYER_DISK, LAYER_MEMORY, LAYER_KIND_MAX };

/* A new file, empty, with one reference; its descriptor (read and write) in *@fd. */
int layer_make(struct model *model, enum layer_kind kind, char id[ID_TEXT], int *fd,
	       struct err *err);
/*
 * A new image of @bytes over the top of @below (or its source where that has no layers), synced,
 * with one reference. @below->source as a path stands in its header, for qemu-img to follow.
 */
int layer_make_over(struct model *model, const struct disk_layers *below, uint64_t bytes,
		    char id[ID_TEXT], int *fd, struct err *err);
/* A descriptor. -ENOENT with words. */
int layer_open(struct model *model, enum layer_kind kind, const char *id, bool write,
	       struct err *err);
/* References; the last one removes the file. Any thread, under no lock that waits for disks. */
void layer_get(struct model *model, enum layer_kind kind, const char *id);
void layer_put(struct model *model, enum layer_kind kind, const char *id);
void layer_set_get(struct model *model, const struct layer_set *set);
void layer_set_put(struct model *model, const struct layer_set *set);
/* Bytes that it occupies, and how many refer to it. */
uint64_t layer_allocated(struct model *model, enum layer_kind kind, const char *id);
unsigned layer_refs(struct model *model, enum layer_kind kind, const char *id);

/* --- of a machine ----------------------------------------------------------------------------- */

/* A copy of what the machine has now; free with layer_set_free(). -ENOMEM. */
int machine_layers(struct machine *m, struct layer_set *set);
/*
 * Has these from now on, durable when it returns; takes references of what is new and gives up
 * those of what is gone. @set is copied. -errno with words: nothing changed; -EBUSY where @set
 * has a version and the machine's has changed since.
 */
int machine_layers_set(struct machine *m, const struct layer_set *set, struct err *err);
/*
 * The same where they are noted already: in @file of the machine's directory @dir, on stable
 * storage, which takes the place of what was noted. All that was renamed in @dir before is then
 * durable, too. -errno with words: nothing changed, or (@file is gone) it is not known to be
 * durable.
 */
int machine_layers_take(struct machine *m, const struct layer_set *set, int dir, const char *file,
			struct err *err);
/*
 * The same for a change of what it has: @change (under m->edit, must not wait) makes it in a copy;
 * its errno ends it.
 */
typedef int layers_change_fn(struct layer_set *set, void *arg, struct err *err);
int machine_layers_change(struct machine *m, layers_change_fn *change, void *arg, struct err *err);
/* The snapshot that it goes on from is @to ("": none); where @from is not NULL, only if it was
 * @from. */
int machine_layers_parent(struct machine *m, const char *from, const char *to, struct err *err);
/* When a machine is loaded, and when it is undefined or freed. */
int machine_layers_load(struct machine *m, struct err *err);
void machine_layers_drop(struct machine *m);
/* Of all machines; what is damaged is told in their `error`. */
void layers_load_all(struct model *model);
/* The daemon ends: memory only. */
void machine_layers_free(struct machine *m);
/*
 * Stages new layers over every writable disk that @m's VMM has (or, without one, over every
 * writable disk of its definition that has a source): makes them, hands them to the VMM
 * (VMM_DISK_STAGE) and notes them (machine_layers_set()). *@frozen is what is below the new
 * ones: what a snapshot refers to, with references (taken before anybody could merge it), the
 * caller's to layer_set_put(). Disks that are read-only are
 * in it with their source and what is over it. -EBUSY with words for a disk that is ejected
 * half way, shared (`share`), or not there.
 */
int layers_stage(struct machine *m, struct layer_set *frozen, struct cancel *cancel,
		 struct err *err);
/* After the VMM has switched: the frozen ones reach stable storage and let readers in. */
int layers_freeze(struct machine *m, const struct layer_set *frozen, struct cancel *cancel,
		  struct err *err);
/*
 * Opens the disk's layers and what is below: as disk_open_source(), of a chain that need not be
 * the machine's own. For the content of snapshots: read-only.
 */
int layers_content_open(struct model *model, const struct disk_layers *disk,
			const struct rights *owner, struct content **content, struct err *err);
/* Starts the job that merges what @m's chains pass through, where there is any. */
void layers_tidy(struct machine *m);
/* Of all machines, when the daemon has found what it left running. */
void layers_tidy_all(struct model *model);
/* -EBUSY with words ("… is below snapshot base of machine web") where one of the files is frozen.
 */
int layers_refuse_frozen(struct model *model, const struct file_id *ids, unsigned n,
			 struct err *err);
/* The same for a volume that is to be changed, and for a pool that is to have another name. */
struct volume;
int layers_refuse_volume(struct volume *volume, struct err *err);
int layers_refuse_pool(struct model *model, const char *pool, struct err *err);

#endif
