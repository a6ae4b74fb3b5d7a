/* SPDX-License-Identifier: ISC */
#ifndef FV_DEFINITION_H
#define FV_DEFINITION_H
/*
 * What a machine is to be: values of machine_keys[] and its disks. A struct
 * definition never changes once it is shared; a change makes another one
 * (definition_copy(), then set), so that who holds a reference reads without a lock.
 */
#include <stdatomic.h>

#include "machine.h"
#include "vmm_proto.h"

/* One slot for each row of machine_keys[] (config_key.offset). TEXT and PATH are never NULL. */
struct machine_values {
	uint64_t cpus, memory, hugepages;
	char *kernel, *initrd, *cmdline;
	uint64_t autostart;
	uint64_t on_crash, on_reboot, on_poweroff; /* index in the row's words: enum vmm_action */
	uint64_t stop_timeout_s;
	uint64_t vsock;
	char *vsock_listen; /* "PORT=PATH", one blank between */
};

/* The same for disk_keys[]. */
struct disk_values {
	char *source;	 /* path, or POOL/VOLUME; "": none */
	uint64_t format; /* enum image_format */
	uint64_t readonly, queues;
	uint64_t cache;	   /* enum vmm_cache */
	uint64_t on_error; /* enum vmm_on_error */
	char *serial, *limits;
	uint64_t share;
	char *backing; /* sources with one blank between */
};

struct disk {
	char name[DISK_NAME_MAX + 1];
	bool format_given;   /* by who made this definition: it is not to be looked at */
	uint64_t bytes_seen; /* size of the source, where it was looked at for this definition */
	struct disk_values values;
};

/* The same for nic_keys[]. */
struct nic_values {
	char *network, *mac, *fixed_address, *limits;
	uint64_t mtu, queues, vlan, link;
};

struct nic {
	char name[DISK_NAME_MAX + 1]; /* as a disk's */
	struct nic_values values;
};

struct definition {
	atomic_uint refs;
	struct machine_values values;
	struct disk *disks; /* in order of attachment */
	size_t n_disks;
	struct nic *nics; /* in order of attachment */
	size_t n_nics;
};

/* One with every key at its preset and no disk; NULL without memory. Release with definition_put().
 */
struct definition *definition_new(void);
struct definition *definition_copy(const struct definition *def);
struct definition *definition_get(struct definition *def);
void definition_put(struct definition *def);
static inline void definition_putp(struct definition **def)
{
	definition_put(*def);
}
#define _cleanup_definition_ __attribute__((cleanup(definition_putp)))

/* -EINVAL unless [A-Za-z][A-Za-z0-9_-]{0,30} (a name that libconfig takes, too). */
int disk_name_check(const char *name, struct err *err);
/* How many bytes of @source are the pool of POOL/VOLUME; 0 for a path or none; -EINVAL. */
int disk_source_pool(const char *source);
/* Of a definition not shared yet: with presets; -EEXIST, -ENOSPC, -EINVAL, -ENOMEM. */
int definition_add_disk(struct definition *def, const char *name, struct disk **disk,
			struct err *err);
/* -ENOENT */
int definition_remove_disk(struct definition *def, const char *name);
struct disk *definition_disk(const struct definition *def, const char *name);

/* The same of network cards. */
int definition_add_nic(struct definition *def, const char *name, struct nic **nic, struct err *err);
int definition_remove_nic(struct definition *def, const char *name);
struct nic *definition_nic(const struct definition *def, const char *name);

/*
 * Network cards without an address get the one that those of the same name have in @old (may be
 * NULL), or one that is made up. -ENOMEM, or what getentropy(3) says.
 */
int definition_complete(struct definition *def, const struct definition *old);

/* What must hold between values. -EINVAL with words. */
int definition_check(const struct definition *def, struct err *err);

/* Values by key; @values is the struct that the key's offset refers to. */
bool value_is_text(const struct config_key *key);
uint64_t value_number(const void *values, const struct config_key *key);
const char *value_text(const void *values, const struct config_key *key);
bool value_equal(const void *a, const void *b, const struct config_key *key);
/* Appends the value: sizes in bytes, no newline. */
void value_show(const void *values, const struct config_key *key, struct strbuf *sb);
/* Sets it from text as one writes it to a one-value file; words without the key's name. */
int value_parse(void *values, const struct config_key *key, const char *text, struct err *err);
/* Sets a UINT or SIZE from a number, checked against the range. */
int value_set_number(void *values, const struct config_key *key, uint64_t n, struct err *err);

/* The text of `config`: every key in the table's order, then the disks. */
void config_format(const struct definition *def, struct strbuf *sb);
/*
 * Reads such a text: absent keys get their presets. -EINVAL or -ERANGE with
 * "line L, column C: words", -EFBIG beyond CONFIG_MAX.
 */
int config_parse(const char *text, size_t len, struct definition **def, struct err *err);

#define CONFIG_MAX (1u << 20)

#endif
