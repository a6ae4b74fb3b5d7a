// SPDX-License-Identifier: ISC
/*
 * Microseconds that QEMU takes to save its guest into a file: "migrate" to `cat`, over QMP.
 *
 *   qmp_save SOCKET FILE
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char answer[1 << 16];

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000;
}

/* The next line with @key in it; NULL when the other side is gone. */
static const char *expect(int fd, const char *key)
{
	for (size_t n = 0; n + 1 < sizeof(answer);) {
		if (read(fd, answer + n, 1) != 1)
			return NULL;
		if (answer[n++] != '\n')
			continue;
		answer[n] = '\0';
		if (strstr(answer, key))
			return answer;
		n = 0;
	}
	return NULL;
}

static const char *ask(int fd, const char *text, const char *key)
{
	if (write(fd, text, strlen(text)) < 0)
		return NULL;
	return expect(fd, key);
}

static int save(int fd, const char *file)
{
	const struct timespec nap = {.tv_nsec = 2000000};
	char text[4352];
	const char *status;

	snprintf(text, sizeof(text),
		 "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"exec:cat > %s\"}}\n", file);
	if (!ask(fd, text, "\"return\""))
		return -1;
	do {
		nanosleep(&nap, NULL);
		status = ask(fd, "{\"execute\":\"query-migrate\"}\n", "\"return\"");
	} while (status && !strstr(status, "completed") && !strstr(status, "failed"));
	return status && strstr(status, "completed") ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t start;

	if (argc != 3 || strlen(argv[1]) >= sizeof(addr.sun_path))
		return 2;
	strcpy(addr.sun_path, argv[1]);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    !expect(fd, "QMP") || !ask(fd, "{\"execute\":\"qmp_capabilities\"}\n", "\"return\"") ||
	    !ask(fd,
		 "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":"
		 "9000000000}}\n",
		 "\"return\"")) {
		perror(argv[1]);
		return 1;
	}
	start = now_us();
	if (save(fd, argv[2]) < 0) {
		fprintf(stderr, "qmp_save: %s\n", answer);
		return 1;
	}
	printf("%llu\n", (unsigned long long)(now_us() - start));
	return 0;
}
