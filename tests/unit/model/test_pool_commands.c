// SPDX-License-Identifier: ISC
/* Commands of volumes: sizes, checks, conversions, layers, snapshots; ended early, all is whole. */
#include "job.h"
#include "pool_test.h"

/* The content that qemu-img sees is that of the raw file. */
static void same_content(struct fixture *f, const char *raw, const char *image, const char *format)
{
	sh("qemu-img compare -q -f raw -F %s %s %s", format, at(f, raw), at(f, image));
}

/* 4 MiB with something in them, in p/NAME. */
static void fill(struct fixture *f, const char *name)
{
	sh("truncate -s 4M %s && head -c 1000000 /dev/urandom | dd of=%s bs=4096 seek=100 "
	   "conv=notrunc status=none",
	   at(f, name), at(f, name));
}

static void sizes_change_both_ways_knowingly(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v;

	fill(f, "p/v");
	sh("qemu-img convert -f raw -O qcow2 %s %s", at(f, "p/v"), at(f, "p/q"));
	refresh(pool);
	for (int i = 0; i < 2; i++) {
		v = pool_volume_get(pool, i ? "q" : "v");
		run_on(v, "resize 8M");
		assert_key(v, "size", "8388608");
		set(v, "size", "12M");
		assert_key(v, "size", "12582912");
		key_refused(v, "size", "4M", -EINVAL, "shrink");
		refused(v, "resize 4M", -EINVAL, "resize 4194304 shrink");
		refused(v, "resize 4M now", -EINVAL, "'now'");
		refused(v, "resize 1000", -EINVAL, "512");
		refused(v, "resize", -EINVAL, "usage: resize SIZE [shrink]");
		run_on(v, "resize 2M shrink");
		assert_int_equal(volume_size(v), 2 << 20);
		volume_put(v);
	}
	sh("qemu-img check -q %s", at(f, "p/q"));
	same_content(f, "p/v", "p/q", "qcow2");
	pool_put(pool);
}

static void convert_keeps_the_content(void **state)
{
	static const char *const steps[][3] = {
	    {"convert qcow2", "qcow2", "cluster_size: 65536"},
	    {"convert qcow2 cluster_size=4096 compress", "qcow2", "cluster_size: 4096"},
	    {"convert qcow2 compression=zstd compress", "qcow2", "compression type: zstd"},
	    {"convert qcow2 cluster_size=64K extended_l2=true", "qcow2", "extended l2: true"},
	    {"convert qcow2 extended_l2=false version=2 compression=zlib", "qcow2", "compat: 0.10"},
	    {"convert raw", "raw", "file format: raw"},
	};
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v;

	fill(f, "p/v");
	sh("cp %s %s; chmod 640 %s", at(f, "p/v"), at(f, "copy"), at(f, "p/v"));
	refresh(pool);
	v = pool_volume_get(pool, "v");
	for (size_t i = 0; i < nitems(steps); i++) {
		run_on(v, steps[i][0]);
		assert_key(v, "format", steps[i][1]);
		sh("qemu-img info -f %s %s | grep -q '%s'", steps[i][1], at(f, "p/v"), steps[i][2]);
		if (strcmp(steps[i][1], "qcow2") == 0)
			sh("qemu-img check -q %s", at(f, "p/v"));
		same_content(f, "copy", "p/v", steps[i][1]);
	}
	sh("test $(stat -c %%a %s) = 640", at(f, "p/v"));
	refused(v, "convert vdi", -EINVAL, "none of");
	refused(v, "convert raw compress", -EINVAL, "only qcow2");
	refused(v, "convert qcow2 size=1G", -EINVAL, "no option");
	refused(v, "convert qcow2 cluster_size=1000", -EINVAL, "cluster_size: ");
	refresh(pool);
	assert_key(v, "format", "raw");
	assert_true(volume_alive(v));
	assert_int_equal(count_entries(f, "p"), 1);
	volume_put(v);
	pool_put(pool);
}

static void a_job_that_is_ended_leaves_the_old_content(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	uint64_t cursor = 0;
	struct strbuf sb = STRBUF_INIT;
	struct volume *v;
	struct job *job;

	sh("head -c 200000000 /dev/urandom > %s", at(f, "p/v"));
	sh("truncate -s 200000512 %s", at(f, "p/v"));
	refresh(pool);
	v = pool_volume_get(pool, "v");
	run_on(v, "convert qcow2 compress &");
	job = model_job_next(f->model, NULL, &cursor);
	assert_non_null(job);
	job_subject_show(job, &sb);
	assert_string_equal(sb.data, "pools/p/volumes/v");
	strbuf_free(&sb);
	await((job_progress_show(job, &sb), sb.len > 0));
	assert_non_null(strstr(sb.data, "unit=bytes"));
	strbuf_free(&sb);
	refused(v, "resize 1G", -EBUSY, "convert");
	assert_int_equal(model_job_remove(f->model, job, NULL), 0);
	await(job_state(job) != JOB_RUNNING);
	assert_int_equal(job_state(job), JOB_CANCELLED);
	job_put(job);
	refresh(pool);
	assert_key(v, "format", "raw");
	assert_int_equal(volume_size(v), 200000512);
	await(count_entries(f, "p") == 1);
	volume_put(v);
	pool_put(pool);
}

static void copy_fills_a_new_volume(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p"), *other = need_pool(f, "q");
	struct volume *v, *w = need_volume(other, "w");

	fill(f, "p/v");
	refresh(pool);
	v = pool_volume_get(pool, "v");
	set(w, "format", "qcow2");
	run_on(v, "copy q/w compress");
	assert_key(w, "format", "qcow2");
	assert_key(w, "size", "4194304");
	same_content(f, "p/v", "q/w", "qcow2");
	refused(v, "copy q/w", -EEXIST, "not new");
	refused(v, "copy p/v", -EINVAL, "itself");
	refused(v, "copy q/x", -ENOENT, "no volume x");
	volume_put(v);
	volume_put(w);
	pool_put(pool);
	pool_put(other);
}

static void layers_are_committed_and_rebased(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v, *base;

	fill(f, "p/base");
	refresh(pool);
	base = pool_volume_get(pool, "base");
	v = need_volume(pool, "v");
	set(v, "backing", "base");
	sh("qemu-io -f qcow2 -c 'write -P 7 1M 1M' %s > /dev/null", at(f, "p/v"));
	sh("qemu-img convert -f qcow2 -O raw %s %s", at(f, "p/v"), at(f, "want"));
	refresh(pool);
	refused(base, "commit", -EOPNOTSUPP, "raw");
	run_on(v, "commit");
	sh("cmp %s %s", at(f, "want"), at(f, "p/base"));
	run_on(v, "rebase none");
	assert_key(v, "backing", "");
	same_content(f, "want", "p/v", "qcow2");
	refused(v, "commit", -EINVAL, "over nothing");
	run_on(v, "rebase base");
	assert_key(v, "backing", "base");
	same_content(f, "want", "p/v", "qcow2");
	refused(v, "rebase v", -ELOOP, "itself");
	refused(v, "rebase nbd:x", -EINVAL, "");
	refused(v, "rebase base quickly", -EINVAL, "unsafe");
	run_on(v, "rebase none unsafe");
	assert_key(v, "backing", "");
	sh("qemu-img check -q %s", at(f, "p/v"));
	/* what is below keeps its format */
	run_on(v, "rebase base unsafe");
	refused(base, "convert qcow2", -EBUSY, "is over it");
	volume_put(v);
	volume_put(base);
	pool_put(pool);
}

static void checks_find_and_repairs_mend(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");

	refused(v, "check", -EOPNOTSUPP, "raw");
	set(v, "format", "qcow2");
	set(v, "size", "4M");
	run_on(v, "check");
	assert_true(shows(volume_info_show, v, "check_corruptions 0\ncheck_leaks 0\n"));
	/* a cluster that is counted and not used */
	sh("dd if=/dev/zero of=%s bs=65536 seek=20 count=1 conv=notrunc status=none; "
	   "printf '\\0\\1' | dd of=%s bs=1 seek=$((0x20000 + 2 * 20)) conv=notrunc status=none",
	   at(f, "p/v"), at(f, "p/v"));
	refused(v, "check", -EUCLEAN, "1 lost clusters");
	refused(v, "repair now", -EINVAL, "neither");
	run_on(v, "repair leaks");
	run_on(v, "check");
	/* a refcount that is missing */
	sh("printf '\\0\\0' | dd of=%s bs=1 seek=$((0x20000)) conv=notrunc status=none",
	   at(f, "p/v"));
	refused(v, "check", -EIO, "repair all");
	run_on(v, "repair");
	run_on(v, "check");
	sh("qemu-img check -q %s", at(f, "p/v"));
	volume_put(v);
	pool_put(pool);
}

static void snapshots_come_apply_and_go(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v;

	fill(f, "raw");
	mkdir(at(f, "p"), 0755);
	sh("qemu-img convert -O qcow2 -f raw %s %s", at(f, "raw"), at(f, "p/v"));
	refresh(pool);
	v = pool_volume_get(pool, "v");
	assert_true(shows(volume_snapshots_show, v, ""));
	run_on(v, "snapshot one");
	assert_true(shows(volume_snapshots_show, v, "one id=1 size=4194304 time="));
	refused(v, "snapshot one", -EEXIST, "");
	refused(v, "snapshot-apply two", -ENOENT, "");
	refused(v, "convert raw", -EBUSY, "snapshots");
	sh("qemu-io -f qcow2 -c 'write -P 9 0 4M' %s > /dev/null", at(f, "p/v"));
	run_on(v, "snapshot-apply one");
	same_content(f, "raw", "p/v", "qcow2");
	run_on(v, "snapshot-delete one");
	assert_true(shows(volume_snapshots_show, v, ""));
	sh("qemu-img check -q %s", at(f, "p/v"));
	volume_put(v);
	pool_put(pool);
}

static void another_program_keeps_us_out(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	struct err err = ERR_INIT;
	int fd;

	set(v, "format", "qcow2");
	set(v, "size", "1M");
	fd = open(at(f, "p/v"), O_RDWR);
	assert_int_equal(image_lock(fd, true, false, &err), 0);
	assert_int_equal(pool_volume_remove(pool, v, &root_caller, &err), -EBUSY);
	refused(v, "snapshot s", -EBUSY, "another program");
	refused(v, "check", -EBUSY, "another program");
	close(fd);
	run_on(v, "check");
	assert_int_equal(pool_volume_remove(pool, v, &root_caller, &err), 0);
	volume_put(v);
	pool_put(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(sizes_change_both_ways_knowingly),
	    model_test(convert_keeps_the_content),
	    model_test(a_job_that_is_ended_leaves_the_old_content),
	    model_test(copy_fills_a_new_volume),
	    model_test(layers_are_committed_and_rebased),
	    model_test(checks_find_and_repairs_mend),
	    model_test(snapshots_come_apply_and_go),
	    model_test(another_program_keeps_us_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
