// SPDX-License-Identifier: ISC
/*
 * The ring alone: the input is a machine's memory and a sequence of what a
 * device does with a queue in it, with writes of the guest in between.
 *
 * Input: [size log2 | flags << 4] [chain_max] then operations, a byte each: see below.
 * All addresses are small, so that mutations meet the rings.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/virtqueue.h"

#define LOW   0x4000u /* bytes of RAM from 0 */
#define HIGH  0x100000000ull
#define ABOVE 0x1000u /* bytes of RAM from HIGH */
#define DESC  0x0000
#define AVAIL 0x1000
#define USED  0x2000
#define CHAIN 64

struct input {
	const uint8_t *data;
	size_t len;
};

static unsigned take(struct input *in)
{
	if (!in->len)
		return 0;
	in->len--;
	return *in->data++;
}

static uint8_t low[LOW], high[ABOVE];
static const struct gmem mem = {.n_regions = 2, .regions = {{0, LOW, low}, {HIGH, ABOVE, high}}};

static void must(bool so)
{
	if (!so)
		abort();
}

/* A buffer must be RAM from its first byte to its last. */
static uint64_t sum(const struct iovec *iov, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		const uint8_t *at = iov[i].iov_base;
		size_t len = iov[i].iov_len;

		must(len > 0);
		must((at >= low && at + len <= low + LOW) ||
		     (at >= high && at + len <= high + ABOVE));
		bytes += len;
	}
	return bytes;
}

/* Writes of the guest: a length and a place, then bytes. */
static void guest_writes(struct input *in)
{
	unsigned n = take(in) % 33, at = take(in) << 8;

	at |= take(in);
	for (unsigned i = 0; i < n; i++)
		low[(at + i) % LOW] = take(in);
}

static void use(struct virtqueue_chain *chain, struct input *in)
{
	uint8_t buf[64];
	size_t n = take(in) % sizeof(buf);
	uint64_t before = chain->out_bytes;

	must(virtqueue_chain_read(chain, buf, n) == (before < n ? before : n));
	must(sum(chain->out, chain->n_out) == chain->out_bytes);
	before = chain->in_bytes;
	must(!virtqueue_chain_last(chain) == !before);
	must(sum(chain->in, chain->n_in) == chain->in_bytes);
	before = chain->in_bytes;
	must(virtqueue_chain_write(chain, buf, n) == (before < n ? before : n));
	must(sum(chain->in, chain->n_in) == chain->in_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	unsigned shape = take(&in);
	struct virtqueue vq;
	struct iovec iov[CHAIN];
	uint16_t heads[1024];
	unsigned under_way = 0;

	memset(low, 0, sizeof(low));
	if (virtqueue_init(&vq, &mem, 1u << (shape & 7), DESC + (shape & 8 ? 0 : take(&in) << 8),
			   AVAIL, USED) < 0)
		return 0;
	vq.event_idx = shape & 0x10;
	vq.indirect = shape & 0x20;
	vq.chain_max = take(&in) % (CHAIN + 1);
	while (in.len) {
		struct virtqueue_chain chain;
		unsigned op = take(&in);

		switch (op % 6) {
		case 0:
			guest_writes(&in);
			break;
		case 1:
			if (virtqueue_pop(&vq, iov, &chain) == 0) {
				must(chain.n_out + chain.n_in <= vq.chain_max);
				must(chain.n_out + chain.n_in > 0);
				must(sum(chain.out, chain.n_out) == chain.out_bytes);
				must(sum(chain.in, chain.n_in) == chain.in_bytes);
				if (op & 0x80) {
					virtqueue_unpop(&vq);
				} else {
					heads[under_way++] = chain.head;
					use(&chain, &in);
				}
			}
			break;
		case 2:
			if (under_way)
				virtqueue_push(&vq, heads[--under_way], take(&in));
			break;
		case 3:
			virtqueue_publish(&vq);
			break;
		case 4:
			virtqueue_notify_off(&vq);
			break;
		case 5:
			virtqueue_notify_on(&vq);
			break;
		}
		must(vq.in_flight == under_way && under_way <= vq.size);
		must(!vq.broken || vq.broken_why);
	}
	return 0;
}
