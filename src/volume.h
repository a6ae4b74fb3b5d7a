/* SPDX-License-Identifier: ISC */
#ifndef FV_VOLUME_H
#define FV_VOLUME_H
/*
 * A volume as a machine's disk: found by name, checked, opened, and noted as in use. For
 * the model's own parts; the tree's door is pool.h. Who starts a machine with it does:
 *
 *   model_volume_find()   "pool/volume" to a reference
 *   volume_use_begin()    from now on nobody deletes, converts or writes it otherwise
 *   volume_chain_open()   descriptors of it and of what is below it, locked
 *   …                     a VMM gets the descriptors; volume_chain_close() on what is left
 *   volume_use_end()      when the VMM is gone, or where the start failed
 *
 * None of these is called under a machine's lock.
 */
#include "pool.h"
#include "storage/image.h"
#include "storage/nbd.h"
#include "util/rights.h"

/* By "POOL/VOLUME"; a reference. -EINVAL, -ENOENT (no pool, no volume), -ENXIO (its pool failed).
 */
int model_volume_find(struct model *model, const char *name, struct volume **volume,
		      struct err *err);
/*
 * Whether he may read, and with @write write, its content: as the permissions of its `image`
 * in the tree say. -EACCES with words.
 */
int volume_may_use(struct volume *volume, const struct rights *who, bool write, struct err *err);

/* What a VMM is given: image files over each other, or one network disk. */
struct volume_chain {
	struct image_chain images; /* n == 0: a network disk */
	struct nbd_link link;	   /* fd is -1 unless it is one */
};

/*
 * Opens the volume and the images below it, and locks them against other programs (@share:
 * knowingly together with other writers). It is opened with the rights of the pool's owner.
 * Backing files are followed within their pool, and to where the `backing` of a volume was
 * set to by who may. Waits for storage; never under a lock. -EBUSY, -EACCES, -EIO, … with words.
 */
int volume_chain_open(struct volume *volume, bool write, bool share, struct cancel *cancel,
		      struct volume_chain *chain, struct err *err);
/* Closes what was not handed on. */
void volume_chain_close(struct volume_chain *chain);

/*
 * Notes that a machine has it: it is no longer `new`, and busy for others. -EBUSY with the
 * other machine's name where it is in use so that both cannot have it (unless @share), or while
 * a command changes it or its `image` is open for writing. Durable when it returns.
 */
int volume_use_begin(struct volume *volume, struct machine *m, const char *disk, bool write,
		     bool share, struct err *err);
/* The same for a VMM found running at start, when what the pool holds is not known yet. */
void volume_use_recover(struct model *model, const char *name, struct machine *m, const char *disk,
			bool write, bool share);
/* That disk of that machine has no volume any more; fine if it had none. */
void volume_use_end(struct model *model, struct machine *m, const char *disk);
/* The guest's disk has another size or contents now: what is shown of it is looked at anew. */
void volume_look_again(struct volume *volume);

static inline void volume_putp(struct volume **volume)
{
	volume_put(*volume);
}
#define _cleanup_volume_ __attribute__((cleanup(volume_putp)))
static inline void pool_putp(struct pool **pool)
{
	pool_put(*pool);
}
#define _cleanup_pool_ __attribute__((cleanup(pool_putp)))

#endif
