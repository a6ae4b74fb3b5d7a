// SPDX-License-Identifier: ISC
/*
 * virtio-blk (virtio 1.2 §5.2) over a struct block: the device. Its requests are
 * read in virtio_blk_req.c and carried out in virtio_blk_io.c.
 *
 * A disk has up to 16 queues on threads `io/NAME`, one for every BLK_QUEUES_PER_LANE
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
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "storage/block_node.h"
#include "vmm/io_pool.h"
#include "vmm/pci.h"
#include "vmm/state.h"
#include "vmm/virtio_blk_int.h"

#define SEGMENT_BYTES (4u << 20)
#define STATS_PREFIX  42 /* with its NUL; counters' names have 55 bytes, 14 for ".notifications" */
#define QUEUES_PRESET 4	 /* at most so many where the daemon leaves it to us */
#define CLASS_CODE    0x018000 /* mass storage, other */

/* --- configuration ------------------------------------------------------------------------ */

static void update_write_through(struct blk *blk)
{
	bool flush = virtio_negotiated(&blk->virtio, VIRTIO_BLK_F_FLUSH);
	bool through = !flush || !blk->config.wce || blk->disk->cache == VMM_CACHE_WRITETHROUGH;

	__atomic_store_n(&blk->write_through, through, __ATOMIC_RELAXED);
}

static void blk_activated(struct virtio_device *dev)
{
	struct blk *blk = (struct blk *)dev;

	update_write_through(blk);
	disk_tell_attached(blk->disk);
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
	struct blk *blk = (struct blk *)dev;

	blk->config.wce = blk->disk->cache != VMM_CACHE_WRITETHROUGH;
}

static const struct virtio_ops blk_ops = {
    .notify = blk_notify,
    .drain = blk_drain,
    .activated = blk_activated,
    .config_written = blk_config_written,
    .reset = blk_reset,
    .saves_requests = true,
};

/* What a driver may ask of contents like that. Without contents there may be any later. */
static struct blk_limits limits_of(const struct disk *disk, const struct disk_graph *graph)
{
	struct blk_limits limits = {.readonly = disk->readonly,
				    .discard = !disk->readonly,
				    .write_zeroes = !disk->readonly};

	if (graph) {
		limits.sectors =
		    block_size(__atomic_load_n(&graph->top, __ATOMIC_ACQUIRE)) / BLK_SECTOR;
		limits.readonly = graph->info.readonly;
		limits.discard = graph->info.discard && !limits.readonly;
		limits.write_zeroes = graph->info.write_zeroes && !limits.readonly;
	}
	return limits;
}

/* What the disk is, as the driver reads it. Numbers are little endian. */
static void describe(struct blk *blk)
{
	static const struct block_info none = {.logical_block = 512, .physical_block = 512};
	const struct disk_graph *graph = blk->disk->graph;
	const struct block_info *info = graph ? &graph->info : &none;
	const struct blk_limits limits = limits_of(blk->disk, graph);
	struct virtio_blk_config *config = &blk->config;
	uint32_t per_block = info->physical_block / info->logical_block;
	uint64_t features = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
			    1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
			    1ull << VIRTIO_BLK_F_MQ;

	config->capacity = htole64(limits.sectors);
	config->size_max = htole32(SEGMENT_BYTES);
	config->seg_max = htole32(BLK_SEGMENTS_MAX);
	config->blk_size = htole32(info->logical_block);
	config->physical_block_exp = per_block > 1 ? __builtin_ctz(per_block) : 0;
	config->min_io_size = htole16(per_block > 1 ? per_block : 1);
	config->wce = blk->disk->cache != VMM_CACHE_WRITETHROUGH;
	config->num_queues = htole16(blk->n_queues);
	/* With write-through there is no volatile cache, and nothing to choose. */
	if (config->wce)
		features |= 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	if (limits.readonly)
		features |= 1ull << VIRTIO_BLK_F_RO;
	if (limits.discard) {
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
		config->max_discard_sectors = htole32(BLK_RANGE_SECTORS_MAX);
		config->max_discard_seg = htole32(BLK_RANGES_MAX);
		config->discard_sector_alignment = htole32(info->physical_block / BLK_SECTOR);
	}
	if (limits.write_zeroes) {
		features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
		config->max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS_MAX);
		config->max_write_zeroes_seg = htole32(BLK_RANGES_MAX);
		config->write_zeroes_may_unmap = 1;
	}
	blk->virtio.offered = features;
	blk->virtio.config = config;
	blk->virtio.config_len = offsetof(struct virtio_blk_config, max_secure_erase_sectors);
}

/* --- contents that change ------------------------------------------------------------------- */

struct use {
	struct blk_lane *lane;
	struct disk_graph *graph;
	struct blk_limits limits;
};

static void lane_use(void *arg)
{
	struct use *use = arg;
	struct blk_lane *lane = use->lane;

	if (lane->graph != use->graph) {
		block_queue_kick(lane->io);
		block_queue_drain(lane->io);
		blk_kept_lose(lane);
	}
	lane->graph = use->graph;
	lane->limits = use->limits;
}

void virtio_blk_use(struct disk *disk, struct disk_graph *graph)
{
	struct blk *blk = (struct blk *)disk->device;

	if (!blk)
		return;
	if (graph)
		__atomic_store_n(&graph->throttled_ns, blk->throttled_ns, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < blk->n_lanes; i++) {
		struct use use = {&blk->lanes[i], graph, limits_of(disk, graph)};

		iothread_call(use.lane->thread, lane_use, &use);
	}
}

/* The configuration has another generation (§2.5), and the driver is told (§5.2.5). */
static void tell_driver(struct blk *blk)
{
	struct virtio_device *dev = &blk->virtio;

	blk->changed = false;
	LOCK_SCOPE(&dev->lock);
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		dev->transport->interrupt_config(dev);
}

void virtio_blk_changed(struct disk *disk)
{
	struct blk *blk = (struct blk *)disk->device;

	if (!blk)
		return;
	{
		LOCK_SCOPE(&blk->virtio.lock);
		blk->config.capacity = htole64(limits_of(disk, disk->graph).sectors);
		blk->virtio.generation++;
		update_write_through(blk);
	}
	blk->changed = true;
	if (!blk->paused)
		tell_driver(blk);
}

/* Limits are lifted for as long as that takes: a guest must not hold up its own pause. */
static void blk_pause(struct device *device)
{
	struct blk *blk = (struct blk *)device;

	disk_hurry(blk->disk, true);
	virtio_pause(device);
	disk_hurry(blk->disk, false);
	blk->paused = true;
}

static void blk_resume(struct device *device)
{
	struct blk *blk = (struct blk *)device;

	blk->paused = false;
	/* What is kept is tried again now: to pause for it is no news any more. */
	disk_news_no_pause(blk->disk);
	virtio_resume(device);
	for (unsigned i = 0; i < blk->n_lanes; i++)
		iothread_call(blk->lanes[i].thread, blk_kept_retry, &blk->lanes[i]);
	if (blk->changed)
		tell_driver(blk);
}

/* That its contents and size are what they were is found before (save.c). */
static void blk_state(struct device *device, struct state *st)
{
	struct blk *blk = (struct blk *)device;

	state_u8(st, &blk->config.wce);
	if (blk->config.wce > 1)
		state_fail(st, -EINVAL, "its cache");
	virtio_state(device, st);
	blk_kept_state(blk, st);
}

/* --- beginning and end -------------------------------------------------------------------- */

static void lane_quiet(void *arg)
{
	struct blk_lane *lane = arg;

	iothread_set_idle(lane->thread, NULL, NULL);
	iothread_remove(lane->thread, &lane->completions);
}

static void lane_ready(void *arg)
{
	struct blk_lane *lane = arg;

	iothread_set_idle(lane->thread, blk_lane_idle, lane);
}

/* Frees what was made so far; virtio is over. */
static void blk_free(struct blk *blk)
{
	for (unsigned i = 0; i < blk->n_lanes; i++) {
		struct blk_lane *lane = &blk->lanes[i];

		io_pool_put(blk->virtio.dev.vm->io_pool, lane->name, BLK_QUEUE_SIZE, lane->thread,
			    lane->io);
	}
	for (unsigned i = 0; i < blk->n_queues; i++)
		free(blk->queues[i].slots);
	blk->disk->device = NULL;
	if (blk->disk->graph)
		__atomic_store_n(&blk->disk->graph->throttled_ns, NULL, __ATOMIC_RELAXED);
	free(blk);
}

static void blk_destroy(struct device *device)
{
	struct blk *blk = (struct blk *)device;

	disk_settle(blk->disk);
	disk_hurry(blk->disk, true);
	/* The idle hook looks at lanes, which go next; draining needs none. */
	for (unsigned i = 0; i < blk->n_lanes; i++)
		iothread_call(blk->lanes[i].thread, lane_quiet, &blk->lanes[i]);
	virtio_fini(&blk->virtio);
	disk_hurry(blk->disk, false);
	/* What was kept is nobody's now: the machine's next life need not stand still for it. */
	disk_news_no_pause(blk->disk);
	blk_free(blk);
}

static int make_lane(struct blk *blk, const char *disk, struct err *err)
{
	struct blk_lane *lane = &blk->lanes[blk->n_lanes];
	int r;

	*lane = (struct blk_lane){.blk = blk,
				  .completions.ready = blk_lane_completions,
				  .graph = blk->disk->graph,
				  .limits = limits_of(blk->disk, blk->disk->graph)};
	if (blk->n_lanes)
		snprintf(lane->name, sizeof(lane->name), "io/%u.%s", blk->n_lanes, disk);
	else
		snprintf(lane->name, sizeof(lane->name), "io/%s", disk);
	r = io_pool_take(blk->virtio.dev.vm->io_pool, lane->name, BLK_QUEUE_SIZE, &lane->thread,
			 &lane->io, err);
	if (r == 0)
		blk->n_lanes++;
	return r;
}

static const struct {
	enum blk_kind kind;
	unsigned stat;
	const char *name;
} counters[] = {
    {BLK_IN, BLK_OPS, "read_ops"},
    {BLK_IN, BLK_BYTES, "read_bytes"},
    {BLK_IN, BLK_NS, "read_ns"},
    {BLK_OUT, BLK_OPS, "write_ops"},
    {BLK_OUT, BLK_BYTES, "write_bytes"},
    {BLK_OUT, BLK_NS, "write_ns"},
    {BLK_FLUSH, BLK_OPS, "flush_ops"},
    {BLK_FLUSH, BLK_NS, "flush_ns"},
    {BLK_DISCARD, BLK_OPS, "discard_ops"},
    {BLK_DISCARD, BLK_BYTES, "discard_bytes"},
    {BLK_DISCARD, BLK_NS, "discard_ns"},
    {BLK_WRITE_ZEROES, BLK_OPS, "zero_ops"},
    {BLK_WRITE_ZEROES, BLK_BYTES, "zero_bytes"},
    {BLK_WRITE_ZEROES, BLK_NS, "zero_ns"},
};

static void make_spread(struct blk *blk, const char *prefix)
{
	static const char *const spans[BLK_SPANS] = {"100us", "1ms", "10ms", "100ms", "more"};
	static const char *const kinds[BLK_KINDS] = {
	    [BLK_IN] = "read", [BLK_OUT] = "write", [BLK_FLUSH] = "flush"};

	for (unsigned kind = 0; kind < BLK_KINDS; kind++) {
		for (unsigned span = 0; span < BLK_SPANS; span++)
			blk->spread[kind][span] =
			    kinds[kind] ? stats_counter(blk->virtio.dev.vm->stats, "%s.%s_to_%s",
							prefix, kinds[kind], spans[span])
					: &blk->uncounted;
	}
}

/* @prefix: "disk.NAME", short enough to leave room for any counter's name. */
static void make_counters(struct blk *blk, const char *prefix)
{
	struct stats *stats = blk->virtio.dev.vm->stats;

	for (unsigned kind = 0; kind < BLK_KINDS; kind++) {
		for (unsigned i = 0; i < BLK_STATS; i++)
			blk->stats[kind][i] = &blk->uncounted;
	}
	for (size_t i = 0; i < nitems(counters); i++)
		blk->stats[counters[i].kind][counters[i].stat] =
		    stats_counter(stats, "%s.%s", prefix, counters[i].name);
	make_spread(blk, prefix);
	blk->errors = stats_counter(stats, "%s.errors", prefix);
	blk->in_flight = stats_counter(stats, "%s.in_flight", prefix);
	blk->throttled_ns = stats_counter(stats, "%s.throttled_ns", prefix);
	/* Of an earlier life of the machine there is nothing under way. */
	__atomic_store_n(blk->in_flight, 0, __ATOMIC_RELAXED);
}

static int make_queues(struct blk *blk, const char *disk, const char *prefix, struct err *err)
{
	struct iothread *threads[BLK_LANES_MAX];
	unsigned n_lanes = (blk->n_queues + BLK_QUEUES_PER_LANE - 1) / BLK_QUEUES_PER_LANE;
	int r;

	for (unsigned i = 0; i < blk->n_queues; i++) {
		blk->queues[i].slots = calloc(BLK_SLOTS, sizeof(struct blk_slot));
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
			   blk->n_queues, BLK_QUEUE_SIZE, BLK_CHAIN_MAX, threads, n_lanes, prefix,
			   err);
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

static unsigned queues_of(const struct vm *vm, const struct disk *disk)
{
	unsigned queues = disk->queues;

	if (!queues)
		queues = vm->config->cpus < QUEUES_PRESET ? vm->config->cpus : QUEUES_PRESET;
	return queues < 1 ? 1 : queues > BLK_QUEUES_MAX ? BLK_QUEUES_MAX : queues;
}

int virtio_blk_attach(struct vm *vm, struct disk *disk, unsigned slot, struct err *err)
{
	struct blk *blk = calloc(1, sizeof(*blk));
	char name[VMM_NAME_MAX], prefix[STATS_PREFIX];
	int r;

	if (!blk)
		return err_set(err, -ENOMEM, "no memory");
	blk->virtio.dev.vm = vm;
	blk->n_queues = queues_of(vm, disk);
	snprintf(prefix, sizeof(prefix), "disk.%.*s", STATS_PREFIX - 6, disk->name);
	blk->disk = disk;
	make_counters(blk, prefix);
	describe(blk);
	if (disk->graph)
		__atomic_store_n(&disk->graph->throttled_ns, blk->throttled_ns, __ATOMIC_RELAXED);
	r = make_queues(blk, disk->name, prefix, err);
	if (r < 0) {
		blk_free(blk);
		return r;
	}
	disk->device = &blk->virtio.dev;
	r = start(blk, slot, err);
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
	for (unsigned i = 0; i < VMM_DISKS_MAX; i++) {
		struct disk *disk = vm->config->disks[i];

		if (disk && virtio_blk_attach(vm, disk, PCI_SLOT_DISKS + i, err) < 0)
			return err_prefix(err, "disk %s", disk->name);
	}
	return 0;
}

const struct device_ops virtio_blk_device = {
    .name = "disk",
    .create = blk_create,
    .destroy = blk_destroy,
    .pause = blk_pause,
    .resume = blk_resume,
    .settle = blk_pause, /* its requests; the second time there are none */
    .state_version = 2,
    .state = blk_state,
};
