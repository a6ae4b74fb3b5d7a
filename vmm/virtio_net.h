/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_NET_H
#define FV_VMM_VIRTIO_NET_H
/*
 * virtio-net (virtio 1.2 §5.1): a network card over a port of net/port.h. What may be changed
 * while the guest runs is here; all of it from the control thread.
 */
#include "net/filter.h"
#include "net/port.h"
#include "net/sender.h"
#include "vmm/device.h"

enum nic_kind { NIC_TAP, NIC_STREAM, NIC_NONE };

/* Where the frames go. The descriptors stay its maker's: the device dups them. */
struct nic_cable {
	enum nic_kind kind;
	unsigned vlan; /* 0: none; else its tag is put on and taken off */
	int fds[NET_QUEUES_MAX];
	unsigned n_fds; /* of a tap: one for each pair of queues; NONE: none */
};

struct nic_rate {
	uint64_t per_s, burst; /* as struct net_bucket */
};

enum { NIC_TO_GUEST, NIC_FROM_GUEST, NIC_DIRECTIONS };

struct nic_limits {
	struct nic_rate frames[NIC_DIRECTIONS], bytes[NIC_DIRECTIONS];
};

/* What the daemon asked for. */
struct nic_config {
	char name[VMM_NAME_MAX];
	uint8_t mac[NET_MAC];
	uint16_t mtu; /* 0: no advice */
	bool link;    /* the cable is in */
	bool moved;   /* a moment ago: it is out until the guest must have seen it */
	bool renew;   /* the guest was asked to let go of it, and finds it anew then */
	struct nic_cable cable;
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
/*
 * Its port becomes another one; the guest does not notice, but what is on its way is lost. @paused:
 * the device stands still, and stays so. -EOPNOTSUPP with words where the driver counts on more
 * than the other has; nothing has changed then.
 */
int virtio_net_set_cable(struct device *dev, const struct nic_cable *cable, bool paused,
			 struct err *err);
/*
 * True: it went on from a state in which its address was another one. Its driver knows it by that,
 * which is somebody else's: its cable is out until the guest has let go of it, or is reset.
 */
bool virtio_net_is_stranger(struct device *dev);
/* The link of such a one is down, and the guest is told. */
void virtio_net_cut(struct device *dev);
/* An address that the guest says it has, and that nobody was told of yet; false: none. */
bool virtio_net_address_untold(struct device *dev, struct net_sender *sender);
void virtio_net_address_told(struct device *dev, const struct net_sender *sender);
/* All are to be told again; or none is known any more. */
void virtio_net_addresses_tell(struct device *dev);
void virtio_net_addresses_forget(struct device *dev);
/* The guest is asked to make itself known to the network (§5.1.6.5.4), if it can. */
void virtio_net_announce(struct device *dev);
void virtio_net_set_limits(struct device *dev, const struct nic_limits *limits);
/*
 * Writes all frames to @fd (pcapng), which is taken, until it has @limit bytes; -1 ends
 * it. -EIO with words.
 */
int virtio_net_capture(struct device *dev, int fd, uint64_t limit, struct err *err);

#endif
