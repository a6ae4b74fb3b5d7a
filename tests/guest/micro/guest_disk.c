// SPDX-License-Identifier: ISC
/*
 * Uses the first virtio disk for as long as it is let, and says what becomes of it: its
 * size whenever that changes, the first word of what it holds whenever that changes, and the first
 * of a run of requests that fail or succeed. "write" on the command line: it writes, too: round
 * after round over sectors 8 to 8 + count (count=N, 512 unless given), each word the
 * round's number plus its own; after each round it flushes and says so.
 */
#include "guest_virtio.h"

#define PIECE 8u /* sectors a request */

static struct virtio_queue queue;
static uint32_t data[PIECE * 128];
static struct blk blk;
static uint64_t sectors, count;
static uint32_t word;
static bool failing;

static void look_at_size(void)
{
	uint64_t now = *(volatile uint64_t *)blk.dev.config;

	if (now == sectors)
		return;
	sectors = now;
	print_value("sectors", sectors);
}

/* True if it succeeded. */
static bool outcome(uint8_t status)
{
	if (failing != (status != 0)) {
		failing = status;
		print(failing ? "disk: fails\n" : "disk: works again\n");
	}
	return !status;
}

static void look_at_content(void)
{
	if (!outcome(blk_do(&blk, BLK_IN, 0, data, 512)) || data[0] == word)
		return;
	word = data[0];
	print_value("word", word);
}

static void write_round(uint32_t round)
{
	for (uint64_t at = 0; at < count; at += PIECE) {
		for (uint32_t i = 0; i < PIECE * 128; i++)
			data[i] = round + (uint32_t)at * 128 + i;
		if (!outcome(blk_do(&blk, BLK_OUT, 8 + at, data, PIECE * 512)))
			return;
	}
	if (outcome(blk_do(&blk, BLK_FLUSH, 0, NULL, 0)))
		print_value("round", round);
}

static void run(void)
{
	bool write = guest_has("write");

	for (uint32_t round = 1;; round++) {
		look_at_size();
		look_at_content();
		if (write)
			write_round(round);
	}
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!blk_open(&blk, &queue, 0))
		guest_end("disk: none");
	count = guest_number("count", 512);
	print("disk: begins\n");
	guest_user(run);
}
