// SPDX-License-Identifier: ISC
/*
 * Keeps the same books in memory and on the first virtio disk, so that the two of another
 * instant than each other are found out. Entry n is written to sector n % 64 and flushed, noted
 * in memory in 4 places far apart, and printed; before that, what the disk and memory have of
 * the entry 64 before is compared. Where they differ it says "DISAGREE" and ends. When it
 * boots it reads the disk, says "begin N" (the last entry there) and goes on from it.
 */
#include "guest_virtio.h"

#define SECTORS 64u
#define PLACES	4u
#define FIRST	0x1000000ull
#define APART	0x200000ull
#define WORDS	128u

static struct virtio_queue queue;
static uint32_t data[WORDS];
static struct blk blk;

static volatile uint32_t *place(unsigned which, uint32_t sector)
{
	return (volatile uint32_t *)(FIRST + which * APART + sector * 4096ull);
}

static void note(uint32_t n)
{
	for (unsigned i = 0; i < PLACES; i++)
		*place(i, n % SECTORS) = n;
}

static void disagree(const char *what, uint32_t sector, uint32_t has, uint32_t wanted)
{
	print("DISAGREE ");
	print_value(what, sector);
	print_value("it has", has);
	print_value("not", wanted);
	guest_end("ledger: failed");
}

static void do_io(uint32_t type, uint32_t sector, uint32_t len)
{
	uint8_t status = blk_do(&blk, type, sector, len ? data : NULL, len);

	if (status) {
		print_value("disk error, request", type);
		guest_end("ledger: failed");
	}
}

/* The number that all words of the sector have. */
static uint32_t read_entry(uint32_t sector)
{
	do_io(BLK_IN, sector, sizeof(data));
	for (unsigned i = 1; i < WORDS; i++)
		if (data[i] != data[0])
			disagree("torn sector", sector, data[i], data[0]);
	return data[0];
}

static void write_entry(uint32_t n)
{
	for (unsigned i = 0; i < WORDS; i++)
		data[i] = n;
	do_io(BLK_OUT, n % SECTORS, sizeof(data));
	do_io(BLK_FLUSH, 0, 0);
}

static void compare(uint32_t sector)
{
	uint32_t on_disk = read_entry(sector);

	for (unsigned i = 0; i < PLACES; i++)
		if (*place(i, sector) != on_disk)
			disagree("memory of sector", sector, *place(i, sector), on_disk);
}

/* What the disk has: the last entry. Those before it must all be there. */
static uint32_t read_books(void)
{
	uint32_t last = 0;

	for (uint32_t s = 0; s < SECTORS; s++) {
		uint32_t n = read_entry(s);

		if (n && n % SECTORS != s)
			disagree("foreign entry in sector", s, n, s);
		for (unsigned i = 0; i < PLACES; i++)
			*place(i, s) = n;
		if (n > last)
			last = n;
	}
	for (uint32_t n = last; n && last - n < SECTORS; n--)
		if (*place(0, n % SECTORS) != n)
			disagree("lost entry of sector", n % SECTORS, *place(0, n % SECTORS), n);
	return last;
}

static void run(void)
{
	uint32_t n = read_books();

	print_value("begin", n);
	for (;;) {
		compare(++n % SECTORS);
		write_entry(n);
		note(n);
		print_value("entry", n);
	}
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!blk_open(&blk, &queue, 0))
		guest_end("ledger: no disk");
	guest_user(run);
}
