// SPDX-License-Identifier: ISC
/* virtio-net's control queue (virtio 1.2 §5.1.6.5): a table of commands. */
#include <string.h>

#include "util/cleanup.h"
#include "vmm/virtio_net_int.h"

static uint8_t read_mode(bool *mode, struct virtqueue_chain *chain)
{
	uint8_t on;

	if (virtqueue_chain_read(chain, &on, sizeof(on)) != sizeof(on) || on > 1)
		return VIRTIO_NET_ERR;
	*mode = on;
	return VIRTIO_NET_OK;
}

static uint8_t rx_mode(struct nic *nic, uint8_t cmd, struct virtqueue_chain *chain)
{
	struct net_filter *f = &nic->filter;
	bool *modes[] = {
	    [VIRTIO_NET_CTRL_RX_PROMISC] = &f->promiscuous,
	    [VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->all_multicast,
	    [VIRTIO_NET_CTRL_RX_ALLUNI] = &f->all_unicast,
	    [VIRTIO_NET_CTRL_RX_NOMULTI] = &f->no_multicast,
	    [VIRTIO_NET_CTRL_RX_NOUNI] = &f->no_unicast,
	    [VIRTIO_NET_CTRL_RX_NOBCAST] = &f->no_broadcast,
	};

	LOCK_SCOPE(&nic->filter_lock);
	return cmd < nitems(modes) ? read_mode(modes[cmd], chain) : VIRTIO_NET_ERR;
}

/* One table: a count of 32 bits, and addresses. */
static bool read_macs(struct net_macs *macs, struct virtqueue_chain *chain)
{
	uint8_t mac[NET_MAC];
	uint32_t n;

	if (virtqueue_chain_read(chain, &n, sizeof(n)) != sizeof(n) ||
	    n > chain->out_bytes / NET_MAC)
		return false;
	*macs = (struct net_macs){0};
	while (n--) {
		virtqueue_chain_read(chain, mac, sizeof(mac));
		net_macs_add(macs, mac);
	}
	return true;
}

static uint8_t set_mac(struct nic *nic, uint8_t cmd, struct virtqueue_chain *chain)
{
	struct net_macs unicast, multicast;
	uint8_t mac[NET_MAC];

	LOCK_SCOPE(&nic->filter_lock);
	if (cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
		if (virtqueue_chain_read(chain, mac, sizeof(mac)) != sizeof(mac) ||
		    net_mac_is_group(mac))
			return VIRTIO_NET_ERR;
		memcpy(nic->filter.mac, mac, sizeof(mac));
		return VIRTIO_NET_OK;
	}
	if (cmd != VIRTIO_NET_CTRL_MAC_TABLE_SET || !read_macs(&unicast, chain) ||
	    !read_macs(&multicast, chain))
		return VIRTIO_NET_ERR;
	nic->filter.unicast = unicast;
	nic->filter.multicast = multicast;
	nic->filter.all_multicast = false; /* the driver knows what it wants */
	return VIRTIO_NET_OK;
}

static uint8_t set_vlan(struct nic *nic, uint8_t cmd, struct virtqueue_chain *chain)
{
	uint16_t id;

	if (cmd > VIRTIO_NET_CTRL_VLAN_DEL ||
	    virtqueue_chain_read(chain, &id, sizeof(id)) != sizeof(id) || id >= 4096)
		return VIRTIO_NET_ERR;
	LOCK_SCOPE(&nic->filter_lock);
	net_filter_vlan(&nic->filter, id, cmd == VIRTIO_NET_CTRL_VLAN_ADD);
	return VIRTIO_NET_OK;
}

static uint8_t announced(struct nic *nic, uint8_t cmd, struct virtqueue_chain *chain)
{
	(void)chain;
	if (cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return VIRTIO_NET_ERR;
	LOCK_SCOPE(&nic->virtio.lock);
	nic->config.status &= ~VIRTIO_NET_S_ANNOUNCE;
	return VIRTIO_NET_OK;
}

static uint8_t set_pairs(struct nic *nic, uint8_t cmd, struct virtqueue_chain *chain)
{
	uint16_t n;

	if (cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
	    virtqueue_chain_read(chain, &n, sizeof(n)) != sizeof(n) || !n || n > nic->n_pairs)
		return VIRTIO_NET_ERR;
	return net_port_set_active(nic->port, n) < 0 ? VIRTIO_NET_ERR : VIRTIO_NET_OK;
}

unsigned nic_guest_offloads(uint64_t features)
{
	static const struct {
		unsigned feature, offload;
	} map[] = {
	    {VIRTIO_NET_F_GUEST_CSUM, NET_CSUM},
	    {VIRTIO_NET_F_GUEST_TSO4, NET_TSO4},
	    {VIRTIO_NET_F_GUEST_TSO6, NET_TSO6},
	    {VIRTIO_NET_F_GUEST_ECN, NET_ECN},
	    {F_GUEST_USO4, NET_USO},
	};
	unsigned offloads = 0;

	for (size_t i = 0; i < nitems(map); i++)
		offloads |= features >> map[i].feature & 1 ? map[i].offload : 0;
	return offloads;
}

int nic_set_offloads(struct nic *nic, unsigned offloads)
{
	int r = net_port_set_offloads(nic->port, offloads);

	if (r == 0)
		nic->offloads = offloads;
	return r;
}

static uint8_t set_offloads(struct nic *nic, uint8_t cmd, struct virtqueue_chain *chain)
{
	uint64_t features;

	if (cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
	    virtqueue_chain_read(chain, &features, sizeof(features)) != sizeof(features) ||
	    features & ~nic->virtio.accepted)
		return VIRTIO_NET_ERR;
	return nic_set_offloads(nic, nic_guest_offloads(features)) < 0 ? VIRTIO_NET_ERR
								       : VIRTIO_NET_OK;
}

/*
 * By class; what is not negotiated is not there. Each takes the locks that it needs: a reset comes
 * under virtio.lock and takes the filter's, so nobody does it the other way round.
 */
static const struct {
	unsigned feature;
	uint8_t (*run)(struct nic *nic, uint8_t cmd, struct virtqueue_chain *chain);
} classes[] = {
    [VIRTIO_NET_CTRL_RX] = {VIRTIO_NET_F_CTRL_RX, rx_mode},
    [VIRTIO_NET_CTRL_MAC] = {VIRTIO_NET_F_CTRL_MAC_ADDR, set_mac},
    [VIRTIO_NET_CTRL_VLAN] = {VIRTIO_NET_F_CTRL_VLAN, set_vlan},
    [VIRTIO_NET_CTRL_ANNOUNCE] = {VIRTIO_NET_F_GUEST_ANNOUNCE, announced},
    [VIRTIO_NET_CTRL_MQ] = {VIRTIO_NET_F_MQ, set_pairs},
    [VIRTIO_NET_CTRL_GUEST_OFFLOADS] = {VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, set_offloads},
};

static uint8_t carry_out(struct nic *nic, struct virtqueue_chain *chain)
{
	struct virtio_net_ctrl_hdr header;

	if (virtqueue_chain_read(chain, &header, sizeof(header)) != sizeof(header) ||
	    header.class >= nitems(classes) ||
	    !virtio_negotiated(&nic->virtio, classes[header.class].feature))
		return VIRTIO_NET_ERR;
	return classes[header.class].run(nic, header.cmd, chain);
}

void nic_control(struct nic *nic, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;

	do {
		while (virtio_pop(queue, nic->ctrl_iov, &chain) == 0) {
			uint8_t *ack = virtqueue_chain_last(&chain);

			if (!ack) {
				virtio_queue_fail(queue, "command without room for an answer");
				virtqueue_unpop(&queue->ring);
				return;
			}
			*ack = carry_out(nic, &chain);
			virtqueue_push(&queue->ring, chain.head, 1);
		}
	} while (virtio_notify_on(queue));
}
