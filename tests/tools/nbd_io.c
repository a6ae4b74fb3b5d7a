// SPDX-License-Identifier: ISC
/*
 * nbd_io: network disks at the command line, through the same calls as daemon and VMM.
 * PROGRAM is a filevisor-nbd; an EXPORT of - is the one that the URI names.
 *
 *   nbd_io check URI                               nbd_io list PROGRAM URI
 *   nbd_io info PROGRAM URI EXPORT [readonly]
 *   nbd_io load PROGRAM URI EXPORT SHADOW SEED COUNT [flush=N fua=N until=FILE idle=1]
 *        random writes, zeroes and reads, 32 at once, each noted in the file SHADOW once it is
 *        answered, and the reads compared with it; a line "done N" after every 256 of them.
 *        After COUNT, or with until= once that file is there, all is read and compared.
 *        A flush every N requests; every Nth write with FUA; idle=1: none at the end.
 *   nbd_io hold PROGRAM URI EXPORT                 attached until stdin ends
 *   nbd_io cancel PROGRAM URI EXPORT               asked to be cancelled after a moment
 *
 * A failure is a line "ENAME: words" on stderr and status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/block_nbd.h"
#include "storage/nbd.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/size.h"

#define DEPTH	32
#define BUF_MAX (256u << 10)

static struct err err = ERR_INIT;
static char **options;
static struct cancel cancel;

static void die(void)
{
	fprintf(stderr, "%s: %s\n", err_name(err.code), err.text);
	exit(1);
}

static void fail(const char *what, uint64_t where, int result)
{
	fprintf(stderr, "nbd_io: %s at %" PRIu64 ": %s\n", what, where, err_name(result));
	exit(1);
}

static const char *option(const char *key)
{
	size_t n = strlen(key);

	for (char **o = options; *o; o++)
		if (!strncmp(*o, key, n) && ((*o)[n] == '=' || !(*o)[n]))
			return (*o)[n] ? *o + n + 1 : "";
	return NULL;
}

static uint64_t option_number(const char *key)
{
	const char *s = option(key);
	uint64_t v = 0;

	if (s && size_parse(s, &v) < 0)
		exit(2);
	return v;
}

static struct rights my_rights(gid_t **groups)
{
	struct rights rights = {.uid = getuid(), .gid = getgid()};

	if (rights_groups(rights.uid, rights.gid, groups, &rights.n_groups) < 0)
		exit(1);
	rights.groups = *groups;
	return rights;
}

static struct block *attach(char **a, bool readonly, struct nbd_link *link)
{
	_cleanup_free_ gid_t *groups = NULL;
	struct rights rights = my_rights(&groups);
	const char *export = strcmp(a[2], "-") ? a[2] : NULL;
	struct block_nbd_params params;
	struct block *block;

	if (nbd_attach(a[0], a[1], export, &rights, readonly, &cancel, link, &err) < 0)
		die();
	params = (struct block_nbd_params){link->bytes, link->flags, readonly};
	if (block_nbd_open(&block, link->fd, &params, &err) < 0)
		die();
	return block;
}

/* --- the small ones ------------------------------------------------------------------------- */

static int do_check(char **a)
{
	if (nbd_uri_check(a[0], &err) < 0)
		die();
	return 0;
}

static int do_list(char **a)
{
	_cleanup_free_ struct nbd_export *exports = NULL;
	_cleanup_free_ gid_t *groups = NULL;
	struct rights rights = my_rights(&groups);
	size_t n;

	if (nbd_list(a[0], a[1], &rights, &cancel, &exports, &n, &err) < 0)
		die();
	for (size_t i = 0; i < n; i++)
		printf("%s %" PRIu64 " %s\n", exports[i].name, exports[i].bytes,
		       exports[i].readonly ? "ro" : "rw");
	return 0;
}

static int do_info(char **a)
{
	struct nbd_link link;
	struct block *block = attach(a, option("readonly"), &link);
	struct block_info info;

	block_info_get(block, &info);
	printf("%" PRIu64 " %s discard=%d write_zeroes=%d flags=%#x\n", info.bytes,
	       info.readonly ? "ro" : "rw", info.discard, info.write_zeroes, link.flags & 0xffff);
	block_close(block);
	return 0;
}

static int do_hold(char **a)
{
	struct nbd_link link;
	struct block *block = attach(a, false, &link);
	char c;

	printf("held\n");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	block_close(block);
	return 0;
}

static void *cancel_soon(void *arg)
{
	poll(NULL, 0, 300);
	cancel_request(arg);
	return NULL;
}

static int do_cancel(char **a)
{
	struct nbd_link link;
	pthread_t thread;

	pthread_create(&thread, NULL, cancel_soon, &cancel);
	pthread_detach(thread);
	block_close(attach(a, false, &link));
	return 0;
}

/* --- load ------------------------------------------------------------------------------------- */

struct io {
	struct block_req req;
	struct iovec iov[2];
	uint8_t *buf;
	bool busy;
};

static struct load {
	struct block *block;
	struct block_queue *queue;
	struct io ios[DEPTH];
	unsigned seed;
	int shadow;
	uint64_t bytes, n_done, n_started, busy;
	uint64_t count, flush_every, fua_every;
	const char *until;
} load;

static uint64_t rnd(uint64_t below)
{
	return (((uint64_t)rand_r(&load.seed) << 31) ^ (uint64_t)rand_r(&load.seed)) % below;
}

/* A read of what may be half a hole of the shadow. */
static void compare(const struct io *io)
{
	_cleanup_free_ uint8_t *want = malloc(io->req.bytes);

	if (file_pread_all(load.shadow, want, io->req.bytes, (off_t)io->req.offset) < 0)
		fail("reading the shadow", io->req.offset, -EIO);
	for (uint64_t i = 0; i < io->req.bytes; i++)
		if (want[i] != io->buf[i])
			fail("what was written is not there", io->req.offset + i, 0);
}

static void io_done(struct block_req *req, int result)
{
	struct io *io = (struct io *)req;

	if (result < 0)
		fail("request failed", req->offset, result);
	if (req->op == BLOCK_READ)
		compare(io);
	else if (req->op != BLOCK_FLUSH &&
		 file_pwrite_all(load.shadow, io->buf, req->bytes, (off_t)req->offset) < 0)
		fail("writing the shadow", req->offset, -EIO);
	io->busy = false;
	load.busy--;
	if (++load.n_done % 256 == 0) {
		printf("done %" PRIu64 "\n", load.n_done);
		fflush(stdout);
	}
}

static bool is_free(uint64_t offset, uint64_t bytes)
{
	for (struct io *io = load.ios; io < load.ios + DEPTH; io++)
		if (io->busy && offset < io->req.offset + io->req.bytes &&
		    io->req.offset < offset + bytes)
			return false;
	return true;
}

static void choose_op(struct io *io)
{
	struct block_req *req = &io->req;
	unsigned kind = (unsigned)rnd(10);

	req->op = kind < 2 ? BLOCK_READ : kind < 4 ? BLOCK_WRITE_ZEROES : BLOCK_WRITE;
	if (kind == 2)
		req->flags |= BLOCK_UNMAP;
	if (load.fua_every && load.n_started % load.fua_every == 0 && req->op != BLOCK_READ)
		req->flags |= BLOCK_FUA;
	if (req->op == BLOCK_WRITE_ZEROES)
		memset(io->buf, 0, req->bytes);
	else if (req->op == BLOCK_WRITE)
		for (uint64_t i = 0; i < req->bytes; i += 4)
			*(uint32_t *)(io->buf + i) = (uint32_t)rnd(UINT32_MAX);
}

static void submit(struct io *io)
{
	struct block_req *req = &io->req;

	load.n_started++;
	*req = (struct block_req){.done = io_done};
	if (load.flush_every && load.n_started % load.flush_every == 0) {
		req->op = BLOCK_FLUSH;
	} else {
		do {
			req->bytes = (1 + rnd(rnd(16) ? 16 : BUF_MAX / 512)) * 512;
			req->offset = rnd((load.bytes - req->bytes) / 512 + 1) * 512;
		} while (!is_free(req->offset, req->bytes));
		choose_op(io);
		io->iov[0] = (struct iovec){io->buf, req->bytes / 3};
		io->iov[1] = (struct iovec){io->buf + req->bytes / 3, req->bytes - req->bytes / 3};
		req->iov = io->iov;
		req->n_iov = 2;
	}
	io->busy = true;
	load.busy++;
	block_submit(load.queue, load.block, req);
}

static bool go_on(void)
{
	return load.until ? access(load.until, F_OK) < 0 : load.n_started < load.count;
}

static void run_load(void)
{
	struct pollfd p = {.fd = block_queue_fd(load.queue), .events = POLLIN};

	while (go_on() || load.busy) {
		for (struct io *io = load.ios; io < load.ios + DEPTH; io++)
			if (!io->busy && go_on())
				submit(io);
		block_queue_kick(load.queue);
		poll(&p, 1, 1000);
		block_queue_run(load.queue);
	}
}

static void read_back(void)
{
	struct io *io = &load.ios[0];

	for (uint64_t at = 0; at < load.bytes; at += io->req.bytes) {
		uint64_t n = load.bytes - at < BUF_MAX ? load.bytes - at : BUF_MAX;
		int r = block_pread(load.queue, load.block, io->buf, n, at);

		if (r < 0)
			fail("reading back", at, r);
		io->req = (struct block_req){.offset = at, .bytes = n};
		compare(io);
	}
}

static int do_load(char **a)
{
	struct nbd_link link;

	load.block = attach(a, false, &link);
	load.bytes = link.bytes;
	load.shadow = open(a[3], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	load.seed = (unsigned)strtoul(a[4], NULL, 10);
	load.count = strtoull(a[5], NULL, 10);
	load.flush_every = option_number("flush");
	load.fua_every = option_number("fua");
	load.until = option("until");
	if (load.shadow < 0 || ftruncate(load.shadow, (off_t)load.bytes) < 0)
		fail("shadow", 0, -errno);
	if (block_queue_new(&load.queue, DEPTH, &err) < 0)
		die();
	for (unsigned i = 0; i < DEPTH; i++)
		load.ios[i].buf = malloc(BUF_MAX);
	run_load();
	if (!option("idle") && block_flush(load.queue, load.block) < 0)
		fail("flush", 0, -EIO);
	read_back();
	printf("good %" PRIu64 "\n", load.n_done);
	for (unsigned i = 0; i < DEPTH; i++)
		free(load.ios[i].buf);
	block_queue_free(load.queue);
	block_close(load.block);
	close(load.shadow);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int n_args;
		int (*run)(char **args);
	} commands[] = {
	    {"check", 1, do_check}, {"list", 2, do_list}, {"info", 3, do_info},
	    {"hold", 3, do_hold},   {"load", 6, do_load}, {"cancel", 3, do_cancel},
	};

	cancel_init(&cancel);
	for (unsigned i = 0; argc > 1 && i < nitems(commands); i++) {
		if (strcmp(argv[1], commands[i].name) || argc < 2 + commands[i].n_args)
			continue;
		options = argv + 2 + commands[i].n_args;
		return commands[i].run(argv + 2);
	}
	fprintf(stderr, "usage: see the head of tests/tools/nbd_io.c\n");
	return 2;
}
