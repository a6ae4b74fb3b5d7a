// SPDX-License-Identifier: ISC
/*
 * A snapshot's `meta`: text, a line for each key, the key, a blank, the value.
 *
 *	snapshot 1          version of this
 *	id UUID
 *	time SECONDS.NANOSECONDS
 *	was running|paused|stopped
 *	pause_ns N
 *	cpus N              in `registers`
 *	parent UUID         where there is one
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot_int.h"
#include "util/cleanup.h"

#define META_VERSION 1

void snapshot_meta_format(struct snapshot *s, struct strbuf *sb)
{
	strbuf_printf(sb, "snapshot %d\nid %s\ntime %lld.%09ld\nwas %s\npause_ns %" PRIu64 "\n",
		      META_VERSION, s->id, (long long)s->time.tv_sec, s->time.tv_nsec,
		      machine_state_name(s->was), s->pause_ns);
	strbuf_printf(sb, "cpus %u\n", s->cpus);
	LOCK_SCOPE(&s->lock);
	if (*s->parent)
		strbuf_printf(sb, "parent %s\n", s->parent);
}

static bool is_id(const char *text)
{
	return strlen(text) == ID_TEXT - 1 && strspn(text, "0123456789abcdef-") == ID_TEXT - 1;
}

static int number(const char *text, uint64_t max, uint64_t *value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno || *end || *value > max ? -EINVAL : 0;
}

static int parse_time(const char *text, struct timespec *time)
{
	char seconds[24];
	const char *dot = strchr(text, '.');
	uint64_t s, ns;

	if (!dot || (size_t)(dot - text) >= sizeof(seconds) || strlen(dot + 1) != 9)
		return -EINVAL;
	memcpy(seconds, text, (size_t)(dot - text));
	seconds[dot - text] = '\0';
	if (number(seconds, INT64_MAX / 2, &s) < 0 || number(dot + 1, 999999999, &ns) < 0)
		return -EINVAL;
	*time = (struct timespec){(time_t)s, (long)ns};
	return 0;
}

static int parse_was(const char *text, enum machine_state *was)
{
	static const enum machine_state states[] = {MACHINE_RUNNING, MACHINE_PAUSED,
						    MACHINE_STOPPED};

	for (size_t i = 0; i < nitems(states); i++)
		if (strcmp(text, machine_state_name(states[i])) == 0) {
			*was = states[i];
			return 0;
		}
	return -EINVAL;
}

enum { HAS_VERSION = 1, HAS_ID = 2, HAS_TIME = 4, HAS_WAS = 8, HAS_CPUS = 16, HAS_ALL = 31 };

static int meta_line(struct snapshot *s, const char *key, const char *value, unsigned *has)
{
	uint64_t n = 0;
	int r = -EINVAL;

	if (strcmp(key, "snapshot") == 0) {
		*has |= HAS_VERSION;
		r = number(value, UINT32_MAX, &n);
		return r == 0 && n != META_VERSION ? -EOPNOTSUPP : r;
	}
	if (strcmp(key, "id") == 0 && is_id(value)) {
		*has |= HAS_ID;
		strcpy(s->id, value);
		return 0;
	}
	if (strcmp(key, "time") == 0) {
		*has |= HAS_TIME;
		return parse_time(value, &s->time);
	}
	if (strcmp(key, "was") == 0) {
		*has |= HAS_WAS;
		return parse_was(value, &s->was);
	}
	if (strcmp(key, "cpus") == 0) {
		*has |= HAS_CPUS;
		r = number(value, VMM_CPUS_MAX, &n);
		s->cpus = (unsigned)n;
	} else if (strcmp(key, "pause_ns") == 0) {
		r = number(value, UINT64_MAX, &s->pause_ns);
	} else if (strcmp(key, "parent") == 0 && is_id(value)) {
		strcpy(s->parent, value);
		r = 0;
	}
	return r;
}

int snapshot_meta_parse(struct snapshot *s, char *text)
{
	unsigned has = 0;
	char *next;

	for (char *line = text; *line; line = next) {
		char *blank;
		int r;

		next = strchr(line, '\n');
		blank = strchr(line, ' ');
		if (!next || !blank || blank > next)
			return -EINVAL;
		*next++ = *blank = '\0';
		r = meta_line(s, line, blank + 1, &has);
		if (r < 0)
			return r;
	}
	return has == HAS_ALL && (s->was == MACHINE_STOPPED || s->cpus) ? 0 : -EINVAL;
}
