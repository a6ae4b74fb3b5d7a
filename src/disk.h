/* SPDX-License-Identifier: ISC */
#ifndef FV_DISK_H
#define FV_DISK_H
/*
 * Disks of machines: from what the definition says to descriptors that a VMM can use
 * (disk.c), what a VMM has (disk_list.c), changes while it runs (disk_live.c), sizes that are
 * kept for the tree (disk_size.c).
 */
#include <stdlib.h>

#include "model_int.h"
#include "opener.h"
#include "volume.h"

struct vmm;
struct vmm_burst;

/* --- disk.c: opening ------------------------------------------------------------------------ */

/* A disk opened for a VMM, until one has it. */
struct disk_opened {
	struct model *model;
	struct machine *m; /* borrowed; NULL: of no machine */
	char name[DISK_NAME_MAX + 1];
	struct volume *volume;	   /* a reference, where it is one */
	bool in_use;		   /* volume_use_begin() was done and is to be undone */
	struct volume_chain chain; /* images, a network disk, or images over one */
	unsigned n_layers;	   /* how many of the images are layers of ours (layer.h) */
	struct file_id ids[2 * IMAGE_DEPTH_MAX];
	unsigned n_ids, n_written; /* the first of them are those to be written */
	uint64_t bytes;
};

/* The machine's owner, as whom its files are opened; release rights.groups. */
int machine_owner_rights(struct machine *m, struct rights *rights);
static inline void rights_freep(struct rights *rights)
{
	free((gid_t *)rights->groups);
}
#define _cleanup_rights_ __attribute__((cleanup(rights_freep)))

/* Appends the path of "POOL/VOLUME" where volumes have paths; nothing where they have none. */
void disk_volume_path(struct model *model, const char *name, struct strbuf *sb);

/* Who opens, and what he opened before for the same machine (for words only). */
struct disk_asks {
	struct rights owner;
	struct cancel *cancel; /* NULL: cannot be cancelled */
	struct disk_opened *const *before;
	unsigned n_before;
	const char *backing; /* disk_open_layers(): as `backing` of a disk says; NULL: nothing */
};

/*
 * Opens the disk as the machine's owner may, with all that is below it, and locks it
 * against others (-EBUSY: "… is in use by machine X"). Waits for storage. Words do not say of
 * which disk. On failure nothing is held. Caller frees with disk_opened_free() in any case.
 */
int disk_open_source(struct machine *m, const struct disk *disk, const struct disk_asks *asks,
		     struct disk_opened **opened, struct err *err);
struct disk_layers;
/*
 * The same of a chain that need not be any machine's, read-only (layer.h); with @lock as a reader.
 * The source's own backing files are beside it, or named in @asks.
 */
int disk_open_layers(struct model *model, const struct disk_layers *layers,
		     const struct disk_asks *asks, bool lock, struct disk_opened **opened,
		     struct err *err);
/* The same with the source opened for writing, and locked: to merge @layers into it, a machine's.
 */
int disk_open_to_merge(struct machine *m, const struct disk_layers *layers,
		       const struct disk_asks *asks, struct disk_opened **opened, struct err *err);
/* What was opened, as one node; takes its descriptors, also on error. */
int disk_opened_block(struct disk_opened *opened, bool write, struct block **block,
		      struct err *err);
/* Closes what was not handed on, and gives the volume back unless a VMM has it now. */
void disk_opened_free(struct disk_opened *opened);
static inline void disk_opened_freep(struct disk_opened **opened)
{
	disk_opened_free(*opened);
}
#define _cleanup_disk_opened_ __attribute__((cleanup(disk_opened_freep)))

/*
 * Looks at a source with the caller's rights, without locks: whether he may use it so, which
 * format it seems to have, and its size.
 */
int disk_probe_source(struct model *model, const char *source, const struct probe_ask *ask,
		      const struct caller *caller, struct probed_disk *probed, struct err *err);

/* --- disk_list.c: what a VMM has ------------------------------------------------------------- */

enum vmm_disk_state { VMM_DISK_HAS, VMM_DISK_WAITS, VMM_DISK_EMPTY };

/* Guarded by machine.lock. */
struct vmm_has_disk {
	struct vmm_has_disk *next;
	char name[DISK_NAME_MAX + 1];
	char *source; /* as the definition said then; "" when ejected */
	enum vmm_disk_state state;
	bool written; /* not read-only */
	bool volume, share;
	bool staged; /* a layer was handed over, and the VMM may write there by now, or not */
	bool used;   /* by the guest, as was told once */
	uint64_t bytes;
	struct file_id *ids;
	unsigned n_ids, n_written;
};

/* "attached", "waiting", "ejected" */
const char *vmm_disk_state_name(enum vmm_disk_state state);
/* All under machine.lock. */
struct vmm_has_disk *vmm_disk_find(struct vmm *vmm, const char *name);
/* Takes note of it, in place of what was noted under that name. -ENOMEM. */
int vmm_disk_set(struct vmm *vmm, const struct disk *disk, const struct disk_opened *opened);
void vmm_disk_drop(struct vmm *vmm, const char *name);
/* Lines for the note that a later daemon reads, and reading one: false if it is none. */
void vmm_disks_note(struct vmm *vmm, struct strbuf *sb);
bool vmm_disks_read(struct vmm *vmm, const char *line);
void vmm_disks_free(struct vmm *vmm);

/* Whether one of the files is in both. */
bool file_ids_meet(const struct file_id *a, unsigned n_a, const struct file_id *b, unsigned n_b);
/*
 * Not under any machine's lock: who has one of the files in a way that keeps @opened from being
 * used: "machine X", or "another program".
 */
void disk_find_user(struct model *model, const struct file_id *ids, unsigned n, struct strbuf *sb);
/* The VMM is gone, or never came: its volumes are free again. Not under a lock. */
void vmm_disks_release(struct vmm *vmm);

/* --- disk_tell.c: telling a VMM --------------------------------------------------------------- */

/*
 * Sends the layers and then @type (VMM_DISK or VMM_DISK_CHANGE); @opened NULL: no layers. One
 * at a time on a VMM. @words (may be NULL): what the VMM has to say though it was done. With
 * @burst (vmm.h) it is not waited for, and then words of an error begin with the disk's name.
 */
int vmm_disk_tell(struct vmm *vmm, enum vmm_msg_type type, const struct disk *disk,
		  struct disk_opened *opened, struct vmm_burst *burst, char words[VMM_TEXT_MAX],
		  struct err *err);

/* VMM_DISK_REBASE: all below the @keep on top becomes what was opened, which reads alike. */
int vmm_disk_rebase(struct vmm *vmm, const char *name, unsigned keep, struct disk_opened *opened,
		    struct err *err);

/* --- disk_live.c: changes while a VMM has it ---------------------------------------------------
 */

enum disk_step_what { STEP_ATTACH, STEP_DETACH, STEP_CHANGE, STEP_LIMITS };

struct disk_step {
	enum disk_step_what what;
	const struct disk *from, *to; /* within the definitions below; NULL: none */
};

/* What was done to a VMM for a change of its machine's definition. */
struct disk_steps {
	struct vmm *vmm; /* a reference, as these; NULL where none ran */
	struct definition *old, *def;
	unsigned n_planned, n_done;
	struct disk_step list[2 * VMM_DISKS_MAX];
};

/*
 * Makes the machine's VMM have its disks as in @def where that differs from @old: attaches,
 * detaches (waits for the guest), changes, ejects, sets limits, one by one. Where one fails,
 * those before it are taken back. What was done in *@steps, for one of the two that follow;
 * nothing without a VMM that runs. The disks are claimed. 0 or -errno with words.
 */
int disks_follow(struct machine *m, struct definition *old, struct definition *def,
		 struct cancel *cancel, struct disk_steps **steps, struct err *err);
/* Takes @steps. */
void disk_steps_take_back(struct machine *m, struct disk_steps *steps);
void disk_steps_free(struct disk_steps *steps);
/* Attaches one that is defined and not attached; detaches one that stays defined. */
int disk_attach(struct machine *m, const char *name, struct cancel *cancel, struct err *err);
int disk_detach(struct machine *m, const char *name, bool force, struct cancel *cancel,
		struct err *err);
/*
 * Another size, through the VMM that has it or (a machine that stands still) here; a volume's
 * by the volume's own command. Smaller only with @shrink: -EINVAL. Waits for storage.
 */
int disk_resize(struct machine *m, const char *name, uint64_t bytes, bool shrink,
		const struct caller *caller, struct err *err);
/* One change at a time: claims the disks, or -EBUSY with words. Waits for a merge's moment. */
int disks_claim(struct machine *m, struct err *err);
void disks_unclaim(struct machine *m);

/*
 * A VMM that was found running: what it was noted to have is asked for again, and what it has
 * lost since is forgotten.
 */
void disks_recover(struct vmm *vmm);

/* --- disk_size.c: sizes that are kept ------------------------------------------------------------
 */

struct disk_sizes;

int disk_sizes_open(struct disk_sizes **sizes, struct model *model);
void disk_sizes_close(struct disk_sizes *sizes);
/* It is that large, as was just seen. Not under the machine's lock. */
void disk_size_note(struct machine *m, const char *name, uint64_t bytes);
/* The same under the machine's lock; tells nobody. */
void disk_size_keep(struct machine *m, const char *name, uint64_t bytes);
/* Has all of them looked at, by the thread `disks`. */
void disk_sizes_look(struct model *model);
/* When the machine is freed. */
void disk_sizes_free(struct machine *m);

#endif
