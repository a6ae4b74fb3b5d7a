// SPDX-License-Identifier: ISC
/*
 * The hotplug ports, configuration space and BARs of devices that come and go, as a guest and
 * the host do it in any order, on a machine without KVM. Kept between inputs: each ends with
 * all devices gone and a slot that works.
 *
 * Input: operations, a byte each with its operands: see LLVMFuzzerTestOneInput().
 */
#include "tests/unit/vmm/fake_vm.h"
#include "vmm/devices.h"
#include "vmm/hotplug.h"

#define FIRST	PCI_SLOT_DISKS
#define N_SLOTS 4 /* that are played with, from FIRST on */
#define EJECT	(LAYOUT_PORT_HOTPLUG + 8)

struct input {
	const uint8_t *data;
	size_t len;
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->len; i++, in->len--)
		value |= (uint64_t)*in->data++ << 8 * i;
	return value;
}

/* --- a device with two BARs ------------------------------------------------------------------ */

struct probe {
	struct device dev;
	struct pci_device pci;
	unsigned alive; /* 0 once it is freed */
};

static struct probe *probe_of(struct pci_device *pci)
{
	return (struct probe *)((char *)pci - offsetof(struct probe, pci));
}

static uint64_t probe_read(struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size)
{
	if (!probe_of(pci)->alive || offset + size > pci->bars[bar].bytes)
		abort();
	return offset;
}

static void probe_write(struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size,
			uint64_t value)
{
	(void)value;
	probe_read(pci, bar, offset, size);
}

static const struct pci_device_ops probe_pci = {.bar_read = probe_read, .bar_write = probe_write};

static void probe_destroy(struct device *dev)
{
	struct probe *p = (struct probe *)dev;

	pci_device_fini(&p->pci);
	p->alive = 0;
	free(p);
}

static const struct device_ops probe_ops = {.name = "probe", .destroy = probe_destroy};
static struct probe *probes[N_SLOTS];

static void attach(struct fake_vm *f, unsigned i)
{
	static const struct pci_id id = {
	    .vendor = 0x1234, .device = 0x5678, .class_code = 0xff0000};
	struct probe *p = probes[i] ? NULL : calloc(1, sizeof(*p));

	if (!p)
		return;
	p->alive = 1;
	pci_device_init(&p->pci, &f->vm, &probe_pci, &id);
	if (pci_msix_add(&p->pci, 2, 2) < 0)
		abort();
	pci_bar_add(&p->pci, 0, 0x4000, true);
	if (pci_device_plug(&p->pci, FIRST + i, NULL) < 0)
		abort();
	device_add(&f->vm, &p->dev, &probe_ops, "probe");
	probes[i] = p;
	hotplug_show(&f->vm, FIRST + i);
}

static void end(struct fake_vm *f, unsigned i)
{
	struct probe *p = probes[i];

	probes[i] = NULL;
	device_remove(&p->dev);
	probe_destroy(&p->dev);
	hotplug_done(&f->vm, FIRST + i);
}

/* As control does it after a wake-up; what is told must be so. */
static void look(struct fake_vm *f)
{
	uint32_t ejected = hotplug_ejected(&f->vm);

	for (unsigned slot = 0; slot < LAYOUT_PCI_SLOTS; slot++) {
		if (!(ejected >> slot & 1))
			continue;
		if (slot < FIRST || slot >= FIRST + N_SLOTS || !probes[slot - FIRST] ||
		    fake_config_read(f, slot, 0, 4) != 0xffffffff)
			abort();
		end(f, slot - FIRST);
	}
}

static void force(struct fake_vm *f, unsigned i)
{
	if (!probes[i])
		return;
	hotplug_take(&f->vm, FIRST + i);
	end(f, i);
}

static struct fake_vm *machine(void)
{
	static struct fake_vm *f;

	if (f)
		return f;
	f = fake_vm_new();
	if (!fake_create(f, &pm_device) || !fake_create(f, &hotplug_device))
		abort();
	fake_write(f, BUS_PIO, LAYOUT_PORT_GPE0 + 2, 2, 1u << LAYOUT_GPE_HOTPLUG);
	return f;
}

/* A slot comes and goes as it should. */
static void works(struct fake_vm *f)
{
	const uint64_t at = LAYOUT_PCI_MMIO_END - 0x10000;

	/* answers what was torn out */
	fake_read(f, BUS_PIO, LAYOUT_PORT_HOTPLUG + 4, 4);
	fake_write(f, BUS_PIO, EJECT, 4, 0xffffffff);
	attach(f, 0);
	if (!(fake_read(f, BUS_PIO, LAYOUT_PORT_HOTPLUG, 4) & 1u << FIRST))
		abort();
	fake_config_write(f, FIRST, PCI_BASE_ADDRESS_0, 4, at);
	fake_config_write(f, FIRST, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	if (fake_read(f, BUS_MMIO, at + 0x10, 4) != 0x10)
		abort();
	if (hotplug_ask(&f->vm, FIRST, NULL) < 0 ||
	    fake_read(f, BUS_PIO, LAYOUT_PORT_HOTPLUG + 4, 4) != 1u << FIRST)
		abort();
	fake_write(f, BUS_PIO, EJECT, 4, 1u << FIRST);
	look(f);
	if (probes[0] || fake_config_read(f, PCI_SLOT_HOST, 0, 4) == 0xffffffff)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fake_vm *f = machine();
	struct input in = {data, len};

	while (in.len) {
		unsigned op = take(&in, 1), i = op >> 6 & 3, size = 1u << (op >> 4 & 3);
		unsigned port = size < 8 ? size : 4; /* no wider ports */

		switch (op & 15) {
		case 0:
		case 1:
			attach(f, i);
			break;
		case 2:
			hotplug_ask(&f->vm, FIRST + i, NULL);
			break;
		case 3:
			force(f, i);
			break;
		case 4:
			look(f);
			break;
		case 5:
			fake_write(f, BUS_PIO, EJECT, 4, 1u << (FIRST + i));
			break;
		case 6:
			fake_write(f, BUS_PIO, LAYOUT_PORT_HOTPLUG + (take(&in, 1) & 15), port,
				   take(&in, 4));
			break;
		case 7:
			fake_read(f, BUS_PIO, LAYOUT_PORT_HOTPLUG + (take(&in, 1) & 15), port);
			break;
		case 8:
			fake_write(f, BUS_PIO, LAYOUT_PORT_GPE0 + (take(&in, 1) & 3), port,
				   take(&in, 4));
			break;
		case 9:
			/* a BAR, in one of a few places that overlap */
			fake_config_write(f, FIRST + i, PCI_BASE_ADDRESS_0 + (op & 32 ? 8 : 0), 4,
					  LAYOUT_PCI_MMIO + 0x1000 * (take(&in, 1) & 15));
			break;
		case 10:
			fake_config_write(f, FIRST + i, PCI_COMMAND, 2, take(&in, 2) | 2);
			break;
		case 11:
			fake_write(f, BUS_MMIO, fake_config_at(FIRST + i, take(&in, 1)), size,
				   take(&in, size));
			break;
		case 12:
			fake_write(f, BUS_PIO, LAYOUT_PORT_PCI, 4, take(&in, 4));
			fake_write(f, BUS_PIO, LAYOUT_PORT_PCI + 4 + (op >> 4 & 3), 1,
				   take(&in, 1));
			break;
		case 13:
			fake_write(f, BUS_MMIO, LAYOUT_PCI_MMIO + (take(&in, 2) & 0x1ffff), size,
				   take(&in, size));
			break;
		case 14:
			fake_read(f, BUS_MMIO, LAYOUT_PCI_MMIO + (take(&in, 2) & 0x1ffff), size);
			break;
		default:
			if (probes[i])
				pci_intx_set(&probes[i]->pci, op >> 4 & 1);
		}
	}
	look(f);
	for (unsigned i = 0; i < N_SLOTS; i++)
		force(f, i);
	fake_write(f, BUS_PIO, LAYOUT_PORT_GPE0 + 2, 2, 1u << LAYOUT_GPE_HOTPLUG);
	works(f);
	return 0;
}
