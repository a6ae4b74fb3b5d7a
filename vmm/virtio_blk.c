// SPDX-License-Identifier: ISC
/*
 * virtio-blk (virtio 1.2 §5.2) over a struct block.
 *
 * A disk has up to 16 queues on threads `io/NAME`, one for every QUEUES_PER_LANE
 * of them. Such a thread has one block_queue; a batch of kicks and completions
 * ends in one block_queue_kick() and, for each queue, one publication of used
 * elements and at most one interrupt. Requests live in slots that are made with the
 * device, as many as a ring has entries: nothing is allocated on the way.
 *
 * Order. Requests under way at the same time are not ordered with one another,
 * as the driver must expect (§5.2.6.2). A FLUSH makes stable all writes that had
 * completed before it was taken, which is what BLOCK_FLUSH does; a driver that wants
 * a barrier waits for its writes, flushes, waits. Where the driver did not
 * negotiate VIRTIO_BLK_F_FLUSH, or chose write-through by `wce`, each write is
 * stable when it completes (BLOCK_FUA).
 *
 * Errors of storage and requests that cannot be carried out are answered in the
 * status byte; only a request without room for one is a driver's fault.
 */
#define LOG_MODULE "blk"
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <fcntl.h>

#include "storage/block.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm/io_pool.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"
#include "vmm/virtio_blk.h"

#define QUEUE_SIZE	128
#define SLOTS		(QUEUE_SIZE + 1) /* one is held while the ring is looked at */
#define SEGMENTS_MAX	126
#define CHAIN_MAX	(SEGMENTS_MAX + 2) /* and header and status */
#define SEGMENT_BYTES	(4u << 20)
#define QUEUES_MAX	16
#define QUEUES_PER_LANE 4
#define LANES_MAX	(QUEUES_MAX / QUEUES_PER_LANE)
#define STATS_PREFIX	42 /* with its NUL; counters' names have 55 bytes, 14 for ".notifications" */
#define CLASS_CODE	0x018000 /* mass storage, other */

struct blk;
struct blk_queue;

/* One request under way. Belongs to its queue's lane. */
struct slot {
	struct block_req block; /* first */
	struct blk_queue *queue;
	struct blk_request req;
	struct virtqueue_chain chain;
	uint64_t taken_ns;
	struct iovec iov[CHAIN_MAX];
};

struct blk_queue {
	struct virtio_queue *virtio;
	struct slot *slots;
	/* Numbers of slots given back, the warmest last; those from n_touched on were never used.
	 */
	uint16_t free[SLOTS];
	unsigned n_free, n_touched;
};

struct blk_lane {
	struct blk *blk;
	struct virtio_lane *virtio;
	struct iothread *thread;
	struct block_queue *io;
	char name[VMM_NAME_MAX + 16]; /* of the thread */
	struct iothread_source completions;
};

enum { STAT_OPS, STAT_BYTES, STAT_NS, N_STATS };
#define N_KINDS (BLK_GET_ID + 1)

struct blk {
	struct virtio_device virtio;
	struct block *block;
	struct blk_limits limits;
	struct virtio_blk_config config; /* ->wce under virtio.lock */
	bool write_through;		 /* atomic: what lanes see of wce and F_FLUSH */
	char serial[VIRTIO_BLK_ID_BYTES];
	unsigned n_queues, n_lanes;
	struct blk_queue queues[QUEUES_MAX];
	struct blk_lane lanes[LANES_MAX];
	uint64_t *stats[N_KINDS][N_STATS]; /* by enum blk_kind */
	uint64_t *errors;
	uint64_t uncounted; /* where those go that make no sense */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static struct blk *queue_blk(const struct blk_queue *queue)
{
	return (struct blk *)queue->virtio->dev;
}

/* --- slots
 * ----------------------------------------------------------------------------------------- */

/* Never fails: a ring cannot have more under way than it has entries. */
static struct slot *slot_take(struct blk_queue *queue)
{
	unsigned number = queue->n_free ? queue->free[--queue->n_free] : queue->n_touched++;
	struct slot *slot = &queue->slots[number];

	slot->queue = queue;
	return slot;
}

static void slot_give_back(struct slot *slot)
{
	struct blk_queue *queue = slot->queue;

	queue->free[queue->n_free++] = slot - queue->slots;
}

/* --- the way of a request
 * ------------------------------------------------------------------------------ */

/* Answers: @written bytes of data went into guest memory, and the status does. */
static void finish(struct slot *slot, uint8_t status, uint32_t written)
{
	struct blk *blk = queue_blk(slot->queue);
	uint64_t **stats = blk->stats[slot->req.kind];

	if (status == VIRTIO_BLK_S_OK) {
		stats_add(stats[STAT_OPS], 1);
		stats_add(stats[STAT_NS], now_ns() - slot->taken_ns);
	} else {
		stats_add(blk->errors, 1);
	}
	*slot->req.status = status;
	virtqueue_push(&slot->queue->virtio->ring, slot->chain.head, written + 1);
	slot_give_back(slot);
}

static void io_done(struct block_req *block, int result)
{
	struct slot *slot = (struct slot *)block;
	bool is_in = slot->req.kind == BLK_IN;

	if (result == 0)
		stats_add(queue_blk(slot->queue)->stats[slot->req.kind][STAT_BYTES], block->bytes);
	finish(slot, result ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK,
	       is_in && result == 0 ? slot->req.bytes : 0);
}

static void submit(struct slot *slot, const struct block_req *what)
{
	const struct blk_queue *queue = slot->queue;
	struct blk *blk = queue_blk(queue);
	const struct blk_lane *lane = &blk->lanes[queue->virtio->lane - blk->virtio.lanes];

	slot->block = *what;
	block_submit(lane->io, blk->block, &slot->block);
}

static unsigned write_flags(const struct blk *blk)
{
	return __atomic_load_n(&blk->write_through, __ATOMIC_RELAXED) ? BLOCK_FUA : 0;
}

static void range_done(struct block_req *block, int result);

/* Ranges are carried out one after the other. */
static void submit_range(struct slot *slot)
{
	struct blk *blk = queue_blk(slot->queue);
	bool zeroes = slot->req.kind == BLK_WRITE_ZEROES;
	struct blk_range range;
	int status = blk_request_range(&slot->req, &slot->chain, &blk->limits, &range);

	if (status) {
		finish(slot, status, 0);
		return;
	}
	submit(slot, &(struct block_req){.op = zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD,
					 .flags = (zeroes ? write_flags(blk) : 0) |
						  (range.unmap ? BLOCK_UNMAP : 0),
					 .offset = range.offset,
					 .bytes = range.bytes,
					 .done = range_done});
}

static void range_done(struct block_req *block, int result)
{
	struct slot *slot = (struct slot *)block;

	if (result == 0)
		stats_add(queue_blk(slot->queue)->stats[slot->req.kind][STAT_BYTES], block->bytes);
	if (result || !slot->req.ranges)
		finish(slot, result ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK, 0);
	else
		submit_range(slot);
}

static void carry_out(struct slot *slot)
{
	struct blk *blk = queue_blk(slot->queue);
	struct blk_request *req = &slot->req;

	switch (req->kind) {
	case BLK_IN:
	case BLK_OUT:
		submit(slot,
		       &(struct block_req){.op = req->kind == BLK_IN ? BLOCK_READ : BLOCK_WRITE,
					   .flags = req->kind == BLK_OUT ? write_flags(blk) : 0,
					   .offset = req->offset,
					   .bytes = req->bytes,
					   .iov = req->iov,
					   .n_iov = req->n_iov,
					   .done = io_done});
		break;
	case BLK_FLUSH:
		submit(slot, &(struct block_req){.op = BLOCK_FLUSH, .done = io_done});
		break;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
		submit_range(slot);
		break;
	case BLK_GET_ID:
		finish(slot, VIRTIO_BLK_S_OK,
		       virtqueue_chain_write(&slot->chain, blk->serial, sizeof(blk->serial)));
		break;
	}
}

/* Takes all that is there; kicked and published when the lane is idle. */
static void blk_notify(struct virtio_queue *virtio)
{
	struct blk *blk = (struct blk *)virtio->dev;
	struct blk_queue *queue = &blk->queues[virtio->index];

	virtqueue_notify_off(&virtio->ring);
	do {
		struct slot *slot = slot_take(queue);
		int r;

		while (virtio_pop(virtio, slot->iov, &slot->chain) == 0) {
			slot->taken_ns = now_ns();
			r = blk_request_parse(&slot->req, &slot->chain, &blk->limits);
			if (r == -EPROTO) {
				virtio_queue_fail(virtio, "disk request without a status byte");
				virtqueue_unpop(&virtio->ring);
				break;
			}
			if (r)
				finish(slot, r, 0);
			else
				carry_out(slot);
			slot = slot_take(queue);
		}
		slot_give_back(slot);
	} while (virtio_notify_on(virtio));
}

/* --- lanes
 * -------------------------------------------------------------------------------------------- */

static void lane_publish(struct virtio_lane *lane)
{
	for (unsigned i = 0; i < lane->n; i++)
		virtio_publish(&lane->dev->queues[lane->first + i]);
}

/*
 * A batch is over. What completed goes first: the guest waits for it. Without a
 * driver the rings are not ours to look at.
 */
static void lane_idle(void *arg)
{
	struct blk_lane *lane = arg;

	if (lane->virtio->active)
		lane_publish(lane->virtio);
	block_queue_kick(lane->io);
}

static void lane_completions(struct iothread_source *source)
{
	struct blk_lane *lane =
	    (struct blk_lane *)((char *)source - offsetof(struct blk_lane, completions));

	block_queue_run(lane->io);
}

static void blk_drain(struct virtio_lane *virtio)
{
	struct blk *blk = (struct blk *)virtio->dev;
	struct blk_lane *lane = &blk->lanes[virtio - blk->virtio.lanes];

	block_queue_kick(lane->io);
	block_queue_drain(lane->io);
	lane_publish(virtio);
}

/* --- configuration
 * -------------------------------------------------------------------------------------- */

static void update_write_through(struct blk *blk)
{
	bool flush = virtio_negotiated(&blk->virtio, VIRTIO_BLK_F_FLUSH);

	__atomic_store_n(&blk->write_through, !flush || !blk->config.wce, __ATOMIC_RELAXED);
}

static void blk_activated(struct virtio_device *dev)
{
	update_write_through((struct blk *)dev);
}

/* Only `wce` can be written (§5.2.5.1). */
static void blk_config_written(struct virtio_device *dev, uint64_t offset, unsigned size,
			       uint64_t value)
{
	struct blk *blk = (struct blk *)dev;

	if (offset != offsetof(struct virtio_blk_config, wce) || size != 1 || value > 1 ||
	    !virtio_negotiated(dev, VIRTIO_BLK_F_CONFIG_WCE))
		return;
	blk->config.wce = value;
	update_write_through(blk);
}

static void blk_reset(struct virtio_device *dev)
{
	((struct blk *)dev)->config.wce = 1;
}

static const struct virtio_ops blk_ops = {
    .notify = blk_notify,
    .drain = blk_drain,
    .activated = blk_activated,
    .config_written = blk_config_written,
    .reset = blk_reset,
};

/* What the disk is, as the driver reads it. Numbers are little endian. */
static void describe(struct blk *blk, const struct block_info *info)
{
	struct virtio_blk_config *config = &blk->config;
	uint32_t per_block = info->physical_block / info->logical_block;
	uint64_t features = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
			    1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
			    1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE |
			    1ull << VIRTIO_BLK_F_MQ;

	blk->limits = (struct blk_limits){.sectors = info->bytes / BLK_SECTOR,
					  .readonly = info->readonly,
					  .discard = info->discard && !info->readonly,
					  .write_zeroes = info->write_zeroes && !info->readonly};
	config->capacity = htole64(blk->limits.sectors);
	config->size_max = htole32(SEGMENT_BYTES);
	config->seg_max = htole32(SEGMENTS_MAX);
	config->blk_size = htole32(info->logical_block);
	config->physical_block_exp = per_block > 1 ? __builtin_ctz(per_block) : 0;
	config->min_io_size = htole16(per_block > 1 ? per_block : 1);
	config->wce = 1;
	config->num_queues = htole16(blk->n_queues);
	if (info->readonly)
		features |= 1ull << VIRTIO_BLK_F_RO;
	if (blk->limits.discard) {
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
		config->max_discard_sectors = htole32(BLK_RANGE_SECTORS_MAX);
		config->max_discard_seg = htole32(BLK_RANGES_MAX);
		config->discard_sector_alignment = htole32(info->physical_block / BLK_SECTOR);
	}
	if (blk->limits.write_zeroes) {
		features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
		config->max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS_MAX);
		config->max_write_zeroes_seg = htole32(BLK_RANGES_MAX);
		config->write_zeroes_may_unmap = 1;
	}
	blk->virtio.offered = features;
	blk->virtio.config = config;
	blk->virtio.config_len = offsetof(struct virtio_blk_config, max_secure_erase_sectors);
}

/* --- beginning and end
 * ------------------------------------------------------------------------------------ */

static void lane_quiet(void *arg)
{
	struct blk_lane *lane = arg;

	iothread_set_idle(lane->thread, NULL, NULL);
	iothread_remove(lane->thread, &lane->completions);
}

static void lane_ready(void *arg)
{
	struct blk_lane *lane = arg;

	iothread_set_idle(lane->thread, lane_idle, lane);
}

/* Frees what was made so far; virtio is over. */
static void blk_free(struct blk *blk)
{
	for (unsigned i = 0; i < blk->n_lanes; i++) {
		struct blk_lane *lane = &blk->lanes[i];

		io_pool_put(blk->virtio.dev.vm->io_pool, lane->name, QUEUE_SIZE, lane->thread,
			    lane->io);
	}
	for (unsigned i = 0; i < blk->n_queues; i++)
		free(blk->queues[i].slots);
	block_close(blk->block);
	free(blk);
}

static void blk_destroy(struct device *device)
{
	struct blk *blk = (struct blk *)device;

	/* The idle hook looks at lanes, which go next; draining needs none. */
	for (unsigned i = 0; i < blk->n_lanes; i++)
		iothread_call(blk->lanes[i].thread, lane_quiet, &blk->lanes[i]);
	virtio_fini(&blk->virtio);
	blk_free(blk);
}

static int make_lane(struct blk *blk, const char *disk, struct err *err)
{
	struct blk_lane *lane = &blk->lanes[blk->n_lanes];
	int r;

	*lane = (struct blk_lane){.blk = blk, .completions.ready = lane_completions};
	if (blk->n_lanes)
		snprintf(lane->name, sizeof(lane->name), "io/%u.%s", blk->n_lanes, disk);
	else
		snprintf(lane->name, sizeof(lane->name), "io/%s", disk);
	r = io_pool_take(blk->virtio.dev.vm->io_pool, lane->name, QUEUE_SIZE, &lane->thread,
			 &lane->io, err);
	if (r == 0)
		blk->n_lanes++;
	return r;
}

static int open_disk(struct blk *blk, const struct vm_disk_config *disk, struct err *err)
{
	struct block_info info;
	int fd = fcntl(disk->fd, F_DUPFD_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return err_set(err, -errno, "no descriptor");
	r = block_file_open(&blk->block, fd, disk->readonly ? BLOCK_OPEN_READONLY : 0, err);
	if (r < 0)
		return r;
	block_info_get(blk->block, &info);
	if (info.bytes % BLK_SECTOR)
		log_warn(
		    "disk %s: the last %llu bytes are no whole sector: the guest has not got them",
		    disk->name, (unsigned long long)(info.bytes % BLK_SECTOR));
	describe(blk, &info);
	return 0;
}

static const struct {
	enum blk_kind kind;
	unsigned stat;
	const char *name;
} counters[] = {
    {BLK_IN, STAT_OPS, "read_ops"},
    {BLK_IN, STAT_BYTES, "read_bytes"},
    {BLK_IN, STAT_NS, "read_ns"},
    {BLK_OUT, STAT_OPS, "write_ops"},
    {BLK_OUT, STAT_BYTES, "write_bytes"},
    {BLK_OUT, STAT_NS, "write_ns"},
    {BLK_FLUSH, STAT_OPS, "flush_ops"},
    {BLK_FLUSH, STAT_NS, "flush_ns"},
    {BLK_DISCARD, STAT_OPS, "discard_ops"},
    {BLK_DISCARD, STAT_BYTES, "discard_bytes"},
    {BLK_DISCARD, STAT_NS, "discard_ns"},
    {BLK_WRITE_ZEROES, STAT_OPS, "zero_ops"},
    {BLK_WRITE_ZEROES, STAT_BYTES, "zero_bytes"},
    {BLK_WRITE_ZEROES, STAT_NS, "zero_ns"},
};

/* @prefix: "disk.NAME", short enough to leave room for any counter's name. */
static void make_counters(struct blk *blk, const char *prefix)
{
	struct stats *stats = blk->virtio.dev.vm->stats;

	for (unsigned kind = 0; kind < N_KINDS; kind++) {
		for (unsigned i = 0; i < N_STATS; i++)
			blk->stats[kind][i] = &blk->uncounted;
	}
	for (size_t i = 0; i < nitems(counters); i++)
		blk->stats[counters[i].kind][counters[i].stat] =
		    stats_counter(stats, "%s.%s", prefix, counters[i].name);
	blk->errors = stats_counter(stats, "%s.errors", prefix);
}

static int make_queues(struct blk *blk, const char *disk, const char *prefix, struct err *err)
{
	struct iothread *threads[LANES_MAX];
	unsigned n_lanes = (blk->n_queues + QUEUES_PER_LANE - 1) / QUEUES_PER_LANE;
	int r;

	for (unsigned i = 0; i < blk->n_queues; i++) {
		blk->queues[i].slots = calloc(SLOTS, sizeof(struct slot));
		if (!blk->queues[i].slots)
			return err_set(err, -ENOMEM, "no memory");
	}
	for (unsigned i = 0; i < n_lanes; i++) {
		r = make_lane(blk, disk, err);
		if (r < 0)
			return r;
		threads[i] = blk->lanes[i].thread;
	}
	return virtio_init(&blk->virtio, blk->virtio.dev.vm, &blk_ops, VIRTIO_ID_BLOCK,
			   blk->n_queues, QUEUE_SIZE, CHAIN_MAX, threads, n_lanes, prefix, err);
}

/* Behind virtio_init(): on error the caller ends virtio. */
static int start(struct blk *blk, unsigned slot, struct err *err)
{
	for (unsigned i = 0; i < blk->n_queues; i++)
		blk->queues[i].virtio = &blk->virtio.queues[i];
	for (unsigned i = 0; i < blk->n_lanes; i++) {
		struct blk_lane *lane = &blk->lanes[i];
		int r;

		lane->virtio = &blk->virtio.lanes[i];
		lane->completions.fd = block_queue_fd(lane->io);
		iothread_call(lane->thread, lane_ready, lane);
		r = iothread_add(lane->thread, &lane->completions, false);
		if (r < 0)
			return err_set(err, r, "cannot wait for storage");
	}
	return virtio_pci_plug(&blk->virtio, slot, CLASS_CODE, err);
}

static int create_one(struct vm *vm, unsigned index, struct err *err)
{
	const struct vm_disk_config *disk = &vm->config->disks[index];
	struct blk *blk = calloc(1, sizeof(*blk));
	unsigned queues =
	    disk->queues ? disk->queues : (vm->config->cpus < 4 ? vm->config->cpus : 4);
	char name[VMM_NAME_MAX], prefix[STATS_PREFIX];
	int r;

	if (!blk)
		return err_set(err, -ENOMEM, "no memory");
	blk->virtio.dev.vm = vm;
	blk->n_queues = queues < 1 ? 1 : queues > QUEUES_MAX ? QUEUES_MAX : queues;
	memcpy(blk->serial, disk->name, strnlen(disk->name, sizeof(blk->serial)));
	snprintf(prefix, sizeof(prefix), "disk.%s", disk->name);
	make_counters(blk, prefix);
	r = open_disk(blk, disk, err);
	if (r == 0)
		r = make_queues(blk, disk->name, prefix, err);
	if (r < 0) {
		blk_free(blk);
		return r;
	}
	r = start(blk, PCI_SLOT_DISKS + index, err);
	if (r < 0) {
		blk_destroy(&blk->virtio.dev);
		return r;
	}
	snprintf(name, sizeof(name), "disk.%.*s", (int)sizeof(name) - 6, disk->name);
	device_add(vm, &blk->virtio.dev, &virtio_blk_device, name);
	return 0;
}

static int blk_create(struct vm *vm, struct err *err)
{
	for (unsigned i = 0; i < vm->config->n_disks; i++) {
		if (create_one(vm, i, err) < 0)
			return err_prefix(err, "disk %s", vm->config->disks[i].name);
	}
	return 0;
}

const struct device_ops virtio_blk_device = {
    .name = "disk",
    .create = blk_create,
    .destroy = blk_destroy,
    .pause = virtio_pause,
    .resume = virtio_resume,
};
