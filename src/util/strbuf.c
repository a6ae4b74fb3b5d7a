// SPDX-License-Identifier: ISC
/* A growing byte string. See strbuf.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/strbuf.h"

void strbuf_free(struct strbuf *sb)
{
	free(sb->data);
	*sb = (struct strbuf)STRBUF_INIT;
}

void strbuf_reset(struct strbuf *sb)
{
	sb->len = 0;
	if (sb->data)
		sb->data[0] = '\0';
}

int strbuf_reserve(struct strbuf *sb, size_t len)
{
	size_t need, cap;
	char *p;

	if (sb->failed)
		return -ENOMEM;
	if (__builtin_add_overflow(sb->len, len, &need) || need > SIZE_MAX / 2 - 1) {
		sb->failed = true;
		return -ENOMEM;
	}
	need++; /* the NUL */
	if (need <= sb->cap)
		return 0;
	cap = sb->cap ? sb->cap : 64;
	while (cap < need)
		cap *= 2;
	p = realloc(sb->data, cap);
	if (!p) {
		sb->failed = true;
		return -ENOMEM;
	}
	sb->data = p;
	sb->cap = cap;
	return 0;
}

void strbuf_add(struct strbuf *sb, const void *data, size_t len)
{
	if (strbuf_reserve(sb, len) < 0)
		return;
	if (len)
		memcpy(sb->data + sb->len, data, len);
	sb->len += len;
	sb->data[sb->len] = '\0';
}

void strbuf_puts(struct strbuf *sb, const char *s)
{
	strbuf_add(sb, s, strlen(s));
}

void strbuf_putc(struct strbuf *sb, char c)
{
	strbuf_add(sb, &c, 1);
}

void strbuf_printf(struct strbuf *sb, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n >= 0 && strbuf_reserve(sb, (size_t)n) == 0) {
		vsnprintf(sb->data + sb->len, (size_t)n + 1, fmt, again);
		sb->len += (size_t)n;
	}
	va_end(again);
	va_end(ap);
}

/* Length of the UTF-8 sequence at @s (1 to 4), or 0 where it is malformed. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n, i;
	uint32_t c;

	if (s[0] < 0x80)
		return 1;
	n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	c = s[0] & (0xffu >> (n + 1));
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) ||
	    (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return n;
}

void strbuf_json(struct strbuf *sb, const char *str)
{
	const unsigned char *s = (const unsigned char *)str;

	strbuf_putc(sb, '"');
	while (*s) {
		size_t n = utf8_len(s);

		if (*s == '"' || *s == '\\')
			strbuf_printf(sb, "\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f)
			strbuf_printf(sb, "\\u%04x", *s);
		else if (n == 0)
			strbuf_puts(sb, "\\ufffd");
		else
			strbuf_add(sb, s, n);
		s += n ? n : 1;
	}
	strbuf_putc(sb, '"');
}

char *strbuf_steal(struct strbuf *sb)
{
	char *p;

	if (!sb->data)
		strbuf_add(sb, "", 0);
	p = sb->failed ? NULL : sb->data;
	if (!p)
		free(sb->data);
	*sb = (struct strbuf)STRBUF_INIT;
	return p;
}
