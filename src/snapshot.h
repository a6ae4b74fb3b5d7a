/* SPDX-License-Identifier: ISC */
#ifndef FV_SNAPSHOT_H
#define FV_SNAPSHOT_H
/*
 * Snapshots of a machine, as the tree shows them. One appears when it is whole and on stable
 * storage, and its content never changes.
 */
#include "content.h"
#include "machine.h"

#define SNAPSHOT_NAME_MAX 63

struct snapshot;

/* As enum machine_aspect; each file of its directory depends on one. */
enum snapshot_aspect {
	SNAPSHOT_FIXED, /* what it is: never changes */
	SNAPSHOT_COMMANDS,
	SNAPSHOT_ERROR,
	SNAPSHOT_SIZE,	  /* its own bytes, and those it shares */
	SNAPSHOT_PARENT,  /* the one before it was deleted, or renamed */
	SNAPSHOT_ARCHIVE, /* there is one now, or no longer */
	SNAPSHOT_ASPECT_MAX,
};

struct snapshot *snapshot_get(struct snapshot *s);
void snapshot_put(struct snapshot *s);
static inline void snapshot_putp(struct snapshot **s)
{
	snapshot_put(*s);
}
#define _cleanup_snapshot_ __attribute__((cleanup(snapshot_putp)))

/* References; machine_snapshot_next() as model_machine_next(). NULL: none. */
struct snapshot *machine_snapshot_get(struct machine *m, const char *name);
struct snapshot *machine_snapshot_next(struct machine *m, uint64_t *cursor);
size_t machine_snapshot_count(struct machine *m);
/*
 * Takes one, as a job that shows in jobs/; returns when it is whole (the guest stands still for
 * moments only). The caller's token cancels it. -EEXIST, -EINVAL (a name as a machine's), -EBUSY,
 * -ENOSPC … with words; then nothing is left of it. A reference in *@s where it is not NULL.
 */
int machine_snapshot_make(struct machine *m, const char *name, const struct caller *caller,
			  struct snapshot **s, struct err *err);
/* Deletes it; what others need of it stays. -EBUSY with words while it is in use. */
int machine_snapshot_remove(struct machine *m, struct snapshot *s, const struct caller *caller,
			    struct err *err);
int machine_snapshot_rename(struct machine *m, struct snapshot *s, const char *name,
			    struct err *err);

struct machine *snapshot_machine(const struct snapshot *s); /* borrowed */
void snapshot_name(struct snapshot *s, char name[SNAPSHOT_NAME_MAX + 1]);
uint64_t snapshot_serial(const struct snapshot *s);
bool snapshot_alive(struct snapshot *s);
struct timespec snapshot_changed(struct snapshot *s, enum snapshot_aspect aspect);

/* When it was taken. */
struct timespec snapshot_time(struct snapshot *s);
/* The name of the snapshot that the machine had gone on from; nothing: none. */
void snapshot_parent_show(struct snapshot *s, struct strbuf *sb);
/* "own N\nshared N": bytes on disk that go with it, and those that others have, too. */
void snapshot_size_show(struct snapshot *s, struct strbuf *sb);
/* What the machine was: running, paused (with memory), stopped (disks alone). */
void snapshot_state_show(struct snapshot *s, struct strbuf *sb);
/* How long the guest stood still for it, in ns; 0 where it did not run. */
uint64_t snapshot_pause_ns(struct snapshot *s);
/* The definition as of then. */
int snapshot_config_show(struct snapshot *s, struct strbuf *sb);

/* Its disks, in the order of then. */
bool snapshot_disk_at(struct snapshot *s, size_t index, char name[DISK_NAME_MAX + 1]);
bool snapshot_disk_exists(struct snapshot *s, const char *disk);
uint64_t snapshot_disk_size(struct snapshot *s, const char *disk);
/* A value of the disk's definition as of then. */
int snapshot_disk_key_show(struct snapshot *s, const char *disk, const struct config_key *key,
			   struct strbuf *sb);
/* Read-only, as of the snapshot. -EACCES where the machine's owner may not read what is below. */
int snapshot_disk_content_open(struct snapshot *s, const char *disk, const struct caller *caller,
			       struct content **content, struct err *err);
/* Guest memory (offset = guest physical address); size 0 without. */
uint64_t snapshot_memory_size(struct snapshot *s);
int snapshot_memory_open(struct snapshot *s, struct content **content, struct err *err);
/* An ELF core of it, as machine_core_…() of a running guest; -ENODEV without memory. */
uint64_t snapshot_core_size(struct snapshot *s);
int snapshot_core_open(struct snapshot *s, struct content **content, struct err *err);

/* --- archives: one file with all of it (archive.h) ------------------------------------------- */

/* 0: none is at hand; `echo archive > ctl` makes one. */
uint64_t snapshot_archive_size(struct snapshot *s);
/* A descriptor to read it, the caller's; -ENOENT. */
int snapshot_archive_open(struct snapshot *s, struct err *err);
/*
 * An archive is written to a machine that has never run and has neither disks nor snapshots
 * (machines/NEW/archive): the bytes in order, then the end. machine_archive_end() checks that it
 * was whole, and defines the machine, saved where the archive has memory. On failure the
 * machine is as it was.
 */
struct archive_import;
int machine_archive_begin(struct machine *m, const struct caller *caller,
			  struct archive_import **import, struct err *err);
int machine_archive_write(struct archive_import *import, const void *data, size_t len,
			  struct err *err);
int machine_archive_end(struct archive_import *import, struct err *err);
/* Instead of the end. */
void machine_archive_abort(struct archive_import *import);

/* --- commands ------------------------------------------------------------------------------- */

int snapshot_command_run(struct snapshot *s, const char *line, const struct caller *caller,
			 struct err *err);
void snapshot_command_list(struct snapshot *s, struct strbuf *sb);
void snapshot_command_help(struct strbuf *sb);
void snapshot_error_show(struct snapshot *s, struct strbuf *sb);
void snapshot_error_set(struct snapshot *s, const char *what, const struct err *err);

#endif
