// SPDX-License-Identifier: ISC
/*
 * Disks and their layers. Which files lie below which was found by the daemon, with the
 * rights of the machine's owner; here they come as descriptors, and names in
 * image headers are not looked at (storage/image.h, image_chain_open()).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/image.h"
#include "util/cleanup.h"
#include "vmm/disk.h"

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

static int open_chain(struct block **block, const struct disk_config *config, struct err *err)
{
	_cleanup_free_ struct image_chain *chain = calloc(1, sizeof(*chain));

	if (!chain)
		return err_set(err, -ENOMEM, "no memory");
	for (unsigned i = 0; i < config->n_layers; i++) {
		struct disk_layer *layer = &config->layers[i];

		if (layer->kind != VMM_LAYER_RAW && layer->kind != VMM_LAYER_QCOW2) {
			image_chain_close(chain);
			return err_set(err, -EINVAL, "layer %u is no image", i);
		}
		chain->layers[chain->n++] = (struct image_layer){
		    .format = layer->kind == VMM_LAYER_RAW ? IMAGE_RAW : IMAGE_QCOW2,
		    .fd = take_fd(&layer->fd),
		    .data_fd = take_fd(&layer->data_fd),
		};
	}
	return image_chain_open(block, chain, image_flags(config), err);
}

static int open_layers(struct block **block, const struct disk_config *config, struct err *err)
{
	int ret;

	if (config->n_layers == 0 || config->n_layers > IMAGE_DEPTH_MAX)
		return err_set(err, -EINVAL, "%u layers", config->n_layers);
	ret = open_chain(block, config, err);
	disk_layers_close(config->layers, config->n_layers);
	return ret;
}

int disk_open(struct disk **disk, const struct disk_config *config, struct err *err)
{
	struct disk *d = calloc(1, sizeof(*d));
	const char *serial = *config->serial ? config->serial : config->name;
	int ret;

	if (!d) {
		disk_layers_close(config->layers, config->n_layers);
		return err_set(err, -ENOMEM, "no memory");
	}
	memcpy(d->name, config->name, sizeof(d->name));
	memcpy(d->serial, serial, strnlen(serial, sizeof(d->serial)));
	d->readonly = config->readonly;
	d->queues = config->queues;
	d->cache = config->cache;
	d->on_error = config->on_error;
	ret = open_layers(&d->block, config, err);
	if (ret < 0) {
		free(d);
		return ret;
	}
	*disk = d;
	return 0;
}

void disk_close(struct disk *disk)
{
	if (!disk)
		return;
	block_close(disk->block);
	free(disk);
}
