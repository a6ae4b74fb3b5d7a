// SPDX-License-Identifier: ISC
/*
 * Guest memory for its readers. The guest goes on writing to it: each byte is as it
 * was at some moment of the answer. What was never touched stays so (memory_data.c); where
 * that cannot be told, as in a clone of a running guest, STATUS looks for zeroes.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "vmm/memory_peek.h"

#define PAGE	   4096ull
#define SCAN_BYTES (16ull << 20) /* looked through for one answer */

/* Bytes from @gpa on that lie within one piece of RAM, or between two; at most @bytes. */
static uint64_t part(const struct gmem *mem, uint64_t gpa, uint64_t bytes, const uint8_t **host)
{
	*host = NULL;
	for (unsigned i = 0; i < mem->n_regions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		if (gpa >= r->gpa + r->bytes)
			continue;
		if (gpa < r->gpa)
			return r->gpa - gpa < bytes ? r->gpa - gpa : bytes;
		*host = r->host + (gpa - r->gpa);
		gpa = r->gpa + r->bytes - gpa;
		return gpa < bytes ? gpa : bytes;
	}
	return bytes;
}

static int peek_read(void *arg, uint64_t gpa, uint64_t bytes, void *to)
{
	const struct memory *m = arg;
	uint64_t at = gpa, end = gpa + bytes, from, until;

	if (gpa > m->ram_top || bytes > m->ram_top - gpa)
		return -EINVAL;
	while (at < end && memory_next_data(m, at, &from, &until) && from < end) {
		struct gmem mem;
		void *host;

		from = from > at ? from : at;
		until = until < end ? until : end;
		memory_describe(m, &mem);
		memset((uint8_t *)to + (at - gpa), 0, from - at);
		host = gmem_ptr(&mem, from, until - from);
		memcpy((uint8_t *)to + (from - gpa), host, until - from);
		at = until;
	}
	memset((uint8_t *)to + (at - gpa), 0, end - at);
	return 0;
}

/* --- status ----------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *p, uint64_t bytes)
{
	return *p == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}

/* How far it goes on as it begins; *@zero: as what. */
static uint64_t scan(const uint8_t *host, uint64_t gpa, uint64_t bytes, bool *zero)
{
	uint64_t at = 0;

	while (at < bytes && at < SCAN_BYTES) {
		uint64_t n = PAGE - (gpa + at) % PAGE;
		bool same;

		n = n < bytes - at ? n : bytes - at;
		same = is_zero(host + at, n);
		if (at == 0)
			*zero = same;
		else if (same != *zero)
			break;
		at += n;
	}
	return at;
}

static int peek_status(void *arg, struct vmm_peek *peek)
{
	const struct memory *m = arg;
	uint64_t bytes = peek->bytes, from, until;
	const uint8_t *host;
	struct gmem mem;
	bool zero = true;

	if (bytes == 0 || peek->offset >= m->ram_top)
		return -EINVAL;
	if (bytes > m->ram_top - peek->offset)
		bytes = m->ram_top - peek->offset;
	memory_describe(m, &mem);
	if (memory_tells(m)) {
		if (memory_next_data(m, peek->offset, &from, &until)) {
			zero = from > peek->offset;
			until = (zero ? from : until) - peek->offset;
			bytes = until < bytes ? until : bytes;
		}
	} else {
		bytes = part(&mem, peek->offset, bytes, &host);
		if (host)
			bytes = scan(host, peek->offset, bytes, &zero);
	}
	peek->bytes = bytes;
	peek->flags = zero ? VMM_PEEK_ZERO : VMM_PEEK_DATA;
	return 0;
}

static const struct peek_ops ops = {.thread = "peek", .read = peek_read, .status = peek_status};

/* --- readers ---------------------------------------------------------------------------------- */

int memory_reader_add(struct memory_readers *readers, const struct memory *m, int sock, int wake_fd,
		      struct vmm_snapshot_info *info, int *room_fd, struct err *err)
{
	unsigned i = 0;

	*room_fd = -1;
	while (i < MEMORY_READERS_MAX && readers->servers[i])
		i++;
	if (i == MEMORY_READERS_MAX) {
		close(sock);
		return err_set(err, -EBUSY, "memory: %u read it already", i);
	}
	*info = (struct vmm_snapshot_info){.bytes = m->ram_top, .room_bytes = PEEK_ROOM_BYTES};
	return peek_server_new(&readers->servers[i], &ops, (void *)m, sock, wake_fd, room_fd, err);
}

void memory_readers_reap(struct memory_readers *readers)
{
	for (unsigned i = 0; i < MEMORY_READERS_MAX; i++)
		if (readers->servers[i] && peek_server_over(readers->servers[i]))
			peek_server_free(take_ptr(readers->servers[i]));
}

void memory_readers_end(struct memory_readers *readers)
{
	for (unsigned i = 0; i < MEMORY_READERS_MAX; i++)
		peek_server_free(take_ptr(readers->servers[i]));
}
