// SPDX-License-Identifier: ISC
/*
 * Prints a line on the virtio console and types back what is typed there; 'q'
 * switches off, with a last line on the serial port. What is typed comes here with console=hvc0
 * on the command line.
 */
#include "guest_virtio.h"

static struct virtio_queue input, output;
static char in[64], out[64];

static void send(uint32_t len)
{
	virtio_desc(&output, 0, out, len, 0, 0);
	virtio_offer(&output, 0);
	virtio_kick(&output);
	virtio_wait(&output);
}

void guest_main(void *boot_params, void *pvh_info)
{
	static const char hello[] = "vconsole ready\r\n";
	struct virtio_dev dev;

	guest_begin(boot_params, pvh_info);
	if (!virtio_find(&dev, VIRTIO_CONSOLE, 0) || !virtio_begin(&dev, 0) ||
	    !virtio_queue_setup(&dev, &input, 0) || !virtio_queue_setup(&dev, &output, 1))
		guest_end("vconsole: no device");
	virtio_ok(&dev);
	memcpy(out, hello, sizeof(hello) - 1);
	send(sizeof(hello) - 1);
	for (;;) {
		uint32_t len;

		virtio_desc(&input, 0, in, sizeof(in), DESC_WRITE, 0);
		virtio_offer(&input, 0);
		virtio_kick(&input);
		len = virtio_wait(&input);
		if (len > sizeof(in))
			guest_end("vconsole: wrong length");
		memcpy(out, in, len);
		send(len);
		for (uint32_t i = 0; i < len; i++)
			if (in[i] == 'q')
				guest_end("vconsole: done");
	}
}
