// SPDX-License-Identifier: ISC
/*
 * The console between the guest's serial port and the host.
 *
 * Output gathers in one of two buffers, and goes to the log by console_flush(),
 * which swaps them under the lock and writes without it. That is the control
 * thread's work; but a vcpu that finds the buffer full does it itself, so nobody
 * ever waits for the control thread, which may just be waiting for this vcpu to
 * stand still. The pty gets what it takes at once: who does not read it
 * misses something, the log has it all.
 *
 * Input waits in a ring until the reader's device takes it. While the ring
 * is full the pty is not read (it tells its writer to wait), and
 * VMM_CONSOLE_INPUT is told that nothing was taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>

#define LOG_MODULE "console"
#include "vmm/console_int.h"
#include "vmm/state.h"
#include "util/cleanup.h"
#include "util/log.h"

#define OUT_BYTES 8192
#define IN_BYTES  8192 /* a power of two, at least twice VMM_CONSOLE_IN_MAX */

struct console {
	int wake_fd; /* borrowed: an eventfd that the control thread waits for */
	uint64_t *stat_out, *stat_in, *stat_dropped;

	pthread_mutex_t flush_lock; /* one flush at a time; taken before lock */
	int log_fd, pty_fd;
	uint64_t log_limit;
	bool log_failed; /* said so */

	pthread_mutex_t lock; /* guards all that follows */
	uint8_t out[2][OUT_BYTES];
	unsigned current; /* the buffer that gathers */
	size_t out_len;
	uint64_t printed; /* bytes handed to the log so far; atomic */
	uint8_t in[IN_BYTES];
	size_t in_head, in_len;
	bool pty_waits; /* the pty has more than the ring could take */

	pthread_mutex_t reader_lock; /* guards notify, held while it is called */
	void (*notify)(void *arg);
	void *notify_arg;
};

int console_new(struct console **out, struct stats *stats, int wake_fd)
{
	struct console *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->wake_fd = wake_fd;
	c->log_fd = c->pty_fd = -1;
	c->stat_out = stats_counter(stats, "console.out_bytes");
	c->stat_in = stats_counter(stats, "console.in_bytes");
	c->stat_dropped = stats_counter(stats, "console.dropped_bytes");
	pthread_mutex_init(&c->flush_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->reader_lock, NULL);
	*out = c;
	return 0;
}

void console_free(struct console *c)
{
	if (!c)
		return;
	if (c->log_fd >= 0)
		close(c->log_fd);
	if (c->pty_fd >= 0)
		close(c->pty_fd);
	pthread_mutex_destroy(&c->flush_lock);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->reader_lock);
	free(c);
}

static void wake(struct console *c)
{
	const uint64_t one = 1;

	/* Fails only when the count is at its limit, and then it is readable anyway. */
	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* No echo of what the guest prints as if it were typed, and every byte as it is. */
static void make_raw(int fd)
{
	struct termios t;

	if (tcgetattr(fd, &t) < 0)
		return;
	cfmakeraw(&t);
	tcsetattr(fd, TCSANOW, &t);
}

int console_attach(struct console *c, int log_fd, int pty_fd, uint64_t log_limit)
{
	int flags;

	if (pty_fd >= 0) {
		flags = fcntl(pty_fd, F_GETFL);
		if (flags < 0 || fcntl(pty_fd, F_SETFL, flags | O_NONBLOCK) < 0)
			return -errno;
		make_raw(pty_fd);
	}
	console_flush(c);
	LOCK_SCOPE(&c->flush_lock);
	if (c->log_fd >= 0)
		close(c->log_fd);
	c->log_fd = log_fd;
	if (pty_fd >= 0) {
		if (c->pty_fd >= 0)
			close(c->pty_fd);
		c->pty_fd = pty_fd;
	}
	c->log_limit = log_limit;
	c->log_failed = false;
	return 0;
}

/* How many of @len bytes the log may still take. */
static size_t log_room(const struct console *c, size_t len)
{
	struct stat st;

	if (c->log_limit == 0 || fstat(c->log_fd, &st) < 0)
		return len;
	if ((uint64_t)st.st_size >= c->log_limit)
		return 0;
	return c->log_limit - (uint64_t)st.st_size < len ? c->log_limit - (uint64_t)st.st_size
							 : len;
}

/* Under flush_lock. */
static void write_log(struct console *c, const uint8_t *data, size_t len)
{
	size_t room, done = 0;

	if (c->log_fd < 0) {
		stats_add(c->stat_dropped, len);
		return;
	}
	room = log_room(c, len);
	while (done < room) {
		ssize_t n = write(c->log_fd, data + done, room - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (!c->log_failed)
				log_warn("console log: %s", strerror(n < 0 ? errno : EIO));
			c->log_failed = true;
			break;
		}
		done += (size_t)n;
		c->log_failed = false;
	}
	stats_add(c->stat_dropped, len - done);
}

uint64_t console_flush(struct console *c)
{
	LOCK_SCOPE(&c->flush_lock);
	const uint8_t *data;
	size_t len;

	pthread_mutex_lock(&c->lock);
	data = c->out[c->current];
	len = c->out_len;
	c->current ^= 1;
	c->out_len = 0;
	pthread_mutex_unlock(&c->lock);

	if (len > 0) {
		write_log(c, data, len);
		/* Nobody may be reading: what does not fit is lost for the pty alone. */
		if (c->pty_fd >= 0 && write(c->pty_fd, data, len) < 0)
			errno = 0;
		__atomic_add_fetch(&c->printed, len, __ATOMIC_RELEASE);
	}
	return __atomic_load_n(&c->printed, __ATOMIC_ACQUIRE);
}

uint64_t console_printed(const struct console *c)
{
	return __atomic_load_n(&c->printed, __ATOMIC_ACQUIRE);
}

void console_output(struct console *c, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	stats_add(c->stat_out, len);
	while (len > 0) {
		size_t n;
		bool first;

		pthread_mutex_lock(&c->lock);
		n = OUT_BYTES - c->out_len;
		if (n > len)
			n = len;
		first = c->out_len == 0 && n > 0;
		memcpy(c->out[c->current] + c->out_len, bytes, n);
		c->out_len += n;
		pthread_mutex_unlock(&c->lock);
		if (first)
			wake(c);
		if (n == 0)
			console_flush(c);
		bytes += n;
		len -= n;
	}
}

/* Under lock. */
static void put_input(struct console *c, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		c->in[(c->in_head + c->in_len++) % IN_BYTES] = data[i];
	stats_add(c->stat_in, len);
}

static void tell_reader(struct console *c)
{
	LOCK_SCOPE(&c->reader_lock);

	if (c->notify)
		c->notify(c->notify_arg);
}

size_t console_type(struct console *c, const void *data, size_t len)
{
	pthread_mutex_lock(&c->lock);
	if (len > IN_BYTES - c->in_len)
		len = 0; /* all or nothing: half a command is worse than none */
	put_input(c, data, len);
	pthread_mutex_unlock(&c->lock);
	if (len > 0)
		tell_reader(c);
	return len;
}

int console_pty(const struct console *c)
{
	return c->pty_fd;
}

void console_pty_read(struct console *c)
{
	uint8_t buf[1024];
	bool any = false;

	for (;;) {
		size_t room;
		ssize_t n;

		pthread_mutex_lock(&c->lock);
		room = IN_BYTES - c->in_len;
		c->pty_waits = room == 0;
		pthread_mutex_unlock(&c->lock);
		if (room == 0 || c->pty_fd < 0)
			break;
		n = read(c->pty_fd, buf, room < sizeof(buf) ? room : sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) /* EAGAIN: nothing there. EIO: nobody has the other side open. */
			break;
		/* Only this thread puts, so the room is still there. */
		pthread_mutex_lock(&c->lock);
		put_input(c, buf, (size_t)n);
		pthread_mutex_unlock(&c->lock);
		any = true;
	}
	if (any)
		tell_reader(c);
}

bool console_pty_waits(struct console *c)
{
	LOCK_SCOPE(&c->lock);

	return c->pty_waits && c->in_len < IN_BYTES;
}

size_t console_input(struct console *c, void *buf, size_t len)
{
	uint8_t *bytes = buf;
	bool more;

	pthread_mutex_lock(&c->lock);
	if (len > c->in_len)
		len = c->in_len;
	for (size_t i = 0; i < len; i++)
		bytes[i] = c->in[(c->in_head + i) % IN_BYTES];
	c->in_head = (c->in_head + len) % IN_BYTES;
	c->in_len -= len;
	more = c->pty_waits && len > 0;
	pthread_mutex_unlock(&c->lock);
	if (more)
		wake(c);
	return len;
}

void console_set_reader(struct console *c, void (*notify)(void *arg), void *arg)
{
	LOCK_SCOPE(&c->reader_lock);

	c->notify = notify;
	c->notify_arg = arg;
}

void console_state(struct console *c, struct state *st)
{
	uint8_t bytes[IN_BYTES];
	uint32_t n;

	pthread_mutex_lock(&c->lock);
	n = (uint32_t)c->in_len;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = c->in[(c->in_head + i) % IN_BYTES];
	pthread_mutex_unlock(&c->lock);
	state_blob(st, bytes, &n, sizeof(bytes));
	if (!state_loading(st) || !state_ok(st))
		return;
	LOCK_SCOPE(&c->lock);
	if (n <= IN_BYTES - c->in_len)
		put_input(c, bytes, n);
}
