// SPDX-License-Identifier: ISC
/*
 * Asks for instants, and talks with those who hold them.
 *
 * A holder is of a VMM that may be its guest's by now. All that it says is bounded here; what
 * memory is made of is checked as a file of anybody's is (memory_map_check()). It may say
 * nothing for ever: while it writes it has something to say 20 times a second, so one that is
 * silent for SILENT_MS is given up. One that did what cannot be is not asked again.
 *
 * Several threads may use a hold: one after the other.
 */
#define LOG_MODULE "hold"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "hold.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/msg.h"

#define SILENT_MS	60000
#define STATE_BYTES_MAX (64u << 20) /* as vmm/state.h has it */
#define RAM_TOP_MAX	(1ull << 47)
#define PAGE		4096u

struct hold {
	int sock;
	uint64_t ram_top; /* size of the memory's file */

	pthread_mutex_t lock; /* held over a request and its answer; guards: */
	uint32_t seq;
	bool broken; /* not to be asked any more */
	uint8_t packet[VMM_MSG_MAX];
};

/* --- the instant ---------------------------------------------------------------------------- */

static bool has_size(int fd, uint64_t bytes)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_size == bytes;
}

static bool believable(const struct vmm_snapshot_done *d, const struct vmm *vmm, int state,
		       int registers)
{
	return d->state_bytes > 0 && d->state_bytes <= STATE_BYTES_MAX && d->vcpus == vmm->cpus &&
	       d->ram_top > 0 && d->ram_top <= RAM_TOP_MAX && d->ram_top % PAGE == 0 &&
	       has_size(state, d->state_bytes) &&
	       has_size(registers, d->vcpus * sizeof(struct vmm_vcpu_state));
}

static int hold_new(struct hold **hold, int *theirs, struct err *err)
{
	struct hold *h = calloc(1, sizeof(*h));
	int pair[2];

	if (!h || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		int r = h ? -errno : -ENOMEM;

		free(h);
		return err_set(err, r, "cannot make a socket: %s", strerror(-r));
	}
	pthread_mutex_init(&h->lock, NULL);
	h->sock = pair[0];
	*theirs = pair[1];
	*hold = h;
	return 0;
}

int instant_take(struct vmm *vmm, uint32_t flags, int state, int registers, struct instant *instant,
		 struct cancel *cancel, struct err *err)
{
	const struct vmm_snapshot ask = {.flags = flags};
	bool memory = !(flags & VMM_SNAPSHOT_NO_MEMORY);
	struct vmm_snapshot_done done = {0};
	_cleanup_close_ int theirs = -1;
	struct hold *hold = NULL;
	struct vmm_reply reply = {.data = &done, .room = sizeof(done)};
	int fds[] = {state, registers, -1};
	int r = memory ? hold_new(&hold, &theirs, err) : 0;

	if (r < 0)
		return r;
	fds[2] = theirs;
	r = vmm_call(vmm,
		     &(struct vmm_request){.type = VMM_SNAPSHOT,
					   .data = &ask,
					   .len = sizeof(ask),
					   .fds = fds,
					   .n_fds = memory ? 3 : 2,
					   .timeout_ms = VMM_LOAD_MS,
					   .cancel = cancel},
		     &reply, err);
	if (r == 0)
		msg_close_fds(reply.fds, reply.n_fds);
	if (r == 0 && (reply.len < sizeof(done) || !believable(&done, vmm, state, registers)))
		r = err_set(err, -EIO, "the VMM answers what cannot be");
	if (r < 0) {
		hold_end(hold);
		return r;
	}
	if (hold)
		hold->ram_top = done.ram_top;
	*instant = (struct instant){.hold = hold, .done = done};
	return 0;
}

void hold_end(struct hold *hold)
{
	if (!hold)
		return;
	close(hold->sock);
	pthread_mutex_destroy(&hold->lock);
	free(hold);
}

/* --- packets -------------------------------------------------------------------------------- */

static void wake(void *arg)
{
	const uint64_t one = 1;

	if (write(*(const int *)arg, &one, sizeof(one)) < 0)
		return; /* it is awake */
}

/* Waits for the next packet. Its payload's length, or -errno with words. */
static ssize_t next_packet(struct hold *h, int wake_fd, struct vmm_msg_hdr *hdr, struct err *err)
{
	struct pollfd fds[] = {{.fd = h->sock, .events = POLLIN},
			       {.fd = wake_fd, .events = POLLIN}};
	int none[VMM_MSG_FDS], r;
	size_t n_fds = VMM_MSG_FDS;
	ssize_t n;

	do
		r = poll(fds, 2, SILENT_MS);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return err_set(err, -ETIMEDOUT, "who holds the memory does not answer");
	if (fds[1].revents)
		return err_set(err, -ECANCELED, "ended before it was done");
	n = msg_recv(h->sock, h->packet, sizeof(h->packet), none, &n_fds, MSG_DONTWAIT);
	if (n == 0 || n == -ECONNRESET)
		return err_set(err, -EIO, "who holds the memory went away");
	if (n < 0)
		return err_set(err, (int)n, "who holds the memory: %s", strerror((int)-n));
	msg_close_fds(none, n_fds);
	if ((size_t)n < sizeof(*hdr))
		return err_set(err, -EIO, "who holds the memory says what cannot be");
	memcpy(hdr, h->packet, sizeof(*hdr));
	if (hdr->len != (size_t)n - sizeof(*hdr))
		return err_set(err, -EIO, "who holds the memory says what cannot be");
	return n - (ssize_t)sizeof(*hdr);
}

static void show_progress(const struct hold *h, ssize_t len, struct job *job)
{
	struct vmm_hold_progress progress;

	if (len != sizeof(progress))
		return;
	memcpy(&progress, h->packet + sizeof(struct vmm_msg_hdr), sizeof(progress));
	if (progress.total > 0 && progress.done <= progress.total)
		job_progress(job, progress.done, progress.total, "bytes");
}

/* The words of an answer that says no. */
static int refused(const struct hold *h, const struct vmm_msg_hdr *hdr, struct err *err)
{
	const char *words = (const char *)h->packet + sizeof(*hdr);
	int r = vmm_believable(hdr->error);

	return err_set(err, r, "%.*s", (int)strnlen(words, hdr->len), words);
}

/* Until the answer of type @type to the last request: its length, or -errno with words. */
static ssize_t await(struct hold *h, uint32_t type, int wake_fd, struct job *job, struct err *err)
{
	for (;;) {
		struct vmm_msg_hdr hdr;
		ssize_t n = next_packet(h, wake_fd, &hdr, err);

		if (n < 0) {
			h->broken = true;
			return n;
		}
		if (hdr.seq != h->seq)
			continue; /* of a request that was given up */
		if (hdr.type == VMM_HOLD_PROGRESS)
			show_progress(h, n, job);
		else if (hdr.type == type)
			return hdr.error ? refused(h, &hdr, err) : n;
	}
}

struct hold_ask {
	uint32_t type, answer;
	const void *data;
	size_t len;
	const int *fds;
	size_t n_fds;
	struct job *job;
};

/* Asks, and waits: the answer's length, or -errno with words. */
static ssize_t ask(struct hold *h, const struct hold_ask *a, struct cancel *cancel, struct err *err)
{
	struct vmm_msg_hdr hdr = {.type = a->type, .seq = ++h->seq, .len = (uint32_t)a->len};
	_cleanup_close_ int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ssize_t r;

	if (h->broken)
		return err_set(err, -EIO, "who holds the memory went away");
	if (wake_fd < 0)
		return err_set(err, -errno, "eventfd: %s", strerror(errno));
	r = msg_send(h->sock, &hdr, sizeof(hdr), a->data, a->len, a->fds, a->n_fds, MSG_DONTWAIT);
	if (r < 0) {
		h->broken = true;
		return err_set(err, -EIO, "who holds the memory went away");
	}
	cancel_set_wake(cancel, wake, &wake_fd);
	r = await(h, a->answer, wake_fd, a->job, err);
	cancel_set_wake(cancel, NULL, NULL);
	return r;
}

/* --- writing -------------------------------------------------------------------------------- */

/* Leaves out the files that no extent refers to. */
static void drop_unused(struct memory_map *map)
{
	unsigned number[VMM_MEMORY_FILES_MAX] = {0}, n = 0;
	bool used[VMM_MEMORY_FILES_MAX] = {true}; /* the new one stays: it was just written */

	for (unsigned i = 0; i < map->n_extents; i++)
		used[map->extents[i].file] = true;
	for (unsigned i = 0; i < map->n_files; i++) {
		if (!used[i])
			continue;
		number[i] = n;
		memmove(map->files[n++], map->files[i], sizeof(map->files[i]));
	}
	for (unsigned i = 0; i < map->n_extents; i++)
		map->extents[i].file = number[map->extents[i].file];
	map->n_files = n;
}

/* What DONE says, into @map, whose kind, size and files are there. */
static int take_map(const struct hold *h, size_t len, struct memory_map *map,
		    struct vmm_hold_done *done, struct err *err)
{
	const uint8_t *body = h->packet + sizeof(struct vmm_msg_hdr);
	unsigned n = 0;
	int r;

	if (len >= sizeof(*done))
		memcpy(done, body, sizeof(*done));
	if (len < sizeof(*done) || done->n_extents > VMM_EXTENTS_MAX ||
	    len != sizeof(*done) + done->n_extents * sizeof(struct vmm_extent) ||
	    (map->kind == VMM_MEMORY_PACKED && done->n_extents > 0))
		return err_set(err, -EIO, "who holds the memory says what cannot be");
	for (unsigned i = 0; i < done->n_extents; i++) {
		struct vmm_extent e;

		memcpy(&e, body + sizeof(*done) + i * sizeof(e), sizeof(e));
		e.reserved = 0;
		if (e.file == VMM_EXTENT_ZERO)
			continue;
		if (e.file >= map->n_files)
			return err_set(err, -EIO, "memory in file %u, which is none", e.file);
		map->extents[n++] = e;
	}
	map->n_extents = n;
	r = memory_map_check(map, err);
	if (r < 0)
		return err_prefix(err, "what memory was written as");
	drop_unused(map);
	return 0;
}

/* The request: @data has room for all there may be. */
static size_t write_request(enum vmm_memory_kind kind, const struct memory_map *parent,
			    uint8_t *data)
{
	struct vmm_hold_write m = {.kind = kind};
	size_t extents = 0;

	if (parent) {
		m.n_extents = parent->n_extents;
		m.n_files = parent->n_files;
		extents = parent->n_extents * sizeof(parent->extents[0]);
		memcpy(data + sizeof(m), parent->extents, extents);
	}
	memcpy(data, &m, sizeof(m));
	return sizeof(m) + extents;
}

static void begin_map(const struct hold *h, enum vmm_memory_kind kind, const char *id,
		      const struct memory_map *parent, struct memory_map *map)
{
	map->kind = kind;
	map->bytes = h->ram_top;
	map->n_files = 1;
	map->n_extents = 0;
	snprintf(map->files[0], sizeof(map->files[0]), "%s", id);
	for (unsigned i = 0; parent && i < parent->n_files; i++)
		memcpy(map->files[map->n_files++], parent->files[i], sizeof(parent->files[i]));
}

int hold_write(struct hold *hold, enum vmm_memory_kind kind, int fd, const char *id,
	       const struct memory_map *parent, const int parent_fds[VMM_MEMORY_FILES_MAX],
	       struct memory_map *map, struct vmm_hold_done *done, struct job *job,
	       struct cancel *cancel, struct err *err)
{
	const size_t room =
	    sizeof(struct vmm_hold_write) + VMM_EXTENTS_MAX * sizeof(struct vmm_extent);
	_cleanup_free_ uint8_t *data = malloc(room);
	int fds[VMM_MEMORY_FILES_MAX] = {fd};
	ssize_t n;

	if (!data)
		return err_set(err, -ENOMEM, "no memory");
	/* Without it where it is of no use: all is written then. */
	if (parent && (kind != VMM_MEMORY_RAW || parent->kind != VMM_MEMORY_RAW ||
		       parent->bytes != hold->ram_top || parent->n_extents == 0 ||
		       parent->n_files >= VMM_MEMORY_FILES_MAX))
		parent = NULL;
	for (unsigned i = 0; parent && i < parent->n_files; i++)
		fds[1 + i] = parent_fds[i];
	begin_map(hold, kind, id, parent, map);
	LOCK_SCOPE(&hold->lock);
	n = ask(hold,
		&(struct hold_ask){.type = VMM_HOLD_WRITE,
				   .answer = VMM_HOLD_DONE,
				   .data = data,
				   .len = write_request(kind, parent, data),
				   .fds = fds,
				   .n_fds = 1 + (parent ? parent->n_files : 0),
				   .job = job},
		cancel, err);
	return n < 0 ? (int)n : take_map(hold, (size_t)n, map, done, err);
}

/* --- clones --------------------------------------------------------------------------------- */

int hold_clone(struct hold *hold, int listening, int log, struct cancel *cancel, struct err *err)
{
	const int fds[] = {listening, log};
	ssize_t n;

	LOCK_SCOPE(&hold->lock);
	n = ask(hold,
		&(struct hold_ask){.type = VMM_HOLD_CLONE,
				   .answer = VMM_HOLD_CLONED,
				   .fds = fds,
				   .n_fds = nitems(fds)},
		cancel, err);
	return n < 0 ? (int)n : 0;
}
