// SPDX-License-Identifier: ISC
/*
 * Random requests of 4 KiB to the first virtio disk, as fast as it answers: write (else reads),
 * depth=N at once (1 to 32), count=N in all. Prints "begin" after a tenth of that for
 * practice, waits for a byte, and "end"; the host measures between the two. Polls the used ring;
 * tells the device only where it wants to be told (event index); flushes nothing, but could, so
 * that writes may stay in caches. For any VMM: entry by PVH.
 */
#define VIRTIO_QUEUE_MAX 128
#include "guest_virtio.h"

GUEST_PVH;

#define DEPTH_MAX 32
#define BYTES	  4096u
#define EVENT_IDX (1ull << 29)

static struct virtio_queue queue;
static struct blk blk;
static uint8_t data[DEPTH_MAX][BYTES] __attribute__((aligned(4096)));
static struct head {
	uint32_t type, reserved;
	uint64_t sector;
} heads[DEPTH_MAX];
static volatile uint8_t statuses[DEPTH_MAX];
static unsigned depth;
static uint64_t count, seed = 1;
static uint16_t offered; /* avail.idx as of the last kick */

static uint64_t next_random(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 20;
}

static void ask(unsigned i)
{
	heads[i].sector = next_random() % (blk.sectors / (BYTES / 512)) * (BYTES / 512);
	virtio_offer(&queue, (uint16_t)(3 * i));
}

/* Does it want to hear of the entries from @offered on? (virtio 1.2 §2.7.10) */
static void kick_if_wanted(void)
{
	uint16_t now = queue.avail.idx, event;

	__asm__ volatile("mfence" ::: "memory");
	event = *(volatile uint16_t *)((char *)&queue.used + 4 + 8 * queue.size);
	if ((uint16_t)(now - event - 1) < (uint16_t)(now - offered))
		virtio_kick(&queue);
	offered = now;
}

static bool work(uint64_t n)
{
	uint64_t asked = depth, done = 0;

	for (unsigned i = 0; i < depth; i++)
		ask(i);
	while (done < n) {
		kick_if_wanted();
		while (!virtio_done(&queue))
			__asm__ volatile("pause");
		while (virtio_done(&queue)) {
			unsigned i = queue.used.ring[queue.seen++ % queue.size].id / 3;

			if (statuses[i])
				return false;
			done++;
			/* No interrupts: the event is always the one before. */
			*(volatile uint16_t *)((char *)&queue.avail + 4 + 2 * queue.size) =
			    (uint16_t)(queue.seen - 2);
			if (asked < n) {
				ask(i);
				asked++;
			}
		}
	}
	return true;
}

static void run(void)
{
	bool fine = work(count / 10 + depth);

	print("begin\n");
	while (!serial_ready())
		;
	fine = fine && work(count);
	print(fine ? "end\n" : "failed\n");
	guest_end("blk_bench: done");
}

static void prepare(unsigned i, bool writes)
{
	heads[i].type = writes ? BLK_OUT : BLK_IN;
	for (unsigned k = 0; k < BYTES; k += 8)
		*(uint64_t *)(void *)&data[i][k] = next_random();
	virtio_desc(&queue, 3 * i, &heads[i], sizeof(heads[i]), DESC_NEXT, 3 * i + 1);
	virtio_desc(&queue, 3 * i + 1, data[i], BYTES, DESC_NEXT | (writes ? 0 : DESC_WRITE),
		    3 * i + 2);
	virtio_desc(&queue, 3 * i + 2, (const void *)&statuses[i], 1, DESC_WRITE, 0);
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!virtio_find(&blk.dev, VIRTIO_BLK, 0) ||
	    !virtio_begin(&blk.dev, EVENT_IDX | BLK_F_FLUSH) ||
	    !virtio_queue_setup(&blk.dev, &queue, 0))
		guest_end("blk_bench: no disk");
	blk.sectors = *(volatile uint64_t *)blk.dev.config;
	virtio_ok(&blk.dev);
	depth = (unsigned)guest_number("depth", 1);
	if (depth < 1 || depth > DEPTH_MAX)
		depth = DEPTH_MAX;
	count = guest_number("count", 100000);
	for (unsigned i = 0; i < depth; i++)
		prepare(i, guest_has("write"));
	guest_user(run);
}
