// SPDX-License-Identifier: ISC
/*
 * Disks, their layers and the graph over them. Which files lie below which was found by
 * the daemon, with the rights of the machine's owner; here they come as descriptors,
 * and names in image headers are not looked at (storage/image.h, image_chain_open()).
 *
 * Limits can come at any time: the node for them is put on top by one store, requests that
 * went below it before end there. It never goes away again, but without limits it
 * costs next to nothing.
 */
#define LOG_MODULE "disk"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "storage/block_filter.h"
#include "storage/block_nbd.h"
#include "storage/block_node.h"
#include "storage/image_stack.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "vmm/disk.h"
#include "vmm/disk_snapshot.h"
#include "vmm/stats.h"

/* --- layers ------------------------------------------------------------------------------- */

void disk_layers_close(struct disk_layer *layers, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (layers[i].fd >= 0)
			close(take_fd(&layers[i].fd));
		if (layers[i].data_fd >= 0)
			close(take_fd(&layers[i].data_fd));
	}
}

static unsigned image_flags(const struct disk_config *config)
{
	/* Workers wait for what is not cached: a disk's own threads must not. */
	return IMAGE_ASYNC | (config->readonly ? IMAGE_READONLY : 0) |
	       (config->cache == VMM_CACHE_NONE ? IMAGE_DIRECT : 0) |
	       (config->cache == VMM_CACHE_UNSAFE ? IMAGE_NO_FLUSH : 0);
}

static int open_nbd(struct block **block, const struct disk_config *config, unsigned at,
		    struct err *err)
{
	struct disk_layer *layer = &config->layers[at];
	const struct block_nbd_params params = {
	    .bytes = layer->bytes,
	    .flags = layer->nbd_flags,
	    .readonly = config->readonly || at > 0, /* only the top is written */
	};

	if (at + 1 != config->n_layers)
		return err_set(err, -EINVAL, "an NBD export has nothing below it");
	return block_nbd_open(block, take_fd(&layer->fd), &params, err);
}

static int take_layer(struct image_chain *chain, struct block **bottom,
		      const struct disk_config *config, unsigned at, struct err *err)
{
	struct disk_layer *layer = &config->layers[at];

	if (layer->kind == VMM_LAYER_NBD)
		return open_nbd(bottom, config, at, err);
	chain->layers[chain->n++] = (struct image_layer){
	    .format = layer->kind == VMM_LAYER_RAW ? IMAGE_RAW : IMAGE_QCOW2,
	    .fd = take_fd(&layer->fd),
	    .data_fd = take_fd(&layer->data_fd),
	};
	return 0;
}

int disk_layers_take(struct image_chain *chain, struct block **bottom,
		     const struct disk_config *config, struct err *err)
{
	int ret = 0;

	memset(chain, 0, sizeof(*chain));
	*bottom = NULL;
	if (config->n_layers == 0 || config->n_layers > IMAGE_DEPTH_MAX)
		ret = err_set(err, -EINVAL, "%u layers", config->n_layers);
	for (unsigned i = 0; i < config->n_layers && ret == 0; i++)
		ret = take_layer(chain, bottom, config, i, err);
	disk_layers_close(config->layers, config->n_layers);
	if (ret < 0) {
		image_chain_close(chain);
		block_close(take_ptr(*bottom));
	}
	return ret;
}

/* The stack of all layers. */
static int open_layers(struct block **stack, const struct disk_config *config, struct err *err)
{
	_cleanup_free_ struct image_chain *chain = calloc(1, sizeof(*chain));
	struct block *block, *bottom;
	int ret;

	if (!chain) {
		disk_layers_close(config->layers, config->n_layers);
		return err_set(err, -ENOMEM, "no memory");
	}
	ret = disk_layers_take(chain, &bottom, config, err);
	if (ret == 0)
		ret = image_chain_open_over(&block, chain, bottom, NULL, image_flags(config), err);
	return ret < 0 ? ret : image_stack_open(stack, block, image_flags(config), err);
}

/* --- limits --------------------------------------------------------------------------------- */

/* Stands for the fleece node where what is over it must not close it. */
struct pin {
	struct block block;
	struct block *child;
	struct disk_graph *graph;
};

/* Limits have let it go. */
static void pin_submit(struct block *block, struct block_req *req)
{
	struct pin *pin = (struct pin *)block;
	uint64_t *throttled = __atomic_load_n(&pin->graph->throttled_ns, __ATOMIC_RELAXED);

	if (throttled && req->user)
		stats_add(throttled, now_ns() - req->user);
	block_forward(pin->child, req);
}

static int pin_status(struct block *block, uint64_t offset, uint64_t bytes,
		      struct block_extent *extent)
{
	return block_status(((struct pin *)block)->child, offset, bytes, extent);
}

static int pin_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct pin *pin = (struct pin *)block;
	int ret = block_resize(pin->child, bytes, err);

	block_set_size(block, block_size(pin->child));
	return ret;
}

static void pin_close(struct block *block)
{
	free(block);
}

static const struct block_ops pin_ops = {
    .name = "pin",
    .submit = pin_submit,
    .status = pin_status,
    .resize = pin_resize,
    .close = pin_close,
};

static int pin_new(struct block **block, struct disk_graph *graph, struct err *err)
{
	struct block *child = graph->fleece;
	struct pin *pin = calloc(1, sizeof(*pin));

	if (!pin)
		return err_set(err, -ENOMEM, "no memory");
	pin->block = (struct block){.ops = &pin_ops, .grow = child->grow};
	block_info_get(child, &pin->block.info);
	pin->child = child;
	pin->graph = graph;
	*block = &pin->block;
	return 0;
}

static bool any_limits(const struct vmm_limits *limits)
{
	for (unsigned i = 0; i < N_BLOCK_LIMITS; i++)
		if (limits->requests[i].per_s || limits->bytes[i].per_s)
			return true;
	return false;
}

static struct block_limits block_limits_of(const struct vmm_limits *limits)
{
	struct block_limits l;

	for (unsigned i = 0; i < N_BLOCK_LIMITS; i++) {
		l.requests[i] =
		    (struct block_limit){limits->requests[i].per_s, limits->requests[i].burst};
		l.bytes[i] = (struct block_limit){limits->bytes[i].per_s, limits->bytes[i].burst};
	}
	return l;
}

static int graph_limit(struct disk_graph *graph, const struct vmm_limits *limits, struct err *err)
{
	const struct block_limits l = block_limits_of(limits);
	struct block *pin = NULL;
	int ret;

	if (graph->throttle) {
		block_throttle_set(graph->throttle, &l);
		return 0;
	}
	if (!any_limits(limits))
		return 0;
	ret = pin_new(&pin, graph, err);
	if (ret == 0)
		ret = block_throttle_open(&graph->throttle, pin, &l, err);
	if (ret == 0)
		__atomic_store_n(&graph->top, graph->throttle, __ATOMIC_RELEASE);
	return ret;
}

int disk_set_limits(struct disk *disk, const struct vmm_limits *limits, struct err *err)
{
	int ret = 0;

	LOCK_SCOPE(&disk->lock);
	if (disk->graph)
		ret = graph_limit(disk->graph, limits, err);
	if (ret == 0)
		disk->limits = *limits;
	return ret;
}

void disk_hurry(struct disk *disk, bool hurry)
{
	static const struct block_limits none;
	struct block_limits own;

	LOCK_SCOPE(&disk->lock);
	own = block_limits_of(&disk->limits);
	if (disk->graph && disk->graph->throttle)
		block_throttle_set(disk->graph->throttle, hurry ? &none : &own);
}

/* --- graphs --------------------------------------------------------------------------------- */

void disk_graph_close(struct disk_graph *graph)
{
	if (!graph)
		return;
	disk_snapshots_end(graph);
	image_stack_unstage(graph->staged);
	block_close(graph->throttle);
	block_close(graph->fleece);
	free(graph);
}

int disk_graph_open(struct disk_graph **graph, const struct disk_config *config, struct err *err)
{
	struct disk_graph *g = calloc(1, sizeof(*g));
	int ret;

	if (!g) {
		disk_layers_close(config->layers, config->n_layers);
		return err_set(err, -ENOMEM, "no memory");
	}
	g->kind = config->n_layers ? config->layers[0].kind : VMM_LAYER_RAW;
	ret = open_layers(&g->stack, config, err);
	if (ret == 0) {
		block_info_get(g->stack, &g->info);
		if (g->info.bytes % 512)
			log_warn("disk %s: the last %llu bytes are no whole sector: the guest has "
				 "not got them",
				 config->name, (unsigned long long)(g->info.bytes % 512));
		ret = block_fleece_open(&g->fleece, g->stack, err);
	}
	if (ret == 0) {
		g->top = g->fleece;
		ret = graph_limit(g, &config->limits, err);
	}
	if (ret < 0) {
		disk_graph_close(g);
		return ret;
	}
	*graph = g;
	return 0;
}

/* --- disks ---------------------------------------------------------------------------------- */

static struct disk *disk_new(const struct disk_config *config)
{
	const char *serial = *config->serial ? config->serial : config->name;
	struct disk *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	memcpy(d->name, config->name, sizeof(d->name));
	memcpy(d->serial, serial, strnlen(serial, sizeof(d->serial)));
	d->readonly = config->readonly;
	d->queues = config->queues;
	d->cache = config->cache;
	d->on_error = config->on_error;
	d->limits = config->limits;
	d->wake_fd = config->wake_fd;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->settled, NULL);
	return d;
}

int disk_open(struct disk **disk, const struct disk_config *config, struct err *err)
{
	struct disk *d = disk_new(config);
	int ret;

	if (!d) {
		disk_layers_close(config->layers, config->n_layers);
		return err_set(err, -ENOMEM, "no memory");
	}
	ret = disk_graph_open(&d->graph, config, err);
	if (ret < 0) {
		disk_close(d);
		return ret;
	}
	*disk = d;
	return 0;
}

void disk_close(struct disk *disk)
{
	if (!disk)
		return;
	disk_graph_close(disk->graph);
	pthread_cond_destroy(&disk->settled);
	pthread_mutex_destroy(&disk->lock);
	free(disk);
}

void disk_settle(struct disk *disk)
{
	LOCK_SCOPE(&disk->lock);
	while (disk->working)
		pthread_cond_wait(&disk->settled, &disk->lock);
}

/* --- news ----------------------------------------------------------------------------------- */

static void wake(const struct disk *disk)
{
	if (disk->wake_fd >= 0)
		eventfd_write(disk->wake_fd, 1);
}

void disk_tell_attached(struct disk *disk)
{
	LOCK_SCOPE(&disk->lock);
	if (disk->was_attached)
		return;
	disk->was_attached = disk->news.attached = true;
	wake(disk);
}

void disk_tell_failed(struct disk *disk, int error, bool pause, const char *text)
{
	struct disk_news *news = &disk->news;

	LOCK_SCOPE(&disk->lock);
	/* The first of many is told; but the one that pauses the machine rather than another. */
	if (news->failed && (news->wants_pause || !pause))
		return;
	news->failed = true;
	news->wants_pause = pause;
	news->error = error;
	snprintf(news->text, sizeof(news->text), "%s", text);
	wake(disk);
}

void disk_news_no_pause(struct disk *disk)
{
	LOCK_SCOPE(&disk->lock);
	disk->news.wants_pause = false;
}

bool disk_news_take(struct disk *disk, struct disk_news *news)
{
	LOCK_SCOPE(&disk->lock);
	*news = disk->news;
	disk->news = (struct disk_news){0};
	return news->attached || news->failed;
}
