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

static int tell(struct vmm *vmm, enum vmm_msg_type type, const void *data, size_t len,
		const int *fds, size_t n_fds, struct cancel *cancel, struct err *err)
{
	struct vmm_request rq = {.type = type,
				 .data = data,
				 .len = len,
				 .fds = fds,
				 .n_fds = n_fds,
				 .timeout_ms = VMM_ORDER_MS,
				 .cancel = cancel};

	return vmm_call(vmm, &rq, NULL, err);
}

static int tell_layers(struct vmm *vmm, struct disk_opened *o, struct cancel *cancel,
		       struct err *err)
{
	static const enum vmm_layer_kind kinds[] = {
	    [IMAGE_RAW] = VMM_LAYER_RAW, [IMAGE_QCOW2] = VMM_LAYER_QCOW2};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < o->chain.images.n; i++) {
		const struct image_layer *l = &o->chain.images.layers[i];
		struct vmm_layer msg = {.kind = kinds[l->format], .has_data = l->data_fd >= 0};
		int fds[] = {l->fd, l->data_fd};

		r = tell(vmm, VMM_LAYER, &msg, sizeof(msg), fds, l->data_fd >= 0 ? 2 : 1, cancel,
			 err);
	}
	if (r == 0 && o->chain.link.fd >= 0) {
		struct vmm_layer msg = {.kind = VMM_LAYER_NBD,
					.bytes = o->chain.link.bytes,
					.nbd_flags = o->chain.link.flags};

		r = tell(vmm, VMM_LAYER, &msg, sizeof(msg), &o->chain.link.fd, 1, cancel, err);
	}
	return r;
}

static unsigned n_layers(const struct disk_opened *o)
{
	return !o ? 0 : o->chain.images.n + (o->chain.link.fd >= 0);
}

static int tell_disk(struct vmm *vmm, enum vmm_msg_type type, const struct vmm_disk *msg,
		     struct cancel *cancel, char words[VMM_TEXT_MAX], struct err *err)
{
	struct vmm_reply reply = {.data = words, .room = words ? VMM_TEXT_MAX - 1 : 0};
	struct vmm_request rq = {.type = type,
				 .data = msg,
				 .len = sizeof(*msg),
				 .timeout_ms = VMM_ORDER_MS,
				 .cancel = cancel};
	int r = vmm_call(vmm, &rq, &reply, err);

	msg_close_fds(reply.fds, reply.n_fds);
	if (words)
		words[r == 0 ? reply.len : 0] = '\0';
	return r;
}

int vmm_disk_tell(struct vmm *vmm, enum vmm_msg_type type, const struct disk *d,
		  struct disk_opened *o, struct cancel *cancel, char words[VMM_TEXT_MAX],
		  struct err *err)
{
	struct vmm_disk msg = {.n_layers = n_layers(o),
			       .readonly = (uint32_t)d->values.readonly,
			       .queues = (uint32_t)d->values.queues,
			       .cache = (uint32_t)d->values.cache,
			       .on_error = (uint32_t)d->values.on_error};
	int r = disk_limits_parse(d->values.limits, &msg.limits, err);

	strcpy(msg.name, d->name);
	snprintf(msg.serial, sizeof(msg.serial), "%s", d->values.serial);
	if (r == 0 && o)
		r = tell_layers(vmm, o, cancel, err);
	if (r == 0)
		return tell_disk(vmm, type, &msg, cancel, words, err);
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
	int r = tell_layers(vmm, o, NULL, err);

	snprintf(msg.name, sizeof(msg.name), "%s", name);
	if (r == 0)
		return vmm_call(vmm, &rq, NULL, err);
	msg.n_layers = VMM_LAYERS_MAX + 1; /* what has come goes with what is refused */
	vmm_post(vmm, VMM_DISK_REBASE, &msg, sizeof(msg), NULL, 0);
	return r;
}
