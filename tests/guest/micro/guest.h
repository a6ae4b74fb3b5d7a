/* SPDX-License-Identifier: ISC */
#ifndef FV_GUEST_H
#define FV_GUEST_H
/*
 * What every micro guest has: ports, printing to COM1, ends, the command line,
 * PCI configuration space. All static: a guest is its one C file, start.S and
 * this. Code of CPL0 is emulated on some hosts (about 2 million instructions
 * a second, integer instructions only), so nothing here loops for nothing.
 *
 * Words on the command line steer a guest (guest_has("word")); "halt" on it
 * makes guest_end() halt for ever instead of switching off.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/layout.h"

#define barrier() __asm__ volatile("" ::: "memory")

/* Entered by start.S; one of the two is NULL. */
void guest_main(void *boot_params, void *pvh_info);
/* Goes on in @f at CPL3 with IOPL 3 (ports open, HLT not): native speed. No way back. */
void guest_user(void (*f)(void)) __attribute__((noreturn));
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);

/* Put this in a guest's file for an entry by PVH: the note that names _start32. */
#define GUEST_PVH                                                                                  \
	__asm__(".pushsection .note.xen, \"a\", @note\n"                                           \
		".balign 4\n.long 4, 4, 18\n.asciz \"Xen\"\n.long _start32\n"                      \
		".popsection\n")
#ifdef GUEST_WITH_PVH
GUEST_PVH;
#endif

/* --- ports ------------------------------------------------------------------------------ */

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

/* --- COM1 ------------------------------------------------------------------------------- */

static inline void putch(char c)
{
	outb(LAYOUT_PORT_COM1, (uint8_t)c);
}

static inline void print(const char *s)
{
	while (*s)
		putch(*s++);
}

static inline void print_hex(uint64_t v)
{
	int shift = 60;

	print("0x");
	while (shift > 0 && !(v >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		putch("0123456789abcdef"[(v >> shift) & 15]);
}

static inline void print_dec(uint64_t v)
{
	char digits[20];
	unsigned n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		putch(digits[--n]);
}

/* "NAME VALUE\n" */
static inline void print_value(const char *name, uint64_t v)
{
	print(name);
	putch(' ');
	print_dec(v);
	putch('\n');
}

static inline bool serial_ready(void)
{
	return inb(LAYOUT_PORT_COM1 + 5) & 1;
}

static inline char serial_get(void)
{
	return (char)inb(LAYOUT_PORT_COM1);
}

/* --- the end ---------------------------------------------------------------------------- */

static inline void __attribute__((noreturn)) halt_forever(void)
{
	for (;;)
		__asm__ volatile("cli; hlt" ::: "memory");
}

/* SLP_EN with the sleep type of \_S5 in PM1a_CNT. In case it fails, spins (CPL3 may not HLT). */
static inline void __attribute__((noreturn)) poweroff(void)
{
	outw(LAYOUT_PORT_PM_CNT, 1 << 13 | LAYOUT_SLP_S5 << 10);
	for (;;)
		barrier();
}

static inline void __attribute__((noreturn)) reboot(void)
{
	outb(LAYOUT_PORT_RESET, 6);
	for (;;)
		barrier();
}

static inline void __attribute__((noreturn)) reboot_i8042(void)
{
	outb(LAYOUT_PORT_I8042 + 4, 0xfe);
	for (;;)
		barrier();
}

/* An exception without an IDT. */
static inline void __attribute__((noreturn)) triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) nothing = {0, 0};

	__asm__ volatile("lidt %0; ud2" ::"m"(nothing));
	__builtin_unreachable();
}

/* --- the command line --------------------------------------------------------------------- */

static const char *guest_cmdline = "";

/* boot_params: cmd_line_ptr at 0x228. hvm_start_info: cmdline_paddr at 24. */
static inline void guest_begin(void *boot_params, void *pvh_info)
{
	uint64_t at = 0;

	if (boot_params)
		at = *(uint32_t *)((char *)boot_params + 0x228);
	else if (pvh_info)
		at = *(uint64_t *)((char *)pvh_info + 24);
	if (at)
		guest_cmdline = (const char *)(uintptr_t)at;
}

/* What stands behind @word on the command line ("" if it stands alone), or NULL. */
static inline const char *guest_word(const char *word)
{
	const char *p = guest_cmdline;

	while (*p) {
		const char *w = word;

		while (*w && *p == *w)
			p++, w++;
		if (!*w && (!*p || *p == ' '))
			return "";
		if (!*w && *p == '=')
			return p + 1;
		while (*p && *p != ' ')
			p++;
		while (*p == ' ')
			p++;
	}
	return NULL;
}

static inline bool guest_has(const char *word)
{
	return guest_word(word) != NULL;
}

/* The decimal number of word=NUMBER, or @preset. */
static inline uint64_t guest_number(const char *word, uint64_t preset)
{
	const char *p = guest_word(word);
	uint64_t v = 0;

	if (!p || *p < '0' || *p > '9')
		return preset;
	while (*p >= '0' && *p <= '9')
		v = v * 10 + (uint64_t)(*p++ - '0');
	return v;
}

/* Prints the last line and switches off, or as the command line says. */
static inline void __attribute__((noreturn)) guest_end(const char *last)
{
	print(last);
	putch('\n');
	if (guest_has("halt"))
		halt_forever();
	if (guest_has("reboot"))
		reboot();
	poweroff();
}

/* --- memory --------------------------------------------------------------------------------- */

extern uint64_t page_pml4[512], page_pd[4 * 512];

#define GUEST_WINDOW 0xfe000000u /* 2 MiB of virtual addresses where nothing of ours is */

static inline void guest_use_own_pages(void)
{
	__asm__ volatile("mov %0, %%cr3" ::"r"(page_pml4) : "memory");
}

/* Physical memory anywhere, seen through the window: valid until the next call. */
static inline void *guest_map(uint64_t phys)
{
	page_pd[GUEST_WINDOW >> 21] = (phys & ~0x1fffffull) | 0x87;
	guest_use_own_pages();
	return (void *)(uintptr_t)(GUEST_WINDOW | (phys & 0x1fffff));
}

/* --- PCI ------------------------------------------------------------------------------------ */

static inline uint32_t pci_read(unsigned slot, unsigned reg)
{
	outl(LAYOUT_PORT_PCI, 0x80000000u | slot << 11 | (reg & 0xfc));
	return inl(LAYOUT_PORT_PCI + 4);
}

static inline void pci_write(unsigned slot, unsigned reg, uint32_t v)
{
	outl(LAYOUT_PORT_PCI, 0x80000000u | slot << 11 | (reg & 0xfc));
	outl(LAYOUT_PORT_PCI + 4, v);
}

#endif
