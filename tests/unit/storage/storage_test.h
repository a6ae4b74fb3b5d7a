/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_STORAGE_H
#define FV_TEST_STORAGE_H
/* Helpers of the storage tests: files without a name, random numbers that repeat. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "storage/block_node.h"
#include "util/cleanup.h"

/* An unlinked file of @bytes on a real file system (not tmpfs where it can be had). */
static inline int test_file(uint64_t bytes)
{
	const char *dir = getenv("TEST_DIR");
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/storage-test-XXXXXX", dir ? dir : "/var/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, bytes), 0);
	return fd;
}

static inline uint32_t test_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

static inline void test_fill(void *buf, size_t len, uint64_t *state)
{
	uint8_t *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = i % 64 ? p[i - 1] + 1u : test_random(state);
}

#endif
