/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_STATE_H
#define FV_VMM_STATE_H
/*
 * The state of a guest, but for its memory, as a file. All numbers are little endian.
 *
 *	bytes of the file's header
 *	 0   8  magic "FVSTATE\n"
 *	 8   4  version of the container: 1
 *	12   4  how many sections follow
 *	16   8  bytes of the whole file
 *	24  32  0
 *	56   4  CRC-32 (zlib's: ISO 3309, the polynomial of Ethernet) of bytes 0 to 55
 *	60   4  not 0 once a guest has gone on from it: it is of no use any more. In no CRC.
 *		(VMM_STATE_USED_AT of src/vmm_proto.h: the daemon looks as well)
 *
 *	each section, at a multiple of 8 bytes, with its header:
 *	 0   4  magic "SECT"
 *	 4   4  version of its contents, from 1
 *	 8   4  flags: 1 optional, may be passed over by who does not know it; others 0
 *	12   4  CRC-32 of its contents
 *	16   8  bytes of its contents, which follow the header, then up to 7 of 0
 *	24  64  name, NUL-padded and ended
 *	88   4  CRC-32 of bytes 0 to 87
 *	92   4  0
 *
 * Sections are found by name, in whatever order. Contents are the fields one behind the
 * other in the order in which a function of the section's owner names them, without padding:
 * numbers of 1, 2, 4 and 8 bytes; texts and byte strings with 4 bytes of length before
 * them where the length is not fixed. What comes with a later version of a section is behind
 * what was there, so that who reads an older one stops before it (state_version()).
 *
 * Saving and loading are one function: state_u32() and its like write the variable, or read
 * it. The first failure sticks: from then on nothing is written, all that is read is 0, and
 * state_result() has the words. Who acts on what it has loaded asks state_ok() first. What is
 * loaded is as hostile as a guest: whole and unharmed (the CRCs), and yet of anybody.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

#define STATE_NAME_MAX	64 /* with its NUL */
#define STATE_BYTES_MAX (64u << 20)
#define STATE_SECTIONS	1024 /* at most */

struct state;

/* A state to be written. NULL without memory. */
struct state *state_new(void);
/*
 * A state to be read: checks that it is whole, copies it. -EINVAL with words for what is damaged,
 * -EOPNOTSUPP for a container of a later version, -ESTALE for one that was used up.
 */
int state_parse(struct state **state, const void *data, size_t len, struct err *err);
/* The same from the beginning of a file. */
int state_read_file(struct state **state, int fd, struct err *err);
/* Ends what was written: it belongs to the state. -errno with words where something failed. */
int state_finish(struct state *state, const void **data, size_t *len, struct err *err);
/* NULL is fine. */
void state_free(struct state *state);

bool state_loading(const struct state *state);
/* Nothing has failed so far. */
bool state_ok(const struct state *state);
/* 0, or -errno with the words of the first failure. */
int state_result(const struct state *state, struct err *err);
/* Words begin with the section's name. */
void state_fail(struct state *state, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * A section begins; @version is what we write, and the latest that we read. Loading: it must
 * be there. False once anything has failed.
 */
bool state_begin(struct state *state, const char *name, uint32_t version);
/* It ends; loading: with its last byte. */
void state_end(struct state *state);
/* The section's version: what is read may be older than what we write. */
uint32_t state_version(const struct state *state);
/* Loading: is there a section of that name? */
bool state_has(const struct state *state, const char *name);
/* Loading: fails where a section was never begun that is not optional. */
void state_check_all_used(struct state *state);

void state_u8(struct state *state, uint8_t *value);
void state_u16(struct state *state, uint16_t *value);
void state_u32(struct state *state, uint32_t *value);
void state_u64(struct state *state, uint64_t *value);
void state_i64(struct state *state, int64_t *value);
/* A byte, 0 or 1. */
void state_bool(struct state *state, bool *value);
/* @len bytes as they are. */
void state_bytes(struct state *state, void *data, size_t len);
/* A text, its length before it. @size: of the array, with NUL. */
void state_text(struct state *state, char *text, size_t size);
/* Up to @max bytes of @data, their number before them. */
void state_blob(struct state *state, void *data, uint32_t *len, size_t max);
/* A number of the machine's own making, as uint32_t: fails where what is loaded is not @value. */
void state_same(struct state *state, const char *what, uint32_t value);

#endif
