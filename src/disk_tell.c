// SPDX-License-Identifier: ISC
/* A disk as messages to a VMM: its layers, the top one first, then what it is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disk.h"
#include "disk_limits.h"
#include "util/cleanup.h"
#include "util/msg.h"
#include "vmm.h"

static int tell(struct vmm *vmm, struct vmm_burst *burst, const struct vmm_layer *layer,
		const int *fds, size_t n_fds, const char *what, struct err *err)
{
	struct vmm_request rq = {.type = VMM_LAYER,
				 .data = layer,
				 .len = sizeof(*layer),
				 .fds = fds,
				 .n_fds = n_fds,
				 .timeout_ms = VMM_ORDER_MS};

	return burst ? vmm_burst_add(burst, &rq, what, err) : vmm_call(vmm, &rq, NULL, err);
}

static int tell_layers(struct vmm *vmm, struct vmm_burst *burst, struct disk_opened *o,
		       const char *what, struct err *err)
{
	static const enum vmm_layer_kind kinds[] = {
	    [IMAGE_RAW] = VMM_LAYER_RAW, [IMAGE_QCOW2] = VMM_LAYER_QCOW2};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < o->chain.images.n; i++) {
		const struct image_layer *l = &o->chain.images.layers[i];
		struct vmm_layer msg = {.kind = kinds[l->format], .has_data = l->data_fd >= 0};
		int fds[] = {l->fd, l->data_fd};

		r = tell(vmm, burst, &msg, fds, l->data_fd >= 0 ? 2 : 1, what, err);
	}
	if (r == 0 && o->chain.link.fd >= 0) {
		struct vmm_layer msg = {.kind = VMM_LAYER_NBD,
					.bytes = o->chain.link.bytes,
					.nbd_flags = o->chain.link.flags};

		r = tell(vmm, burst, &msg, &o->chain.link.fd, 1, what, err);
	}
	return r;
}

static unsigned n_layers(const struct disk_opened *o)
{
	return !o ? 0 : o->chain.images.n + (o->chain.link.fd >= 0);
}

static int tell_disk(struct vmm *vmm, struct vmm_burst *burst, enum vmm_msg_type type,
		     const struct vmm_disk *msg, const char *what, char words[VMM_TEXT_MAX],
		     struct err *err)
{
	struct vmm_reply reply = {.data = words, .room = words ? VMM_TEXT_MAX - 1 : 0};
	struct vmm_request rq = {
	    .type = type, .data = msg, .len = sizeof(*msg), .timeout_ms = VMM_ORDER_MS};
	int r;

	if (burst)
		return vmm_burst_add(burst, &rq, what, err);
	r = vmm_call(vmm, &rq, &reply, err);
	msg_close_fds(reply.fds, reply.n_fds);
	if (words)
		words[r == 0 ? reply.len : 0] = '\0';
	return r;
}

int vmm_disk_tell(struct vmm *vmm, enum vmm_msg_type type, const struct disk *d,
		  struct disk_opened *o, struct vmm_burst *burst, char words[VMM_TEXT_MAX],
		  struct err *err)
{
	char what[DISK_NAME_MAX + 8];
	struct vmm_disk msg = {.n_layers = n_layers(o),
			       .readonly = (uint32_t)d->values.readonly,
			       .queues = (uint32_t)d->values.queues,
			       .cache = (uint32_t)d->values.cache,
			       .on_error = (uint32_t)d->values.on_error};
	int r = disk_limits_parse(d->values.limits, &msg.limits, err);

	strcpy(msg.name, d->name);
	snprintf(msg.serial, sizeof(msg.serial), "%s", d->values.serial);
	snprintf(what, sizeof(what), "disk %s", d->name);
	if (r < 0 && burst)
		err_prefix(err, "%s", what);
	if (r == 0 && o)
		r = tell_layers(vmm, burst, o, what, err);
	if (r == 0)
		return tell_disk(vmm, burst, type, &msg, what, words, err);
	/* Layers that are there already go with a disk that is refused. */
	msg.n_layers = VMM_LAYERS_MAX + 1;
	vmm_post(vmm, VMM_DISK, &msg, sizeof(msg), NULL, 0);
	return r;
}

int vmm_disk_rebase(struct vmm *vmm, const char *name, unsigned keep, struct disk_opened *o,
		    struct err *err)
{
	struct vmm_disk_rebase msg = {.keep = keep, .n_layers = n_layers(o)};
	struct vmm_request rq = {
	    .type = VMM_DISK_REBASE, .data = &msg, .len = sizeof(msg), .timeout_ms = VMM_LOAD_MS};
	int r = tell_layers(vmm, NULL, o, "", err);

	snprintf(msg.name, sizeof(msg.name), "%s", name);
	if (r == 0)
		return vmm_call(vmm, &rq, NULL, err);
	msg.n_layers = VMM_LAYERS_MAX + 1; /* what has come goes with what is refused */
	vmm_post(vmm, VMM_DISK_REBASE, &msg, sizeof(msg), NULL, 0);
	return r;
}
