// SPDX-License-Identifier: ISC
/*
 * Guest RAM: private anonymous memory, in two pieces around the hole below 4 GiB,
 * each a memory slot of KVM's. Nobody else has it; who wants to know what is in it asks
 * (VMM_PEEK_MEMORY), and fork(2) makes a second one that is the first as of then.
 * It stays over resets; all its pages are given back then. Never part of a core dump.
 *
 * Large guests have it in huge pages where the host has some: they are faster, and forked in
 * less time than it takes to copy a page table for each 2 MiB. Small ones, of which there are
 * many, have pages as they touch them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/layout.h"
#include "vmm/memory.h"
#include "vmm/pack.h"
#include "util/cleanup.h"

#define BYTES_MAX (1ull << 46)
#define HUGE_PAGE (2ull << 20)
#define HUGE_FROM (512ull << 20) /* from this size on, huge pages are worth being zeroed whole */

/* Takes privileges, which are given up soon. */
static int open_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	_cleanup_close_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 ? take_fd(&fd) : -1;
}

void memory_init(struct memory *m)
{
	*m = (struct memory){.uffd = open_uffd(),
			     .pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC),
			     .pagemap_pid = getpid()};
}

/* How large the host's huge pages are: files of such memory know. 0 or -errno. */
static int huge_page_bytes(uint64_t *bytes)
{
	_cleanup_close_ int fd = memfd_create("hugepages", MFD_CLOEXEC | MFD_HUGETLB);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_blksize;
	return 0;
}

static int check_hugepages(uint64_t bytes, struct err *err)
{
	uint64_t page = HUGE_PAGE;
	int ret = huge_page_bytes(&page);

	if (ret < 0)
		return err_set(err, ret, "memory: cannot make huge pages of %llu MiB",
			       (unsigned long long)bytes >> 20);
	/* Pages of 1 GiB, where they are the host's preset, fit the hole as well. */
	if (bytes % page != 0 || LAYOUT_LOW_RAM_END % page != 0)
		return err_set(err, -EINVAL, "memory: with hugepages a multiple of %llu MiB",
			       (unsigned long long)page >> 20);
	return 0;
}

int memory_new(struct memory *m, uint64_t bytes, bool hugepages, struct err *err)
{
	if (bytes == 0 || bytes % 4096 != 0)
		return err_set(err, -EINVAL, "memory: not a size of whole pages");
	if (bytes > BYTES_MAX)
		return err_set(err, -ERANGE, "memory: more than %llu TiB", BYTES_MAX >> 40);
	if (hugepages) {
		int ret = check_hugepages(bytes, err);

		if (ret < 0)
			return ret;
	}
	m->huge = hugepages;
	m->low_bytes = bytes < LAYOUT_LOW_RAM_END ? bytes : LAYOUT_LOW_RAM_END;
	m->high_bytes = bytes - m->low_bytes;
	m->ram_top = m->high_bytes ? LAYOUT_HIGH_RAM + m->high_bytes : m->low_bytes;
	return 0;
}

void memory_inherit(struct memory *m, const struct memory *from)
{
	*m = *from;
	m->uffd = m->pagemap_fd = -1;
	m->pack = NULL;
	m->to_load = NULL;
	m->collapse = NULL;
	m->runs = NULL;
	m->n_runs = 0;
	m->filled = true;
}

/* --- mappings --------------------------------------------------------------------------------- */

bool memory_large(const struct memory *m)
{
	return m->low_bytes + m->high_bytes >= HUGE_FROM;
}

static void advise(const struct memory *m, uint8_t *p, uint64_t bytes)
{
	madvise(p, bytes, MADV_DONTDUMP);
	if (!m->huge)
		madvise(p, bytes, memory_large(m) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Memory that is reserved, page for page, is only that of hugepages. */
static void *map(const struct memory *m, void *at, uint64_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0);

	return mmap(at, bytes, PROT_READ | PROT_WRITE,
		    flags | (m->huge ? MAP_HUGETLB : MAP_NORESERVE), -1, 0);
}

/* At a multiple of 2 MiB, as guest addresses are: so huge pages of the one are of the other, too.
 */
static uint8_t *map_piece(const struct memory *m, uint64_t bytes)
{
	uint8_t *p, *start;

	if (m->huge) {
		p = map(m, NULL, bytes);
		if (p != MAP_FAILED)
			advise(m, p, bytes);
		return p == MAP_FAILED ? NULL : p;
	}
	p = map(m, NULL, bytes + HUGE_PAGE);
	if (p == MAP_FAILED)
		return NULL;
	start = p + (-(uintptr_t)p & (HUGE_PAGE - 1));
	if (start != p)
		munmap(p, (size_t)(start - p));
	if (start != p + HUGE_PAGE)
		munmap(start + bytes, (size_t)(p + HUGE_PAGE - start));
	advise(m, start, bytes);
	return start;
}

int memory_map(struct memory *m, struct err *err)
{
	int error;

	if (m->low && (m->high || !m->high_bytes))
		return 0;
	if (!m->low)
		m->low = map_piece(m, m->low_bytes);
	if (m->low && m->high_bytes)
		m->high = map_piece(m, m->high_bytes);
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

/*
 * What was mapped over it goes, too. Huge pages stay reserved: mapped anew, they might be
 * another's meanwhile.
 */
static int wipe_piece(const struct memory *m, uint8_t *p, uint64_t bytes)
{
	if (!p)
		return 0;
	if (m->huge) {
		if (madvise(p, bytes, MADV_DONTNEED) < 0) /* since Linux 5.18 */
			memset(p, 0, bytes);
		return 0;
	}
	if (map(m, p, bytes) == MAP_FAILED)
		return -errno;
	advise(m, p, bytes);
	return 0;
}

int memory_wipe(struct memory *m)
{
	int ret;

	pack_stop(m);
	memory_collapse_stop(m);
	ret = wipe_piece(m, m->low, m->low_bytes);

	if (ret == 0)
		ret = wipe_piece(m, m->high, m->high_bytes);
	/* The list itself stays: somebody may be reading it. */
	__atomic_store_n(&m->n_runs, 0, __ATOMIC_RELEASE);
	m->filled = false;
	return ret;
}

void memory_free(struct memory *m)
{
	pack_stop(m);
	memory_collapse_stop(m);
	if (m->low)
		munmap(m->low, m->low_bytes);
	if (m->high)
		munmap(m->high, m->high_bytes);
	if (m->pagemap_fd >= 0)
		close(m->pagemap_fd);
	if (m->uffd >= 0)
		close(m->uffd);
	free(m->runs);
	*m = (struct memory){.pagemap_fd = -1, .uffd = -1};
}

/* --- who uses it ------------------------------------------------------------------------------ */

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
