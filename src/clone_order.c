// SPDX-License-Identifier: ISC
/* The words of `clone`. See clone_order.h. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clone_order.h"
#include "util/cleanup.h"
#include "util/size.h"

/* --- words ----------------------------------------------------------------------------------- */

/*
 * The next word into @word (as long as what is left of the text): its quotes are gone. @equals:
 * where its first '=' that is not quoted is in @word, or -1. Returns what is behind it; NULL:
 * a quote is not closed.
 */
static const char *next_word(const char *p, char *word, ssize_t *equals)
{
	char *to = word;
	bool quoted = false;

	*equals = -1;
	for (; *p && (quoted || !strchr(" \t", *p)); p++) {
		if (*p == '"') {
			quoted = !quoted;
			continue;
		}
		if (quoted && *p == '\\' && p[1] && strchr("\"\\", p[1]))
			p++;
		else if (*p == '=' && !quoted && *equals < 0)
			*equals = to - word;
		*to++ = *p;
	}
	*to = '\0';
	return quoted ? NULL : p + strspn(p, " \t");
}

static int add_override(struct clone_order *order, const char *word, size_t key_len,
			struct err *err)
{
	struct clone_override *o = &order->overrides[order->n_overrides];

	if (order->n_overrides == nitems(order->overrides))
		return err_set(err, -EINVAL, "more than %d values", CLONE_WORDS_MAX);
	for (unsigned i = 0; i < order->n_overrides; i++)
		if (strncmp(order->overrides[i].key, word, key_len) == 0 &&
		    !order->overrides[i].key[key_len])
			return err_set(err, -EINVAL, "%.*s is given twice", (int)key_len, word);
	order->n_overrides++;
	o->key = strndup(word, key_len);
	o->value = strdup(word + key_len + 1);
	return o->key && o->value ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int set_count(struct clone_order *order, const char *word, struct err *err)
{
	uint64_t count;
	int r = uint_parse(word, 1, CLONES_MAX, &count);

	if (r == -ERANGE)
		return err_set(err, r, "%.40s is not within 1 and %d", word, CLONES_MAX);
	if (r < 0)
		return err_set(err, r, "'%.80s' is neither a number of machines nor KEY=VALUE",
			       word);
	order->count = (unsigned)count;
	return 0;
}

static int take_word(struct clone_order *order, unsigned n, const char *word, ssize_t equals,
		     struct err *err)
{
	if (n == 0) {
		int r = machine_name_check(word, err);

		if (r == 0)
			strcpy(order->base, word);
		return r;
	}
	if (equals > 0)
		return add_override(order, word, (size_t)equals, err);
	if (n == 1)
		return set_count(order, word, err);
	return err_set(err, -EINVAL, "'%.80s' is not KEY=VALUE", word);
}

/* The longest of the names must be one. */
static int check_names(const struct clone_order *order, struct err *err)
{
	char number[16];
	int n = snprintf(number, sizeof(number), "%u", order->count);

	if (order->count && strlen(order->base) + (size_t)n > MACHINE_NAME_MAX)
		return err_set(err, -EINVAL, "'%s%s' is too long a name", order->base, number);
	return 0;
}

int clone_order_parse(const char *text, struct clone_order *order, struct err *err)
{
	_cleanup_free_ char *word = malloc(strlen(text) + 1);
	const char *p = text + strspn(text, " \t");
	int r = 0;

	memset(order, 0, sizeof(*order));
	if (!word)
		return err_set(err, -ENOMEM, "out of memory");
	if (!*p)
		return err_set(err, -EINVAL, "no name is given");
	for (unsigned n = 0; r == 0 && *p; n++) {
		ssize_t equals;

		p = next_word(p, word, &equals);
		if (!p)
			return err_set(err, -EINVAL, "a quote is not closed");
		r = take_word(order, n, word, equals, err);
	}
	return r == 0 ? check_names(order, err) : r;
}

void clone_order_free(struct clone_order *order)
{
	for (unsigned i = 0; i < order->n_overrides; i++) {
		free(order->overrides[i].key);
		free(order->overrides[i].value);
	}
	order->n_overrides = 0;
}

unsigned clone_order_count(const struct clone_order *order)
{
	return order->count ? order->count : 1;
}

void clone_order_name(const struct clone_order *order, unsigned i, char name[MACHINE_NAME_MAX + 1])
{
	char number[16] = "";

	if (order->count)
		snprintf(number, sizeof(number), "%u", i + 1);
	snprintf(name, MACHINE_NAME_MAX + 1, "%.*s%s", (int)(MACHINE_NAME_MAX - strlen(number)),
		 order->base, number);
}

/* --- what they mean -------------------------------------------------------------------------- */

/* What a guest that goes on has seen of its machine. */
static const char *const seen_of_machine[] = {"cpus", "memory", "hugepages", NULL};
static const char *const seen_of_disk[] = {"readonly", "queues", NULL};
static const char *const seen_of_nic[] = {"queues", "mtu", NULL};

static bool listed(const char *const *list, const char *name)
{
	while (*list && strcmp(*list, name) != 0)
		list++;
	return *list;
}

static const struct config_key *find_key(const struct config_key *keys, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

/* Which value of the definition a key means. */
struct target {
	void *values;
	const struct config_key *key;
	const char *const *seen; /* names of keys that a guest which goes on has seen */
	struct disk *disk;	 /* whose it is; NULL: no disk's */
};

/* "disks/NAME/KEY" or "nics/NAME/KEY" into the last two; false: it is neither. */
static bool split(const char *path, const char *kind, char name[DISK_NAME_MAX + 1],
		  const char **key)
{
	size_t n = strlen(kind), len;

	if (strncmp(path, kind, n) != 0 || path[n] != '/')
		return false;
	path += n + 1;
	len = strcspn(path, "/");
	if (path[len] != '/' || len == 0 || len > DISK_NAME_MAX)
		return false;
	memcpy(name, path, len);
	name[len] = '\0';
	*key = path + len + 1;
	return true;
}

static int find_target(struct definition *def, const char *path, struct target *t, struct err *err)
{
	char name[DISK_NAME_MAX + 1];
	const char *key = path;
	struct nic *nic;

	if (split(path, "disks", name, &key)) {
		t->disk = definition_disk(def, name);
		if (!t->disk)
			return err_set(err, -ENOENT, "there is no disk %s", name);
		t->values = &t->disk->values;
		t->key = find_key(disk_keys, n_disk_keys, key);
		t->seen = seen_of_disk;
	} else if (split(path, "nics", name, &key)) {
		nic = definition_nic(def, name);
		if (!nic)
			return err_set(err, -ENOENT, "there is no network card %s", name);
		t->values = &nic->values;
		t->key = find_key(nic_keys, n_nic_keys, key);
		t->seen = seen_of_nic;
	} else {
		t->values = &def->values;
		t->key = find_key(machine_keys, n_machine_keys, key);
		t->seen = seen_of_machine;
	}
	return t->key ? 0 : err_set(err, -EINVAL, "there is no such value");
}

static bool has_override(const struct clone_order *order, const char *disk, const char *key)
{
	char path[DISK_NAME_MAX + 64];

	snprintf(path, sizeof(path), "disks/%s/%s", disk, key);
	for (unsigned i = 0; i < order->n_overrides; i++)
		if (strcmp(order->overrides[i].key, path) == 0)
			return true;
	return false;
}

static int set_value(const struct clone_order *order, struct definition *def, bool resumed,
		     const struct clone_override *o, struct err *err)
{
	struct target t = {0};
	bool is_source, is_format;
	int r = find_target(def, o->key, &t, err);

	if (r < 0)
		return r;
	if (resumed && listed(t.seen, t.key->name))
		return err_set(err, -EBUSY,
			       "its guest goes on from memory, and has seen what this was");
	is_source = t.disk && strcmp(t.key->name, "source") == 0;
	is_format = t.disk && strcmp(t.key->name, "format") == 0;
	if (is_source && resumed && !*o->value)
		return err_set(err, -EBUSY, "its guest goes on from memory, with this disk");
	if (is_format && !has_override(order, t.disk->name, "source"))
		return err_set(err, -EINVAL, "only together with another source");
	if (is_source)
		t.disk->format_given = has_override(order, t.disk->name, "format");
	return value_parse(t.values, t.key, o->value, err);
}

static int forget(char **value)
{
	char *none = strdup("");

	if (!none)
		return -ENOMEM;
	free(*value);
	*value = none;
	return 0;
}

/* Each machine has addresses of its own: none here, so that they are made up. */
static int forget_addresses(struct definition *def)
{
	for (size_t i = 0; i < def->n_nics; i++) {
		struct nic_values *values = &def->nics[i].values;

		if (forget(&values->mac) < 0 || forget(&values->fixed_address) < 0)
			return -ENOMEM;
	}
	return 0;
}

int clone_order_apply(const struct clone_order *order, struct definition *def, bool resumed,
		      struct err *err)
{
	int r = forget_addresses(def);

	if (r < 0)
		return err_set(err, r, "out of memory");
	def->values.autostart = 0;
	for (unsigned i = 0; r == 0 && i < order->n_overrides; i++) {
		r = set_value(order, def, resumed, &order->overrides[i], err);
		if (r < 0)
			err_prefix(err, "%.80s", order->overrides[i].key);
	}
	return r == 0 ? definition_check(def, err) : r;
}
