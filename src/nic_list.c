// SPDX-License-Identifier: ISC
/*
 * What network cards each VMM has, and the note from which a later daemon knows them again:
 *
 *   nic NAME h|w c|- KIND MTU TAP NETWORK QUEUES	(h: has, w: waits; c: capturing; "-": none)
 *
 * What its guest says of itself, the VMM tells again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nic_int.h"
#include "util/cleanup.h"
#include "vmm.h"

struct vmm_has_nic *vmm_nic_find(struct vmm *vmm, const char *name)
{
	struct vmm_has_nic *n = vmm->nics;

	while (n && strcmp(n->plug.name, name) != 0)
		n = n->next;
	return n;
}

static void append(struct vmm *vmm, struct vmm_has_nic *n)
{
	struct vmm_has_nic **link = &vmm->nics;

	while (*link)
		link = &(*link)->next;
	*link = n;
}

int vmm_nic_set(struct vmm *vmm, const struct nic_plug *plug)
{
	struct vmm_has_nic *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->plug = *plug;
	n->plug.n_fds = 0;
	append(vmm, n);
	return 0;
}

struct vmm_has_nic *vmm_nic_take(struct vmm *vmm, const char *name)
{
	for (struct vmm_has_nic **link = &vmm->nics; *link; link = &(*link)->next)
		if (strcmp((*link)->plug.name, name) == 0) {
			struct vmm_has_nic *n = *link;

			*link = n->next;
			n->next = NULL;
			return n;
		}
	return NULL;
}

void vmm_nics_free(struct vmm *vmm)
{
	struct vmm_has_nic *n;

	while ((n = vmm->nics)) {
		vmm->nics = n->next;
		free(n);
	}
}

/* --- the note --------------------------------------------------------------------------------- */

static const char *or_none(const char *text)
{
	return *text ? text : "-";
}

void vmm_nics_note(struct vmm *vmm, struct strbuf *sb)
{
	for (struct vmm_has_nic *n = vmm->nics; n; n = n->next)
		strbuf_printf(sb, "nic %s %c %c %u %u %s %s %u\n", n->plug.name,
			      n->waits ? 'w' : 'h', n->capturing ? 'c' : '-', n->plug.kind,
			      n->plug.mtu, or_none(n->plug.tap), or_none(n->plug.network),
			      n->plug.queues);
}

bool vmm_nics_read(struct vmm *vmm, const char *line)
{
	struct vmm_has_nic *n = calloc(1, sizeof(*n));
	struct nic_plug *p = n ? &n->plug : NULL;
	unsigned mtu;
	char w, c;

	_Static_assert(sizeof(p->name) > 31 && sizeof(p->network) > 63 && sizeof(p->tap) > 15,
		       "room for what is read");
	if (!n ||
	    sscanf(line, "nic %31s %c %c %u %u %15s %63s %u", p->name, &w, &c, &p->kind, &mtu,
		   p->tap, p->network, &p->queues) != 8 ||
	    vmm_nic_find(vmm, p->name)) {
		free(n);
		return false;
	}
	p->mtu = (uint16_t)mtu;
	if (strcmp(p->tap, "-") == 0)
		p->tap[0] = '\0';
	if (strcmp(p->network, "-") == 0)
		p->network[0] = '\0';
	n->waits = w == 'w';
	n->capturing = c == 'c';
	append(vmm, n);
	return true;
}
