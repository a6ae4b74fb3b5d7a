/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_VMM_NIC_H
#define FV_TEST_VMM_NIC_H
/* A network card for vmm_run: its tap, and the words that describe it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "src/vmm_proto.h"

/* A queue of the tap @name, which is made if there is none; or -errno. */
static inline int nic_tap(const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	strncpy(ifr.ifr_name, name, sizeof(ifr.ifr_name) - 1);
	if (ioctl(fd, TUNSETIFF, &ifr) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

static inline struct vmm_nic nic_card(void)
{
	return (struct vmm_nic){
	    .name = "nic0", .mac = {2, 0xf1, 0, 0, 0, 2}, .kind = VMM_NIC_TAP, .link = 1};
}

#endif
