// SPDX-License-Identifier: ISC
/*
 * Frames as fast as the first network card takes or gives them: tx (else rx), count=N in all,
 * size=N bytes each; with "tso" they are TCP segments to be cut, of 64 KiB. Prints "begin" after a
 * tenth of that for practice, waits for a byte, and "end"; the host measures between the two. Polls
 * the used ring; tells the device only where it wants to be told (event index); receives into
 * mergeable buffers, as Linux does. For any VMM: entry by PVH.
 */
#define VIRTIO_QUEUE_MAX 256
#include "guest_virtio.h"

GUEST_PVH;

#define NET_F_CSUM	 (1ull << 0)
#define NET_F_GUEST_CSUM (1ull << 1)
#define NET_F_GUEST_TSO4 (1ull << 7)
#define NET_F_HOST_TSO4	 (1ull << 11)
#define NET_F_MRG_RXBUF	 (1ull << 15)
#define EVENT_IDX	 (1ull << 29)
#define HEADER		 12
#define FRAME_MAX	 (65535 + 14)
#define BUFFER		 4096u
#define TCP_HEADERS	 54
#define SEGMENT		 1448

static struct virtio_queue queue;
static uint8_t in[VIRTIO_QUEUE_MAX][BUFFER] __attribute__((aligned(4096)));
static uint8_t out[HEADER + FRAME_MAX];
static uint64_t count, size;
static bool sends;
static uint16_t told; /* avail.idx as of the last kick */

/* Does it want to hear of the entries from @told on? (virtio 1.2 §2.7.10) */
static void kick_if_wanted(void)
{
	uint16_t now = queue.avail.idx, event;

	__asm__ volatile("mfence" ::: "memory");
	event = *(volatile uint16_t *)((char *)&queue.used + 4 + 8 * queue.size);
	if ((uint16_t)(now - event - 1) < (uint16_t)(now - told))
		virtio_kick(&queue);
	told = now;
}

/* Takes a used buffer back and offers it anew: its number. */
static unsigned turn_round(void)
{
	unsigned i = queue.used.ring[queue.seen++ % queue.size].id;

	/* No interrupts: the event is always the one before. */
	*(volatile uint16_t *)((char *)&queue.avail + 4 + 2 * queue.size) =
	    (uint16_t)(queue.seen - 2);
	virtio_offer(&queue, (uint16_t)i);
	return i;
}

/* @n frames more. All buffers are always on offer; those of tx are frames. */
static void work(uint64_t n)
{
	static unsigned more; /* buffers of the frame that is being received */

	while (n) {
		while (!virtio_done(&queue))
			__asm__ volatile("pause");
		while (n && virtio_done(&queue)) {
			unsigned i = turn_round();

			if (!sends && more == 0)
				more = *(volatile uint16_t *)&in[i][HEADER - 2];
			more -= more ? 1 : 0;
			n -= more ? 0 : 1;
		}
		kick_if_wanted();
	}
}

static void run(void)
{
	kick_if_wanted();
	work(count / 10 + queue.size);
	print("begin\n");
	while (!serial_ready())
		;
	work(count);
	print("end\n");
	guest_end("net_bench: done");
}

/* A frame for nobody; of TCP, with all that has to be right for it to be cut. */
static void make_frame(bool tso)
{
	static const uint8_t ethernet[] = {2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5};
	static const uint8_t ip[] = {0x45, 0, 0,  0, 0, 0, 0,  0, 64, 6,
				     0,	   0, 10, 9, 9, 2, 10, 9, 9,  9};
	uint8_t *frame = out + HEADER, *tcp = frame + 34;
	uint16_t fields[] = {TCP_HEADERS, SEGMENT, 34, 16};

	memcpy(frame, ethernet, sizeof(ethernet));
	if (!tso)
		return;
	frame[12] = 8; /* IPv4 */
	frame[13] = 0;
	memcpy(frame + 14, ip, sizeof(ip));
	frame[16] = (uint8_t)((size - 14) >> 8);
	frame[17] = (uint8_t)(size - 14);
	tcp[12] = 5 << 4;
	tcp[13] = 0x10;				 /* ACK */
	out[0] = 1;				 /* a checksum to be made */
	out[1] = 1;				 /* TCP over IPv4 */
	memcpy(out + 2, fields, sizeof(fields)); /* hdr_len, gso_size, csum_start, csum_offset */
}

void guest_main(void *boot_params, void *pvh_info)
{
	uint64_t features = EVENT_IDX | NET_F_MRG_RXBUF;
	struct virtio_dev dev;
	bool tso;

	guest_begin(boot_params, pvh_info);
	sends = guest_has("tx");
	tso = guest_has("tso");
	size = guest_number("size", 64);
	count = guest_number("count", 100000);
	if (size < 60 || size > FRAME_MAX)
		size = 60;
	if (tso)
		features |= NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4;
	if (!virtio_find(&dev, VIRTIO_NET, 0) || !virtio_begin(&dev, features) ||
	    !virtio_queue_setup(&dev, &queue, sends))
		guest_end("net_bench: no card");
	make_frame(tso);
	for (uint16_t i = 0; i < queue.size; i++) {
		if (sends)
			virtio_desc(&queue, i, out, (uint32_t)(HEADER + size), 0, 0);
		else
			virtio_desc(&queue, i, in[i], BUFFER, DESC_WRITE, 0);
		virtio_offer(&queue, i);
	}
	virtio_ok(&dev);
	guest_user(run);
}
