// SPDX-License-Identifier: ISC
/* The keys of a network card: words of nics = { NAME = { … } } and files of nics/NAME. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "definition.h"
#include "nic.h"
#include "rates.h"
#include "util/cleanup.h"

/* Rows of the arrays: to the guest, from the guest. */
static const struct rate_name rate_names[] = {
    {"rx_pps", false, offsetof(struct vmm_nic_limits, packets[0])},
    {"tx_pps", false, offsetof(struct vmm_nic_limits, packets[1])},
    {"rx_bps", true, offsetof(struct vmm_nic_limits, bytes[0])},
    {"tx_bps", true, offsetof(struct vmm_nic_limits, bytes[1])},
};

int nic_limits_parse(const char *text, struct vmm_nic_limits *limits, struct err *err)
{
	memset(limits, 0, sizeof(*limits));
	return rates_parse(rate_names, nitems(rate_names), text, limits, err);
}

static int refine_limits(const char *text, char **refined, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct vmm_nic_limits limits;
	int r = nic_limits_parse(text, &limits, err);

	if (r < 0)
		return r;
	rates_show(rate_names, nitems(rate_names), &limits, &sb);
	*refined = strbuf_steal(&sb);
	return 0;
}

int nic_mac_parse(const char *text, uint8_t mac[6], struct err *err)
{
	unsigned b[6];
	int end = 0;

	/* sscanf(3) would take blanks and signs for digits */
	if (text[strspn(text, "0123456789abcdefABCDEF:")] || strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6 ||
	    text[end])
		return err_set(err, -EINVAL, "'%.40s' is no address as 52:54:00:12:34:56", text);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	if (mac[0] & 1)
		return err_set(err, -EINVAL, "%s is the address of a group", text);
	for (unsigned i = 0; i < 6; i++)
		if (mac[i])
			return 0;
	return err_set(err, -EINVAL, "%s is nobody's address", text);
}

void nic_mac_show(const uint8_t mac[6], char text[NIC_MAC_TEXT])
{
	snprintf(text, NIC_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
}

/* Empty: one is made up when it is defined. */
static int refine_mac(const char *text, char **refined, struct err *err)
{
	char canonical[NIC_MAC_TEXT] = "";
	uint8_t mac[6];
	int r = *text ? nic_mac_parse(text, mac, err) : 0;

	if (r < 0)
		return r;
	if (*text)
		nic_mac_show(mac, canonical);
	*refined = strdup(canonical);
	return 0;
}

/* Empty: the network chooses one. */
static int refine_address(const char *text, char **refined, struct err *err)
{
	char canonical[INET_ADDRSTRLEN] = "";
	uint8_t addr[4];

	if (*text && (inet_pton(AF_INET, text, addr) != 1 || addr[0] == 0 || addr[0] == 127 ||
		      addr[0] >= 224))
		return err_set(err, -EINVAL, "'%.40s' is no address of a guest's as 10.0.0.5",
			       text);
	if (*text)
		inet_ntop(AF_INET, addr, canonical, sizeof(canonical));
	*refined = strdup(canonical);
	return 0;
}

static int refine_network(const char *text, char **refined, struct err *err)
{
	if (*text && machine_name_check(text, NULL) < 0)
		return err_set(err, -EINVAL, "'%.80s' is no name of a network", text);
	*refined = strdup(text);
	return 0;
}

#define OF(field) .offset = offsetof(struct nic_values, field)

const struct config_key nic_keys[] = {
    {.name = "network",
     .type = KEY_TEXT,
     .max = MACHINE_NAME_MAX,
     .preset = "",
     .help =
	 "name of the network it is connected to; empty: to none; live: its cable is moved, and "
	 "out for a second, so that the guest notices",
     .refine = refine_network,
     OF(network)},
    {.name = "mac",
     .type = KEY_TEXT,
     .max = 17,
     .preset = "",
     .help = "its address, as 52:54:00:12:34:56; empty: one is made up and kept",
     .needs_restart = true,
     .refine = refine_mac,
     OF(mac)},
    {.name = "fixed_address",
     .type = KEY_TEXT,
     .max = 15,
     .preset = "",
     .help = "the IPv4 address that its network is to give it, as 10.0.0.5; empty: the network "
	     "chooses one, and keeps it",
     .needs_restart = true,
     .refine = refine_address,
     OF(fixed_address)},
    {.name = "mtu",
     .type = KEY_UINT,
     .min = 0,
     .max = 65521,
     .preset = "0",
     .help = "bytes of the largest packet that the guest is told of; 0: as its network has it",
     .needs_restart = true,
     OF(mtu)},
    {.name = "queues",
     .type = KEY_UINT,
     .min = 0,
     .max = VMM_NIC_QUEUES_MAX,
     .preset = "0",
     .help = "pairs of queues; 0: as many as vcpus, at most 4",
     .needs_restart = true,
     OF(queues)},
    {.name = "vlan",
     .type = KEY_UINT,
     .min = 0,
     .max = 4094,
     .preset = "0",
     .help = "VLAN whose tag its packets bear on an isolated or bridge network; 0: its network's; "
	     "live",
     OF(vlan)},
    {.name = "link",
     .type = KEY_BOOL,
     .preset = "true",
     .help = "whether the cable is in; live",
     OF(link)},
    {.name = "limits",
     .type = KEY_TEXT,
     .max = 1000,
     .preset = "",
     .help = "packets and bytes a second, to and from the guest: rx_pps= tx_pps= rx_bps= tx_bps=, "
	     "and of each NAME_burst=; live",
     .refine = refine_limits,
     OF(limits)},
};
const size_t n_nic_keys = nitems(nic_keys);
