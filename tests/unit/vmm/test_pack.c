// SPDX-License-Identifier: ISC
/*
 * Packed memory: what was written comes back, all at once and as it is touched, by whom ever; a
 * file that is short, damaged or hostile is refused in words, or its damage is never memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <zstd.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "vmm/hold_int.h"
#include "vmm/layout.h"
#include "vmm/pack_int.h"

#define MIB  (1ull << 20)
#define PAGE 4096ull

static void memory_freep(struct memory *m)
{
	memory_free(m);
}
#define _cleanup_memory_ __attribute__((cleanup(memory_freep)))

/* --- memory, and files of it --------------------------------------------------------------------
 */

static void make(struct memory *m, uint64_t bytes, bool lazy)
{
	struct err err = ERR_INIT;

	memory_init(m);
	if (!lazy && m->uffd >= 0)
		close(take_fd(&m->uffd));
	assert_int_equal(memory_new(m, bytes, false, &err), 0);
	assert_int_equal(memory_map(m, &err), 0);
}

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static void noise(uint8_t *to, uint64_t bytes, uint64_t *state)
{
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t v = next(state);

		memcpy(to + i, &v, 8);
	}
}

/* Of all kinds: nothing, noise, patterns, half and half, a page alone. */
static void fill(uint8_t *to, uint64_t bytes)
{
	uint64_t state = 88172645463325252ull;

	for (uint64_t at = 0; at < bytes; at += PAGE) {
		uint64_t chunk = at / PACK_CHUNK;

		switch (chunk % 5) {
		case 0:
			noise(to + at, PAGE, &state);
			break;
		case 1:
			memset(to + at, (int)(at / PAGE), PAGE);
			break;
		case 2:
			noise(to + at, PAGE / 2, &state);
			break;
		case 3:
			if (at % PACK_CHUNK == 5 * PAGE)
				to[at + 17] = 1;
			break;
		default: /* zeroes */
			break;
		}
	}
}

static int new_file(void)
{
	char path[] = "/tmp/test-pack-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	return fd;
}

static int pack_of(const struct memory *m, int level)
{
	struct hold_write *w = calloc(1, sizeof(*w));
	int fd = new_file();

	assert_non_null(w);
	w->memory = m;
	w->kind = VMM_MEMORY_PACKED;
	w->level = level;
	w->fd = fd;
	assert_int_equal(pack_write(w), 0);
	assert_int_equal(atomic_load(&w->stored_bytes), lseek(fd, 0, SEEK_END));
	assert_int_equal(atomic_load(&w->looked), atomic_load(&w->total));
	free(w);
	return fd;
}

static uint8_t *contents(int fd, size_t *bytes)
{
	struct stat st;
	uint8_t *data;

	assert_int_equal(fstat(fd, &st), 0);
	*bytes = (size_t)st.st_size;
	data = malloc(*bytes);
	assert_int_equal(file_pread_all(fd, data, *bytes, 0), 0);
	return data;
}

static int file_of(const void *data, size_t bytes)
{
	int fd = new_file();

	assert_int_equal(file_pwrite_all(fd, data, bytes, 0), 0);
	return fd;
}

/* Loads it at once. With words where it is refused. */
static int load(struct memory *m, int fd, struct err *err)
{
	int r;

	*err = (struct err)ERR_INIT;
	r = pack_load(m, fd, -1, err);
	if (r < 0)
		assert_true(strstr(err->text, "memory") != NULL);
	return r;
}

static void load_lazily(struct memory *m, int fd, int wake_fd)
{
	struct err err = ERR_INIT;

	if (m->uffd < 0)
		skip();
	if (pack_load(m, fd, wake_fd, &err) < 0)
		fail_msg("%s", err.text);
}

/* --- round trips -------------------------------------------------------------------------------
 */

static void comes_back(uint64_t bytes, int level)
{
	_cleanup_memory_ struct memory from, to;
	_cleanup_close_ int fd = -1;
	struct err err;

	make(&from, bytes, false);
	make(&to, bytes, false);
	fill(from.low, from.low_bytes);
	fd = pack_of(&from, level);
	assert_int_equal(load(&to, fd, &err), 0);
	assert_memory_equal(from.low, to.low, from.low_bytes);
	assert_true(to.filled);
	assert_null(pack_failure(&to));
	pack_finish(&to);
}

static void comes_back_at_once(void **state)
{
	(void)state;
	comes_back(8 * MIB, 0);
	comes_back(PAGE, 0);
	comes_back(MIB + 3 * PAGE, 3);
	comes_back(PACK_CHUNK + PAGE, -5);
}

static void zeroes_cost_nothing(void **state)
{
	_cleanup_memory_ struct memory from, to;
	_cleanup_close_ int fd = -1;
	uint64_t start, end;
	struct err err;

	(void)state;
	make(&from, 64 * MIB, false);
	make(&to, 64 * MIB, false);
	from.low[33 * MIB] = 7;
	fd = pack_of(&from, 0);
	assert_true(lseek(fd, 0, SEEK_END) < (off_t)(PACK_HEADER + 1024 * PACK_ENTRY + 4096));
	assert_int_equal(load(&to, fd, &err), 0);
	assert_int_equal(to.low[33 * MIB], 7);
	assert_true(memory_next_data(&to, 0, &start, &end));
	assert_true(start <= 33 * MIB && start >= 32 * MIB && end > 33 * MIB);
	assert_false(memory_next_data(&to, 36 * MIB, &start, &end));
}

static void above_the_hole(void **state)
{
	_cleanup_memory_ struct memory from, to;
	uint64_t bytes = LAYOUT_LOW_RAM_END + MIB + PAGE;
	_cleanup_close_ int fd = -1;
	struct err err;

	(void)state;
	make(&from, bytes, false);
	make(&to, bytes, false);
	from.low[LAYOUT_LOW_RAM_END - 1] = 1;
	fill(from.high, from.high_bytes);
	from.high[from.high_bytes - 1] = 2;
	fd = pack_of(&from, 0);
	assert_int_equal(load(&to, fd, &err), 0);
	assert_int_equal(to.low[LAYOUT_LOW_RAM_END - 1], 1);
	assert_memory_equal(from.high, to.high, from.high_bytes);
}

/* --- as it is touched ---------------------------------------------------------------------------
 */

#define LAZY	 (48 * MIB)
#define TOUCHERS 4

struct toucher {
	const struct memory *from, *to;
	uint64_t seed;
	bool differs;
	pthread_t thread;
};

/* Here and there; by itself, and by the kernel on its behalf. */
static void *touch(void *arg)
{
	struct toucher *t = arg;
	int pipe_fds[2];
	uint8_t page[PAGE];

	if (pipe(pipe_fds) < 0)
		return NULL;
	for (int i = 0; i < 3000; i++) {
		uint64_t at = next(&t->seed) % (LAZY / PAGE) * PAGE;

		if (i % 2) {
			memcpy(page, t->to->low + at, PAGE);
		} else if (write(pipe_fds[1], t->to->low + at, PAGE) != (ssize_t)PAGE ||
			   read(pipe_fds[0], page, PAGE) != (ssize_t)PAGE) {
			t->differs = true;
			break;
		}
		t->differs |= memcmp(page, t->from->low + at, PAGE) != 0;
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return NULL;
}

static void comes_as_it_is_touched(void **state)
{
	struct toucher touchers[TOUCHERS];
	_cleanup_memory_ struct memory from, to;
	_cleanup_close_ int fd = -1;

	(void)state;
	make(&from, LAZY, false);
	fill(from.low, LAZY);
	fd = pack_of(&from, 0);
	for (int round = 0; round < 3; round++) {
		make(&to, LAZY, true);
		load_lazily(&to, fd, -1);
		for (unsigned i = 0; i < TOUCHERS; i++) {
			touchers[i] = (struct toucher){&from, &to, 77 + i + round, false, 0};
			assert_int_equal(
			    pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]), 0);
		}
		for (unsigned i = 0; i < TOUCHERS; i++) {
			pthread_join(touchers[i].thread, NULL);
			assert_false(touchers[i].differs);
		}
		assert_memory_equal(from.low, to.low, LAZY);
		pack_finish(&to);
		assert_memory_equal(from.low, to.low, LAZY);
		memory_free(&to);
	}
	make(&to, LAZY, false);
}

static void what_the_guest_writes_stays(void **state)
{
	_cleanup_memory_ struct memory from, to;
	_cleanup_close_ int fd = -1;

	(void)state;
	make(&from, LAZY, false);
	make(&to, LAZY, true);
	fill(from.low, LAZY);
	fd = pack_of(&from, 0);
	load_lazily(&to, fd, -1);
	for (uint64_t at = 0; at < LAZY; at += PAGE) {
		from.low[at + 1] ^= 0x55;
		to.low[at + 1] ^= 0x55;
	}
	pack_finish(&to);
	assert_memory_equal(from.low, to.low, LAZY);
}

static void a_fork_has_all_of_it(void **state)
{
	_cleanup_memory_ struct memory from, to;
	_cleanup_close_ int fd = -1;
	int status;
	pid_t pid;

	(void)state;
	make(&from, LAZY, false);
	make(&to, LAZY, true);
	fill(from.low, LAZY);
	fd = pack_of(&from, 0);
	load_lazily(&to, fd, -1);
	pack_finish(&to);
	assert_null(to.pack);
	pid = fork();
	if (pid == 0)
		_exit(memcmp(from.low, to.low, LAZY) != 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A reset in the middle: nothing of it comes later. */
static void nobody_needs_the_rest(void **state)
{
	_cleanup_memory_ struct memory from, to;
	_cleanup_close_ int fd = -1;
	_cleanup_free_ uint8_t *zeroes = calloc(1, LAZY);

	(void)state;
	make(&from, LAZY, false);
	fill(from.low, LAZY);
	fd = pack_of(&from, 0);
	for (int i = 0; i < 5; i++) {
		make(&to, LAZY, true);
		load_lazily(&to, fd, -1);
		for (int k = 0; k < i; k++)
			assert_int_equal(to.low[k * 7 * MIB], from.low[k * 7 * MIB]);
		assert_int_equal(memory_wipe(&to), 0);
		assert_memory_equal(to.low, zeroes, LAZY);
		memory_free(&to);
	}
	make(&to, PAGE, false);
}

static unsigned long huge_kib(const void *address)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long from = 0, to = 0, kib = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			continue;
		if ((uintptr_t)address >= from && (uintptr_t)address < to &&
		    sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			return kib;
	}
	return 0;
}

/* It came in small pages; the next fork is to be short all the same. */
static void large_pages_again(void **state)
{
	_cleanup_memory_ struct memory from, to;
	_cleanup_close_ int fd = -1;

	(void)state;
	make(&from, 512 * MIB, false);
	make(&to, 512 * MIB, true);
	if (!memory_large(&to))
		skip();
	fill(from.low + 16 * MIB, 16 * MIB);
	memset(from.low + 16 * MIB, 3, 16 * MIB);
	if (huge_kib(from.low) == 0)
		skip(); /* the host has none */
	fd = pack_of(&from, 0);
	load_lazily(&to, fd, -1);
	for (int i = 0; i < 12000 && huge_kib(to.low) < 16 * 1024; i++)
		usleep(10000);
	assert_true(huge_kib(to.low) >= 16 * 1024);
	pack_finish(&to);
	assert_memory_equal(from.low + 15 * MIB, to.low + 15 * MIB, 18 * MIB);
}

/* --- damage -------------------------------------------------------------------------------------
 */

#define SMALL (5 * PACK_CHUNK)

struct packed {
	struct memory from;
	uint8_t *data;
	size_t bytes, index; /* where that begins */
};

/* Small, and compressible but for one chunk. */
static void pack_small(struct packed *p)
{
	_cleanup_close_ int fd = -1;
	uint64_t state = 1;

	make(&p->from, SMALL, false);
	memset(p->from.low, 1, PACK_CHUNK);
	noise(p->from.low + 2 * PACK_CHUNK, PAGE, &state);
	for (uint64_t i = 0; i < PACK_CHUNK; i++)
		p->from.low[3 * PACK_CHUNK + i] = (uint8_t)(i >> 7);
	fd = pack_of(&p->from, 0);
	p->data = contents(fd, &p->bytes);
	p->index = pack_get64(p->data + 24);
}

static void packed_free(struct packed *p)
{
	free(p->data);
	memory_free(&p->from);
}

/* Refused, or it makes no difference (a bit that says nothing). */
static bool refused(const struct packed *p, const void *data, size_t bytes)
{
	_cleanup_memory_ struct memory to;
	_cleanup_close_ int fd = file_of(data, bytes);
	struct err err;
	int r;

	make(&to, SMALL, false);
	r = load(&to, fd, &err);
	if (r < 0)
		return true;
	assert_memory_equal(p->from.low, to.low, SMALL);
	return false;
}

static void each_bit(void **state)
{
	struct packed p;
	size_t harmless = 0;

	(void)state;
	pack_small(&p);
	assert_false(refused(&p, p.data, p.bytes));
	for (size_t bit = 0; bit < 8 * p.bytes; bit++) {
		p.data[bit / 8] ^= 1u << bit % 8;
		if (!refused(&p, p.data, p.bytes)) {
			/* only zstd has bits of no meaning */
			assert_true(bit / 8 >= PACK_HEADER && bit / 8 < p.index);
			harmless++;
		}
		p.data[bit / 8] ^= 1u << bit % 8;
		if (bit / 8 > PACK_HEADER + 300 && bit / 8 + 300 < p.index)
			bit += 41; /* the middle of noise */
	}
	assert_true(harmless < 40);
	packed_free(&p);
}

static void each_length(void **state)
{
	struct packed p;

	(void)state;
	pack_small(&p);
	for (size_t n = 0; n < p.bytes; n++) {
		assert_true(refused(&p, p.data, n));
		if (n > 400 && n + 400 < p.bytes)
			n += 96;
	}
	packed_free(&p);
}

/* With checksums that are right. */
static void seal(struct packed *p)
{
	pack_put32(p->data + 40, (uint32_t)crc32_z(0, p->data + p->index, p->bytes - p->index));
	pack_put32(p->data + 60, (uint32_t)crc32_z(0, p->data, 60));
}

static void hostile_index(void **state)
{
	static const struct {
		unsigned chunk;
		uint64_t offset;
		uint32_t bytes;
	} cases[] = {
	    {0, 0, 100},	  /* in the header */
	    {0, UINT64_MAX, 100}, /* nowhere */
	    {0, 1ull << 40, 100},
	    {0, UINT64_MAX - 50, 100}, /* behind its end, and around */
	    {0, PACK_HEADER, UINT32_MAX},
	    {0, PACK_HEADER, PACK_FRAME_MAX + 1},
	    {0, PACK_HEADER + 1, 20}, /* no frame */
	    {1, PACK_HEADER, 1},
	    {4, PACK_HEADER, 3},
	};
	struct packed p;

	(void)state;
	pack_small(&p);
	for (size_t i = 0; i < nitems(cases); i++) {
		uint8_t *entry = p.data + p.index + cases[i].chunk * PACK_ENTRY, old[PACK_ENTRY];

		memcpy(old, entry, PACK_ENTRY);
		pack_put64(entry, cases[i].offset);
		pack_put32(entry + 8, cases[i].bytes);
		seal(&p);
		assert_true(refused(&p, p.data, p.bytes));
		memcpy(entry, old, PACK_ENTRY);
	}
	seal(&p);
	assert_false(refused(&p, p.data, p.bytes));
	packed_free(&p);
}

static void hostile_header(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
		int error;
	} cases[] = {
	    {8, 4, 2, -EOPNOTSUPP},
	    {8, 4, 0, -EOPNOTSUPP},
	    {12, 4, 1 << 20, -EOPNOTSUPP},
	    {12, 4, 0, -EOPNOTSUPP},
	    {16, 8, SMALL + PAGE, -EINVAL},
	    {16, 8, 0, -EINVAL},
	    {16, 8, UINT64_MAX, -EINVAL},
	    {24, 8, 0, -EINVAL},
	    {24, 8, UINT64_MAX, -EINVAL},
	    {24, 8, UINT64_MAX - 40, -EINVAL},
	    {32, 8, 0, -EINVAL},
	    {32, 8, UINT64_MAX, -EINVAL},
	    {32, 8, 4, -EINVAL},
	};
	struct packed p;

	(void)state;
	pack_small(&p);
	for (size_t i = 0; i < nitems(cases); i++) {
		_cleanup_memory_ struct memory to;
		_cleanup_close_ int fd = -1;
		uint8_t old[8];
		struct err err;

		memcpy(old, p.data + cases[i].at, 8);
		if (cases[i].bytes == 4)
			pack_put32(p.data + cases[i].at, (uint32_t)cases[i].value);
		else
			pack_put64(p.data + cases[i].at, cases[i].value);
		pack_put32(p.data + 60, (uint32_t)crc32_z(0, p.data, 60));
		fd = file_of(p.data, p.bytes);
		make(&to, SMALL, false);
		assert_int_equal(load(&to, fd, &err), cases[i].error);
		memcpy(p.data + cases[i].at, old, 8);
	}
	packed_free(&p);
}

/* A frame that is sound, and unpacks to more, less, or without a checksum to something else. */
static void frames_of_other_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, PAGE, PACK_CHUNK - 1, PACK_CHUNK + 1, 8 * MIB};
	_cleanup_free_ uint8_t *zeroes = calloc(1, 8 * MIB), *frame = malloc(PACK_FRAME_MAX);
	struct packed p;

	(void)state;
	pack_small(&p);
	for (size_t i = 0; i < nitems(sizes); i++) {
		size_t n = ZSTD_compress(frame, PACK_FRAME_MAX, zeroes, sizes[i], 1);
		size_t bytes = p.bytes + n;
		struct packed other = p;

		assert_false(ZSTD_isError(n));
		other.data = malloc(bytes);
		memcpy(other.data, p.data, p.index);
		memcpy(other.data + p.index, frame, n);
		memcpy(other.data + p.index + n, p.data + p.index, p.bytes - p.index);
		other.index = p.index + n;
		other.bytes = bytes;
		pack_put64(other.data + 24, other.index);
		pack_put64(other.data + other.index, p.index);
		pack_put32(other.data + other.index + 8, (uint32_t)n);
		seal(&other);
		assert_true(refused(&p, other.data, bytes));
		free(other.data);
	}
	packed_free(&p);
}

static void no_regular_file(void **state)
{
	_cleanup_memory_ struct memory to;
	struct err err;
	int fds[2];

	(void)state;
	make(&to, MIB, false);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(load(&to, fds[0], &err), -EINVAL);
	assert_true(load(&to, -1, &err) < 0);
	close(fds[0]);
	close(fds[1]);
}

/* --- damage that is met late ---------------------------------------------------------------------
 */

/* What a process does that hears of it, or (@told false) does not. */
static void meet_damage(const struct packed *p, bool told, int say)
{
	_cleanup_close_ int fd = file_of(p->data, p->bytes), wake = told ? eventfd(0, 0) : -1;
	struct pollfd ready = {.fd = wake, .events = POLLIN};
	struct memory to;
	struct err err = ERR_INIT;
	const char *words;

	if (!freopen("/dev/null", "w", stderr))
		_exit(1);
	make(&to, SMALL, true);
	if (pack_load(&to, fd, wake, &err) < 0)
		_exit(2);
	if (!told) {
		/* never what is not its own */
		if (to.low[0] == 1)
			_exit(3);
		_exit(4);
	}
	poll(&ready, 1, -1);
	words = pack_failure(&to);
	if (!words || write(say, words, strlen(words)) < 0)
		_exit(5);
	_exit(6);
}

static void damage_met_late(void **state)
{
	struct packed p;

	(void)state;
	pack_small(&p);
	if (p.from.uffd < 0) {
		struct memory probe;

		make(&probe, PAGE, true);
		if (probe.uffd < 0)
			skip();
		memory_free(&probe);
	}
	/* in the first chunk's checksum */
	p.data[pack_get64(p.data + p.index) + pack_get32(p.data + p.index + 8) - 1] ^= 1;
	for (int told = 0; told < 2; told++) {
		char words[200] = "";
		int fds[2], status;
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		if (pid == 0)
			meet_damage(&p, told, fds[1]);
		close(fds[1]);
		assert_true(read(fds[0], words, sizeof(words) - 1) >= 0);
		close(fds[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		/* who is not told ends by itself */
		assert_int_equal(WEXITSTATUS(status), told ? 6 : 1);
		if (told)
			assert_non_null(strstr(words, "damaged"));
	}
	packed_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(comes_back_at_once),
	    cmocka_unit_test(zeroes_cost_nothing),
	    cmocka_unit_test(above_the_hole),
	    cmocka_unit_test(comes_as_it_is_touched),
	    cmocka_unit_test(what_the_guest_writes_stays),
	    cmocka_unit_test(a_fork_has_all_of_it),
	    cmocka_unit_test(nobody_needs_the_rest),
	    cmocka_unit_test(large_pages_again),
	    cmocka_unit_test(each_bit),
	    cmocka_unit_test(each_length),
	    cmocka_unit_test(hostile_index),
	    cmocka_unit_test(hostile_header),
	    cmocka_unit_test(frames_of_other_sizes),
	    cmocka_unit_test(no_regular_file),
	    cmocka_unit_test(damage_met_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
