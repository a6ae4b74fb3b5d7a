// SPDX-License-Identifier: ISC
/*
 * Queues of a macvtap: descriptors of the character device that the kernel makes beside the
 * interface, /dev/tapINDEX. That name is the host's, whatever network namespace the interface is
 * in, so it may be another's: sysfs tells the device's number, and the device the interface's name.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "net/host_link.h"
#include "util/cleanup.h"
#include "util/file.h"

#define NODE ".macvtap" /* in the scratch directory, for a moment */

static int device_number(const struct host_link *link, dev_t *dev)
{
	_cleanup_free_ char *text = NULL;
	unsigned major, minor;
	char path[96];
	int r;

	snprintf(path, sizeof(path), "/sys/class/net/%s/tap%d/dev", link->name, link->index);
	r = file_read(AT_FDCWD, path, 64, &text, NULL);
	if (r < 0)
		return r;
	if (sscanf(text, "%u:%u", &major, &minor) != 2)
		return -EIO;
	*dev = makedev(major, minor);
	return 0;
}

/* The kernel says whose it is. */
static bool is_of(int fd, const char *name)
{
	struct ifreq ifr = {0};

	return ioctl(fd, TUNGETIFF, &ifr) == 0 && strncmp(ifr.ifr_name, name, IFNAMSIZ) == 0;
}

static int open_node(int dir, const char *path)
{
	int fd = openat(dir, path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int open_scratch(const struct host_link *link, int scratch)
{
	dev_t dev;
	int r = scratch < 0 ? -ENOENT : device_number(link, &dev);

	if (r < 0)
		return r;
	unlinkat(scratch, NODE, 0);
	if (mknodat(scratch, NODE, S_IFCHR | 0600, dev) < 0)
		return -errno;
	r = open_node(scratch, NODE);
	unlinkat(scratch, NODE, 0);
	return r;
}

/* A queue comes to be by opening the device. */
static int open_queue(const struct host_link *link, bool many, int scratch)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
						 (many ? IFF_MULTI_QUEUE : 0))};
	_cleanup_close_ int fd = -1;
	char path[32];

	snprintf(path, sizeof(path), "/dev/tap%d", link->index);
	fd = open_node(AT_FDCWD, path);
	if (fd < 0 || !is_of(fd, link->name)) {
		if (fd >= 0)
			close(fd);
		fd = open_scratch(link, scratch);
	}
	if (fd < 0)
		return fd;
	if (!is_of(fd, link->name))
		return -ENODEV;
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : take_fd(&fd);
}

int host_macvtap_open(const char *name, unsigned queues, int scratch, int *fds, struct err *err)
{
	struct host_link link;
	unsigned n = 0;
	int r = host_link_find(name, 0, &link);

	while (r >= 0 && n < queues && (r = open_queue(&link, queues > 1, scratch)) >= 0)
		fds[n++] = r;
	if (r >= 0)
		return 0;
	while (n > 0)
		close(fds[--n]);
	return err_set(err, r, "the device of macvtap %s: %s", name, strerror(-r));
}
