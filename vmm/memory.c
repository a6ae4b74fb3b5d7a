// SPDX-License-Identifier: ISC
/*
 * Guest RAM: one memfd whose offsets are guest physical addresses, mapped in two
 * pieces around the hole below 4 GiB, each a memory slot of KVM's. Its size
 * is sealed, so nobody it is passed to can pull it from under the guest. It
 * stays over resets; all its pages are given back then. Never part of a core dump.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define LOG_MODULE "memory"
#include "vmm/layout.h"
#include "vmm/vm_int.h"
#include "util/cleanup.h"
#include "util/log.h"

#define BYTES_MAX (1ull << 46)
#define HUGE_PAGE (2ull << 20)
#define HUGE_FROM (1ull << 30) /* from this size on, huge pages are worth being zeroed whole */

static int make(const char *name, uint64_t end, bool hugepages)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugepages ? MFD_HUGETLB : 0);
	_cleanup_close_ int fd = memfd_create(name, flags);

	if (fd < 0 || ftruncate(fd, (off_t)end) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return take_fd(&fd);
}

int memory_new(struct memory *m, uint64_t bytes, bool hugepages, struct err *err)
{
	struct stat st;
	uint64_t page;
	int fd;

	*m = (struct memory){.fd = -1, .huge = hugepages};
	if (bytes == 0 || bytes % 4096 != 0)
		return err_set(err, -EINVAL, "memory: not a size of whole pages");
	if (bytes > BYTES_MAX)
		return err_set(err, -ERANGE, "memory: more than %llu TiB", BYTES_MAX >> 40);
	m->low_bytes = bytes < LAYOUT_LOW_RAM_END ? bytes : LAYOUT_LOW_RAM_END;
	m->high_bytes = bytes - m->low_bytes;
	m->ram_top = m->high_bytes ? LAYOUT_HIGH_RAM + m->high_bytes : m->low_bytes;
	fd = make("guest-ram", m->ram_top, hugepages);
	if (fd == -EINVAL && hugepages)
		return err_set(err, -EINVAL, "memory: with hugepages a multiple of %llu MiB",
			       HUGE_PAGE >> 20);
	if (fd < 0)
		return err_set(err, fd, "memory: cannot make %s of %llu MiB",
			       hugepages ? "huge pages" : "a memfd",
			       (unsigned long long)bytes >> 20);
	m->fd = fd;
	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "memory: fstat");
	/* Pages of 1 GiB, where they are the host's preset, fit the hole as well. */
	page = hugepages ? (uint64_t)st.st_blksize : 4096;
	if (bytes % page != 0 || LAYOUT_LOW_RAM_END % page != 0)
		return err_set(err, -EINVAL, "memory: with hugepages a multiple of %llu MiB",
			       (unsigned long long)page >> 20);
	return 0;
}

static uint8_t *map_piece(const struct memory *m, uint64_t offset, uint64_t bytes)
{
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_NORESERVE * !m->huge, m->fd, (off_t)offset);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_DONTDUMP);
	if (!m->huge && m->low_bytes + m->high_bytes >= HUGE_FROM)
		madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

int memory_map(struct memory *m, struct err *err)
{
	int error;

	if (m->low)
		return 0;
	m->low = map_piece(m, 0, m->low_bytes);
	if (m->low && m->high_bytes)
		m->high = map_piece(m, LAYOUT_HIGH_RAM, m->high_bytes);
	if (m->low && (m->high || !m->high_bytes))
		return 0;
	error = -errno;
	if (m->huge && error == -ENOMEM)
		return err_set(err, -ENOMEM,
			       "memory: the host has not %llu MiB of free huge pages reserved "
			       "(/proc/sys/vm/nr_hugepages)",
			       (unsigned long long)(m->low_bytes + m->high_bytes) >> 20);
	return err_set(err, error, "memory: cannot map %llu MiB",
		       (unsigned long long)(m->low_bytes + m->high_bytes) >> 20);
}

int memory_wipe(struct memory *m)
{
	if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)m->ram_top) < 0)
		return -errno;
	return 0;
}

void memory_free(struct memory *m)
{
	if (m->low)
		munmap(m->low, m->low_bytes);
	if (m->high)
		munmap(m->high, m->high_bytes);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct memory){.fd = -1};
}

void memory_describe(const struct memory *m, struct gmem *mem)
{
	mem->regions[0] = (struct gmem_region){0, m->low_bytes, m->low};
	mem->regions[1] = (struct gmem_region){LAYOUT_HIGH_RAM, m->high_bytes, m->high};
	mem->n_regions = m->high_bytes ? 2 : 1;
}

int memory_attach(const struct memory *m, int vm_fd, struct err *err)
{
	const struct kvm_userspace_memory_region slots[] = {
	    {.slot = 0, .memory_size = m->low_bytes, .userspace_addr = (uintptr_t)m->low},
	    {.slot = 1,
	     .guest_phys_addr = LAYOUT_HIGH_RAM,
	     .memory_size = m->high_bytes,
	     .userspace_addr = (uintptr_t)m->high},
	};

	for (unsigned i = 0; i < nitems(slots); i++)
		if (slots[i].memory_size > 0 &&
		    ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &slots[i]) < 0)
			return err_set(err, -errno, "KVM: cannot attach memory");
	return 0;
}
