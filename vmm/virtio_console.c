// SPDX-License-Identifier: ISC
/*
 * virtio-console (virtio 1.2 §5.3): one port, the guest's hvc0, an equal of the
 * serial port: both print to the machine's one console.
 *
 * Input goes to one of them, and it is the rule of Linux for /dev/console that
 * says which: the last `console=` on the kernel's command line. If that names
 * hvc, input is this port's from the moment its driver is ready; else
 * it stays the serial port's, and this one only prints.
 *
 * Transmitted buffers are read in pieces and need never be writable;
 * received input goes into as many buffers as the driver has given, and waits
 * in the console while there are none.
 */
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"
#include "vmm/console.h"
#include "vmm/pci.h"
#include "vmm/state.h"
#include "vmm/virtio.h"

#define QUEUE_SIZE 64
#define CLASS_CODE 0x078000 /* communication controller, other */

enum { QUEUE_RX, QUEUE_TX, N_QUEUES };

struct vconsole {
	struct virtio_device virtio;
	struct iothread *thread;
	struct virtio_console_config config;
	bool takes_input;	      /* constant, but for a load */
	struct iothread_source input; /* an eventfd: input has come */
	struct iovec iov[QUEUE_SIZE]; /* the lane's */
	uint64_t *tx_bytes, *rx_bytes;
};

static void transmit(struct vconsole *con, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;

	do {
		while (virtio_pop(queue, con->iov, &chain) == 0) {
			uint8_t bytes[1024];
			size_t n;

			while ((n = virtqueue_chain_read(&chain, bytes, sizeof(bytes)))) {
				console_output(queue->dev->dev.vm->console, bytes, n);
				stats_add(con->tx_bytes, n);
			}
			virtqueue_push(&queue->ring, chain.head, 0);
		}
	} while (virtio_notify_on(queue));
}

/* Moves waiting input into one chain; how many bytes. */
static uint32_t receive_into(struct vconsole *con, struct virtqueue_chain *chain)
{
	struct console *console = con->virtio.dev.vm->console;
	uint32_t done = 0;

	while (chain->in_bytes) {
		uint8_t bytes[256];
		size_t want = chain->in_bytes < sizeof(bytes) ? chain->in_bytes : sizeof(bytes);
		size_t n = console_input(console, bytes, want);

		if (!n)
			break;
		done += virtqueue_chain_write(chain, bytes, n);
	}
	stats_add(con->rx_bytes, done);
	return done;
}

static void receive(struct vconsole *con, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;

	if (!con->takes_input)
		return;
	do {
		while (virtio_pop(queue, con->iov, &chain) == 0) {
			uint32_t done;

			if (!chain.in_bytes) {
				virtio_queue_fail(queue, "console input without a buffer");
				virtqueue_unpop(&queue->ring);
				return;
			}
			done = receive_into(con, &chain);
			if (!done) {
				virtqueue_unpop(&queue->ring);
				return;
			}
			virtqueue_push(&queue->ring, chain.head, done);
		}
	} while (virtio_notify_on(queue));
}

static void console_notify(struct virtio_queue *queue)
{
	struct vconsole *con = (struct vconsole *)queue->dev;

	if (queue->index == QUEUE_TX)
		transmit(con, queue);
	else
		receive(con, queue);
	virtio_publish(queue);
}

/* --- input -------------------------------------------------------------------------------- */

/* The console's notification, on the control thread. */
static void input_came(void *arg)
{
	struct vconsole *con = arg;

	eventfd_write(con->input.fd, 1);
}

static void input_ready(struct iothread_source *source)
{
	struct vconsole *con =
	    (struct vconsole *)((char *)source - offsetof(struct vconsole, input));
	struct virtio_queue *queue = &con->virtio.queues[QUEUE_RX];

	if (virtio_queue_live(queue))
		virtio_serve(queue);
}

static void console_activated(struct virtio_device *dev)
{
	struct vconsole *con = (struct vconsole *)dev;

	if (con->takes_input)
		console_set_reader(dev->dev.vm->console, input_came, con);
}

/* Does the last console= of the command line name an hvc? */
static bool is_main_console(const char *cmdline)
{
	static const char word[] = "console=";
	bool is_hvc = false;

	for (const char *p = cmdline; (p = strstr(p, word)); p += strlen(word)) {
		if (p == cmdline || p[-1] == ' ')
			is_hvc = strncmp(p + strlen(word), "hvc", 3) == 0;
	}
	return is_hvc;
}

/* --- the device --------------------------------------------------------------------------- */

/* §5.3.4: emerg_wr prints a character at once, with no driver and no queue. */
static void config_written(struct virtio_device *dev, uint64_t offset, unsigned size,
			   uint64_t value)
{
	const uint8_t byte = value;

	(void)size;
	if (offset == offsetof(struct virtio_console_config, emerg_wr))
		console_output(dev->dev.vm->console, &byte, 1);
}

static const struct virtio_ops console_ops = {
    .notify = console_notify,
    .activated = console_activated,
    .config_written = config_written,
};

static void forget_input(void *arg)
{
	struct vconsole *con = arg;

	iothread_remove(con->thread, &con->input);
}

static void vconsole_destroy(struct device *device)
{
	struct vconsole *con = (struct vconsole *)device;

	if (con->takes_input)
		console_set_reader(device->vm->console, NULL, NULL);
	iothread_call(con->thread, forget_input, con);
	virtio_fini(&con->virtio);
	close(con->input.fd);
	free(con);
}

static void vconsole_state(struct device *device, struct state *st)
{
	struct vconsole *con = (struct vconsole *)device;

	state_bool(st, &con->takes_input);
	virtio_state(device, st);
}

static int vconsole_plug(struct vconsole *con, struct vm *vm, struct err *err)
{
	struct virtio_device *dev = &con->virtio;
	int r;

	dev->offered = 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE;
	dev->config = &con->config;
	dev->config_len = sizeof(con->config);
	r = virtio_init(dev, vm, &console_ops, VIRTIO_ID_CONSOLE, N_QUEUES, QUEUE_SIZE, QUEUE_SIZE,
			&con->thread, 1, "hvc", err);
	if (r < 0)
		return r;
	r = virtio_pci_plug(dev, PCI_SLOT_CONSOLE, CLASS_CODE, err);
	if (r == 0)
		r = iothread_add(con->thread, &con->input, true);
	if (r < 0)
		virtio_fini(dev);
	return r;
}

static int vconsole_create(struct vm *vm, struct err *err)
{
	_cleanup_free_ struct vconsole *con = calloc(1, sizeof(*con));
	int r;

	if (!con)
		return err_set(err, -ENOMEM, "virtio console: no memory");
	r = pci_bus_thread(vm, &con->thread, err);
	if (r < 0)
		return r;
	con->takes_input = is_main_console(vm->config->cmdline);
	con->tx_bytes = stats_counter(vm->stats, "hvc.tx_bytes");
	con->rx_bytes = stats_counter(vm->stats, "hvc.rx_bytes");
	con->input.ready = input_ready;
	con->input.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (con->input.fd < 0)
		return err_set(err, -errno, "virtio console: no eventfd");
	r = vconsole_plug(con, vm, err);
	if (r < 0) {
		close(con->input.fd);
		return err_prefix(err, "virtio console");
	}
	device_add(vm, &take_ptr(con)->virtio.dev, &virtio_console_device, "hvc");
	return 0;
}

const struct device_ops virtio_console_device = {
    .name = "virtio-console",
    .create = vconsole_create,
    .destroy = vconsole_destroy,
    .pause = virtio_pause,
    .resume = virtio_resume,
    .state_version = 1,
    .state = vconsole_state,
};
