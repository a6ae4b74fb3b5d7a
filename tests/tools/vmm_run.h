/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_VMM_RUN_H
#define FV_TEST_VMM_RUN_H
/* Of vmm_run: what it knows of its VMM, and packets to and from it. Included once. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/vmm_proto.h"
#include "storage/image.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/msg.h"

struct run {
	/* asked for */
	const char *vmm, *kernel, *initrd, *cmdline, *until, *log_path, *tap;
	const char *connect, *state, *map; /* going on from an instant */
	const char *disks[VMM_DISKS_MAX];
	unsigned n_disks, cpus, on_reboot, on_poweroff, on_crash, uid, malformed, queues, timeout_s;
	uint64_t memory_mib;
	bool hugepages, times, stays, once, clone, killed;
	/* going on */
	struct sockaddr_un address;
	int sock, log_fd, read_fd, stats_fd;
	int hold; /* the socket of who holds an instant's memory; -1: none */
	pid_t pid;
	uint32_t seq;
	uint64_t log_at;
	char tail[4096]; /* of the console, for --until and !console */
	size_t tail_len;
	char disk_news[16384]; /* lines "NAME EVENT" that nobody waited for yet */
	bool reached, ended;
	struct vmm_status status;
	struct timespec began;
};

static double ms_since(const struct timespec *t)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - t->tv_sec) * 1e3 + (double)(now.tv_nsec - t->tv_nsec) / 1e6;
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("vmm_run: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static void mark(const struct run *r, const char *what)
{
	if (r->times)
		fprintf(stderr, "%8.3f ms  %s\n", ms_since(&r->began), what);
}

/* --- console ------------------------------------------------------------------------------------
 */

static void show_console(struct run *r)
{
	char buf[2048];
	ssize_t n;

	while ((n = pread(r->read_fd, buf, sizeof(buf), (off_t)r->log_at)) > 0) {
		if (r->log_at == 0)
			mark(r, "first byte of the console in its log");
		r->log_at += (uint64_t)n;
		if (file_write_all(STDOUT_FILENO, buf, (size_t)n) < 0)
			die("stdout: %m");
		if (r->tail_len + (size_t)n >= sizeof(r->tail)) {
			memmove(r->tail, r->tail + r->tail_len / 2, r->tail_len - r->tail_len / 2);
			r->tail_len -= r->tail_len / 2;
		}
		memcpy(r->tail + r->tail_len, buf, (size_t)n);
		r->tail_len += (size_t)n;
		if (r->until && memmem(r->tail, r->tail_len, r->until, strlen(r->until)))
			r->reached = true;
	}
}

/* --- packets
 * -------------------------------------------------------------------------------------- */

static void show_disk_event(struct run *r, const void *body)
{
	static const char *const whats[] = {"attached", "detached", "failed"};
	size_t len = strlen(r->disk_news), left = sizeof(r->disk_news) - len;
	struct vmm_disk_event event;

	memcpy(&event, body, sizeof(event));
	if (event.what >= nitems(whats))
		die("unknown event %u of a disk", event.what);
	fprintf(stderr, "disk %s %s: %s\n", event.name, whats[event.what], event.text);
	if ((size_t)snprintf(r->disk_news + len, left, "%s %s\n", event.name, whats[event.what]) >=
	    left)
		r->disk_news[len] = '\0';
}

static void show_nic_news(const void *body)
{
	struct vmm_nic_news news;
	char text[INET6_ADDRSTRLEN] = "";

	memcpy(&news, body, sizeof(news));
	if (news.what == VMM_NIC_ADDRESS)
		inet_ntop(news.len == 4 ? AF_INET : AF_INET6, news.addr, text, sizeof(text));
	fprintf(stderr, "nic %s news %u %s\n", news.name, news.what, text);
}

static void on_event(struct run *r, const struct vmm_msg_hdr *hdr, const void *body)
{
	static const char *const states[] = {"new", "running", "paused", "ended"};
	static const char *const reasons[] = {"", "poweroff", "reboot", "crash", "fault", "io"};

	if (hdr->type == VMM_EV_CONSOLE) {
		show_console(r);
		return;
	}
	if (hdr->type == VMM_EV_DISK && hdr->len == sizeof(struct vmm_disk_event)) {
		show_disk_event(r, body);
		return;
	}
	if (hdr->type == VMM_EV_NIC_NEWS && hdr->len == sizeof(struct vmm_nic_news)) {
		show_nic_news(body);
		return;
	}
	if (hdr->type != VMM_EV_STATE || hdr->len != sizeof(r->status))
		die("unknown event %u", hdr->type);
	memcpy(&r->status, body, sizeof(r->status));
	if (r->status.state >= nitems(states) || r->status.reason >= nitems(reasons))
		die("unknown state %u, reason %u", r->status.state, r->status.reason);
	fprintf(stderr, "state %s %s resets=%llu: %s\n", states[r->status.state],
		reasons[r->status.reason], (unsigned long long)r->status.resets, r->status.text);
	r->ended = r->status.state == VMM_STATE_ENDED;
}

static void __attribute__((noreturn)) hung_up(const struct run *r)
{
	int status = 0;

	for (int i = 0; i < 100 && waitpid(r->pid, &status, WNOHANG) == 0; i++)
		usleep(10000);
	die("the VMM hung up (status %#x)", status);
}

/* Takes a packet; true if it is the reply to r->seq. */
static bool take_packet(struct run *r, struct vmm_msg_hdr *hdr, void *body, int *fds, size_t *n_fds)
{
	static uint8_t packet[VMM_MSG_MAX];
	ssize_t n = msg_recv(r->sock, packet, sizeof(packet), fds, n_fds, 0);

	if (n == 0 || n == -ECONNRESET)
		hung_up(r);
	if (n < (ssize_t)sizeof(*hdr))
		die("receiving: %s", n < 0 ? strerror((int)-n) : "short packet");
	memcpy(hdr, packet, sizeof(*hdr));
	if (hdr->len != (size_t)n - sizeof(*hdr))
		die("packet of wrong length");
	if (hdr->type != VMM_REPLY) {
		on_event(r, hdr, packet + sizeof(*hdr));
		return false;
	}
	memcpy(body, packet + sizeof(*hdr), hdr->len);
	return hdr->seq == r->seq;
}

/* Asks and waits; 0 or -errno with the words shown. Descriptors of the reply go to @got. */
static int ask(struct run *r, uint32_t type, const void *body, size_t len, const int *fds,
	       size_t n_fds, void *reply, int *got, size_t *n_got)
{
	struct vmm_msg_hdr hdr = {.type = type, .seq = ++r->seq, .len = (uint32_t)len};
	static uint8_t answer[VMM_MSG_MAX];
	int none[VMM_MSG_FDS];
	size_t n;
	int ret = msg_send(r->sock, &hdr, sizeof(hdr), body, len, fds, n_fds, 0);

	if (ret < 0)
		die("sending: %s", strerror(-ret));
	do
		n = VMM_MSG_FDS;
	while (!take_packet(r, &hdr, answer, none, &n));
	if (hdr.error < 0) {
		fprintf(stderr, "request %u: %s: %.*s\n", type, strerror(-hdr.error), (int)hdr.len,
			(char *)answer);
		return hdr.error;
	}
	if (reply)
		memcpy(reply, answer, hdr.len);
	if (got) {
		memcpy(got, none, n * sizeof(int));
		*n_got = n;
	} else {
		msg_close_fds(none, n);
	}
	return 0;
}

static void must(struct run *r, uint32_t type, const void *body, size_t len, const int *fds,
		 size_t n_fds)
{
	if (ask(r, type, body, len, fds, n_fds, NULL, NULL, NULL) < 0)
		exit(1);
}

/* --- start
 * ------------------------------------------------------------------------------------------ */

#endif
