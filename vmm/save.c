// SPDX-License-Identifier: ISC
/*
 * The order in which a guest is taken down into sections and put up again.
 *
 * Time. Between save and load the world goes on, and the guest's clocks with it: KVM's
 * clock and the TSC are set forward by the time that has passed on the host's real-time
 * clock; never back, should that have been set back. So what the guest computes from
 * either is right at once, and monotonic. The moment is taken before the clocks are
 * read at saving, and after at loading, so what is lost between does not make them go back.
 *
 * Interrupts. Loading, the local APICs come first, then the chips that feed them,
 * then the devices: what those raise from then on arrives. An MSI that KVM had
 * taken from an eventfd, and not delivered, when the APICs were read, is in
 * nobody's state; so a virtio device raises its interrupts once when it goes on
 * (virtio_state.c), which drivers must expect at any time.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "storage/block_node.h"
#include "util/cleanup.h"
#include "vmm/device.h"
#include "vmm/disk.h"
#include "vmm/save.h"
#include "vmm/virtio_net.h"
#include "vmm/vm_int.h"

#define TEN_YEARS_NS (10ull * 365 * 86400 * 1000000000)

static uint64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t save_tsc_ticks(const struct save_times *times)
{
	return (uint64_t)((unsigned __int128)times->elapsed_ns * times->tsc_khz / 1000000);
}

/* --- what it is made of --------------------------------------------------------------------- */

struct saved_disk {
	char name[VMM_NAME_MAX];
	uint32_t place, queues;
	bool readonly, has_contents;
	uint64_t bytes;
};

static void disk_fields(struct state *st, struct saved_disk *d)
{
	state_text(st, d->name, sizeof(d->name));
	state_u32(st, &d->place);
	state_u32(st, &d->queues);
	state_bool(st, &d->readonly);
	state_bool(st, &d->has_contents);
	state_u64(st, &d->bytes);
}

static uint64_t disk_bytes(const struct disk *disk)
{
	return disk->graph ? block_size(disk->graph->top) : 0;
}

static uint32_t count_nics(const struct vm_config *config)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < nitems(config->nics); i++)
		n += config->nics[i] != NULL;
	return n;
}

/* A section of their own, since states from before they could come and go have none. */
static void nics_save(const struct vm_config *config, struct state *st)
{
	if (!count_nics(config) || !state_begin(st, "nics", 1))
		return;
	for (uint32_t i = 0; i < nitems(config->nics); i++) {
		char name[VMM_NAME_MAX] = "";

		if (config->nics[i])
			memcpy(name, config->nics[i]->name, sizeof(name));
		state_text(st, name, sizeof(name));
	}
	state_end(st);
}

static void place_nic(struct vm_config *config, struct state *st, unsigned place)
{
	char name[VMM_NAME_MAX] = "";
	unsigned i = place;

	state_text(st, name, sizeof(name));
	if (!state_ok(st) || !name[0])
		return;
	/* those before have their places */
	for (i = 0; i < nitems(config->nics); i++)
		if (config->nics[i] && strcmp(config->nics[i]->name, name) == 0)
			break;
	if (i == nitems(config->nics)) {
		state_fail(st, -EINVAL, "the machine had a network card %s when it was saved",
			   name);
	} else {
		struct nic_config *other = config->nics[place];

		config->nics[place] = config->nics[i];
		config->nics[i] = other;
	}
}

/* In the slots where the guest knows them. As many as there are were saved, with their names. */
static void nics_load(struct vm_config *config, struct state *st)
{
	if (!count_nics(config) || !state_has(st, "nics") || !state_begin(st, "nics", 1))
		return;
	for (unsigned i = 0; i < nitems(config->nics) && state_ok(st); i++)
		place_nic(config, st, i);
	state_end(st);
}

static void config_save(const struct vm *vm, struct state *st)
{
	struct vm_config config = *vm->config;
	uint32_t cpus = config.cpus, n = 0, nics = count_nics(&config);

	if (!state_begin(st, "config", 1))
		return;
	state_text(st, config.name, sizeof(config.name));
	state_bytes(st, config.id, sizeof(config.id));
	state_u32(st, &cpus);
	state_u64(st, &config.memory_bytes);
	state_u32(st, &nics);
	for (unsigned i = 0; i < nitems(config.disks); i++)
		n += config.disks[i] != NULL;
	state_u32(st, &n);
	for (unsigned i = 0; i < nitems(config.disks); i++) {
		const struct disk *disk = config.disks[i];
		struct saved_disk d = {.place = i};

		if (!disk)
			continue;
		memcpy(d.name, disk->name, sizeof(d.name));
		d.queues = disk->queues;
		d.readonly = disk->readonly;
		d.has_contents = disk->graph;
		d.bytes = disk_bytes(disk);
		disk_fields(st, &d);
	}
	state_end(st);
}

static struct disk **find_disk(struct disk **disks, const char *name)
{
	for (unsigned i = 0; i < VMM_DISKS_MAX; i++)
		if (disks[i] && strcmp(disks[i]->name, name) == 0)
			return &disks[i];
	return NULL;
}

/* Takes it out of @from, and puts it in its place. */
static void place_disk(struct state *st, const struct saved_disk *d, struct disk **from,
		       struct disk **to)
{
	struct disk **disk = find_disk(from, d->name);

	if (!state_ok(st))
		return;
	if (d->place >= VMM_DISKS_MAX || to[d->place])
		state_fail(st, -EINVAL, "disk %s: its place", d->name);
	else if (!disk)
		state_fail(st, -EINVAL, "the machine had a disk %s when it was saved", d->name);
	else if (d->readonly != (*disk)->readonly)
		state_fail(st, -EINVAL, "disk %s was %s when it was saved", d->name,
			   d->readonly ? "read-only" : "writable");
	else if (d->bytes / 512 != disk_bytes(*disk) / 512) /* as the guest sees it */
		state_fail(st, -EINVAL, "disk %s had %llu bytes when it was saved, it has %llu now",
			   d->name, (unsigned long long)d->bytes,
			   (unsigned long long)disk_bytes(*disk));
	if (!state_ok(st))
		return;
	(*disk)->queues = d->queues;
	to[d->place] = take_ptr(*disk);
}

static void config_load(struct vm_config *config, struct state *st, struct disk **to)
{
	char name[VMM_NAME_MAX];
	uint64_t memory = 0;
	uint8_t id[16];
	uint32_t n = 0;

	if (!state_begin(st, "config", 1))
		return;
	state_text(st, name, sizeof(name));
	state_bytes(st, id, sizeof(id));
	state_same(st, "vcpus", config->cpus);
	state_u64(st, &memory);
	if (state_ok(st) && memory != config->memory_bytes)
		state_fail(st, -EINVAL, "memory: %llu bytes when it was saved, %llu now",
			   (unsigned long long)memory, (unsigned long long)config->memory_bytes);
	state_same(st, "network cards", count_nics(config));
	state_u32(st, &n);
	if (n > VMM_DISKS_MAX)
		state_fail(st, -EINVAL, "%u disks", n);
	for (unsigned i = 0; i < n && state_ok(st); i++) {
		struct saved_disk d = {0};

		disk_fields(st, &d);
		place_disk(st, &d, config->disks, to);
	}
	for (unsigned i = 0; i < VMM_DISKS_MAX && state_ok(st); i++)
		if (config->disks[i])
			state_fail(st, -EINVAL,
				   "the machine had no disk %s when it was saved, or an empty one",
				   config->disks[i]->name);
	state_end(st);
}

int vm_load_config(struct vm_config *config, struct state *st, struct err *err)
{
	struct disk *to[VMM_DISKS_MAX] = {NULL};

	config_load(config, st, to);
	nics_load(config, st);
	/* Those that found their place are the config's again in any case. */
	for (unsigned i = 0; i < VMM_DISKS_MAX; i++) {
		if (!to[i])
			continue;
		for (unsigned j = 0; config->disks[i] && j < VMM_DISKS_MAX; j++)
			if (!config->disks[j] && !to[j])
				config->disks[j] = take_ptr(config->disks[i]);
		config->disks[i] = to[i];
	}
	return state_result(st, err);
}

/* --- clocks and chips ----------------------------------------------------------------------- */

static void clock_state(struct vm *vm, struct state *st, struct save_times *times)
{
	struct kvm_clock_data clock = {0};
	bool loading = state_loading(st);
	uint64_t value, now;
	int khz = vm->n_vcpus ? ioctl(vm->vcpus[0]->fd, KVM_GET_TSC_KHZ, 0) : 0;

	if (!state_begin(st, "clock", 1))
		return;
	*times = (struct save_times){.saved_ns = real_ns(), .tsc_khz = khz > 0 ? (uint32_t)khz : 0};
	if (!loading && ioctl(vm->vm_fd, KVM_GET_CLOCK, &clock) < 0)
		state_fail(st, -errno, "KVM_GET_CLOCK: %s", strerror(errno));
	value = clock.clock;
	state_u64(st, &value);
	state_u64(st, &times->saved_ns);
	state_u32(st, &times->tsc_khz);
	state_end(st);
	if (!loading || !state_ok(st))
		return;
	now = real_ns();
	times->elapsed_ns = now > times->saved_ns ? now - times->saved_ns : 0;
	/* A clock that says so was never set. */
	if (times->elapsed_ns > TEN_YEARS_NS)
		times->elapsed_ns = 0;
	clock = (struct kvm_clock_data){.clock = value + times->elapsed_ns};
	if (ioctl(vm->vm_fd, KVM_SET_CLOCK, &clock) < 0)
		state_fail(st, -errno, "KVM_SET_CLOCK: %s", strerror(errno));
}

static void chips_state(struct vm *vm, struct state *st)
{
	static const uint32_t ids[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
				       KVM_IRQCHIP_IOAPIC};
	bool loading = state_loading(st);
	struct kvm_pit_state2 pit = {0};

	if (!state_begin(st, "chips", 1))
		return;
	for (unsigned i = 0; i < nitems(ids); i++) {
		struct kvm_irqchip chip = {.chip_id = ids[i]};

		if (!loading && ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip) < 0)
			state_fail(st, -errno, "KVM_GET_IRQCHIP: %s", strerror(errno));
		state_bytes(st, &chip.chip, sizeof(chip.chip));
		if (loading && state_ok(st) && ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &chip) < 0)
			state_fail(st, -errno, "KVM_SET_IRQCHIP: %s", strerror(errno));
	}
	if (!loading && ioctl(vm->vm_fd, KVM_GET_PIT2, &pit) < 0)
		state_fail(st, -errno, "KVM_GET_PIT2: %s", strerror(errno));
	state_bytes(st, &pit, sizeof(pit));
	if (loading && state_ok(st) && ioctl(vm->vm_fd, KVM_SET_PIT2, &pit) < 0)
		state_fail(st, -errno, "KVM_SET_PIT2: %s", strerror(errno));
	state_end(st);
}

static void vcpus_state(struct vm *vm, struct state *st, const struct save_times *times)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		char name[STATE_NAME_MAX];

		snprintf(name, sizeof(name), "vcpu.%u", i);
		if (!state_begin(st, name, 1))
			return;
		vcpu_state(vm->vcpus[i], st, times);
		state_end(st);
	}
}

/* --- devices -------------------------------------------------------------------------------- */

static void console_section(struct vm *vm, struct state *st)
{
	if (!state_begin(st, "console", 1))
		return;
	console_state(vm->console, st);
	state_end(st);
}

static void devices_state(struct vm *vm, struct state *st)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next) {
		if (!dev->ops->state) {
			state_fail(st, -EOPNOTSUPP, "%s cannot be saved", dev->name);
			return;
		}
		if (dev->ops->state_may_lack && state_loading(st) && !state_has(st, dev->name))
			continue;
		if (!state_begin(st, dev->name, dev->ops->state_version))
			return;
		dev->ops->state(dev, st);
		state_end(st);
	}
}

void vm_save(struct vm *vm, struct state *st)
{
	struct save_times times;

	config_save(vm, st);
	nics_save(vm->config, st);
	clock_state(vm, st, &times);
	vcpus_state(vm, st, &times);
	chips_state(vm, st);
	console_section(vm, st);
	devices_state(vm, st);
}

void vm_load(struct vm *vm, struct state *st)
{
	struct save_times times;

	clock_state(vm, st, &times);
	vcpus_state(vm, st, &times);
	chips_state(vm, st);
	console_section(vm, st);
	devices_state(vm, st);
	state_check_all_used(st);
}
