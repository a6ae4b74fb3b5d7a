// SPDX-License-Identifier: ISC
/*
 * The device is a place in reserved memory, which ADDR of its ACPI device names, and a general
 * purpose event. That is a level, as all of them here (pm.c): its method reads the one
 * register, at LAYOUT_PORT_GENERATION, which takes it down, and then notifies the device
 * (0x80). Several new ids before the guest looks are one event.
 *
 * A guest of a state from before there was this device has none in its tables either: its
 * memory is left alone.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/cleanup.h"
#include "vmm/devices.h"
#include "vmm/layout.h"
#include "vmm/state.h"
#include "vmm/vmgenid.h"

#define PORTS	4
#define CHANGED 0x80 /* what the device is notified of */

struct vmgenid {
	struct device dev;
	struct device *pm; /* has the event */
	bool known;	   /* it is in the guest's tables */
	uint8_t id[VMGENID_BYTES];
	pthread_mutex_t lock; /* before pm's; guards what follows */
	bool changed;	      /* the guest has not heard of it */
};

static struct vmgenid *find(struct vm *vm)
{
	return (struct vmgenid *)device_find(vm, &vmgenid_device);
}

void vmgenid_make(uint8_t id[VMGENID_BYTES])
{
	/* 16 bytes are given at once, or not at all. */
	if (getrandom(id, VMGENID_BYTES, 0) != VMGENID_BYTES)
		memset(id, 0, VMGENID_BYTES);
}

static void set_changed(struct vmgenid *g, bool changed)
{
	LOCK_SCOPE(&g->lock);
	g->changed = changed;
	pm_gpe_set(g->pm, LAYOUT_GPE_GENERATION, changed);
}

static void place(struct vmgenid *g)
{
	gmem_write(&g->dev.vm->mem, LAYOUT_GENERATION, g->id, sizeof(g->id));
}

void vmgenid_place(struct vm *vm)
{
	struct vmgenid *g = find(vm);

	g->known = true;
	place(g);
}

void vmgenid_renew(struct vm *vm, const uint8_t id[VMGENID_BYTES])
{
	struct vmgenid *g = find(vm);

	memcpy(g->id, id, sizeof(g->id));
	if (!g->known)
		return;
	place(g);
	set_changed(g, true);
}

void vmgenid_get(struct vm *vm, uint8_t id[VMGENID_BYTES])
{
	memcpy(id, find(vm)->id, VMGENID_BYTES);
}

/* --- the guest's side ---------------------------------------------------------------------------
 */

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
	struct vmgenid *g = opaque;
	bool changed;

	if (offset != 0 || size != 4)
		return 0;
	LOCK_SCOPE(&g->lock);
	changed = g->changed;
	g->changed = false;
	pm_gpe_set(g->pm, LAYOUT_GPE_GENERATION, false);
	return changed;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque, (void)offset, (void)size, (void)value;
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};

void vmgenid_add_device(struct tables *t)
{
	struct aml *out = &t->out;
	size_t dev = aml_device(out, "VGEN"), package, field;

	aml_name_string(out, "_HID", "FVVM0001");
	aml_name_string(out, "_CID", "VM_Gen_Counter");
	aml_name_string(out, "_DDN", "VM_Gen_Counter");
	aml_name(out, "ADDR");
	package = aml_package(out, 2);
	aml_int(out, (uint32_t)LAYOUT_GENERATION);
	aml_int(out, (uint64_t)LAYOUT_GENERATION >> 32);
	aml_end(out, package);
	aml_region_io(out, "VGRG", LAYOUT_PORT_GENERATION, PORTS);
	field = aml_field_dwords(out, "VGRG");
	aml_field_unit(out, "VGCH", 32);
	aml_end(out, field);
	aml_end(out, dev);
}

void vmgenid_add_event(struct tables *t)
{
	struct aml *out = &t->out;
	size_t scope = aml_scope(out, "\\_GPE"), method, changed;
	char name[5];

	snprintf(name, sizeof(name), "_L%02X", LAYOUT_GPE_GENERATION);
	method = aml_method(out, name, 0);
	changed = aml_if(out);
	aml_path(out, "\\_SB.VGEN.VGCH");
	aml_op(out, AML_NOTIFY);
	aml_path(out, "\\_SB.VGEN");
	aml_int(out, CHANGED);
	aml_end(out, changed);
	aml_end(out, method);
	aml_end(out, scope);
}

/* --- device -------------------------------------------------------------------------------------
 */

static void vmgenid_state(struct device *dev, struct state *st)
{
	struct vmgenid *g = (struct vmgenid *)dev;

	state_same(st, "its address", LAYOUT_GENERATION);
	state_bool(st, &g->known);
	state_bytes(st, g->id, sizeof(g->id));
	state_bool(st, &g->changed);
	if (state_loading(st) && state_ok(st) && g->known)
		place(g);
}

static void vmgenid_destroy(struct device *dev)
{
	struct vmgenid *g = (struct vmgenid *)dev;

	bus_remove(dev->vm->bus, BUS_PIO, LAYOUT_PORT_GENERATION, false);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

static int vmgenid_create(struct vm *vm, struct err *err)
{
	struct vmgenid *g = calloc(1, sizeof(*g));
	int ret;

	if (!g)
		return err_set(err, -ENOMEM, "no memory");
	g->pm = device_find(vm, &pm_device);
	memcpy(g->id, vm->config->generation, sizeof(g->id));
	pthread_mutex_init(&g->lock, NULL);
	ret = bus_add(vm->bus, BUS_PIO, LAYOUT_PORT_GENERATION, PORTS, &port_ops, g);
	if (ret < 0) {
		pthread_mutex_destroy(&g->lock);
		free(g);
		return err_set(err, ret, "no room for the generation id's port");
	}
	device_add(vm, &g->dev, &vmgenid_device, "vmgenid");
	return 0;
}

const struct device_ops vmgenid_device = {
    .name = "vmgenid",
    .create = vmgenid_create,
    .destroy = vmgenid_destroy,
    .state_version = 1,
    .state_may_lack = true,
    .state = vmgenid_state,
};
