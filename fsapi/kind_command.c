// SPDX-License-Identifier: ISC
/*
 * Command files (`ctl`): each line written is a command, run before write(2)
 * returns.
 *
 * The kernel holds an inode's lock while a write that extends the file (or
 * appends to it) is under way, and a command may be under way for half a minute
 * ("wait running 30"); whoever else opened the same inode would hang behind it,
 * not even a signal helping. So no two writers ever share an inode here: while
 * the well-known node has a writer, each lookup of the name gets a node of its
 * own (with the same st_ino), and an open that comes between another's lookup and
 * open is answered with ESTALE, upon which the kernel looks up once more. It does so
 * once: who then meets another, as lookups of the same tick share what they find, is let in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

/* After two openers met, both lookups may be repeated: for so long each gets its own node. */
#define CONTENDED_NS 1000000000u

struct node *command_pick(struct node *n, bool notifier)
{
	struct node *variant;
	bool busy;

	pthread_mutex_lock(&n->fs->lock);
	busy = n->writers > 0 || n->notifying || n->parent->contended_ns > now_ns();
	if (notifier && !busy)
		n->notifying = true;
	pthread_mutex_unlock(&n->fs->lock);
	if (!busy)
		return n;
	variant = notifier ? NULL : node_variant(n);
	node_put(n);
	return variant;
}

void command_notified(struct node *n)
{
	LOCK_SCOPE(&n->fs->lock);
	n->notifying = false;
}

int command_claim(struct node *n)
{
	uint64_t now = now_ns();
	bool again;

	LOCK_SCOPE(&n->fs->lock);
	again = n->parent->contended_ns > now;
	if (n->writers > 0 || n->notifying)
		n->parent->contended_ns = now + CONTENDED_NS;
	if (n->notifying || (n->writers > 0 && !again))
		return -ESTALE;
	n->writers++;
	return 0;
}

void command_unclaim(struct node *n)
{
	LOCK_SCOPE(&n->fs->lock);
	n->writers--;
}

static size_t line_length(const char *p, const char *end)
{
	const char *newline = memchr(p, '\n', (size_t)(end - p));

	return newline ? (size_t)(newline - p) : (size_t)(end - p);
}

static bool line_is_idle(const char *p, size_t len)
{
	while (len && (*p == ' ' || *p == '\t' || *p == '\r')) {
		p++;
		len--;
	}
	return len == 0 || *p == '#';
}

/* What `cat ctl` printed runs nothing and needs no thread. */
static bool command_waits(struct handle *h, const char *data, size_t len)
{
	const char *end = data + len;

	(void)h;
	for (const char *p = data; p < end;) {
		size_t n = line_length(p, end);

		if (!line_is_idle(p, n))
			return true;
		p += n + 1;
	}
	return false;
}

static int run_line(struct node *n, const char *p, size_t len, const struct caller *caller,
		    struct err *err)
{
	_cleanup_free_ char *line = NULL;
	int r = 0;

	if (len > COMMAND_MAX)
		r = err_set(err, -EFBIG, "a line longer than %u bytes", COMMAND_MAX);
	else if (memchr(p, '\0', len))
		r = err_set(err, -EINVAL, "a NUL byte in the line");
	if (r < 0) {
		node_complain(n, "ctl", err);
		return r;
	}
	line = strndup(p, len);
	if (!line)
		return err_set(err, -ENOMEM, "out of memory");
	return n->row->store(n, line, len, caller, err);
}

static int command_write(struct handle *h, const char *data, size_t len, uint64_t offset,
			 const struct caller *caller, struct err *err)
{
	const char *end = data + len;

	(void)offset;
	for (const char *p = data; p < end;) {
		size_t n = line_length(p, end);

		if (!line_is_idle(p, n)) {
			int r = run_line(h->node, p, n, caller, err);

			if (r < 0)
				return r;
		}
		p += n + 1;
	}
	return 0;
}

static int command_size(struct node *n, uint64_t *size)
{
	return kind_attribute.size(n, size);
}

static int command_open(struct handle *h, const struct caller *caller, struct err *err)
{
	int r;

	if (h->writable) {
		r = command_claim(h->node);
		if (r < 0)
			return r;
	}
	r = kind_attribute.open(h, caller, err);
	if (r < 0 && h->writable)
		command_unclaim(h->node);
	return r;
}

static ssize_t command_read(struct handle *h, void *buf, size_t len, uint64_t offset)
{
	return kind_attribute.read(h, buf, len, offset);
}

static void command_close(struct handle *h)
{
	if (h->writable)
		command_unclaim(h->node);
	kind_attribute.close(h);
}

const struct kind kind_command = {
    .name = "command",
    .format = S_IFREG,
    .size = command_size,
    .open = command_open,
    .read = command_read,
    .write = command_write,
    .write_waits = command_waits,
    .close = command_close,
};
