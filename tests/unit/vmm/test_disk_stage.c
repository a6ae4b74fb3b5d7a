// SPDX-License-Identifier: ISC
/*
 * A disk that goes over to a new layer while its guest writes, from several lanes: nothing is lost
 * before, across and after; readers of its past, limits, requests that failed, resets and other
 * contents live with it.
 */
#include "blk_world.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "storage/block_filter.h"
#include "storage/block_node.h"
#include "storage/image_stack.h"
#include "vmm/disk_snapshot.h"
#include "vmm/virtio_blk.h"

#define QUEUES	  8  /* of two lanes */
#define PER_QUEUE 16 /* twice that fits into a ring */

static uint8_t model[SECTORS]; /* what each byte of a sector is */

static struct disk *disk_of(struct world *w)
{
	return w->f->config.disks[0];
}

static int setup_lanes(void **state)
{
	*state = world(false, QUEUES, SECTORS * 512);
	for (unsigned i = 0; i < SECTORS; i++)
		model[i] = (uint8_t)i;
	return 0;
}

static int new_image(uint64_t bytes)
{
	char path[] = "/tmp/fv-test-stage-XXXXXX";
	const struct image_create params = {
	    .format = IMAGE_QCOW2, .bytes = bytes, .cluster_bytes = 4096, .backing = "below"};
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(image_create(fcntl(fd, F_DUPFD_CLOEXEC, 3), &params, NULL), 0);
	return fd;
}

/* As the daemon's request, without its thread. */
static void stage(struct world *w, int fd)
{
	struct disk_graph *graph = disk_of(w)->graph;
	struct err err = ERR_INIT;

	disk_unstage(disk_of(w));
	if (image_stack_stage(graph->stack, fcntl(fd, F_DUPFD_CLOEXEC, 3), &graph->staged, &err))
		fail_msg("%s", err.text);
	assert_true(disk_staged(disk_of(w)));
}

static void instant(struct world *w)
{
	w->dev->ops->pause(w->dev);
	disk_switch(disk_of(w));
	assert_false(disk_staged(disk_of(w)));
	w->dev->ops->resume(w->dev);
}

static void go_over(struct world *w, int fd)
{
	stage(w, fd);
	instant(w);
}

static void freeze(struct world *w)
{
	assert_int_equal(image_stack_freeze(disk_of(w)->graph->stack, NULL), 0);
}

/* The top stays, @fds are below it. */
static void rebase(struct world *w, const int *fds, unsigned n)
{
	struct disk_graph *graph = disk_of(w)->graph;
	struct image_chain *chain = calloc(1, sizeof(*chain));
	struct err err = ERR_INIT;
	struct block *old;

	for (unsigned i = 0; i < n; i++)
		chain->layers[chain->n++] =
		    (struct image_layer){.format = i + 1 < n ? IMAGE_QCOW2 : IMAGE_RAW,
					 .fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3),
					 .data_fd = -1};
	if (image_stack_rebase(graph->stack, 1, chain, NULL, &old, &err))
		fail_msg("%s", err.text);
	free(chain);
	disk_snapshots_pass(graph);
	block_close(old);
}

/* @upper goes down into what is below it, as far as @raw. */
static void merge(int upper, int lower, enum image_format format)
{
	struct image_chain *chain = calloc(1, sizeof(*chain));
	struct err err = ERR_INIT;

	chain->layers[chain->n++] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = fcntl(upper, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	chain->layers[chain->n++] = (struct image_layer){
	    .format = format, .fd = fcntl(lower, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	if (image_commit_fds(chain, NULL, NULL, NULL, NULL, &err))
		fail_msg("%s", err.text);
	free(chain);
}

/* --- traffic -------------------------------------------------------------------------------- */

/*
 * A load of writes on every queue, each of some sectors of its own, kicked and not waited for. One
 * of an even round and one of an odd round may be under way together.
 */
struct burst {
	struct request requests[QUEUES][PER_QUEUE];
};

static void send_burst(struct world *w, struct burst *b, unsigned round)
{
	for (unsigned q = 0; q < QUEUES; q++) {
		for (unsigned i = 0; i < PER_QUEUE; i++) {
			unsigned sectors = 1 + i % 3, sector = (q * PER_QUEUE + i) * 9;
			uint64_t data =
			    DATA + (round % 2 * QUEUES * PER_QUEUE + q * PER_QUEUE + i) * 2048ull;
			uint8_t value = (uint8_t)(round * 31 + q * 7 + i);

			sector += round % 2 * 4;
			memset(fake_ram(w->f, data), value, sectors * 512);
			memset(model + sector, value, sectors);
			b->requests[q][i] =
			    offer(w, q, VIRTIO_BLK_T_OUT, sector, data, sectors * 512, false);
		}
		driver_kick(&w->d, q);
	}
}

static void await_burst(struct world *w, struct burst *b)
{
	struct driver_used used;

	for (unsigned q = 0; q < QUEUES; q++) {
		for (unsigned i = 0; i < PER_QUEUE; i++)
			assert_true(driver_wait(&w->d, q, &used));
		for (unsigned i = 0; i < PER_QUEUE; i++)
			assert_int_equal(*fake_ram(w->f, b->requests[q][i].status),
					 VIRTIO_BLK_S_OK);
	}
}

static void all_is_there(struct world *w)
{
	for (unsigned at = 0; at < SECTORS; at += 256) {
		assert_int_equal(run(w, VIRTIO_BLK_T_IN, at, DATA, 256 * 512, true),
				 VIRTIO_BLK_S_OK);
		for (unsigned i = 0; i < 256 * 512; i++)
			if (*fake_ram(w->f, DATA + i) != model[at + i / 512])
				fail_msg("another content in sector %u", at + i / 512);
	}
}

static void renew_heap(struct world *w, uint64_t heap)
{
	w->d.heap = heap; /* headers and status bytes of what is over */
}

/* --- tests ---------------------------------------------------------------------------------- */

static void nothing_is_lost_across_switches(void **state)
{
	struct world *w = *state;
	struct burst a, b;
	uint64_t heap;
	int fds[9]; /* the newest first, from [at] on */
	unsigned at = nitems(fds) - 1;

	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ), QUEUES));
	heap = w->d.heap;
	fds[at] = w->fd;
	for (unsigned round = 0; round < 8; round++) {
		fds[--at] = new_image(SECTORS * 512);
		stage(w, fds[at]);
		send_burst(w, &a, 2 * round);
		instant(w); /* with what is in rings and in flight */
		send_burst(w, &b, 2 * round + 1);
		if (round % 2) {
			freeze(w); /* while they are under way */
			rebase(w, fds + at + 1, nitems(fds) - at - 1);
		}
		await_burst(w, &a);
		await_burst(w, &b);
		renew_heap(w, heap);
		assert_int_equal(run(w, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), VIRTIO_BLK_S_OK);
		all_is_there(w);
		renew_heap(w, heap);
	}
	for (unsigned i = 0; i + 1 < nitems(fds); i++)
		close(fds[i]);
}

static void merged_layers_are_exchanged_under_load(void **state)
{
	struct world *w = *state;
	struct burst a, b;
	uint64_t heap;
	int top;

	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ), QUEUES));
	heap = w->d.heap;
	top = new_image(SECTORS * 512);
	go_over(w, top);
	for (unsigned round = 0; round < 8; round++) {
		int next = new_image(SECTORS * 512);

		send_burst(w, &a, 2 * round);
		go_over(w, next);
		freeze(w);
		send_burst(w, &b, 2 * round + 1);
		merge(top, w->fd, IMAGE_RAW);
		rebase(w, &w->fd, 1);
		close(top);
		top = next;
		await_burst(w, &a);
		await_burst(w, &b);
		renew_heap(w, heap);
		all_is_there(w);
		renew_heap(w, heap);
	}
	close(top);
}

static void below_the_new_layer_nothing_changes(void **state)
{
	struct world *w = *state;
	int fd = new_image(SECTORS * 512);
	uint8_t sector[512];
	struct stat before, after;

	assert_true(driver_start(&w->d,
				 BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_DISCARD) |
				     BIT(VIRTIO_BLK_F_WRITE_ZEROES),
				 1));
	go_over(w, fd);
	assert_int_equal(fstat(w->fd, &before), 0);
	memset(fake_ram(w->f, DATA), 0xee, 512);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 5, DATA, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(run(w, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), VIRTIO_BLK_S_OK);
	{
		struct virtio_blk_discard_write_zeroes range = {.sector = 0, .num_sectors = 64};

		memcpy(fake_ram(w->f, DATA), &range, sizeof(range));
		assert_int_equal(run(w, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, sizeof(range), false),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(run(w, VIRTIO_BLK_T_DISCARD, 0, DATA, sizeof(range), false),
				 VIRTIO_BLK_S_OK);
	}
	freeze(w);
	assert_int_equal(fstat(w->fd, &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
	assert_int_equal(pread(w->fd, sector, 512, 5 * 512), 512);
	assert_int_equal(sector[0], 5);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 5, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA), 0);
	close(fd);
}

/* Storage fails as long as ->error says so. */
struct trouble {
	int error;
	unsigned met;
};

static int decide(void *arg, const struct block_req *req)
{
	struct trouble *t = arg;
	int error = __atomic_load_n(&t->error, __ATOMIC_ACQUIRE);

	if (!error || req->op != BLOCK_WRITE)
		return 0;
	__atomic_fetch_add(&t->met, 1, __ATOMIC_ACQ_REL);
	return error;
}

static bool has_met(void *arg)
{
	return __atomic_load_n(&((struct trouble *)arg)->met, __ATOMIC_ACQUIRE) > 0;
}

static void what_was_kept_is_written_to_the_new_layer(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -ENOSPC};
	const struct block_fault_plan plan = {decide, &t};
	struct disk_graph *g = disk_of(w)->graph;
	int fd = new_image(SECTORS * 512);
	struct driver_used used;
	struct request r;
	uint8_t sector[512];

	assert_int_equal(block_fault_open(&g->fleece, g->fleece, &plan, NULL), 0);
	g->top = g->fleece;
	assert_true(driver_start(&w->d, 0, 1));
	stage(w, fd);
	memset(fake_ram(w->f, DATA), 0x99, 512);
	r = offer(w, 0, VIRTIO_BLK_T_OUT, 3, DATA, 512, false);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(has_met, &t));
	__atomic_store_n(&t.error, 0, __ATOMIC_RELEASE);
	instant(w);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(*fake_ram(w->f, r.status), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(w->fd, sector, 512, 3 * 512), 512);
	assert_int_equal(sector[0], 3);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 3, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA), 0x99);
	close(fd);
}

static void limits_go_across(void **state)
{
	static const struct vmm_limits crawl = {.requests[0] = {.per_s = 1, .burst = 1}}, none;
	struct world *w = *state;
	struct driver_used used;
	int fd = new_image(SECTORS * 512);

	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(disk_set_limits(disk_of(w), &crawl, NULL), 0);
	stage(w, fd);
	for (unsigned i = 0; i < 40; i++)
		offer(w, 0, VIRTIO_BLK_T_OUT, i, DATA, 512, false);
	driver_kick(&w->d, 0);
	instant(w); /* the guest does not hold up its own snapshot */
	assert_int_equal(disk_set_limits(disk_of(w), &none, NULL), 0);
	for (unsigned i = 0; i < 40; i++)
		assert_true(driver_wait(&w->d, 0, &used));
	close(fd);
}

/* --- its past ------------------------------------------------------------------------------- */

struct reader {
	int sock, room_fd;
	uint8_t *room;
	struct vmm_snapshot_info info;
};

static void open_reader(struct world *w, struct reader *r)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	r->sock = pair[0];
	assert_int_equal(disk_snapshot_new(disk_of(w)->graph, memfd_create("keep", MFD_CLOEXEC),
					   pair[1], -1, &r->info, &r->room_fd, NULL),
			 0);
	r->room = mmap(NULL, r->info.room_bytes, PROT_READ, MAP_SHARED, r->room_fd, 0);
	assert_ptr_not_equal(r->room, MAP_FAILED);
}

static void close_reader(struct reader *r)
{
	munmap(r->room, r->info.room_bytes);
	close(r->room_fd);
	close(r->sock);
}

/* Reads all and compares. */
static void same_past(struct reader *r, const uint8_t *past)
{
	struct vmm_peek p = {.op = VMM_PEEK_READ, .bytes = SECTORS * 512};
	struct pollfd fd = {.fd = r->sock, .events = POLLIN};

	assert_int_equal(send(r->sock, &p, sizeof(p), MSG_NOSIGNAL), sizeof(p));
	assert_int_equal(poll(&fd, 1, FAKE_DEADLINE_MS), 1);
	assert_int_equal(recv(r->sock, &p, sizeof(p), 0), sizeof(p));
	assert_int_equal(p.error, 0);
	for (unsigned i = 0; i < SECTORS * 512; i++)
		if (r->room[i] != past[i / 512])
			fail_msg("another past in sector %u", i / 512);
}

struct reading {
	struct reader *reader;
	const uint8_t *past;
	bool end; /* atomic */
};

static void *read_on(void *arg)
{
	struct reading *r = arg;

	do
		same_past(r->reader, r->past);
	while (!__atomic_load_n(&r->end, __ATOMIC_ACQUIRE));
	return NULL;
}

/* A reader reads without pause while the disk goes over, is frozen, merged and rebased. */
static void readers_of_the_past_see_it_across_switches(void **state)
{
	struct world *w = *state;
	uint8_t past[SECTORS];
	struct reader r;
	struct reading reading = {.reader = &r, .past = past};
	pthread_t thread;
	struct burst b;
	uint64_t heap;
	int top;

	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_MQ), QUEUES));
	heap = w->d.heap;
	send_burst(w, &b, 77);
	await_burst(w, &b);
	memcpy(past, model, sizeof(past));
	open_reader(w, &r);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &reading), 0);
	top = new_image(SECTORS * 512);
	go_over(w, top);
	for (unsigned round = 0; round < 6; round++) {
		int next = new_image(SECTORS * 512);

		send_burst(w, &b, round);
		go_over(w, next);
		freeze(w);
		merge(top, w->fd, IMAGE_RAW);
		rebase(w, &w->fd, 1);
		close(top);
		top = next;
		await_burst(w, &b);
		renew_heap(w, heap);
	}
	__atomic_store_n(&reading.end, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	same_past(&r, past);
	all_is_there(w);
	close_reader(&r);
	close(top);
}

/* --- what else happens to disks ------------------------------------------------------------- */

static void power_cycle(struct world *w)
{
	struct device **last = &w->f->vm.devices;

	while (*last != w->dev)
		last = &(*last)->next;
	*last = w->dev->next;
	w->dev->ops->destroy(w->dev);
	w->dev = fake_create(w->f, &virtio_blk_device);
	driver_open(&w->d, w->f, PCI_SLOT_DISKS);
}

static void a_reset_leaves_layers_as_they_are(void **state)
{
	struct world *w = *state;
	int first = new_image(SECTORS * 512), second = new_image(SECTORS * 512);

	assert_true(driver_start(&w->d, 0, 1));
	memset(fake_ram(w->f, DATA), 0x42, 512);
	go_over(w, first);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 9, DATA, 512, false), VIRTIO_BLK_S_OK);
	stage(w, second);
	power_cycle(w);
	assert_true(disk_staged(disk_of(w)));
	assert_true(driver_start(&w->d, 0, 1));
	instant(w);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 9, DATA + 512, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA + 512), 0x42);
	freeze(w);
	close(first);
	close(second);
}

static void a_switch_needs_no_device(void **state)
{
	struct world *w = *state;
	int fd = new_image(SECTORS * 512);
	struct device **last = &w->f->vm.devices;

	while (*last != w->dev)
		last = &(*last)->next;
	*last = w->dev->next;
	w->dev->ops->destroy(w->dev);
	stage(w, fd);
	disk_switch(disk_of(w));
	freeze(w);
	w->dev = fake_create(w->f, &virtio_blk_device);
	driver_open(&w->d, w->f, PCI_SLOT_DISKS);
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 9, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA), 9);
	close(fd);
}

static void only_the_new_layer_gets_another_size(void **state)
{
	struct world *w = *state;
	struct disk_graph *graph = disk_of(w)->graph;
	int fd = new_image(SECTORS * 512);
	struct stat st;

	assert_true(driver_start(&w->d, 0, 1));
	go_over(w, fd);
	assert_int_equal(graph->kind, VMM_LAYER_QCOW2);
	assert_int_equal(block_resize(graph->top, 2 * SECTORS * 512, NULL), 0);
	virtio_blk_use(disk_of(w), graph);
	virtio_blk_changed(disk_of(w));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 2 * SECTORS - 1, DATA, 512, false),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, SECTORS, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA), 0);
	assert_int_equal(fstat(w->fd, &st), 0);
	assert_int_equal(st.st_size, SECTORS * 512);
	close(fd);
}

static void other_contents_take_all_layers_away(void **state)
{
	struct world *w = *state;
	struct disk *disk = disk_of(w);
	struct disk_graph *old = disk->graph;
	int first = new_image(SECTORS * 512), second = new_image(SECTORS * 512);

	assert_true(driver_start(&w->d, 0, 1));
	go_over(w, first);
	stage(w, second);
	virtio_blk_use(disk, NULL);
	disk->graph = NULL;
	virtio_blk_changed(disk);
	disk_graph_close(old);
	assert_false(disk_staged(disk));
	disk_unstage(disk);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 0, DATA, 512, true), VIRTIO_BLK_S_IOERR);
	close(first);
	close(second);
}

int main(void)
{
#define T(name)	    cmocka_unit_test_setup_teardown(name, setup, teardown)
#define LANES(name) cmocka_unit_test_setup_teardown(name, setup_lanes, teardown)
	const struct CMUnitTest tests[] = {
	    LANES(nothing_is_lost_across_switches),
	    LANES(merged_layers_are_exchanged_under_load),
	    T(below_the_new_layer_nothing_changes),
	    T(what_was_kept_is_written_to_the_new_layer),
	    T(limits_go_across),
	    LANES(readers_of_the_past_see_it_across_switches),
	    T(a_reset_leaves_layers_as_they_are),
	    T(a_switch_needs_no_device),
	    T(only_the_new_layer_gets_another_size),
	    T(other_contents_take_all_layers_away),
	};

	return cmocka_run_group_tests_name("disks that go over to a new layer", tests, NULL, NULL);
}
