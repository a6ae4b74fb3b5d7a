// SPDX-License-Identifier: ISC
/*
 * Prints what it was told at boot: by which protocol, the command line, the
 * initrd with its checksum (as in guest_blk_read.c), the memory map; and writes to and
 * reads back the first and last word of each piece of RAM from 16 MiB on.
 */
#include "guest.h"

#define SAFE 0x1000000ull /* the guest itself and the boot's tables are below */

struct e820 {
	uint64_t start, bytes;
	uint32_t type;
} __attribute__((packed));

static void probe(uint64_t at)
{
	volatile uint64_t *p = guest_map(at);
	uint64_t old = *p;

	*p = ~at;
	if (*p != ~at) {
		print("not RAM: ");
		print_hex(at);
		guest_end("\nmemmap: failed");
	}
	*p = old;
}

static void show_range(uint64_t start, uint64_t bytes, uint32_t type)
{
	print("range ");
	print_hex(start);
	putch(' ');
	print_hex(start + bytes);
	print(type == 1 ? " ram\n" : " reserved\n");
	if (type != 1 || start + bytes <= SAFE)
		return;
	probe(start < SAFE ? SAFE : start);
	probe(start + bytes - 8);
}

static void show_initrd(uint64_t at, uint64_t bytes)
{
	uint64_t sum = 0;

	print("initrd ");
	print_hex(at);
	putch(' ');
	print_dec(bytes);
	for (uint64_t i = 0; i < bytes / 4; i++)
		sum += ((uint32_t *)at)[i] * (i + 1);
	putch(' ');
	print_hex(sum);
	putch('\n');
}

static void show_linux(const uint8_t *params)
{
	const struct e820 *map = (const void *)(params + 0x2d0);

	print("protocol linux64\n");
	if (*(uint32_t *)(params + 0x202) != 0x53726448)
		print("no header\n");
	show_initrd(*(uint32_t *)(params + 0x218), *(uint32_t *)(params + 0x21c));
	print("rsdp ");
	print_hex(*(uint64_t *)(params + 0x70));
	putch('\n');
	for (unsigned i = 0; i < params[0x1e8]; i++)
		show_range(map[i].start, map[i].bytes, map[i].type);
}

static void show_pvh(const uint64_t *info)
{
	const uint64_t *modules = (const uint64_t *)info[2];
	const uint64_t *map = (const uint64_t *)info[5];

	print("protocol pvh\n");
	if (*(uint32_t *)info != 0x336ec578)
		print("no magic\n");
	show_initrd(modules ? modules[0] : 0, modules ? modules[1] : 0);
	print("rsdp ");
	print_hex(info[4]);
	putch('\n');
	for (unsigned i = 0; i < (uint32_t)info[6]; i++)
		show_range(map[3 * i], map[3 * i + 1], (uint32_t)map[3 * i + 2]);
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (boot_params)
		show_linux(boot_params);
	else
		show_pvh(pvh_info);
	print("cmdline ");
	print(guest_cmdline);
	putch('\n');
	guest_end("memmap: done");
}
