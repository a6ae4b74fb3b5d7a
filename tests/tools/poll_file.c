// SPDX-License-Identifier: ISC
/*
 * Waits for a change of a file with poll(2), as one does on sysfs: reads it, waits
 * for POLLPRI, goes back to the start and reads it again.
 *
 *   poll_file SECONDS FILE [CHANGES]    prints the contents at first and after each change;
 *                                       0 after CHANGES (1) of them, 1 when time is up
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int show(int fd)
{
	char buf[4096];
	ssize_t n = pread(fd, buf, sizeof(buf), 0);

	if (n < 0) {
		perror("read");
		return -1;
	}
	fwrite(buf, 1, (size_t)n, stdout);
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	int changes = argc > 3 ? atoi(argv[3]) : 1;
	struct pollfd p = {.events = POLLPRI};

	if (argc < 3) {
		fprintf(stderr, "usage: poll_file SECONDS FILE [CHANGES]\n");
		return 2;
	}
	p.fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (p.fd < 0 || show(p.fd) < 0) {
		fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
		return 2;
	}
	while (changes-- > 0) {
		int r = poll(&p, 1, atoi(argv[1]) * 1000);

		if (r <= 0 || !(p.revents & POLLPRI)) {
			fprintf(stderr, "poll: %d, revents %#x\n", r, (unsigned)p.revents);
			return 1;
		}
		if (show(p.fd) < 0)
			return 2;
	}
	return 0;
}
