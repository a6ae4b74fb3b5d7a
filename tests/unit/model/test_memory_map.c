// SPDX-License-Identifier: ISC
/* Maps of memory: as text, however hostile; their bytes from several files. */
#include "content.h"
#include "memory_map.h"
#include "model_test.h"

#define A "11111111-1111-4111-8111-111111111111"
#define B "22222222-2222-4222-8222-222222222222"

static const char good[] = "memory 1 raw 1048576\nfile " A "\nfile " B "\n"
			   "extent 0 4096 0 0\nextent 8192 8192 1 4096\nextent 16384 4096 0 8192\n";

static void a_map_is_text_and_back(void **state)
{
	struct memory_map *map = NULL;
	struct strbuf sb = STRBUF_INIT;

	(void)state;
	assert_int_equal(memory_map_parse(good, strlen(good), &map, NULL), 0);
	assert_int_equal(map->n_files, 2);
	assert_int_equal(map->n_extents, 3);
	assert_int_equal(map->extents[1].offset, 4096);
	memory_map_format(map, &sb);
	assert_string_equal(sb.data, good);
	strbuf_free(&sb);
	free(map);
}

static void damaged_maps_are_refused(void **state)
{
	static const char *const bad[] = {
	    "",
	    "memory 1 raw 4096",
	    "memory 2 raw 4096\n",
	    "memory 1 other 4096\n",
	    "memory 1 raw 0\n",
	    "memory 1 raw 4097\n",
	    "memory 1 raw -4096\n",
	    "memory 1 raw 18446744073709551615\n",
	    "memory 1 raw 4096 x\n",
	    "file " A "\n",
	    "memory 1 raw 4096\nmemory 1 raw 4096\n",
	    "memory 1 raw 4096\nfile ../../../../etc/shadow-aaaaaaaaaaaaaaa\n",
	    "memory 1 raw 4096\nfile " A " x\n",
	    "memory 1 raw 4096\nextent 0 4096 0 0\n",
	    "memory 1 raw 4096\nfile " A "\nextent 0 4096 1 0\n",
	    "memory 1 raw 4096\nfile " A "\nextent 0 8192 0 0\n",
	    "memory 1 raw 4096\nfile " A "\nextent 0 0 0 0\n",
	    "memory 1 raw 4096\nfile " A "\nextent 1 4096 0 0\n",
	    "memory 1 raw 4096\nfile " A "\nextent 0 4096 0 9223372036854771712\n",
	    "memory 1 raw 4096\nfile " A "\nextent 0 4096 0\n",
	    "memory 1 raw 8192\nfile " A "\nextent 4096 4096 0 0\nextent 0 4096 0 0\n",
	    "memory 1 raw 8192\nfile " A "\nextent 0 8192 0 0\nextent 4096 4096 0 0\n",
	    "memory 1 packed 4096\n",
	    "memory 1 packed 4096\nfile " A "\nfile " B "\n",
	    "memory 1 packed 4096\nfile " A "\nextent 0 4096 0 0\n",
	    "memory 1 raw 4096\n\n",
	    "memory 1 raw 4096\nnonsense 1\n",
	};
	struct memory_map *map = NULL;

	(void)state;
	for (size_t i = 0; i < nitems(bad); i++) {
		struct err err = ERR_INIT;

		if (memory_map_parse(bad[i], strlen(bad[i]), &map, &err) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_true(err.text[0]);
		assert_null(map);
	}
	for (size_t at = 0; at < strlen(good); at++) {
		char text[sizeof(good)];

		memcpy(text, good, sizeof(good));
		if (memory_map_parse(text, at, &map, NULL) == 0)
			free(take_ptr(map));
		text[at] ^= 1 + (char)(at % 127);
		if (memory_map_parse(text, strlen(good), &map, NULL) == 0)
			free(take_ptr(map));
	}
}

static void too_many_parts_are_refused(void **state)
{
	struct memory_map *map = NULL;
	struct strbuf sb = STRBUF_INIT;

	(void)state;
	strbuf_printf(&sb, "memory 1 raw %u\nfile " A "\n", 4 << 20);
	for (unsigned i = 0; i < VMM_EXTENTS_MAX; i++)
		strbuf_printf(&sb, "extent %u 4096 0 0\n", i * 8192);
	assert_int_equal(memory_map_parse(sb.data, sb.len, &map, NULL), -EINVAL); /* behind */
	strbuf_reset(&sb);
	strbuf_printf(&sb, "memory 1 raw %u\nfile " A "\n", 16 << 20);
	for (unsigned i = 0; i < VMM_EXTENTS_MAX; i++)
		strbuf_printf(&sb, "extent %u 4096 0 0\n", i * 8192);
	assert_int_equal(memory_map_parse(sb.data, sb.len, &map, NULL), 0);
	free(take_ptr(map));
	strbuf_printf(&sb, "extent %u 4096 0 0\n", VMM_EXTENTS_MAX * 8192);
	assert_int_equal(memory_map_parse(sb.data, sb.len, &map, NULL), -EINVAL);
	strbuf_reset(&sb);
	strbuf_puts(&sb, "memory 1 raw 4096\n");
	for (unsigned i = 0; i <= VMM_MEMORY_FILES_MAX; i++)
		strbuf_puts(&sb, "file " A "\n");
	assert_int_equal(memory_map_parse(sb.data, sb.len, &map, NULL), -EINVAL);
	strbuf_free(&sb);
}

static void page(int fd, off_t offset, int byte)
{
	char buf[4096];

	memset(buf, byte, sizeof(buf));
	assert_int_equal(file_pwrite_all(fd, buf, sizeof(buf), offset), 0);
}

/* Two files with a hole in the second. */
static void make_files(struct fixture *f, struct memory_map *map)
{
	int fd;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(layer_make(f->model, LAYER_MEMORY, map->files[i], &fd, NULL), 0);
		page(fd, 0, 'a' + (int)i);
		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		page(fd, 512 << 10, 'p' + (int)i);
		close(fd);
	}
	map->kind = VMM_MEMORY_RAW;
	map->bytes = 4 << 20;
	map->n_files = 2;
	map->extents[map->n_extents++] = (struct vmm_extent){.gpa = 4096, .bytes = 4096, .file = 0};
	map->extents[map->n_extents++] =
	    (struct vmm_extent){.gpa = 1 << 20, .bytes = 1 << 20, .file = 1};
	map->extents[map->n_extents++] =
	    (struct vmm_extent){.gpa = 2 << 20, .bytes = 4096, .offset = 512 << 10, .file = 0};
	assert_int_equal(memory_map_check(map, NULL), 0);
}

static int byte_at(struct content *content, uint64_t offset)
{
	char c;

	assert_int_equal(content_read(content, &c, 1, offset), 1);
	return c;
}

static void its_bytes_are_those_of_its_files(void **state)
{
	struct fixture *f = *state;
	struct memory_map map = {0};
	int fds[VMM_MEMORY_FILES_MAX];
	struct content *content;
	char buf[8192];

	make_files(f, &map);
	assert_int_equal(memory_map_open(f->model, &map, fds, NULL), 0);
	assert_int_equal(memory_map_content(&map, fds, &content, NULL), 0);
	assert_int_equal(content_size(content), 4 << 20);
	assert_int_equal(content_read(content, buf, sizeof(buf), 2048), (int)sizeof(buf));
	assert_int_equal(buf[2047], 0);
	assert_int_equal(buf[2048], 'a');
	assert_int_equal(buf[2048 + 4095], 'a');
	assert_int_equal(buf[2048 + 4096], 0);
	assert_int_equal(byte_at(content, 1 << 20), 'b');
	assert_int_equal(byte_at(content, (1 << 20) + 4096), 0);
	assert_int_equal(byte_at(content, (1 << 20) + (512 << 10)), 'q');
	assert_int_equal(byte_at(content, 2 << 20), 'p');
	assert_int_equal(byte_at(content, (4 << 20) - 1), 0);
	assert_int_equal(content_read(content, buf, 1, 4 << 20), 0);
	assert_int_equal(content_seek(content, 0, SEEK_DATA), 4096);
	assert_int_equal(content_seek(content, 4096, SEEK_HOLE), 8192);
	assert_int_equal(content_seek(content, 8192, SEEK_DATA), 1 << 20);
	assert_true(content_seek(content, 1 << 20, SEEK_HOLE) <= (1 << 20) + (512 << 10));
	assert_int_equal(content_seek(content, (2 << 20) + 4096, SEEK_DATA), -ENXIO);
	content_close(content);
	memory_map_put(f->model, &map);
	assert_int_equal(count_entries(f, "state/layers"), 0);
	assert_int_equal(memory_map_open(f->model, &map, fds, NULL), -ENOENT);
}

/* Who mapped it would be ended by a signal. */
static void files_that_were_cut_short_are_refused(void **state)
{
	struct fixture *f = *state;
	struct memory_map map = {0};
	int fds[VMM_MEMORY_FILES_MAX], fd;
	struct err err = ERR_INIT;

	make_files(f, &map);
	fd = layer_open(f->model, LAYER_MEMORY, map.files[1], true, NULL);
	assert_int_equal(ftruncate(fd, (1 << 20) - 1), 0);
	close(fd);
	assert_int_equal(memory_map_open(f->model, &map, fds, &err), -EIO);
	assert_non_null(strstr(err.text, "cut short"));
	memory_map_put(f->model, &map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_map_is_text_and_back),
	    cmocka_unit_test(damaged_maps_are_refused),
	    cmocka_unit_test(too_many_parts_are_refused),
	    model_test(its_bytes_are_those_of_its_files),
	    model_test(files_that_were_cut_short_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
