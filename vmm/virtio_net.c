// SPDX-License-Identifier: ISC
/*
 * virtio-net (virtio 1.2 §5.1): the card as the driver finds it, and what may be changed
 * of it while the guest runs. Frames: virtio_net_io.c.
 *
 * A pair of queues has a thread, up to THREADS_MAX of them. A receive queue waits for its port
 * by edges: what came while its lane stood still is seen when that looks again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>

#include "util/cleanup.h"
#include "vmm/pci.h"
#include "vmm/virtio_net_int.h"

#define CLASS_CODE   0x020000 /* Ethernet controller */
#define THREADS_MAX  4
#define STATS_PREFIX 42 /* with its NUL; counters have 55 bytes, 14 for ".notifications" */
#define BIT(n)	     (1ull << (n))

/* --- queues --------------------------------------------------------------------------------- */

/* The control queue's place depends on whether the driver knows of more pairs (§5.1.2). */
static bool is_control(const struct nic *nic, unsigned index)
{
	return index == (virtio_negotiated(&nic->virtio, VIRTIO_NET_F_MQ) ? 2 * nic->n_pairs : 2);
}

static void nic_notify(struct virtio_queue *queue)
{
	struct nic *nic = (struct nic *)queue->dev;

	if (is_control(nic, queue->index))
		nic_control(nic, queue);
	else if (queue->index >= 2 * nic->n_pairs)
		return; /* the control queue's place for a driver that knows of more pairs */
	else if (queue->index % 2)
		nic_transmit(&nic->tx[queue->index / 2]);
	else
		nic_receive(&nic->rx[queue->index / 2]);
	virtio_publish(queue);
}

static void nic_drain(struct virtio_lane *lane)
{
	struct nic *nic = (struct nic *)lane->dev;

	for (unsigned i = lane->first; i < lane->first + lane->n; i++)
		if (i % 2 == 0 && i < 2 * nic->n_pairs)
			nic_rx_drain(&nic->rx[i / 2]);
}

static void serve(struct virtio_queue *queue)
{
	if (virtio_queue_live(queue) && !is_control((struct nic *)queue->dev, queue->index))
		virtio_serve(queue);
}

static void frame_came(struct iothread_source *source)
{
	serve(((struct nic_rx *)((char *)source - offsetof(struct nic_rx, port)))->queue);
}

static void drain_timer(const struct iothread_source *source)
{
	uint64_t expirations;

	if (read(source->fd, &expirations, sizeof(expirations)) < 0)
		return; /* it was set anew meanwhile */
}

static void rx_time(struct iothread_source *source)
{
	drain_timer(source);
	serve(((struct nic_rx *)((char *)source - offsetof(struct nic_rx, timer)))->queue);
}

static void tx_time(struct iothread_source *source)
{
	drain_timer(source);
	serve(((struct nic_tx *)((char *)source - offsetof(struct nic_tx, timer)))->queue);
}

/* --- the driver comes and goes ---------------------------------------------------------------- */

/* Under virtio.lock, both. */
static void nic_activated(struct virtio_device *dev)
{
	struct nic *nic = (struct nic *)dev;

	nic_set_offloads(nic, nic_guest_offloads(dev->accepted));
}

static void nic_reset(struct virtio_device *dev)
{
	struct nic *nic = (struct nic *)dev;

	nic_set_offloads(nic, 0);
	net_port_set_active(nic->port, 1);
	nic->config.status &= ~VIRTIO_NET_S_ANNOUNCE;
	LOCK_SCOPE(&nic->filter_lock);
	net_filter_reset(&nic->filter, nic->boot->mac);
}

static const struct virtio_ops nic_ops = {
    .notify = nic_notify,
    .drain = nic_drain,
    .activated = nic_activated,
    .reset = nic_reset,
};

/* --- live changes ----------------------------------------------------------------------------- */

/* Under virtio.lock: the configuration is another one (§2.5). */
static void config_changed(struct nic *nic)
{
	nic->virtio.generation++;
	if (nic->virtio.status & VIRTIO_CONFIG_S_DRIVER_OK && nic->virtio.transport)
		nic->virtio.transport->interrupt_config(&nic->virtio);
}

void virtio_net_set_link(struct device *dev, bool up)
{
	struct nic *nic = (struct nic *)dev;

	LOCK_SCOPE(&nic->virtio.lock);
	up = up && !nic->stranger;
	if (up == !!(nic->config.status & VIRTIO_NET_S_LINK_UP))
		return;
	__atomic_store_n(&nic->link, up, __ATOMIC_RELAXED);
	nic->config.status ^= VIRTIO_NET_S_LINK_UP;
	config_changed(nic);
}

bool virtio_net_is_stranger(struct device *dev)
{
	struct nic *nic = (struct nic *)dev;

	LOCK_SCOPE(&nic->virtio.lock);
	return nic->stranger;
}

void virtio_net_cut(struct device *dev)
{
	struct nic *nic = (struct nic *)dev;

	LOCK_SCOPE(&nic->virtio.lock);
	__atomic_store_n(&nic->link, false, __ATOMIC_RELAXED);
	nic->config.status &= (uint16_t)~VIRTIO_NET_S_LINK_UP;
	config_changed(nic);
}

void virtio_net_announce(struct device *dev)
{
	struct nic *nic = (struct nic *)dev;

	LOCK_SCOPE(&nic->virtio.lock);
	if (!virtio_negotiated(&nic->virtio, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return;
	nic->config.status |= VIRTIO_NET_S_ANNOUNCE;
	config_changed(nic);
}

void virtio_net_set_limits(struct device *dev, const struct nic_limits *limits)
{
	struct nic *nic = (struct nic *)dev;

	for (unsigned i = 0; i < NIC_DIRECTIONS; i++)
		nic_pace_set(&nic->pace[i], &limits->frames[i], &limits->bytes[i]);
	/* Who waits for a slower rate's moment looks again. */
	for (unsigned i = 0; i < 2 * nic->n_pairs; i++)
		virtio_kick(&nic->virtio.queues[i]);
}

struct device *virtio_net_find(struct vm *vm, const char *name)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops == &virtio_net_device &&
		    strcmp(((struct nic *)dev)->boot->name, name) == 0)
			return dev;
	return NULL;
}

/* --- making it -------------------------------------------------------------------------------- */

static void describe(struct nic *nic)
{
	const struct nic_config *boot = nic->boot;
	unsigned send = nic->port->can_send, receive = nic->port->can_receive;
	uint64_t offered = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
			   BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_CTRL_VQ) |
			   BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |
			   BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			   BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);

	offered |= send & NET_CSUM ? BIT(VIRTIO_NET_F_CSUM) : 0;
	offered |= send & NET_TSO4 ? BIT(VIRTIO_NET_F_HOST_TSO4) : 0;
	offered |= send & NET_TSO6 ? BIT(VIRTIO_NET_F_HOST_TSO6) : 0;
	offered |= send & NET_ECN ? BIT(VIRTIO_NET_F_HOST_ECN) : 0;
	offered |= send & NET_USO ? BIT(F_HOST_USO) : 0;
	offered |= receive & NET_CSUM
		       ? BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
		       : 0;
	offered |= receive & NET_TSO4 ? BIT(VIRTIO_NET_F_GUEST_TSO4) : 0;
	offered |= receive & NET_TSO6 ? BIT(VIRTIO_NET_F_GUEST_TSO6) : 0;
	offered |= receive & NET_ECN ? BIT(VIRTIO_NET_F_GUEST_ECN) : 0;
	offered |= receive & NET_USO ? BIT(F_GUEST_USO4) | BIT(F_GUEST_USO6) : 0;
	offered |= boot->mtu ? BIT(VIRTIO_NET_F_MTU) : 0;
	offered |= nic->n_pairs > 1 ? BIT(VIRTIO_NET_F_MQ) : 0;
	nic->virtio.offered = offered;
	memcpy(nic->config.mac, boot->mac, sizeof(nic->config.mac));
	nic->config.status = boot->link ? VIRTIO_NET_S_LINK_UP : 0;
	nic->config.max_virtqueue_pairs = (uint16_t)nic->n_pairs;
	nic->config.mtu = boot->mtu;
	nic->virtio.config = &nic->config;
	nic->virtio.config_len = offsetof(struct virtio_net_config, speed);
	nic->link = boot->link;
	net_filter_reset(&nic->filter, boot->mac);
}

static const char *const counters[NIC_DIRECTIONS][NIC_STATS] = {
    [NIC_TO_GUEST] = {"rx_packets", "rx_bytes", "rx_dropped"},
    [NIC_FROM_GUEST] = {"tx_packets", "tx_bytes", "tx_dropped"},
};

static void make_counters(struct nic *nic, const char *prefix)
{
	for (unsigned d = 0; d < NIC_DIRECTIONS; d++)
		for (unsigned i = 0; i < NIC_STATS; i++)
			nic->stats[d][i] = stats_counter(nic->virtio.dev.vm->stats, "%s.%s", prefix,
							 counters[d][i]);
}

static int new_timer(struct iothread_source *timer, void (*ready)(struct iothread_source *))
{
	timer->ready = ready;
	timer->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return timer->fd < 0 ? -errno : 0;
}

static int make_pairs(struct nic *nic, struct err *err)
{
	char name[32];
	int r = 0;

	for (unsigned i = 0; i < NET_QUEUES_MAX; i++)
		nic->rx[i].timer.fd = nic->tx[i].timer.fd = -1;
	for (unsigned i = 0; r == 0 && i < nic->n_pairs; i++) {
		nic->rx[i].nic = nic->tx[i].nic = nic;
		nic->rx[i].frame = malloc(NET_BUFFER_MAX);
		nic->rx[i].port =
		    (struct iothread_source){.fd = net_port_fd(nic->port, i), .ready = frame_came};
		r = nic->rx[i].frame ? new_timer(&nic->rx[i].timer, rx_time) : -ENOMEM;
		if (r == 0)
			r = new_timer(&nic->tx[i].timer, tx_time);
	}
	if (r < 0)
		return err_set(err, r, "cannot make queues");
	for (unsigned i = 0; r == 0 && i < nic->n_pairs && i < THREADS_MAX; i++) {
		snprintf(name, sizeof(name), "net/%u.%.15s", i, nic->boot->name);
		r = iothread_new(&nic->threads[i], name, err);
		if (r == 0)
			nic->n_threads++;
	}
	return r;
}

/* Each source is its queue's thread's. */
static int watch(struct nic *nic)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < nic->n_pairs; i++) {
		struct nic_rx *rx = &nic->rx[i];
		struct nic_tx *tx = &nic->tx[i];

		rx->queue = &nic->virtio.queues[2 * i];
		tx->queue = &nic->virtio.queues[2 * i + 1];
		r = iothread_add(rx->queue->lane->thread, &rx->port, true);
		if (r == 0)
			r = iothread_add(rx->queue->lane->thread, &rx->timer, false);
		if (r == 0)
			r = iothread_add(tx->queue->lane->thread, &tx->timer, false);
	}
	return r;
}

static void unwatch_lane(void *arg)
{
	struct virtio_lane *lane = arg;
	struct nic *nic = (struct nic *)lane->dev;

	for (unsigned i = lane->first; i < lane->first + lane->n; i++) {
		if (i >= 2 * nic->n_pairs)
			continue;
		if (i % 2) {
			iothread_remove(lane->thread, &nic->tx[i / 2].timer);
		} else {
			iothread_remove(lane->thread, &nic->rx[i / 2].port);
			iothread_remove(lane->thread, &nic->rx[i / 2].timer);
		}
	}
}

static void nic_free(struct nic *nic)
{
	for (unsigned i = 0; i < nic->n_threads; i++)
		iothread_free(nic->threads[i]);
	for (unsigned i = 0; i < nic->n_pairs; i++) {
		free(nic->rx[i].frame);
		if (nic->rx[i].timer.fd >= 0)
			close(nic->rx[i].timer.fd);
		if (nic->tx[i].timer.fd >= 0)
			close(nic->tx[i].timer.fd);
	}
	nic_capture_end(&nic->capture);
	net_port_close(nic->port);
	for (unsigned i = 0; i < NIC_DIRECTIONS; i++)
		pthread_mutex_destroy(&nic->pace[i].lock);
	pthread_mutex_destroy(&nic->capture.lock);
	pthread_mutex_destroy(&nic->addresses.lock);
	pthread_mutex_destroy(&nic->filter_lock);
	free(nic);
}

static void nic_destroy(struct device *device)
{
	struct nic *nic = (struct nic *)device;

	for (unsigned i = 0; i < nic->virtio.n_lanes; i++)
		iothread_call(nic->virtio.lanes[i].thread, unwatch_lane, &nic->virtio.lanes[i]);
	virtio_fini(&nic->virtio);
	nic_free(nic);
}

static struct nic *nic_new(struct vm *vm, const struct nic_config *config)
{
	struct nic *nic = calloc(1, sizeof(*nic));

	if (!nic)
		return NULL;
	nic->virtio.dev.vm = vm;
	nic->boot = config;
	nic->capture.fd = -1;
	pthread_mutex_init(&nic->filter_lock, NULL);
	pthread_mutex_init(&nic->capture.lock, NULL);
	nic_addresses_init(&nic->addresses);
	for (unsigned i = 0; i < NIC_DIRECTIONS; i++) {
		pthread_mutex_init(&nic->pace[i].lock, NULL);
		nic_pace_set(&nic->pace[i], &config->limits.frames[i], &config->limits.bytes[i]);
	}
	return nic;
}

static int make(struct nic *nic, struct err *err)
{
	char prefix[STATS_PREFIX];
	int r = nic_port_open(&nic->boot->cable, NULL, &nic->port, err);

	if (r < 0)
		return r;
	nic->n_pairs = nic->port->n_queues;
	snprintf(prefix, sizeof(prefix), "nic.%.*s", STATS_PREFIX - 5, nic->boot->name);
	make_counters(nic, prefix);
	describe(nic);
	net_port_set_active(nic->port, 1);
	r = make_pairs(nic, err);
	if (r < 0)
		return r;
	return virtio_init(&nic->virtio, nic->virtio.dev.vm, &nic_ops, VIRTIO_ID_NET,
			   2 * nic->n_pairs + 1, NIC_QUEUE_SIZE, NIC_CHAIN_MAX, nic->threads,
			   nic->n_threads, prefix, err);
}

int virtio_net_attach(struct vm *vm, const struct nic_config *config, unsigned slot,
		      struct err *err)
{
	struct nic *nic = nic_new(vm, config);
	char name[VMM_NAME_MAX];
	int r;

	if (!nic)
		return err_set(err, -ENOMEM, "no memory");
	r = make(nic, err);
	if (r < 0) {
		nic_free(nic);
		return err_prefix(err, "nic %s", config->name);
	}
	r = watch(nic);
	if (r < 0)
		err_set(err, r, "cannot wait for frames");
	else
		r = virtio_pci_plug(&nic->virtio, slot, CLASS_CODE, err);
	if (r < 0) {
		nic_destroy(&nic->virtio.dev);
		return err_prefix(err, "nic %s", config->name);
	}
	snprintf(name, sizeof(name), "nic.%.*s", (int)sizeof(name) - 5, config->name);
	device_add(vm, &nic->virtio.dev, &virtio_net_device, name);
	return 0;
}

static int nic_create(struct vm *vm, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < nitems(vm->config->nics); i++)
		if (vm->config->nics[i])
			r = virtio_net_attach(vm, vm->config->nics[i], PCI_SLOT_NICS - i, err);
	return r;
}

const struct device_ops virtio_net_device = {
    .name = "nic",
    .create = nic_create,
    .destroy = nic_destroy,
    .pause = virtio_pause,
    .resume = virtio_resume,
    .state_version = 1,
    .state = nic_state,
};
