// SPDX-License-Identifier: ISC
/* Definitions and their values. See definition.h. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "definition.h"
#include "nic.h"
#include "util/cleanup.h"
#include "util/size.h"

#define HUGE_PAGE (2u << 20)

/* --- values by key ------------------------------------------------------------------- */

bool value_is_text(const struct config_key *key)
{
	return key->type == KEY_TEXT || key->type == KEY_PATH;
}

static uint64_t *number_slot(const void *values, const struct config_key *key)
{
	return (uint64_t *)((char *)values + key->offset);
}

static char **text_slot(const void *values, const struct config_key *key)
{
	return (char **)((char *)values + key->offset);
}

uint64_t value_number(const void *values, const struct config_key *key)
{
	return *number_slot(values, key);
}

const char *value_text(const void *values, const struct config_key *key)
{
	return *text_slot(values, key);
}

bool value_equal(const void *a, const void *b, const struct config_key *key)
{
	if (value_is_text(key))
		return strcmp(value_text(a, key), value_text(b, key)) == 0;
	return value_number(a, key) == value_number(b, key);
}

void value_show(const void *values, const struct config_key *key, struct strbuf *sb)
{
	switch (key->type) {
	case KEY_UINT:
	case KEY_SIZE:
		strbuf_printf(sb, "%llu", (unsigned long long)value_number(values, key));
		break;
	case KEY_BOOL:
		strbuf_puts(sb, value_number(values, key) ? "true" : "false");
		break;
	case KEY_ENUM:
		strbuf_puts(sb, key->words[value_number(values, key)]);
		break;
	case KEY_TEXT:
	case KEY_PATH:
		strbuf_puts(sb, value_text(values, key));
		break;
	}
}

int value_set_number(void *values, const struct config_key *key, uint64_t n, struct err *err)
{
	if (n < key->min || n > key->max)
		return err_set(err, -ERANGE, "%llu is not within %llu and %llu",
			       (unsigned long long)n, (unsigned long long)key->min,
			       (unsigned long long)key->max);
	if (key->type == KEY_SIZE && n % 4096)
		return err_set(err, -EINVAL, "%llu is not a multiple of 4096",
			       (unsigned long long)n);
	*number_slot(values, key) = n;
	return 0;
}

static int parse_number(void *values, const struct config_key *key, const char *text,
			struct err *err)
{
	uint64_t n;
	int r = key->type == KEY_SIZE ? size_parse(text, &n) : uint_parse(text, 0, UINT64_MAX, &n);

	if (r == -ERANGE)
		return err_set(err, r, "%.40s is too large", text);
	if (r < 0)
		return err_set(err, r, "'%.40s' is not a %s", text,
			       key->type == KEY_SIZE ? "size (bytes, or as 64M, 2G)"
						     : "whole number");
	return value_set_number(values, key, n, err);
}

static int parse_bool(void *values, const struct config_key *key, const char *text, struct err *err)
{
	static const char *const words[][2] = {
	    {"false", "true"}, {"no", "yes"}, {"off", "on"}, {"0", "1"}};

	for (size_t i = 0; i < nitems(words); i++)
		for (unsigned b = 0; b < 2; b++)
			if (strcmp(text, words[i][b]) == 0) {
				*number_slot(values, key) = b;
				return 0;
			}
	return err_set(err, -EINVAL, "'%.40s' is neither true nor false", text);
}

static int parse_enum(void *values, const struct config_key *key, const char *text, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	for (unsigned i = 0; key->words[i]; i++) {
		if (strcmp(text, key->words[i]) == 0) {
			*number_slot(values, key) = i;
			return 0;
		}
		strbuf_printf(&sb, "%s%s", i ? ", " : "", key->words[i]);
	}
	return err_set(err, -EINVAL, "'%.40s' is none of: %s", text, sb.failed ? "" : sb.data);
}

static int parse_text(void *values, const struct config_key *key, const char *text, struct err *err)
{
	size_t len = strlen(text);
	char *copy;

	if (len > key->max)
		return err_set(err, -EFBIG, "%zu bytes are more than %llu", len,
			       (unsigned long long)key->max);
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(err, -EINVAL, "a control character at byte %td", p - text);
	if (key->type == KEY_PATH && !key->refine && len && *text != '/')
		return err_set(err, -EINVAL, "'%.80s' is not an absolute path", text);
	if (key->refine) {
		int r = key->refine(text, &copy, err);

		if (r < 0)
			return r;
	} else {
		copy = strdup(text);
	}
	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	free(*text_slot(values, key));
	*text_slot(values, key) = copy;
	return 0;
}

int value_parse(void *values, const struct config_key *key, const char *text, struct err *err)
{
	switch (key->type) {
	case KEY_UINT:
	case KEY_SIZE:
		return parse_number(values, key, text, err);
	case KEY_BOOL:
		return parse_bool(values, key, text, err);
	case KEY_ENUM:
		return parse_enum(values, key, text, err);
	case KEY_TEXT:
	case KEY_PATH:
		return parse_text(values, key, text, err);
	}
	return err_set(err, -EINVAL, "no such type of value");
}

/* --- all values of a table ----------------------------------------------------------- */

static int values_preset(void *values, const struct config_key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = value_parse(values, &keys[i], keys[i].preset, NULL);

		if (r < 0)
			return r;
	}
	return 0;
}

static int values_copy(void *to, const void *from, const struct config_key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!value_is_text(&keys[i])) {
			*number_slot(to, &keys[i]) = value_number(from, &keys[i]);
			continue;
		}
		*text_slot(to, &keys[i]) = strdup(value_text(from, &keys[i]));
		if (!value_text(to, &keys[i]))
			return -ENOMEM;
	}
	return 0;
}

static void values_free(void *values, const struct config_key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (value_is_text(&keys[i]))
			free(*text_slot(values, &keys[i]));
}

/* --- definitions --------------------------------------------------------------------- */

struct definition *definition_new(void)
{
	struct definition *def = calloc(1, sizeof(*def));

	if (!def)
		return NULL;
	atomic_init(&def->refs, 1);
	if (values_preset(&def->values, machine_keys, n_machine_keys) < 0) {
		definition_put(def);
		return NULL;
	}
	return def;
}

struct definition *definition_copy(const struct definition *from)
{
	_cleanup_definition_ struct definition *def = calloc(1, sizeof(*def));

	if (!def)
		return NULL;
	atomic_init(&def->refs, 1);
	if (values_copy(&def->values, &from->values, machine_keys, n_machine_keys) < 0)
		return NULL;
	def->disks = calloc(from->n_disks + 1, sizeof(*def->disks));
	def->nics = calloc(from->n_nics + 1, sizeof(*def->nics));
	if (!def->disks || !def->nics)
		return NULL;
	for (size_t i = 0; i < from->n_disks; i++) {
		struct disk *d = &def->disks[def->n_disks++];

		memcpy(d->name, from->disks[i].name, sizeof(d->name));
		d->format_given = true; /* it was settled when it came */
		d->bytes_seen = 0;
		if (values_copy(&d->values, &from->disks[i].values, disk_keys, n_disk_keys) < 0)
			return NULL;
	}
	for (size_t i = 0; i < from->n_nics; i++) {
		struct nic *n = &def->nics[def->n_nics++];

		memcpy(n->name, from->nics[i].name, sizeof(n->name));
		if (values_copy(&n->values, &from->nics[i].values, nic_keys, n_nic_keys) < 0)
			return NULL;
	}
	return take_ptr(def);
}

struct definition *definition_get(struct definition *def)
{
	atomic_fetch_add(&def->refs, 1);
	return def;
}

void definition_put(struct definition *def)
{
	if (!def || atomic_fetch_sub(&def->refs, 1) != 1)
		return;
	for (size_t i = 0; i < def->n_disks; i++)
		values_free(&def->disks[i].values, disk_keys, n_disk_keys);
	free(def->disks);
	for (size_t i = 0; i < def->n_nics; i++)
		values_free(&def->nics[i].values, nic_keys, n_nic_keys);
	free(def->nics);
	values_free(&def->values, machine_keys, n_machine_keys);
	free(def);
}

/* A name of a disk or a network card. */
static int part_name_check(const char *kind, const char *name, struct err *err)
{
	size_t len = strlen(name);
	bool good = len > 0 && len <= DISK_NAME_MAX && isalpha((unsigned char)*name);

	for (const char *p = name; *p; p++)
		good = good && (isalnum((unsigned char)*p) || *p == '_' || *p == '-');
	if (!good)
		return err_set(err, -EINVAL,
			       "'%.80s' is no name for a %s: a letter, then up to 30 letters, "
			       "digits, '_' or '-'",
			       name, kind);
	return 0;
}

int disk_name_check(const char *name, struct err *err)
{
	return part_name_check("disk", name, err);
}

struct disk *definition_disk(const struct definition *def, const char *name)
{
	for (size_t i = 0; i < def->n_disks; i++)
		if (strcmp(def->disks[i].name, name) == 0)
			return &def->disks[i];
	return NULL;
}

int definition_add_disk(struct definition *def, const char *name, struct disk **disk,
			struct err *err)
{
	int r = disk_name_check(name, err);
	struct disk *disks, *d;

	if (r < 0)
		return r;
	if (definition_disk(def, name))
		return err_set(err, -EEXIST, "there is a disk %s already", name);
	if (def->n_disks >= VMM_DISKS_MAX)
		return err_set(err, -ENOSPC, "a machine has at most %d disks", VMM_DISKS_MAX);
	disks = realloc(def->disks, (def->n_disks + 1) * sizeof(*disks));
	if (!disks)
		return err_set(err, -ENOMEM, "out of memory");
	def->disks = disks;
	d = &disks[def->n_disks];
	memset(d, 0, sizeof(*d));
	strcpy(d->name, name);
	r = values_preset(&d->values, disk_keys, n_disk_keys);
	if (r < 0) {
		values_free(&d->values, disk_keys, n_disk_keys);
		return err_set(err, r, "out of memory");
	}
	def->n_disks++;
	*disk = d;
	return 0;
}

int definition_remove_disk(struct definition *def, const char *name)
{
	struct disk *d = definition_disk(def, name);

	if (!d)
		return -ENOENT;
	values_free(&d->values, disk_keys, n_disk_keys);
	def->n_disks--;
	memmove(d, d + 1, (size_t)(def->disks + def->n_disks - d) * sizeof(*d));
	return 0;
}

struct nic *definition_nic(const struct definition *def, const char *name)
{
	for (size_t i = 0; i < def->n_nics; i++)
		if (strcmp(def->nics[i].name, name) == 0)
			return &def->nics[i];
	return NULL;
}

int definition_add_nic(struct definition *def, const char *name, struct nic **nic, struct err *err)
{
	int r = part_name_check("network card", name, err);
	struct nic *nics, *n;

	if (r < 0)
		return r;
	if (definition_nic(def, name))
		return err_set(err, -EEXIST, "there is a network card %s already", name);
	if (def->n_nics >= VMM_NICS_MAX)
		return err_set(err, -ENOSPC, "a machine has at most %d network cards",
			       VMM_NICS_MAX);
	nics = realloc(def->nics, (def->n_nics + 1) * sizeof(*nics));
	if (!nics)
		return err_set(err, -ENOMEM, "out of memory");
	def->nics = nics;
	n = &nics[def->n_nics];
	memset(n, 0, sizeof(*n));
	strcpy(n->name, name);
	r = values_preset(&n->values, nic_keys, n_nic_keys);
	if (r < 0) {
		values_free(&n->values, nic_keys, n_nic_keys);
		return err_set(err, r, "out of memory");
	}
	def->n_nics++;
	*nic = n;
	return 0;
}

int definition_remove_nic(struct definition *def, const char *name)
{
	struct nic *n = definition_nic(def, name);

	if (!n)
		return -ENOENT;
	values_free(&n->values, nic_keys, n_nic_keys);
	def->n_nics--;
	memmove(n, n + 1, (size_t)(def->nics + def->n_nics - n) * sizeof(*n));
	return 0;
}

/* Locally administered, as QEMU's guests have them. */
static char *make_up_mac(void)
{
	uint8_t mac[6] = {0x52, 0x54, 0x00};
	char text[NIC_MAC_TEXT];

	if (getentropy(mac + 3, 3) < 0)
		return NULL;
	nic_mac_show(mac, text);
	return strdup(text);
}

int definition_complete(struct definition *def, const struct definition *old)
{
	for (size_t i = 0; i < def->n_nics; i++) {
		struct nic_values *v = &def->nics[i].values;
		const struct nic *before = old ? definition_nic(old, def->nics[i].name) : NULL;
		char *mac;

		if (*v->mac)
			continue;
		mac = before ? strdup(before->values.mac) : make_up_mac();
		if (!mac)
			return errno ? -errno : -ENOMEM;
		free(v->mac);
		v->mac = mac;
	}
	return 0;
}

static int check_nics(const struct definition *def, struct err *err)
{
	for (size_t i = 0; i < def->n_nics; i++) {
		const struct nic *n = &def->nics[i];

		if (n->values.mtu && n->values.mtu < NIC_MTU_MIN)
			return err_set(err, -ERANGE, "network card %s: an mtu is 0, or at least %d",
				       n->name, NIC_MTU_MIN);
		for (size_t k = 0; k < i; k++)
			if (*n->values.mac && strcmp(n->values.mac, def->nics[k].values.mac) == 0)
				return err_set(err, -EINVAL,
					       "network cards %s and %s have the same address",
					       def->nics[k].name, n->name);
	}
	return 0;
}

int definition_check(const struct definition *def, struct err *err)
{
	if (def->values.hugepages && def->values.memory % HUGE_PAGE)
		return err_set(err, -EINVAL,
			       "with hugepages, memory is a multiple of 2 MiB; %llu is not",
			       (unsigned long long)def->values.memory);
	return check_nics(def, err);
}
