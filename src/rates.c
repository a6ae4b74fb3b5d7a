// SPDX-License-Identifier: ISC
/* Limits as text. See rates.h. */
#include <errno.h>
#include <string.h>

#include "rates.h"
#include "util/cleanup.h"
#include "util/size.h"

#define NUMBER_MAX 1000000000ull /* a second; far beyond any device */
#define BYTES_MAX  (1ull << 50)

/* The row whose name are the @len bytes at @s, and whether a burst is meant; -1. */
static int find_name(const struct rate_name *names, size_t n, const char *s, size_t len,
		     bool *burst)
{
	static const char suffix[] = "_burst";
	const size_t tail = sizeof(suffix) - 1;

	*burst = len > tail && memcmp(s + len - tail, suffix, tail) == 0;
	if (*burst)
		len -= tail;
	for (size_t i = 0; i < n; i++)
		if (strlen(names[i].name) == len && memcmp(names[i].name, s, len) == 0)
			return (int)i;
	return -1;
}

static int no_name(const struct rate_name *names, size_t n, const char *word, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	for (size_t i = 0; i < n; i++)
		strbuf_printf(&sb, " %s=", names[i].name);
	return err_set(err, -EINVAL, "'%.40s' is none of%s, or of these with _burst", word,
		       sb.failed ? "" : sb.data);
}

static int take_value(const struct rate_name *name, const char *word, const char *text,
		      uint64_t *slot, struct err *err)
{
	uint64_t value = 0;
	int r = 0;

	if (strcmp(text, "max") != 0)
		r = name->bytes ? size_parse(text, &value)
				: uint_parse(text, 0, UINT64_MAX, &value);
	if (r == 0 && value > (name->bytes ? BYTES_MAX : NUMBER_MAX))
		r = -ERANGE;
	if (r == -ERANGE)
		return err_set(err, r, "%.60s is too much", word);
	if (r < 0)
		return err_set(err, r, "'%.60s': that is not a %s", word,
			       name->bytes ? "size (bytes, or as 10M)" : "whole number");
	*slot = value;
	return 0;
}

static struct vmm_rate *rate_of(const struct rate_name *name, void *limits)
{
	return (struct vmm_rate *)((char *)limits + name->offset);
}

static const struct vmm_rate *rate_in(const struct rate_name *name, const void *limits)
{
	return (const struct vmm_rate *)((const char *)limits + name->offset);
}

static int take_word(const struct rate_name *names, size_t n, const char *word, void *limits,
		     uint32_t *seen, struct err *err)
{
	const char *equals = strchr(word, '=');
	bool burst;
	int i = equals ? find_name(names, n, word, (size_t)(equals - word), &burst) : -1;
	struct vmm_rate *rate;

	if (i < 0)
		return no_name(names, n, word, err);
	if (*seen & 1u << (2 * i + burst))
		return err_set(err, -EINVAL, "%.*s is given twice", (int)(equals - word), word);
	*seen |= 1u << (2 * i + burst);
	rate = rate_of(&names[i], limits);
	return take_value(&names[i], word, equals + 1, burst ? &rate->burst : &rate->per_s, err);
}

int rates_parse(const struct rate_name *names, size_t n, const char *text, void *limits,
		struct err *err)
{
	_cleanup_free_ char *copy = strdup(text);
	uint32_t seen = 0;
	char *save = NULL;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	for (char *w = strtok_r(copy, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
		int r = take_word(names, n, w, limits, &seen, err);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n; i++)
		if (rate_of(&names[i], limits)->burst && !rate_of(&names[i], limits)->per_s)
			return err_set(err, -EINVAL, "%s_burst is given without %s", names[i].name,
				       names[i].name);
	return 0;
}

void rates_show(const struct rate_name *names, size_t n, const void *limits, struct strbuf *sb)
{
	const char *blank = "";

	for (size_t i = 0; i < n; i++) {
		const struct vmm_rate *rate = rate_in(&names[i], limits);

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
