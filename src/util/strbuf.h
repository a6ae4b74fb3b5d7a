/* SPDX-License-Identifier: ISC */
#ifndef FV_STRBUF_H
#define FV_STRBUF_H
/*
 * A growing byte string. A failed allocation is remembered (->failed) and
 * later appends do nothing, so that callers check once at the end.
 */
#include <stdbool.h>
#include <stddef.h>

struct strbuf {
	char *data; /* NUL-terminated once anything was added; NULL before */
	size_t len; /* bytes without the NUL */
	size_t cap;
	bool failed; /* an allocation failed: contents are incomplete */
};

#define STRBUF_INIT                                                                                \
	{                                                                                          \
		0                                                                                  \
	}

void strbuf_free(struct strbuf *sb);
/* Forgets the contents, keeps the memory. */
void strbuf_reset(struct strbuf *sb);
void strbuf_add(struct strbuf *sb, const void *data, size_t len);
void strbuf_puts(struct strbuf *sb, const char *s);
void strbuf_putc(struct strbuf *sb, char c);
void strbuf_printf(struct strbuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends @s as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void strbuf_json(struct strbuf *sb, const char *s);
/* Makes room for @len more bytes; 0 or -ENOMEM. */
int strbuf_reserve(struct strbuf *sb, size_t len);
/* Hands the string over (caller frees; never NULL unless allocation failed) and empties @sb. */
char *strbuf_steal(struct strbuf *sb);

#define _cleanup_strbuf_ __attribute__((cleanup(strbuf_free)))

#endif
