// SPDX-License-Identifier: ISC
/*
 * A disk while its guest runs: storage that fails, contents and size that change, limits that come
 * and go, and its past, read by somebody else.
 */
#include "blk_world.h"

#include <poll.h>
#include <sys/socket.h>

#include "storage/block_filter.h"
#include "vmm/disk_snapshot.h"
#include "vmm/virtio_blk.h"

/* What storage is to do, by a test's choice. */
struct trouble {
	int error; /* of every request of kind @op; 0: none */
	enum block_op op;
	unsigned met;
};

static int decide(void *arg, const struct block_req *req)
{
	struct trouble *t = arg;
	int error = __atomic_load_n(&t->error, __ATOMIC_ACQUIRE);

	if (!error || req->op != t->op)
		return 0;
	__atomic_fetch_add(&t->met, 1, __ATOMIC_ACQ_REL);
	return error;
}

static struct disk *disk_of(struct world *w)
{
	return w->f->config.disks[0];
}

/* The world's storage fails as @t says; the disk acts on it as @on_error says. */
static void give_trouble(struct world *w, struct trouble *t, enum vmm_on_error on_error)
{
	const struct block_fault_plan plan = {decide, t};
	struct disk_graph *g = disk_of(w)->graph;
	struct err err = ERR_INIT;

	assert_int_equal(block_fault_open(&g->fleece, g->fleece, &plan, &err), 0);
	g->top = g->fleece;
	disk_of(w)->on_error = on_error;
}

static void set_trouble(struct trouble *t, int error)
{
	__atomic_store_n(&t->error, error, __ATOMIC_RELEASE);
}

static bool has_met(void *arg)
{
	return __atomic_load_n(&((struct trouble *)arg)->met, __ATOMIC_ACQUIRE) > 0;
}

static void stand_still(struct world *w)
{
	w->dev->ops->pause(w->dev);
}

static void go_on(struct world *w)
{
	w->dev->ops->resume(w->dev);
}

/* The disk's device is made anew. */
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

/* --- storage that fails ----------------------------------------------------------------------- */

static void errors_are_reported_where_that_is_wanted(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -ENOSPC, .op = BLOCK_WRITE};
	struct disk_news news;

	give_trouble(w, &t, VMM_ON_ERROR_REPORT);
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 5, DATA, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(counter(w, "errors"), 1);
	assert_true(disk_news_take(disk_of(w), &news));
	assert_true(news.attached && news.failed && !news.wants_pause);
	assert_int_equal(news.error, -ENOSPC);
	assert_string_equal(news.text, "write of 512 bytes at 2560: No space left on device");
	assert_false(disk_news_take(disk_of(w), &news));
	/* what the guest does wrong by itself is none of the host's troubles */
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, SECTORS, DATA, 512, true), VIRTIO_BLK_S_IOERR);
	assert_false(disk_news_take(disk_of(w), &news));
}

static void errors_are_ignored_but_for_reads(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -EIO, .op = BLOCK_WRITE};

	give_trouble(w, &t, VMM_ON_ERROR_IGNORE);
	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_FLUSH), 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 5, DATA, 512, false), VIRTIO_BLK_S_OK);
	set_trouble(&t, 0);
	t.op = BLOCK_FLUSH;
	set_trouble(&t, -EIO);
	assert_int_equal(run(w, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), VIRTIO_BLK_S_OK);
	set_trouble(&t, 0);
	t.op = BLOCK_READ;
	set_trouble(&t, -EIO);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 5, DATA, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(counter(w, "errors"), 3);
}

/* Only a lack of room is worth to wait for, by default. */
static void by_default_only_a_lack_of_room_is_waited_for(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -EIO, .op = BLOCK_WRITE};
	struct disk_news news;

	give_trouble(w, &t, VMM_ON_ERROR_AUTO);
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 5, DATA, 512, false), VIRTIO_BLK_S_IOERR);
	assert_true(disk_news_take(disk_of(w), &news) && !news.wants_pause);
	t.met = 0;
	set_trouble(&t, -EDQUOT);
	offer(w, 0, VIRTIO_BLK_T_OUT, 5, DATA, 512, false);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(has_met, &t));
	stand_still(w);
	assert_true(disk_news_take(disk_of(w), &news) && news.wants_pause);
	assert_false(driver_has_used(&w->d, 0));
}

static void kept_requests_are_tried_again_at_resume(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -ENOSPC, .op = BLOCK_WRITE};
	struct driver_used used;
	struct request r[8];
	uint8_t sector[512];

	give_trouble(w, &t, VMM_ON_ERROR_AUTO);
	assert_true(driver_start(&w->d, 0, 1));
	for (unsigned i = 0; i < nitems(r); i++) {
		memset(fake_ram(w->f, DATA + i * 512), 0xc0 + i, 512);
		r[i] = offer(w, 0, VIRTIO_BLK_T_OUT, 100 + i, DATA + i * 512, 512, false);
	}
	driver_kick(&w->d, 0);
	assert_true(fake_wait(has_met, &t));
	/* once in vain: they are kept again */
	for (unsigned round = 0; round < 2; round++) {
		stand_still(w);
		assert_false(driver_has_used(&w->d, 0));
		if (round)
			set_trouble(&t, 0);
		t.met = 0;
		go_on(w);
		if (!round)
			assert_true(fake_wait(has_met, &t));
	}
	for (unsigned i = 0; i < nitems(r); i++)
		assert_true(driver_wait(&w->d, 0, &used));
	for (unsigned i = 0; i < nitems(r); i++) {
		assert_int_equal(*fake_ram(w->f, r[i].status), VIRTIO_BLK_S_OK);
		assert_int_equal(pread(w->fd, sector, 512, (100 + i) * 512), 512);
		assert_int_equal(sector[0], 0xc0 + i);
		assert_int_equal(sector[511], 0xc0 + i);
	}
	assert_int_equal(counter(w, "in_flight"), 0);
}

static void resume_makes_an_old_wish_to_pause_void(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -EIO, .op = BLOCK_READ};
	struct driver_used used;
	struct disk_news news;

	give_trouble(w, &t, VMM_ON_ERROR_PAUSE);
	assert_true(driver_start(&w->d, 0, 1));
	offer(w, 0, VIRTIO_BLK_T_IN, 0, DATA, 512, true);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(has_met, &t));
	stand_still(w);
	set_trouble(&t, 0);
	go_on(w);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_true(disk_news_take(disk_of(w), &news));
	assert_true(news.failed && !news.wants_pause);
}

/* After a reset the guest's memory is its own; the device works. */
static void a_reset_drops_what_is_kept(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -EIO, .op = BLOCK_WRITE};

	give_trouble(w, &t, VMM_ON_ERROR_PAUSE);
	for (unsigned round = 0; round < 10; round++) {
		uint64_t heap = w->d.heap;

		set_trouble(&t, -EIO);
		t.met = 0;
		assert_true(driver_start(&w->d, 0, 1));
		for (unsigned i = 0; i < 20; i++)
			offer(w, 0, VIRTIO_BLK_T_OUT, i, DATA, 512, false);
		driver_kick(&w->d, 0);
		assert_true(fake_wait(has_met, &t));
		assert_true(driver_reset(&w->d));
		memset(fake_ram(w->f, 0x1000), 0xaa, FAKE_RAM_BYTES - 0x1000);
		set_trouble(&t, 0);
		stand_still(w);
		go_on(w);
		for (uint64_t at = 0x1000; at < FAKE_RAM_BYTES; at++)
			assert_int_equal(*fake_ram(w->f, at), 0xaa);
		memset(fake_ram(w->f, 0x1000), 0, FAKE_RAM_BYTES - 0x1000);
		assert_true(driver_start(&w->d, 0, 1));
		assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 7, DATA, 512, false), VIRTIO_BLK_S_OK);
		w->d.heap = heap;
	}
	assert_int_equal(counter(w, "in_flight"), 0);
}

static void a_new_life_need_not_pause_for_the_old_one(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -EIO, .op = BLOCK_WRITE};
	struct disk_news news;

	give_trouble(w, &t, VMM_ON_ERROR_PAUSE);
	assert_true(driver_start(&w->d, 0, 1));
	offer(w, 0, VIRTIO_BLK_T_OUT, 0, DATA, 512, false);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(has_met, &t));
	power_cycle(w);
	assert_true(disk_news_take(disk_of(w), &news));
	assert_true(news.failed && !news.wants_pause);
	assert_int_equal(counter(w, "in_flight"), 0);
}

static void a_machine_ends_with_requests_kept(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -EIO, .op = BLOCK_WRITE};

	give_trouble(w, &t, VMM_ON_ERROR_PAUSE);
	assert_true(driver_start(&w->d, 0, 1));
	for (unsigned i = 0; i < 20; i++)
		offer(w, 0, VIRTIO_BLK_T_OUT, i, DATA, 512, false);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(has_met, &t));
	/* the rest is the teardown's */
}

/* --- contents and size ------------------------------------------------------------------------ */

static struct disk_graph *graph_of(off_t bytes, uint8_t byte, bool readonly)
{
	struct disk_layer layer = {.kind = VMM_LAYER_RAW, .data_fd = -1};
	struct disk_config config = {
	    .name = "root", .readonly = readonly, .layers = &layer, .n_layers = 1, .wake_fd = -1};
	struct disk_graph *graph;
	struct err err = ERR_INIT;
	uint8_t sector[512];

	layer.fd = memfd_create("disk", MFD_CLOEXEC);
	memset(sector, byte, sizeof(sector));
	for (off_t at = 0; at < bytes; at += 512)
		assert_int_equal(pwrite(layer.fd, sector, 512, at), 512);
	assert_int_equal(disk_graph_open(&graph, &config, &err), 0);
	return graph;
}

/* As a job does it. */
static void change(struct world *w, struct disk_graph *graph)
{
	struct disk *disk = disk_of(w);
	struct disk_graph *old = disk->graph;

	virtio_blk_use(disk, graph);
	disk->graph = graph;
	virtio_blk_changed(disk);
	disk_graph_close(old);
}

static uint64_t capacity(struct world *w)
{
	return fake_read(w->f, BUS_MMIO, w->d.config, 8);
}

static uint8_t generation(struct world *w)
{
	return common_get(&w->d, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
}

/* Has the configuration's interrupt come? Reading takes it back (§4.1.4.5). */
static bool told(struct world *w)
{
	return fake_read(w->f, BUS_MMIO, w->d.isr, 1) & 2;
}

static void other_contents_are_shown_and_told_of(void **state)
{
	struct world *w = *state;
	uint8_t before;

	assert_true(driver_start(&w->d, 0, 1));
	before = generation(w);
	assert_false(told(w));
	for (unsigned i = 0; i < 40; i++)
		offer(w, 0, VIRTIO_BLK_T_IN, i, DATA, 512, true);
	driver_kick(&w->d, 0);
	change(w, graph_of(64 * 512, 0x77, false));
	for (unsigned i = 0; i < 40; i++) {
		struct driver_used used;

		assert_true(driver_wait(&w->d, 0, &used));
	}
	assert_int_equal(capacity(w), 64);
	assert_int_not_equal(generation(w), before);
	assert_true(told(w));
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 63, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA + 511), 0x77);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 64, DATA, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 0, DATA, 512, false), VIRTIO_BLK_S_OK);
	/* a driver that thinks it may write meets what may not be written */
	change(w, graph_of(64 * 512, 0x78, true));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 0, DATA, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 0, DATA, 512, true), VIRTIO_BLK_S_OK);
}

static void an_ejected_disk_is_empty(void **state)
{
	struct world *w = *state;

	assert_true(driver_start(&w->d, BIT(VIRTIO_BLK_F_FLUSH), 1));
	change(w, NULL);
	assert_int_equal(capacity(w), 0);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 0, DATA, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 0, DATA, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(w, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(w, VIRTIO_BLK_T_GET_ID, 0, DATA, 20, true), VIRTIO_BLK_S_OK);
	assert_string_equal((char *)fake_ram(w->f, DATA), "root");
	/* and the machine's next life finds it so */
	power_cycle(w);
	assert_int_equal(capacity(w), 0);
	assert_true(driver_start(&w->d, 0, 1));
	change(w, graph_of(8 * 512, 0x55, false));
	assert_int_equal(capacity(w), 8);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 7, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA), 0x55);
}

/* What was meant for the old contents must not go to the new ones. */
static void kept_requests_are_lost_with_the_contents(void **state)
{
	struct world *w = *state;
	struct trouble t = {.error = -ENOSPC, .op = BLOCK_WRITE};
	struct driver_used used;
	struct request r;

	give_trouble(w, &t, VMM_ON_ERROR_AUTO);
	assert_true(driver_start(&w->d, 0, 1));
	memset(fake_ram(w->f, DATA), 0x11, 512);
	r = offer(w, 0, VIRTIO_BLK_T_OUT, 3, DATA, 512, false);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(has_met, &t));
	stand_still(w);
	change(w, graph_of(64 * 512, 0x77, false));
	/* a machine that stands still is not told of anything */
	assert_false(told(w));
	assert_false(driver_has_used(&w->d, 0));
	go_on(w);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(*fake_ram(w->f, r.status), VIRTIO_BLK_S_IOERR);
	assert_true(told(w));
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 3, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(*fake_ram(w->f, DATA), 0x77);
}

static void another_size_is_told(void **state)
{
	struct world *w = *state;
	struct disk_graph *graph = disk_of(w)->graph;
	struct err err = ERR_INIT;

	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, SECTORS, DATA, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(block_resize(graph->top, 2 * SECTORS * 512, &err), 0);
	virtio_blk_use(disk_of(w), graph);
	virtio_blk_changed(disk_of(w));
	assert_int_equal(capacity(w), 2 * SECTORS);
	assert_true(told(w));
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, SECTORS, DATA, 512, false), VIRTIO_BLK_S_OK);
	/* a size that the file has got by itself, smaller */
	assert_int_equal(ftruncate(w->fd, 512), 0);
	assert_int_equal(block_resize(graph->top, 0, &err), 0);
	virtio_blk_use(disk_of(w), graph);
	virtio_blk_changed(disk_of(w));
	assert_int_equal(capacity(w), 1);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 1, DATA, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 0, DATA, 512, true), VIRTIO_BLK_S_OK);
}

static void write_through_has_no_cache_to_speak_of(void **state)
{
	struct world *w = *state;

	disk_of(w)->cache = VMM_CACHE_WRITETHROUGH;
	power_cycle(w);
	assert_false(driver_offered(&w->d) &
		     (BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE)));
	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(
	    fake_read(w->f, BUS_MMIO, w->d.config + offsetof(struct virtio_blk_config, wce), 1), 0);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 0, DATA, 512, false), VIRTIO_BLK_S_OK);
}

/* --- limits ----------------------------------------------------------------------------------- */

/* So slow that a test which waits for them fails. */
static const struct vmm_limits crawl = {.requests[0] = {.per_s = 1, .burst = 1}};

static void limits_come_and_go(void **state)
{
	static const struct vmm_limits none;
	struct world *w = *state;
	struct driver_used used;
	struct err err = ERR_INIT;

	assert_true(driver_start(&w->d, 0, 1));
	assert_int_equal(run(w, VIRTIO_BLK_T_IN, 0, DATA, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(counter(w, "throttled_ns"), 0);
	assert_int_equal(disk_set_limits(disk_of(w), &crawl, &err), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 42; i++)
			offer(w, 0, VIRTIO_BLK_T_IN, i, DATA, 512, true);
		driver_kick(&w->d, 0);
		/* none of these waits until limits would let all of them go */
		if (round == 0)
			assert_int_equal(disk_set_limits(disk_of(w), &none, &err), 0);
		else if (round == 1)
			stand_still(w);
		else
			change(w, graph_of(SECTORS * 512, 1, false));
		if (round == 1)
			go_on(w);
		for (unsigned i = 0; i < 42 && round < 2; i++)
			assert_true(driver_wait(&w->d, 0, &used));
		assert_int_equal(disk_set_limits(disk_of(w), round ? &none : &crawl, &err), 0);
	}
	assert_true(counter(w, "throttled_ns") > 0);
}

static void a_limited_disk_ends_at_once(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;

	assert_int_equal(disk_set_limits(disk_of(w), &crawl, &err), 0);
	assert_true(driver_start(&w->d, 0, 1));
	for (unsigned i = 0; i < 42; i++)
		offer(w, 0, VIRTIO_BLK_T_OUT, i, DATA, 512, false);
	driver_kick(&w->d, 0);
	/* the rest is the teardown's */
}

/* --- its past --------------------------------------------------------------------------------- */

struct reader {
	int sock, room_fd;
	uint8_t *room;
	struct vmm_snapshot_info info;
};

static void open_reader(struct world *w, struct reader *r)
{
	struct err err = ERR_INIT;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	r->sock = pair[0];
	assert_int_equal(disk_snapshot_new(disk_of(w)->graph, memfd_create("keep", MFD_CLOEXEC),
					   pair[1], -1, &r->info, &r->room_fd, &err),
			 0);
	assert_int_equal(r->info.bytes, SECTORS * 512);
	r->room = mmap(NULL, r->info.room_bytes, PROT_READ, MAP_SHARED, r->room_fd, 0);
	assert_ptr_not_equal(r->room, MAP_FAILED);
}

static void close_reader(struct reader *r)
{
	munmap(r->room, r->info.room_bytes);
	close(r->room_fd);
	close(r->sock);
}

/* The answer; false if the socket was closed. */
static bool peek(struct reader *r, struct vmm_peek *p)
{
	uint64_t id = p->id;

	if (send(r->sock, p, sizeof(*p), MSG_NOSIGNAL) < 0)
		return false;
	for (;;) {
		struct pollfd fd = {.fd = r->sock, .events = POLLIN};

		assert_int_equal(poll(&fd, 1, FAKE_DEADLINE_MS), 1);
		if (recv(r->sock, p, sizeof(*p), 0) != sizeof(*p))
			return false;
		assert_int_equal(p->id, id);
		return true;
	}
}

static void the_past_is_read_while_the_guest_writes(void **state)
{
	struct world *w = *state;
	struct reader r[2];
	struct vmm_peek p;

	assert_true(driver_start(&w->d, 0, 1));
	open_reader(w, &r[0]);
	memset(fake_ram(w->f, DATA), 0xee, 4096);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 8, DATA, 4096, false), VIRTIO_BLK_S_OK);
	open_reader(w, &r[1]);
	assert_int_equal(run(w, VIRTIO_BLK_T_OUT, 100, DATA, 4096, false), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 2; i++) {
		p = (struct vmm_peek){
		    .id = 7 + i, .op = VMM_PEEK_READ, .bytes = SECTORS * 512, .room = 4096};
		assert_true(peek(&r[i], &p));
		assert_int_equal(p.error, 0);
		for (unsigned s = 0; s < SECTORS; s++) {
			uint8_t was = i == 1 && s >= 8 && s < 16 ? 0xee : (uint8_t)s;

			assert_int_equal(r[i].room[4096 + s * 512], was);
			assert_int_equal(r[i].room[4096 + s * 512 + 511], was);
		}
		p = (struct vmm_peek){.id = 9, .op = VMM_PEEK_STATUS, .bytes = SECTORS * 512};
		assert_true(peek(&r[i], &p));
		assert_int_equal(p.error, 0);
		assert_true(p.bytes > 0 && p.flags & VMM_PEEK_DATA);
	}
	/* a machine's new life changes nothing of that */
	power_cycle(w);
	p = (struct vmm_peek){.id = 1, .op = VMM_PEEK_READ, .offset = 100 * 512, .bytes = 512};
	assert_true(peek(&r[0], &p));
	assert_int_equal(r[0].room[0], 100);
	/* but the end of the contents is the end of their past */
	change(w, NULL);
	assert_false(peek(&r[0], &p));
	close_reader(&r[0]);
	close_reader(&r[1]);
}

static bool none_left(void *arg)
{
	struct disk_graph *graph = arg;

	disk_snapshots_reap(graph);
	return !graph->snapshots;
}

static void readers_that_ask_wrongly_are_told_or_cut_off(void **state)
{
	struct world *w = *state;
	struct disk_graph *graph = disk_of(w)->graph;
	const struct vmm_peek wrong[] = {
	    {.op = 77},
	    {.op = VMM_PEEK_READ, .bytes = SECTORS * 512 + 1},
	    {.op = VMM_PEEK_READ, .bytes = UINT64_MAX},
	    {.op = VMM_PEEK_READ, .offset = UINT64_MAX, .bytes = 512},
	    {.op = VMM_PEEK_READ, .bytes = 512, .room = UINT64_MAX - 100},
	    {.op = VMM_PEEK_READ, .bytes = 512, .room = (4 << 20) - 511},
	    {.op = VMM_PEEK_STATUS, .offset = SECTORS * 512, .bytes = 1},
	    {.op = VMM_PEEK_STATUS, .offset = UINT64_MAX, .bytes = UINT64_MAX},
	};
	struct reader r;
	struct vmm_peek p;

	open_reader(w, &r);
	for (unsigned i = 0; i < nitems(wrong); i++) {
		p = wrong[i];
		assert_true(peek(&r, &p));
		assert_true(p.error < 0);
	}
	p = (struct vmm_peek){.op = VMM_PEEK_READ, .bytes = 512};
	assert_true(peek(&r, &p));
	assert_int_equal(p.error, 0);
	assert_int_equal(send(r.sock, &p, sizeof(p) - 1, MSG_NOSIGNAL), sizeof(p) - 1);
	assert_true(fake_wait(none_left, graph));
	assert_int_equal(recv(r.sock, &p, sizeof(p), MSG_WAITALL), 0 /* hung up */);
	close_reader(&r);
	assert_true(fake_wait(none_left, graph));
	/* those who just go */
	for (unsigned i = 0; i < 40; i++) {
		open_reader(w, &r);
		close_reader(&r);
		assert_true(fake_wait(none_left, graph));
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(errors_are_reported_where_that_is_wanted),
	    T(errors_are_ignored_but_for_reads),
	    T(by_default_only_a_lack_of_room_is_waited_for),
	    T(kept_requests_are_tried_again_at_resume),
	    T(resume_makes_an_old_wish_to_pause_void),
	    T(a_reset_drops_what_is_kept),
	    T(a_new_life_need_not_pause_for_the_old_one),
	    T(a_machine_ends_with_requests_kept),
	    T(other_contents_are_shown_and_told_of),
	    T(an_ejected_disk_is_empty),
	    T(kept_requests_are_lost_with_the_contents),
	    T(another_size_is_told),
	    T(write_through_has_no_cache_to_speak_of),
	    T(limits_come_and_go),
	    T(a_limited_disk_ends_at_once),
	    T(the_past_is_read_while_the_guest_writes),
	    T(readers_that_ask_wrongly_are_told_or_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
