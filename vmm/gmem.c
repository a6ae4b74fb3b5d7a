// SPDX-License-Identifier: ISC
/* Checked access to guest memory. See gmem.h. */
#include <errno.h>
#include <string.h>

#include "vmm/gmem.h"

void *gmem_ptr(const struct gmem *mem, uint64_t gpa, uint64_t len)
{
	if (len == 0)
		return NULL;
	for (unsigned i = 0; i < mem->n_regions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		/* Subtractions only: nothing here can wrap. */
		if (gpa >= r->gpa && gpa - r->gpa < r->bytes && len <= r->bytes - (gpa - r->gpa))
			return r->host + (gpa - r->gpa);
	}
	return NULL;
}

int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf, size_t len)
{
	const void *from = gmem_ptr(mem, gpa, len);

	if (len == 0)
		return 0;
	if (!from)
		return -EFAULT;
	memcpy(buf, from, len);
	return 0;
}

int gmem_write(const struct gmem *mem, uint64_t gpa, const void *buf, size_t len)
{
	void *to = gmem_ptr(mem, gpa, len);

	if (len == 0)
		return 0;
	if (!to)
		return -EFAULT;
	memcpy(to, buf, len);
	return 0;
}

int gmem_iov(const struct gmem *mem, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned *n,
	     unsigned max)
{
	void *at = gmem_ptr(mem, gpa, len);

	if (len == 0)
		return 0;
	if (!at)
		return -EFAULT;
	if (*n >= max)
		return -E2BIG;
	iov[*n].iov_base = at;
	iov[*n].iov_len = len;
	++*n;
	return 0;
}
