/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_H
#define FV_VMM_VIRTIO_H
/*
 * What every virtio device has (virtio 1.2 §2 and §3): features, the status
 * machine, queues, reset; whatever the transport. A device is a struct that
 * begins with struct virtio_device, and a const struct virtio_ops.
 *
 * Threads. The driver's register accesses come on vcpu threads, under
 * dev->lock. Queues are served on a *lane*: a device thread with the queues
 * [first, first + n) that it owns. A kick is a write to the queue's eventfd, by KVM
 * (ioeventfd) or by the transport, which wakes the lane and ends in
 * ops->notify(). A lane starts at DRIVER_OK and stops at reset, when the device
 * has drained; it stands still while the machine is paused. So a device's own
 * code needs no lock and no state for any of these: notify() is called only
 * while its queues may be used.
 *
 * Reset is asynchronous, as §4.1.4.3.1 permits: the driver's write of 0 waits
 * a moment for the lanes to drain; if storage takes longer, it returns and
 * device_status stays what it was until they have. Then, and not
 * before, it reads 0, and guest memory is not touched again.
 *
 * A driver's fault (virtio_queue_fail()) ends in DEVICE_NEEDS_RESET (§2.1.2) and a
 * configuration interrupt; the queue at fault is not looked at again until the reset.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <pthread.h>

#include "vmm/device.h"
#include "vmm/iothread.h"
#include "vmm/virtqueue.h"

#define VIRTIO_VECTOR_NONE 0xffff

struct virtio_device;
struct virtio_lane;

struct virtio_queue {
	struct iothread_source kick; /* ->fd: the eventfd */
	struct virtio_device *dev;
	struct virtio_lane *lane;
	unsigned index;
	uint16_t max;	    /* entries offered */
	uint16_t chain_max; /* buffers in one chain that the device can take */
	/* as the driver wrote them, under dev->lock; they stay as they are while lanes run */
	uint16_t size;
	bool enabled;
	uint64_t desc, avail, used;
	/* the lane's, while it runs */
	struct virtqueue ring;
	unsigned budget; /* chains that may yet be taken before others get their turn */
};

struct virtio_lane {
	struct virtio_device *dev;
	struct iothread *thread;
	unsigned first, n; /* its queues */
	struct iothread_task start, stop;
	/* the thread's own */
	bool active; /* between DRIVER_OK and reset */
	bool paused;
	bool loaded; /* the driver is to be interrupted when it goes on; set while paused */
};

struct virtio_ops {
	/* Something may be available in @queue. On its lane. Publishes what it pushed. */
	void (*notify)(struct virtio_queue *queue);
	/* Optional: finishes what is under way and publishes it, waiting if need be. On the lane.
	 */
	void (*drain)(struct virtio_lane *lane);
	/* Optional: the driver has set DRIVER_OK: before any notify. Under dev->lock. */
	void (*activated)(struct virtio_device *dev);
	/* Optional: the driver wrote to the configuration; ->config is as before. Under dev->lock.
	 */
	void (*config_written)(struct virtio_device *dev, uint64_t offset, unsigned size,
			       uint64_t value);
	/* Optional: everything is as before the driver came. Under dev->lock. */
	void (*reset)(struct virtio_device *dev);
	/* What a pause leaves under way is in what it saves. */
	bool saves_requests;
};

/* How a transport serves its device. */
struct virtio_transport {
	void (*interrupt_queue)(struct virtio_device *dev, unsigned queue); /* any thread */
	void (*interrupt_config)(struct virtio_device *dev);		    /* any thread */
	/* Queues are served or not: kicks may bypass user space. Under dev->lock. */
	void (*set_active)(struct virtio_device *dev, bool active);
	/* Vectors and interrupt status are as after power-on. Under dev->lock. */
	void (*reset)(struct virtio_device *dev);
	void (*unplug)(struct virtio_device *dev);
};

struct virtio_device {
	struct device dev;
	const struct virtio_ops *ops;
	const struct virtio_transport *transport;
	void *transport_data;
	uint16_t id; /* VIRTIO_ID_… */
	unsigned n_queues, n_lanes;
	struct virtio_queue *queues;
	struct virtio_lane *lanes;
	uint64_t *notifications, *interrupts, *ring_errors; /* counters */

	pthread_mutex_t lock;
	pthread_cond_t reset_done;
	uint64_t offered, accepted; /* features; accepted is what the driver wrote so far */
	uint8_t status;
	uint8_t generation; /* of config */
	bool active;	    /* lanes were started */
	unsigned stopping;  /* lanes that a reset waits for; while > 0 the driver is not heard */
	void *config;	    /* device-specific configuration, little endian */
	unsigned config_len;
	uint64_t last_complaint_ns;
	unsigned complaints_kept;
};

/*
 * Makes queues and lanes in a zeroed @dev: @n_queues of @size entries, chains
 * of at most @chain_max buffers, on @n_lanes of the @threads given (borrowed;
 * queues are dealt out in equal shares). @stats_name is the counters' prefix.
 * What every device offers (VERSION_1, indirect, event index) is added to
 * @dev->offered. On error nothing remains.
 */
int virtio_init(struct virtio_device *dev, struct vm *vm, const struct virtio_ops *ops, uint16_t id,
		unsigned n_queues, uint16_t size, uint16_t chain_max, struct iothread **threads,
		unsigned n_lanes, const char *stats_name, struct err *err);
/* Stops the lanes (draining), unplugs it from its transport, frees queues and lanes. Vcpus stand
 * still. */
void virtio_fini(struct virtio_device *dev);
/* For device_ops. */
void virtio_pause(struct device *device);
void virtio_resume(struct device *device);

/* All that virtio and its PCI side have of a device (virtio_state.c), for device_ops.state. What
 * ops->activated() looks at is loaded before. */
struct state;
void virtio_state(struct device *device, struct state *state);

/* --- for devices, on a lane --------------------------------------------------------------- */

/*
 * virtqueue_pop(), for ops->notify(). A driver's fault is dealt with and looks like an
 * empty queue (-EAGAIN); so does, after as many chains as the ring has entries, that
 * others have their turn first: notify() is called again then.
 */
int virtio_pop(struct virtio_queue *queue, struct iovec *iov, struct virtqueue_chain *chain);
/* virtqueue_notify_on() at the end of a turn: true if there is more to be popped in it. */
bool virtio_notify_on(struct virtio_queue *queue);
/* Publishes what was pushed, and raises the interrupt if one is wanted. */
void virtio_publish(struct virtio_queue *queue);
static inline bool virtio_negotiated(const struct virtio_device *dev, unsigned feature)
{
	return dev->accepted >> feature & 1;
}
/* The driver broke the rules (static words): the device needs a reset. On @queue's lane. */
void virtio_queue_fail(struct virtio_queue *queue, const char *why);
/* Has ops->notify() called on @queue's lane; any thread. */
void virtio_kick(struct virtio_queue *queue);
/* Calls ops->notify() for a new turn: for what a device waits for beside kicks. On its lane. */
void virtio_serve(struct virtio_queue *queue);
/* Is the queue served just now? On its lane. */
bool virtio_queue_live(const struct virtio_queue *queue);

/* --- for transports, under dev->lock ------------------------------------------------------ */

void virtio_status_write(struct virtio_device *dev, uint8_t value);
/* Features are written 32 bits at a time; nothing changes after FEATURES_OK. */
void virtio_features_write(struct virtio_device *dev, unsigned word, uint32_t value);
void virtio_queue_enable(struct virtio_queue *queue);
/* DRIVER_OK: the lanes start. @loaded: they look like one that was paused (virtio_state.c). */
void virtio_activate(struct virtio_device *dev, bool loaded);
/* May the driver still describe this queue? */
bool virtio_queue_open(const struct virtio_queue *queue);
/* Bytes beyond the configuration are 0. */
uint64_t virtio_config_read(struct virtio_device *dev, uint64_t offset, unsigned size);
void virtio_config_write(struct virtio_device *dev, uint64_t offset, unsigned size, uint64_t value);

/* --- virtio over PCI (virtio_pci.c; §4.1) ------------------------------------------------- */

/*
 * Puts an initialised device into @slot, with a vector for each queue and one
 * for the configuration. virtio_fini() takes it out.
 */
int virtio_pci_plug(struct virtio_device *dev, unsigned slot, uint32_t class_code, struct err *err);

extern const struct device_ops virtio_blk_device, virtio_console_device, virtio_net_device,
    virtio_rng_device, virtio_vsock_device;

#endif
