/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_VSOCK_H
#define FV_VMM_VIRTIO_VSOCK_H
/*
 * virtio-vsock (virtio 1.2 §5.10): stream sockets between the guest and unix sockets of the host.
 * All of it from the control thread.
 *
 * To the guest: each of its ports that somebody asked for has a listening unix socket, made by the
 * daemon; what connects there is connected to that port. From the guest: a connection to a port
 * of the host is asked of the daemon, which answers with a socket.
 */
#include "vmm/device.h"

#define VSOCK_LISTENERS_MAX 256

/* What the daemon asked for; it outlives resets of the machine. */
struct vsock_config {
	uint32_t cid;	  /* the guest's address */
	uint64_t last_id; /* of a connection that the guest asked for; the device's thread's */
	struct vsock_listener {
		uint32_t port; /* of the guest */
		int fd;	       /* listening, not blocking */
	} listeners[VSOCK_LISTENERS_MAX];
	unsigned n_listeners;
};

/* The guest wants to be connected to @port of the host. */
struct vsock_ask {
	uint64_t id;
	uint32_t port;
};

/* The device, or NULL. */
struct device *virtio_vsock_find(struct vm *vm);
/*
 * Connections to @fd, which is taken, go to the guest's @port from now on; with @dev NULL once
 * there is a device. One for the same port takes the place of the one before, whose connections
 * under way are taken first. -ENOSPC with words.
 */
int virtio_vsock_listen(struct vsock_config *config, struct device *dev, uint32_t port, int fd,
			struct err *err);
/* The next that the guest asks for; false: nothing. vm_wake() tells that there is one. */
bool virtio_vsock_next_ask(struct device *dev, struct vsock_ask *ask);
/* @fd, a connected stream socket, which is taken, or -errno: the guest is refused; with @id 0 in
 * all that it has asked for. */
void virtio_vsock_answer(struct device *dev, uint64_t id, int fd);
/* Closes the listeners, and frees it. NULL is fine. */
void virtio_vsock_config_free(struct vsock_config *config);

#endif
