// SPDX-License-Identifier: ISC
/*
 * virtio-blk's requests: a header of 16 bytes that the device reads, data one
 * way or the other, and a status byte that it writes. How these lie in descriptors is
 * the driver's choice (§2.7.4.1): the header may be split, the status may
 * share a descriptor with data.
 */
#include <endian.h>
#include <errno.h>

#include "vmm/virtio_blk.h"

_Static_assert(sizeof(struct virtio_blk_outhdr) == 16, "header as in §5.2.6");
_Static_assert(sizeof(struct virtio_blk_discard_write_zeroes) == 16, "range as in §5.2.6");

static bool in_disk(const struct blk_limits *limits, uint64_t sector, uint64_t n)
{
	return sector <= limits->sectors && n <= limits->sectors - sector;
}

/* The data of a read or a write. */
static int parse_data(struct blk_request *req, const struct blk_limits *limits, uint64_t sector,
		      const struct iovec *iov, unsigned n_iov, uint64_t bytes)
{
	if (bytes % BLK_SECTOR || !in_disk(limits, sector, bytes / BLK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	req->offset = sector * BLK_SECTOR;
	req->bytes = bytes;
	req->iov = iov;
	req->n_iov = n_iov;
	return 0;
}

static int parse_ranges(struct blk_request *req, const struct virtqueue_chain *chain,
			const struct blk_limits *limits, bool offered)
{
	uint64_t n = chain->out_bytes / sizeof(struct virtio_blk_discard_write_zeroes);

	if (!offered)
		return VIRTIO_BLK_S_UNSUPP;
	if (limits->readonly || !n || n > BLK_RANGES_MAX ||
	    chain->out_bytes % sizeof(struct virtio_blk_discard_write_zeroes))
		return VIRTIO_BLK_S_IOERR;
	req->ranges = n;
	return 0;
}

int blk_request_parse(struct blk_request *req, struct virtqueue_chain *chain,
		      const struct blk_limits *limits)
{
	struct virtio_blk_outhdr header;
	uint64_t sector;

	*req = (struct blk_request){.status = virtqueue_chain_last(chain)};
	if (!req->status)
		return -EPROTO;
	if (virtqueue_chain_read(chain, &header, sizeof(header)) != sizeof(header))
		return VIRTIO_BLK_S_IOERR;
	sector = le64toh(header.sector);
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		req->kind = BLK_IN;
		return parse_data(req, limits, sector, chain->in, chain->n_in, chain->in_bytes);
	case VIRTIO_BLK_T_OUT:
		req->kind = BLK_OUT;
		if (limits->readonly)
			return VIRTIO_BLK_S_IOERR;
		return parse_data(req, limits, sector, chain->out, chain->n_out, chain->out_bytes);
	case VIRTIO_BLK_T_FLUSH:
		req->kind = BLK_FLUSH;
		return 0;
	case VIRTIO_BLK_T_GET_ID:
		req->kind = BLK_GET_ID;
		return 0;
	case VIRTIO_BLK_T_DISCARD:
		req->kind = BLK_DISCARD;
		return parse_ranges(req, chain, limits, limits->discard);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		req->kind = BLK_WRITE_ZEROES;
		return parse_ranges(req, chain, limits, limits->write_zeroes);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

int blk_request_range(struct blk_request *req, struct virtqueue_chain *chain,
		      const struct blk_limits *limits, struct blk_range *range)
{
	struct virtio_blk_discard_write_zeroes raw;
	uint32_t flags, n;
	uint64_t sector;

	req->ranges--;
	/* Read once: the guest may be writing it. */
	virtqueue_chain_read(chain, &raw, sizeof(raw));
	sector = le64toh(raw.sector);
	n = le32toh(raw.num_sectors);
	flags = le32toh(raw.flags);
	/* §5.2.6.2: unknown flags, and unmap on a discard, are unsupported. */
	if (flags & ~(req->kind == BLK_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (n > BLK_RANGE_SECTORS_MAX || !in_disk(limits, sector, n))
		return VIRTIO_BLK_S_IOERR;
	*range = (struct blk_range){.offset = sector * BLK_SECTOR,
				    .bytes = (uint64_t)n * BLK_SECTOR,
				    .unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP};
	return 0;
}
