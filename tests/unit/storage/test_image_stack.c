// SPDX-License-Identifier: ISC
/*
 * A disk whose chain changes while it is used: new layers on top, what is below frozen, and
 * exchanged; at any moment it reads as a plain array would.
 */
#include "tests/unit/storage/image_files.h"

#include "storage/block_filter.h"

static void over_every_kind(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (unsigned i = 0; i < nitems(kinds); i++) {
		struct files f = {0};
		struct block *stack;

		memset(model, 0, sizeof(model));
		make_bottom(&f, &kinds[i], false, &seed);
		stack = open_stack(&f, 0);
		changes(stack, 40, &seed);
		for (unsigned round = 0; round < 3; round++) {
			go_over(stack, &f);
			same_as_model(queue, stack);
			changes(stack, 30, &seed);
			same_as_model(queue, stack);
			if (round == 1)
				continue; /* two at once are frozen the next time */
			assert_int_equal(image_stack_freeze(stack, NULL), 0);
			assert_int_equal(image_stack_freeze(stack, NULL), 0);
			changes(stack, 30, &seed);
		}
		same_as_model(queue, stack);
		block_close(stack);
		closed_reads_alike(&f);
		check_files(&f);
		files_close(&f);
	}
}

/* What is frozen is not written again, whatever happens above. */
static void frozen_files_stay(void **state)
{
	uint64_t seed = 11;

	(void)state;
	for (unsigned i = 0; i < nitems(kinds); i++) {
		struct files f = {0}, below;
		struct block *stack, *block;
		struct stat before, after;

		memset(model, 0, sizeof(model));
		make_bottom(&f, &kinds[i], false, &seed);
		stack = open_stack(&f, 0);
		changes(stack, 40, &seed);
		go_over(stack, &f);
		changes(stack, 5, &seed);
		assert_int_equal(image_stack_freeze(stack, NULL), 0);
		below = (struct files){{f.l[1]}, 1};
		check_files(&below);
		block = open_files(&below, 0, 0); /* as if to be written: it needs no repair */
		block_close(block);
		assert_int_equal(fstat(f.l[1].fd, &before), 0);
		changes(stack, 60, &seed);
		assert_int_equal(block_flush(queue, stack), 0);
		same_as_model(queue, stack);
		block_close(stack);
		assert_int_equal(fstat(f.l[1].fd, &after), 0);
		assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
		files_close(&f);
	}
}

static int other_description(int fd)
{
	char path[64];
	int other;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_RDWR | O_CLOEXEC);
	assert_true(other >= 0);
	return other;
}

static void frozen_files_can_be_locked_by_readers(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (unsigned i = 0; i < nitems(kinds); i++) {
		struct files f = {0};
		struct block *stack;
		int other;

		make_bottom(&f, &kinds[i], false, &seed);
		assert_int_equal(image_lock(f.l[0].fd, true, false, NULL), 0);
		stack = open_stack(&f, 0);
		other = other_description(f.l[0].fd);
		go_over(stack, &f);
		assert_int_equal(image_lock(other, false, false, NULL), -EBUSY);
		assert_int_equal(image_stack_freeze(stack, NULL), 0);
		assert_int_equal(image_lock(other, false, false, NULL), 0);
		image_unlock(other);
		assert_int_equal(image_lock(other, true, false, NULL), -EBUSY);
		close(other);
		block_close(stack);
		files_close(&f);
	}
}

/* --- flushes -------------------------------------------------------------------------------- */

struct count {
	unsigned flushes;
	int error;
};

static int count_flushes(void *arg, const struct block_req *req)
{
	struct count *c = arg;

	if (req->op != BLOCK_FLUSH)
		return 0;
	c->flushes++;
	return c->error;
}

static void flushes_reach_what_is_not_frozen(void **state)
{
	struct count count = {0};
	const struct block_fault_plan plan = {count_flushes, &count};
	struct block *raw, *stack, *staged;
	struct image_layer l = overlay();
	int fd = test_file(BYTES);

	(void)state;
	assert_int_equal(block_file_open(&raw, copy_fd(fd), 0, NULL), 0);
	assert_int_equal(block_fault_open(&raw, raw, &plan, NULL), 0);
	assert_int_equal(image_stack_open(&stack, raw, 0, NULL), 0);
	assert_int_equal(block_flush(queue, stack), 0);
	assert_int_equal(count.flushes, 1);
	staged = stage(stack, &l);
	assert_int_equal(count.flushes, 1);
	image_stack_switch(stack, staged);
	assert_int_equal(count.flushes, 1); /* not at the instant */
	assert_int_equal(block_flush(queue, stack), 0);
	assert_int_equal(count.flushes, 2);
	count.error = -EIO;
	assert_int_equal(block_flush(queue, stack), -EIO);
	assert_int_equal(image_stack_freeze(stack, NULL), -EIO);
	count.error = 0;
	assert_int_equal(block_flush(queue, stack), 0);
	assert_int_equal(count.flushes, 5);
	assert_int_equal(image_stack_freeze(stack, NULL), 0);
	assert_int_equal(count.flushes, 6);
	assert_int_equal(block_flush(queue, stack), 0);
	assert_int_equal(count.flushes, 6);
	block_close(stack);
	close_layer(&l);
	close(fd);
}

/* --- what must not be staged ---------------------------------------------------------------- */

static void refused(struct block *stack, int fd, int error)
{
	struct err err = ERR_INIT;
	struct block *staged = NULL;

	assert_int_equal(image_stack_stage(stack, copy_fd(fd), &staged, &err), error);
	assert_null(staged);
	assert_true(strlen(err.text) > 0);
}

static void not_empty(struct image_layer *l)
{
	struct files f = {{*l}, 1};
	struct block *block = open_files(&f, 0, IMAGE_NO_BACKING);

	assert_int_equal(block_pwrite(queue, block, "x", 1, 4096), 0);
	block_close(block);
}

static void poke(int fd, off_t at, const void *data, size_t len)
{
	assert_int_equal(pwrite(fd, data, len, at), len);
}

static void only_new_images_are_staged(void **state)
{
	static const struct kind data = {.format = IMAGE_QCOW2, .data_file = true};
	static const struct kind plain = {.format = IMAGE_QCOW2};
	struct files f = {0};
	struct image_layer l;
	struct block *stack;
	int fd;

	(void)state;
	push(&f, make_layer(&plain, BYTES, false));
	stack = open_stack(&f, 0);
	refused(stack, f.l[0].fd, -ELOOP); /* itself */
	fd = test_file(BYTES);
	refused(stack, fd, -EINVAL); /* no image */
	close(fd);
	l = make_layer(&plain, BYTES, false);
	refused(stack, l.fd, -EINVAL); /* with nothing below it */
	close_layer(&l);
	l = make_layer(&data, BYTES, true);
	refused(stack, l.fd, -EINVAL);
	close_layer(&l);
	l = make_layer(&plain, BYTES + 512, true);
	refused(stack, l.fd, -EINVAL);
	close_layer(&l);
	l = make_layer(&plain, BYTES - 512, true);
	refused(stack, l.fd, -EINVAL);
	close_layer(&l);
	l = overlay();
	not_empty(&l);
	refused(stack, l.fd, -EINVAL);
	close_layer(&l);
	l = overlay();
	poke(l.fd, 60, "\0\0\0\1\0\0\0\0\0\3\0\0", 12); /* a snapshot inside */
	refused(stack, l.fd, -EINVAL);
	close_layer(&l);
	l = overlay();
	poke(l.fd, 79, "\1", 1); /* dirty */
	refused(stack, l.fd, -EINVAL);
	poke(l.fd, 79, "\2", 1); /* corrupt */
	refused(stack, l.fd, -EINVAL);
	poke(l.fd, 72, "\x80", 1); /* what nobody knows */
	refused(stack, l.fd, -ENOTSUP);
	close_layer(&l);
	l = overlay();
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	refused(stack, fd, -EINVAL);
	close(fd);
	block_close(stack);
	stack = open_stack(&f, IMAGE_READONLY);
	refused(stack, l.fd, -EROFS);
	block_close(stack);
	close_layer(&l);
	files_close(&f);
}

static void one_that_is_not_used_stays_as_it_is(void **state)
{
	struct files f = {0};
	struct image_layer l = overlay();
	struct stat before, after;
	struct block *stack;

	(void)state;
	push(&f, make_layer(&kinds[0], BYTES, false));
	stack = open_stack(&f, 0);
	assert_int_equal(fstat(l.fd, &before), 0);
	image_stack_unstage(stage(stack, &l));
	assert_int_equal(fstat(l.fd, &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
	image_stack_switch(stack, stage(stack, &l)); /* it can be staged again */
	block_close(stack);
	close_layer(&l);
	files_close(&f);
}

/* A raw disk may end within a sector: that is shown as before, but never written. */
static void a_ragged_end_stays(void **state)
{
	uint8_t buf[700], expect[700];
	struct image_layer l = overlay();
	struct block *stack;
	struct files f = {0};

	(void)state;
	memset(expect, 0x5a, sizeof(expect));
	push(&f, (struct image_layer){
		     .format = IMAGE_RAW, .fd = test_file(BYTES + 100), .data_fd = -1});
	poke(f.l[0].fd, BYTES - 600, expect, 700);
	stack = open_stack(&f, 0);
	image_stack_switch(stack, stage(stack, &l));
	assert_int_equal(block_size(stack), BYTES + 100);
	assert_int_equal(block_pread(queue, stack, buf, 700, BYTES - 600), 0);
	assert_memory_equal(buf, expect, 700);
	memset(expect, 0x33, 512);
	assert_int_equal(block_pwrite(queue, stack, expect, 512, BYTES - 512), 0);
	assert_int_equal(block_pread(queue, stack, buf, 612, BYTES - 512), 0);
	memset(expect + 512, 0x5a, 100);
	assert_memory_equal(buf, expect, 612);
	block_close(stack);
	close_layer(&l);
	files_close(&f);
}

/* --- size ----------------------------------------------------------------------------------- */

static void only_the_top_is_resized(void **state)
{
	uint8_t buf[4096], zero[4096] = {0};
	struct files f = {0};
	struct block *stack;
	uint64_t seed = 1;
	struct stat st;

	(void)state;
	push(&f, make_layer(&kinds[0], BYTES, false));
	stack = open_stack(&f, 0);
	changes(stack, 100, &seed);
	go_over(stack, &f);
	assert_int_equal(block_resize(stack, BYTES / 2, NULL), 0);
	assert_int_equal(block_size(stack), BYTES / 2);
	assert_int_equal(block_resize(stack, 2 * BYTES, NULL), 0);
	assert_int_equal(fstat(f.l[1].fd, &st), 0);
	assert_int_equal(st.st_size, BYTES);
	for (uint64_t at = BYTES / 2; at < 2 * BYTES; at += sizeof(buf)) {
		assert_int_equal(block_pread(queue, stack, buf, sizeof(buf), at), 0);
		assert_memory_equal(buf, zero, sizeof(buf));
	}
	/* and another goes over what is larger now */
	{
		static const struct kind plain = {.format = IMAGE_QCOW2};
		struct image_layer l = make_layer(&plain, 2 * BYTES, true);

		image_stack_switch(stack, stage(stack, &l));
		push(&f, l);
	}
	assert_int_equal(block_pwrite(queue, stack, "end", 3, 2 * BYTES - 3), 0);
	assert_int_equal(image_stack_freeze(stack, NULL), 0);
	block_close(stack);
	check_files(&f);
	files_close(&f);
}

/* --- rebasing ------------------------------------------------------------------------------- */

static int try_rebase(struct block *stack, const struct files *f, unsigned keep)
{
	struct image_chain *chain = chain_of(f, 0);
	struct err err = ERR_INIT;
	struct block *old;
	int r = image_stack_rebase(stack, keep, chain, NULL, &old, &err);

	free(chain);
	if (r < 0)
		assert_true(strlen(err.text) > 0);
	block_close(old);
	return r;
}

static void only_what_may_go_is_exchanged(void **state)
{
	struct files f = {0}, bottom, other = {0}, shorter = {0};
	struct block *stack;
	uint64_t seed = 9;

	(void)state;
	memset(model, 0, sizeof(model));
	make_bottom(&f, &kinds[0], false, &seed);
	bottom = (struct files){{f.l[0]}, 1};
	push(&other, make_layer(&kinds[1], BYTES, true)); /* without what it says is below it */
	push(&shorter, make_layer(&kinds[0], BYTES - 512, false));
	stack = open_stack(&f, 0);
	assert_int_equal(try_rebase(stack, &bottom, 0), -EINVAL);
	assert_int_equal(try_rebase(stack, &bottom, 1), -EINVAL);
	go_over(stack, &f);
	assert_int_equal(try_rebase(stack, &bottom, 1), -EBUSY);
	assert_int_equal(image_stack_freeze(stack, NULL), 0);
	assert_int_equal(try_rebase(stack, &bottom, 2), -EINVAL);
	assert_int_equal(try_rebase(stack, &bottom, UINT32_MAX), -EINVAL);
	assert_int_equal(try_rebase(stack, &other, 1), -EINVAL);
	assert_int_equal(try_rebase(stack, &shorter, 1), -EINVAL);
	assert_int_equal(try_rebase(stack, &bottom, 1), 0);
	same_as_model(queue, stack);
	block_close(stack);
	files_close(&other);
	files_close(&shorter);
	files_close(&f);
}

/* --- all of it under load ------------------------------------------------------------------- */

#define WRITERS	   3
#define READERS	   2
#define CONST_FROM (BYTES - (1u << 20)) /* from here on nothing is changed */

struct load {
	struct block *stack;
	pthread_rwlock_t instant; /* writers stand still for a switch; readers do not */
	pthread_mutex_t reading[READERS];
	bool end; /* atomic */
};

struct worker {
	struct load *load;
	unsigned index;
	pthread_t thread;
};

static void *write_much(void *arg)
{
	struct worker *w = arg;
	uint32_t from = w->index * (CONST_FROM / WRITERS / 512 * 512);
	uint32_t to = from + CONST_FROM / WRITERS / 512 * 512;
	_cleanup_free_ uint8_t *buf = malloc(to - from);
	struct block_queue *q;
	uint64_t seed = w->index;

	assert_int_equal(block_queue_new_sync(&q, NULL), 0);
	for (unsigned i = 0; !__atomic_load_n(&w->load->end, __ATOMIC_ACQUIRE); i++) {
		pthread_rwlock_rdlock(&w->load->instant);
		change(q, w->load->stack, from, to, &seed);
		if (i % 8 == 0)
			assert_int_equal(block_flush(q, w->load->stack), 0);
		pthread_rwlock_unlock(&w->load->instant);
		if (i % 4)
			continue;
		assert_int_equal(block_pread(q, w->load->stack, buf, to - from, from), 0);
		assert_memory_equal(buf, model + from, to - from);
	}
	block_queue_free(q);
	return NULL;
}

static void *read_much(void *arg)
{
	struct worker *w = arg;
	uint8_t buf[64 << 10];
	struct block_extent e;
	struct block_queue *q;
	uint64_t seed = w->index;
	pthread_mutex_t *reading = &w->load->reading[w->index - WRITERS];

	assert_int_equal(block_queue_new_sync(&q, NULL), 0);
	while (!__atomic_load_n(&w->load->end, __ATOMIC_ACQUIRE)) {
		uint32_t at = CONST_FROM + test_random(&seed) % (BYTES - CONST_FROM - sizeof(buf));

		pthread_mutex_lock(reading);
		assert_int_equal(block_pread(q, w->load->stack, buf, sizeof(buf), at), 0);
		assert_memory_equal(buf, model + at, sizeof(buf));
		assert_int_equal(block_status(w->load->stack, at, sizeof(buf), &e), 0);
		pthread_mutex_unlock(reading);
	}
	block_queue_free(q);
	return NULL;
}

static void under_load(unsigned flags, const struct kind *bottom, unsigned rounds)
{
	struct worker workers[WRITERS + READERS];
	struct load load = {.end = false};
	struct files f = {0};
	struct merge m = {.f = &f, .at = 1, .reading = load.reading, .n_readers = READERS};
	pthread_rwlockattr_t attr;
	uint64_t seed = 23;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&load.instant, &attr);
	for (unsigned i = 0; i < READERS; i++)
		pthread_mutex_init(&load.reading[i], NULL);
	memset(model, 0, sizeof(model));
	make_bottom(&f, bottom, false, &seed);
	load.stack = m.stack = open_stack(&f, flags);
	for (unsigned i = 0; i < nitems(workers); i++) {
		workers[i] = (struct worker){.load = &load, .index = i};
		assert_int_equal(pthread_create(&workers[i].thread, NULL,
						i < WRITERS ? write_much : read_much, &workers[i]),
				 0);
	}
	for (unsigned round = 0; round < rounds; round++) {
		struct image_layer l = overlay();
		struct block *staged = stage(load.stack, &l);

		pthread_rwlock_wrlock(&load.instant);
		image_stack_switch(load.stack, staged);
		pthread_rwlock_unlock(&load.instant);
		push(&f, l);
		if (round % 3 == 1)
			continue;
		assert_int_equal(image_stack_freeze(load.stack, NULL), 0);
		while (f.n > 2 && round % 3 == 2)
			merge_down(&m);
	}
	__atomic_store_n(&load.end, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < nitems(workers); i++)
		pthread_join(workers[i].thread, NULL);
	same_as_model(queue, load.stack);
	block_close(load.stack);
	closed_reads_alike(&f);
	check_files(&f);
	files_close(&f);
}

static void all_of_it_under_load(void **state)
{
	(void)state;
	under_load(0, &kinds[0], 24);
	under_load(IMAGE_ASYNC, &kinds[2], 24);
	under_load(0, &kinds[7], 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(over_every_kind),
	    cmocka_unit_test(frozen_files_stay),
	    cmocka_unit_test(frozen_files_can_be_locked_by_readers),
	    cmocka_unit_test(flushes_reach_what_is_not_frozen),
	    cmocka_unit_test(only_new_images_are_staged),
	    cmocka_unit_test(one_that_is_not_used_stays_as_it_is),
	    cmocka_unit_test(a_ragged_end_stays),
	    cmocka_unit_test(only_the_top_is_resized),
	    cmocka_unit_test(only_what_may_go_is_exchanged),
	    cmocka_unit_test(all_of_it_under_load),
	};

	return cmocka_run_group_tests_name("a disk's chain that changes", tests, begin, end);
}
