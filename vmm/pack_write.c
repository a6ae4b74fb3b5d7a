// SPDX-License-Identifier: ISC
/*
 * Packed memory is written: threads take a piece of memory each, compress its chunks one after
 * the other into memory of their own, and write them where the file just ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "vmm/hold_int.h"
#include "vmm/pack_int.h"

#define PIECE	   (1u << 20) /* of memory, taken at once */
#define LEVEL	   (-1)	      /* programs in memory: a fifth faster than 1, a tenth larger */
#define SYNC_BYTES (32u << 20)

struct packing {
	struct hold_write *w;
	struct hold_region regions[2];
	unsigned n_regions;
	uint8_t *index;
	_Atomic uint64_t next; /* piece */
	_Atomic uint64_t end;  /* of the file */
	_Atomic uint64_t unsynced;
	_Atomic int error;
};

struct packer {
	struct packing *p;
	ZSTD_CCtx *zstd;
	uint8_t *out; /* frames of a piece */
};

/* The piece of that number. False: there are no more. */
static bool nth_piece(const struct packing *p, uint64_t n, struct hold_region *piece)
{
	for (unsigned i = 0; i < p->n_regions; i++) {
		const struct hold_region *r = &p->regions[i];
		uint64_t pieces = (r->bytes + PIECE - 1) / PIECE, at = n * PIECE;

		if (n >= pieces) {
			n -= pieces;
			continue;
		}
		*piece = (struct hold_region){
		    r->gpa + at, r->bytes - at < PIECE ? r->bytes - at : PIECE, r->host + at};
		return true;
	}
	return false;
}

/* Bytes of pages in it that are not zero. */
static uint64_t data_in(const uint8_t *chunk, uint64_t bytes)
{
	uint64_t data = 0;

	for (uint64_t at = 0; at < bytes; at += HOLD_PAGE)
		data += hold_page_is_zero(chunk + at) ? 0 : HOLD_PAGE;
	return data;
}

/* Its frames go to out; their places in the file, from its piece's on, into the index. */
static int pack_piece(struct packer *packer, const struct hold_region *piece)
{
	struct packing *p = packer->p;
	uint64_t used = 0, start, data = 0;

	for (uint64_t at = 0; at < piece->bytes; at += PACK_CHUNK) {
		uint64_t left = piece->bytes - at, bytes = left < PACK_CHUNK ? left : PACK_CHUNK;
		uint8_t *entry = p->index + (piece->gpa + at) / PACK_CHUNK * PACK_ENTRY;
		uint64_t holds = data_in(piece->host + at, bytes);
		size_t n;

		if (holds == 0)
			continue;
		data += holds;
		n = ZSTD_compress2(packer->zstd, packer->out + used, PACK_FRAME_MAX,
				   piece->host + at, bytes);
		if (ZSTD_isError(n))
			return -EIO;
		pack_put64(entry, used);
		pack_put32(entry + 8, (uint32_t)n);
		used += n;
	}
	if (used == 0)
		return 0;
	start = atomic_fetch_add(&p->end, used);
	for (uint64_t at = 0; at < piece->bytes; at += PACK_CHUNK) {
		uint8_t *entry = p->index + (piece->gpa + at) / PACK_CHUNK * PACK_ENTRY;

		if (pack_get32(entry + 8))
			pack_put64(entry, start + pack_get64(entry));
	}
	atomic_fetch_add(&p->w->data_bytes, data);
	atomic_fetch_add(&p->w->stored_bytes, used);
	if (atomic_fetch_add(&p->unsynced, used) + used >= SYNC_BYTES) {
		atomic_store(&p->unsynced, 0);
		sync_file_range(p->w->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	}
	return file_pwrite_all(p->w->fd, packer->out, used, (off_t)start);
}

static void *work(void *arg)
{
	struct packing *p = arg;
	struct packer packer = {.p = p,
				.zstd = ZSTD_createCCtx(),
				.out = malloc((size_t)PIECE / PACK_CHUNK * PACK_FRAME_MAX)};
	struct hold_region piece;
	int r = packer.zstd && packer.out ? 0 : -ENOMEM;

	if (r == 0) {
		ZSTD_CCtx_setParameter(packer.zstd, ZSTD_c_compressionLevel,
				       p->w->level ? p->w->level : LEVEL);
		ZSTD_CCtx_setParameter(packer.zstd, ZSTD_c_checksumFlag, 1);
	}
	while (r == 0 && atomic_load(&p->error) == 0 &&
	       nth_piece(p, atomic_fetch_add(&p->next, 1), &piece)) {
		/* Pages that were never touched: at once, not one fault each. */
		madvise(piece.host, piece.bytes, HOLD_POPULATE_READ);
		r = pack_piece(&packer, &piece);
		atomic_fetch_add(&p->w->looked, piece.bytes);
	}
	if (r < 0)
		atomic_store(&p->error, r);
	ZSTD_freeCCtx(packer.zstd);
	free(packer.out);
	return NULL;
}

static int run(struct packing *p)
{
	unsigned n = hold_threads(), started = 0;
	pthread_t threads[HOLD_THREADS_MAX];

	while (started + 1 < n && pthread_create(&threads[started], NULL, work, p) == 0)
		started++;
	work(p);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	return atomic_load(&p->error);
}

/* The index behind the frames, and then what says that all of it is there. */
static int write_ends(struct packing *p, uint64_t chunks)
{
	uint8_t header[PACK_HEADER] = PACK_MAGIC;
	uint64_t end = atomic_load(&p->end);
	size_t bytes = chunks * PACK_ENTRY;
	int r = file_pwrite_all(p->w->fd, p->index, bytes, (off_t)end);

	pack_put32(header + 8, PACK_VERSION);
	pack_put32(header + 12, PACK_CHUNK);
	pack_put64(header + 16, p->w->memory->ram_top);
	pack_put64(header + 24, end);
	pack_put64(header + 32, chunks);
	pack_put32(header + 40, (uint32_t)crc32_z(0, p->index, bytes));
	pack_put32(header + 60, (uint32_t)crc32_z(0, header, 60));
	atomic_fetch_add(&p->w->stored_bytes, bytes + PACK_HEADER);
	return r < 0 ? r : file_pwrite_all(p->w->fd, header, sizeof(header), 0);
}

int pack_write(struct hold_write *w)
{
	uint64_t chunks = pack_chunks(w->memory->ram_top);
	struct packing p = {.w = w, .index = calloc(chunks, PACK_ENTRY), .end = PACK_HEADER};
	int r;

	if (!p.index)
		return -ENOMEM;
	p.n_regions = hold_regions(w->memory, p.regions);
	atomic_store(&w->total, w->memory->low_bytes + w->memory->high_bytes);
	r = run(&p);
	if (r == 0)
		r = write_ends(&p, chunks);
	free(p.index);
	return r;
}
