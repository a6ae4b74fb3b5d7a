/* SPDX-License-Identifier: ISC */
#ifndef FV_NIC_H
#define FV_NIC_H
/* Network cards of machines: what their definition says. */
#include "definition.h"

#define NIC_MAC_TEXT 18 /* "52:54:00:12:34:56" with its NUL */

/* -EINVAL with words; also for addresses of groups and of nobody. */
int nic_mac_parse(const char *text, uint8_t mac[6], struct err *err);
void nic_mac_show(const uint8_t mac[6], char text[NIC_MAC_TEXT]);
/* -EINVAL, -ERANGE with words. */
int nic_limits_parse(const char *text, struct vmm_nic_limits *limits, struct err *err);

#endif
