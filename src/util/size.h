/* SPDX-License-Identifier: ISC */
#ifndef FV_SIZE_H
#define FV_SIZE_H
/* Numbers as people write them: strict, whole string, no locale. */
#include <stddef.h>
#include <stdint.h>

/*
 * Parses a size: decimal digits and an optional K, M, G, T, P or E (IEC, either
 * case, optionally followed by "iB" or "B"). -EINVAL for anything else (signs,
 * fractions, spaces, empty), -ERANGE where it does not fit in 63 bits.
 */
int size_parse(const char *s, uint64_t *bytes);
/* Parses decimal digits only; -EINVAL, or -ERANGE outside [min, max]. */
int uint_parse(const char *s, uint64_t min, uint64_t max, uint64_t *value);

#endif
