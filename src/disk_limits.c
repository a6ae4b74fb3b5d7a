// SPDX-License-Identifier: ISC
/* Limits of a disk as text. See disk_limits.h. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "disk_limits.h"
#include "util/cleanup.h"
#include "util/size.h"

#define REQUESTS_MAX 1000000000ull /* a second; far beyond any storage */
#define BYTES_MAX    (1ull << 50)

static const struct {
	const char *name;
	bool bytes;
	unsigned row; /* BLOCK_LIMIT_… */
} names[] = {
    {"iops", false, 0}, {"riops", false, 1}, {"wiops", false, 2},
    {"bps", true, 0},	{"rbps", true, 1},   {"wbps", true, 2},
};

static struct vmm_rate *rate_of(struct vmm_limits *limits, size_t i)
{
	return names[i].bytes ? &limits->bytes[names[i].row] : &limits->requests[names[i].row];
}

/* The row of names[] whose name are the @len bytes at @s, and whether a burst is meant; -1. */
static int find_name(const char *s, size_t len, bool *burst)
{
	static const char suffix[] = "_burst";
	const size_t n = sizeof(suffix) - 1;

	*burst = len > n && memcmp(s + len - n, suffix, n) == 0;
	if (*burst)
		len -= n;
	for (size_t i = 0; i < nitems(names); i++)
		if (strlen(names[i].name) == len && memcmp(names[i].name, s, len) == 0)
			return (int)i;
	return -1;
}

static int take_word(const char *word, struct vmm_limits *limits, unsigned *seen, struct err *err)
{
	const char *equals = strchr(word, '=');
	uint64_t value = 0, *slot;
	bool burst;
	int i = equals ? find_name(word, (size_t)(equals - word), &burst) : -1, r = 0;

	if (i < 0)
		return err_set(err, -EINVAL,
			       "'%.40s' is none of iops= riops= wiops= bps= rbps= wbps=, or of "
			       "these with _burst",
			       word);
	if (*seen & 1u << (2 * i + burst))
		return err_set(err, -EINVAL, "%.*s is given twice", (int)(equals - word), word);
	*seen |= 1u << (2 * i + burst);
	if (strcmp(equals + 1, "max") != 0)
		r = names[i].bytes ? size_parse(equals + 1, &value)
				   : uint_parse(equals + 1, 0, UINT64_MAX, &value);
	if (r == 0 && value > (names[i].bytes ? BYTES_MAX : REQUESTS_MAX))
		r = -ERANGE;
	if (r == -ERANGE)
		return err_set(err, r, "%.60s is too much", word);
	if (r < 0)
		return err_set(err, r, "'%.60s': that is not a %s", word,
			       names[i].bytes ? "size (bytes, or as 10M)" : "whole number");
	slot = burst ? &rate_of(limits, (size_t)i)->burst : &rate_of(limits, (size_t)i)->per_s;
	*slot = value;
	return 0;
}

int disk_limits_parse(const char *text, struct vmm_limits *limits, struct err *err)
{
	_cleanup_free_ char *copy = strdup(text);
	unsigned seen = 0;
	char *save = NULL;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	memset(limits, 0, sizeof(*limits));
	for (char *w = strtok_r(copy, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
		int r = take_word(w, limits, &seen, err);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < nitems(names); i++)
		if (rate_of(limits, i)->burst && !rate_of(limits, i)->per_s)
			return err_set(err, -EINVAL, "%s_burst is given without %s", names[i].name,
				       names[i].name);
	return 0;
}

void disk_limits_show(const struct vmm_limits *limits, struct strbuf *sb)
{
	struct vmm_limits copy = *limits;
	const char *blank = "";

	for (size_t i = 0; i < nitems(names); i++) {
		const struct vmm_rate *rate = rate_of(&copy, i);

		if (!rate->per_s)
			continue;
		strbuf_printf(sb, "%s%s=%llu", blank, names[i].name,
			      (unsigned long long)rate->per_s);
		blank = " ";
		if (rate->burst)
			strbuf_printf(sb, " %s_burst=%llu", names[i].name,
				      (unsigned long long)rate->burst);
	}
}

int disk_limits_refine(const char *text, char **canonical, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct vmm_limits limits;
	int r = disk_limits_parse(text, &limits, err);

	if (r < 0)
		return r;
	disk_limits_show(&limits, &sb);
	*canonical = strbuf_steal(&sb);
	return *canonical ? 0 : err_set(err, -ENOMEM, "out of memory");
}
