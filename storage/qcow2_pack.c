// SPDX-License-Identifier: ISC
/*
 * Compressed clusters: raw deflate streams (a window of 4 KiB is what QEMU
 * writes and all readers allow) or zstd frames. What is read may run on past its
 * end (the length on disk counts whole sectors): a cluster is complete when it is full.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "storage/qcow2_int.h"

#define WINDOW_BITS 12

static int unpack_zlib(const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
	z_stream z = {
	    .next_in = (void *)in, .avail_in = in_bytes, .next_out = out, .avail_out = out_bytes};
	int r;

	/* Other writers may have used a larger window than we do. */
	if (inflateInit2(&z, -15) != Z_OK)
		return -ENOMEM;
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && !z.avail_out ? 0 : -EIO;
}

static int unpack_zstd(const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
	ZSTD_inBuffer ib = {in, in_bytes, 0};
	ZSTD_outBuffer ob = {out, out_bytes, 0};
	ZSTD_DCtx *d = ZSTD_createDCtx();
	size_t r = 0;

	if (!d)
		return -ENOMEM;
	while (ob.pos < ob.size) {
		size_t in_before = ib.pos, out_before = ob.pos;

		r = ZSTD_decompressStream(d, &ob, &ib);
		if (ZSTD_isError(r) || (ib.pos == in_before && ob.pos == out_before))
			break;
	}
	ZSTD_freeDCtx(d);
	return ob.pos == ob.size ? 0 : -EIO;
}

int qcow2_unpack(bool zstd, const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
	return zstd ? unpack_zstd(in, in_bytes, out, out_bytes)
		    : unpack_zlib(in, in_bytes, out, out_bytes);
}

struct qcow2_packer {
	bool is_zstd;
	z_stream z;
	ZSTD_CCtx *zstd;
};

int qcow2_packer_new(struct qcow2_packer **packer, bool zstd)
{
	struct qcow2_packer *p = calloc(1, sizeof(*p));
	bool ok;

	if (!p)
		return -ENOMEM;
	p->is_zstd = zstd;
	if (zstd) {
		p->zstd = ZSTD_createCCtx();
		ok = p->zstd;
	} else {
		ok = deflateInit2(&p->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 9,
				  Z_DEFAULT_STRATEGY) == Z_OK;
	}
	if (!ok) {
		free(p);
		return -ENOMEM;
	}
	*packer = p;
	return 0;
}

void qcow2_packer_free(struct qcow2_packer *packer)
{
	if (!packer)
		return;
	if (packer->is_zstd)
		ZSTD_freeCCtx(packer->zstd);
	else
		deflateEnd(&packer->z);
	free(packer);
}

size_t qcow2_pack(struct qcow2_packer *packer, const void *in, size_t in_bytes, void *out,
		  size_t out_bytes)
{
	size_t n;

	if (packer->is_zstd) {
		n = ZSTD_compressCCtx(packer->zstd, out, out_bytes, in, in_bytes,
				      ZSTD_CLEVEL_DEFAULT);
		return ZSTD_isError(n) ? 0 : n;
	}
	deflateReset(&packer->z);
	packer->z.next_in = (void *)in;
	packer->z.avail_in = in_bytes;
	packer->z.next_out = out;
	packer->z.avail_out = out_bytes;
	return deflate(&packer->z, Z_FINISH) == Z_STREAM_END ? out_bytes - packer->z.avail_out : 0;
}
