// SPDX-License-Identifier: ISC
/* Plugging a card in: its cable, and what a VMM is told of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nic_int.h"
#include "util/cleanup.h"
#include "util/msg.h"
#include "vmm.h"

#define QUEUES_PRESET_MAX 4

/* A socket whose other end nobody has: what is sent is lost, and nothing comes. */
static int plug_nowhere(struct nic_plug *plug, struct err *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "no socket: %s", strerror(errno));
	close(pair[1]);
	plug->kind = VMM_NIC_STREAM;
	plug->fds[plug->n_fds++] = pair[0];
	return 0;
}

int nic_plug_in(struct machine *m, const struct nic *nic, unsigned cpus, struct nic_plug *plug,
		struct cancel *cancel, struct err *err)
{
	struct nic n = *nic; /* its texts are borrowed */
	char replaces[sizeof(plug->replaces)];
	int r;

	memcpy(replaces, plug->replaces, sizeof(replaces));
	memset(plug, 0, sizeof(*plug));
	memcpy(plug->replaces, replaces, sizeof(replaces));
	if (!n.values.queues)
		n.values.queues = cpus < QUEUES_PRESET_MAX ? cpus : QUEUES_PRESET_MAX;
	r = *n.values.network ? nic_plug(m, &n, plug, cancel, err) : plug_nowhere(plug, err);
	if (r < 0)
		return err_prefix(err, "network card %s", nic->name), r;
	snprintf(plug->name, sizeof(plug->name), "%s", nic->name);
	snprintf(plug->network, sizeof(plug->network), "%s", n.values.network);
	plug->queues = plug->n_fds;
	return 0;
}

void nic_close_fds(struct nic_plug *plug)
{
	while (plug->n_fds)
		close(plug->fds[--plug->n_fds]);
}

void nic_pull(struct machine *m, struct nic_plug *plug)
{
	nic_close_fds(plug);
	if (plug->network[0])
		nic_unplug(m, plug);
}

int vmm_nic_tell(struct vmm *vmm, const struct nic *nic, const struct nic_plug *plug,
		 struct vmm_burst *burst, char words[VMM_TEXT_MAX], struct err *err)
{
	char what[sizeof(plug->name) + 16];
	const struct nic_values *v = &nic->values;
	struct vmm_nic msg = {.mtu = v->mtu ? (uint16_t)v->mtu : plug->mtu,
			      .kind = plug->kind,
			      .vlan = plug->vlan,
			      .link = v->link && *v->network};
	struct vmm_reply reply = {.data = words, .room = words ? VMM_TEXT_MAX - 1 : 0};
	struct vmm_request rq = {.type = VMM_NIC,
				 .data = &msg,
				 .len = sizeof(msg),
				 .fds = plug->fds,
				 .n_fds = plug->n_fds,
				 .timeout_ms = VMM_ORDER_MS};
	int r = nic_mac_parse(v->mac, msg.mac, err);

	if (r == 0)
		r = nic_limits_parse(v->limits, &msg.limits, err);
	snprintf(what, sizeof(what), "network card %s", nic->name);
	if (r < 0 && burst)
		err_prefix(err, "%s", what);
	if (r < 0)
		return r;
	strcpy(msg.name, nic->name);
	if (burst)
		return vmm_burst_add(burst, &rq, what, err);
	r = vmm_call(vmm, &rq, &reply, err);
	msg_close_fds(reply.fds, reply.n_fds);
	if (words)
		words[r == 0 ? reply.len : 0] = '\0';
	return r;
}

int vmm_nic_tell_cable(struct vmm *vmm, const struct nic *nic, const struct nic_plug *plug,
		       struct err *err)
{
	struct vmm_nic_cable msg = {
	    .kind = plug->kind, .vlan = plug->vlan, .link = nic->values.link && plug->network[0]};
	struct vmm_request rq = {.type = VMM_NIC_CABLE,
				 .data = &msg,
				 .len = sizeof(msg),
				 .fds = plug->fds,
				 .n_fds = plug->n_fds,
				 .timeout_ms = VMM_ORDER_MS};

	strcpy(msg.name, nic->name);
	return vmm_call(vmm, &rq, NULL, err);
}

int vmm_nic_tell_settings(struct vmm *vmm, const struct nic *nic, unsigned timeout_ms,
			  struct err *err)
{
	struct vmm_nic_set msg = {0};
	struct vmm_request rq = {
	    .type = VMM_NIC_SET, .data = &msg, .len = sizeof(msg), .timeout_ms = timeout_ms};
	const struct vmm_has_nic *has;
	int r = nic_limits_parse(nic->values.limits, &msg.limits, err);

	strcpy(msg.name, nic->name);
	pthread_mutex_lock(&vmm->m->lock);
	has = vmm_nic_find(vmm, nic->name);
	msg.link = nic->values.link && has && has->plug.network[0];
	pthread_mutex_unlock(&vmm->m->lock);
	return r == 0 ? vmm_call(vmm, &rq, NULL, err) : r;
}
