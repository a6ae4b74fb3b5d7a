// SPDX-License-Identifier: ISC
/*
 * Guest RAM: sizes that cannot be, what a reset leaves, files that it begins as, hostile
 * extents, where something may be, and what a reader in another process is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "util/msg.h"
#include "vmm/layout.h"
#include "vmm/memory_peek.h"

#define MIB  (1ull << 20)
#define GIB  (1ull << 30)
#define PAGE 4096ull

static void memory_freep(struct memory *m)
{
	memory_free(m);
}
#define _cleanup_memory_ __attribute__((cleanup(memory_freep)))

static void make(struct memory *m, uint64_t bytes)
{
	struct err err = ERR_INIT;

	memory_init(m);
	assert_true(memory_tells(m));
	assert_int_equal(memory_new(m, bytes, false, &err), 0);
	assert_int_equal(memory_map(m, &err), 0);
	assert_int_equal(memory_map(m, &err), 0);
}

static uint8_t *at(const struct memory *m, uint64_t gpa)
{
	struct gmem mem;
	uint8_t *p;

	memory_describe(m, &mem);
	p = gmem_ptr(&mem, gpa, 1);
	assert_non_null(p);
	return p;
}

/* A file of @bytes, a page of @value at each of @offsets. */
static int file(uint64_t bytes, const uint64_t *offsets, unsigned n, uint8_t value)
{
	char path[] = "/tmp/test-memory-XXXXXX";
	int fd = mkstemp(path);
	uint8_t page[PAGE];

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	memset(page, value, sizeof(page));
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pwrite(fd, page, PAGE, (off_t)offsets[i]), PAGE);
	return fd;
}

static void sizes_that_cannot_be(void **state)
{
	static const struct {
		uint64_t bytes;
		bool huge;
		int error;
	} cases[] = {
	    {0, false, -EINVAL},
	    {PAGE + 1, false, -EINVAL},
	    {1ull << 47, false, -ERANGE},
	    {16 * MIB + PAGE, true, -EINVAL},
	};

	(void)state;
	for (unsigned i = 0; i < nitems(cases); i++) {
		_cleanup_memory_ struct memory m;
		struct err err = ERR_INIT;

		memory_init(&m);
		assert_int_equal(memory_new(&m, cases[i].bytes, cases[i].huge, &err),
				 cases[i].error);
		assert_memory_equal(err.text, "memory: ", 8);
	}
}

static void pieces_around_the_hole(void **state)
{
	_cleanup_memory_ struct memory m;
	struct gmem mem;

	(void)state;
	make(&m, LAYOUT_LOW_RAM_END + GIB);
	assert_true(m.ram_top == LAYOUT_HIGH_RAM + GIB);
	assert_int_equal((uintptr_t)m.low % (2 * MIB), 0);
	assert_int_equal((uintptr_t)m.high % (2 * MIB), 0);
	memory_describe(&m, &mem);
	assert_int_equal(mem.n_regions, 2);
	*at(&m, LAYOUT_LOW_RAM_END - 1) = 1;
	*at(&m, m.ram_top - 1) = 1;
	assert_null(gmem_ptr(&mem, LAYOUT_LOW_RAM_END - 1, 2));
}

static void data_is_where_something_was_written(void **state)
{
	_cleanup_memory_ struct memory m;
	uint64_t start, end;

	(void)state;
	make(&m, LAYOUT_LOW_RAM_END + 64 * MIB);
	assert_false(memory_next_data(&m, 0, &start, &end));
	*at(&m, 5 * PAGE) = 1;
	*at(&m, 6 * PAGE) = 1;
	*at(&m, LAYOUT_HIGH_RAM + 3 * PAGE) = 1;
	assert_true(memory_next_data(&m, 0, &start, &end));
	assert_true(start <= 5 * PAGE && end >= 7 * PAGE && end <= LAYOUT_LOW_RAM_END);
	assert_true(memory_next_data(&m, end, &start, &end));
	assert_true(start >= LAYOUT_HIGH_RAM && start <= LAYOUT_HIGH_RAM + 3 * PAGE);
	assert_false(memory_next_data(&m, m.ram_top, &start, &end));
	assert_int_equal(memory_wipe(&m), 0);
	assert_false(memory_next_data(&m, 0, &start, &end));
	assert_int_equal(*at(&m, 5 * PAGE), 0);
}

/* Small memory has small pages: runs are told to the page, also from within a page. */
static void runs_to_the_page(void **state)
{
	_cleanup_memory_ struct memory m;
	uint64_t start, end;

	(void)state;
	make(&m, 16 * MIB);
	for (uint64_t gpa = 0; gpa < 16 * MIB; gpa += 2 * PAGE)
		*at(&m, gpa) = 1;
	for (uint64_t gpa = 0; gpa < 16 * MIB; gpa += 2 * PAGE) {
		assert_true(memory_next_data(&m, gpa + 1, &start, &end));
		assert_true(start == gpa && end == gpa + PAGE);
	}
	assert_false(memory_next_data(&m, 16 * MIB - PAGE, &start, &end));
}

static void files_are_private_copies(void **state)
{
	const uint64_t some[] = {0, PAGE, 12 * MIB};
	const struct vmm_extent extents[] = {
	    {.gpa = 0, .bytes = 16 * MIB, .offset = 0, .file = 0},
	    {.gpa = 20 * MIB, .bytes = PAGE, .offset = 12 * MIB, .file = 1},
	};
	int fds[] = {file(16 * MIB, some, 3, 'a'), file(16 * MIB, some, 3, 'b')};
	_cleanup_memory_ struct memory m;
	struct err err = ERR_INIT;
	uint64_t start, end;
	uint8_t byte;

	(void)state;
	make(&m, 32 * MIB);
	assert_int_equal(memory_lay_files(&m, extents, 2, fds, 2, &err), 0);
	assert_true(m.filled);
	assert_int_equal(*at(&m, 2 * PAGE - 1), 'a');
	assert_int_equal(*at(&m, 2 * PAGE), 0);
	assert_int_equal(*at(&m, 12 * MIB), 'a');
	assert_int_equal(*at(&m, 20 * MIB), 'b');
	/* The large hole is not of the file, and what was never touched is there all the same. */
	assert_true(memory_next_data(&m, 0, &start, &end));
	assert_true(start == 0 && end >= 2 * PAGE && end < 3 * MIB);
	assert_true(memory_next_data(&m, end, &start, &end));
	assert_true(start == 12 * MIB && end == 12 * MIB + PAGE);
	assert_true(memory_next_data(&m, end, &start, &end));
	assert_true(start == 20 * MIB && end == 20 * MIB + PAGE);
	*at(&m, 0) = 'x';
	assert_int_equal(pread(fds[0], &byte, 1, 0), 1);
	assert_int_equal(byte, 'a');
	assert_int_equal(memory_wipe(&m), 0);
	assert_false(m.filled);
	assert_int_equal(*at(&m, 12 * MIB), 0);
	assert_int_equal(*at(&m, 20 * MIB), 0);
	close(fds[0]);
	close(fds[1]);
}

static void extents_of_strangers(void **state)
{
	static const struct vmm_extent bad[][2] = {
	    {{.gpa = 1, .bytes = PAGE}},
	    {{.gpa = 0, .bytes = PAGE - 1}},
	    {{.gpa = 0, .bytes = 0}},
	    {{.gpa = 0, .bytes = PAGE, .offset = 7}},
	    {{.gpa = 0, .bytes = PAGE, .file = 1}},
	    {{.gpa = 0, .bytes = PAGE, .file = VMM_EXTENT_ZERO}},
	    {{.gpa = 16 * MIB, .bytes = PAGE}},
	    {{.gpa = 0, .bytes = 16 * MIB + PAGE}},
	    {{.gpa = PAGE, .bytes = UINT64_MAX - PAGE + 1}},
	    {{.gpa = 0, .bytes = PAGE, .offset = 16 * MIB}},
	    {{.gpa = 0, .bytes = PAGE, .offset = UINT64_MAX - PAGE + 1}},
	    {{.gpa = 0, .bytes = PAGE, .offset = (1ull << 63) - PAGE}},
	    {{.gpa = PAGE, .bytes = PAGE}, {.gpa = 0, .bytes = PAGE}},
	    {{.gpa = 0, .bytes = 2 * PAGE}, {.gpa = PAGE, .bytes = PAGE}},
	};
	int fd = file(16 * MIB, NULL, 0, 0), pipes[2];
	_cleanup_memory_ struct memory m;
	struct err err = ERR_INIT;

	(void)state;
	make(&m, 16 * MIB);
	for (unsigned i = 0; i < nitems(bad); i++)
		assert_int_equal(
		    memory_lay_files(&m, bad[i], bad[i][1].bytes ? 2 : 1, &fd, 1, &err), -EINVAL);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(memory_lay_files(&m, NULL, 0, pipes, 1, &err), -EINVAL);
	assert_false(m.filled);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

/* A process that was forked has memory as it was, and must not believe its parent's page map. */
static void inherited_as_it_was(void **state)
{
	_cleanup_memory_ struct memory m;
	int status;
	pid_t pid;

	(void)state;
	make(&m, 16 * MIB);
	*at(&m, 0) = 'p';
	pid = fork();
	if (pid == 0) {
		struct memory child;
		uint64_t start, end;
		bool good = !memory_tells(&m);

		memory_inherit(&child, &m);
		good = good && child.filled && *at(&child, 0) == 'p' &&
		       memory_next_data(&child, PAGE, &start, &end) && start == PAGE &&
		       end == 16 * MIB;
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void *holder(void *arg)
{
	int *pipes = arg;
	char byte;

	close(pipes[1]);
	return read(pipes[0], &byte, 1) < 0 ? arg : NULL;
}

/* How much of it is in huge pages, in KiB: /proc says. */
static unsigned long huge_kib(const struct memory *m)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from = 0, kib = 0, all = 0;
	char line[256];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long a, b;

		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			from = a;
		else if (sscanf(line, "AnonHugePages: %lu", &kib) == 1 &&
			 from >= (uintptr_t)m->low && from < (uintptr_t)m->low + m->low_bytes)
			all += kib;
	}
	fclose(f);
	return all;
}

/* Content stays, pages that a fork left small become huge, what is empty stays so. */
static void large_again_after_a_fork(void **state)
{
	_cleanup_memory_ struct memory m;
	atomic_bool stop = false;
	uint64_t start, end;
	unsigned long before;
	int pipes[2], status;
	pid_t pid;

	(void)state;
	make(&m, GIB);
	memset(m.low, 1, 16 * MIB);
	before = huge_kib(&m);
	if (before < 16 << 10)
		skip(); /* the host has none */
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0)
		_exit(holder(pipes) != NULL);
	for (uint64_t gpa = 0; gpa < 16 * MIB; gpa += PAGE)
		*at(&m, gpa) = 2;
	assert_true(huge_kib(&m) < before);
	close(pipes[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	*at(&m, 100 * MIB) = 1;
	memory_collapse(&m, &stop);
	close(pipes[0]);
	assert_true(huge_kib(&m) >= before);
	for (uint64_t gpa = 0; gpa < 16 * MIB; gpa += PAGE)
		assert_true(*at(&m, gpa) == 2 && *at(&m, gpa + 1) == 1);
	assert_true(memory_next_data(&m, 16 * MIB, &start, &end) && start >= 100 * MIB);
}

/* Waits until as much is in huge pages. */
static bool becomes_huge(const struct memory *m, unsigned long kib)
{
	for (int i = 0; i < 3000; i++) {
		if (huge_kib(m) >= kib)
			return true;
		usleep(10000);
	}
	return false;
}

/* What another process has as well is not copied; when that is gone, a thread makes it huge. */
static void only_what_is_ours_alone(void **state)
{
	_cleanup_memory_ struct memory m;
	atomic_bool stop = false;
	unsigned long before, shared;
	int pipes[2], status;
	pid_t pid;

	(void)state;
	make(&m, GIB);
	memset(m.low, 1, 16 * MIB);
	before = huge_kib(&m);
	if (before < 16 << 10)
		skip(); /* the host has none */
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0)
		_exit(holder(pipes) != NULL);
	/* Of each huge page one small one becomes ours, the others stay common. */
	for (uint64_t gpa = 0; gpa < 16 * MIB; gpa += 2 * MIB)
		*at(&m, gpa) = 2;
	shared = huge_kib(&m);
	assert_true(shared < before);
	memory_collapse(&m, &stop);
	assert_int_equal(huge_kib(&m), shared);
	close(pipes[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(pipes[0]);
	memory_collapse_start(&m);
	assert_true(becomes_huge(&m, before));
	memory_collapse_start(&m); /* again: the first has ended */
	memory_collapse_stop(&m);
	memory_collapse_stop(&m);
	assert_null(m.collapse);
	for (uint64_t gpa = 0; gpa < 16 * MIB; gpa += PAGE)
		assert_int_equal(*at(&m, gpa), gpa % (2 * MIB) ? 1 : 2);
	/* While it is at work, too. */
	memory_collapse_start(&m);
	assert_int_equal(memory_wipe(&m), 0);
	assert_null(m.collapse);
	assert_int_equal(*at(&m, 0), 0);
}

static void small_guests_stay_small(void **state)
{
	_cleanup_memory_ struct memory m;

	(void)state;
	make(&m, 64 * MIB);
	memset(m.low, 1, 16 * MIB);
	memory_collapse_start(&m);
	assert_null(m.collapse);
}

/* --- readers -----------------------------------------------------------------------------------
 */

static struct vmm_peek ask(int sock, struct vmm_peek peek)
{
	static uint64_t id;
	size_t n_fds = 0;
	int fds[1];

	peek.id = ++id;
	assert_int_equal(msg_send(sock, &peek, sizeof(peek), NULL, 0, NULL, 0, 0), 0);
	assert_int_equal(msg_recv(sock, &peek, sizeof(peek), fds, &n_fds, 0), sizeof(peek));
	assert_true(peek.id == id);
	return peek;
}

static void look(int sock, const uint8_t *room, bool tells)
{
	struct vmm_peek peek = ask(
	    sock, (struct vmm_peek){.op = VMM_PEEK_READ, .offset = 3 * PAGE - 2, .bytes = PAGE});

	assert_int_equal(peek.error, 0);
	assert_int_equal(room[0] | room[1], 0);
	assert_int_equal(room[2], 'x');
	assert_int_equal(room[PAGE - 1], 0);
	peek = ask(sock, (struct vmm_peek){.op = VMM_PEEK_STATUS, .bytes = 32 * MIB});
	assert_int_equal(peek.error, 0);
	assert_int_equal(peek.flags, VMM_PEEK_ZERO);
	assert_true(peek.bytes == 3 * PAGE);
	peek = ask(sock,
		   (struct vmm_peek){.op = VMM_PEEK_STATUS, .offset = 3 * PAGE, .bytes = 32 * MIB});
	assert_int_equal(peek.flags, VMM_PEEK_DATA);
	assert_true(peek.bytes == PAGE);
	peek = ask(sock,
		   (struct vmm_peek){.op = VMM_PEEK_STATUS, .offset = 4 * PAGE, .bytes = 32 * MIB});
	assert_int_equal(peek.flags, VMM_PEEK_ZERO);
	assert_true(tells ? peek.bytes == 16 * MIB - 4 * PAGE : peek.bytes > 0);
}

static void nonsense(int sock)
{
	static const struct vmm_peek bad[] = {
	    {.op = VMM_PEEK_READ, .offset = 16 * MIB, .bytes = 1},
	    {.op = VMM_PEEK_READ, .offset = UINT64_MAX, .bytes = 2},
	    {.op = VMM_PEEK_READ, .bytes = PEEK_ROOM_BYTES + 1},
	    {.op = VMM_PEEK_READ, .bytes = 2, .room = PEEK_ROOM_BYTES - 1},
	    {.op = VMM_PEEK_READ, .bytes = 2, .room = UINT64_MAX},
	    {.op = VMM_PEEK_STATUS, .offset = 16 * MIB, .bytes = 1},
	    {.op = VMM_PEEK_STATUS, .bytes = 0},
	    {.op = 7},
	};

	for (unsigned i = 0; i < nitems(bad); i++)
		assert_int_equal(ask(sock, bad[i]).error, bad[i].op == 7 ? -EOPNOTSUPP : -EINVAL);
}

static void read_by_others(void **state)
{
	_cleanup_memory_ struct memory m;
	struct memory_readers readers = {0};
	struct vmm_snapshot_info info;
	struct err err = ERR_INIT;

	(void)state;
	make(&m, 16 * MIB);
	*at(&m, 3 * PAGE) = 'x';
	for (int tells = 1; tells >= 0; tells--) {
		int pair[2], room_fd;
		uint8_t *room;

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(
		    memory_reader_add(&readers, &m, pair[1], -1, &info, &room_fd, &err), 0);
		assert_true(info.bytes == 16 * MIB && info.room_bytes == PEEK_ROOM_BYTES);
		assert_int_equal(ftruncate(room_fd, 4096), -1);
		room = mmap(NULL, PEEK_ROOM_BYTES, PROT_READ, MAP_SHARED, room_fd, 0);
		assert_true(room != MAP_FAILED);
		look(pair[0], room, tells);
		nonsense(pair[0]);
		munmap(room, PEEK_ROOM_BYTES);
		close(room_fd);
		if (tells)
			close(pair[0]);
		else
			memory_readers_end(&readers); /* while the peer is still there */
		while (readers.servers[0])
			memory_readers_reap(&readers);
		if (!tells)
			close(pair[0]);
		if (tells) {
			close(m.pagemap_fd);
			m.pagemap_fd = m.uffd = -1;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_that_cannot_be),
	    cmocka_unit_test(pieces_around_the_hole),
	    cmocka_unit_test(data_is_where_something_was_written),
	    cmocka_unit_test(runs_to_the_page),
	    cmocka_unit_test(files_are_private_copies),
	    cmocka_unit_test(extents_of_strangers),
	    cmocka_unit_test(inherited_as_it_was),
	    cmocka_unit_test(large_again_after_a_fork),
	    cmocka_unit_test(only_what_is_ours_alone),
	    cmocka_unit_test(small_guests_stay_small),
	    cmocka_unit_test(read_by_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
