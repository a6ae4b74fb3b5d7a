/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_NET_INT_H
#define FV_VMM_VIRTIO_NET_INT_H
/*
 * Inside virtio-net: the device (virtio_net.c), its data path (virtio_net_io.c), the control
 * queue (virtio_net_ctrl.c), capture (virtio_net_capture.c).
 *
 * Queues are rx0 tx0 rx1 tx1 … and the control queue. Each is served on its lane; the
 * halves of a pair share nothing but counters, so they need not be on one lane.
 */
#include <linux/virtio_net.h>

#include "net/bucket.h"
#include "net/sender.h"
#include "vmm/virtio.h"
#include "vmm/virtio_net.h"

/* Not in <linux/virtio_net.h> of Debian 12 (virtio 1.2 §5.1.3). */
enum { F_GUEST_USO4 = 54, F_GUEST_USO6 = 55, F_HOST_USO = 56 };

#define NIC_QUEUE_SIZE 256
#define NIC_CHAIN_MAX  128
#define NIC_MERGE_MAX  NIC_QUEUE_SIZE /* buffers of one frame */

struct nic;

struct nic_used {
	uint16_t head;
	uint32_t len;
};

/* A receive queue's; its lane's alone. */
struct nic_rx {
	struct nic *nic;
	struct virtio_queue *queue;
	struct iothread_source port;  /* a frame has come */
	struct iothread_source timer; /* a limit lets it go on */
	uint8_t *frame;	 /* NET_BUFFER_MAX bytes: what of a frame is in no buffer yet */
	size_t expected; /* how long the last one was */
	size_t len;	 /* of the frame that waits for buffers, with its header; 0: none */
	size_t spilt_at; /* its byte that ->frame begins with */
	/* what of it went into buffers already, until all of it has */
	size_t done;
	uint8_t *count[2]; /* the two bytes of num_buffers in the first of them */
	struct nic_used held[NIC_MERGE_MAX];
	unsigned n_held;
	struct iovec iov[2 * NIC_CHAIN_MAX]; /* of a frame: NIC_CHAIN_MAX, and ->frame */
};

struct nic_tx {
	struct nic *nic;
	struct virtio_queue *queue;
	struct iothread_source timer;
	struct iovec iov[NIC_CHAIN_MAX];
};

/* Of one direction, over all queues. */
struct nic_pace {
	pthread_mutex_t lock;
	struct net_bucket frames, bytes;
	bool limited; /* atomic: either has a rate */
};

struct nic_capture {
	pthread_mutex_t lock;
	bool on; /* atomic */
	int fd;
	uint64_t left; /* bytes that may yet be written */
};

/* Said to be the guest's. */
struct nic_address {
	struct net_sender sender;
	uint64_t heard_ns; /* last */
	bool latest;	   /* of its family, as the daemon is to have it */
	bool told;
};

#define NIC_ADDRESSES_MAX 16

struct nic_addresses {
	pthread_mutex_t lock;
	struct nic_address list[NIC_ADDRESSES_MAX];
	unsigned n;
	struct net_bucket pace; /* of what is told */
};

enum { NIC_FRAMES, NIC_BYTES, NIC_DROPPED, NIC_STATS };

struct nic {
	struct virtio_device virtio;
	const struct nic_config *boot; /* as it was asked for */
	struct net_port *port;
	struct virtio_net_config config;
	unsigned n_pairs, n_threads;
	struct iothread *threads[NET_QUEUES_MAX];
	struct nic_rx rx[NET_QUEUES_MAX];
	struct nic_tx tx[NET_QUEUES_MAX];
	struct iovec ctrl_iov[NIC_CHAIN_MAX];
	bool link;     /* atomic */
	bool stranger; /* the guest knows it by the address of the card whose state this was */
	unsigned
	    offloads; /* NET_…: what the driver takes off the port's hands; the control lane's */
	pthread_mutex_t filter_lock;
	struct net_filter filter;
	struct nic_pace pace[NIC_DIRECTIONS];
	struct nic_capture capture;
	struct nic_addresses addresses;
	uint64_t *stats[NIC_DIRECTIONS][NIC_STATS];
};

/* --- virtio_net_io.c ------------------------------------------------------------------------ */

void nic_receive(struct nic_rx *rx);
void nic_transmit(struct nic_tx *tx);
/* Gives buffers back that a frame has only begun to fill; the frame is lost. */
void nic_rx_drain(struct nic_rx *rx);
void nic_pace_set(struct nic_pace *pace, const struct nic_rate *frames,
		  const struct nic_rate *bytes);

/* --- virtio_net_ctrl.c ---------------------------------------------------------------------- */

void nic_control(struct nic *nic, struct virtio_queue *queue);
/* NET_… of the features GUEST_…. */
unsigned nic_guest_offloads(uint64_t features);
int nic_set_offloads(struct nic *nic, unsigned offloads);

/* --- virtio_net_state.c: device_ops.state ----------------------------------------------------- */

struct state;
void nic_state(struct device *device, struct state *state);

/* --- virtio_net_cable.c --------------------------------------------------------------------- */

/* @like: what a cable that leads nowhere is to be like; NULL: such a one cannot be. */
int nic_port_open(const struct nic_cable *cable, const struct net_port *like,
		  struct net_port **port, struct err *err);

/* --- virtio_net_address.c ------------------------------------------------------------------- */

/* What the guest sent, with its header, at least one piece: any lane. */
void nic_listen(struct nic *nic, const struct iovec *iov, unsigned n);
void nic_addresses_init(struct nic_addresses *addresses);

/* --- virtio_net_capture.c ------------------------------------------------------------------- */

/* @frame: without its header; any lane. */
void nic_capture_frame(struct nic *nic, const struct iovec *iov, unsigned n, size_t skip,
		       unsigned direction);
void nic_capture_end(struct nic_capture *capture);

#endif
