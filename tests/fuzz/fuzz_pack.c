// SPDX-License-Identifier: ISC
/*
 * Packed memory of anybody, read all at once. The first byte of the input says how it is one:
 *
 *	even	the rest is the file
 *	odd	a header and an index that are sound are made: for each chunk three bytes of the
 *		input say where its frame begins and how long it is; the rest are frames
 *
 * It is refused with words, or memory is filled within its bounds.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/pack_int.h"

#define CHUNKS	 5
#define MEMORY	 (CHUNKS * PACK_CHUNK - 3 * 4096)
#define FILE_MAX (1u << 20)

static void must(bool so)
{
	if (!so)
		abort();
}

static size_t make_file(uint8_t *file, const uint8_t *data, size_t len)
{
	uint8_t header[PACK_HEADER] = PACK_MAGIC, index[CHUNKS * PACK_ENTRY] = {0};
	size_t frames;

	for (unsigned i = 0; i < CHUNKS && len >= 3; i++) {
		pack_put64(index + i * PACK_ENTRY, PACK_HEADER + data[0] * 16u);
		pack_put32(index + i * PACK_ENTRY + 8, data[1] | (data[2] & 0x1fu) << 8);
		data += 3;
		len -= 3;
	}
	frames = len < FILE_MAX - PACK_HEADER - sizeof(index)
		     ? len
		     : FILE_MAX - PACK_HEADER - sizeof(index);
	pack_put32(header + 8, PACK_VERSION);
	pack_put32(header + 12, PACK_CHUNK);
	pack_put64(header + 16, MEMORY);
	pack_put64(header + 24, PACK_HEADER + frames);
	pack_put64(header + 32, CHUNKS);
	pack_put32(header + 40, (uint32_t)crc32_z(0, index, sizeof(index)));
	pack_put32(header + 60, (uint32_t)crc32_z(0, header, 60));
	memcpy(file, header, PACK_HEADER);
	memcpy(file + PACK_HEADER, data, frames);
	memcpy(file + PACK_HEADER + frames, index, sizeof(index));
	return PACK_HEADER + frames + sizeof(index);
}

static void load(const uint8_t *file, size_t bytes)
{
	struct memory m = {.uffd = -1, .pagemap_fd = -1};
	int fd = memfd_create("packed", MFD_CLOEXEC), r;
	struct err err = ERR_INIT;

	must(fd >= 0 && write(fd, file, bytes) == (ssize_t)bytes);
	must(memory_new(&m, MEMORY, false, &err) == 0 && memory_map(&m, &err) == 0);
	r = pack_load(&m, fd, -1, &err);
	must(r == 0 ? m.filled : err.text[0] != '\0');
	must(!m.pack);
	memory_free(&m);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t file[FILE_MAX];

	if (len == 0 || len > FILE_MAX)
		return 0;
	if (data[0] & 1)
		load(file, make_file(file, data + 1, len - 1));
	else
		load(data + 1, len - 1);
	return 0;
}
