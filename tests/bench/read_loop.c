// SPDX-License-Identifier: ISC
/*
 * Times open, read, close of small files, taking turns between the given paths
 * so that both sides of a comparison see the same noise.
 *
 *   read_loop ROUNDS PATH...     prints "median_ns path" for each
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t read_once(const char *path)
{
	uint64_t start = now_ns();
	char buf[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, buf, sizeof(buf)) <= 0) {
		perror(path);
		exit(1);
	}
	close(fd);
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	long rounds = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
	int paths = argc - 2;
	uint64_t *t;

	if (rounds < 1 || rounds > 10000000) {
		fprintf(stderr, "usage: read_loop ROUNDS PATH...\n");
		return 2;
	}
	t = calloc((size_t)rounds * (size_t)paths, sizeof(*t));
	if (!t)
		return 1;
	for (long r = 0; r < rounds; r++)
		for (int p = 0; p < paths; p++)
			t[(long)p * rounds + r] = read_once(argv[p + 2]);
	for (int p = 0; p < paths; p++) {
		qsort(t + (long)p * rounds, (size_t)rounds, sizeof(*t), by_value);
		printf("%llu %s\n", (unsigned long long)t[(long)p * rounds + rounds / 2],
		       argv[p + 2]);
	}
	free(t);
	return 0;
}
