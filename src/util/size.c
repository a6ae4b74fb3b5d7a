// SPDX-License-Identifier: ISC
/* Numbers as people write them. See size.h. */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "util/size.h"

/* Reads digits at *s into *value and moves *s behind them; *over on overflow. */
static int digits(const char **s, uint64_t *value, bool *over)
{
	const char *p = *s;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	*value = 0;
	*over = false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(*value, 10u, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(*p - '0'), value))
			*over = true;
	*s = p;
	return 0;
}

int size_parse(const char *s, uint64_t *bytes)
{
	static const char units[] = "KMGTPE";
	uint64_t value;
	bool over;

	if (digits(&s, &value, &over) < 0)
		return -EINVAL;
	if (*s) {
		const char *unit = strchr(units, toupper((unsigned char)*s));

		if (!unit)
			return -EINVAL;
		s++;
		if (*s && strcasecmp(s, "iB") != 0 && strcasecmp(s, "B") != 0)
			return -EINVAL;
		for (long i = 0; i <= unit - units; i++)
			over |= __builtin_mul_overflow(value, 1024u, &value);
	}
	if (over || value > INT64_MAX)
		return -ERANGE;
	*bytes = value;
	return 0;
}

int uint_parse(const char *s, uint64_t min, uint64_t max, uint64_t *value)
{
	uint64_t v;
	bool over;

	if (digits(&s, &v, &over) < 0 || *s)
		return -EINVAL;
	if (over || v < min || v > max)
		return -ERANGE;
	*value = v;
	return 0;
}
