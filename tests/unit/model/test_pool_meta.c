// SPDX-License-Identifier: ISC
/* Lines of what is known of a volume: written, read, the same; damaged ones are refused. */
#include "model_test.h"
#include "pool_int.h"

static void what_is_written_is_read(void **state)
{
	struct volume_meta meta, back;
	struct strbuf sb = STRBUF_INIT, again = STRBUF_INIT;

	(void)state;
	assert_int_equal(meta_init(&meta, "web+1=a@b,c"), 0);
	meta.id = UINT64_MAX;
	meta.born_ns = 1234567890123456789;
	meta.fresh = meta.unmade = meta.decided = meta.own_access = true;
	meta.format = meta.next_format = IMAGE_QCOW2;
	meta.next_id = 7;
	meta.access = (struct machine_access){1000, 1001, 02755};
	meta.named_uid = 4294967294;
	meta.wanted.size = INT64_MAX & ~511ull;
	meta.wanted.cluster_size = 512;
	meta.wanted.version = 2;
	meta.wanted.refcount_bits = 64;
	meta.wanted.prealloc = IMAGE_PREALLOC_FULL;
	free(meta.wanted.backing);
	meta.wanted.backing = strdup("/srv/with blanks backing=/and more");
	meta_format(&meta, &sb);
	assert_int_equal(sb.data[sb.len - 1], '\n');
	sb.data[--sb.len] = '\0';
	assert_int_equal(meta_parse(sb.data, &back), 0);
	assert_string_equal(back.wanted.backing, meta.wanted.backing);
	meta_format(&back, &again);
	strbuf_reset(&sb);
	meta_format(&meta, &sb);
	assert_string_equal(sb.data, again.data);
	meta_free(&meta);
	meta_free(&back);
	strbuf_free(&sb);
	strbuf_free(&again);
}

static void damage_is_refused(void **state)
{
	static const char *const lines[] = {"",
					    "v",
					    "v format=1",
					    " backing=",
					    "../v backing=",
					    "v format=2 backing=",
					    "v format=-1 backing=",
					    "v new=2 backing=",
					    "v new backing=",
					    "v colour=3 backing=",
					    "v mode=99999 backing=",
					    "v uid=4294967295 backing=",
					    "v size=x backing=",
					    "v id=99999999999999999999 backing="};

	(void)state;
	for (size_t i = 0; i < nitems(lines); i++) {
		struct volume_meta meta;
		char *copy = strdup(lines[i]);

		if (meta_parse(copy, &meta) != -EINVAL)
			fail_msg("'%s' is taken", lines[i]);
		meta_free(&meta);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_written_is_read),
	    cmocka_unit_test(damage_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
