// SPDX-License-Identifier: ISC
/*
 * Packed memory is brought in as it is touched: it is registered with userfaultfd(2), whose
 * handler is one thread; others go through the file and bring in the rest, so that after
 * some time nothing is left to be waited for and the registration ends.
 *
 * A chunk is brought in by whoever claims it first. Who touches it meanwhile is woken by the
 * kernel when the copy is there; the handler has nothing to do for him. What is zero is not
 * brought in but by who touches it.
 *
 * Where userfaultfd cannot be had (it takes privileges; pages of hugetlbfs), the same threads bring
 * in all of it before the guest goes on.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define LOG_MODULE "memory"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm/gmem.h"
#include "vmm/pack_int.h"
#include "vmm/stats.h"

#define THREADS	   2 /* that bring in the rest */
#define PAGE	   4096u
#define MSG_BATCH  16
#define LAST_WORDS 5 /* seconds for who is to say them */

enum chunk_state { CHUNK_ABSENT, CHUNK_COMING, CHUNK_THERE };

struct pack {
	struct memory *memory;
	struct gmem mem;
	int fd, wake_fd, uffd, stop_fd; /* uffd -1: not lazily */
	uint64_t n;
	struct pack_entry *index;
	_Atomic uint8_t *state; /* enum chunk_state */
	_Atomic uint64_t next;
	atomic_bool stop;
	atomic_bool hurry; /* somebody waits: nothing is done but what must be */
	_Atomic int error;
	pthread_t threads[THREADS], handler, ender;
	unsigned n_threads;
	bool handling, ending;
};

/* Room of a thread for one chunk. */
struct unpacker {
	struct pack *pack;
	ZSTD_DCtx *zstd;
	uint8_t *frame, *chunk;
};

/* --- the file ------------------------------------------------------------------------------- */

static int bad(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "saved memory: %s", what);
}

static int check_header(const uint8_t *h, uint64_t memory, uint64_t size, struct err *err)
{
	uint64_t chunks = pack_chunks(memory), at = pack_get64(h + 24);

	if (memcmp(h, PACK_MAGIC, 8) != 0)
		return bad(err, "not packed memory");
	if (pack_get32(h + 60) != (uint32_t)crc32_z(0, h, 60))
		return bad(err, "its header is damaged");
	if (pack_get32(h + 8) != PACK_VERSION || pack_get32(h + 12) != PACK_CHUNK)
		return err_set(err, -EOPNOTSUPP, "saved memory: of a later version (%u)",
			       pack_get32(h + 8));
	if (pack_get64(h + 16) != memory)
		return err_set(err, -EINVAL, "saved memory: of %llu bytes, not %llu",
			       (unsigned long long)pack_get64(h + 16), (unsigned long long)memory);
	if (pack_get64(h + 32) != chunks || at < PACK_HEADER || at > size ||
	    size - at < chunks * PACK_ENTRY)
		return bad(err, "it is truncated");
	return 0;
}

static int take_entry(const struct pack *p, uint64_t n, const uint8_t *raw, uint64_t frames_end,
		      struct err *err)
{
	struct pack_entry *e = &p->index[n];

	*e = (struct pack_entry){pack_get64(raw), pack_get32(raw + 8)};
	if (e->bytes == 0)
		return 0;
	if (e->bytes > PACK_FRAME_MAX || e->offset < PACK_HEADER || e->offset > frames_end ||
	    frames_end - e->offset < e->bytes)
		return bad(err, "its index points outside");
	if (!gmem_ptr(&p->mem, n * PACK_CHUNK, 1))
		return bad(err, "it has something where there is no memory");
	return 0;
}

static int read_index(struct pack *p, struct err *err)
{
	_cleanup_free_ uint8_t *raw = NULL;
	uint8_t header[PACK_HEADER];
	struct stat st;
	int r;

	if (fstat(p->fd, &st) < 0)
		return err_set(err, -errno, "saved memory: fstat");
	if (!S_ISREG(st.st_mode) || st.st_size < PACK_HEADER)
		return bad(err, "it is truncated");
	r = file_pread_all(p->fd, header, sizeof(header), 0);
	if (r < 0)
		return err_set(err, r, "saved memory: %s", strerror(-r));
	r = check_header(header, p->memory->ram_top, (uint64_t)st.st_size, err);
	if (r < 0)
		return r;
	p->n = pack_chunks(p->memory->ram_top);
	raw = malloc(p->n * PACK_ENTRY);
	p->index = calloc(p->n, sizeof(*p->index));
	p->state = calloc(p->n, sizeof(*p->state));
	if (!raw || !p->index || !p->state)
		return err_set(err, -ENOMEM, "no memory");
	r = file_pread_all(p->fd, raw, p->n * PACK_ENTRY, (off_t)pack_get64(header + 24));
	if (r < 0)
		return err_set(err, r, "saved memory: %s", strerror(-r));
	if (pack_get32(header + 40) != (uint32_t)crc32_z(0, raw, p->n * PACK_ENTRY))
		return bad(err, "its index is damaged");
	for (uint64_t i = 0; r == 0 && i < p->n; i++)
		r = take_entry(p, i, raw + i * PACK_ENTRY, pack_get64(header + 24), err);
	return r;
}

/* --- chunks ----------------------------------------------------------------------------------- */

static bool unpacker_make(struct unpacker *u, struct pack *p)
{
	*u = (struct unpacker){.pack = p,
			       .zstd = ZSTD_createDCtx(),
			       .frame = malloc(PACK_FRAME_MAX),
			       .chunk = aligned_alloc(PAGE, PACK_CHUNK)};
	return u->zstd && u->frame && u->chunk;
}

static void unpacker_free(struct unpacker *u)
{
	ZSTD_freeDCtx(u->zstd);
	free(u->frame);
	free(u->chunk);
}

static uint64_t chunk_bytes(const struct pack *p, uint64_t n)
{
	uint64_t left = p->memory->ram_top - n * PACK_CHUNK;

	return left < PACK_CHUNK ? left : PACK_CHUNK;
}

/* Where the chunk is in memory, and how long it is. */
static uint8_t *chunk_place(const struct pack *p, uint64_t n, uint64_t *bytes)
{
	*bytes = chunk_bytes(p, n);
	return gmem_ptr(&p->mem, n * PACK_CHUNK, *bytes);
}

/* What is still to come has become more, or less, for whoever reads the counter. */
static void count(const struct pack *p, uint64_t bytes)
{
	if (p->memory->to_load)
		stats_add(p->memory->to_load, bytes);
}

static int unpack(struct unpacker *u, uint64_t n, uint64_t bytes)
{
	const struct pack_entry *e = &u->pack->index[n];
	size_t got;
	int r = file_pread_all(u->pack->fd, u->frame, e->bytes, (off_t)e->offset);

	if (r < 0)
		return r;
	got = ZSTD_decompressDCtx(u->zstd, u->chunk, bytes, u->frame, e->bytes);
	return ZSTD_isError(got) || got != bytes ? -EBADMSG : 0;
}

/* Into registered memory: the part that is not there yet. */
static int copy_in(int uffd, uint8_t *to, const uint8_t *from, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes;) {
		struct uffdio_copy copy = {
		    .dst = (uintptr_t)to + at, .src = (uintptr_t)from + at, .len = bytes - at};
		struct uffdio_zeropage zero = {
		    .range = {.start = (uintptr_t)to + at, .len = bytes - at}};
		int r =
		    from ? ioctl(uffd, UFFDIO_COPY, &copy) : ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
		int64_t done = from ? copy.copy : zero.zeropage;

		if (r == 0)
			return 0;
		if (done > 0)
			at += (uint64_t)done;
		else if (errno == EEXIST)
			at += PAGE;
		else if (errno != EAGAIN)
			return -errno;
	}
	return 0;
}

static int bring(struct unpacker *u, uint64_t n)
{
	struct pack *p = u->pack;
	uint64_t bytes;
	uint8_t *to = chunk_place(p, n, &bytes);
	bool zero = p->index[n].bytes == 0;
	int r = zero ? 0 : unpack(u, n, bytes);

	if (r < 0)
		return r;
	if (p->uffd < 0 && !zero)
		memcpy(to, u->chunk, bytes);
	if (p->uffd >= 0)
		r = copy_in(p->uffd, to, zero ? NULL : u->chunk, bytes);
	/* Not registered any more: who waited for it has been woken, and has his zeroes. */
	if (r == -ENOENT && (zero || atomic_load(&p->stop)))
		r = 0;
	return r;
}

/* Whoever comes first brings it; *@mine: that was the caller. */
static int bring_once(struct unpacker *u, uint64_t n, bool *mine)
{
	uint8_t absent = CHUNK_ABSENT;
	int r;

	*mine = atomic_compare_exchange_strong(&u->pack->state[n], &absent, CHUNK_COMING);
	if (!*mine)
		return 0;
	r = bring(u, n);
	if (r < 0)
		return r;
	if (u->pack->index[n].bytes)
		count(u->pack, -chunk_bytes(u->pack, n));
	atomic_store(&u->pack->state[n], CHUNK_THERE);
	return 0;
}

static const char *words_of(int error)
{
	return error == -EBADMSG ? "its saved memory is damaged: the guest cannot go on"
				 : "its saved memory cannot be read: the guest cannot go on";
}

/*
 * The guest runs, or is about to, and there is no memory for it. Whoever waits for that cannot be
 * made to stop waiting but by what would not be its memory, or by the process's end.
 */
static _Noreturn void give_up(struct pack *p, int error)
{
	const struct timespec while_told = {.tv_sec = LAST_WORDS};
	const uint64_t one = 1;

	atomic_store(&p->error, error);
	if (write(p->wake_fd, &one, sizeof(one)) == sizeof(one))
		clock_nanosleep(CLOCK_MONOTONIC, 0, &while_told, NULL);
	log_error("%s", words_of(error));
	_exit(1);
}

/* --- threads ---------------------------------------------------------------------------------- */

/* All that is not zero. Without userfaultfd the first failure ends it. */
static void *bring_rest(void *arg)
{
	struct pack *p = arg;
	struct unpacker u;
	int r = unpacker_make(&u, p) ? 0 : -ENOMEM;
	uint64_t n;
	bool mine;

	prctl(PR_SET_NAME, "memory", 0, 0, 0);
	while (r == 0 && !atomic_load(&p->stop) && (n = atomic_fetch_add(&p->next, 1)) < p->n)
		if (p->index[n].bytes)
			r = bring_once(&u, n, &mine);
	unpacker_free(&u);
	if (r < 0 && p->uffd >= 0 && !atomic_load(&p->stop))
		give_up(p, r);
	if (r < 0) {
		atomic_store(&p->error, r);
		atomic_store(&p->stop, true);
	}
	return NULL;
}

static int wake(const struct pack *p, uint64_t address)
{
	struct uffdio_range range = {.start = address & ~(uint64_t)(PAGE - 1), .len = PAGE};

	return ioctl(p->uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

static int handle_fault(struct unpacker *u, uint64_t address)
{
	const struct pack *p = u->pack;
	int r = -EFAULT;

	for (unsigned i = 0; i < p->mem.n_regions; i++) {
		const struct gmem_region *g = &p->mem.regions[i];
		uint64_t at = address - (uintptr_t)g->host;
		bool mine;

		if (at >= g->bytes)
			continue;
		r = bring_once(u, (g->gpa + at) / PACK_CHUNK, &mine);
		/* It may have come between the fault and now. */
		if (r == 0 && !mine)
			r = wake(p, address);
	}
	return r;
}

static int handle_messages(struct unpacker *u)
{
	struct uffd_msg msgs[MSG_BATCH];
	ssize_t n = read(u->pack->uffd, msgs, sizeof(msgs));
	int r = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; r == 0 && i < (size_t)n / sizeof(msgs[0]); i++)
		if (msgs[i].event == UFFD_EVENT_PAGEFAULT)
			r = handle_fault(u, msgs[i].arg.pagefault.address);
	return r;
}

static void *handle(void *arg)
{
	struct pack *p = arg;
	struct pollfd fds[] = {{.fd = p->uffd, .events = POLLIN},
			       {.fd = p->stop_fd, .events = POLLIN}};
	struct unpacker u;
	int r = unpacker_make(&u, p) ? 0 : -ENOMEM;

	prctl(PR_SET_NAME, "memory/faults", 0, 0, 0);
	while (r == 0) {
		if (poll(fds, nitems(fds), -1) < 0 && errno != EINTR)
			r = -errno;
		else if (fds[1].revents)
			break;
		else if (fds[0].revents)
			r = handle_messages(&u);
	}
	unpacker_free(&u);
	if (r < 0)
		give_up(p, r);
	return NULL;
}

static void unregister(const struct pack *p)
{
	for (unsigned i = 0; i < p->mem.n_regions; i++) {
		struct uffdio_range range = {.start = (uintptr_t)p->mem.regions[i].host,
					     .len = p->mem.regions[i].bytes};

		ioctl(p->uffd, UFFDIO_UNREGISTER, &range);
	}
}

/* What the handler has claimed may still be on its way. */
static void await_all(const struct pack *p)
{
	const struct timespec nap = {.tv_nsec = 100000};

	for (uint64_t n = 0; n < p->n; n++)
		while (p->index[n].bytes && atomic_load(&p->state[n]) != CHUNK_THERE &&
		       !atomic_load(&p->stop))
			clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
}

/*
 * When all is there: nobody waits any more, what is zero is as any memory, and what came in
 * small pages becomes large ones, so that the next fork is short.
 */
static void *end_loading(void *arg)
{
	struct pack *p = arg;
	uint64_t one = 1;

	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	await_all(p);
	unregister(p);
	if (write(p->stop_fd, &one, sizeof(one)) < 0)
		give_up(p, -errno);
	pthread_join(p->handler, NULL);
	memory_collapse(p->memory, &p->hurry);
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

static void pack_free(struct pack *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->stop_fd >= 0)
		close(p->stop_fd);
	if (p->memory->to_load)
		__atomic_store_n(p->memory->to_load, 0, __ATOMIC_RELAXED);
	free(p->index);
	free((void *)p->state);
	free(p);
}

static int enlist(const struct pack *p)
{
	for (unsigned i = 0; i < p->mem.n_regions; i++) {
		struct uffdio_register reg = {
		    .range = {.start = (uintptr_t)p->mem.regions[i].host,
			      .len = p->mem.regions[i].bytes},
		    .mode = UFFDIO_REGISTER_MODE_MISSING,
		};

		if (ioctl(p->uffd, UFFDIO_REGISTER, &reg) < 0)
			return -errno;
	}
	return 0;
}

/* Who asks what memory may hold is told of what is still to come. */
static int note_runs(struct pack *p)
{
	struct memory_run *runs = calloc(p->n + 1, sizeof(*runs));
	unsigned n = 0;
	int r;

	if (!runs)
		return -ENOMEM;
	for (uint64_t i = 0; i < p->n; i++) {
		uint64_t bytes;

		if (!p->index[i].bytes)
			continue;
		chunk_place(p, i, &bytes);
		runs[n++] = (struct memory_run){i * PACK_CHUNK, bytes};
		count(p, bytes);
	}
	r = memory_set_runs(p->memory, runs, n);
	free(runs);
	return r;
}

static int start_threads(struct pack *p)
{
	int r = 0;

	while (p->n_threads < THREADS &&
	       (r = -pthread_create(&p->threads[p->n_threads], NULL, bring_rest, p)) == 0)
		p->n_threads++;
	return p->n_threads ? 0 : r;
}

static int load_all(struct pack *p, struct err *err)
{
	int r = start_threads(p);

	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	if (r == 0)
		r = atomic_load(&p->error);
	if (r == -EBADMSG)
		return bad(err, "it is damaged");
	return r < 0 ? err_set(err, r, "saved memory: %s", strerror(-r)) : 0;
}

/* From here on a failure ends the process: there may be faults already. */
static int load_lazily(struct pack *p, struct err *err)
{
	int r;

	p->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = p->stop_fd < 0 ? -errno : enlist(p);
	if (r == 0)
		r = -pthread_create(&p->handler, NULL, handle, p);
	p->handling = r == 0;
	if (r == 0)
		r = start_threads(p);
	if (r == 0)
		r = -pthread_create(&p->ender, NULL, end_loading, p);
	p->ending = r == 0;
	if (r == 0)
		return 0;
	if (p->handling)
		give_up(p, r);
	unregister(p);
	return err_set(err, r, "saved memory: cannot load it as it is touched: %s", strerror(-r));
}

int pack_load(struct memory *memory, int fd, int wake_fd, struct err *err)
{
	struct pack *p = calloc(1, sizeof(*p));
	bool lazy = memory->uffd >= 0 && !memory->huge;
	int r;

	if (!p)
		return err_set(err, -ENOMEM, "no memory");
	p->memory = memory;
	p->stop_fd = -1;
	p->wake_fd = wake_fd;
	p->uffd = lazy ? memory->uffd : -1;
	p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	memory_describe(memory, &p->mem);
	r = p->fd < 0 ? err_set(err, -errno, "saved memory: %s", strerror(errno))
		      : read_index(p, err);
	if (r == 0 && note_runs(p) < 0)
		r = err_set(err, -ENOMEM, "no memory");
	if (r == 0)
		r = lazy ? load_lazily(p, err) : load_all(p, err);
	if (r == 0 && lazy)
		memory->pack = p;
	else
		pack_free(p);
	return r;
}

const char *pack_failure(const struct memory *memory)
{
	int error = memory->pack ? atomic_load(&memory->pack->error) : 0;

	return error ? words_of(error) : NULL;
}

void pack_finish(struct memory *memory)
{
	struct pack *p = memory->pack;

	if (!p)
		return;
	atomic_store(&p->hurry, true);
	pthread_join(p->ender, NULL);
	pack_free(p);
	memory->pack = NULL;
}

void pack_stop(struct memory *memory)
{
	if (!memory->pack)
		return;
	atomic_store(&memory->pack->stop, true);
	pack_finish(memory);
}
