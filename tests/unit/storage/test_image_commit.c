// SPDX-License-Identifier: ISC
/*
 * A layer is merged into the one below by descriptors, while both are read: the chain reads the
 * same at any moment, whatever is killed.
 */
#include "tests/unit/storage/image_files.h"

static void merged_into_every_kind(void **state)
{
	uint64_t seed = 5;

	(void)state;
	for (unsigned i = 0; i < nitems(kinds); i++) {
		/* kinds[i] by itself, and with something below it */
		for (unsigned over = 0; over < 2; over++) {
			struct files f = {0};
			struct merge m = {.f = &f, .at = 1};

			if (over && (kinds[i].format == IMAGE_RAW || kinds[i].compressed))
				continue;
			memset(model, 0, sizeof(model));
			if (over)
				make_bottom(&f, &kinds[1], false, &seed);
			make_bottom(&f, &kinds[i], over, &seed);
			m.stack = open_stack(&f, 0);
			for (unsigned round = 0; round < 3; round++) {
				go_over(m.stack, &f);
				changes(m.stack, 25, &seed);
				go_over(m.stack, &f);
				assert_int_equal(image_stack_freeze(m.stack, NULL), 0);
				changes(m.stack, 25, &seed);
				while (f.n > 2 + over) {
					merge_down(&m);
					same_as_model(queue, m.stack);
				}
			}
			assert_int_equal(f.n, 2 + over);
			block_close(m.stack);
			closed_reads_alike(&f);
			check_files(&f);
			m = (struct merge){.f = &f, .at = 0};
			merge_down(&m);
			closed_reads_alike(&f);
			check_files(&f);
			files_close(&f);
		}
	}
}

/* Copies of the files as a kill would leave them read alike. */
struct watch {
	struct files *f;
	struct block *reader; /* has it all open since before */
	struct cancel *cancel;
	unsigned calls, until;
};

static int snapshot_of(int fd)
{
	int copy = test_file(0);
	_cleanup_free_ uint8_t *buf = malloc(1 << 20);
	off_t at = 0;
	ssize_t n;

	while ((n = pread(fd, buf, 1 << 20, at)) > 0) {
		assert_int_equal(pwrite(copy, buf, n, at), n);
		at += n;
	}
	return copy;
}

static void look(void *arg, uint64_t done, uint64_t total)
{
	struct watch *w = arg;
	struct files copy = {.n = w->f->n};

	assert_true(done <= total);
	for (unsigned i = 0; i < copy.n; i++) {
		copy.l[i] = w->f->l[i];
		copy.l[i].fd = snapshot_of(copy.l[i].fd);
		if (copy.l[i].data_fd >= 0)
			copy.l[i].data_fd = snapshot_of(copy.l[i].data_fd);
	}
	closed_reads_alike(&copy);
	files_close(&copy);
	same_as_model(queue, w->reader);
	if (++w->calls == w->until)
		cancel_request(w->cancel);
}

/* Layers of 4 KiB clusters cover parts of those below: what they do not is read below meanwhile. */
static void a_merge_may_end_anywhere(void **state)
{
	static const struct kind fine = {.format = IMAGE_QCOW2, .cluster_bytes = 4096};
	uint64_t seed = 17;

	(void)state;
	for (unsigned i = 0; i < nitems(kinds); i++) {
		struct files f = {0};
		struct block *block;
		struct cancel cancel;
		struct image_chain *chain;
		struct watch w = {.f = &f, .cancel = &cancel, .until = 1 + i % 5};
		const struct image_job job = {.cancel = &cancel, .progress = look, .arg = &w};
		struct merge m = {.f = &f};

		memset(model, 0, sizeof(model));
		make_bottom(&f, &kinds[i], false, &seed);
		push(&f, make_layer(&fine, BYTES, true));
		block = open_files(&f, 0, 0);
		changes(block, 25, &seed);
		block_close(block);
		w.reader = open_files(&f, 0, IMAGE_READONLY);
		same_as_model(queue, w.reader);
		cancel_init(&cancel);
		chain = chain_of(&f, 0);
		assert_int_equal(image_commit_fds(chain, NULL, merged, &m, &job, NULL), -ECANCELED);
		assert_false(m.called);
		same_as_model(queue, w.reader);
		free(chain);
		closed_reads_alike(&f);
		w.until = 0;
		cancel_init(&cancel);
		chain = chain_of(&f, 0);
		assert_int_equal(image_commit_fds(chain, NULL, NULL, NULL, &job, NULL), 0);
		free(chain);
		closed_reads_alike(&f);
		close_layer(&f.l[0]);
		f.l[0] = f.l[1];
		f.n = 1;
		closed_reads_alike(&f);
		block_close(w.reader);
		files_close(&f);
	}
}

static void merging_takes_over_the_size(void **state)
{
	static const struct kind plain = {.format = IMAGE_QCOW2};
	static const uint64_t sizes[] = {BYTES / 2, BYTES / 2 + 512, BYTES, BYTES + 512, 2 * BYTES};

	(void)state;
	for (unsigned i = 0; i < 2 * nitems(sizes); i++) {
		uint64_t bytes = sizes[i / 2], seed = i;
		struct files f = {0};
		struct block *block, *after;
		struct merge m = {.f = &f};
		_cleanup_free_ uint8_t *a = malloc(bytes), *b = malloc(bytes);

		make_bottom(&f, &kinds[i % 2], false, &seed);
		push(&f, make_layer(&plain, bytes, true));
		block = open_files(&f, 0, 0);
		assert_int_equal(block_pwrite(queue, block, "end", 3, bytes - 3), 0);
		assert_int_equal(block_pread(queue, block, a, bytes, 0), 0);
		block_close(block);
		merge_down(&m);
		after = open_files(&f, 0, IMAGE_READONLY);
		assert_int_equal(block_size(after), bytes);
		assert_int_equal(block_pread(queue, after, b, bytes, 0), 0);
		assert_memory_equal(a, b, bytes);
		block_close(after);
		check_files(&f);
		files_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(merged_into_every_kind),
	    cmocka_unit_test(a_merge_may_end_anywhere),
	    cmocka_unit_test(merging_takes_over_the_size),
	};

	return cmocka_run_group_tests_name("merging layers", tests, begin, end);
}
