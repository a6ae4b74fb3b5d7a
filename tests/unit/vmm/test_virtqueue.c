// SPDX-License-Identifier: ISC
/* The ring: what is taken, what is refused, who is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/virtqueue.h"

#define RAM   (1u << 20)
#define DESC  0x1000
#define AVAIL 0x2000
#define USED  0x3000
#define DATA  0x10000
#define SIZE  8

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct ring {
	struct gmem mem;
	uint8_t *ram;
	struct virtqueue vq;
	struct iovec iov[32];
	struct virtqueue_chain chain;
	uint16_t avail_idx;
};

static void put(struct ring *r, uint64_t at, uint64_t value, unsigned size)
{
	memcpy(r->ram + at, &value, size);
}

static uint64_t get(struct ring *r, uint64_t at, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, r->ram + at, size);
	return value;
}

static void desc_at(struct ring *r, uint64_t at, uint64_t addr, uint32_t len, unsigned flags,
		    unsigned next)
{
	put(r, at, addr, 8);
	put(r, at + 8, len, 4);
	put(r, at + 12, flags, 2);
	put(r, at + 14, next, 2);
}

static void desc(struct ring *r, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
		 unsigned next)
{
	desc_at(r, DESC + 16 * i, addr, len, flags, next);
}

static void offer(struct ring *r, uint16_t head)
{
	put(r, AVAIL + 4 + 2 * (r->avail_idx % SIZE), head, 2);
	put(r, AVAIL + 2, ++r->avail_idx, 2);
}

static int pop(struct ring *r)
{
	return virtqueue_pop(&r->vq, r->iov, &r->chain);
}

static int setup(void **state)
{
	struct ring *r = calloc(1, sizeof(*r));

	r->ram = calloc(1, RAM);
	r->mem =
	    (struct gmem){.n_regions = 1, .regions = {{.gpa = 0, .bytes = RAM, .host = r->ram}}};
	assert_int_equal(virtqueue_init(&r->vq, &r->mem, SIZE, DESC, AVAIL, USED), 0);
	r->vq.chain_max = 16;
	r->vq.indirect = true;
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct ring *r = *state;

	free(r->ram);
	free(r);
	return 0;
}

static void bad_descriptions_are_refused(void **state)
{
	struct ring *r = *state;
	static const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
	    {0, DESC, AVAIL, USED},	   {3, DESC, AVAIL, USED},
	    {2048, DESC, AVAIL, USED},	   {0x8000, DESC, AVAIL, USED},
	    {SIZE, DESC + 8, AVAIL, USED}, {SIZE, DESC, AVAIL + 1, USED},
	    {SIZE, DESC, AVAIL, USED + 2}, {SIZE, RAM - 16, AVAIL, USED},
	    {SIZE, DESC, RAM - 8, USED},   {SIZE, DESC, AVAIL, RAM - 8},
	    {SIZE, ~0xfull, AVAIL, USED},  {SIZE, DESC, ~1ull, USED},
	    {SIZE, DESC, AVAIL, ~3ull},	   {SIZE, 1ull << 63, AVAIL, USED},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct virtqueue vq;

		assert_int_equal(virtqueue_init(&vq, &r->mem, bad[i].size, bad[i].desc,
						bad[i].avail, bad[i].used),
				 -EINVAL);
		assert_non_null(vq.broken_why);
		assert_int_equal(virtqueue_pop(&vq, r->iov, &r->chain), -EPROTO);
	}
}

static void a_chain_is_taken_in_order(void **state)
{
	struct ring *r = *state;
	char buf[8] = "";

	assert_int_equal(pop(r), -EAGAIN);
	memcpy(r->ram + DATA, "abcdef", 6);
	desc(r, 3, DATA, 2, NEXT, 5);
	desc(r, 5, DATA + 2, 4, NEXT, 0);
	desc(r, 0, DATA + 100, 7, WRITE | NEXT, 1);
	desc(r, 1, DATA + 200, 1, WRITE, 77);
	offer(r, 3);
	assert_int_equal(pop(r), 0);
	assert_int_equal(r->chain.head, 3);
	assert_int_equal(r->chain.n_out, 2);
	assert_int_equal(r->chain.n_in, 2);
	assert_int_equal(r->chain.out_bytes, 6);
	assert_int_equal(r->chain.in_bytes, 8);
	assert_ptr_equal(virtqueue_chain_last(&r->chain), r->ram + DATA + 200);
	assert_int_equal(r->chain.n_in, 1);
	assert_int_equal(virtqueue_chain_read(&r->chain, buf, 3), 3);
	assert_string_equal(buf, "abc");
	assert_int_equal(virtqueue_chain_read(&r->chain, buf, 8), 3);
	assert_memory_equal(buf, "def", 3);
	assert_int_equal(virtqueue_chain_read(&r->chain, buf, 8), 0);
	assert_int_equal(virtqueue_chain_write(&r->chain, "123456789", 9), 7);
	assert_memory_equal(r->ram + DATA + 100, "1234567\0", 8);
	assert_int_equal(pop(r), -EAGAIN);
}

static void used_is_seen_when_published(void **state)
{
	struct ring *r = *state;

	desc(r, 2, DATA, 1, 0, 0);
	offer(r, 2);
	assert_int_equal(pop(r), 0);
	assert_false(virtqueue_publish(&r->vq));
	virtqueue_push(&r->vq, r->chain.head, 0x1234);
	assert_int_equal(get(r, USED + 2, 2), 0);
	assert_true(virtqueue_publish(&r->vq));
	assert_int_equal(get(r, USED + 2, 2), 1);
	assert_int_equal(get(r, USED + 4, 4), 2);
	assert_int_equal(get(r, USED + 8, 4), 0x1234);
	assert_false(virtqueue_publish(&r->vq));
	/* NO_INTERRUPT */
	put(r, AVAIL, 1, 2);
	offer(r, 2);
	assert_int_equal(pop(r), 0);
	virtqueue_push(&r->vq, r->chain.head, 0);
	assert_false(virtqueue_publish(&r->vq));
	assert_int_equal(get(r, USED + 2, 2), 2);
}

static void indices_wrap(void **state)
{
	struct ring *r = *state;

	desc(r, 0, DATA, 1, 0, 0);
	for (unsigned i = 0; i < 200000; i++) {
		offer(r, 0);
		assert_int_equal(pop(r), 0);
		virtqueue_push(&r->vq, 0, i);
		assert_true(virtqueue_publish(&r->vq));
		assert_int_equal(get(r, USED + 2, 2), (uint16_t)(i + 1));
		assert_int_equal(get(r, USED + 8 + 8 * (i % SIZE), 4), i);
	}
}

static void event_index_tells_when(void **state)
{
	struct ring *r = *state;
	uint64_t used_event = AVAIL + 4 + 2 * SIZE, avail_event = USED + 4 + 8 * SIZE;

	r->vq.event_idx = true;
	desc(r, 0, DATA, 1, 0, 0);
	put(r, used_event, 2, 2); /* an interrupt when the third is used */
	for (unsigned i = 0; i < 4; i++) {
		offer(r, 0);
		assert_int_equal(pop(r), 0);
		virtqueue_push(&r->vq, 0, 0);
		assert_int_equal(virtqueue_publish(&r->vq), i == 2);
	}
	/* a batch that steps over it */
	put(r, used_event, 5, 2);
	for (unsigned i = 0; i < 3; i++) {
		offer(r, 0);
		assert_int_equal(pop(r), 0);
		virtqueue_push(&r->vq, 0, 0);
	}
	assert_true(virtqueue_publish(&r->vq));
	/* notifications: nothing is written to flags, the place is */
	virtqueue_notify_off(&r->vq);
	assert_int_equal(get(r, USED, 2), 0);
	assert_false(virtqueue_notify_on(&r->vq));
	assert_int_equal(get(r, avail_event, 2), r->avail_idx);
	offer(r, 0);
	assert_true(virtqueue_notify_on(&r->vq));
}

static void flags_suppress_notifications(void **state)
{
	struct ring *r = *state;

	virtqueue_notify_off(&r->vq);
	assert_int_equal(get(r, USED, 2), 1);
	assert_false(virtqueue_notify_on(&r->vq));
	assert_int_equal(get(r, USED, 2), 0);
	desc(r, 0, DATA, 1, 0, 0);
	offer(r, 0);
	assert_true(virtqueue_notify_on(&r->vq));
}

static void indirect_tables_are_walked(void **state)
{
	struct ring *r = *state;

	/* one direct buffer, then a table of three, not in order */
	desc(r, 0, DATA, 5, NEXT, 1);
	desc(r, 1, 0x8000, 48, INDIRECT, 0);
	desc_at(r, 0x8000, DATA + 10, 6, NEXT, 2);
	desc_at(r, 0x8010, DATA + 20, 7, WRITE, 0);
	desc_at(r, 0x8020, DATA + 30, 8, WRITE | NEXT, 1);
	offer(r, 0);
	assert_int_equal(pop(r), 0);
	assert_int_equal(r->chain.n_out, 2);
	assert_int_equal(r->chain.n_in, 2);
	assert_int_equal(r->chain.out_bytes, 11);
	assert_int_equal(r->chain.in_bytes, 15);
	assert_ptr_equal(r->chain.in[0].iov_base, r->ram + DATA + 30);
}

static void unpop_gives_it_again(void **state)
{
	struct ring *r = *state;

	desc(r, 4, DATA, 1, WRITE, 0);
	offer(r, 4);
	assert_int_equal(pop(r), 0);
	virtqueue_unpop(&r->vq);
	assert_int_equal(r->vq.in_flight, 0);
	assert_int_equal(pop(r), 0);
	assert_int_equal(r->chain.head, 4);
	assert_int_equal(pop(r), -EAGAIN);
}

/* --- malice ------------------------------------------------------------------------------- */

static void self_loop(struct ring *r)
{
	desc(r, 0, DATA, 1, NEXT, 0);
	offer(r, 0);
}

static void long_loop(struct ring *r)
{
	for (unsigned i = 0; i < SIZE; i++)
		desc(r, i, DATA, 1, NEXT, (i + 1) % SIZE);
	offer(r, 0);
}

static void indirect_loop(struct ring *r)
{
	desc(r, 0, 0x8000, 32, INDIRECT, 0);
	desc_at(r, 0x8000, DATA, 1, NEXT, 1);
	desc_at(r, 0x8010, DATA, 1, NEXT, 0);
	offer(r, 0);
}

static void indirect_in_indirect(struct ring *r)
{
	desc(r, 0, 0x8000, 32, INDIRECT, 0);
	desc_at(r, 0x8000, 0x8000, 16, INDIRECT, 0);
	offer(r, 0);
}

static void indirect_with_next(struct ring *r)
{
	desc(r, 0, 0x8000, 16, INDIRECT | NEXT, 1);
	desc_at(r, 0x8000, DATA, 1, 0, 0);
	offer(r, 0);
}

static void indirect_not_negotiated(struct ring *r)
{
	r->vq.indirect = false;
	desc(r, 0, 0x8000, 16, INDIRECT, 0);
	desc_at(r, 0x8000, DATA, 1, 0, 0);
	offer(r, 0);
}

static void indirect_odd_length(struct ring *r)
{
	desc(r, 0, 0x8000, 24, INDIRECT, 0);
	offer(r, 0);
}

static void indirect_empty(struct ring *r)
{
	desc(r, 0, 0x8000, 0, INDIRECT, 0);
	offer(r, 0);
}

static void indirect_huge(struct ring *r)
{
	desc(r, 0, 0, 0xfffffff0, INDIRECT, 0);
	offer(r, 0);
}

static void indirect_outside(struct ring *r)
{
	desc(r, 0, RAM - 16, 32, INDIRECT, 0);
	offer(r, 0);
}

static void indirect_next_outside(struct ring *r)
{
	desc(r, 0, 0x8000, 16, INDIRECT, 0);
	desc_at(r, 0x8000, DATA, 1, NEXT, 1);
	offer(r, 0);
}

static void indirect_too_many(struct ring *r)
{
	desc(r, 0, 0x8000, 16 * 17, INDIRECT, 0);
	for (unsigned i = 0; i < 17; i++)
		desc_at(r, 0x8000 + 16 * i, DATA, 1, i < 16 ? NEXT : 0, i + 1);
	offer(r, 0);
}

static void head_outside(struct ring *r)
{
	offer(r, SIZE);
}

static void next_outside(struct ring *r)
{
	desc(r, 0, DATA, 1, NEXT, 0xffff);
	offer(r, 0);
}

static void empty_buffer(struct ring *r)
{
	desc(r, 0, DATA, 0, 0, 0);
	offer(r, 0);
}

static void buffer_beyond(struct ring *r)
{
	desc(r, 0, RAM, 1, 0, 0);
	offer(r, 0);
}

static void buffer_across_the_end(struct ring *r)
{
	desc(r, 0, RAM - 1, 2, 0, 0);
	offer(r, 0);
}

static void buffer_wraps(struct ring *r)
{
	desc(r, 0, ~0ull, 2, 0, 0);
	offer(r, 0);
}

static void buffer_of_4g(struct ring *r)
{
	desc(r, 0, DATA, 0xffffffff, 0, 0);
	offer(r, 0);
}

static void readable_after_writable(struct ring *r)
{
	desc(r, 0, DATA, 1, WRITE | NEXT, 1);
	desc(r, 1, DATA, 1, 0, 0);
	offer(r, 0);
}

static void index_jumps(struct ring *r)
{
	desc(r, 0, DATA, 1, 0, 0);
	put(r, AVAIL + 2, SIZE + 1, 2);
}

static void index_goes_back(struct ring *r)
{
	desc(r, 0, DATA, 1, 0, 0);
	put(r, AVAIL + 2, 0xffff, 2);
}

static void too_many_under_way(struct ring *r)
{
	desc(r, 0, DATA, 1, 0, 0);
	for (unsigned i = 0; i < SIZE; i++) {
		offer(r, 0);
		assert_int_equal(pop(r), 0);
	}
	offer(r, 0);
}

static void malice_breaks_the_queue(void **state)
{
	static void (*const cases[])(struct ring * r) = {
	    self_loop,
	    long_loop,
	    indirect_loop,
	    indirect_in_indirect,
	    indirect_with_next,
	    indirect_not_negotiated,
	    indirect_odd_length,
	    indirect_empty,
	    indirect_huge,
	    indirect_outside,
	    indirect_next_outside,
	    indirect_too_many,
	    head_outside,
	    next_outside,
	    empty_buffer,
	    buffer_beyond,
	    buffer_across_the_end,
	    buffer_wraps,
	    buffer_of_4g,
	    readable_after_writable,
	    index_jumps,
	    index_goes_back,
	    too_many_under_way,
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ring *r;

		if (i) {
			teardown(state);
			setup(state);
		}
		r = *state;
		cases[i](r);
		assert_int_equal(pop(r), -EPROTO);
		assert_non_null(r->vq.broken_why);
		/* and for good: nothing is taken, nothing written */
		desc(r, 0, DATA, 1, 0, 0);
		assert_int_equal(pop(r), -EPROTO);
		assert_false(virtqueue_notify_on(&r->vq));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(bad_descriptions_are_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_chain_is_taken_in_order, setup, teardown),
	    cmocka_unit_test_setup_teardown(used_is_seen_when_published, setup, teardown),
	    cmocka_unit_test_setup_teardown(indices_wrap, setup, teardown),
	    cmocka_unit_test_setup_teardown(event_index_tells_when, setup, teardown),
	    cmocka_unit_test_setup_teardown(flags_suppress_notifications, setup, teardown),
	    cmocka_unit_test_setup_teardown(indirect_tables_are_walked, setup, teardown),
	    cmocka_unit_test_setup_teardown(unpop_gives_it_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(malice_breaks_the_queue, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
