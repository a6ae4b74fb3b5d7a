// SPDX-License-Identifier: ISC
/*
 * Memory that a guest goes on with, as bytes of files.
 *
 * They are mapped privately: nothing is read until it is touched, and what many guests go on
 * from is in the host's memory once. Holes of the files, where they are large, are left as they
 * are, anonymous: memory that is used for the first time gets there what other memory gets.
 * Small ones are mapped along, because the kernel bounds the number of mappings.
 *
 * Pages of hugetlbfs cannot be mapped from such files; they are filled.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "vmm/hold_extents.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#define PAGE	     4096ull
#define HOLE_BYTES   (2ull << 20) /* from this on a hole is not mapped … */
#define MAPPINGS_MAX 8192	  /* … unless there would be more than so many of them */

struct laying {
	struct memory *memory;
	struct gmem mem;
	uint64_t hole_bytes;
	struct memory_run *runs;
	unsigned n_runs, room;
};

/* --- what may hold something --------------------------------------------------------------------
 */

static int note_run(struct laying *l, uint64_t gpa, uint64_t bytes)
{
	if (l->n_runs == l->room) {
		unsigned room = l->room ? l->room * 2 : 64;
		struct memory_run *runs = realloc(l->runs, room * sizeof(*runs));

		if (!runs)
			return -ENOMEM;
		l->runs = runs;
		l->room = room;
	}
	l->runs[l->n_runs++] = (struct memory_run){gpa, bytes};
	return 0;
}

int memory_set_runs(struct memory *m, const struct memory_run *runs, unsigned n)
{
	struct memory_run *copy = malloc((n + 1) * sizeof(*copy));
	unsigned used = 0;

	if (!copy)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		struct memory_run *last = used ? &copy[used - 1] : NULL;

		if (last && last->gpa + last->bytes == runs[i].gpa)
			last->bytes += runs[i].bytes;
		else
			copy[used++] = runs[i];
	}
	free(m->runs);
	m->runs = copy;
	m->n_runs = used;
	m->filled = true;
	return 0;
}

/* --- files -------------------------------------------------------------------------------------
 */

/* From @at on, below @end: the next bytes with data, whole pages. False: there are none. */
static bool next_data(int fd, uint64_t at, uint64_t end, uint64_t hole_bytes, uint64_t *from,
		      uint64_t *to)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	if (data < 0 && errno != ENXIO)
		data = (off_t)at; /* a file system that cannot tell */
	if (data < 0 || (uint64_t)data >= end)
		return false;
	*from = (uint64_t)data & ~(PAGE - 1);
	do {
		off_t hole = lseek(fd, data, SEEK_HOLE);

		*to = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
		data = *to < end ? lseek(fd, (off_t)*to, SEEK_DATA) : -1;
	} while (data >= 0 && (uint64_t)data < end && (uint64_t)data - *to < hole_bytes);
	*to = (*to + PAGE - 1) & ~(PAGE - 1);
	return true;
}

static int put(struct laying *l, uint64_t gpa, int fd, uint64_t offset, uint64_t bytes)
{
	uint8_t *at = gmem_ptr(&l->mem, gpa, bytes);

	if (l->memory->huge)
		return file_pread_all(fd, at, bytes, (off_t)offset);
	if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
		 (off_t)offset) == MAP_FAILED)
		return -errno;
	madvise(at, bytes, MADV_DONTDUMP);
	return note_run(l, gpa, bytes);
}

static int lay(struct laying *l, const struct vmm_extent *e, int fd)
{
	uint64_t end = e->offset + e->bytes, from, to = e->offset;
	int ret = 0;

	while (ret == 0 && to < end && next_data(fd, to, end, l->hole_bytes, &from, &to))
		ret = put(l, e->gpa + (from - e->offset), fd, from, to - from);
	return ret;
}

static int check(const struct memory *m, const struct vmm_extent *extents, unsigned n,
		 const int *fds, unsigned n_fds, struct err *err)
{
	const struct hold_region regions[] = {{0, m->low_bytes, m->low},
					      {LAYOUT_HIGH_RAM, m->high_bytes, m->high}};
	uint64_t sizes[VMM_MEMORY_FILES_MAX];

	if (n_fds > VMM_MEMORY_FILES_MAX ||
	    !hold_extents_valid(extents, n, n_fds, regions, m->high_bytes ? 2 : 1))
		return err_set(err, -EINVAL, "memory: extents that are none of such a guest's");
	for (unsigned i = 0; i < n_fds; i++) {
		struct stat st;

		if (fstat(fds[i], &st) < 0 || !S_ISREG(st.st_mode))
			return err_set(err, -EINVAL, "memory: file %u is no regular file", i);
		sizes[i] = (uint64_t)st.st_size;
	}
	for (unsigned i = 0; i < n; i++)
		if (extents[i].offset + extents[i].bytes > sizes[extents[i].file])
			return err_set(err, -EINVAL, "memory: file %u is too short",
				       extents[i].file);
	return 0;
}

int memory_lay_files(struct memory *m, const struct vmm_extent *extents, unsigned n_extents,
		     const int *fds, unsigned n_fds, struct err *err)
{
	struct laying l = {.memory = m};
	int ret = check(m, extents, n_extents, fds, n_fds, err);

	if (ret < 0)
		return ret;
	memory_describe(m, &l.mem);
	l.hole_bytes = (m->low_bytes + m->high_bytes) / MAPPINGS_MAX;
	if (l.hole_bytes < HOLE_BYTES)
		l.hole_bytes = HOLE_BYTES;
	for (unsigned i = 0; i < n_extents && ret == 0; i++)
		ret = lay(&l, &extents[i], fds[extents[i].file]);
	if (ret == 0)
		ret = memory_set_runs(m, l.runs, l.n_runs);
	free(l.runs);
	return ret < 0 ? err_set(err, ret, "memory: cannot map its files: %s", strerror(-ret)) : 0;
}
