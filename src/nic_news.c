// SPDX-License-Identifier: ISC
/*
 * What a VMM has to say of its guest's cards: addresses that the guest says it has, and that it
 * was to let go of a card which it knows by another's address, and has.
 *
 * All of it is the guest's word, or that of a VMM that the guest may have taken over: it is
 * bounded here, and what networks make of it is decided where it is shown (network_show.c).
 */
#define LOG_MODULE "nic"
#include <errno.h>
#include <string.h>

#include "net/sender.h"
#include "network_int.h"
#include "nic_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"

/* The latest is the last; the one that was said longest ago makes room. False: it is so. */
static bool note_address(struct nic_seen *seen, const struct vmm_nic_news *news)
{
	unsigned at = 0;

	while (at < seen->n && (seen->list[at].len != news->len ||
				memcmp(seen->list[at].addr, news->addr, news->len) != 0))
		at++;
	if (at < seen->n && at == seen->n - 1)
		return false;
	if (at == seen->n && seen->n == NIC_SEEN_MAX)
		at = 0;
	if (at < seen->n) {
		seen->n--;
		memmove(&seen->list[at], &seen->list[at + 1],
			(seen->n - at) * sizeof(seen->list[0]));
	}
	memset(&seen->list[seen->n], 0, sizeof(seen->list[0]));
	seen->list[seen->n].len = (uint8_t)news->len;
	memcpy(seen->list[seen->n].addr, news->addr, news->len);
	seen->n++;
	return true;
}

/* Who is looked up in `hosts` has another address. */
static void tell_network_hosts(struct model *model, const char *name)
{
	_cleanup_network_ struct network *network = NULL;

	/* VMMs that an earlier daemon left are heard before there are networks again */
	if (!*name || !__atomic_load_n(&model->networks, __ATOMIC_ACQUIRE))
		return;
	network = model_network_get(model, name);
	if (!network)
		return;
	LOCK_SCOPE(&network->lock);
	network_touch(network, NETWORK_LEASES);
}

static void heard_address(struct vmm *vmm, const struct vmm_nic_news *news)
{
	struct machine *m = vmm->m;
	char network[NETWORK_NAME_MAX + 1] = "";
	struct vmm_has_nic *has;

	if ((news->len != 4 && news->len != 16) || !net_sender_address_good(news->addr, news->len))
		return;
	pthread_mutex_lock(&m->lock);
	has = vmm_nic_find(vmm, news->name);
	if (has && note_address(&has->seen, news)) {
		strcpy(network, has->plug.network);
		machine_touch(m, ASPECT_NIC_ADDRESS, news->name);
	}
	pthread_mutex_unlock(&m->lock);
	tell_network_hosts(m->model, network);
}

/* Of a card that a clone's guest knows by its original's address. */
static void heard_stranger(struct vmm *vmm, const struct vmm_nic_news *news)
{
	static const char cannot[] =
	    "the guest knows it by the address of the machine that it is a "
	    "clone of, and cannot be asked to let go of it: its cable is "
	    "out until a reset",
			  asked[] = "the guest knows it by the address of the machine that it is a "
				    "clone of: its cable is out until it has let go of it";
	bool stranger = news->what != VMM_NIC_RENEWED;
	struct vmm_has_nic *has;

	LOCK_SCOPE(&vmm->m->lock);
	has = vmm_nic_find(vmm, news->name);
	if (!has || has->stranger == stranger)
		return;
	has->stranger = stranger;
	nic_event(vmm->m, stranger ? "nic-stranger" : "nic-renewed", news->name, has->plug.network,
		  news->what == VMM_NIC_STRANGER ? cannot
		  : stranger			 ? asked
						 : "");
	machine_touch(vmm->m, ASPECT_NIC, news->name);
}

/* A name that is not known here means nothing. */
void vmm_heard_nic_news(struct vmm *vmm, const struct vmm_nic_news *from)
{
	struct vmm_nic_news news = *from;

	news.name[sizeof(news.name) - 1] = '\0';
	switch (news.what) {
	case VMM_NIC_ADDRESS:
		heard_address(vmm, &news);
		break;
	case VMM_NIC_STRANGER:
	case VMM_NIC_ASKED:
	case VMM_NIC_RENEWED:
		heard_stranger(vmm, &news);
		break;
	default:
		log_debug("VMM %d: news %u of network card %s", vmm->pid, news.what, news.name);
	}
}
