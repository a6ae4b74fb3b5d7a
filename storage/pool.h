/* SPDX-License-Identifier: ISC */
#ifndef FV_STORAGE_POOL_H
#define FV_STORAGE_POOL_H
/*
 * Places that hold volumes: a directory, a volume group, a network server. One
 * struct storage_type each, one file, one row in storage_types[] (pool_types.c). Every
 * call may wait for storage, perhaps for ever: callers see to it that nobody else waits
 * with them. A struct storage never changes, and is shared by reference.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "storage/nbd.h"
#include "util/cancel.h"
#include "util/err.h"
#include "util/rights.h"

#define STORAGE_NAME_MAX    127
#define STORAGE_VOLUMES_MAX 20000 /* of one storage: those beyond are not seen */
#define STORAGE_SOURCE_MAX  4095

struct storage;

/* A volume as its storage tells of it, without looking into it. */
struct storage_entry {
	char name[STORAGE_NAME_MAX + 1];
	uint64_t bytes;	     /* of the file, device or export */
	uint64_t allocation; /* what it occupies */
	/* Which one it is, though another may get its name; 0 where that cannot be told. */
	uint64_t id, born_ns;
	struct timespec changed; /* its content, as far as can be told */
	uid_t uid;
	gid_t gid;
	mode_t mode; /* permission bits of a file */
	bool readonly;
};

struct storage_list {
	struct storage_entry *entries;
	size_t n;
	uint64_t capacity, allocation, free_bytes; /* 0 where it cannot tell */
	uint64_t place; /* which one it was: another after something was mounted there */
};

void storage_list_free(struct storage_list *list);
/* Room for one more entry, zeroed; NULL without memory or beyond STORAGE_VOLUMES_MAX. */
struct storage_entry *storage_list_add(struct storage_list *list);

struct storage_type {
	const char *name;
	const char *help; /* what `source` is */
	bool images;	  /* volumes may be of other formats than raw, over each other */
	bool root_only;	  /* where the daemon is root, only root may have such a pool */
	/* 0 or -EINVAL with words: whether @source can be one. Opens nothing. */
	int (*check)(const char *source, struct err *err);
	/* Whether a new volume may have that name. NULL: storage_name_check(). */
	int (*check_name)(const char *name, struct err *err);
	int (*list)(const struct storage *s, struct cancel *cancel, struct storage_list *list,
		    struct err *err);
	/* Readable (poll(2)) when what is listed changed; NULL: nothing tells. */
	int (*watch)(const struct storage *s, struct err *err);
	/* Reads what the descriptor told. False where it is of no use any more. */
	bool (*watched)(int fd);
	/* A descriptor of a volume's file or device. NULL: see attach(). */
	int (*open)(const struct storage *s, const char *name, bool write, struct err *err);
	/* Connects to a volume; NULL: see open(). */
	int (*attach)(const struct storage *s, const char *name, bool write, struct cancel *cancel,
		      struct nbd_link *link, struct err *err);
	/*
	 * Makes one of @bytes. Of files: an empty one under a hidden name, which goes to @hidden,
	 * to be renamed when it is complete; a descriptor. Else 0. NULL: cannot.
	 */
	int (*create)(const struct storage *s, const char *name, uint64_t bytes,
		      struct cancel *cancel, char hidden[STORAGE_NAME_MAX + 64], struct err *err);
	/* Hidden becomes @name: durable; replaces what was there only with @replace (-EEXIST). */
	int (*rename)(const struct storage *s, const char *hidden, const char *name, bool replace,
		      struct err *err);
	/* A volume, or a hidden one. Durable. */
	int (*remove)(const struct storage *s, const char *name, struct cancel *cancel,
		      struct err *err);
	/* Devices: another size. NULL: the open file is resized. */
	int (*resize)(const struct storage *s, const char *name, uint64_t bytes,
		      struct cancel *cancel, struct err *err);
	/* A path that another image's header can name. NULL: none. Caller frees. */
	char *(*path)(const struct storage *s, const char *name);
};

struct statx;
/* What a file's status says of an entry, its name left as it is. */
void storage_entry_of_file(struct storage_entry *entry, const struct statx *x);

extern const struct storage_type *const storage_types[];
extern const size_t n_storage_types;

struct storage {
	atomic_uint refs;
	const struct storage_type *type;
	char *source;
	char *nbd_program;    /* path of filevisor-nbd */
	struct rights rights; /* as whom; groups are its own */
};

/* -ENOMEM, or what the type says of the source. Copies all. */
int storage_new(struct storage **storage, const struct storage_type *type, const char *source,
		const struct rights *rights, const char *nbd_program, struct err *err);
struct storage *storage_get(struct storage *s);
void storage_put(struct storage *s);
static inline void storage_putp(struct storage **s)
{
	storage_put(*s);
}
#define _cleanup_storage_ __attribute__((cleanup(storage_putp)))

/* A letter, digit or '_', then up to 126 of these and of ". + - = @ ,": -EINVAL with words. */
int storage_name_check(const char *name, struct err *err);
bool storage_name_good(const char *name);

extern const struct storage_type storage_dir, storage_lvm, storage_nbd;

#endif
