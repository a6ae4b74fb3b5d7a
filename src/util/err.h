/* SPDX-License-Identifier: ISC */
#ifndef FV_ERR_H
#define FV_ERR_H
/*
 * An errno with the words for it, made where they are known. The words end
 * in a machine's `error` file as "EBUSY start: already running".
 *
 * A struct err lives on the stack of whoever wants the words; every function
 * that takes one accepts NULL for "the number is enough".
 */
#include <stdarg.h>

#define ERR_TEXT_MAX 512

struct err {
	int code;		 /* negative errno of the last failure, 0 if none */
	char text[ERR_TEXT_MAX]; /* one line of UTF-8, without the errno's name */
};

#define ERR_INIT                                                                                   \
	{                                                                                          \
		.code = 0, .text = ""                                                              \
	}

/*
 * Records @code (a negative errno) and the formatted words, and returns @code,
 * so that callers write `return err_set(err, -EBUSY, "disk %s is in use", d)`.
 * Control characters in the result are replaced by '?'. @err may be NULL.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_vset(struct err *err, int code, const char *fmt, va_list ap);

/* Puts "WORDS: " before the present words; keeps and returns the code. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The errno's symbolic name ("EBUSY") for @code of either sign; "E???" if unknown. Static. */
const char *err_name(int code);

#endif
