/* SPDX-License-Identifier: ISC */
#ifndef FV_CONFIG_LEX_H
#define FV_CONFIG_LEX_H
/* Tokens of libconfig text, each with its line and column. */
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"
#include "util/strbuf.h"

enum lex_type {
	LEX_END,
	LEX_NAME,    /* of a setting */
	LEX_INTEGER, /* ->number, ->negative */
	LEX_FLOAT,
	LEX_BOOL,   /* ->number */
	LEX_STRING, /* lexer's ->string; adjacent strings are one */
	LEX_ASSIGN, /* = or : */
	LEX_OPEN,   /* { */
	LEX_CLOSE,  /* } */
	LEX_LIST,   /* ( or [ */
	LEX_COMMA,  /* ; or , */
	LEX_BAD,    /* words are in the error given to lex_next() */
};

struct lex_token {
	enum lex_type type;
	unsigned line, column; /* from 1; columns count bytes */
	const char *start;     /* the token as written: borrowed from the text */
	size_t len;
	uint64_t number; /* LEX_INTEGER: UINT64_MAX where it is larger yet */
	int negative;
};

struct lexer {
	const char *p, *end, *line_start;
	unsigned line;
	struct lex_token token; /* the present one */
	struct strbuf string;	/* LEX_STRING: its bytes, NUL-terminated */
};

/* Begins before the first token of a text, which stays the caller's. */
void lex_init(struct lexer *lex, const char *text, size_t len);
void lex_free(struct lexer *lex);
/* Moves on to the next token and returns its type; words for LEX_BAD in @err. */
enum lex_type lex_next(struct lexer *lex, struct err *err);
/* "line L, column C: words" about @token; returns -EINVAL. */
int lex_error(const struct lex_token *token, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
