// SPDX-License-Identifier: ISC
/*
 * The daemon's requests about disks. LAYERs gather in the control struct until a
 * request takes them; where one is refused, and with the connection, they are dropped.
 */
#include <errno.h>
#include <string.h>

#include "util/cleanup.h"
#include "vmm/control_int.h"

#define QUEUES_MAX 16

void control_disk_drop_layers(struct control *c)
{
	disk_layers_close(c->layers, c->n_layers);
	c->n_layers = 0;
}

static int check_layer(const struct control *c, const struct vmm_layer *m, size_t n_fds,
		       struct err *err)
{
	if (c->n_layers == VMM_LAYERS_MAX)
		return err_set(err, -ENOSPC, "more than %d layers", VMM_LAYERS_MAX);
	if (m->kind > VMM_LAYER_NBD)
		return err_set(err, -EINVAL, "layer of unknown kind %u", m->kind);
	if (n_fds != (m->has_data ? 2 : 1) || (m->has_data && m->kind != VMM_LAYER_QCOW2))
		return err_set(err, -EINVAL, "a layer with %zu files", n_fds);
	return 0;
}

int control_disk_layer(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_layer m;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	ret = check_layer(c, &m, req->n_fds, err);
	if (ret < 0)
		return ret;
	c->layers[c->n_layers++] = (struct disk_layer){
	    .kind = (enum vmm_layer_kind)m.kind,
	    .fd = take_fd(&req->fds[0]),
	    .data_fd = m.has_data ? take_fd(&req->fds[1]) : -1,
	    .bytes = m.bytes,
	    .nbd_flags = m.nbd_flags,
	};
	return 0;
}

struct disk *control_disk_find(struct control *c, const char *name)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++) {
		struct disk *disk = c->config.disks[i];

		if (disk && strcmp(disk->name, name) == 0)
			return disk;
	}
	return NULL;
}

int control_disk_place(struct control *c, struct err *err)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++)
		if (!c->config.disks[i])
			return (int)i;
	return err_set(err, -ENOSPC, "more than %d disks", VMM_DISKS_MAX);
}

static int check_disk(struct control *c, const struct vmm_disk *m, struct err *err)
{
	if (m->queues > QUEUES_MAX)
		return err_set(err, -ERANGE, "more than %d queues", QUEUES_MAX);
	if (m->cache > VMM_CACHE_UNSAFE || m->on_error > VMM_ON_ERROR_IGNORE)
		return err_set(err, -EINVAL, "an unknown way to cache, or to act on errors");
	if (m->n_layers != c->n_layers || m->n_layers == 0)
		return err_set(err, -EINVAL, "%u layers were sent, not %u", c->n_layers,
			       m->n_layers);
	return 0;
}

int control_disk_make(struct control *c, const struct request *req, struct disk **disk,
		      struct err *err)
{
	struct disk_config config = {.layers = c->layers, .n_layers = c->n_layers};
	struct vmm_disk m;
	int ret;

	memcpy(&m, req->body, sizeof(m));
	ret = check_disk(c, &m, err);
	if (ret < 0)
		return ret;
	copy_text(config.name, m.name, sizeof(config.name));
	memcpy(config.serial, m.serial, VMM_SERIAL_MAX);
	config.readonly = m.readonly;
	config.queues = m.queues;
	config.cache = (enum vmm_cache)m.cache;
	config.on_error = (enum vmm_on_error)m.on_error;
	config.limits = m.limits;
	if (!*config.name || control_disk_find(c, config.name))
		return err_set(err, -EEXIST, "there is a disk %s already", config.name);
	c->n_layers = 0;
	return disk_open(disk, &config, err);
}

int control_disk_add(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	int place = control_disk_place(c, err);

	(void)reply;
	if (place < 0)
		return place;
	return control_disk_make(c, req, &c->config.disks[place], err);
}

void control_disks_close(struct control *c)
{
	control_disk_drop_layers(c);
	for (unsigned i = 0; i < nitems(c->config.disks); i++)
		disk_close(take_ptr(c->config.disks[i]));
}
