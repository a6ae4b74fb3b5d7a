// SPDX-License-Identifier: ISC
/* bzImages: every compression is unpacked, every kind of damage is refused with words. */
#include "tests/unit/vmm/boot_fixture.h"

static struct bytes bzimage_of(enum codec codec)
{
	_cleanup_bytes_ struct bytes elf = elf_make();
	_cleanup_bytes_ struct bytes payload = pack_payload(codec, &elf);

	return bzimage_make(&payload);
}

static void every_compression(void **state)
{
	_cleanup_memory_ struct gmem mem;
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes image = bzimage_of(c);

		memset(gmem_ptr(&mem, ELF_PADDR, ELF_MEMSZ), 0xaa, ELF_MEMSZ);
		assert_int_equal(load_with(&mem, &image, -1, "", &entry), 0);
		assert_int_equal(entry.protocol, BOOT_LINUX64);
		assert_int_equal(entry.rip, ELF_ENTRY);
		pattern_check(&mem);
	}
}

/* The 64-bit entry is taken though there is a PVH note: a bzImage is Linux. */
static void pvh_note_inside(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	_cleanup_bytes_ struct bytes payload = {0}, image = {0};
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	elf_add_note(&elf, 1, "Xen", 18, ELF_PADDR, 4);
	payload = pack_payload(ZSTD, &elf);
	image = bzimage_make(&payload);
	assert_int_equal(load_with(&mem, &image, -1, "", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_LINUX64);
}

static void header_is_handed_on(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes image = bzimage_of(GZIP);
	const struct boot_params *params;
	const struct setup_header *h;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	bzimage_header(&image)->hardware_subarch_data = 0x1122334455667788;
	assert_int_equal(load(&mem, &image), 0);
	params = gmem_ptr(&mem, LAYOUT_BOOT_PARAMS, sizeof(*params));
	h = &params->hdr;
	assert_int_equal(h->header, 0x53726448);
	assert_int_equal(h->version, 0x20f);
	assert_int_equal(h->type_of_loader, 0xff);
	assert_int_equal(h->loadflags & (LOADED_HIGH | CAN_USE_HEAP), LOADED_HIGH);
	assert_int_equal(h->hardware_subarch_data, 0x1122334455667788);
	assert_int_equal(h->init_size, 0x100000);
	assert_int_equal(h->cmd_line_ptr, LAYOUT_CMDLINE);
	assert_int_equal(params->acpi_rsdp_addr, LAYOUT_ACPI);
}

static void cmdline_limit_of_header(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes image = bzimage_of(XZ);
	char cmdline[BZ_CMDLINE + 2];
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[BZ_CMDLINE] = '\0';
	assert_int_equal(load_with(&mem, &image, -1, cmdline, &entry), 0);
	assert_string_equal(gmem_ptr(&mem, LAYOUT_CMDLINE, sizeof(cmdline)), cmdline);
	cmdline[BZ_CMDLINE] = 'x';
	cmdline[BZ_CMDLINE + 1] = '\0';
	assert_int_equal(load_with(&mem, &image, -1, cmdline, &entry), -EINVAL);
	expect_words("the kernel takes 1000");
}

static void truncated_anywhere(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes image = bzimage_of(LZ4);
	struct bytes cut = image;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (cut.len = 1; cut.len < image.len;
	     cut.len += cut.len < BZ_CODE + BZ_PAYLOAD_AT ? 1 : 97)
		assert_int_equal(load(&mem, &cut), -ENOEXEC);
	cut.len = 0x240;
	assert_int_equal(load(&mem, &cut), -ENOEXEC);
	expect_words("truncated inside its header");
	cut.len = image.len - 1;
	assert_int_equal(load(&mem, &cut), -ENOEXEC);
	expect_words("truncated: its payload ends at");
}

static void truncated_payload(void **state)
{
	_cleanup_memory_ struct gmem mem;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes elf = elf_make();
		_cleanup_bytes_ struct bytes payload = pack_payload(c, &elf);
		size_t whole = payload.len;

		for (size_t cut = 1; cut < whole - 8; cut += cut < 64 ? 1 : 61) {
			struct bytes shorter = {payload.data, whole - cut}, image;
			uint8_t tail[4];

			memcpy(tail, shorter.data + shorter.len - 4, 4);
			put32(shorter.data + shorter.len - 4, (uint32_t)elf.len);
			image = bzimage_make(&shorter);
			assert_int_equal(load(&mem, &image), -ENOEXEC);
			memcpy(shorter.data + shorter.len - 4, tail, 4);
			bytes_free(&image);
		}
	}
}

static void wrong_length_behind(void **state)
{
	static const uint32_t lengths[] = {
	    0,	     1, ELF_SEGMENT, ELF_SEGMENT + ELF_FILESZ - 1, ELF_SEGMENT + ELF_FILESZ + 1,
	    15 * MIB};
	_cleanup_memory_ struct gmem mem;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes image = bzimage_of(c);

		for (size_t i = 0; i < nitems(lengths); i++) {
			put32(image.data + image.len - 4, lengths[i]);
			assert_int_equal(load(&mem, &image), -ENOEXEC);
			expect_words("damaged");
		}
		put32(image.data + image.len - 4, 0xfffffff0);
		assert_int_equal(load(&mem, &image), -EFBIG);
		expect_words("the guest has 16 MiB");
	}
}

/* The payload's every bit is covered by a checksum or a format that notices, or changes nothing. */
static void payload_bit_flips(void **state)
{
	_cleanup_memory_ struct gmem mem;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (enum codec c = 0; c < N_CODECS; c++) {
		_cleanup_bytes_ struct bytes image = bzimage_of(c);
		size_t first = BZ_CODE + BZ_PAYLOAD_AT;

		for (size_t at = first; at < image.len; at += at < first + 32 ? 1 : 31) {
			image.data[at] ^= 0x10;
			load(&mem, &image);
			image.data[at] ^= 0x10;
		}
		assert_int_equal(load(&mem, &image), 0);
	}
}

static void header_bit_flips(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes image = bzimage_of(ZSTD);
	int ret;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (size_t bit = 8 * 0x1f1; bit < 8 * (0x202 + 0x66); bit++) {
		image.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ret = load(&mem, &image);
		assert_true(ret == 0 || ret == -ENOEXEC || ret == -EFBIG);
		image.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(load(&mem, &image), 0);
}

static void other_compressions_by_name(void **state)
{
	static const struct {
		const char *magic;
		size_t len;
		const char *name;
	} rows[] = {
	    {"BZh91AY", 7, "bzip2"},
	    {"\x5d\0\0\0\x04", 5, "lzma"},
	    {"\x89LZO\0\r\n\x1a\n", 9, "lzo"},
	};
	_cleanup_memory_ struct gmem mem;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (size_t i = 0; i < nitems(rows); i++) {
		_cleanup_bytes_ struct bytes payload = bytes_new(1000), image = {0};

		memcpy(payload.data, rows[i].magic, rows[i].len);
		put32(payload.data + payload.len - 4, 100000);
		image = bzimage_make(&payload);
		assert_int_equal(load(&mem, &image), -ENOEXEC);
		expect_words(rows[i].name);
		expect_words("not supported");
	}
}

static void payload_of_nothing_known(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes junk = bytes_new(5000), packed = {0}, image = {0};

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	memset(junk.data, 0x77, junk.len);
	image = bzimage_make(&junk);
	assert_int_equal(load(&mem, &image), -ENOEXEC);
	expect_words("not known");
	bytes_free(&image);
	packed = pack_payload(ZSTD, &junk);
	image = bzimage_make(&packed);
	assert_int_equal(load(&mem, &image), -ENOEXEC);
	expect_words("no ELF");
}

static void old_protocols(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes image = bzimage_of(GZIP);

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	bzimage_header(&image)->version = 0x207;
	assert_int_equal(load(&mem, &image), -ENOEXEC);
	expect_words("boot protocol 2.07");
	bzimage_header(&image)->version =
	    0x208; /* too old for a 64-bit entry of its own: no matter */
	bzimage_header(&image)->xloadflags = 0;
	assert_int_equal(load(&mem, &image), 0);
	image.data[0x201] = 0x10;
	assert_int_equal(load(&mem, &image), -ENOEXEC);
	expect_words("too short");
}

static void without_payload(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes code = bytes_new(4096), image = {0};
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 32 * MIB, 4 * MIB);
	memset(code.data, 0x5c, code.len);
	image = bzimage_make(&code);
	bzimage_header(&image)->payload_length = 0;
	assert_int_equal(load_with(&mem, &image, -1, "", &entry), 0);
	assert_int_equal(entry.rip, 0x1000200);
	assert_memory_equal(gmem_ptr(&mem, 0x1000000, 4096), image.data + BZ_CODE, 4096);
	bzimage_header(&image)->init_size = 0x2000000;
	assert_int_equal(load(&mem, &image), -EFBIG);
	expect_words("needs memory up to 48 MiB");
	bzimage_header(&image)->init_size = 0;
	bzimage_header(&image)->pref_address =
	    LAYOUT_HIGH_RAM; /* RAM, but not mapped at the entry */
	assert_int_equal(load(&mem, &image), -ENOEXEC);
	expect_words("above 4 GiB");
	bzimage_header(&image)->xloadflags = 0;
	assert_int_equal(load(&mem, &image), -ENOEXEC);
	expect_words("without 64-bit entry");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_compression),
	    cmocka_unit_test(pvh_note_inside),
	    cmocka_unit_test(header_is_handed_on),
	    cmocka_unit_test(cmdline_limit_of_header),
	    cmocka_unit_test(truncated_anywhere),
	    cmocka_unit_test(truncated_payload),
	    cmocka_unit_test(wrong_length_behind),
	    cmocka_unit_test(payload_bit_flips),
	    cmocka_unit_test(header_bit_flips),
	    cmocka_unit_test(other_compressions_by_name),
	    cmocka_unit_test(payload_of_nothing_known),
	    cmocka_unit_test(old_protocols),
	    cmocka_unit_test(without_payload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
