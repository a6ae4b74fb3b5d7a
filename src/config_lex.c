// SPDX-License-Identifier: ISC
/*
 * Tokens of libconfig text, looked at before libconfig reads it: that library
 * cuts integers to 32 bits without a word, tells no columns, follows @include,
 * and recurses as deep as a hostile text wants.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config_lex.h"

void lex_init(struct lexer *lex, const char *text, size_t len)
{
	*lex = (struct lexer){
	    .p = text, .end = text + len, .line_start = text, .line = 1, .string = STRBUF_INIT};
}

void lex_free(struct lexer *lex)
{
	strbuf_free(&lex->string);
}

int lex_error(const struct lex_token *token, struct err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(err, -EINVAL, fmt, ap);
	va_end(ap);
	err_prefix(err, "line %u, column %u", token->line, token->column);
	return -EINVAL;
}

static bool at(const struct lexer *lex, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(lex->end - lex->p) >= n && memcmp(lex->p, word, n) == 0;
}

static void step(struct lexer *lex)
{
	if (*lex->p++ == '\n') {
		lex->line++;
		lex->line_start = lex->p;
	}
}

static void mark(struct lexer *lex)
{
	lex->token = (struct lex_token){
	    .line = lex->line, .column = (unsigned)(lex->p - lex->line_start) + 1, .start = lex->p};
}

static enum lex_type bad(struct lexer *lex, struct err *err, const char *words)
{
	lex_error(&lex->token, err, "%s", words);
	return LEX_BAD;
}

/* White space and comments. False where a comment does not end; the token is then its start. */
static bool skip_blank(struct lexer *lex)
{
	while (lex->p < lex->end) {
		if (*lex->p && strchr(" \t\r\n\f", *lex->p)) {
			step(lex);
		} else if (*lex->p == '#' || at(lex, "//")) {
			while (lex->p < lex->end && *lex->p != '\n')
				lex->p++;
		} else if (at(lex, "/*")) {
			mark(lex);
			for (lex->p += 2; lex->p < lex->end && !at(lex, "*/");)
				step(lex);
			if (lex->p == lex->end)
				return false;
			lex->p += 2;
		} else {
			break;
		}
	}
	mark(lex);
	return true;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *d = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return d ? (int)(d - digits) : -1;
}

/* The escape at p (behind the backslash): its byte to *c and its length, or 0 for none. */
static size_t escape(const char *p, const char *end, char *c)
{
	static const char from[] = "nrtf\\\"", to[] = "\n\r\t\f\\\"";
	const char *found;

	if (p == end || !*p)
		return 0;
	if (*p == 'x' && end - p >= 3 && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0) {
		*c = (char)(hex_digit(p[1]) * 16 + hex_digit(p[2]));
		return *c ? 3 : 0;
	}
	found = strchr(from, *p);
	if (!found)
		return 0;
	*c = to[found - from];
	return 1;
}

/* From behind the opening quote to behind the closing one, appended to lex->string. */
static const char *string_part(struct lexer *lex)
{
	for (; lex->p < lex->end; lex->p++) {
		char c = *lex->p;

		if (c == '"') {
			lex->p++;
			return NULL;
		}
		if (c == '\0')
			return "a NUL byte in a string";
		if (c == '\n')
			break;
		if (c == '\\') {
			size_t n = escape(lex->p + 1, lex->end, &c);

			if (!n)
				return "an escape that is none of \\\\ \\\" \\n \\r \\t \\f \\xHH";
			lex->p += n;
		}
		strbuf_putc(&lex->string, c);
	}
	return "the string does not end on its line";
}

/* A string and those that follow it, which are parts of it. */
static enum lex_type scan_string(struct lexer *lex, struct err *err)
{
	struct lex_token first = lex->token;
	const char *words;

	strbuf_reset(&lex->string);
	do {
		const char *end;

		lex->p++;
		words = string_part(lex);
		if (words)
			return bad(lex, err, words);
		end = lex->p;
		first.len = (size_t)(end - first.start);
		if (!skip_blank(lex))
			return bad(lex, err, "the comment does not end");
	} while (lex->p < lex->end && *lex->p == '"');
	lex->token = first;
	strbuf_add(&lex->string, "", 0); /* NUL-terminated, even if empty */
	if (lex->string.failed)
		return bad(lex, err, "out of memory");
	return LEX_STRING;
}

/* Digits of an integer; false unless they are all of [p, end). */
static bool scan_integer(const char *p, const char *end, struct lex_token *token)
{
	uint64_t n = 0;
	bool over = false;
	int base = 10;

	if (p < end && (*p == '-' || *p == '+'))
		token->negative = *p++ == '-';
	if (end - p > 2 && p[0] == '0' && tolower((unsigned char)p[1]) == 'x') {
		base = 16;
		p += 2;
	}
	for (int i = 0; i < 2 && end - p > 1 && end[-1] == 'L'; i++)
		end--; /* libconfig's mark of 64 bits */
	if (p == end)
		return false;
	for (; p < end; p++) {
		int digit = hex_digit(*p);

		if (digit < 0 || digit >= base)
			return false;
		if (__builtin_mul_overflow(n, (uint64_t)base, &n) ||
		    __builtin_add_overflow(n, (uint64_t)digit, &n))
			over = true;
	}
	token->number = over ? UINT64_MAX : n;
	return true;
}

static bool scan_float(const char *p, const char *end)
{
	bool digits = false, rest = false;

	for (; p < end; p++) {
		digits |= isdigit((unsigned char)*p) != 0;
		rest |= !isdigit((unsigned char)*p) && !strchr("+-.eE", *p);
	}
	return digits && !rest;
}

static enum lex_type scan_word(struct lexer *lex, struct err *err)
{
	struct lex_token *t = &lex->token;

	while (lex->p < lex->end &&
	       (isalnum((unsigned char)*lex->p) || (*lex->p && strchr("_-+*.", *lex->p))))
		lex->p++;
	t->len = (size_t)(lex->p - t->start);
	if (t->len == 4 && strncasecmp(t->start, "true", 4) == 0) {
		t->number = 1;
		return LEX_BOOL;
	}
	if (t->len == 5 && strncasecmp(t->start, "false", 5) == 0)
		return LEX_BOOL;
	if (isalpha((unsigned char)*t->start) || *t->start == '*') {
		if (!memchr(t->start, '.', t->len) && !memchr(t->start, '+', t->len))
			return LEX_NAME;
	} else if (scan_integer(t->start, lex->p, t)) {
		return LEX_INTEGER;
	} else if (scan_float(t->start, lex->p)) {
		return LEX_FLOAT;
	}
	lex_error(t, err, "'%.*s' is neither a name nor a number", (int)(t->len > 40 ? 40 : t->len),
		  t->start);
	return LEX_BAD;
}

enum lex_type lex_next(struct lexer *lex, struct err *err)
{
	static const struct {
		char c;
		enum lex_type type;
	} marks[] = {
	    {'=', LEX_ASSIGN}, {':', LEX_ASSIGN}, {'{', LEX_OPEN},  {'}', LEX_CLOSE},
	    {'(', LEX_LIST},   {'[', LEX_LIST},	  {';', LEX_COMMA}, {',', LEX_COMMA},
	};
	struct lex_token *t = &lex->token;

	if (!skip_blank(lex)) {
		t->type = bad(lex, err, "the comment does not end");
	} else if (lex->p == lex->end) {
		t->type = LEX_END;
	} else if (*lex->p == '"') {
		enum lex_type type = scan_string(lex, err);

		t->type = type;
	} else if (*lex->p && (isalnum((unsigned char)*lex->p) || strchr("_-+*.", *lex->p))) {
		t->type = scan_word(lex, err);
	} else {
		t->type = LEX_BAD;
		t->len = 1;
		for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
			if (*lex->p == marks[i].c)
				t->type = marks[i].type;
		if (t->type == LEX_BAD && *lex->p == '@')
			bad(lex, err, "@ (as in @include) is not taken here");
		else if (t->type == LEX_BAD)
			lex_error(t, err, "byte 0x%02x cannot stand here", (unsigned char)*lex->p);
		lex->p++;
	}
	return t->type;
}
