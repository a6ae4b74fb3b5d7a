// SPDX-License-Identifier: ISC
/* Whole files: compressed kernels, bombs, and what is no kernel at all. */
#include <fcntl.h>
#include <stdlib.h>

#include "tests/unit/vmm/boot_fixture.h"

static void compressed_vmlinux(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes file = pack(c, &elf);

		memset(gmem_ptr(&mem, ELF_PADDR, ELF_MEMSZ), 0xaa, ELF_MEMSZ);
		assert_int_equal(load(&mem, &file), 0);
		pattern_check(&mem);
	}
}

static void compressed_bzimage(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	_cleanup_bytes_ struct bytes payload = pack_payload(XZ, &elf);
	_cleanup_bytes_ struct bytes image = bzimage_make(&payload);
	_cleanup_bytes_ struct bytes file = pack(GZIP, &image);

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	assert_int_equal(load(&mem, &file), 0);
	pattern_check(&mem);
}

static void truncated_anywhere(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes file = pack(c, &elf);
		size_t whole = file.len;

		for (file.len = 1; file.len < whole; file.len += file.len < 64 ? 1 : 61)
			assert_int_equal(load(&mem, &file), -ENOEXEC);
		file.len = whole - 1;
		assert_int_equal(load(&mem, &file), -ENOEXEC);
		expect_words("truncated");
		file.len = whole;
	}
}

static int read_image(const struct bytes *file, uint64_t max, struct bytes *out, uint64_t *cap)
{
	_cleanup_close_ int fd = file_of(file->data, file->len);
	uint64_t len = 0;
	void *data = NULL;
	int ret;

	last_error = (struct err)ERR_INIT;
	ret = boot_image_read(fd, max, &data, &len, cap, &last_error);
	*out = (struct bytes){data, len};
	return ret;
}

static void sizes_around_the_limit(void **state)
{
	(void)state;
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes plain = bytes_new(5 * MIB + 123), file = {0};
		struct bytes out;
		uint64_t cap;

		for (size_t i = 0; i < plain.len; i++)
			plain.data[i] = (uint8_t)(i >> 12);
		file = pack(c, &plain);
		assert_int_equal(read_image(&file, plain.len, &out, &cap), 0);
		assert_int_equal(out.len, plain.len);
		assert_true(cap >= out.len && cap <= 6 * MIB);
		assert_memory_equal(out.data, plain.data, plain.len);
		munmap(out.data, cap);
		assert_int_equal(read_image(&file, plain.len - 1, &out, &cap), -EFBIG);
		expect_words("unpacks to more than");
		assert_int_equal(read_image(&file, 1, &out, &cap), -EFBIG);
	}
}

/* 64 MiB of zeroes for a guest of 16: given up as soon as they are too many. */
static void bombs(void **state)
{
	_cleanup_bytes_ struct bytes zeroes = bytes_new(64 * MIB);

	(void)state;
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_memory_ struct gmem mem;
		_cleanup_bytes_ struct bytes file = pack(c, &zeroes);

		memory_make(&mem, 16 * MIB, 0);
		assert_int_equal(load(&mem, &file), -EFBIG);
		expect_words("16 MiB");
	}
}

static void several_members(void **state)
{
	_cleanup_bytes_ struct bytes plain = bytes_new(10000);

	(void)state;
	for (size_t i = 0; i < plain.len; i++)
		plain.data[i] = (uint8_t)(i * i);
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes one = pack(c, &plain), two = bytes_new(2 * one.len);
		struct bytes out;
		uint64_t cap;

		if (c == XZ || c == LZ4)
			continue; /* the first is taken */
		memcpy(two.data, one.data, one.len);
		memcpy(two.data + one.len, one.data, one.len);
		assert_int_equal(read_image(&two, MIB, &out, &cap), 0);
		assert_int_equal(out.len, 20000);
		assert_memory_equal(out.data + 10000, plain.data, plain.len);
		munmap(out.data, cap);
	}
}

static void plain_file(void **state)
{
	_cleanup_bytes_ struct bytes plain = bytes_new(10000);
	struct bytes out;
	uint64_t cap;

	(void)state;
	memset(plain.data, 'p', plain.len);
	assert_int_equal(read_image(&plain, MIB, &out, &cap), 0);
	assert_int_equal(out.len, plain.len);
	assert_memory_equal(out.data, plain.data, plain.len);
	munmap(out.data, cap);
	assert_int_equal(read_image(&plain, 9999, &out, &cap), -EFBIG);
}

static void strangers(void **state)
{
	static const struct {
		unsigned offset;
		const char *bytes;
		const char *words;
	} rows[] = {
	    {0, "070701", "cpio"},
	    {0, "QFI\xfb", "qcow2"},
	    {0, "#!/bin/sh", "script"},
	    {56, "ARM\x64", "aarch64"},
	    {0, "MZ", "EFI program"},
	    {510, "\x55\xaa", "disk image"},
	    {100, "whatever", "neither a bzImage nor an ELF"},
	};
	_cleanup_memory_ struct gmem mem;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (size_t i = 0; i < nitems(rows); i++) {
		_cleanup_bytes_ struct bytes file = bytes_new(3000);

		memcpy(file.data + rows[i].offset, rows[i].bytes, strlen(rows[i].bytes));
		assert_int_equal(load(&mem, &file), -ENOEXEC);
		expect_words(rows[i].words);
	}
}

static void random_bytes(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes file = bytes_new(100000);

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	srandom(1);
	for (unsigned round = 0; round < 50; round++) {
		for (size_t i = 0; i < file.len; i++)
			file.data[i] = (uint8_t)random();
		file.data[0] = 0x80; /* no magic by chance */
		assert_int_equal(load(&mem, &file), -ENOEXEC);
	}
}

static void no_regular_file(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_close_ int dir = open("/", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int empty = file_of("", 0);
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	assert_int_equal(boot_load(&mem, dir, -1, "", &entry, &last_error), -EISDIR);
	expect_words("kernel is a directory");
	assert_int_equal(boot_load(&mem, null, -1, "", &entry, &last_error), -ENOEXEC);
	expect_words("kernel is not a regular file");
	assert_int_equal(boot_load(&mem, empty, -1, "", &entry, &last_error), -ENOEXEC);
	expect_words("kernel is an empty file");
	assert_int_equal(boot_load(&mem, 12345, -1, "", &entry, &last_error), -EBADF);
	assert_int_equal(load_with(&mem, &elf, dir, "", &entry), -EISDIR);
	expect_words("initrd is a directory");
	assert_int_equal(load_with(&mem, &elf, empty, "", &entry), -ENOEXEC);
	expect_words("initrd is an empty file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(compressed_vmlinux),
	    cmocka_unit_test(compressed_bzimage),
	    cmocka_unit_test(truncated_anywhere),
	    cmocka_unit_test(sizes_around_the_limit),
	    cmocka_unit_test(bombs),
	    cmocka_unit_test(several_members),
	    cmocka_unit_test(plain_file),
	    cmocka_unit_test(strangers),
	    cmocka_unit_test(random_bytes),
	    cmocka_unit_test(no_regular_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
