// SPDX-License-Identifier: ISC
/*
 * What is known of a volume besides its content, as a line of text:
 *
 *   NAME key=value … backing=REST OF THE LINE
 *
 * Which file it is said of is its inode's number and time of birth: numbers of devices
 * change with every mount.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"
#include "util/size.h"

/* --- values ---------------------------------------------------------------------------- */

int volume_values_init(struct volume_values *values)
{
	memset(values, 0, sizeof(*values));
	values->backing = strdup("");
	values->version = 3;
	values->cluster_size = 65536;
	values->refcount_bits = 16;
	return values->backing ? 0 : -ENOMEM;
}

void volume_values_free(struct volume_values *values)
{
	free(take_ptr(values->backing));
}

int volume_values_copy(struct volume_values *to, const struct volume_values *from)
{
	*to = *from;
	to->backing = strdup(from->backing ? from->backing : "");
	return to->backing ? 0 : -ENOMEM;
}

/* --- meta -------------------------------------------------------------------------------- */

int meta_init(struct volume_meta *meta, const char *name)
{
	memset(meta, 0, sizeof(*meta));
	snprintf(meta->name, sizeof(meta->name), "%s", name);
	meta->named = strdup("");
	if (volume_values_init(&meta->wanted) < 0 || !meta->named) {
		meta_free(meta);
		return -ENOMEM;
	}
	return 0;
}

void meta_free(struct volume_meta *meta)
{
	free(take_ptr(meta->named));
	volume_values_free(&meta->wanted);
}

int meta_copy(struct volume_meta *to, const struct volume_meta *from)
{
	*to = *from;
	to->named = strdup(from->named);
	if (volume_values_copy(&to->wanted, &from->wanted) < 0 || !to->named) {
		meta_free(to);
		return -ENOMEM;
	}
	return 0;
}

/* --- the line ------------------------------------------------------------------------------ */

/* Numbers of the line, by name. */
struct slot {
	const char *name;
	uint64_t value, max;
};

enum {
	S_ID,
	S_BORN,
	S_FRESH,
	S_UNMADE,
	S_DECIDED,
	S_FORMAT,
	S_OWN,
	S_UID,
	S_GID,
	S_MODE,
	S_NAMED_UID,
	S_NAMED_GID,
	S_SIZE,
	S_PREALLOC,
	S_CLUSTER,
	S_VERSION,
	S_REFCOUNT,
	S_EXTENDED,
	S_LAZY,
	S_COMPRESSION,
	S_WANTED_FORMAT,
	S_NEXT_ID,
	S_NEXT_BORN,
	S_NEXT_FORMAT,
	N_SLOTS
};

static const struct slot slots_of_none[N_SLOTS] = {
    [S_ID] = {"id", 0, UINT64_MAX},
    [S_BORN] = {"born", 0, UINT64_MAX},
    [S_FRESH] = {"new", 0, 1},
    [S_UNMADE] = {"unmade", 0, 1},
    [S_DECIDED] = {"decided", 0, 1},
    [S_FORMAT] = {"format", 0, IMAGE_QCOW2},
    [S_OWN] = {"owned", 0, 1},
    [S_UID] = {"uid", 0, UINT32_MAX - 1},
    [S_GID] = {"gid", 0, UINT32_MAX - 1},
    [S_MODE] = {"mode", 0, 07777},
    [S_NAMED_UID] = {"named_uid", 0, UINT32_MAX - 1},
    [S_NAMED_GID] = {"named_gid", 0, UINT32_MAX - 1},
    [S_SIZE] = {"size", 0, INT64_MAX},
    [S_PREALLOC] = {"prealloc", 0, IMAGE_PREALLOC_FULL},
    [S_CLUSTER] = {"cluster_size", 65536, 2 << 20},
    [S_VERSION] = {"version", 3, 3},
    [S_REFCOUNT] = {"refcount_bits", 16, 64},
    [S_EXTENDED] = {"extended_l2", 0, 1},
    [S_LAZY] = {"lazy_refcounts", 0, 1},
    [S_COMPRESSION] = {"compression", 0, 1},
    [S_WANTED_FORMAT] = {"wanted_format", 0, IMAGE_QCOW2},
    [S_NEXT_ID] = {"next_id", 0, UINT64_MAX},
    [S_NEXT_BORN] = {"next_born", 0, UINT64_MAX},
    [S_NEXT_FORMAT] = {"next_format", 0, IMAGE_QCOW2},
};

static void to_slots(const struct volume_meta *m, struct slot slots[N_SLOTS])
{
	const struct volume_values *w = &m->wanted;
	const uint64_t values[N_SLOTS] = {
	    m->id,	  m->born_ns,	    m->fresh,	     m->unmade,		m->decided,
	    m->format,	  m->own_access,    m->access.uid,   m->access.gid,	m->access.mode,
	    m->named_uid, m->named_gid,	    w->size,	     w->prealloc,	w->cluster_size,
	    w->version,	  w->refcount_bits, w->extended_l2,  w->lazy_refcounts, w->compression,
	    w->format,	  m->next_id,	    m->next_born_ns, m->next_format};

	for (int i = 0; i < N_SLOTS; i++)
		slots[i].value = values[i];
}

static void from_slots(struct volume_meta *m, const struct slot slots[N_SLOTS])
{
	struct volume_values *w = &m->wanted;

	m->id = slots[S_ID].value;
	m->born_ns = slots[S_BORN].value;
	m->fresh = slots[S_FRESH].value;
	m->unmade = slots[S_UNMADE].value;
	m->decided = slots[S_DECIDED].value;
	m->format = (enum image_format)slots[S_FORMAT].value;
	m->own_access = slots[S_OWN].value;
	m->access = (struct machine_access){(uid_t)slots[S_UID].value, (gid_t)slots[S_GID].value,
					    (mode_t)slots[S_MODE].value};
	m->named_uid = (uid_t)slots[S_NAMED_UID].value;
	m->named_gid = (gid_t)slots[S_NAMED_GID].value;
	w->size = slots[S_SIZE].value;
	w->prealloc = slots[S_PREALLOC].value;
	w->cluster_size = slots[S_CLUSTER].value;
	w->version = slots[S_VERSION].value;
	w->refcount_bits = slots[S_REFCOUNT].value;
	w->extended_l2 = slots[S_EXTENDED].value;
	w->lazy_refcounts = slots[S_LAZY].value;
	w->compression = slots[S_COMPRESSION].value;
	w->format = slots[S_WANTED_FORMAT].value;
	m->next_id = slots[S_NEXT_ID].value;
	m->next_born_ns = slots[S_NEXT_BORN].value;
	m->next_format = (enum image_format)slots[S_NEXT_FORMAT].value;
}

void meta_format(const struct volume_meta *meta, struct strbuf *sb)
{
	struct slot slots[N_SLOTS];

	memcpy(slots, slots_of_none, sizeof(slots));
	to_slots(meta, slots);
	strbuf_puts(sb, meta->name);
	for (int i = 0; i < N_SLOTS; i++)
		if (slots[i].value != slots_of_none[i].value)
			strbuf_printf(sb, " %s=%llu", slots[i].name,
				      (unsigned long long)slots[i].value);
	/* the same text while it is new: what it was set to is what it is over */
	strbuf_printf(sb, " backing=%s\n", meta->fresh ? meta->wanted.backing : meta->named);
}

static int parse_slot(const char *word, const char *value, struct slot slots[N_SLOTS])
{
	for (int i = 0; i < N_SLOTS; i++)
		if (strcmp(slots[i].name, word) == 0)
			return uint_parse(value, 0, slots[i].max, &slots[i].value);
	return -EINVAL;
}

static int set_text(char **slot, const char *text)
{
	free(*slot);
	*slot = strdup(text);
	return *slot ? 0 : -ENOMEM;
}

int meta_parse(char *line, struct volume_meta *meta)
{
	char *backing = strstr(line, " backing="), *word, *save = NULL;
	struct slot slots[N_SLOTS];
	int r = 0;

	memset(meta, 0, sizeof(*meta));
	if (!backing)
		return -EINVAL;
	*backing = '\0';
	backing += strlen(" backing=");
	word = strtok_r(line, " ", &save);
	if (!word || !storage_name_good(word))
		return -EINVAL;
	r = meta_init(meta, word);
	memcpy(slots, slots_of_none, sizeof(slots));
	while (r == 0 && (word = strtok_r(NULL, " ", &save))) {
		char *value = strchr(word, '=');

		if (!value)
			return -EINVAL;
		*value++ = '\0';
		r = parse_slot(word, value, slots) < 0 ? -EINVAL : 0;
	}
	if (r < 0)
		return r;
	from_slots(meta, slots);
	r = set_text(&meta->named, backing);
	if (r == 0 && meta->fresh)
		r = set_text(&meta->wanted.backing, backing);
	return r;
}
