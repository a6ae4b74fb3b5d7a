/* SPDX-License-Identifier: ISC */
#ifndef FV_ARCHIVE_H
#define FV_ARCHIVE_H
/*
 * Archives: all of a snapshot in one file that is written and read in order, so that it goes
 * through a pipe. Numbers are little-endian; CRC-32 is zlib's.
 *
 *	header		32 bytes
 *	  0	8	"FVARCHIV"
 *	  8	4	version: 1
 *	 12	4	bytes of this header: 32
 *	 16	12	0
 *	 28	4	CRC-32 of bytes 0 to 27
 *	body		one Zstandard frame (RFC 8878) that begins 28 b5 2f fd 04 58: a window of
 *			2 MiB, with the content's checksum, without its size; of records
 *	trailer		16 bytes; the file ends with them
 *	  0	8	"FVAREND\n"
 *	  8	4	0
 *	 12	4	CRC-32 of all bytes of the file before the trailer
 *
 * A record is a header of 64 bytes and its contents:
 *
 *	  0	4	kind: enum archive_kind
 *	  4	4	bytes of contents
 *	  8	8	offset: where they belong in what they are of
 *	 16	4	CRC-32 of the contents
 *	 20	4	CRC-32 of this header with these four bytes 0
 *	 24	40	name, NUL-terminated, the rest 0: of DISK the disk's, else all 0
 *
 * Kinds come in the order of their numbers. META, CONFIG and END are one record each, offset 0.
 * The others are files in pieces of at most 1 MiB, none of them empty: those of KERNEL, INITRD,
 * STATE and REGISTERS follow each other without a gap from 0 on; those of DISK (one disk after
 * the other, in the order of META) and MEMORY ascend, and what lies between them is zero.
 * MEMORY's offset is the guest physical address; both are multiples of 4096.
 *
 * END has 32 bytes:
 *
 *	  0	8	records before it
 *	  8	8	bytes of their contents
 *	 16	4	CRC-32 of all of the body before this record
 *	 20	12	0
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "definition.h"
#include "util/err.h"

#define ARCHIVE_MAGIC	      "FVARCHIV"
#define ARCHIVE_END_MAGIC     "FVAREND\n"
#define ARCHIVE_VERSION	      1
#define ARCHIVE_HEADER_BYTES  32
#define ARCHIVE_RECORD_BYTES  64
#define ARCHIVE_END_BYTES     32
#define ARCHIVE_TRAILER_BYTES 16
#define ARCHIVE_NAME_BYTES    40
#define ARCHIVE_PIECE_MAX     (1u << 20)
#define ARCHIVE_META_MAX      (64u << 10)
#define ARCHIVE_WINDOW_LOG    21

enum archive_kind {
	ARCHIVE_META = 1, /* struct archive_meta as libconfig text */
	ARCHIVE_CONFIG,	  /* the definition as of then, as `config` shows it */
	ARCHIVE_KERNEL,
	ARCHIVE_INITRD,
	ARCHIVE_DISK,
	ARCHIVE_MEMORY,
	ARCHIVE_STATE,	   /* vcpus and devices: vmm/state.h */
	ARCHIVE_REGISTERS, /* struct vmm_vcpu_state of each vcpu */
	ARCHIVE_END,
	ARCHIVE_KIND_MAX,
};

/* One record, but for its contents. */
struct archive_record {
	enum archive_kind kind;
	uint32_t bytes;
	uint64_t offset;
	char name[ARCHIVE_NAME_BYTES]; /* "" but for DISK */
};

/* --- archive_out.c ---------------------------------------------------------------------------- */

struct archive_out;
/* Writes the header to @fd (borrowed, at its beginning). -errno with words, as of the next two. */
int archive_out_open(struct archive_out **out, int fd, struct err *err);
int archive_out_put(struct archive_out *out, const struct archive_record *record, const void *data,
		    struct err *err);
/* The end: the last record, and the trailer. Not synced. */
int archive_out_end(struct archive_out *out, struct err *err);
void archive_out_free(struct archive_out *out);

/* --- archive_in.c ----------------------------------------------------------------------------- */

/*
 * Called for each record but the last, when it is known to be whole and where it may be.
 * Its errno ends the reading.
 */
typedef int archive_record_fn(void *arg, const struct archive_record *record, const void *data,
			      struct err *err);

struct archive_in;
int archive_in_open(struct archive_in **in, archive_record_fn *record, void *arg, struct err *err);
/*
 * The next bytes of the archive, however they were cut. Takes memory of a few MiB whatever they
 * are. -EINVAL with words for what is damaged, -EOPNOTSUPP for versions of later programs.
 * After an error nothing more may follow.
 */
int archive_in_put(struct archive_in *in, const void *data, size_t len, struct err *err);
/* Whether that was all of it. */
int archive_in_end(struct archive_in *in, struct err *err);
void archive_in_free(struct archive_in *in);

/* --- archive_meta.c -- */

struct archive_disk {
	char name[DISK_NAME_MAX + 1];
	uint64_t bytes;
};

/* What is in an archive. */
struct archive_meta {
	char program[64]; /* that made it: its release */
	char machine[MACHINE_NAME_MAX + 1];
	char snapshot[64], parent[64]; /* names; parent "": none */
	char was[16];		       /* running, paused, stopped */
	char time[40];		       /* SECONDS.NANOSECONDS since 1970 */
	uint64_t cpus;		       /* in REGISTERS */
	/* bytes; 0: there are none. memory: the first address behind RAM */
	uint64_t kernel, initrd, memory, state, registers;
	unsigned n_disks; /* those with a medium */
	struct archive_disk disks[VMM_DISKS_MAX];
};

void archive_meta_format(const struct archive_meta *meta, struct strbuf *sb);
/* Text of whoever wrote the archive. -EINVAL with words; -EOPNOTSUPP: of a later version. */
int archive_meta_parse(const char *text, size_t len, struct archive_meta *meta, struct err *err);

#endif
