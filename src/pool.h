/* SPDX-License-Identifier: ISC */
#ifndef FV_POOL_H
#define FV_POOL_H
/*
 * Pools of storage and their volumes. What a pool holds is asked of its storage
 * by a thread of the pool's own and kept: every read here answers from what is
 * kept, so that storage which hangs or went away never holds up the tree (the
 * pool's `state` and `error` then say so). Commands and changes wait for
 * storage, on the caller's thread, and can be cancelled.
 *
 * Types: `dir` (a directory: each regular file in it is a volume of that name),
 * `lvm` (a volume group: each logical volume), `nbd` (a server: each export).
 */
#include "machine.h"

#define POOL_NAME_MAX	63
#define VOLUME_NAME_MAX 127

struct pool;
struct volume;

/* What of a pool or volume may change; as enum machine_aspect. */
enum pool_aspect {
	POOL_DEFINITION, /* type, source */
	POOL_STATE,
	POOL_ERROR,
	POOL_COMMANDS,
	POOL_ACCESS,
	POOL_CAPACITY, /* capacity, allocation, free */
	POOL_VOLUMES,  /* a volume came or went: the name says which */
	POOL_ASPECT_MAX,
};

enum volume_aspect {
	VOLUME_DEFINITION, /* size, format, backing */
	VOLUME_ALLOCATION, /* what it occupies */
	VOLUME_ERROR,
	VOLUME_COMMANDS,
	VOLUME_USERS,	/* which machines have it */
	VOLUME_CONTENT, /* `image`: it was written, changed or resized */
	VOLUME_ACCESS,
	VOLUME_ASPECT_MAX,
};

/* inactive: no source is set. active. failed: its storage does not answer; `error` says why. */
enum pool_state { POOL_INACTIVE, POOL_ACTIVE, POOL_FAILED, POOL_STATE_MAX };

const char *pool_state_name(enum pool_state state);

/* --- pools: references; release each with pool_put() ---------------------------------- */

/* By name; NULL if there is none. */
struct pool *model_pool_get(struct model *model, const char *name);
/* As model_machine_next(), _count(), _changed(). */
struct pool *model_pool_next(struct model *model, uint64_t *cursor);
size_t model_pool_count(struct model *model);
struct timespec model_pools_changed(struct model *model);
/* As model_machine_define(): a pool of type dir without a source. Names as of machines. */
int model_pool_define(struct model *model, const char *name, mode_t mode,
		      const struct caller *caller, struct pool **pool, struct err *err);
/* Forgets the pool, not what it holds. -EBUSY while a machine that runs has a volume of it. */
int model_pool_undefine(struct model *model, struct pool *pool, struct err *err);
int model_pool_rename(struct model *model, struct pool *pool, const char *new_name,
		      struct err *err);

struct pool *pool_get(struct pool *pool);
void pool_put(struct pool *pool);
void pool_name(struct pool *pool, char name[POOL_NAME_MAX + 1]);
/* A number that no other pool, volume or machine of this daemon's life has: for inodes. */
uint64_t pool_serial(const struct pool *pool);
bool pool_alive(struct pool *pool);
enum pool_state pool_state(struct pool *pool);
struct timespec pool_changed(struct pool *pool, enum pool_aspect aspect);
/* Bytes; 0 where it cannot tell. */
void pool_space(struct pool *pool, uint64_t *capacity, uint64_t *allocation, uint64_t *free_bytes);

void pool_access_get(struct pool *pool, struct machine_access *access);
int pool_access_set(struct pool *pool, const struct machine_access *access, struct err *err);
/* As machine_file_mode_get() and _set(): @path below the pool's directory. */
bool pool_file_mode_get(struct pool *pool, const char *path, mode_t *mode);
int pool_file_mode_set(struct pool *pool, const char *path, mode_t mode, struct err *err);

/* `type` and `source`: rows as of a machine. Durable when it returns. */
extern const struct config_key pool_keys[];
extern const size_t n_pool_keys;
int pool_key_show(struct pool *pool, const struct config_key *key, struct strbuf *sb);
int pool_key_store(struct pool *pool, const struct config_key *key, const char *text,
		   const struct caller *caller, struct err *err);

/* As those of a machine: machine_command_run(), …_list(), …_help(), machine_error_show(), _set().
 */
int pool_command_run(struct pool *pool, const char *line, const struct caller *caller,
		     struct err *err);
void pool_command_list(struct pool *pool, struct strbuf *sb);
void pool_command_help(struct strbuf *sb);
void pool_error_show(struct pool *pool, struct strbuf *sb);
void pool_error_set(struct pool *pool, const char *what, const struct err *err);

/* --- volumes: references; release each with volume_put() -------------------------------- */

struct volume *pool_volume_get(struct pool *pool, const char *name);
struct volume *pool_volume_next(struct pool *pool, uint64_t *cursor);
size_t pool_volume_count(struct pool *pool);
/*
 * Makes an empty one (size 0, raw). Until its content is first written or a machine
 * first uses it, it is `new`: size, format and backing, in any order, then make it anew.
 * -EINVAL for a name that its storage cannot have, -EEXIST, -EOPNOTSUPP (nbd).
 */
int pool_volume_make(struct pool *pool, const char *name, mode_t mode, const struct caller *caller,
		     struct volume **volume, struct err *err);
/* Deletes its content. -EBUSY while in use, or while another volume is over it. */
int pool_volume_remove(struct pool *pool, struct volume *volume, const struct caller *caller,
		       struct err *err);

struct volume *volume_get(struct volume *volume);
void volume_put(struct volume *volume);
struct pool *volume_pool(const struct volume *volume); /* borrowed */
void volume_name(struct volume *volume, char name[VOLUME_NAME_MAX + 1]);
uint64_t volume_serial(const struct volume *volume);
bool volume_alive(struct volume *volume);
struct timespec volume_changed(struct volume *volume, enum volume_aspect aspect);
/* Who owns it, and the mode of its directory; as those of a machine. */
void volume_access_get(struct volume *volume, struct machine_access *access);
int volume_access_set(struct volume *volume, const struct machine_access *access, struct err *err);
/*
 * The mode of its `image` unless pool_file_mode_set() of "volumes/NAME/image" gave another: who
 * may read or write that may use the volume as a machine's disk.
 */
#define VOLUME_IMAGE_MODE 0600

/* `size`, `format`, `backing`, `prealloc`, …: rows; storing as pool_key_store(). */
extern const struct config_key volume_keys[];
extern const size_t n_volume_keys;
int volume_key_show(struct volume *volume, const struct config_key *key, struct strbuf *sb);
int volume_key_store(struct volume *volume, const struct config_key *key, const char *text,
		     const struct caller *caller, struct err *err);
/* Bytes that it occupies in its pool, and the size of its content as a disk has it. */
uint64_t volume_allocation(struct volume *volume);
uint64_t volume_size(struct volume *volume);
/* "MACHINE disks/NAME" lines of the machines that run with it; nothing: free. */
void volume_users_show(struct volume *volume, struct strbuf *sb);
/* What is known of its format: flat-keyed text (cluster_size, refcount_bits, snapshots …). */
void volume_info_show(struct volume *volume, struct strbuf *sb);
/* Its internal snapshots: nested-keyed, "NAME id=N size=N time=N". Empty for raw. */
void volume_snapshots_show(struct volume *volume, struct strbuf *sb);

int volume_command_run(struct volume *volume, const char *line, const struct caller *caller,
		       struct err *err);
void volume_command_list(struct volume *volume, struct strbuf *sb);
void volume_command_help(struct strbuf *sb);
void volume_error_show(struct volume *volume, struct strbuf *sb);
void volume_error_set(struct volume *volume, const char *what, const struct err *err);

#endif
