// SPDX-License-Identifier: ISC
/* Volumes: keys in any order while they are new, who has them, what is below them. */
#include <limits.h>
#include "pool_test.h"
#include "util/rights.h"

static void a_new_one_takes_its_keys_in_any_order(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v"), *w = need_volume(pool, "w");

	assert_true(exists(f, "p/v"));
	assert_key(v, "size", "0");
	assert_key(v, "format", "raw");
	set(v, "size", "10M");
	set(v, "format", "qcow2");
	set(v, "cluster_size", "4096");
	assert_key(v, "size", "10485760");
	set(v, "size", "5M"); /* nothing can be lost yet */
	sh("qemu-img check -q %s && qemu-img info %s | grep -q 'cluster_size: 4096'", at(f, "p/v"),
	   at(f, "p/v"));
	set(w, "cluster_size", "512");
	set(w, "format", "qcow2");
	set(w, "lazy_refcounts", "true");
	set(w, "prealloc", "metadata");
	set(w, "size", "1M");
	sh("qemu-img check -q %s && qemu-img info %s | grep -q 'lazy refcounts: true'",
	   at(f, "p/w"), at(f, "p/w"));
	set(w, "format", "raw");
	set(w, "prealloc", "full");
	assert_true(volume_allocation(w) >= 1 << 20);
	assert_int_equal(volume_size(w), 1 << 20);
	refresh(pool);
	assert_key(w, "size", "1048576");
	assert_key(w, "format", "raw");
	assert_int_equal(count_entries(f, "p"), 2); /* nothing half-made is left */
	volume_put(v);
	volume_put(w);
	pool_put(pool);
}

static void bad_values_change_nothing(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");

	set(v, "size", "1M");
	key_refused(v, "size", "1000", -EINVAL, "multiple of 512");
	key_refused(v, "size", "-1", -EINVAL, "not a size");
	key_refused(v, "size", "999E", -ERANGE, "too large");
	key_refused(v, "format", "vmdk", -EINVAL, "none of: raw, qcow2");
	key_refused(v, "cluster_size", "1536", -EINVAL, "power of two");
	key_refused(v, "cluster_size", "4M", -ERANGE, "not within");
	key_refused(v, "refcount_bits", "3", -EINVAL, "power of two");
	key_refused(v, "version", "4", -ERANGE, "not within");
	key_refused(v, "backing", "nothing", -ENOENT, "no volume nothing");
	key_refused(v, "backing", "v", -ELOOP, "itself");
	key_refused(v, "backing", "nopool/x", -ENOENT, "no pool nopool");
	key_refused(v, "backing", "nbd:localhost:1", -EINVAL, "POOL/VOLUME");
	key_refused(v, "backing", "json:{}", -EINVAL, "POOL/VOLUME");
	assert_true(shows(volume_error_show, v, "EINVAL backing: "));
	assert_key(v, "size", "1048576");
	assert_key(v, "format", "raw");
	assert_key(v, "backing", "");
	assert_int_equal(count_entries(f, "p"), 1);
	volume_put(v);
	pool_put(pool);
}

static void names_that_are_none_are_refused(void **state)
{
	static const char *const bad[] = {"", ".", "..", ".x", "a/b", "a b", "a\nb", "-x", "a:b"};
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct err err = ERR_INIT;
	char longest[VOLUME_NAME_MAX + 2];
	struct volume *v;

	for (size_t i = 0; i < nitems(bad); i++)
		assert_int_equal(pool_volume_make(pool, bad[i], 0755, &root_caller, NULL, &err),
				 -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[VOLUME_NAME_MAX + 1] = '\0';
	assert_int_equal(pool_volume_make(pool, longest, 0755, &root_caller, NULL, &err), -EINVAL);
	longest[VOLUME_NAME_MAX] = '\0';
	v = need_volume(pool, longest);
	assert_int_equal(pool_volume_make(pool, longest, 0755, &root_caller, NULL, &err), -EEXIST);
	assert_int_equal(pool_volume_remove(pool, v, &root_caller, &err), 0);
	assert_false(volume_alive(v));
	assert_int_equal(count_entries(f, "p"), 0);
	volume_put(v);
	pool_put(pool);
}

static void an_overlay_takes_the_size_of_what_is_below(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p"), *other = need_pool(f, "q");
	struct volume *base = need_volume(pool, "base"), *v = need_volume(pool, "v"),
		      *far = need_volume(other, "far");
	struct volume_chain chain;
	struct err err = ERR_INIT;

	set(base, "size", "3M");
	set(v, "backing", "base");
	assert_key(v, "format", "qcow2");
	assert_key(v, "size", "3145728");
	assert_key(v, "backing", "base");
	set(v, "size", "8M");
	key_refused(v, "format", "raw", -EINVAL, "over nothing");
	set(far, "backing", "p/base");
	assert_key(far, "backing", "p/base");
	sh("qemu-img info --backing-chain %s | grep -q 'image: %s'", at(f, "q/far"),
	   at(f, "p/base"));
	assert_int_equal(volume_chain_open(far, true, false, NULL, &chain, &err), 0);
	assert_int_equal(chain.images.n, 2);
	assert_int_equal(chain.images.layers[0].format, IMAGE_QCOW2);
	assert_int_equal(chain.images.layers[1].format, IMAGE_RAW);
	volume_chain_close(&chain);
	/* what is below is kept */
	assert_int_equal(pool_volume_remove(pool, base, &root_caller, &err), -EBUSY);
	assert_non_null(strstr(err.text, "is over it"));
	set(v, "backing", "none");
	assert_key(v, "backing", "");
	assert_int_equal(pool_volume_remove(pool, base, &root_caller, &err), -EBUSY);
	assert_non_null(strstr(err.text, "q/far"));
	assert_int_equal(pool_volume_remove(other, far, &root_caller, &err), 0);
	assert_int_equal(pool_volume_remove(pool, base, &root_caller, &err), 0);
	volume_put(base);
	volume_put(v);
	volume_put(far);
	pool_put(pool);
	pool_put(other);
}

static void a_found_image_is_over_its_own_pool_or_what_is_named(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume_chain chain;
	struct err err = ERR_INIT;
	struct volume *v;

	write_file(f, "secret", "what the pool's owner may read and the image's maker may not");
	sh("truncate -s 1M %s; cd %s && qemu-img create -q -f qcow2 -b %s -F raw bad && "
	   "qemu-img create -q -f qcow2 b 1M && qemu-img create -q -f qcow2 -b b -F qcow2 good",
	   at(f, "secret"), at(f, "p"), at(f, "secret"));
	refresh(pool);
	v = pool_volume_get(pool, "good");
	assert_key(v, "backing", "b");
	assert_int_equal(volume_chain_open(v, true, false, NULL, &chain, &err), 0);
	assert_int_equal(chain.images.n, 2);
	volume_chain_close(&chain);
	volume_put(v);
	v = pool_volume_get(pool, "bad");
	assert_key(v, "backing", at(f, "secret"));
	assert_int_equal(volume_chain_open(v, true, false, NULL, &chain, &err), -EACCES);
	assert_non_null(strstr(err.text, "> backing"));
	key_refused(v, "backing", "b", -EBUSY, "rebase it");
	key_refused(v, "format", "raw", -EBUSY, "convert");
	set(v, "backing", at(f, "secret"));
	assert_int_equal(volume_chain_open(v, true, false, NULL, &chain, &err), 0);
	assert_int_equal(chain.images.n, 2);
	volume_chain_close(&chain);
	volume_put(v);
	pool_put(pool);
}

static void names_of_other_kinds_are_never_followed(void **state)
{
	static const char *const bad[] = {"nbd:localhost:10809", "json:{\"driver\":\"raw\"}",
					  "../secret", "/dev/null", "link"};
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume_chain chain;

	write_file(f, "secret", "no");
	sh("ln -s %s %s", at(f, "secret"), at(f, "p/link"));
	for (size_t i = 0; i < nitems(bad); i++) {
		char name[16];
		struct volume *v;
		int r;

		snprintf(name, sizeof(name), "v%zu", i);
		sh("qemu-img create -q -u -f qcow2 -F raw -b '%s' %s/%s 1M", bad[i], at(f, "p"),
		   name);
		refresh(pool);
		v = pool_volume_get(pool, name);
		assert_non_null(v);
		r = volume_chain_open(v, false, false, NULL, &chain, NULL);
		if (r != -EACCES && r != -ENOTSUP)
			fail_msg("%s gives %d", bad[i], r);
		volume_put(v);
	}
	pool_put(pool);
}

static void a_format_is_found_once(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v;

	write_file(f, "p/raw", "a raw disk of which a guest made an image");
	sh("truncate -s 1M %s", at(f, "p/raw"));
	await(has_volume(pool, "raw"));
	refresh(pool);
	v = pool_volume_get(pool, "raw");
	assert_key(v, "format", "raw");
	sh("qemu-img create -q -f qcow2 -b /etc/passwd -F raw %s 1M; "
	   "dd if=%s of=%s conv=notrunc status=none",
	   at(f, "evil"), at(f, "evil"), at(f, "p/raw"));
	refresh(pool);
	assert_key(v, "format", "raw");
	assert_key(v, "backing", "");
	volume_put(v);
	pool_put(pool);
	reopen_model(f);
	pool = model_pool_get(f->model, "p");
	await(has_volume(pool, "raw"));
	v = pool_volume_get(pool, "raw");
	assert_key(v, "format", "raw");
	/* gone for a while, and back: still */
	volume_put(v);
	sh("mv %s %s", at(f, "p/raw"), at(f, "away"));
	await(!has_volume(pool, "raw"));
	sh("mv %s %s", at(f, "away"), at(f, "p/raw"));
	await(has_volume(pool, "raw"));
	v = pool_volume_get(pool, "raw");
	assert_key(v, "format", "raw");
	volume_put(v);
	/* another file of that name is another volume */
	sh("mv %s %s", at(f, "evil"), at(f, "p/raw"));
	refresh(pool);
	v = pool_volume_get(pool, "raw");
	assert_key(v, "format", "qcow2");
	volume_put(v);
	pool_put(pool);
}

/* A daemon that ended when a converted file had taken its place, and that was not noted yet. */
static void what_was_announced_is_known(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v;
	struct statx x;

	sh("qemu-img create -q -f qcow2 %s 1M", at(f, "p/v"));
	await(has_volume(pool, "v"));
	refresh(pool);
	pool_put(pool);
	close_model(f);
	/* the content of a raw disk on which a guest made an image */
	sh("qemu-img create -q -f qcow2 %s 2M", at(f, "raw"));
	assert_int_equal(statx(AT_FDCWD, at(f, "raw"), 0, STATX_INO | STATX_BTIME, &x), 0);
	sh("sed -i 's/^v /v next_id=%llu next_born=%llu /' %s", (unsigned long long)x.stx_ino,
	   x.stx_mask & STATX_BTIME
	       ? (unsigned long long)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec
	       : 0ull,
	   at(f, "state/pools/p/volumes"));
	sh("mv %s %s", at(f, "raw"), at(f, "p/v"));
	open_model(f);
	pool = model_pool_get(f->model, "p");
	await(has_volume(pool, "v"));
	v = pool_volume_get(pool, "v");
	assert_key(v, "format", "raw");
	volume_put(v);
	pool_put(pool);
}

static void a_broken_image_is_shown_with_its_words(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume_chain chain;
	struct volume *v;
	struct err err = ERR_INIT;

	sh("printf 'QFI\\373\\0\\0\\0\\003garbage' > %s", at(f, "p/broken"));
	await(has_volume(pool, "broken"));
	refresh(pool);
	v = pool_volume_get(pool, "broken");
	assert_key(v, "format", "qcow2");
	assert_key(v, "size", "0");
	assert_true(shows(volume_error_show, v, "EINVAL image: "));
	assert_int_equal(pool_state(pool), POOL_ACTIVE);
	assert_true(volume_chain_open(v, true, false, NULL, &chain, &err) < 0);
	refused(v, "check", -EINVAL, "");
	assert_int_equal(pool_volume_remove(pool, v, &root_caller, &err), 0);
	volume_put(v);
	pool_put(pool);
}

static void who_has_it_keeps_it(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v"), *found = NULL;
	struct machine *m = need_machine(f, "m"), *n = need_machine(f, "n");
	struct err err = ERR_INIT;

	set(v, "size", "1M");
	assert_int_equal(model_volume_find(f->model, "p/v", &found, &err), 0);
	assert_ptr_equal(found, v);
	assert_int_equal(volume_use_begin(v, m, "root", true, false, &err), 0);
	assert_true(shows(volume_users_show, v, "m disks/root\n"));
	assert_true(shows(volume_info_show, v, "new false\n"));
	assert_int_equal(volume_use_begin(v, n, "root", true, false, &err), -EBUSY);
	assert_non_null(strstr(err.text, "machine m has it (disk root)"));
	assert_int_equal(volume_use_begin(v, n, "root", false, false, &err), -EBUSY);
	assert_int_equal(pool_volume_remove(pool, v, &root_caller, &err), -EBUSY);
	assert_non_null(strstr(err.text, "machine m"));
	assert_int_equal(model_pool_undefine(f->model, pool, &err), -EBUSY);
	assert_int_equal(model_pool_rename(f->model, pool, "q", &err), -EBUSY);
	refused(v, "convert qcow2", -EBUSY, "machine m");
	key_refused(v, "format", "qcow2", -EBUSY, "convert");
	volume_use_end(f->model, m, "root");
	assert_true(shows(volume_users_show, v, ""));
	/* readers go together, and knowing writers */
	assert_int_equal(volume_use_begin(v, m, "a", false, false, &err), 0);
	assert_int_equal(volume_use_begin(v, n, "a", false, false, &err), 0);
	assert_int_equal(volume_use_begin(v, n, "b", true, true, &err), -EBUSY);
	volume_use_end(f->model, m, "a");
	volume_use_end(f->model, n, "a");
	assert_int_equal(volume_use_begin(v, m, "a", true, true, &err), 0);
	assert_int_equal(volume_use_begin(v, n, "b", true, true, &err), 0);
	volume_use_end(f->model, m, "a");
	volume_use_end(f->model, n, "b");
	volume_use_recover(f->model, "p/v", m, "root", true, false);
	assert_int_equal(volume_use_begin(v, n, "b", true, false, &err), -EBUSY);
	volume_use_end(f->model, m, "root");
	assert_int_equal(pool_volume_remove(pool, v, &root_caller, &err), 0);
	machine_put(m);
	machine_put(n);
	volume_put(v);
	volume_put(found);
	pool_put(pool);
}

static void modes_say_who_may_use_it(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	struct rights root = {0}, owner = {1000, 1000, NULL, 0}, member = {1001, 1000, NULL, 0},
		      other = {1002, 1002, NULL, 0};
	struct machine_access access = {1000, 1000, 0750};

	if (geteuid() != 0)
		skip();
	assert_int_equal(volume_access_set(v, &access, NULL), 0);
	assert_int_equal(volume_may_use(v, &root, true, NULL), 0);
	assert_int_equal(volume_may_use(v, &owner, true, NULL), 0);
	assert_int_equal(volume_may_use(v, &member, false, NULL), -EACCES);
	assert_int_equal(pool_file_mode_set(pool, "volumes/v/image", 0640, NULL), 0);
	assert_int_equal(volume_may_use(v, &member, false, NULL), 0);
	assert_int_equal(volume_may_use(v, &member, true, NULL), -EACCES);
	assert_int_equal(volume_may_use(v, &other, false, NULL), -EACCES);
	assert_int_equal(pool_file_mode_set(pool, "volumes/v/image", 0666, NULL), 0);
	assert_int_equal(volume_may_use(v, &other, false, NULL), -EACCES);
	access.mode = 0755;
	assert_int_equal(volume_access_set(v, &access, NULL), 0);
	assert_int_equal(volume_may_use(v, &other, true, NULL), 0);
	volume_put(v);
	pool_put(pool);
}

static void the_pools_owner_is_who_opens(void **state)
{
	struct fixture *f = *state;
	struct machine_access access = {1000, 1000, 0755};
	struct pool *pool;
	struct volume *v;
	struct err err = ERR_INIT;

	if (geteuid() != 0)
		skip();
	chmod(f->root, 0755);
	pool = need_pool(f, "p");
	assert_int_equal(chmod(at(f, "p"), 0700), 0);
	assert_int_equal(pool_access_set(pool, &access, NULL), 0);
	await(pool_state(pool) == POOL_FAILED);
	assert_true(pool_says(pool, "EACCES "));
	assert_int_equal(chown(at(f, "p"), 1000, 1000), 0);
	await(pool_state(pool) == POOL_ACTIVE);
	v = need_volume(pool, "v");
	sh("test $(stat -c %%u:%%a %s) = 1000:600", at(f, "p/v"));
	volume_put(v);
	/* others may not make him open what they name */
	{
		struct caller somebody = {.uid = 1001, .gid = 1001, .pid = 1};

		assert_int_equal(
		    pool_key_store(pool, pool_key_of("source"), f->root, &somebody, &err), -EPERM);
	}
	pool_put(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(a_new_one_takes_its_keys_in_any_order),
	    model_test(bad_values_change_nothing),
	    model_test(names_that_are_none_are_refused),
	    model_test(an_overlay_takes_the_size_of_what_is_below),
	    model_test(a_found_image_is_over_its_own_pool_or_what_is_named),
	    model_test(names_of_other_kinds_are_never_followed),
	    model_test(a_format_is_found_once),
	    model_test(what_was_announced_is_known),
	    model_test(a_broken_image_is_shown_with_its_words),
	    model_test(who_has_it_keeps_it),
	    model_test(modes_say_who_may_use_it),
	    model_test(the_pools_owner_is_who_opens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
