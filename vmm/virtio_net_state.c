// SPDX-License-Identifier: ISC
/*
 * What a network card's driver has set through its control queue, saved and loaded. A frame that
 * was waiting for buffers is lost, as frames may be. The link is as the new daemon says. The
 * address is what the driver knows: that of a clone's card is another one by then.
 */
#include <errno.h>
#include <string.h>

#include "util/cleanup.h"
#include "vmm/state.h"
#include "vmm/virtio_net_int.h"

static void macs_state(struct net_macs *macs, struct state *st)
{
	uint32_t n = macs->n;

	state_u32(st, &n);
	if (n > NET_MACS_MAX) {
		state_fail(st, -EINVAL, "%u addresses", n);
		n = 0;
	}
	macs->n = n;
	state_bool(st, &macs->overflow);
	state_bytes(st, macs->addresses, n * NET_MAC);
}

static void filter_state(struct nic *nic, struct state *st)
{
	struct net_filter *f = &nic->filter;

	LOCK_SCOPE(&nic->filter_lock);
	bool *const modes[] = {&f->promiscuous,	  &f->all_multicast, &f->all_unicast,
			       &f->no_multicast,  &f->no_unicast,    &f->no_broadcast,
			       &f->vlans_filtered};

	state_bytes(st, f->mac, sizeof(f->mac));
	for (unsigned i = 0; i < nitems(modes); i++)
		state_bool(st, modes[i]);
	macs_state(&f->unicast, st);
	macs_state(&f->multicast, st);
	for (unsigned i = 0; i < nitems(f->vlans); i++)
		state_u64(st, &f->vlans[i]);
}

void nic_state(struct device *device, struct state *st)
{
	struct nic *nic = (struct nic *)device;
	uint32_t active = nic->port->n_active, offloads = nic->offloads;

	state_bytes(st, nic->config.mac, sizeof(nic->config.mac));
	state_u32(st, &active);
	state_u32(st, &offloads);
	filter_state(nic, st);
	virtio_state(device, st);
	if (!state_loading(st) || !state_ok(st))
		return;
	nic->stranger = memcmp(nic->config.mac, nic->boot->mac, NET_MAC) != 0;
	/* After what activation has set. */
	if (active < 1 || active > nic->n_pairs || net_port_set_active(nic->port, active) < 0)
		state_fail(st, -EINVAL, "%u pairs of queues", active);
	else if (offloads & ~nic_guest_offloads(nic->virtio.accepted) ||
		 (nic->virtio.active && nic_set_offloads(nic, offloads) < 0))
		state_fail(st, -EOPNOTSUPP, "what the guest takes off its hands");
}
