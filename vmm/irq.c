// SPDX-License-Identifier: ISC
/*
 * Interrupts into KVM's chips. Setting KVM's routing table replaces it whole, so
 * it is kept here: the pins of PIC and I/O APIC first, then the messages, each
 * at its GSI. Line 0 (the PIT) goes to I/O APIC pin 2, as on every PC and as
 * the MADT says; GSI 2 is the cascade of the two PICs and goes nowhere.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define LOG_MODULE "irq"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/vm_int.h"
#include "util/cleanup.h"
#include "util/log.h"

#define MSI_MAX	    1000 /* KVM takes 4096 routes */
#define PIN_ENTRIES (16 + LAYOUT_IOAPIC_PINS)

struct irq_msi {
	unsigned gsi;
	int fd;
	bool routed;
};

struct irq {
	pthread_mutex_t lock; /* guards all */
	struct {
		bool used, routed;
		uint64_t address;
		uint32_t data;
	} msi[MSI_MAX]; /* GSI LAYOUT_IOAPIC_PINS + index */
	unsigned n_msi; /* behind the last one used */
};

static unsigned add_pins(struct kvm_irq_routing_entry *e)
{
	unsigned n = 0;

	for (unsigned gsi = 0; gsi < LAYOUT_IOAPIC_PINS; gsi++) {
		if (gsi == 2)
			continue;
		if (gsi < 16)
			e[n++] = (struct kvm_irq_routing_entry){
			    .gsi = gsi,
			    .type = KVM_IRQ_ROUTING_IRQCHIP,
			    .u.irqchip.irqchip =
				gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
			    .u.irqchip.pin = gsi % 8,
			};
		e[n++] = (struct kvm_irq_routing_entry){
		    .gsi = gsi,
		    .type = KVM_IRQ_ROUTING_IRQCHIP,
		    .u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC,
		    .u.irqchip.pin = gsi == 0 ? 2 : gsi,
		};
	}
	return n;
}

/* Under lock. */
static int set_routing(struct vm *vm)
{
	const struct irq *irq = vm->irq;
	_cleanup_free_ struct kvm_irq_routing *table =
	    calloc(1, sizeof(*table) + (PIN_ENTRIES + irq->n_msi) * sizeof(table->entries[0]));
	unsigned n;

	if (!table)
		return -ENOMEM;
	n = add_pins(table->entries);
	for (unsigned i = 0; i < irq->n_msi; i++) {
		if (!irq->msi[i].routed)
			continue;
		table->entries[n++] = (struct kvm_irq_routing_entry){
		    .gsi = LAYOUT_IOAPIC_PINS + i,
		    .type = KVM_IRQ_ROUTING_MSI,
		    .u.msi.address_lo = (uint32_t)irq->msi[i].address,
		    .u.msi.address_hi = (uint32_t)(irq->msi[i].address >> 32),
		    .u.msi.data = irq->msi[i].data,
		};
	}
	table->nr = n;
	return ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, table) < 0 ? -errno : 0;
}

int irq_create(struct vm *vm, struct err *err)
{
	int ret;

	vm->irq = calloc(1, sizeof(*vm->irq));
	if (!vm->irq)
		return err_set(err, -ENOMEM, "no memory");
	pthread_mutex_init(&vm->irq->lock, NULL);
	ret = set_routing(vm);
	if (ret < 0)
		return err_set(err, ret, "KVM: cannot route interrupts");
	return 0;
}

void irq_destroy(struct vm *vm)
{
	if (!vm->irq)
		return;
	pthread_mutex_destroy(&vm->irq->lock);
	free(vm->irq);
	vm->irq = NULL;
}

void irq_line_set(struct vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	if (ioctl(vm->vm_fd, KVM_IRQ_LINE, &line) < 0)
		log_debug("KVM_IRQ_LINE %u: %s", gsi, strerror(errno));
}

static int take_slot(struct irq *irq)
{
	LOCK_SCOPE(&irq->lock);

	for (unsigned i = 0; i < MSI_MAX; i++) {
		if (irq->msi[i].used)
			continue;
		irq->msi[i].used = true;
		if (i >= irq->n_msi)
			irq->n_msi = i + 1;
		return (int)i;
	}
	return -ENOSPC;
}

static void drop_slot(struct irq *irq, unsigned slot)
{
	LOCK_SCOPE(&irq->lock);

	irq->msi[slot].used = irq->msi[slot].routed = false;
}

static int set_irqfd(struct vm *vm, const struct irq_msi *msi, bool add)
{
	struct kvm_irqfd irqfd = {
	    .fd = (uint32_t)msi->fd,
	    .gsi = msi->gsi,
	    .flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return ioctl(vm->vm_fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

int irq_msi_new(struct vm *vm, struct irq_msi **out)
{
	int slot = take_slot(vm->irq), ret = -ENOMEM;
	struct irq_msi *msi;

	if (slot < 0)
		return slot;
	msi = calloc(1, sizeof(*msi));
	if (msi) {
		msi->gsi = LAYOUT_IOAPIC_PINS + (unsigned)slot;
		msi->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ret = msi->fd < 0 ? -errno : set_irqfd(vm, msi, true);
	}
	if (ret < 0) {
		if (msi && msi->fd >= 0)
			close(msi->fd);
		free(msi);
		drop_slot(vm->irq, (unsigned)slot);
		return ret;
	}
	*out = msi;
	return 0;
}

void irq_msi_free(struct vm *vm, struct irq_msi *msi)
{
	if (!msi)
		return;
	set_irqfd(vm, msi, false);
	close(msi->fd);
	/* Its route stays in KVM's table until the next change, and nothing uses it. */
	drop_slot(vm->irq, msi->gsi - LAYOUT_IOAPIC_PINS);
	free(msi);
}

int irq_msi_route(struct vm *vm, struct irq_msi *msi, uint64_t address, uint32_t data)
{
	struct irq *irq = vm->irq;
	unsigned slot = msi->gsi - LAYOUT_IOAPIC_PINS;
	int ret;

	LOCK_SCOPE(&irq->lock);
	if (irq->msi[slot].routed && irq->msi[slot].address == address &&
	    irq->msi[slot].data == data)
		return 0;
	irq->msi[slot].routed = true;
	irq->msi[slot].address = address;
	irq->msi[slot].data = data;
	ret = set_routing(vm);
	if (ret < 0)
		irq->msi[slot].routed = false;
	__atomic_store_n(&msi->routed, ret == 0, __ATOMIC_RELEASE);
	return ret;
}

void irq_msi_raise(struct irq_msi *msi)
{
	const uint64_t one = 1;

	if (!__atomic_load_n(&msi->routed, __ATOMIC_ACQUIRE))
		return;
	/* A count at its limit has the interrupt pending anyway. */
	if (write(msi->fd, &one, sizeof(one)) < 0)
		return;
}

int irq_msi_fd(const struct irq_msi *msi)
{
	return msi->fd;
}
