// SPDX-License-Identifier: ISC
/*
 * fvimg: the image library at the command line, for tests that compare it with
 * qemu-img. Options are KEY=VALUE words after the operands.
 *
 *   fvimg create FORMAT FILE SIZE [cluster= refcount= version= backing= backing_format=
 *                data_file= data_file_raw=1 extended_l2=1 zstd=1 lazy=1 prealloc=]
 *   fvimg convert FORMAT SRC FORMAT DST [compress=1 zstd=1 cluster= threads= …]
 *   fvimg check FILE [fix=leaks|all]        exit 2: errors, 3: leaks
 *   fvimg snapshot create|delete|apply|list FILE [NAME]
 *   fvimg resize FORMAT FILE SIZE           fvimg commit FILE
 *   fvimg rebase FILE [backing= backing_format= unsafe=1]
 *   fvimg info FILE
 *   fvimg open FORMAT FILE                  opens it for reading, no more
 *   fvimg locked write|read FILE COMMAND…   runs it while holding the lock
 *   fvimg peak COMMAND…                     runs it, prints its largest resident set in KiB
 *   fvimg write FORMAT FILE SEED COUNT [shadow=RAW async=1 direct=1 flush=N max=N abort=1]
 *                random writes and zeroes, done alike to the raw file; with abort the
 *                image is not closed after the last flush
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/block_node.h"
#include "storage/image.h"
#include "util/cleanup.h"
#include "util/size.h"

static struct err err = ERR_INIT;
static char **options;

static const char *option(const char *key)
{
	size_t n = strlen(key);
	char **o;

	for (o = options; *o; o++)
		if (!strncmp(*o, key, n) && (*o)[n] == '=')
			return *o + n + 1;
	return NULL;
}

static void die(const char *what)
{
	fprintf(stderr, "fvimg: %s: %s\n", what, err.code ? err.text : "failed");
	exit(1);
}

static uint64_t number(const char *s)
{
	uint64_t v;

	if (size_parse(s, &v) < 0) {
		fprintf(stderr, "fvimg: bad number %s\n", s);
		exit(1);
	}
	return v;
}

static uint64_t option_number(const char *key)
{
	const char *s = option(key);

	return s ? number(s) : 0;
}

static enum image_format format_of(const char *name)
{
	enum image_format format;

	if (image_format_parse(name, &format, &err) < 0)
		die("format");
	return format;
}

static struct block *open_image(const char *format, const char *path, unsigned flags)
{
	struct block *block;

	if (image_open(&block, path, format_of(format), flags, &image_opener_plain, &err) < 0)
		die(path);
	return block;
}

static void create(const char *format, const char *path, uint64_t bytes)
{
	static const char *const modes[] = {"off", "metadata", "falloc", "full"};
	const char *mode = option("prealloc"), *backing_format = option("backing_format");
	struct image_create p = {
	    .format = format_of(format),
	    .bytes = bytes,
	    .version = option_number("version"),
	    .cluster_bytes = option_number("cluster"),
	    .refcount_bits = option_number("refcount"),
	    .extended_l2 = option_number("extended_l2"),
	    .zstd = option_number("zstd"),
	    .lazy_refcounts = option_number("lazy"),
	    .backing = option("backing"),
	    .data_file = option("data_file"),
	    .data_file_raw = option_number("data_file_raw"),
	    .data_fd = -1,
	};
	unsigned i;
	int fd;

	for (i = 0; mode && i < nitems(modes); i++)
		if (!strcmp(mode, modes[i]))
			p.prealloc = i;
	if (backing_format)
		p.backing_format = format_of(backing_format);
	if (p.data_file) {
		_cleanup_free_ char *data = NULL;

		if (image_resolve(path, p.data_file, &data, &err) < 0)
			die("data file");
		p.data_fd = open(data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	}
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || image_create(fd, &p, &err) < 0)
		die(path);
	if (p.data_fd >= 0)
		close(p.data_fd);
}

static int do_create(char **a)
{
	create(a[0], a[1], number(a[2]));
	return 0;
}

static int do_convert(char **a)
{
	struct image_copy p = {.compress = option_number("compress"),
			       .whole_chain = true,
			       .threads = option_number("threads")};
	struct block *from = open_image(a[0], a[1], IMAGE_READONLY), *to;
	struct block_info info;

	block_info_get(from, &info);
	create(a[2], a[3], (info.bytes + 511) / 512 * 512);
	to = open_image(a[2], a[3], IMAGE_NO_FLUSH);
	if (image_copy(to, from, &p, NULL, &err) < 0)
		die("convert");
	block_close(to);
	block_close(from);
	return 0;
}

static void say(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static int do_check(char **a)
{
	const char *fix = option("fix");
	struct qcow2_check_params p = {
	    .fix_leaks = fix != NULL, .fix_errors = fix && !strcmp(fix, "all"), .report = say};
	struct qcow2_check_result r;
	struct block *b =
	    open_image("qcow2", a[0], IMAGE_CHECK | IMAGE_NO_BACKING | (fix ? 0 : IMAGE_READONLY));

	if (qcow2_check(b, &p, &r, &err) < 0)
		die(a[0]);
	block_close(b);
	printf("corruptions %" PRIu64 " leaks %" PRIu64 " fixed %" PRIu64 " %" PRIu64
	       " allocated %" PRIu64 " compressed %" PRIu64 " end %" PRIu64 "\n",
	       r.corruptions, r.leaks, r.corruptions_fixed, r.leaks_fixed, r.allocated_clusters,
	       r.compressed_clusters, r.image_end);
	if (r.corruptions > r.corruptions_fixed)
		return 2;
	return r.leaks > r.leaks_fixed ? 3 : 0;
}

static int list_snapshots(struct block *b)
{
	struct qcow2_snapshot_info s;
	unsigned i;

	for (i = 0; !qcow2_snapshot_info(b, i, &s); i++)
		printf("%s %s %" PRIu64 "\n", s.id, s.name, s.bytes);
	return 0;
}

static int do_snapshot(char **a)
{
	bool list = !strcmp(a[0], "list");
	struct block *b = open_image("qcow2", a[1], IMAGE_NO_BACKING | (list ? IMAGE_READONLY : 0));
	int r = -EINVAL;

	if (list)
		r = list_snapshots(b);
	else if (!strcmp(a[0], "create"))
		r = qcow2_snapshot_create(b, a[2], &err);
	else if (!strcmp(a[0], "delete"))
		r = qcow2_snapshot_delete(b, a[2], &err);
	else if (!strcmp(a[0], "apply"))
		r = qcow2_snapshot_apply(b, a[2], &err);
	if (r < 0)
		die("snapshot");
	block_close(b);
	return 0;
}

static int do_export(char **a)
{
	struct image_copy p = {.whole_chain = true};
	struct block *from, *to;
	struct block_info info;

	if (image_open_snapshot(&from, a[0], a[1], &image_opener_plain, &err) < 0)
		die(a[0]);
	block_info_get(from, &info);
	create("raw", a[2], info.bytes);
	to = open_image("raw", a[2], 0);
	if (image_copy(to, from, &p, NULL, &err) < 0)
		die("export");
	block_close(to);
	block_close(from);
	return 0;
}

static int do_resize(char **a)
{
	struct block *b = open_image(a[0], a[1], 0);

	if (block_resize(b, number(a[2]), &err) < 0)
		die("resize");
	block_close(b);
	return 0;
}

static int do_commit(char **a)
{
	if (image_commit(a[0], &image_opener_plain, NULL, &err) < 0)
		die("commit");
	return 0;
}

static int do_rebase(char **a)
{
	const char *backing = option("backing"), *format = option("backing_format");

	if (image_rebase(a[0], backing, format ? format_of(format) : IMAGE_RAW,
			 option_number("unsafe"), &image_opener_plain, NULL, &err) < 0)
		die("rebase");
	return 0;
}

static int do_info(char **a)
{
	struct qcow2_header_info h;
	struct block *file;

	if (block_file_open(&file, open(a[0], O_RDONLY | O_CLOEXEC), BLOCK_OPEN_READONLY, &err) <
		0 ||
	    qcow2_header_info(file, &h, &err) < 0)
		die(a[0]);
	printf("bytes %" PRIu64 "\nversion %u\ncluster %u\nrefcount_bits %u\nbacking %s\n"
	       "backing_format %s\nsnapshots %u\nbitmaps %u\n",
	       h.bytes, h.version, h.cluster_bytes, h.refcount_bits, h.backing ? h.backing : "-",
	       h.backing_format ? h.backing_format : "-", h.n_snapshots, h.n_bitmaps);
	qcow2_header_info_free(&h);
	block_close(file);
	return 0;
}

static int do_open(char **a)
{
	block_close(open_image(a[0], a[1], IMAGE_READONLY));
	return 0;
}

static int do_locked(char **a)
{
	bool write = !strcmp(a[0], "write");
	int fd = open(a[1], write ? O_RDWR : O_RDONLY); /* inherited: the lock goes with it */

	if (fd < 0 || image_lock(fd, write, false, &err) < 0)
		die(a[1]);
	execvp(a[2], a + 2);
	die(a[2]);
	return 1;
}

static int do_peak(char **a)
{
	struct rusage usage;
	pid_t pid = vfork();
	int status;

	if (pid == 0) {
		execvp(a[0], a);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status ||
	    getrusage(RUSAGE_CHILDREN, &usage) < 0)
		die(a[0]);
	printf("%ld\n", usage.ru_maxrss);
	return 0;
}

/* --- random writing ----------------------------------------------------------------------- */

#define SLOTS	 8
#define SLOT_MAX (1u << 20)

struct slot {
	struct block_req req;
	struct iovec iov[2];
	uint8_t *buf;
	bool busy;
};

struct writer {
	struct block *block;
	struct block_queue *queue;
	int shadow;
	uint64_t bytes, random, max;
	struct slot slots[SLOTS];
};

static uint32_t rnd(struct writer *w)
{
	w->random = w->random * 6364136223846793005ull + 1442695040888963407ull;
	return w->random >> 33;
}

static void slot_done(struct block_req *req, int result)
{
	if (result < 0) {
		fprintf(stderr, "fvimg: request %d at %" PRIu64 " + %" PRIu64 ": %s\n", req->op,
			req->offset, req->bytes, err_name(result));
		exit(1);
	}
	((struct slot *)req)->busy = false;
}

/* Does to the shadow what the request does to the image. */
static void shadow(struct writer *w, const struct block_req *req)
{
	static const uint8_t zeroes[SLOT_MAX];

	if (w->shadow < 0 || req->op == BLOCK_FLUSH)
		return;
	if (pwrite(w->shadow, req->op == BLOCK_WRITE ? req->iov[0].iov_base : (const void *)zeroes,
		   req->bytes, req->offset) != (ssize_t)req->bytes)
		exit(1);
}

static bool conflicts(const struct writer *w, const struct block_req *req)
{
	unsigned i;

	for (i = 0; i < SLOTS; i++) {
		const struct block_req *o = &w->slots[i].req;

		if (w->slots[i].busy && o->op != BLOCK_FLUSH &&
		    req->offset < o->offset + o->bytes && o->offset < req->offset + req->bytes)
			return true;
	}
	return false;
}

static void wait_free(struct writer *w, const struct slot *slot)
{
	while (slot->busy || conflicts(w, &slot->req))
		block_queue_drain(w->queue);
}

static void one(struct writer *w, unsigned long i, unsigned long flush_every)
{
	static const enum block_op ops[] = {BLOCK_WRITE,       BLOCK_WRITE, BLOCK_WRITE,
					    BLOCK_WRITE,       BLOCK_WRITE, BLOCK_WRITE_ZEROES,
					    BLOCK_WRITE_ZEROES};
	struct slot *slot = &w->slots[i % SLOTS];
	struct block_req *req = &slot->req;
	uint64_t k;

	while (slot->busy)
		block_queue_drain(w->queue);
	memset(req, 0, sizeof(*req));
	req->op = ops[rnd(w) % nitems(ops)];
	if (flush_every && i % flush_every == 0)
		req->op = BLOCK_FLUSH;
	req->flags = req->op == BLOCK_WRITE_ZEROES ? rnd(w) & BLOCK_UNMAP : 0;
	if (req->op == BLOCK_WRITE && rnd(w) % 16 == 0)
		req->flags = BLOCK_FUA;
	req->bytes = req->op == BLOCK_FLUSH ? 0 : (1 + rnd(w) % (w->max / 512)) * 512;
	req->offset =
	    req->op == BLOCK_FLUSH ? 0 : rnd(w) % ((w->bytes - req->bytes) / 512 + 1) * 512;
	for (k = 0; req->op == BLOCK_WRITE && k < req->bytes; k++)
		slot->buf[k] = k % 512 ? slot->buf[k - 1] + 1u : rnd(w);
	slot->iov[0] = (struct iovec){slot->buf, req->bytes};
	req->iov = slot->iov;
	req->n_iov = 1;
	req->done = slot_done;
	wait_free(w, slot);
	shadow(w, req);
	slot->busy = true;
	block_submit(w->queue, w->block, req);
	block_queue_kick(w->queue);
	block_queue_run(w->queue);
}

static int do_write(char **a)
{
	bool async = option_number("async");
	unsigned long i, count = number(a[3]), flush_every = option_number("flush");
	struct writer w = {.random = number(a[2]) * 77777 + 1, .shadow = -1};
	struct block_info info;

	w.block = open_image(
	    a[0], a[1], (async ? IMAGE_ASYNC : 0) | (option_number("direct") ? IMAGE_DIRECT : 0));
	block_info_get(w.block, &info);
	w.bytes = info.bytes;
	w.max = option_number("max") ? option_number("max") : 256 << 10;
	if (w.max > w.bytes)
		w.max = w.bytes;
	if (option("shadow"))
		w.shadow = open(option("shadow"), O_RDWR | O_CLOEXEC);
	if ((async ? block_queue_new(&w.queue, 16, &err) : block_queue_new_sync(&w.queue, &err)) <
	    0)
		die("queue");
	for (i = 0; i < SLOTS; i++)
		w.slots[i].buf = malloc(SLOT_MAX);
	for (i = 0; i < count; i++)
		one(&w, i, flush_every);
	block_queue_drain(w.queue);
	if (block_flush(w.queue, w.block) < 0)
		die("flush");
	if (option_number("abort"))
		_exit(0);
	block_queue_free(w.queue);
	block_close(w.block);
	for (i = 0; i < SLOTS; i++)
		free(w.slots[i].buf);
	if (w.shadow >= 0)
		close(w.shadow);
	return 0;
}

static const struct command {
	const char *name;
	int operands;
	int (*run)(char **operands);
} commands[] = {
    {"create", 3, do_create},	  {"convert", 4, do_convert}, {"check", 1, do_check},
    {"snapshot", 2, do_snapshot}, {"export", 3, do_export},   {"resize", 3, do_resize},
    {"commit", 1, do_commit},	  {"rebase", 1, do_rebase},   {"info", 1, do_info},
    {"write", 4, do_write},	  {"locked", 3, do_locked},   {"open", 2, do_open},
    {"peak", 1, do_peak},
};

int main(int argc, char **argv)
{
	const struct command *c;

	for (c = commands; argc > 1 && c < commands + nitems(commands); c++) {
		if (strcmp(argv[1], c->name) || argc - 2 < c->operands)
			continue;
		options = argv + 2 + c->operands;
		return c->run(argv + 2);
	}
	fprintf(stderr, "usage: see the top of tests/tools/fvimg.c\n");
	return 64;
}
