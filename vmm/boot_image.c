// SPDX-License-Identifier: ISC
/*
 * Kernels and initrds as files: checked, read with large pread(2) calls (never
 * mapped: a file that shrinks meanwhile must not kill us), and unpacked when
 * they begin with the magic of a compression.
 *
 * Unpacking goes into an anonymous mapping of the greatest size allowed, which
 * costs nothing until it is touched; so no decompressor needs to know the size
 * beforehand, and none can be led beyond what the guest's RAM could hold.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/boot_int.h"
#include "util/cleanup.h"
#include "util/file.h"

#define HUGE_PAGE (2ull << 20)
#define HUGE_FROM (8ull << 20) /* less is sooner touched than a huge page is cleared */

char *boot_size(char buf[32], uint64_t bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	unsigned u = 0;

	for (; v >= 1024 && u + 1 < nitems(units); u++)
		v /= 1024;
	snprintf(buf, 32, v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v, units[u]);
	return buf;
}

int boot_src_open(struct boot_src *src, int fd, const char *what, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "%s: cannot be read", what);
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "%s is a directory", what);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -ENOEXEC, "%s is not a regular file", what);
	if (st.st_size == 0)
		return err_set(err, -ENOEXEC, "%s is an empty file", what);
	*src = (struct boot_src){.fd = fd, .len = (uint64_t)st.st_size};
	return 0;
}

int boot_src_read(const struct boot_src *src, uint64_t off, void *buf, uint64_t len,
		  const char *what, struct err *err)
{
	int ret;

	if (off > src->len || len > src->len - off)
		return err_set(err, -ENOEXEC, "%s is truncated: bytes %llu to %llu of %llu", what,
			       (unsigned long long)off, (unsigned long long)(off + len),
			       (unsigned long long)src->len);
	if (src->data) {
		memcpy(buf, src->data + off, len);
		return 0;
	}
	ret = file_pread_all(src->fd, buf, len, (off_t)off);
	if (ret == -ENODATA)
		return err_set(err, -ENOEXEC, "%s became shorter while it was read", what);
	if (ret < 0)
		return err_set(err, ret, "%s: read error at byte %llu", what,
			       (unsigned long long)off);
	return 0;
}

void *boot_map(uint64_t bytes, uint64_t *cap)
{
	uint64_t size = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	void *p;

	if (size < bytes || size > SIZE_MAX / 2)
		return NULL;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (bytes >= HUGE_FROM)
		madvise(p, size, MADV_HUGEPAGE); /* where there are none, small ones do */
	*cap = size;
	return p;
}

int boot_unpack(const struct boot_codec *codec, const uint8_t *in, uint64_t in_len, uint64_t max,
		void **data, uint64_t *len, uint64_t *cap, struct err *err)
{
	uint64_t mapped, used, out_len = max;
	char size[32];
	void *out;
	int ret;

	if (!codec->unpack)
		return err_set(err, -ENOEXEC,
			       "compressed with %s, which is not supported (gzip, xz, zstd and lz4 "
			       "are)",
			       codec->name);
	out = boot_map(max, &mapped);
	if (!out)
		return err_set(err, -ENOMEM, "no memory to unpack %s data", codec->name);
	ret = codec->unpack(in, in_len, out, &out_len, err);
	if (ret < 0) {
		munmap(out, mapped);
		if (ret == -EFBIG)
			err_set(err, ret,
				"unpacks to more than %s, which the guest's memory limits",
				boot_size(size, max));
		return ret;
	}
	used = (out_len + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	if (used == 0)
		used = HUGE_PAGE;
	if (used < mapped)
		munmap((uint8_t *)out + used, mapped - used);
	*data = out;
	*len = out_len;
	*cap = used < mapped ? used : mapped;
	return 0;
}

int boot_image_read(int fd, uint64_t max, void **data, uint64_t *len, uint64_t *cap,
		    struct err *err)
{
	const struct boot_codec *codec;
	char have[32], most[32];
	struct boot_src src;
	uint64_t in_cap;
	void *in;
	int ret;

	ret = boot_src_open(&src, fd, "file", err);
	if (ret < 0)
		return ret;
	if (src.len > max)
		return err_set(err, -EFBIG, "file of %s is larger than %s",
			       boot_size(have, src.len), boot_size(most, max));
	in = boot_map(src.len, &in_cap);
	if (!in)
		return err_set(err, -ENOMEM, "no memory to read a file of %s",
			       boot_size(have, src.len));
	ret = boot_src_read(&src, 0, in, src.len, "file", err);
	if (ret < 0)
		goto out;
	codec = boot_codec_find(in, src.len);
	if (codec) {
		ret = boot_unpack(codec, in, src.len, max, data, len, cap, err);
		goto out;
	}
	*data = in;
	*len = src.len;
	*cap = in_cap;
	return 0;
out:
	munmap(in, in_cap);
	return ret;
}
