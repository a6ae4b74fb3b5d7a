// SPDX-License-Identifier: ISC
/*
 * virtio-vsock (virtio 1.2 §5.10): the device as the driver finds it, its thread, and what control
 * asks of it. Connections: virtio_vsock_conn.c; packets: virtio_vsock_tx.c, virtio_vsock_rx.c.
 *
 * Connections are the host's as much as the guest's, so a state has none of them: a guest that goes
 * on elsewhere, or later, is told that its transport was reset (§5.10.6.7), closes what it had, and
 * looks at its address again, which is another one in a clone. Until it has taken that event,
 * nobody is let in. The machine that a live snapshot was taken of keeps its connections.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "util/cleanup.h"
#include "vmm/pci.h"
#include "vmm/state.h"
#include "vmm/virtio_vsock_int.h"

#define CLASS_CODE 0x078000 /* communication controller, other */
#define BATCH	   32

static struct vsock *vsock_of(void *member, size_t offset)
{
	return (struct vsock *)((char *)member - offset);
}

/* --- queues --------------------------------------------------------------------------------- */

/* §5.10.6.7: its connections are no more. */
static void tell_reset(struct vsock *v, struct virtio_queue *queue)
{
	const struct virtio_vsock_event event = {htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)};
	struct virtqueue_chain chain;

	do {
		if (!v->reset_pending || virtio_pop(queue, v->iov, &chain) < 0)
			continue;
		if (chain.in_bytes < sizeof(event)) {
			virtio_queue_fail(queue, "a buffer that holds no event");
			virtqueue_unpop(&queue->ring);
			return;
		}
		virtqueue_chain_write(&chain, &event, sizeof(event));
		virtqueue_push(&queue->ring, chain.head, sizeof(event));
		v->reset_pending = false;
	} while (v->reset_pending && virtio_notify_on(queue));
	virtio_publish(queue);
	if (!v->reset_pending)
		virtio_kick(&v->virtio.queues[VSOCK_RX]);
}

static void vsock_notify(struct virtio_queue *queue)
{
	struct vsock *v = (struct vsock *)queue->dev;
	struct virtio_queue *event = &v->virtio.queues[VSOCK_EVENT];

	/* Before it hears anything else. */
	if (v->reset_pending && queue != event && virtio_queue_live(event))
		virtio_serve(event);
	if (queue == event) {
		if (v->reset_pending)
			tell_reset(v, queue);
	} else if (queue->index == VSOCK_TX) {
		vsock_transmit(v, queue);
		virtio_publish(queue);
		if (vsock_has_work(v) && virtio_queue_live(&v->virtio.queues[VSOCK_RX]))
			virtio_serve(&v->virtio.queues[VSOCK_RX]);
	} else {
		vsock_accept(v);
		vsock_receive(v, queue);
		virtio_publish(queue);
	}
}

/* Sockets have told of something, or a connection has something to say. On the lane. */
static void look(struct vsock *v)
{
	if (virtio_queue_live(&v->virtio.queues[VSOCK_RX]))
		virtio_serve(&v->virtio.queues[VSOCK_RX]);
	else
		vsock_accept(v);
}

/* A pause leaves connections as they are; without its driver there are none. */
static void vsock_drain(struct virtio_lane *lane)
{
	struct vsock *v = (struct vsock *)lane->dev;

	if (lane->active)
		return;
	vsock_conn_free_all(v);
	v->reset_pending = false;
}

static const struct virtio_ops vsock_ops = {.notify = vsock_notify, .drain = vsock_drain};

/* --- sockets and time ----------------------------------------------------------------------- */

/* A batch at a time: where there is more, the thread comes again. */
static void sockets_ready(struct iothread_source *source)
{
	struct vsock *v = vsock_of(source, offsetof(struct vsock, sockets));
	struct epoll_event events[BATCH];
	int n = epoll_wait(source->fd, events, BATCH, 0);

	/* Each source is in a batch but once, and only it itself may be gone after its turn. */
	for (int i = 0; i < n; i++) {
		struct vsock_source *s = events[i].data.ptr;

		s->ready(v, s, events[i].events);
	}
	look(v);
}

void vsock_time(struct vsock *v)
{
	const struct itimerspec each_second = {{1, 0}, {1, 0}};

	if (!v->timing)
		timerfd_settime(v->timer.fd, 0, &each_second, NULL);
	v->timing = true;
}

/* Seconds in which the guest stands still do not count. */
static void second_over(struct iothread_source *source)
{
	struct vsock *v = vsock_of(source, offsetof(struct vsock, timer));
	bool wanted = v->starved;
	struct vsock_conn *next;
	uint64_t expirations;

	if (read(source->fd, &expirations, sizeof(expirations)) < 0)
		return;
	for (struct vsock_conn *c = v->all; c; c = next) {
		next = c->next;
		if (!c->seconds_left)
			continue;
		wanted = true;
		if (vsock_live(v) && --c->seconds_left == 0)
			vsock_conn_abort(v, c);
	}
	if (!wanted) {
		timerfd_settime(v->timer.fd, 0, &(struct itimerspec){0}, NULL);
		v->timing = false;
	}
	look(v);
}

/* --- what control asks ---------------------------------------------------------------------- */

bool vsock_ask(struct vsock *v, struct vsock_conn *c)
{
	LOCK_SCOPE(&v->asks_lock);
	if (v->n_asks == VSOCK_ASKS_MAX)
		return false;
	c->ask_id = ++v->boot->last_id;
	v->asks[v->n_asks++] = (struct vsock_ask){.id = c->ask_id, .port = c->host_port};
	vm_wake(v->virtio.dev.vm);
	return true;
}

bool virtio_vsock_next_ask(struct device *dev, struct vsock_ask *ask)
{
	struct vsock *v = (struct vsock *)dev;

	LOCK_SCOPE(&v->asks_lock);
	if (!v->n_asks)
		return false;
	*ask = v->asks[0];
	memmove(v->asks, v->asks + 1, --v->n_asks * sizeof(v->asks[0]));
	return true;
}

struct answer {
	struct vsock *v;
	uint64_t id;
	int fd;
};

static void answer_one(struct vsock *v, struct vsock_conn *c, struct answer *a)
{
	if (a->fd >= 0 && vsock_conn_connect(v, c, take_fd(&a->fd))) {
		vsock_conn_say(v, c, SAY_RESPONSE);
		return;
	}
	stats_add(v->refused, 1);
	vsock_conn_abort(v, c);
}

/* One that the guest wants no more is not found. */
static void take_answer(void *arg)
{
	struct answer *a = arg;
	struct vsock *v = a->v;
	struct vsock_conn *next;

	for (struct vsock_conn *c = v->all; c; c = next) {
		next = c->next;
		if (c->state == VSOCK_ASKED && (c->ask_id == a->id || !a->id))
			answer_one(v, c, a);
	}
	look(v);
}

void virtio_vsock_answer(struct device *dev, uint64_t id, int fd)
{
	struct answer a = {.v = (struct vsock *)dev, .id = id, .fd = fd};

	iothread_call(a.v->thread, take_answer, &a);
	if (a.fd >= 0)
		close(a.fd);
}

struct door_change {
	struct vsock *v;
	unsigned n;
	int result;
};

static void change_door(void *arg)
{
	struct door_change *change = arg;

	change->result = vsock_door_open(change->v, change->n);
	look(change->v);
}

int virtio_vsock_listen(struct vsock_config *config, struct device *dev, uint32_t port, int fd,
			struct err *err)
{
	struct door_change change = {.v = (struct vsock *)dev};
	struct vsock_listener old = {.fd = -1};
	unsigned i = 0;

	while (i < config->n_listeners && config->listeners[i].port != port)
		i++;
	if (i == nitems(config->listeners)) {
		close(fd);
		return err_set(err, -ENOSPC, "more than %d ports", VSOCK_LISTENERS_MAX);
	}
	if (i == config->n_listeners)
		config->n_listeners++;
	else
		old = config->listeners[i];
	config->listeners[i] = (struct vsock_listener){port, fd};
	change.n = i;
	if (dev)
		iothread_call(change.v->thread, change_door, &change);
	if (old.fd >= 0)
		close(old.fd);
	if (change.result < 0)
		return err_set(err, change.result, "port %u: cannot wait for connections", port);
	return 0;
}

void virtio_vsock_config_free(struct vsock_config *config)
{
	for (unsigned i = 0; config && i < config->n_listeners; i++)
		close(config->listeners[i].fd);
	free(config);
}

struct device *virtio_vsock_find(struct vm *vm)
{
	return device_find(vm, &virtio_vsock_device);
}

/* --- saved and loaded ----------------------------------------------------------------------- */

/* While its lane is paused. */
static void vsock_state(struct device *device, struct state *st)
{
	struct vsock *v = (struct vsock *)device;
	bool told = !v->reset_pending;

	state_bool(st, &told);
	virtio_state(device, st);
	if (state_loading(st))
		v->reset_pending = v->virtio.active;
}

/* --- making it ------------------------------------------------------------------------------ */

static void unwatch(void *arg)
{
	struct vsock *v = arg;

	iothread_remove(v->thread, &v->sockets);
	iothread_remove(v->thread, &v->timer);
}

static void free_all(struct vsock *v)
{
	iothread_free(v->thread);
	if (v->sockets.fd >= 0)
		close(v->sockets.fd);
	if (v->timer.fd >= 0)
		close(v->timer.fd);
	pthread_mutex_destroy(&v->asks_lock);
	free(v);
}

static void vsock_destroy(struct device *device)
{
	struct vsock *v = (struct vsock *)device;

	iothread_call(v->thread, unwatch, v);
	virtio_fini(&v->virtio);
	free_all(v);
}

static struct vsock *vsock_new(struct vm *vm)
{
	struct vsock *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->virtio.dev.vm = vm;
	v->boot = vm->config->vsock;
	v->config.guest_cid = htole64(v->boot->cid);
	v->virtio.config = &v->config;
	v->virtio.config_len = sizeof(v->config);
	v->sockets = (struct iothread_source){-1, sockets_ready};
	v->timer = (struct iothread_source){-1, second_over};
	pthread_mutex_init(&v->asks_lock, NULL);
	v->n_open = stats_counter(vm->stats, "vsock.connections");
	v->accepted = stats_counter(vm->stats, "vsock.from_host");
	v->asked = stats_counter(vm->stats, "vsock.from_guest");
	v->refused = stats_counter(vm->stats, "vsock.refused");
	v->bytes_in = stats_counter(vm->stats, "vsock.rx_bytes");
	v->bytes_out = stats_counter(vm->stats, "vsock.tx_bytes");
	return v;
}

static int make(struct vsock *v, struct err *err)
{
	int r = 0;

	v->sockets.fd = epoll_create1(EPOLL_CLOEXEC);
	v->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (v->sockets.fd < 0 || v->timer.fd < 0)
		return err_set(err, -errno, "no descriptors");
	for (unsigned i = 0; r == 0 && i < v->boot->n_listeners; i++)
		r = vsock_door_open(v, i);
	if (r < 0)
		return err_set(err, r, "cannot wait for connections");
	r = iothread_new(&v->thread, "vsock", err);
	if (r < 0)
		return r;
	return virtio_init(&v->virtio, v->virtio.dev.vm, &vsock_ops, VIRTIO_ID_VSOCK, VSOCK_QUEUES,
			   VSOCK_QUEUE_SIZE, VSOCK_CHAIN_MAX, &v->thread, 1, "vsock", err);
}

/* What only its thread touches is not to be touched any more when this returns an error. */
static int watch(struct vsock *v, struct err *err)
{
	int r = virtio_pci_plug(&v->virtio, PCI_SLOT_VSOCK, CLASS_CODE, err);

	if (r < 0)
		return r;
	r = iothread_add(v->thread, &v->sockets, false);
	if (r == 0)
		r = iothread_add(v->thread, &v->timer, false);
	return r < 0 ? err_set(err, r, "cannot wait for sockets") : 0;
}

static int vsock_create(struct vm *vm, struct err *err)
{
	struct vsock *v;
	int r;

	if (!vm->config->vsock)
		return 0;
	v = vsock_new(vm);
	if (!v)
		return err_set(err, -ENOMEM, "vsock: no memory");
	r = make(v, err);
	if (r < 0) {
		free_all(v);
		return err_prefix(err, "vsock");
	}
	r = watch(v, err);
	if (r < 0) {
		vsock_destroy(&v->virtio.dev);
		return err_prefix(err, "vsock");
	}
	device_add(vm, &v->virtio.dev, &virtio_vsock_device, "vsock");
	return 0;
}

const struct device_ops virtio_vsock_device = {
    .name = "vsock",
    .create = vsock_create,
    .destroy = vsock_destroy,
    .pause = virtio_pause,
    .resume = virtio_resume,
    .state_version = 1,
    .state = vsock_state,
};
