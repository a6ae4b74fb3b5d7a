/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_NET_H
#define FV_VMM_VIRTIO_NET_H
/*
 * virtio-net (virtio 1.2 §5.1): a network card over a port of net/port.h. What may be changed
 * while the guest runs is here; all of it from the control thread.
 */
#include "net/filter.h"
#include "net/port.h"
#include "vmm/device.h"

enum nic_kind { NIC_TAP, NIC_STREAM };

struct nic_rate {
	uint64_t per_s, burst; /* as struct net_bucket */
};

enum { NIC_TO_GUEST, NIC_FROM_GUEST, NIC_DIRECTIONS };

struct nic_limits {
	struct nic_rate frames[NIC_DIRECTIONS], bytes[NIC_DIRECTIONS];
};

/* What the daemon asked for. The descriptors stay its maker's: the device dups them. */
struct nic_config {
	char name[VMM_NAME_MAX];
	uint8_t mac[NET_MAC];
	uint16_t mtu; /* 0: no advice */
	bool link;    /* the cable is in */
	enum nic_kind kind;
	int fds[NET_QUEUES_MAX];
	unsigned n_fds; /* of a tap: one for each pair of queues */
	struct nic_limits limits;
};

/*
 * Makes the card in @slot and appends it to vm->devices; @config is borrowed for its life.
 * -EINVAL, -ENOMEM, -ENOSPC with words.
 */
int virtio_net_attach(struct vm *vm, const struct nic_config *config, unsigned slot,
		      struct err *err);
/* The card of that name, or NULL. */
struct device *virtio_net_find(struct vm *vm, const char *name);
/* The cable is pulled out or put in; the guest is told. */
void virtio_net_set_link(struct device *dev, bool up);
/* The guest is asked to make itself known to the network (§5.1.6.5.4), if it can. */
void virtio_net_announce(struct device *dev);
void virtio_net_set_limits(struct device *dev, const struct nic_limits *limits);
/*
 * Writes all frames to @fd (pcapng), which is taken, until it has @limit bytes; -1 ends
 * it. -EIO with words.
 */
int virtio_net_capture(struct device *dev, int fd, uint64_t limit, struct err *err);

#endif
