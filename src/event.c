// SPDX-License-Identifier: ISC
/*
 * The log of events. See event.h. A line is one write(2) on a descriptor with
 * O_APPEND; where that fails or is short (no room), the file is cut back to the last whole
 * line, the event is lost, and the log of the daemon says so.
 */
#define LOG_MODULE "events"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "event.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define LINE_MAX_BYTES 65536 /* longer than any event: what is looked at to find the last line */

static const char *const file_names[] = {"events", "events.old"};

struct events {
	int dir; /* own descriptor */
	uint64_t limit;
	pthread_mutex_t lock; /* guards what follows */
	int fd;
	uint64_t size;
	uint64_t seq; /* of the last event written */
};

/* --- finding the end of what an earlier daemon wrote ----------------------------------- */

/* The last whole line of the file: its "seq", and the offset behind it. */
static int last_line(int fd, uint64_t *seq, uint64_t *end)
{
	char buf[LINE_MAX_BYTES + 1];
	struct stat st;
	size_t len;
	off_t from;
	char *newline, *line;

	if (fstat(fd, &st) < 0)
		return -errno;
	from = st.st_size > LINE_MAX_BYTES ? st.st_size - LINE_MAX_BYTES : 0;
	len = (size_t)(st.st_size - from);
	if (file_pread_all(fd, buf, len, from) < 0)
		return -EIO;
	buf[len] = '\0';
	*end = 0;
	*seq = 0;
	newline = memrchr(buf, '\n', len);
	if (!newline)
		return 0; /* nothing whole in it */
	*end = (uint64_t)from + (uint64_t)(newline - buf) + 1;
	line = memrchr(buf, '\n', (size_t)(newline - buf));
	line = line ? line + 1 : buf;
	*newline = '\0';
	if (strncmp(line, "{\"seq\":", 7) == 0)
		*seq = strtoull(line + 7, NULL, 10);
	return 0;
}

static int open_log(struct events *ev)
{
	ev->fd =
	    openat(ev->dir, "events", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return ev->fd < 0 ? -errno : 0;
}

static int recover(struct events *ev)
{
	_cleanup_close_ int old = openat(ev->dir, "events.old", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint64_t end, seq;
	int r = open_log(ev);

	if (r == 0)
		r = last_line(ev->fd, &ev->seq, &ev->size);
	if (r == 0 && ftruncate(ev->fd, (off_t)ev->size) < 0)
		r = -errno;
	if (r == 0 && old >= 0 && last_line(old, &seq, &end) == 0 && seq > ev->seq)
		ev->seq = seq;
	return r;
}

int events_open(struct events **out, int dir, uint64_t limit_bytes)
{
	struct events *ev = calloc(1, sizeof(*ev));
	int r;

	if (!ev)
		return -ENOMEM;
	pthread_mutex_init(&ev->lock, NULL);
	ev->limit = limit_bytes;
	ev->fd = -1;
	ev->dir = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = ev->dir < 0 ? -errno : recover(ev);
	if (r < 0) {
		events_close(ev);
		return r;
	}
	*out = ev;
	return 0;
}

void events_close(struct events *ev)
{
	if (!ev)
		return;
	if (ev->fd >= 0)
		close(ev->fd);
	if (ev->dir >= 0)
		close(ev->dir);
	pthread_mutex_destroy(&ev->lock);
	free(ev);
}

/* --- writing --------------------------------------------------------------------------- */

void event_begin(struct strbuf *sb, const char *kind)
{
	strbuf_puts(sb, ",\"event\":");
	strbuf_json(sb, kind);
}

void event_text(struct strbuf *sb, const char *name, const char *value)
{
	strbuf_printf(sb, ",\"%s\":", name);
	strbuf_json(sb, value);
}

void event_number(struct strbuf *sb, const char *name, uint64_t value)
{
	strbuf_printf(sb, ",\"%s\":%llu", name, (unsigned long long)value);
}

/* Under the lock. The old log goes, the present one becomes the old one. */
static void rotate(struct events *ev)
{
	int full = ev->fd;

	if (renameat(ev->dir, "events", ev->dir, "events.old") < 0) {
		log_error("cannot rename events: %m");
		return;
	}
	if (open_log(ev) < 0) {
		log_error("cannot make a new events: %m");
		ev->fd = full;
		return;
	}
	close(full);
	ev->size = 0;
}

static void stamp(struct strbuf *line, uint64_t seq)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strbuf_printf(line, "{\"seq\":%llu,\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ\"",
		      (unsigned long long)seq, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		      tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000);
}

void events_write(struct events *ev, struct strbuf *sb)
{
	_cleanup_strbuf_ struct strbuf line = STRBUF_INIT;
	ssize_t n;

	LOCK_SCOPE(&ev->lock);
	if (ev->size >= ev->limit)
		rotate(ev);
	stamp(&line, ev->seq + 1);
	strbuf_add(&line, sb->data, sb->len);
	strbuf_puts(&line, "}\n");
	if (line.failed || sb->failed || line.len > LINE_MAX_BYTES) {
		log_error("an event of %zu bytes is lost", line.len);
		strbuf_free(sb);
		return;
	}
	strbuf_free(sb);
	n = write(ev->fd, line.data, line.len);
	if (n == (ssize_t)line.len) {
		ev->seq++;
		ev->size += line.len;
		return;
	}
	log_error("an event is lost: %s", n < 0 ? strerror(errno) : "no room");
	if (n > 0 && ftruncate(ev->fd, (off_t)ev->size) < 0)
		log_error("cannot cut events back: %m");
}

/* --- reading --------------------------------------------------------------------------- */

int events_open_file(struct events *ev, bool old)
{
	int fd = openat(ev->dir, file_names[old], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

int events_stat(struct events *ev, bool old, uint64_t *size, struct timespec *mtime)
{
	struct stat st;

	if (fstatat(ev->dir, file_names[old], &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	*mtime = st.st_mtim;
	return 0;
}
