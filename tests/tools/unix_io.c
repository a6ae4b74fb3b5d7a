// SPDX-License-Identifier: ISC
/*
 * Unix stream sockets for shell scripts.
 *
 *	unix_io connect PATH	  sends its standard input and then its end, prints what comes back
 *	unix_io echo PATH	  listens, and gives each connection back what it sends, for ever
 *	unix_io many PATH N	  N connections at once, a line there and back on each; then says
 *				  how many had it back, and waits for the end of its input
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "unix_io: too long: %s\n", path);
		exit(1);
	}
	strcpy(addr.sun_path, path);
	return addr;
}

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		perror("unix_io: socket");
		exit(1);
	}
	return fd;
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = address(path);
	int fd = open_socket();

	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		perror("unix_io: connect");
		exit(2);
	}
	return fd;
}

static void write_all(int fd, const char *data, ssize_t n)
{
	while (n > 0) {
		ssize_t part = write(fd, data, (size_t)n);

		if (part < 0 && errno == EINTR)
			continue;
		if (part < 0) {
			perror("unix_io: write");
			exit(1);
		}
		data += part;
		n -= part;
	}
}

/* False at the end, or where the other side is gone. */
static int move(int from, int to)
{
	static char buf[65536];
	ssize_t n = read(from, buf, sizeof(buf));

	if (n > 0)
		write_all(to, buf, n);
	return n > 0;
}

/* The input has a process of its own: neither direction waits for the other. */
static int do_connect(const char *path)
{
	int fd = connect_to(path);
	pid_t pid = fork();

	if (pid == 0) {
		while (move(0, fd))
			;
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	while (move(fd, 1))
		;
	kill(pid, SIGTERM);
	return 0;
}

static int do_echo(const char *path)
{
	struct sockaddr_un addr = address(path);
	int fd = open_socket();

	unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0) {
		perror("unix_io: listen");
		return 1;
	}
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int conn = accept(fd, NULL, NULL);

		if (conn >= 0 && fork() == 0) {
			close(fd);
			while (move(conn, conn))
				;
			_exit(0);
		}
		if (conn >= 0)
			close(conn);
	}
}

static int do_many(const char *path, int n)
{
	int *fds = calloc((size_t)n, sizeof(*fds)), good = 0;
	struct rlimit limit;
	char line[16], got[16];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < n; i++)
		fds[i] = connect_to(path);
	for (int i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "%06d\n", i);
		if (send(fds[i], line, 7, MSG_NOSIGNAL) != 7)
			continue;
	}
	for (int i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "%06d\n", i);
		good += recv(fds[i], got, 7, MSG_WAITALL) == 7 && memcmp(got, line, 7) == 0;
	}
	printf("%d\n", good);
	fflush(stdout);
	while (read(0, got, sizeof(got)) > 0)
		;
	free(fds);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "connect") == 0)
		return do_connect(argv[2]);
	if (argc == 3 && strcmp(argv[1], "echo") == 0)
		return do_echo(argv[2]);
	if (argc == 4 && strcmp(argv[1], "many") == 0)
		return do_many(argv[2], atoi(argv[3]));
	fprintf(stderr, "usage: unix_io connect|echo PATH | many PATH N\n");
	return 1;
}
