// SPDX-License-Identifier: ISC
/*
 * Writes to memory and to its disks (up to 4) without pause, and can tell whether all of it is of
 * one instant.
 *
 * A round n offers ROUND_BLOCKS writes to blocks that follow from n, all at once; while these are
 * under way it writes ROUND_PAGES pages of memory and compares others; when all are done it
 * flushes, notes in memory what the disks now have, and says "ack n n". What a page or sector has
 * to hold follows from the round that wrote it last, and those are noted in memory. At a "c" that
 * is typed it compares every page and every sector with that, and says "good n n", n being the last
 * round that was acknowledged; where something differs it says "BAD" and ends.
 *
 * When it boots it reads the disks. The highest round there may have been cut off ("begin n torn":
 * it is done again), or not ("begin n whole"); those before it must all be there.
 */
#include "guest_virtio.h"

#define DISKS	     4u
#define BLOCKS	     256u /* of a disk that are used */
#define BLOCK	     4096u
#define SECTORS	     8u /* of a block */
#define ROUND_BLOCKS 8u
#define ROUND_PAGES  24u
#define PAGES	     3072u
#define PAGES_AT     0x1000000ull
#define WINDOW	     200u /* rounds before the last of which traces are looked for */

struct request {
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} head;
	volatile uint8_t status;
	uint32_t *data;
};

struct disk {
	struct blk blk;
	struct request requests[ROUND_BLOCKS];
	unsigned n; /* under way */
	uint32_t rounds[BLOCKS * SECTORS];
};

static struct virtio_queue queues[DISKS];
static struct disk disks[DISKS];
static unsigned n_disks;
static uint32_t buffers[ROUND_BLOCKS][BLOCK / 4] __attribute__((aligned(4096)));
static uint32_t page_rounds[PAGES];
static uint32_t acked;

/* --- what is to be where ------------------------------------------------------------------ */

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t h = (a + 0x9e3779b97f4a7c15ull) ^ b * 0xff51afd7ed558ccdull;

	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ull;
	h = (h ^ h >> 27) * 0x94d049bb133111ebull;
	return h ^ h >> 31;
}

/* The @i'th block of a round, and its disk. Odd steps: all of a round differ. */
static unsigned block_of(uint32_t round, unsigned i, unsigned *disk)
{
	uint64_t h = mix(round, 1);

	*disk = (unsigned)(h >> 40) % n_disks;
	*disk = (*disk + i) % n_disks;
	return (unsigned)(h + i * (h >> 20 | 1)) % BLOCKS;
}

static unsigned page_of(uint32_t round, unsigned i)
{
	return (unsigned)(mix(round, 2 + i) % PAGES);
}

static uint32_t sector_word(uint32_t round, unsigned disk, unsigned sector, unsigned k)
{
	switch (k) {
	case 0:
		return round;
	case 1:
		return disk << 24 | sector;
	}
	return (uint32_t)(mix(round, disk << 24 | sector) + k * 0x01000193u);
}

static void fill_block(uint32_t *data, uint32_t round, unsigned disk, unsigned block)
{
	for (unsigned s = 0; s < SECTORS; s++)
		for (unsigned k = 0; k < 128; k++)
			*data++ = sector_word(round, disk, block * SECTORS + s, k);
}

static volatile uint64_t *page_at(unsigned page)
{
	return (volatile uint64_t *)(PAGES_AT + page * 4096ull);
}

static uint64_t page_word(unsigned page, uint32_t round, unsigned k)
{
	return round ? ((uint64_t)round << 32 | page) * 0x9e3779b97f4a7c15ull + k : 0;
}

/* --- judging ------------------------------------------------------------------------------ */

static void bad(const char *what, unsigned which, uint64_t has, uint64_t wanted)
{
	print("\nBAD ");
	print_value(what, which);
	print_value("it has", has);
	print_value("not", wanted);
	print_value("acknowledged", acked);
	guest_end("torture: failed");
}

static void compare_page(unsigned page)
{
	volatile uint64_t *p = page_at(page);
	uint64_t wanted = page_word(page, page_rounds[page], 0);

	for (unsigned k = 0; k < 512; k++)
		if (p[k] != wanted + (page_rounds[page] ? k : 0))
			bad("page", page, p[k], wanted + k);
}

static void write_page(unsigned page, uint32_t round)
{
	volatile uint64_t *p = page_at(page);
	uint64_t word = page_word(page, round, 0);

	for (unsigned k = 0; k < 512; k++)
		p[k] = word + k;
	page_rounds[page] = round;
}

/* The round that a sector is of; all of it must be. */
static uint32_t sector_round(const uint32_t *data, unsigned disk, unsigned sector)
{
	uint32_t round = data[0];

	for (unsigned k = 0; k < 128; k++) {
		uint32_t wanted = round ? sector_word(round, disk, sector, k) : 0;

		if (data[k] != wanted)
			bad("torn sector", disk << 24 | sector, data[k], wanted);
	}
	return round;
}

/* --- disks -------------------------------------------------------------------------------- */

static void offer(struct disk *d, uint32_t type, uint64_t sector, uint32_t *data)
{
	struct request *r = &d->requests[d->n];
	uint16_t i = (uint16_t)(3 * d->n++);
	struct virtio_queue *q = d->blk.queue;

	r->head.type = type;
	r->head.sector = sector;
	r->status = 0xff;
	virtio_desc(q, i, &r->head, sizeof(r->head), DESC_NEXT, (uint16_t)(i + (data ? 1 : 2)));
	virtio_desc(q, (uint16_t)(i + 1), data, BLOCK,
		    DESC_NEXT | (type == BLK_IN ? DESC_WRITE : 0), (uint16_t)(i + 2));
	virtio_desc(q, (uint16_t)(i + 2), (const void *)&r->status, 1, DESC_WRITE, 0);
	virtio_offer(q, i);
}

static void kick_all(void)
{
	for (unsigned d = 0; d < n_disks; d++)
		if (disks[d].n)
			virtio_kick(disks[d].blk.queue);
}

static void wait_all(void)
{
	for (unsigned d = 0; d < n_disks; d++) {
		for (unsigned i = 0; i < disks[d].n; i++)
			virtio_wait(disks[d].blk.queue);
		for (unsigned i = 0; i < disks[d].n; i++)
			if (disks[d].requests[i].status)
				bad("disk error, status", disks[d].requests[i].status, d, 0);
		disks[d].n = 0;
	}
}

static void read_block(unsigned disk, unsigned block)
{
	offer(&disks[disk], BLK_IN, (uint64_t)block * SECTORS, buffers[0]);
	kick_all();
	wait_all();
}

static void compare_block(unsigned disk, unsigned block)
{
	read_block(disk, block);
	for (unsigned s = 0; s < SECTORS; s++) {
		unsigned sector = block * SECTORS + s;
		uint32_t has = sector_round(buffers[0] + s * 128, disk, sector);

		if (has != disks[disk].rounds[sector])
			bad("sector", disk << 24 | sector, has, disks[disk].rounds[sector]);
	}
}

/* --- rounds ------------------------------------------------------------------------------- */

/* Twice, so that a line that is cut off is known. */
static void tell(const char *what, uint32_t round)
{
	print(what);
	print_dec(round);
	print_value("", round);
}

static void flush_all(void)
{
	for (unsigned d = 0; d < n_disks; d++)
		offer(&disks[d], BLK_FLUSH, 0, NULL);
	kick_all();
	wait_all();
}

static void use_memory(uint32_t round)
{
	for (unsigned i = 0; i < ROUND_PAGES; i++)
		write_page(page_of(round, i), round);
	for (unsigned i = 0; i < ROUND_PAGES; i++)
		compare_page(page_of(round, 100 + i));
}

static void do_round(uint32_t round)
{
	unsigned disk, block = block_of(round, ROUND_BLOCKS + 1, &disk);

	compare_block(disk, block);
	for (unsigned i = 0; i < ROUND_BLOCKS; i++) {
		block = block_of(round, i, &disk);
		fill_block(buffers[i], round, disk, block);
		offer(&disks[disk], BLK_OUT, (uint64_t)block * SECTORS, buffers[i]);
	}
	kick_all();
	use_memory(round);
	wait_all();
	flush_all();
	for (unsigned i = 0; i < ROUND_BLOCKS; i++) {
		block = block_of(round, i, &disk);
		for (unsigned s = 0; s < SECTORS; s++)
			disks[disk].rounds[block * SECTORS + s] = round;
	}
	acked = round;
	tell("ack ", round);
}

static void check_all(void)
{
	for (unsigned p = 0; p < PAGES; p++)
		compare_page(p);
	for (unsigned d = 0; d < n_disks; d++)
		for (unsigned b = 0; b < BLOCKS; b++)
			compare_block(d, b);
	tell("good ", acked);
}

/* --- the beginning ------------------------------------------------------------------------ */

/* Whether all that a round wrote is there, or something later is in its place. */
static bool round_is_whole(uint32_t round)
{
	for (unsigned i = 0; i < ROUND_BLOCKS; i++) {
		unsigned disk, block = block_of(round, i, &disk);

		for (unsigned s = 0; s < SECTORS; s++)
			if (disks[disk].rounds[block * SECTORS + s] < round)
				return false;
	}
	return true;
}

/* The highest round that is on the disks. */
static uint32_t read_disks(void)
{
	uint32_t last = 0;

	for (unsigned d = 0; d < n_disks; d++)
		for (unsigned b = 0; b < BLOCKS; b++) {
			read_block(d, b);
			for (unsigned s = 0; s < SECTORS; s++) {
				unsigned sector = b * SECTORS + s;
				uint32_t round = sector_round(buffers[0] + s * 128, d, sector);

				disks[d].rounds[sector] = round;
				last = round > last ? round : last;
			}
		}
	return last;
}

static void clear_pages(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		for (unsigned k = 0; k < 512; k++)
			if (page_at(i)[k]) /* what is zero is not touched */
				page_at(i)[k] = 0;
}

static void run(void)
{
	uint32_t round = read_disks();
	bool whole = round_is_whole(round);

	clear_pages();
	acked = round;
	for (uint32_t n = round; n > 1 && round - n < WINDOW; n--)
		if (!round_is_whole(n - 1))
			bad("lost round", n - 1, 0, n - 1);
	print("\nbegin ");
	print_dec(round);
	print(whole ? " whole\n" : " torn\n");
	if (!whole)
		round--;
	for (;;) {
		do_round(++round);
		if (serial_ready() && serial_get() == 'c')
			check_all();
	}
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	while (n_disks < DISKS && blk_open(&disks[n_disks].blk, &queues[n_disks], n_disks))
		n_disks++;
	if (!n_disks)
		guest_end("torture: no disk");
	guest_user(run);
}
