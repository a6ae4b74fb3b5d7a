// SPDX-License-Identifier: ISC
/*
 * boot_load() with hostile kernels: the input is the kernel's file, which also
 * serves as initrd where its length is odd. Memory of 4 MiB below the hole and 1 MiB above.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot.h"
#include "vmm/layout.h"

#define LOW  (4u << 20)
#define HIGH (1u << 20)

static struct gmem mem;
static int file = -1;

static uint8_t *map_ram(size_t len)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	void *p;

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		abort();
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		abort();
	close(fd);
	return p;
}

static void set_up(void)
{
	if (file >= 0)
		return;
	file = memfd_create("kernel", MFD_CLOEXEC);
	if (file < 0)
		abort();
	mem = (struct gmem){
	    .regions = {{0, LOW, map_ram(LOW)}, {LAYOUT_HIGH_RAM, HIGH, map_ram(HIGH)}},
	    .n_regions = 2,
	};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct boot_entry entry;
	struct err err = ERR_INIT;
	int ret;

	set_up();
	if (ftruncate(file, 0) < 0 || pwrite(file, data, len, 0) != (ssize_t)len)
		abort();
	ret = boot_load(&mem, file, len % 2 ? file : -1, "console=ttyS0", &entry, &err);
	if (ret < 0 && (err.code != ret || !err.text[0]))
		abort(); /* a refusal without words */
	if (ret == 0 && entry.rip >= LAYOUT_HIGH_RAM)
		abort(); /* not mapped */
	return 0;
}
