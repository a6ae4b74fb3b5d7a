/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_LAYOUT_H
#define FV_VMM_LAYOUT_H
/*
 * Where everything is in the guest: memory, ports, interrupts. RAM has a hole between LOW_RAM_END
 * and 4 GiB.
 */

/* Below 1 MiB */
#define LAYOUT_GDT	   0x500
#define LAYOUT_PVH_INFO	   0x6000 /* hvm_start_info, its modules and memory map */
#define LAYOUT_BOOT_PARAMS 0x7000 /* the "zero page" */
#define LAYOUT_BOOT_STACK  0x8ff0
#define LAYOUT_PAGE_TABLES 0x9000 /* PML4, PDPT, 4 PDs: identity map of 4 GiB with 2 MiB pages */
#define LAYOUT_CMDLINE	   0x20000
#define LAYOUT_EBDA	   0x9fc00 /* MP floating pointer and table */
#define LAYOUT_EBDA_END	   0xa0000
#define LAYOUT_ACPI	   0xe0000 /* RSDP first, then the tables; reserved in e820 */
#define LAYOUT_GENERATION  0xef000 /* the VM generation ID; a page of its own */
#define LAYOUT_ACPI_END	   0x100000

/* RAM and the hole */
#define LAYOUT_RAM_START    0x100000ull
#define LAYOUT_LOW_RAM_END  0xc0000000ull /* 3 GiB: RAM beyond continues at 4 GiB */
#define LAYOUT_HIGH_RAM	    0x100000000ull
#define LAYOUT_PCI_MMIO	    0xc0000000ull /* 32-bit BARs */
#define LAYOUT_PCI_MMIO_END 0xe0000000ull
#define LAYOUT_ECAM	    0xe0000000ull /* one bus: 1 MiB */
#define LAYOUT_ECAM_END	    0xe0100000ull
#define LAYOUT_IOAPIC	    0xfec00000ull
#define LAYOUT_LAPIC	    0xfee00000ull
#define LAYOUT_IDENTITY_MAP 0xfeffc000ull /* KVM_SET_IDENTITY_MAP_ADDR */
#define LAYOUT_TSS	    0xfeffd000ull /* KVM_SET_TSS_ADDR, 3 pages */
/* 64-bit BARs: the 64 GiB at the first multiple of 64 GiB behind the end of RAM */
#define LAYOUT_PCI_MMIO64_SIZE (64ull << 30)

/* Ports */
#define LAYOUT_PORT_I8042      0x60
#define LAYOUT_PORT_RTC	       0x70
#define LAYOUT_PORT_COM1       0x3f8
#define LAYOUT_PORT_PM_EVT     0x600 /* PM1a_EVT_BLK, 4 bytes */
#define LAYOUT_PORT_PM_CNT     0x604 /* PM1a_CNT_BLK, 2 bytes */
#define LAYOUT_PORT_PM_TMR     0x608 /* PM timer, 4 bytes */
#define LAYOUT_PORT_GPE0       0x620 /* GPE0_BLK, 4 bytes */
#define LAYOUT_PORT_HOTPLUG    0x640 /* hotplug.h: three registers of 4 bytes */
#define LAYOUT_PORT_GENERATION 0x650 /* vmgenid.c: 4 bytes */
#define LAYOUT_PORT_PCI	       0xcf8
#define LAYOUT_PORT_RESET      0xcf9 /* ACPI RESET_REG: bit 2 resets */
#define LAYOUT_GPE_HOTPLUG     1     /* the general purpose event of the hotplug ports */
#define LAYOUT_GPE_GENERATION  2     /* the same, of a new VM generation ID */
#define LAYOUT_SLP_S5	       5     /* SLP_TYP written to PM1a_CNT for soft-off: \_S5 says it */

/* Interrupts (GSI = I/O APIC pin) */
#define LAYOUT_IRQ_COM1	    4
#define LAYOUT_IRQ_SCI	    9
#define LAYOUT_IRQ_RTC	    8
#define LAYOUT_IRQ_PCI_BASE 16 /* INTA# of slot n: GSI 16 + n % 4, level, active high in MADT */
#define LAYOUT_IOAPIC_PINS  24
#define LAYOUT_PCI_SLOTS    32

#endif
