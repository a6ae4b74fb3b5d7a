// SPDX-License-Identifier: ISC
/*
 * Guest memory, which stands still here, into a file.
 *
 * Memory is cut into chunks, which threads take one after the other. A chunk's pages
 * of zeroes are passed over, the others are written straight from where they are. The file is
 * sparse, an offset is an address.
 *
 * With a parent there are two passes: the first compares each page with what the parent's files
 * have there, the second writes those that differ. Between them it is known how many those
 * are, and what extents memory then has (hold_extents.c); where too little would be saved, all is
 * written, and what comes of it needs no other file.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "vmm/hold_int.h"
#include "vmm/pack.h"

#define CHUNK	   (2u << 20)  /* bits of different chunks are in different words */
#define SYNC_BYTES (32u << 20) /* is sent to the disk while the next are looked at */

struct pass {
	struct hold_write *w;
	struct hold_pages *pages; /* found by the first pass; for the second. NULL: all */
	int (*chunk)(struct pass *pass, const struct hold_region *part);
	struct hold_region regions[2];
	unsigned n_regions;
	_Atomic uint64_t next; /* chunk */
	_Atomic int error;
	_Atomic uint64_t differ; /* pages that are not the parent's */
	_Atomic uint64_t unsynced;
};

/* --- pages ---------------------------------------------------------------------------------- */

bool hold_page_is_zero(const uint8_t *page)
{
	const uint64_t *p = (const uint64_t *)page;

	for (unsigned i = 0; i < HOLD_PAGE / sizeof(*p); i += 8)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] |
		    p[i + 7])
			return false;
	return true;
}

/* --- passes --------------------------------------------------------------------------------- */

/* The chunk of that number. False: there are no more. */
static bool nth_chunk(const struct pass *pass, uint64_t n, struct hold_region *part)
{
	for (unsigned i = 0; i < pass->n_regions; i++) {
		const struct hold_region *r = &pass->regions[i];
		uint64_t chunks = (r->bytes + CHUNK - 1) / CHUNK, at = n * CHUNK;

		if (n >= chunks) {
			n -= chunks;
			continue;
		}
		*part = (struct hold_region){
		    r->gpa + at, r->bytes - at < CHUNK ? r->bytes - at : CHUNK, r->host + at};
		return true;
	}
	return false;
}

static void *work(void *arg)
{
	struct pass *pass = arg;
	struct hold_region part;

	while (atomic_load(&pass->error) == 0 &&
	       nth_chunk(pass, atomic_fetch_add(&pass->next, 1), &part)) {
		int r;

		/* Pages that were never touched: at once, not one fault each. */
		madvise(part.host, part.bytes, HOLD_POPULATE_READ);
		r = pass->chunk(pass, &part);
		if (r < 0)
			atomic_store(&pass->error, r);
		atomic_fetch_add(&pass->w->looked, part.bytes);
	}
	return NULL;
}

unsigned hold_threads(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	n = CPU_COUNT(&set);
	return n < 1 ? 1 : n > HOLD_THREADS_MAX ? HOLD_THREADS_MAX : (unsigned)n;
}

/* 0 or -errno. */
static int run_pass(struct pass *pass)
{
	unsigned n = hold_threads(), started = 0;
	pthread_t threads[HOLD_THREADS_MAX];

	pass->n_regions = hold_regions(pass->w->memory, pass->regions);
	while (started + 1 < n && pthread_create(&threads[started], NULL, work, pass) == 0)
		started++;
	work(pass);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	return atomic_load(&pass->error);
}

/* --- writing -------------------------------------------------------------------------------- */

static void begin_sync(struct pass *pass, uint64_t bytes)
{
	if (atomic_fetch_add(&pass->unsynced, bytes) + bytes < SYNC_BYTES)
		return;
	atomic_store(&pass->unsynced, 0);
	sync_file_range(pass->w->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int write_run(struct pass *pass, const struct hold_region *part, uint64_t from, uint64_t to)
{
	int r;

	if (from == to)
		return 0;
	r = file_pwrite_all(pass->w->fd, part->host + from, to - from, (off_t)(part->gpa + from));
	atomic_fetch_add(&pass->w->stored_bytes, to - from);
	begin_sync(pass, to - from);
	return r;
}

static int write_chunk(struct pass *pass, const struct hold_region *part)
{
	uint64_t run = 0, data = 0; /* run: where pages begin that are to be written */
	int r = 0;

	for (uint64_t at = 0; at < part->bytes && r == 0; at += HOLD_PAGE) {
		bool zero = hold_page_is_zero(part->host + at);

		data += zero ? 0 : HOLD_PAGE;
		if (!zero &&
		    (!pass->pages || hold_pages_get(pass->pages, (part->gpa + at) / HOLD_PAGE)))
			continue;
		r = write_run(pass, part, run, at);
		run = at + HOLD_PAGE;
	}
	if (r == 0)
		r = write_run(pass, part, run < part->bytes ? run : part->bytes, part->bytes);
	atomic_fetch_add(&pass->w->data_bytes, data);
	return r;
}

static int write_all(struct hold_write *w, struct hold_pages *pages)
{
	struct pass pass = {.w = w, .pages = pages, .chunk = write_chunk};

	return run_pass(&pass);
}

/* --- what differs from the parent -------------------------------------------------------------
 */

/* The parent's bytes at @gpa, and how many follow in *@bytes (of which there are at most as many
 * as that says). NULL: zeroes. */
static const uint8_t *parent_at(const struct hold_write *w, uint64_t gpa, uint64_t *bytes)
{
	unsigned low = 0, high = w->n_extents;

	while (low < high) { /* the first that ends behind @gpa */
		unsigned middle = (low + high) / 2;

		if (w->parent[middle].gpa + w->parent[middle].bytes <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < w->n_extents) {
		const struct vmm_extent *e = &w->parent[low];
		bool covers = e->gpa <= gpa;
		uint64_t left = covers ? e->gpa + e->bytes - gpa : e->gpa - gpa;

		if (left < *bytes)
			*bytes = left;
		if (covers)
			return w->mapped[e->file] + e->offset + (gpa - e->gpa);
	}
	return NULL;
}

static int compare_chunk(struct pass *pass, const struct hold_region *part)
{
	uint64_t differ = 0, data = 0;

	for (uint64_t at = 0, n; at < part->bytes; at += n) {
		const uint8_t *theirs;

		n = part->bytes - at;
		theirs = parent_at(pass->w, part->gpa + at, &n);
		if (theirs)
			madvise((void *)theirs, n, HOLD_POPULATE_READ);
		for (uint64_t i = 0; i < n; i += HOLD_PAGE) {
			const uint8_t *page = part->host + at + i;
			bool zero = hold_page_is_zero(page);

			data += !zero;
			if (theirs ? memcmp(page, theirs + i, HOLD_PAGE) == 0 : zero)
				continue;
			hold_pages_set(pass->pages, (part->gpa + at + i) / HOLD_PAGE);
			differ += !zero;
		}
	}
	atomic_fetch_add(&pass->differ, differ);
	atomic_fetch_add(&pass->w->data_bytes, data * HOLD_PAGE);
	return 0;
}

static int map_files(struct hold_write *w)
{
	for (unsigned i = 0; i < w->n_extents; i++) {
		const struct vmm_extent *e = &w->parent[i];
		struct stat st;
		void *p;

		if (fstat(w->files[e->file], &st) < 0)
			return -errno;
		if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < e->offset + e->bytes)
			return err_set(&w->err, -EINVAL,
				       "the parent's memory: a file is too short");
		if (w->mapped[e->file])
			continue;
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE,
			 w->files[e->file], 0);
		if (p == MAP_FAILED)
			return -errno;
		w->mapped[e->file] = p;
	}
	return 0;
}

static void unmap_files(struct hold_write *w)
{
	for (unsigned i = 0; i < w->n_files; i++) {
		struct stat st;

		if (w->mapped[i] && fstat(w->files[i], &st) == 0)
			munmap((void *)w->mapped[i], (size_t)st.st_size);
		w->mapped[i] = NULL;
	}
}

/* Finds what differs and, where that pays, the extents. */
static int compare(struct hold_write *w, struct hold_pages *pages, bool *pays)
{
	struct pass pass = {.w = w, .pages = pages, .chunk = compare_chunk};
	struct hold_region regions[2];
	unsigned n_regions = hold_regions(w->memory, regions);
	int r;

	if (!hold_extents_valid(w->parent, w->n_extents, w->n_files, regions, n_regions))
		return err_set(&w->err, -EINVAL, "the parent's memory: not such a guest's");
	r = map_files(w);
	if (r == 0)
		r = run_pass(&pass);
	unmap_files(w);
	/* A quarter saved is worth a file more to map. */
	*pays = pass.differ * HOLD_PAGE <= w->data_bytes / 4 * 3;
	if (r < 0 || !*pays)
		return r;
	w->done.n_extents =
	    hold_extents_over(w->parent, w->n_extents, regions, n_regions, pages, w->extents);
	return 0;
}

/* --- the whole ------------------------------------------------------------------------------ */

/* All of RAM is in the new file. */
static void whole(struct hold_write *w)
{
	struct hold_region regions[2];

	w->done.n_extents = hold_regions(w->memory, regions);
	for (unsigned i = 0; i < w->done.n_extents; i++)
		w->extents[i] = (struct vmm_extent){
		    .gpa = regions[i].gpa, .bytes = regions[i].bytes, .offset = regions[i].gpa};
}

static int write_raw(struct hold_write *w)
{
	uint64_t bytes = w->memory->low_bytes + w->memory->high_bytes;
	struct hold_pages pages = {NULL, 0};
	bool part = w->n_extents > 0;
	int r = 0;

	atomic_store(&w->total, part ? 2 * bytes : bytes);
	if (ftruncate(w->fd, (off_t)w->memory->ram_top) < 0)
		return -errno;
	if (part) {
		r = hold_pages_new(&pages, w->memory->ram_top);
		if (r == 0)
			r = compare(w, &pages, &part);
		atomic_store(&w->data_bytes, 0);
	}
	if (r == 0 && !part)
		whole(w);
	if (r == 0)
		r = write_all(w, part ? &pages : NULL);
	hold_pages_free(&pages);
	return r;
}

void hold_write_all(struct hold_write *w)
{
	int r = w->kind == VMM_MEMORY_PACKED ? pack_write(w) : write_raw(w);

	w->done.data_bytes = atomic_load(&w->data_bytes);
	w->done.stored_bytes = atomic_load(&w->stored_bytes);
	if (r < 0 && w->err.code == 0)
		err_set(&w->err, r, "cannot write memory: %s", strerror(-r));
}
