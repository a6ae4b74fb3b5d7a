/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_DISK_H
#define FV_VMM_DISK_H
/*
 * What a disk is made of: the layers that the daemon sent, opened into one graph
 * of block nodes. A disk outlives resets of the guest; the device that
 * shows it (virtio_blk.h) comes and goes with each. Control thread only,
 * but for the graph itself.
 */
#include <stdbool.h>
#include <stdint.h>

#include "src/vmm_proto.h"
#include "storage/block.h"

struct device;

struct disk_layer {
	enum vmm_layer_kind kind;
	int fd, data_fd; /* data_fd -1: none */
	uint64_t bytes;	 /* NBD: size of the export */
	uint32_t nbd_flags;
};

struct disk_config {
	char name[VMM_NAME_MAX];
	char serial[VMM_SERIAL_MAX + 1]; /* empty: the name */
	bool readonly;
	unsigned queues; /* 0: as many as there are vcpus, at most 4 */
	enum vmm_cache cache;
	enum vmm_on_error on_error;
	struct vmm_limits limits;
	struct disk_layer *layers; /* the top first; the caller's, its descriptors are taken */
	unsigned n_layers;
};

struct disk {
	char name[VMM_NAME_MAX];
	char serial[VMM_SERIAL_MAX];
	bool readonly;
	unsigned queues;
	enum vmm_cache cache;
	enum vmm_on_error on_error;
	struct block *block;   /* the top of its graph */
	struct device *device; /* that shows it just now; NULL: none */
};

/*
 * Opens @config's layers. Their descriptors are taken, also on error. -EINVAL with words
 * for layers that cannot be, and what opening an image gives.
 */
int disk_open(struct disk **disk, const struct disk_config *config, struct err *err);
/* No device shows it. NULL is fine. */
void disk_close(struct disk *disk);
/* Closes the descriptors that are left in @layers. */
void disk_layers_close(struct disk_layer *layers, unsigned n);

#endif
