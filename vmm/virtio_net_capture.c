// SPDX-License-Identifier: ISC
/* Frames of a card into a file as they pass (net/pcapng.h). */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "net/pcapng.h"
#include "util/cleanup.h"
#include "vmm/virtio_net_int.h"

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Under the lock, or when no lane runs. */
static void end(struct nic_capture *c)
{
	__atomic_store_n(&c->on, false, __ATOMIC_RELEASE);
	if (c->fd >= 0)
		close(take_fd(&c->fd));
}

void nic_capture_end(struct nic_capture *c)
{
	LOCK_SCOPE(&c->lock);
	end(c);
}

/* All of it or, where the file takes no more, nothing any more. Under the lock. */
static void put(struct nic_capture *c, const struct iovec *iov, unsigned n, size_t bytes)
{
	if (bytes > c->left || writev(c->fd, iov, (int)n) != (ssize_t)bytes)
		end(c);
	else
		c->left -= bytes;
}

void nic_capture_frame(struct nic *nic, const struct iovec *iov, unsigned n, size_t skip,
		       unsigned direction)
{
	uint8_t before[PCAPNG_PACKET_MAX], behind[PCAPNG_PACKET_MAX];
	struct iovec all[NET_IOV_MAX + 2];
	size_t n_before, n_behind, len = 0;
	unsigned used = 1;

	if (!__atomic_load_n(&nic->capture.on, __ATOMIC_ACQUIRE) || n > NET_IOV_MAX)
		return;
	for (unsigned i = 0; i < n; i++) {
		size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;

		skip -= cut;
		if (cut == iov[i].iov_len)
			continue;
		all[used++] =
		    (struct iovec){(uint8_t *)iov[i].iov_base + cut, iov[i].iov_len - cut};
		len += iov[i].iov_len - cut;
	}
	pcapng_packet(before, &n_before, behind, &n_behind, len, len, wall_ns(),
		      direction == NIC_TO_GUEST ? PCAPNG_IN : PCAPNG_OUT);
	all[0] = (struct iovec){before, n_before};
	all[used++] = (struct iovec){behind, n_behind};
	LOCK_SCOPE(&nic->capture.lock);
	if (nic->capture.fd >= 0)
		put(&nic->capture, all, used, n_before + len + n_behind);
}

int virtio_net_capture(struct device *dev, int fd, uint64_t limit, struct err *err)
{
	struct nic *nic = (struct nic *)dev;
	struct nic_capture *c = &nic->capture;
	uint8_t begin[PCAPNG_BEGIN_MAX];
	struct iovec iov = {begin, pcapng_begin(begin, nic->boot->name)};

	LOCK_SCOPE(&c->lock);
	end(c);
	if (fd < 0)
		return 0;
	c->fd = fd;
	c->left = limit;
	/* first, so that who sees the file begin misses no frame: they wait for the lock */
	__atomic_store_n(&c->on, true, __ATOMIC_RELEASE);
	put(c, &iov, 1, iov.iov_len);
	if (c->fd < 0)
		return err_set(err, -EIO, "the file for frames cannot be written");
	return 0;
}
