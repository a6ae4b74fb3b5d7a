/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_IRQ_H
#define FV_VMM_IRQ_H
/*
 * Interrupts into KVM's in-kernel chips: lines (GSI) and messages (MSI). Both
 * can be raised from any thread; messages go over irqfd with a route in KVM's
 * routing table.
 */
#include <stdbool.h>
#include <stdint.h>

struct vm;
struct irq;

/* Sets a pin of the PIC and I/O APIC (KVM_IRQ_LINE). */
void irq_line_set(struct vm *vm, unsigned gsi, bool level);

struct irq_msi; /* one message: a GSI of its own, an eventfd, a route */

int irq_msi_new(struct vm *vm, struct irq_msi **msi);
void irq_msi_free(struct vm *vm, struct irq_msi *msi);
/* Programs where it goes (address and data as the guest wrote them to the MSI-X table). */
int irq_msi_route(struct vm *vm, struct irq_msi *msi, uint64_t address, uint32_t data);
/* Raises it: one eventfd write; nothing if it has no route yet. */
void irq_msi_raise(struct irq_msi *msi);
/* The eventfd, for those who raise it by themselves (vhost); borrowed. */
int irq_msi_fd(const struct irq_msi *msi);

#endif
