/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_PACK_H
#define FV_VMM_PACK_H
/*
 * Packed guest memory: a file of chunks, each compressed by itself, so that one can be had
 * without the others. All numbers are little endian.
 *
 *	bytes of the file's header
 *	 0   8  magic "FVPACK\r\n"
 *	 8   4  version: 1
 *	12   4  bytes of memory in a chunk: 65536
 *	16   8  bytes of memory: first address behind RAM
 *	24   8  where the index begins
 *	32   8  how many chunks: the bytes of memory by those of a chunk, rounded up
 *	40   4  CRC-32 (zlib's) of the index
 *	44  16  0
 *	60   4  CRC-32 of bytes 0 to 59
 *
 *	the index: for each chunk, in the order of addresses
 *	 0   8  where its frame begins
 *	 8   4  bytes of the frame; 0: it is all zeroes
 *	12   4  0
 *
 * A frame is one of zstd (RFC 8878) with a checksum, and unpacks to exactly the chunk (the last
 * one ends with memory). Frames lie anywhere behind the header, in no order. What is not RAM
 * between its two pieces is zeroes.
 */
#include "vmm/memory.h"

struct hold_write;

/* The holder's VMM_HOLD_WRITE of this kind. -errno. */
int pack_write(struct hold_write *w);

/*
 * Fills @memory (mapped, still empty) from such a file, borrowed. Its header and index are
 * checked at once. Where the process could have userfaultfd(2) when it began (memory_init()),
 * frames are read as their memory is touched, and by threads that bring in the rest; else this
 * returns when all is read. -EINVAL with words, …
 *
 * A frame that is found to be damaged later, or cannot be read, is never there: a guest does not
 * see memory that is not its own. Who touches it waits for ever; @wake_fd (an eventfd, borrowed)
 * is written to, and who hears that asks pack_failure(), tells, and ends the process at once. If
 * nobody does, the process ends by itself a few seconds later.
 */
int pack_load(struct memory *memory, int fd, int wake_fd, struct err *err);
/* Words for that, or NULL: nothing has failed. */
const char *pack_failure(const struct memory *memory);
/* Waits until all is there: before a fork, which would not take along who brings it in. */
void pack_finish(struct memory *memory);
/* Nobody needs the rest. Frees what there is of it. */
void pack_stop(struct memory *memory);

#endif
