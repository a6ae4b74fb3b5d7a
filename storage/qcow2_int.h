/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_INT_H
#define FV_QCOW2_INT_H
/*
 * The inside of qcow2.
 *
 * Theory of operation. A request whose mapping is in the cache and needs no
 * allocation is answered on the queue's own thread (the fast path): its parts
 * are submitted to the nodes below. Everything else (the slow path) runs
 * synchronously in a worker, or in the caller where its queue may wait.
 *
 * Locks. ->meta is held by the slow path while it looks at or changes metadata, I/O
 * included; only its holder changes metadata in memory. ->lock is held for
 * moments only, never across I/O, by the fast path while it reads the L1 table
 * and cached L2 slices, and by the holder of ->meta while it changes what the
 * fast path may read. Order: meta, then lock.
 *
 * Order of writes. Metadata is written back by qcow2_flush_metadata(): refcount
 * blocks (in which counts only grew), sync, L2 tables, and what is freed is
 * counted down in memory only after a further sync. Data of a new cluster is
 * written before its L2 entry is changed in memory. So a crash at any moment
 * leaves clusters that are counted but not used, and nothing worse. New L2 tables
 * and refcount blocks are synced before the table above points to them. Where the image
 * asks for lazy refcounts its dirty bit is set instead before the first write that would need
 * counts; they are written when their slices are evicted and when the image is closed,
 * and found anew when it is opened for writing with the bit still set.
 *
 * Freed clusters. A cluster that lost a reference may still be read or written by
 * a request that looked it up before. Requests count themselves in one of two
 * generations; freed clusters wait until the generations that may know them are over.
 */
#include "storage/block_node.h"
#include "storage/qcow2.h"
#include "storage/qcow2_format.h"
#include "util/cleanup.h"

struct qcow2_ext {
	uint32_t type;
	uint32_t len;
	uint8_t *data;
};

/* The header in host order. */
struct qcow2_header {
	uint32_t version;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t l1_size;
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t n_snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order;
	uint32_t header_length;
	uint8_t compression;
	char *backing, *backing_format, *data_file;
	bool has_bitmaps;
	uint32_t n_bitmaps;
	uint64_t bitmaps_size, bitmaps_offset;
	/* kept as they are when the header is rewritten */
	uint8_t *more_fields; /* header bytes beyond QCOW2_OUR_HEADER_BYTES */
	struct qcow2_ext *exts;
	unsigned n_exts;
};

/* A set of cluster numbers. */
struct cluster_set {
	uint64_t *slots; /* number + 1; 0 free */
	size_t n_slots, n_used;
};

enum slice_kind { SLICE_L2, SLICE_REF, N_SLICE_KINDS };

struct slice {
	uint64_t offset; /* in the file; 0: unused */
	enum slice_kind kind;
	bool dirty;
	bool recent;
	uint32_t next; /* in its hash chain: index + 1 */
	uint8_t *data;
};

struct qcow2_cache {
	struct slice *slices;
	uint32_t n_slices, n_in_use;
	uint32_t *buckets; /* index + 1 */
	uint32_t n_buckets;
	uint32_t hand;
	uint32_t slice_bytes;
	uint32_t n_dirty[N_SLICE_KINDS];
};

/* Guest clusters whose allocation is under way; the owner's stack. */
struct qcow2_alloc {
	uint64_t first, count;
	struct qcow2_alloc *next;
};

struct freed {
	uint64_t first, count; /* host clusters, one reference each */
	bool discard;	       /* punch them out once they are free */
};

struct freed_list {
	struct freed *items;
	size_t n, cap;
};

struct qcow2_snapshot {
	uint64_t l1_offset;
	uint32_t l1_size;
	char *id, *name;
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec;
	uint64_t vm_state_size;
	uint64_t disk_size;
	uint32_t extra_size;
	uint8_t *extra; /* as it was, all of it */
};

/* What a thread needs to wait for I/O: one holds it at a time. */
struct qcow2_ctx {
	struct block_queue *queue;
	uint8_t *cluster; /* one cluster; made when first needed */
	uint8_t *packed;  /* compressed input; made when first needed */
	struct qcow2_ctx *next;
};

struct qcow2 {
	struct block block;
	struct block *file;
	struct block *data;    /* == file unless external */
	struct block *backing; /* may be exchanged: qcow2_backing(), qcow2_swap_backing() */
	struct qcow2_workers *workers;
	bool owns_workers; /* frees them last */
	struct qcow2_header header;
	bool readonly;
	bool checking;

	/* constants of the format */
	uint32_t cluster_bits;
	uint32_t cluster_bytes;
	uint32_t l2_entry_bytes; /* 8, or 16 with extended L2 entries */
	uint32_t l2_bits;	 /* entries of an L2 table: 1 << l2_bits */
	uint32_t sub_bits;	 /* subcluster size; cluster_bits without extended L2 entries */
	uint32_t ref_bits;	 /* entries of a refcount block: 1 << ref_bits */
	bool extended;
	bool external;	   /* data in a file of its own */
	bool external_raw; /* which is a raw image by itself */

	pthread_mutex_t meta;
	pthread_cond_t alloc_done; /* with meta: an allocation has ended */
	struct qcow2_alloc *allocs;
	struct block_queue *meta_queue;
	uint64_t *reftable; /* offsets as on disk, host order */
	uint32_t reftable_entries;
	uint64_t free_hint;   /* no cluster below it is free */
	uint64_t fresh_from;  /* bytes of the file from here on were never written: they read 0 */
	uint64_t packed_next; /* where the next compressed cluster may start; 0: anywhere new */
	struct freed_list freed[2];    /* of this generation, of the one before */
	bool hold_freed;	       /* with meta: none is counted down: others may read them */
	bool lazy;		       /* counts may be late on disk: see qcow2_counts_first() */
	bool unsynced;		       /* written since the last sync of the file */
	bool broken;		       /* damage was met: no more writing */
	struct qcow2_tracked *tracked; /* bitmaps kept in step; constant while requests come */
	unsigned n_tracked;
	bool track_lost;     /* with meta: they stay marked as not in step */
	uint8_t *bitmap_dir; /* as on disk, the marks set */
	struct qcow2_snapshot *snapshots;
	unsigned n_snapshots;
	uint64_t snapshots_bytes; /* of the table on disk */

	pthread_mutex_t lock;
	pthread_cond_t idle; /* with lock: a generation may be over */
	uint64_t *l1;
	uint32_t l1_entries;
	struct qcow2_cache cache;
	struct cluster_set tables; /* clusters that hold L2 tables and refcount blocks */
	unsigned generation;	   /* 0 or 1 */
	unsigned in_flight[2];
	bool exclusive; /* the fast path stays out */
	struct qcow2_ctx *ctxs;
};

static inline uint64_t div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

static inline uint64_t round_up(uint64_t a, uint64_t b)
{
	return div_up(a, b) * b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/*
 * What is below, NULL for nothing. Good for as long as the caller holds meta, or lock, or is
 * counted by qcow2_enter(): until then an exchange waits with closing it.
 */
static inline struct block *qcow2_backing(const struct qcow2 *q)
{
	return __atomic_load_n(&q->backing, __ATOMIC_ACQUIRE);
}

/* A flush needs to sync the files, and no more. Under lock. */
static inline bool qcow2_metadata_written(const struct qcow2 *q)
{
	return !q->cache.n_dirty[SLICE_L2] && (q->lazy || !q->cache.n_dirty[SLICE_REF]);
}

/* --- qcow2_header.c --- */
int qcow2_header_read(struct block_queue *queue, struct block *file, struct qcow2_header *header,
		      struct err *err);
void qcow2_header_free(struct qcow2_header *header);
/* Serialises into @buf of a cluster (zeroed by the callee): 0, -EFBIG where it does not fit. */
int qcow2_header_encode(const struct qcow2_header *header, uint8_t *buf, struct err *err);
/* Writes the whole header cluster and syncs. Under meta, or while nobody else has the image. */
int qcow2_header_write(struct qcow2 *q, struct err *err);
/* Writes the fixed fields only (no extensions), and syncs. */
int qcow2_header_update(struct qcow2 *q);
/* Sets or clears bits of the incompatible features, on disk too. */
int qcow2_set_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear);

/* --- qcow2_cache.c: slices of L2 tables and refcount blocks. Under meta --- */
int qcow2_cache_init(struct qcow2 *q, uint32_t bytes);
void qcow2_cache_free(struct qcow2 *q);
/* The cached slice's data or NULL. Under lock (or meta). */
uint8_t *qcow2_cache_peek(struct qcow2_cache *cache, uint64_t offset);
/*
 * The slice's data, read if need be; valid until the next call that may load
 * another. @offset is a multiple of the slice size.
 */
int qcow2_cache_load(struct qcow2 *q, enum slice_kind kind, uint64_t offset, uint8_t **data);
void qcow2_cache_dirty(struct qcow2 *q, uint64_t offset);
/* Forgets slices within a freed cluster, or all (@offset 0), dirty or not. */
void qcow2_cache_drop(struct qcow2 *q, uint64_t offset);
/* Writes dirty slices of a kind; they become clean. */
int qcow2_cache_write(struct qcow2 *q, enum slice_kind kind);

/* --- qcow2_refcount.c. Under meta --- */
int qcow2_reftable_load(struct qcow2 *q, struct err *err);
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count);
/* Adds @delta (1 or -1) to the counts of @n clusters. -ERANGE where the width does not suffice. */
int qcow2_refcount_add(struct qcow2 *q, uint64_t first, uint64_t n, int delta);
int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count);
uint64_t qcow2_refcount_max(const struct qcow2 *q);
uint64_t qcow2_ref_read(const uint8_t *block, uint32_t order, uint64_t index);
void qcow2_ref_write(uint8_t *block, uint32_t order, uint64_t index, uint64_t count);
/* Finds up to @want free clusters in a row, at least one (@exact: all), and counts them as used. */
int qcow2_alloc_clusters(struct qcow2 *q, uint64_t want, bool exact, uint64_t *offset,
			 uint64_t *got);
/* Takes one reference from each, when it is safe to. */
int qcow2_free_clusters(struct qcow2 *q, uint64_t offset, uint64_t n, bool discard);
/* Room for a compressed cluster of @bytes (at most a cluster); byte granularity. */
int qcow2_alloc_packed(struct qcow2 *q, uint32_t bytes, uint64_t *offset);
/* Counts down what can be; all of it if @all (nobody may be in flight then). */
int qcow2_apply_freed(struct qcow2 *q, bool all);

/* --- qcow2_meta.c: flushing, syncing, metadata I/O. Under meta --- */
int qcow2_meta_read(struct qcow2 *q, void *buf, uint64_t bytes, uint64_t offset);
int qcow2_meta_write(struct qcow2 *q, const void *buf, uint64_t bytes, uint64_t offset);
int qcow2_meta_sync(struct qcow2 *q);
/*
 * Sees to it that what is written next may rely on the counts as they are in memory: they are
 * written (and a sync is still due), or, with lazy refcounts, the image says (synced) that
 * they are to be found anew after a crash.
 */
int qcow2_counts_first(struct qcow2 *q);
/* The counts are on stable storage, and no bit asks for a repair any more. All else is. */
int qcow2_settle_counts(struct qcow2 *q);
/* Writes what is dirty in the right order, without the last sync. */
int qcow2_flush_metadata(struct qcow2 *q);
/* All that was written before is on stable storage. */
int qcow2_flush(struct qcow2 *q);
/* The image turned out damaged: refuses to write from now on; returns -EIO. */
int qcow2_damaged(struct qcow2 *q, const char *what, uint64_t offset);
/* True where the cluster at @offset holds metadata that we know of. */
bool qcow2_is_metadata(struct qcow2 *q, uint64_t offset);
int cluster_set_add(struct cluster_set *set, uint64_t number);
void cluster_set_remove(struct cluster_set *set, uint64_t number);
bool cluster_set_has(const struct cluster_set *set, uint64_t number);
void cluster_set_free(struct cluster_set *set);
/* Waits until no request but the caller's is under way, keeps others out. Holds meta after. */
void qcow2_begin_exclusive(struct qcow2 *q);
void qcow2_end_exclusive(struct qcow2 *q);
/* Requests that know host clusters count themselves. in: under lock; returns the generation. */
unsigned qcow2_enter(struct qcow2 *q);
void qcow2_leave(struct qcow2 *q, unsigned generation);
struct qcow2_ctx *qcow2_ctx_get(struct qcow2 *q);
void qcow2_ctx_put(struct qcow2 *q, struct qcow2_ctx *ctx);
uint8_t *qcow2_ctx_cluster(struct qcow2 *q, struct qcow2_ctx *ctx);

/* --- qcow2_map.c --- */
enum map_kind {
	MAP_UNALLOCATED, /* read from the backing image, or 0 */
	MAP_ZERO,	 /* host is set where space is held for it */
	MAP_DATA,
	MAP_COMPRESSED,
};

struct qcow2_map {
	enum map_kind kind;
	bool copied;	/* the host cluster is ours alone: may be written in place */
	uint64_t bytes; /* alike and contiguous from the offset asked for */
	uint64_t host;	/* DATA, allocated ZERO: where that offset is; COMPRESSED: the descriptor */
	bool has_host;
};

/* One L2 entry. */
struct l2_entry {
	uint64_t word;
	uint64_t bitmap; /* extended L2 entries only */
};

/* -EAGAIN where a table is not cached (@load: reads it). Under lock, or meta with @load. */
int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool load, struct qcow2_map *map);
/* Under meta. get: an entry of 0 where there is no L2 table. */
int qcow2_l2_get(struct qcow2 *q, uint64_t cluster, struct l2_entry *entry);
/* Sees to it that the L2 table of @cluster exists and is ours alone. */
int qcow2_l2_prepare(struct qcow2 *q, uint64_t cluster);
/* After qcow2_l2_prepare(), with no failure possible but I/O of an evicted slice. */
int qcow2_l2_set(struct qcow2 *q, uint64_t cluster, struct l2_entry entry);
/* Drops the reference that @entry holds. */
int qcow2_free_entry(struct qcow2 *q, struct l2_entry entry, bool discard);
/* Where a compressed cluster's bytes are. -EIO where the descriptor is damaged. */
int qcow2_packed_range(const struct qcow2 *q, uint64_t word, uint64_t *offset, uint32_t *bytes);
int qcow2_l1_load(struct qcow2 *q, struct err *err);
uint64_t qcow2_l1_entries_for(const struct qcow2 *q, uint64_t bytes);
bool qcow2_host_ok(const struct qcow2 *q, uint64_t offset);

/* --- qcow2_read.c, qcow2_write.c, qcow2_zero.c --- */
/* Fast paths: true if the request was taken. Queue's thread. */
bool qcow2_fast_rw(struct qcow2 *q, struct block_req *req);
/* The parts of one that was taken there; room holds NULL for others. */
void qcow2_fast_cancel(struct block_req *req);
/* Slow paths: carry out a part of a request and wait. @iov from @skip on. */
int qcow2_read(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes,
	       const struct iovec *iov, unsigned n_iov, uint64_t skip);
int qcow2_read_buf(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes,
		   void *buf);
int qcow2_write(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes,
		const struct iovec *iov, unsigned n_iov, uint64_t skip);
int qcow2_zero(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes, bool unmap);
int qcow2_discard(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes);
/* Reads or writes a part of an iovec at @node and waits for it. */
int qcow2_data_io(struct qcow2_ctx *ctx, struct block *node, enum block_op op, uint64_t offset,
		  uint64_t bytes, const struct iovec *iov, unsigned n_iov, uint64_t skip);
/* Waits until no allocation touches these guest clusters, then lists @alloc. Under meta. */
void qcow2_alloc_begin(struct qcow2 *q, struct qcow2_alloc *alloc, uint64_t first, uint64_t count);
void qcow2_alloc_wait(struct qcow2 *q, uint64_t first, uint64_t count);
void qcow2_alloc_end(struct qcow2 *q, struct qcow2_alloc *alloc);
/* One compressed cluster: already packed bytes for the guest cluster at @offset. */
int qcow2_write_packed(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, const void *packed,
		       uint32_t bytes);
/* --- qcow2_pack.c: compression --- */
int qcow2_unpack(bool zstd, const void *in, size_t in_bytes, void *out, size_t out_bytes);
/* Bytes used in @out, or 0 where it does not become smaller than @out_bytes. */
struct qcow2_packer;
int qcow2_packer_new(struct qcow2_packer **packer, bool zstd);
void qcow2_packer_free(struct qcow2_packer *packer);
size_t qcow2_pack(struct qcow2_packer *packer, const void *in, size_t in_bytes, void *out,
		  size_t out_bytes);

/* --- qcow2_node.c --- */
struct qcow2 *qcow2_from_block(struct block *block); /* NULL if it is another kind */
void qcow2_workers_run(struct qcow2_workers *workers, struct block_req *req);
/* Takes it back, if no worker has begun. */
bool qcow2_workers_cancel(struct qcow2_workers *workers, struct block_req *req);
void qcow2_slow(struct qcow2 *q, struct qcow2_ctx *ctx, struct block_req *req, int *result);
/* The workers that the image was to free: the caller's, who frees them after it. NULL: none. */
struct qcow2_workers *qcow2_take_workers(struct qcow2 *q);
/* All there is reaches stable storage, as before closing. Nobody knows a freed cluster. Under meta.
 */
int qcow2_write_back(struct qcow2 *q);

/* --- qcow2_live.c: images that change their place in a chain while they are read --- */
/*
 * Has another @backing from now on, which reads alike as far as this image reaches, and returns
 * the old one once no request knows it: the caller's. Waits for requests; takes no lock meanwhile.
 */
struct block *qcow2_swap_backing(struct qcow2 *q, struct block *backing);
/*
 * Nothing is written any more, and no write is under way; reads may be. All of it reaches
 * stable storage, nothing asks for a repair, and the image is read-only from then on.
 */
int qcow2_freeze(struct qcow2 *q);
/* It was opened for writing, and nothing was written: it is left as it is. */
void qcow2_abandon(struct qcow2 *q);
/* Holds nothing of its own: everything reads as what is below. */
bool qcow2_is_empty(struct qcow2 *q);

/* --- qcow2_resize.c --- */
int qcow2_resize(struct block *block, uint64_t bytes, struct err *err);

/* --- qcow2_snapshot.c --- */
int qcow2_snapshots_load(struct qcow2 *q, struct err *err);
void qcow2_snapshots_free(struct qcow2 *q);
/* While opening, for reading only: the disk is what it was in that snapshot. */
int qcow2_snapshot_use(struct qcow2 *q, const char *name, struct err *err);
/* Sets the flags of the active tables as the counts demand. Under exclusive use. */
int qcow2_fix_copied_flags(struct qcow2 *q);

/* --- qcow2_bitmap.c --- */
/* Before the first write: enabled bitmaps are marked as not in step. */
int qcow2_bitmaps_begin_writing(struct qcow2 *q, struct err *err);

/* --- qcow2_track.c --- */
/* What is about to change, in the bitmaps that are kept. Any thread. */
void qcow2_track_set(struct qcow2 *q, uint64_t offset, uint64_t bytes);

/* --- qcow2_check.c --- */
/*
 * Recounts and corrects all refcounts, clears the dirty bit. Under exclusive use, with
 * all L2 tables written.
 */
int qcow2_repair_refcounts(struct qcow2 *q, struct err *err);

#endif
