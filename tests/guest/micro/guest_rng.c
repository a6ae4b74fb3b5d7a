// SPDX-License-Identifier: ISC
/* Fetches 64 bytes from virtio-rng twice and prints them; they must differ. */
#include "guest_virtio.h"

static struct virtio_queue queue;
static uint8_t bytes[2][64];

void guest_main(void *boot_params, void *pvh_info)
{
	struct virtio_dev dev;
	bool same = true;

	guest_begin(boot_params, pvh_info);
	if (!virtio_find(&dev, VIRTIO_RNG, 0) || !virtio_begin(&dev, 0) ||
	    !virtio_queue_setup(&dev, &queue, 0))
		guest_end("rng: no device");
	virtio_ok(&dev);
	for (unsigned i = 0; i < 2; i++) {
		uint32_t len;

		virtio_desc(&queue, 0, bytes[i], sizeof(bytes[i]), DESC_WRITE, 0);
		virtio_offer(&queue, 0);
		virtio_kick(&queue);
		len = virtio_wait(&queue);
		print_value("bytes", len);
		if (!len || len > sizeof(bytes[i]))
			guest_end("rng: failed");
		for (uint32_t b = 0; b < len; b++) {
			putch("0123456789abcdef"[bytes[i][b] >> 4]);
			putch("0123456789abcdef"[bytes[i][b] & 15]);
		}
		putch('\n');
	}
	for (unsigned b = 0; b < sizeof(bytes[0]); b++)
		same = same && bytes[0][b] == bytes[1][b];
	guest_end(same ? "rng: the same twice" : "rng: done");
}
