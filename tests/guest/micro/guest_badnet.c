// SPDX-License-Identifier: ISC
/*
 * A hostile driver of a network card: rings, descriptors, frame headers and commands that cannot
 * be. After each case the card is reset and must send an honest frame and carry out an honest
 * command. Cases of which the card takes no notice are fine, and so is NEEDS_RESET; a VMM that dies
 * or hangs is not. What a receive queue's descriptors lead to counts only while frames come:
 * the host sends some all the time. case=N runs one only; rounds=N goes on at random for so long.
 */
#include "guest_virtio.h"

#define BEYOND 0x10000000000ull /* 1 TiB: no RAM there */
#define TRIES  300		/* looks at the status before a case counts as ignored */
#define HEADER 12
#define FRAME  100u

#define NET_F_MRG_RXBUF	 (1ull << 15)
#define F_INDIRECT	 (1ull << 28)
#define F_EVENT_IDX	 (1ull << 29)
#define NET_F_MQ	 (1ull << 22)
#define NET_F_EVERYTHING (~0ull & ~(1ull << 33 | 1ull << 34)) /* no IOMMU, no packed rings */

#define RINGS offsetof(struct virtio_queue, size) /* what of it is the card's, too */

enum { RX, TX, QUEUES };

/* The one at fault, of these; then the control queue. */
static struct virtio_queue queues[QUEUES], control;
static struct virtio_desc table[VIRTIO_QUEUE_MAX] __attribute__((aligned(16)));
static uint8_t data[66000] __attribute__((aligned(4096)));
static uint8_t frame[HEADER + FRAME], command[600], ack;
static struct virtio_dev dev;
static uint64_t features, seed = 88172645463325252ull;
static uint16_t control_index;

static uint32_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 11);
}

/* --- an honest driver --------------------------------------------------------------------- */

static bool set_up(uint64_t wanted)
{
	memset(queues, 0, sizeof(queues));
	memset(&control, 0, sizeof(control));
	if (!virtio_begin(&dev, wanted))
		return false;
	features = virtio_features(&dev) & wanted;
	control_index = features & NET_F_MQ ? 2 * *(volatile uint16_t *)(dev.config + 8) : 2;
	if (!virtio_queue_setup(&dev, &queues[RX], 0) ||
	    !virtio_queue_setup(&dev, &queues[TX], 1) ||
	    !virtio_queue_setup(&dev, &control, control_index))
		return false;
	virtio_ok(&dev);
	memset(frame, 0, sizeof(frame));
	memset(frame + HEADER, 0xff, 6);
	frame[HEADER + 6] = 2;
	frame[HEADER + 12] = 0x88;
	frame[HEADER + 13] = 0xb5;
	return true;
}

static void submit(unsigned q)
{
	virtio_offer(&queues[q], 0);
	virtio_kick(&queues[q]);
}

/* Descriptor 0 as an honest driver has it; submitted unless it is to be spoilt first. */
static void honest(unsigned q)
{
	if (q == RX)
		virtio_desc(&queues[q], 0, data, 2048, DESC_WRITE, 0);
	else
		virtio_desc(&queues[q], 0, frame, sizeof(frame), 0, 0);
}

static bool waits(struct virtio_queue *q)
{
	for (unsigned i = 0; i < 20000; i++)
		if (virtio_done(q)) {
			virtio_wait(q);
			return true;
		}
	return false;
}

/* Class, command and what follows them. */
static void ask(uint32_t class, uint32_t cmd, const void *arg, uint32_t len)
{
	command[0] = (uint8_t) class;
	command[1] = (uint8_t)cmd;
	memcpy(command + 2, arg, len);
	ack = 0xff;
	virtio_desc(&control, 0, command, 2 + len, DESC_NEXT, 1);
	virtio_desc(&control, 1, &ack, 1, DESC_WRITE, 0);
	virtio_offer(&control, 0);
	virtio_kick(&control);
}

static bool works(void)
{
	static const uint8_t on = 1;

	if (!set_up(NET_F_MRG_RXBUF | 1ull << 17 | 1ull << 18)) {
		print(" (no set-up)");
		return false;
	}
	honest(TX);
	submit(TX);
	if (!waits(&queues[TX])) {
		print(" (sends nothing)");
		return false;
	}
	ask(0, 0, &on, 1);
	if (!waits(&control) || ack != 0) {
		print(" (no command)");
		return false;
	}
	return true;
}

/* --- rings and descriptors of either direction --------------------------------------------- */

static void spoil(unsigned q, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	queues[q].desc[0] = (struct virtio_desc){addr, len, flags, next};
	submit(q);
}

static void loop_self(unsigned q)
{
	honest(q);
	queues[q].desc[0].flags |= DESC_NEXT;
	submit(q);
}

static void loop_two(unsigned q)
{
	honest(q);
	queues[q].desc[0].flags |= DESC_NEXT;
	queues[q].desc[0].next = 1;
	queues[q].desc[1] = queues[q].desc[0];
	queues[q].desc[1].next = 0;
	submit(q);
}

static void next_beyond(unsigned q)
{
	honest(q);
	spoil(q, queues[q].desc[0].addr, 64, queues[q].desc[0].flags | DESC_NEXT, 0xffff);
}

static void head_beyond(unsigned q)
{
	honest(q);
	virtio_offer(&queues[q], queues[q].size);
	virtio_kick(&queues[q]);
}

static void avail_far(unsigned q)
{
	queues[q].avail.idx = 1000;
	virtio_kick(&queues[q]);
}

static void avail_back(unsigned q)
{
	honest(q);
	submit(q);
	queues[q].avail.idx = (uint16_t)-5;
	virtio_kick(&queues[q]);
}

/* One buffer, as often as the ring has entries. */
static void same_always(unsigned q)
{
	honest(q);
	for (unsigned i = 0; i < queues[q].size; i++)
		virtio_offer(&queues[q], 0);
	virtio_kick(&queues[q]);
}

static void wrong_direction(unsigned q)
{
	honest(q);
	spoil(q, queues[q].desc[0].addr, 64, queues[q].desc[0].flags ^ DESC_WRITE, 0);
}

static void both_directions(unsigned q)
{
	virtio_desc(&queues[q], 0, frame, sizeof(frame), DESC_NEXT, 1);
	virtio_desc(&queues[q], 1, data, 2048, DESC_WRITE, 0);
	submit(q);
}

static void write_first(unsigned q)
{
	virtio_desc(&queues[q], 0, data, 2048, DESC_WRITE | DESC_NEXT, 1);
	virtio_desc(&queues[q], 1, frame, sizeof(frame), 0, 0);
	submit(q);
}

static void lengths(unsigned q)
{
	static const uint32_t all[] = {1, 10, 11, 12, 13, 25, 26, 65561, 65562, 65999};
	uint16_t flags = q == RX ? DESC_WRITE : 0;

	for (uint16_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		virtio_desc(&queues[q], i, data, all[i], flags, 0);
		virtio_offer(&queues[q], i);
		virtio_kick(&queues[q]);
	}
}

static void empty(unsigned q)
{
	honest(q);
	spoil(q, queues[q].desc[0].addr, 0, queues[q].desc[0].flags, 0);
}

static void huge(unsigned q)
{
	honest(q);
	spoil(q, queues[q].desc[0].addr, 0xffffffff, queues[q].desc[0].flags, 0);
}

/* Up to the last byte of RAM, and one more. */
static void end_of_ram(unsigned q)
{
	uint64_t end = guest_number("ram", 64) << 20;
	uint16_t flags = q == RX ? DESC_WRITE : 0;

	queues[q].desc[1] = (struct virtio_desc){end - 100, 100, flags, 0};
	virtio_offer(&queues[q], 1);
	spoil(q, end - 100, 101, flags, 0);
}

static void addresses(unsigned q)
{
	static const uint64_t all[] = {BEYOND, UINT64_MAX - 10, UINT64_MAX, LAYOUT_PCI_MMIO, 0};

	spoil(q, all[next_random() % 5], 100, q == RX ? DESC_WRITE : 0, 0);
}

static void into_device(unsigned q)
{
	spoil(q, (uintptr_t)dev.common, 100, q == RX ? DESC_WRITE : 0, 0);
}

/* The card reads from, or writes into, the ring itself. */
static void into_ring(unsigned q)
{
	spoil(q, (uintptr_t)&queues[q], RINGS, q == RX ? DESC_WRITE : 0, 0);
}

static void into_used(unsigned q)
{
	for (unsigned i = 0; i < 8; i++)
		spoil(q, (uintptr_t)&queues[q].used, RINGS - offsetof(struct virtio_queue, used),
		      q == RX ? DESC_WRITE : 0, 0);
}

static void long_chain(unsigned q)
{
	uint16_t flags = q == RX ? DESC_WRITE : 0;

	for (uint16_t i = 0; i < queues[q].size; i++)
		virtio_desc(&queues[q], i, data + i, 1, flags | DESC_NEXT, (uint16_t)(i + 1));
	queues[q].desc[queues[q].size - 1].flags = flags;
	submit(q);
}

/* By a table more than a chain may have, and than an iovec can take. */
static void indirect_long(unsigned q)
{
	struct virtio_desc *big = (void *)data;
	unsigned n = 2000;

	for (unsigned i = 0; i < n; i++)
		big[i] = (struct virtio_desc){
		    (uintptr_t)frame, 1, (q == RX ? DESC_WRITE : 0) | DESC_NEXT, (uint16_t)(i + 1)};
	big[n - 1].flags &= (uint16_t)~DESC_NEXT;
	spoil(q, (uintptr_t)big, n * 16, DESC_INDIRECT, 0);
}

static void indirect_128(unsigned q)
{
	for (unsigned i = 0; i < VIRTIO_QUEUE_MAX; i++)
		table[i] =
		    (struct virtio_desc){(uintptr_t)frame + i, 1,
					 (q == RX ? DESC_WRITE : 0) | DESC_NEXT, (uint16_t)(i + 1)};
	table[VIRTIO_QUEUE_MAX - 1].flags &= (uint16_t)~DESC_NEXT;
	spoil(q, (uintptr_t)table, sizeof(table), DESC_INDIRECT, 0);
}

static void indirect_nested(unsigned q)
{
	table[0] = (struct virtio_desc){(uintptr_t)table, 16, DESC_INDIRECT, 0};
	spoil(q, (uintptr_t)table, 16, DESC_INDIRECT, 0);
}

static void indirect_odd(unsigned q)
{
	spoil(q, (uintptr_t)table, 17, DESC_INDIRECT, 0);
}

static void indirect_beyond(unsigned q)
{
	spoil(q, BEYOND, 32, DESC_INDIRECT, 0);
}

/* A good buffer, then a bad one: what was held of the first is given back. */
static void second_bad(unsigned q)
{
	uint16_t flags = q == RX ? DESC_WRITE : 0;

	virtio_desc(&queues[q], 0, data, HEADER + 4, flags, 0);
	virtio_desc(&queues[q], 1, data, 0, flags, 0);
	virtio_offer(&queues[q], 0);
	virtio_offer(&queues[q], 1);
	virtio_kick(&queues[q]);
}

/* Frames have to be put together of crumbs. */
static void crumbs(unsigned q)
{
	for (uint16_t i = 0; i < queues[q].size; i++) {
		virtio_desc(&queues[q], i, data + 20 * i, i ? 1 : HEADER, q == RX ? DESC_WRITE : 0,
			    0);
		virtio_offer(&queues[q], i);
	}
	virtio_kick(&queues[q]);
}

/* The header's num_buffers lies in two pieces, one of them in the ring. */
static void header_split(unsigned q)
{
	uint16_t flags = q == RX ? DESC_WRITE : 0;

	virtio_desc(&queues[q], 0, data, HEADER - 1, flags | DESC_NEXT, 1);
	virtio_desc(&queues[q], 1, (void *)&queues[q].avail.idx, 1, flags | DESC_NEXT, 2);
	virtio_desc(&queues[q], 2, data, 4000, flags, 0);
	submit(q);
}

static void changes_meanwhile(unsigned q)
{
	for (unsigned i = 0; i < 50; i++) {
		honest(q);
		submit(q);
		queues[q].desc[0].addr = BEYOND;
		queues[q].desc[0].len = 0xffffffff;
		queues[q].desc[0].flags ^= DESC_WRITE;
		queues[q].avail.ring[i % queues[q].size] = 0xffff;
		queues[q].used.idx = 77;
	}
}

static void reset_in_flight(unsigned q)
{
	for (unsigned i = 0; i < 20; i++) {
		for (uint16_t k = 0; k < 16; k++) {
			honest(q);
			submit(q);
		}
		dev.common->status = 0;
		if (!set_up(features))
			return;
	}
}

static void bus_off(unsigned q)
{
	uint32_t was = pci_read(dev.slot, PCI_COMMAND);

	honest(q);
	submit(q);
	pci_write(dev.slot, PCI_COMMAND, was & ~6u);
	virtio_kick(&queues[q]);
	pci_write(dev.slot, PCI_COMMAND, was);
}

/* --- a queue's registers ---------------------------------------------------------------------- */

static void at(unsigned q, uint64_t desc, uint64_t avail, uint64_t used, uint16_t size)
{
	volatile struct virtio_common *c = dev.common;

	virtio_begin(&dev, features);
	c->queue_select = (uint16_t)q;
	c->queue_size = size;
	c->desc_lo = (uint32_t)desc;
	c->desc_hi = (uint32_t)(desc >> 32);
	c->avail_lo = (uint32_t)avail;
	c->avail_hi = (uint32_t)(avail >> 32);
	c->used_lo = (uint32_t)used;
	c->used_hi = (uint32_t)(used >> 32);
	c->queue_enable = 1;
	virtio_ok(&dev);
	honest(q);
	submit(q);
}

#define PARTS(q) (uintptr_t)(q)->desc, (uintptr_t) & (q)->avail, (uintptr_t) & (q)->used

static void places(unsigned q)
{
	static const uint64_t all[] = {0,	    1, BEYOND, UINT64_MAX - 15, LAYOUT_PCI_MMIO,
				       LAYOUT_LAPIC};
	const uintptr_t good[] = {PARTS(&queues[q])};

	for (unsigned part = 0; part < 3; part++)
		for (unsigned i = 0; i < 6; i++)
			at(q, part == 0 ? all[i] : good[0], part == 1 ? all[i] : good[1],
			   part == 2 ? all[i] : good[2], 64);
	at(q, good[0], good[0], good[0], 64);
}

static void sizes(unsigned q)
{
	static const uint16_t all[] = {0, 1, 2, 3, 255, 256, 257, 512, 0x8000, 0xffff};

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		at(q, PARTS(&queues[q]), all[i]);
}

/* Enabled alone; moved while it lives; asked for what there is none of. */
static void registers(unsigned q)
{
	volatile struct virtio_common *c = dev.common;

	honest(q);
	submit(q);
	for (unsigned i = 0; i < 0x10000; i = i * 2 + 1) {
		c->queue_select = (uint16_t)i;
		c->queue_size = 0xffff;
		c->desc_lo = 0xfffffff0;
		c->avail_hi = i;
		c->used_lo = i;
		c->queue_msix = (uint16_t)i;
		c->queue_enable = (uint16_t)i;
		c->msix_config = (uint16_t)i;
		c->num_queues = (uint16_t)i;
		c->driver_feature_select = i;
		c->driver_feature = 0xffffffff;
	}
	submit(q);
}

static void statuses(unsigned q)
{
	for (unsigned i = 255; i; i = i * 3 / 4) {
		dev.common->status = (uint8_t)i;
		submit(q);
	}
}

static void config_written(unsigned q)
{
	for (unsigned i = 0; i < 0x40; i++) {
		*(volatile uint8_t *)(dev.config + i) = 0xff;
		*(volatile uint32_t *)(dev.config + i) = 0x5a5a5a5a;
		(void)*(volatile uint64_t *)(dev.config + i);
	}
	honest(q);
	submit(q);
}

static void bells(unsigned q)
{
	honest(q);
	virtio_offer(&queues[q], 0);
	for (unsigned i = 0; i < 0x100; i += 2)
		*(volatile uint16_t *)(dev.notify + i) = (uint16_t)(i * 257);
	*(volatile uint32_t *)dev.notify = 0xffffffff;
}

/* --- a frame's header (§5.1.6.2) ----------------------------------------------------------------
 */

static void send_frame(uint32_t len)
{
	virtio_desc(&queues[TX], 0, data, len, 0, 0);
	submit(TX);
	waits(&queues[TX]);
}

/* Each field at each bound, with frames of some lengths, of each protocol. */
static void headers(unsigned q)
{
	static const uint16_t values[] = {0, 1, 13, 14, 34, 53, 54, 55, 1448, 0x7fff, 0xffff};
	static const uint8_t types[] = {0, 1, 3, 4, 5, 0x81, 0x84, 0xff};
	static const uint16_t lens[] = {14, 54, 1514, 65535};
	static const uint16_t protocols[] = {0x0008, 0xdd86, 0x0608, 0x0081, 0xb588};
	uint16_t *fields = (void *)(data + 2);

	(void)q;
	memset(data, 0, sizeof(data));
	for (unsigned i = 0; i < 8 * 5 * 4; i++) {
		data[0] = (uint8_t)(i % 4 == 3 ? 0xff : i % 4);
		data[1] = types[i % 8];
		for (unsigned f = 0; f < 5; f++) /* hdr_len gso_size start offset num_buffers */
			fields[f] = values[next_random() % 11];
		memset(data + HEADER, 0xff, 6);
		*(uint16_t *)(void *)(data + HEADER + 12) = protocols[i / 8 % 5];
		data[HEADER + 14] = 0x45;
		data[HEADER + 23] = i % 2 ? 6 : 17;
		send_frame(HEADER + (uint32_t)lens[i / 40]);
	}
}

/* --- commands (§5.1.6.5) -------------------------------------------------------------------- */

static void commands(unsigned q)
{
	static const uint8_t arg[64] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	(void)q;
	for (unsigned class = 0; class < 8; class ++)
		for (unsigned cmd = 0; cmd < 8; cmd++) {
			static const uint32_t lens[] = {0, 1, 2, 3, 4, 8, 64};

			ask(class == 7 ? 0xff : class, cmd == 7 ? 0xff : cmd, arg,
			    lens[(class + cmd) % 7]);
			waits(&control);
		}
}

static void mac_tables(unsigned q)
{
	static const uint32_t counts[] = {0, 1, 64, 65, 90, 0x2aaaaaab, 0x80000000, 0xffffffff};
	static uint8_t arg[580];

	(void)q;
	for (unsigned i = 0; i < 64; i++) {
		*(uint32_t *)(void *)arg = counts[i % 8];
		*(uint32_t *)(void *)(arg + 4 + 6 * (i % 8 == 1)) = counts[i / 8];
		ask(1, 0, arg, i % 3 ? 580 : 8);
		waits(&control);
	}
}

static void pairs(unsigned q)
{
	(void)q;
	for (unsigned i = 0; i < 0x10000; i = i * 2 + 1) {
		uint16_t n = (uint16_t)i;

		ask(4, 0, &n, 2);
		waits(&control);
		honest(TX);
		submit(TX);
	}
}

static void offloads(unsigned q)
{
	(void)q;
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t f = 1ull << bit | (bit % 2 ? features : 0);

		ask(5, bit % 3 == 2, &f, 8);
		waits(&control);
	}
}

static void filters(unsigned q)
{
	(void)q;
	for (unsigned i = 0; i < 0x20000; i = i * 2 + 1) {
		uint16_t id = (uint16_t)i;

		ask(2, i % 2, &id, 2);
		waits(&control);
		ask(0, i % 6, &id, 1);
		waits(&control);
	}
}

/* Where the answer lies: nowhere, in the command, in the ring; the command in pieces, or none. */
static void answers(unsigned q)
{
	(void)q;
	ask(0, 0, "\1", 1);
	control.desc[1].addr = (uintptr_t)command;
	virtio_offer(&control, 0);
	control.desc[1].addr = (uintptr_t)&control.avail.idx;
	virtio_offer(&control, 0);
	for (uint16_t i = 0; i < 3; i++)
		virtio_desc(&control, 4 + i, command + i, 1, DESC_NEXT, 5 + i);
	virtio_desc(&control, 7, data, sizeof(data), DESC_WRITE, 0);
	virtio_offer(&control, 4);
	virtio_offer(&control, 7);
	virtio_kick(&control);
	waits(&control);
	virtio_desc(&control, 8, command, 3, 0, 0);
	virtio_offer(&control, 8);
	virtio_kick(&control);
}

/* --- what else there is --------------------------------------------------------------------------
 */

/* Anything, anywhere. */
static void at_random(unsigned q)
{
	for (unsigned i = 0; i < 8; i++) {
		uint32_t r = next_random();

		queues[q].desc[i] = (struct virtio_desc){
		    r % 5 ? (uintptr_t)data + r % 60000 : (uint64_t)r << (r % 33),
		    r % 7 ? next_random() % 5000 : next_random(), (uint16_t)(next_random() % 8),
		    (uint16_t)(next_random() % 10)};
		if (r % 3 == 0)
			data[next_random() % sizeof(data)] = (uint8_t)r;
		virtio_offer(&queues[q], (uint16_t)(next_random() % 9));
	}
	virtio_kick(&queues[q]);
	virtio_kick(&queues[!q]);
	if (next_random() % 4 == 0)
		ask(next_random() % 7, next_random() % 7, data + next_random() % 1000,
		    next_random() % 590);
}

static const struct {
	const char *name;
	void (*run)(unsigned q);
	bool rx, tx;
} cases[] = {
    {"loop_self", loop_self, true, true},
    {"loop_two", loop_two, true, true},
    {"next_beyond", next_beyond, true, true},
    {"head_beyond", head_beyond, true, true},
    {"avail_far", avail_far, true, true},
    {"avail_back", avail_back, true, true},
    {"same_always", same_always, true, true},
    {"wrong_direction", wrong_direction, true, true},
    {"both_directions", both_directions, true, true},
    {"write_first", write_first, true, true},
    {"lengths", lengths, true, true},
    {"empty", empty, true, true},
    {"huge", huge, true, true},
    {"end_of_ram", end_of_ram, true, true},
    {"addresses", addresses, true, true},
    {"into_device", into_device, true, true},
    {"into_ring", into_ring, true, true},
    {"into_used", into_used, true, true},
    {"long_chain", long_chain, true, true},
    {"indirect_long", indirect_long, true, true},
    {"indirect_128", indirect_128, true, true},
    {"indirect_nested", indirect_nested, true, true},
    {"indirect_odd", indirect_odd, true, true},
    {"indirect_beyond", indirect_beyond, true, true},
    {"second_bad", second_bad, true, true},
    {"crumbs", crumbs, true, true},
    {"header_split", header_split, true, true},
    {"changes_meanwhile", changes_meanwhile, true, true},
    {"reset_in_flight", reset_in_flight, true, true},
    {"bus_off", bus_off, true, true},
    {"places", places, true, true},
    {"sizes", sizes, true, true},
    {"registers", registers, true, true},
    {"statuses", statuses, true, true},
    {"config_written", config_written, true, false},
    {"bells", bells, false, true},
    {"headers", headers, false, true},
    {"commands", commands, false, true},
    {"mac_tables", mac_tables, false, true},
    {"pairs", pairs, false, true},
    {"offloads", offloads, false, true},
    {"filters", filters, false, true},
    {"answers", answers, false, true},
    {"at_random", at_random, true, true},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static void outcome(void)
{
	for (unsigned i = 0; i < TRIES; i++)
		if (dev.common->status & VIRTIO_NEEDS_RESET) {
			print(" needs reset");
			return;
		}
	print(" no notice");
}

/* All that the card can do is agreed on, or little. */
static void run_one(unsigned i, unsigned q, uint64_t wanted)
{
	print("case ");
	print_dec(i);
	print(q == RX ? " rx " : " tx ");
	print(cases[i].name);
	if (!set_up(wanted))
		guest_end(" badnet: the card refuses an honest driver");
	cases[i].run(q);
	outcome();
	if (!works())
		guest_end(", then FAILED\nbadnet: failed");
	print(", then fine\n");
}

void guest_main(void *boot_params, void *pvh_info)
{
	uint64_t only, rounds;

	guest_begin(boot_params, pvh_info);
	only = guest_number("case", UINT64_MAX);
	rounds = guest_number("rounds", 0);
	seed += guest_number("seed", 0);
	if (!virtio_find(&dev, VIRTIO_NET, 0))
		guest_end("badnet: no card");
	if (!set_up(NET_F_MRG_RXBUF))
		guest_end("badnet: the card refuses an honest driver");
	honest(RX);
	submit(RX);
	virtio_wait(&queues[RX]);
	print("frames come\n");
	for (unsigned i = 0; i < N_CASES; i++) {
		if (only != UINT64_MAX && only != i)
			continue;
		if (cases[i].rx)
			run_one(i, RX, NET_F_EVERYTHING & ~F_EVENT_IDX);
		if (cases[i].tx)
			run_one(i, TX, NET_F_EVERYTHING & ~F_EVENT_IDX);
	}
	while (rounds--)
		run_one(N_CASES - 1, next_random() % 2,
			next_random() % 2 ? F_INDIRECT : NET_F_EVERYTHING);
	guest_end("badnet: survived");
}
