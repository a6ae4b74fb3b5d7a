/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_MEMORY_H
#define FV_VMM_MEMORY_H
/*
 * Guest RAM: what it is mapped from (memory.c), what it begins as where a guest goes on
 * (memory_files.c), and which of it may hold something (memory_data.c).
 *
 * Control thread, but for memory_next_data().
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "src/vmm_proto.h"
#include "util/err.h"
#include "vmm/gmem.h"

struct pack;
struct collapse;

/* A piece of RAM that may hold something without a page of its own: of a file, or yet to be read.
 */
struct memory_run {
	uint64_t gpa, bytes;
};

/* Private to the process; fork(2) makes another. Outlives resets. */
struct memory {
	uint64_t low_bytes, high_bytes; /* below and above the hole */
	uint64_t ram_top;		/* first address behind RAM */
	uint8_t *low, *high;		/* mapped by memory_map() */
	bool huge;			/* pages of hugetlbfs */
	bool filled;			/* it began as something: no kernel is to be booted in it */
	struct memory_run *runs;	/* ascending, apart; allocated */
	unsigned n_runs;		/* atomic: a reset makes it 0 */
	int uffd;			/* userfaultfd(2) of this process; -1: none */
	struct pack *pack;		/* what is still being brought in (pack.h); NULL: nothing */
	uint64_t *to_load;		/* counter of bytes that are; NULL: nobody counts */
	struct collapse *collapse;	/* who makes pages huge again; NULL: nobody */
	int pagemap_fd;			/* -1: none */
	pid_t pagemap_pid;		/* whose that is: not that of who was forked since */
};

/* While files can still be opened. Owns nothing but a descriptor until memory_map(). */
void memory_init(struct memory *memory);
/* Sets its size. -EINVAL with words for one that cannot be. */
int memory_new(struct memory *memory, uint64_t bytes, bool hugepages, struct err *err);
/* Instead of all these, in a process forked from @from's: that memory, as it was then. */
void memory_inherit(struct memory *memory, const struct memory *from);
/* Maps it; again is fine. -ENOMEM with words where there are too few huge pages. */
int memory_map(struct memory *memory, struct err *err);
/* Gives all pages back, and files: it reads as zeroes. No vcpu and no device runs. */
int memory_wipe(struct memory *memory);
void memory_free(struct memory *memory);
/* How guest memory is reached by devices. */
void memory_describe(const struct memory *memory, struct gmem *mem);
/* It is in huge pages, where the host has some. */
bool memory_large(const struct memory *memory);
/* KVM's memory slots. */
int memory_attach(const struct memory *memory, int vm_fd, struct err *err);

/* --- memory_files.c ------------------------------------------------------------------------- */

/*
 * Lays private copies of these bytes of @fds over it (mapped, still empty): mapped where pages
 * are small, read where they are huge. Extents are as a stranger sent them. -EINVAL with words;
 * on failure it is to be wiped.
 */
int memory_lay_files(struct memory *memory, const struct vmm_extent *extents, unsigned n_extents,
		     const int *fds, unsigned n_fds, struct err *err);
/*
 * From now on it is filled, and @runs (n, ascending; copied) may hold something even where no
 * page is: adjacent ones become one. -ENOMEM.
 */
int memory_set_runs(struct memory *memory, const struct memory_run *runs, unsigned n);

/* --- memory_data.c: any thread, while it is mapped ---------------------------------------------
 */

/*
 * The first run of pages at or behind @gpa that may hold anything but zeroes; runs come in the
 * order of addresses, end at the end of a piece of RAM, and two may touch. False: there is none
 * any more. All of RAM where it cannot be told, as after a fork. Touches no page.
 */
bool memory_next_data(const struct memory *memory, uint64_t gpa, uint64_t *start, uint64_t *end);
/* Whether memory_next_data() can tell. */
bool memory_tells(const struct memory *memory);

/* --- memory_collapse.c ------------------------------------------------------------------------ */

/*
 * Makes huge pages again of those that a fork has left small, once the other process has gone;
 * what is still another's too (a clone's), a file's or swapped out stays as it is. Takes
 * seconds, most of them asleep; ends soon after *@stop. Does nothing for memory that is
 * none of large pages, or of which it cannot be told what there is. Before memory_wipe() it is to
 * have ended.
 */
void memory_collapse(const struct memory *memory, const atomic_bool *stop);
/* The same by a thread, where there is something to do. Without one the next fork takes longer. */
void memory_collapse_start(struct memory *memory);
/*
 * Ends that thread, within some ms; none is fine. Before a fork: what is the child's too is not to
 * be copied. memory_wipe() and memory_free() do so themselves.
 */
void memory_collapse_stop(struct memory *memory);

#endif
