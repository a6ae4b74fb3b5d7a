/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_FAKE_VM_H
#define FV_TEST_FAKE_VM_H
/*
 * A machine without KVM: plain memory, the real buses and counters, and
 * stand-ins for what only KVM or the control thread could do. A test program is
 * one file that includes this once: the stand-ins take the place of the library's.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/console.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"

#define FAKE_RAM_BYTES (4ull << 20)
/* A test that waits longer than this has failed. */
#define FAKE_DEADLINE_MS 30000

struct fake_vm {
	struct vm vm; /* first */
	struct vm_config config;
	/* the lines as the interrupt controller sees them; atomic */
	int lines[LAYOUT_IOAPIC_PINS];
	unsigned line_changes;
	/* ioeventfds */
	pthread_mutex_t lock;
	struct {
		uint64_t addr;
		int fd;
	} kicks[256];
	unsigned n_kicks, routes;
	int ends;  /* calls of vm_end() */
	int wakes; /* and of vm_wake(); atomic */
	enum vm_end last_end;
	/* the console */
	char output[65536];
	size_t output_len;
	char input[4096];
	size_t input_len;
	void (*reader)(void *arg);
	void *reader_arg;
};

struct irq_msi {
	int fd;
	uint64_t address;
	uint32_t data;
	bool routed;
};

static inline struct fake_vm *fake(struct vm *vm)
{
	return (struct fake_vm *)vm;
}

/* --- stand-ins ---------------------------------------------------------------------------- */

void vm_end(struct vm *vm, enum vm_end end, const char *fmt, ...)
{
	(void)fmt;
	fake(vm)->ends++;
	fake(vm)->last_end = end;
}

void vm_wake(struct vm *vm)
{
	__atomic_fetch_add(&fake(vm)->wakes, 1, __ATOMIC_SEQ_CST);
}

int vm_ioeventfd(struct vm *vm, enum bus_kind kind, uint64_t addr, unsigned len, bool match,
		 uint64_t data, int fd, bool add)
{
	struct fake_vm *f = fake(vm);
	int r = add ? -ENOSPC : -ENOENT;

	(void)len;
	(void)data;
	assert(kind == BUS_MMIO && !match);
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->n_kicks && !add; i++) {
		if (f->kicks[i].addr == addr && f->kicks[i].fd == fd) {
			f->kicks[i] = f->kicks[--f->n_kicks];
			r = 0;
			break;
		}
	}
	if (add && f->n_kicks < 256) {
		f->kicks[f->n_kicks].addr = addr;
		f->kicks[f->n_kicks++].fd = fd;
		r = 0;
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

void irq_line_set(struct vm *vm, unsigned gsi, bool level)
{
	assert(gsi < LAYOUT_IOAPIC_PINS);
	__atomic_store_n(&fake(vm)->lines[gsi], level, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&fake(vm)->line_changes, 1, __ATOMIC_SEQ_CST);
}

int irq_msi_new(struct vm *vm, struct irq_msi **msi)
{
	(void)vm;
	*msi = calloc(1, sizeof(**msi));
	assert(*msi);
	(*msi)->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert((*msi)->fd >= 0);
	return 0;
}

void irq_msi_free(struct vm *vm, struct irq_msi *msi)
{
	(void)vm;
	if (!msi)
		return;
	close(msi->fd);
	free(msi);
}

int irq_msi_route(struct vm *vm, struct irq_msi *msi, uint64_t address, uint32_t data)
{
	fake(vm)->routes++;
	msi->address = address;
	msi->data = data;
	msi->routed = true;
	return 0;
}

void irq_msi_raise(struct irq_msi *msi)
{
	if (msi->routed)
		eventfd_write(msi->fd, 1);
}

int irq_msi_fd(const struct irq_msi *msi)
{
	return msi->fd;
}

void device_add(struct vm *vm, struct device *dev, const struct device_ops *ops, const char *name)
{
	struct device **last = &vm->devices;

	dev->ops = ops;
	dev->vm = vm;
	snprintf(dev->name, sizeof(dev->name), "%s", name);
	dev->next = NULL;
	while (*last)
		last = &(*last)->next;
	*last = dev;
}

void device_remove(struct device *dev)
{
	struct device **at = &dev->vm->devices;

	while (*at && *at != dev)
		at = &(*at)->next;
	if (*at)
		*at = dev->next;
}

struct device *device_find(struct vm *vm, const struct device_ops *ops)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops == ops)
			return dev;
	return NULL;
}

/* The console is the machine itself. */
static inline struct fake_vm *fake_console(struct console *console)
{
	return (struct fake_vm *)console;
}

void console_output(struct console *console, const void *data, size_t len)
{
	struct fake_vm *f = fake_console(console);

	pthread_mutex_lock(&f->lock);
	if (len > sizeof(f->output) - f->output_len)
		len = sizeof(f->output) - f->output_len;
	memcpy(f->output + f->output_len, data, len);
	f->output_len += len;
	pthread_mutex_unlock(&f->lock);
}

size_t console_input(struct console *console, void *buf, size_t len)
{
	struct fake_vm *f = fake_console(console);

	pthread_mutex_lock(&f->lock);
	if (len > f->input_len)
		len = f->input_len;
	memcpy(buf, f->input, len);
	memmove(f->input, f->input + len, f->input_len - len);
	f->input_len -= len;
	pthread_mutex_unlock(&f->lock);
	return len;
}

void console_set_reader(struct console *console, void (*notify)(void *arg), void *arg)
{
	struct fake_vm *f = fake_console(console);

	pthread_mutex_lock(&f->lock);
	f->reader = notify;
	f->reader_arg = arg;
	pthread_mutex_unlock(&f->lock);
}

/* Somebody types. */
static inline void fake_type(struct fake_vm *f, const char *text)
{
	void (*reader)(void *arg);
	void *arg;

	pthread_mutex_lock(&f->lock);
	memcpy(f->input + f->input_len, text, strlen(text));
	f->input_len += strlen(text);
	reader = f->reader;
	arg = f->reader_arg;
	pthread_mutex_unlock(&f->lock);
	if (reader)
		reader(arg);
}

/* --- the machine -------------------------------------------------------------------------- */

/* With a PCI bus; its devices are made by fake_create(). */
static inline struct fake_vm *fake_vm_new(void)
{
	struct fake_vm *f = calloc(1, sizeof(*f));
	void *ram =
	    mmap(NULL, FAKE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert(f && ram != MAP_FAILED);
	pthread_mutex_init(&f->lock, NULL);
	f->config.cpus = 2;
	f->vm.config = &f->config;
	f->vm.ram_top = FAKE_RAM_BYTES;
	f->vm.console = (struct console *)f;
	f->vm.mem.n_regions = 1;
	f->vm.mem.regions[0] = (struct gmem_region){.gpa = 0, .bytes = FAKE_RAM_BYTES, .host = ram};
	if (bus_new(&f->vm.bus) < 0 || stats_new(&f->vm.stats) < 0 ||
	    pci_host_device.create(&f->vm, NULL) < 0)
		abort();
	return f;
}

static inline struct device *fake_create(struct fake_vm *f, const struct device_ops *ops)
{
	struct err err = ERR_INIT;
	struct device *dev;

	if (ops->create(&f->vm, &err) < 0) {
		fprintf(stderr, "%s: %s\n", ops->name, err.text);
		return NULL;
	}
	for (dev = f->vm.devices; dev->next; dev = dev->next)
		;
	return dev;
}

static inline void fake_destroy_devices(struct fake_vm *f)
{
	while (f->vm.devices) {
		struct device **last = &f->vm.devices, *dev;

		while ((*last)->next)
			last = &(*last)->next;
		dev = *last;
		*last = NULL;
		dev->ops->destroy(dev);
	}
}

static inline void fake_vm_free(struct fake_vm *f)
{
	fake_destroy_devices(f);
	assert(f->n_kicks == 0); /* every ioeventfd was taken back */
	bus_free(f->vm.bus);
	stats_free(f->vm.stats);
	munmap(f->vm.mem.regions[0].host, FAKE_RAM_BYTES);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static inline uint8_t *fake_ram(struct fake_vm *f, uint64_t gpa)
{
	return f->vm.mem.regions[0].host + gpa;
}

/* --- what a vcpu does --------------------------------------------------------------------- */

static inline uint64_t fake_read(struct fake_vm *f, enum bus_kind kind, uint64_t addr,
				 unsigned size)
{
	uint64_t value = 0;

	bus_access(f->vm.bus, kind, addr, &value, size, false);
	return value;
}

static inline void fake_write(struct fake_vm *f, enum bus_kind kind, uint64_t addr, unsigned size,
			      uint64_t value)
{
	int fd = -1;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->n_kicks && kind == BUS_MMIO; i++) {
		if (f->kicks[i].addr == addr)
			fd = f->kicks[i].fd;
	}
	pthread_mutex_unlock(&f->lock);
	if (fd >= 0)
		eventfd_write(fd, 1);
	else
		bus_access(f->vm.bus, kind, addr, &value, size, true);
}

/* Configuration space, by ECAM. */
static inline uint64_t fake_config_at(unsigned slot, unsigned reg)
{
	return LAYOUT_ECAM + (slot << 15) + reg;
}

static inline uint32_t fake_config_read(struct fake_vm *f, unsigned slot, unsigned reg,
					unsigned size)
{
	return fake_read(f, BUS_MMIO, fake_config_at(slot, reg), size);
}

static inline void fake_config_write(struct fake_vm *f, unsigned slot, unsigned reg, unsigned size,
				     uint32_t value)
{
	fake_write(f, BUS_MMIO, fake_config_at(slot, reg), size, value);
}

/* The capability's offset, the @nth of its kind; 0 if there is none. */
static inline unsigned fake_cap(struct fake_vm *f, unsigned slot, uint8_t id, unsigned nth)
{
	unsigned at = fake_config_read(f, slot, PCI_CAPABILITY_LIST, 1);

	for (; at; at = fake_config_read(f, slot, at + PCI_CAP_LIST_NEXT, 1)) {
		if (fake_config_read(f, slot, at, 1) == id && nth-- == 0)
			return at;
	}
	return 0;
}

static inline uint64_t fake_bar(struct fake_vm *f, unsigned slot, unsigned bar)
{
	unsigned reg = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t low = fake_config_read(f, slot, reg, 4), high = 0;

	if (low & PCI_BASE_ADDRESS_MEM_TYPE_64)
		high = fake_config_read(f, slot, reg + 4, 4);
	return (low & ~0xfull) | high << 32;
}

/* Waits until *@flag of another thread's making is @value: false after the deadline. */
static inline bool fake_wait(bool (*is_so)(void *arg), void *arg)
{
	for (unsigned i = 0; i < FAKE_DEADLINE_MS * 10; i++) {
		if (is_so(arg))
			return true;
		usleep(100);
	}
	return is_so(arg);
}

#endif
