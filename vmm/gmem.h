/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_GMEM_H
#define FV_VMM_GMEM_H
/*
 * Guest memory through one door: every access states an address and a length
 * and is checked once, here. Addresses come from the guest and are hostile. No
 * pointer from here outlives the request that it was made for. Knows no KVM.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct gmem_region {
	uint64_t gpa, bytes; /* page aligned */
	uint8_t *host;
};

struct gmem {
	struct gmem_region regions[2]; /* below and above the hole, ascending */
	unsigned n_regions;
};

/* The @len bytes at @gpa as host memory, or NULL unless all lie in one region (len 0: NULL). */
void *gmem_ptr(const struct gmem *mem, uint64_t gpa, uint64_t len);
/* Copy out and in; 0 or -EFAULT (then nothing was copied). */
int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf, size_t len);
int gmem_write(const struct gmem *mem, uint64_t gpa, const void *buf, size_t len);
/* Appends the range to iov[*n] (room for @max); -EFAULT, -E2BIG. */
int gmem_iov(const struct gmem *mem, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned *n,
	     unsigned max);

#endif
