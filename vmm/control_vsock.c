// SPDX-License-Identifier: ISC
/*
 * Requests about vsock: src/vmm_proto.h, VMM_VSOCK…. A connection that the guest asks for is asked
 * of the daemon; where there is none, or too many wait to be told, the guest is refused at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "util/cleanup.h"
#include "vmm/control_int.h"
#include "vmm/virtio_vsock.h"

_Static_assert(VMM_VSOCK_PORTS_MAX == VSOCK_LISTENERS_MAX, "ports of a guest");

static struct device *device(struct control *c)
{
	return c->has_vm ? virtio_vsock_find(&c->vm) : NULL;
}

int control_vsock_add(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_vsock m;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	if (m.cid < VMM_VSOCK_CID_MIN || m.cid > VMM_VSOCK_CID_MAX)
		return err_set(err, -ERANGE, "vsock: no address %u", m.cid);
	if (c->config.vsock || c->has_vm)
		return err_set(err, -EEXIST, "vsock: too late, or there is one already");
	c->config.vsock = calloc(1, sizeof(*c->config.vsock));
	if (!c->config.vsock)
		return err_set(err, -ENOMEM, "no memory");
	c->config.vsock->cid = m.cid;
	return 0;
}

static bool is_stream(int fd, bool listening)
{
	socklen_t len = sizeof(int);
	int type = 0, accepts = 0;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 &&
	       !!accepts == listening;
}

int control_vsock_listen(struct control *c, struct request *req, struct reply *reply,
			 struct err *err)
{
	struct vmm_vsock_port m;
	int flags = fcntl(req->fds[0], F_GETFL);

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	if (!c->config.vsock)
		return err_set(err, -ENODEV, "it has no vsock");
	if (m.port == UINT32_MAX || flags < 0 || !is_stream(req->fds[0], true))
		return err_set(err, -EINVAL, "vsock: no port, or no listening socket");
	if (fcntl(req->fds[0], F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set(err, -errno, "vsock: a listening socket");
	return virtio_vsock_listen(c->config.vsock, device(c), m.port, take_fd(&req->fds[0]), err);
}

int control_vsock_answer(struct control *c, struct request *req, struct reply *reply,
			 struct err *err)
{
	struct vmm_vsock_answer m;
	struct device *dev = device(c);

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	if (!dev)
		return err_set(err, -ENODEV, "it has no vsock");
	if (m.id && req->n_fds && m.error == 0 && is_stream(req->fds[0], false))
		virtio_vsock_answer(dev, m.id, take_fd(&req->fds[0]));
	else if (m.id)
		virtio_vsock_answer(dev, m.id, -ECONNREFUSED);
	return 0;
}

void control_vsock_look(struct control *c)
{
	struct device *dev = device(c);
	struct vsock_ask ask;

	while (dev && virtio_vsock_next_ask(dev, &ask)) {
		if (c->conn_fd < 0 || c->n_vsock_events == nitems(c->vsock_events))
			virtio_vsock_answer(dev, ask.id, -ECONNREFUSED);
		else
			c->vsock_events[c->n_vsock_events++] =
			    (struct vmm_vsock_event){.id = ask.id, .port = ask.port};
	}
}

void control_vsock_drop(struct control *c)
{
	struct device *dev = device(c);

	c->n_vsock_events = 0;
	if (dev)
		virtio_vsock_answer(dev, 0, -ECONNREFUSED);
}

void control_vsock_close(struct control *c)
{
	virtio_vsock_config_free(take_ptr(c->config.vsock));
}
