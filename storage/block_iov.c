// SPDX-License-Identifier: ISC
/*
 * Buffers in pieces: a range of a request's, by its place in the request.
 */
#include <string.h>

#include "storage/block_node.h"

unsigned block_iov_part(const struct iovec *iov, unsigned n_iov, uint64_t skip, uint64_t bytes,
			struct iovec *out)
{
	unsigned i, n = 0;

	for (i = 0; i < n_iov && bytes; i++) {
		uint64_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		out[n].iov_base = (uint8_t *)iov[i].iov_base + skip;
		out[n].iov_len = len - skip < bytes ? len - skip : bytes;
		bytes -= out[n++].iov_len;
		skip = 0;
	}
	return n;
}

void block_iov_zero(const struct iovec *iov, unsigned n_iov, uint64_t skip, uint64_t bytes)
{
	unsigned i;

	for (i = 0; i < n_iov && bytes; i++) {
		uint64_t len = iov[i].iov_len, n;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		n = len - skip < bytes ? len - skip : bytes;
		memset((uint8_t *)iov[i].iov_base + skip, 0, n);
		bytes -= n;
		skip = 0;
	}
}

void block_iov_fill(const struct iovec *iov, unsigned n_iov, uint64_t skip, const uint8_t *from,
		    uint64_t bytes)
{
	unsigned i;

	for (i = 0; i < n_iov && bytes; i++) {
		uint64_t len = iov[i].iov_len, n;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		n = len - skip < bytes ? len - skip : bytes;
		memcpy((uint8_t *)iov[i].iov_base + skip, from, n);
		from += n;
		bytes -= n;
		skip = 0;
	}
}
