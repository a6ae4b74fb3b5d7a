// SPDX-License-Identifier: ISC
/*
 * The compressions that kernels come in, one table. Each unpacks from memory
 * to memory in one go; the room for the output is the bound against data that
 * grows without end, and liblzma gets one for its dictionary besides.
 */
#include <errno.h>
#include <lz4.h>
#include <lz4frame.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "vmm/boot_int.h"
#include "util/cleanup.h"

#define XZ_MEMORY_MAX	 (256ull << 20)
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8u << 20) /* no block unpacks to more */

/* zlib counts in unsigned int: input and output are handed to it in pieces. */
static unsigned piece(uint64_t left)
{
	return left < (1u << 30) ? (unsigned)left : 1u << 30;
}

/* Takes one member; *@in and *@out move on. */
static int inflate_member(z_stream *z, const uint8_t **in, const uint8_t *in_end, uint8_t **out,
			  uint8_t *out_end, struct err *err)
{
	int ret;

	do {
		z->next_in = (uint8_t *)*in; /* zlib does not write to it */
		z->avail_in = piece((uint64_t)(in_end - *in));
		z->next_out = *out;
		z->avail_out = piece((uint64_t)(out_end - *out));
		ret = inflate(z, Z_NO_FLUSH);
		if (ret == Z_OK && z->next_in == *in && z->next_out == *out)
			ret = Z_BUF_ERROR;
		*in = z->next_in;
		*out = z->next_out;
	} while (ret == Z_OK);
	switch (ret) {
	case Z_STREAM_END:
		return 0;
	case Z_BUF_ERROR:
		if (*in == in_end)
			return err_set(err, -ENOEXEC, "gzip data is truncated");
		return -EFBIG;
	case Z_MEM_ERROR:
		return err_set(err, -ENOMEM, "no memory to unpack gzip data");
	default:
		return err_set(err, -ENOEXEC, "gzip data is damaged: %s",
			       z->msg ? z->msg : "unknown error");
	}
}

static int unpack_gzip(const uint8_t *in, uint64_t in_len, uint8_t *out, uint64_t *out_len,
		       struct err *err)
{
	const uint8_t *in_end = in + in_len;
	uint8_t *to = out, *out_end = out + *out_len;
	z_stream z = {0};
	int ret;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return err_set(err, -ENOMEM, "no memory to unpack gzip data");
	do {
		ret = inflate_member(&z, &in, in_end, &to, out_end, err);
		if (ret == 0)
			inflateReset(&z);
	} while (ret == 0 && in_end - in > 2 && in[0] == 0x1f && in[1] == 0x8b);
	inflateEnd(&z);
	*out_len = (uint64_t)(to - out);
	return ret;
}

static int unpack_xz(const uint8_t *in, uint64_t in_len, uint8_t *out, uint64_t *out_len,
		     struct err *err)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret ret = lzma_stream_decoder(&s, XZ_MEMORY_MAX, 0);

	if (ret != LZMA_OK)
		return err_set(err, -ENOMEM, "no memory to unpack xz data");
	s.next_in = in;
	s.avail_in = in_len;
	s.next_out = out;
	s.avail_out = *out_len;
	ret = lzma_code(&s, LZMA_FINISH);
	if (ret == LZMA_OK) /* the output is full: only the end of the stream may follow */
		ret = lzma_code(&s, LZMA_FINISH);
	*out_len = (uint64_t)(s.next_out - out);
	in_len = s.avail_in;
	lzma_end(&s);
	switch (ret) {
	case LZMA_STREAM_END:
		return 0;
	case LZMA_MEM_ERROR:
	case LZMA_MEMLIMIT_ERROR:
		return err_set(err, -ENOMEM, "xz data needs more than %llu MiB to unpack",
			       XZ_MEMORY_MAX >> 20);
	case LZMA_OK:
	case LZMA_BUF_ERROR:
		if (in_len == 0)
			return err_set(err, -ENOEXEC, "xz data is truncated");
		return -EFBIG;
	default:
		return err_set(err, -ENOEXEC, "xz data is damaged");
	}
}

static int unpack_zstd(const uint8_t *in, uint64_t in_len, uint8_t *out, uint64_t *out_len,
		       struct err *err)
{
	size_t n = ZSTD_decompress(out, *out_len, in, in_len);

	if (!ZSTD_isError(n)) {
		*out_len = n;
		return 0;
	}
	switch (ZSTD_getErrorCode(n)) {
	case ZSTD_error_dstSize_tooSmall:
		return -EFBIG;
	case ZSTD_error_memory_allocation:
		return err_set(err, -ENOMEM, "no memory to unpack zstd data");
	case ZSTD_error_srcSize_wrong:
		return err_set(err, -ENOEXEC, "zstd data is truncated");
	default:
		return err_set(err, -ENOEXEC, "zstd data is damaged: %s", ZSTD_getErrorName(n));
	}
}

static int unpack_lz4_frame(const uint8_t *in, uint64_t in_len, uint8_t *out, uint64_t *out_len,
			    struct err *err)
{
	uint64_t at = 0, to = 0;
	LZ4F_dctx *ctx;
	size_t hint = 1;
	int ret = 0;

	if (LZ4F_isError(LZ4F_createDecompressionContext(&ctx, LZ4F_VERSION)))
		return err_set(err, -ENOMEM, "no memory to unpack lz4 data");
	while (hint && at < in_len) {
		const LZ4F_decompressOptions_t options = {.stableDst = 1};
		size_t used = in_len - at, made = *out_len - to;

		hint = LZ4F_decompress(ctx, out + to, &made, in + at, &used, &options);
		if (LZ4F_isError(hint)) {
			ret = err_set(err, -ENOEXEC, "lz4 data is damaged: %s",
				      LZ4F_getErrorName(hint));
			break;
		}
		if (hint && used == 0 && made == 0) {
			ret = -EFBIG;
			break;
		}
		at += used;
		to += made;
	}
	if (ret == 0 && hint)
		ret = to == *out_len ? -EFBIG : err_set(err, -ENOEXEC, "lz4 data is truncated");
	LZ4F_freeDecompressionContext(ctx);
	*out_len = to;
	return ret;
}

static uint32_t le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* `lz4 -l`: a magic number, then blocks with their packed length before them, to the end. */
static int unpack_lz4_legacy(const uint8_t *in, uint64_t in_len, uint8_t *out, uint64_t *out_len,
			     struct err *err)
{
	uint64_t at = 4, to = 0;

	while (at < in_len) {
		uint64_t room = *out_len - to;
		uint32_t packed;
		int n;

		if (in_len - at < 4)
			return err_set(err, -ENOEXEC, "lz4 data is truncated");
		packed = le32(in + at);
		at += 4;
		if (packed == LZ4_LEGACY_MAGIC) /* another file behind the first */
			continue;
		if (packed == 0 || packed > (unsigned)LZ4_COMPRESSBOUND(LZ4_LEGACY_BLOCK))
			return err_set(err, -ENOEXEC, "lz4 data is damaged: block of %u bytes",
				       packed);
		if (packed > in_len - at)
			return err_set(err, -ENOEXEC, "lz4 data is truncated");
		n = LZ4_decompress_safe((const char *)in + at, (char *)out + to, (int)packed,
					(int)(room < LZ4_LEGACY_BLOCK ? room : LZ4_LEGACY_BLOCK));
		if (n < 0 && room < LZ4_LEGACY_BLOCK)
			return -EFBIG; /* or damaged: liblz4 does not tell */
		if (n < 0)
			return err_set(err, -ENOEXEC, "lz4 data is damaged");
		at += packed;
		to += (unsigned)n;
	}
	*out_len = to;
	return 0;
}

static const struct boot_codec codecs[] = {
    {"gzip", {0x1f, 0x8b, 0x08}, 3, unpack_gzip, false},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz, true},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd, true},
    {"lz4", {0x04, 0x22, 0x4d, 0x18}, 4, unpack_lz4_frame, true},
    {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4_legacy, true},
    {"bzip2", {'B', 'Z', 'h'}, 3, NULL, true},
    {"lzma", {0x5d, 0x00, 0x00}, 3, NULL, true},
    {"lzo", {0x89, 'L', 'Z', 'O', 0, '\r'}, 6, NULL, true},
};

const struct boot_codec *boot_codec_find(const uint8_t *head, uint64_t len)
{
	for (size_t i = 0; i < nitems(codecs); i++)
		if (len >= codecs[i].magic_len &&
		    memcmp(head, codecs[i].magic, codecs[i].magic_len) == 0)
			return &codecs[i];
	return NULL;
}
