// SPDX-License-Identifier: ISC
/*
 * Files that are text made on the spot: attribute and document, and what all
 * text files share.
 *
 * A reader sees one version: the text is made when the file is opened, and
 * again when a reader goes back to the start, as one does who waits with
 * poll(2), and as sysfs does it.
 *
 * An attribute takes its value at write(2). A value may come in pieces: a
 * write that continues the one before it in the same open file, where that
 * did not end in a newline, is the value so far with the new piece after it;
 * each piece that makes a value which is refused is refused, and changes
 * nothing. Any other write, whatever its offset (">>" comes with the size), is
 * a value of its own.
 *
 * A document is collected, and taken whole when its writer flushes, syncs or
 * closes it after writing: a flush before any data is the shell's dup2(). One
 * of lines is looked at when a write ends with one, and refused then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

/* --- reading -------------------------------------------------------------------------- */

int text_show(struct node *n, struct strbuf *sb)
{
	const struct row *row = n->row;
	size_t before = sb->len;
	int r;

	if (!node_alive(n))
		return -ENOENT;
	r = row->show(n, sb);
	if (r < 0)
		return r;
	if (row->kind == &kind_attribute &&
	    (sb->len > before ? sb->data[sb->len - 1] != '\n' : !(row->flags & ROW_MAY_BE_EMPTY)))
		strbuf_putc(sb, '\n');
	return sb->failed ? -ENOMEM : 0;
}

static int text_size(struct node *n, uint64_t *size)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r;

	if (n->row->flags & ROW_FIXED_SIZE) {
		*size = machine_registers_size();
		return 0;
	}
	r = text_show(n, &sb);
	if (r < 0)
		return r;
	*size = sb.len;
	return 0;
}

/* Makes the text that this handle reads; with its lock, or before anyone has it. */
static int load_text(struct handle *h)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r;

	h->seen = atomic_load(&h->node->generation);
	r = text_show(h->node, &sb);
	if (r < 0)
		return r;
	free(h->text);
	h->len = sb.len;
	h->text = strbuf_steal(&sb);
	return h->text ? 0 : -ENOMEM;
}

static int text_open(struct handle *h, const struct caller *caller, struct err *err)
{
	int r;

	(void)caller;
	if (h->writable && !h->node->row->store)
		return -EACCES;
	if ((h->flags & O_ACCMODE) == O_WRONLY)
		return 0;
	r = load_text(h);
	h->fresh = true;
	return r < 0 ? err_set(err, r, "cannot be shown") : 0;
}

static ssize_t text_read(struct handle *h, void *buf, size_t len, uint64_t offset)
{
	int r;

	LOCK_SCOPE(&h->lock);
	if (offset == 0 && !h->fresh && !(h->node->row->flags & ROW_SLOW)) {
		r = load_text(h);
		if (r < 0)
			return r;
	}
	h->fresh = false;
	if (offset >= h->len)
		return 0;
	if (len > h->len - offset)
		len = h->len - offset;
	memcpy(buf, h->text + offset, len);
	return (ssize_t)len;
}

/* --- attribute ------------------------------------------------------------------------ */

/* The value so far, with the lock. */
static int gather(struct handle *h, const char *data, size_t len, uint64_t offset)
{
	struct strbuf *w = &h->written;
	bool goes_on = w->len > 0 && offset == h->next_offset && w->data[w->len - 1] != '\n';

	if (!goes_on)
		strbuf_reset(w);
	if (len > ATTRIBUTE_MAX || w->len + len > ATTRIBUTE_MAX)
		return -EFBIG;
	strbuf_add(w, data, len);
	h->next_offset = offset + len;
	return w->failed ? -ENOMEM : 0;
}

static int store_value(struct handle *h, const char *data, size_t len, uint64_t offset,
		       const struct caller *caller, struct err *err, bool *told)
{
	struct node *n = h->node;
	_cleanup_free_ char *value = NULL;
	size_t size;
	int r;

	r = gather(h, data, len, offset);
	if (r < 0)
		return err_set(err, r, "longer than %u bytes", ATTRIBUTE_MAX);
	size = h->written.len;
	if (h->written.data[size - 1] == '\n')
		size--;
	if (memchr(h->written.data, '\0', size))
		return err_set(err, -EINVAL, "a NUL byte in the value");
	value = strndup(h->written.data, size);
	if (!value)
		return err_set(err, -ENOMEM, "out of memory");
	*told = true;
	return n->row->store(n, value, size, caller, err);
}

static int attribute_write(struct handle *h, const char *data, size_t len, uint64_t offset,
			   const struct caller *caller, struct err *err)
{
	bool told = false; /* the model has put the words where they belong */
	int r;

	if (len == 0)
		return 0;
	LOCK_SCOPE(&h->lock);
	r = store_value(h, data, len, offset, caller, err, &told);
	if (r < 0) {
		strbuf_reset(&h->written);
		if (!told)
			node_complain(h->node, h->node->row->name, err);
	}
	return r;
}

static bool always_waits(struct handle *h, const char *data, size_t len)
{
	(void)h;
	(void)data;
	(void)len;
	return true;
}

static void text_close(struct handle *h)
{
	free(h->text);
	strbuf_free(&h->written);
}

const struct kind kind_attribute = {
    .name = "attribute",
    .format = S_IFREG,
    .size = text_size,
    .open = text_open,
    .read = text_read,
    .write = attribute_write,
    .write_waits = always_waits,
    .close = text_close,
};

/* --- document ------------------------------------------------------------------------- */

static int document_open(struct handle *h, const struct caller *caller, struct err *err)
{
	h->whole = (h->flags & O_TRUNC) != 0;
	return text_open(h, caller, err);
}

/* What a partial write changes: the text as it is now. */
static int load_old(struct handle *h, struct err *err)
{
	int r;

	if (h->loaded)
		return 0;
	if (!h->whole) {
		r = text_show(h->node, &h->written);
		if (r < 0)
			return err_set(err, r, "the present text cannot be read");
	}
	h->loaded = true;
	return 0;
}

static int document_put(struct handle *h, const char *data, size_t len, uint64_t offset,
			struct err *err)
{
	struct strbuf *w = &h->written;
	size_t over;
	int r;

	r = load_old(h, err);
	if (r < 0)
		return r;
	/* The kernel may take for its end that of a text which was refused. */
	if (h->flags & O_APPEND)
		offset = w->len;
	if (offset > DOCUMENT_MAX || len > DOCUMENT_MAX - offset)
		return err_set(err, -EFBIG, "longer than %u bytes", DOCUMENT_MAX);
	if (offset > w->len) { /* to be filled before it is taken */
		size_t hole = offset - w->len;

		if (strbuf_reserve(w, hole + len) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		memset(w->data + w->len, 0, hole + 1);
		w->len = offset;
	}
	over = w->len - offset < len ? w->len - offset : len;
	if (strbuf_reserve(w, len - over) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(w->data + offset, data, over);
	strbuf_add(w, data + over, len - over);
	h->dirty = true;
	return 0;
}

/* The model puts the words where they belong. */
static int check_lines(struct handle *h, const struct caller *caller, struct err *err)
{
	const struct row *row = h->node->row;
	const struct strbuf *w = &h->written;

	if (!row->check || w->data[w->len - 1] != '\n' || memchr(w->data, '\0', w->len))
		return 0;
	return row->check(h->node, w->data, w->len, caller, err);
}

static int document_write(struct handle *h, const char *data, size_t len, uint64_t offset,
			  const struct caller *caller, struct err *err)
{
	int r;

	if (len == 0)
		return 0;
	LOCK_SCOPE(&h->lock);
	if (h->refused < 0)
		return h->refused;
	r = document_put(h, data, len, offset, err);
	if (r < 0)
		node_complain(h->node, h->node->row->name, err);
	else
		r = check_lines(h, caller, err);
	if (r < 0) {
		h->refused = r; /* a part of it is not taken either */
		h->dirty = true;
	}
	return r;
}

static int document_flush(struct handle *h, const struct caller *caller, struct err *err)
{
	struct node *n = h->node;

	LOCK_SCOPE(&h->lock);
	if (!h->dirty)
		return 0;
	h->dirty = false;
	if (h->refused < 0)
		return h->refused;
	if (h->written.len && memchr(h->written.data, '\0', h->written.len)) {
		err_set(err, -EINVAL, "a hole or NUL byte in the text");
		node_complain(n, n->row->name, err);
		return -EINVAL;
	}
	return n->row->store(n, h->written.data ? h->written.data : "", h->written.len, caller,
			     err);
}

static int document_resize(struct handle *h, uint64_t size)
{
	LOCK_SCOPE(&h->lock);
	if (size == 0 && !h->loaded) {
		h->whole = true;
		return 0;
	}
	if (load_old(h, NULL) < 0)
		return -ENOMEM;
	if (size >= h->written.len)
		return 0;
	h->written.len = size;
	h->written.data[size] = '\0';
	if (size)
		h->dirty = true;
	return 0;
}

static bool waits_for_check(struct handle *h, const char *data, size_t len)
{
	(void)data;
	(void)len;
	return h->node->row->check != NULL;
}

const struct kind kind_document = {
    .name = "document",
    .format = S_IFREG,
    .size = text_size,
    .open = document_open,
    .read = text_read,
    .write = document_write,
    .write_waits = waits_for_check,
    .flush = document_flush,
    .resize = document_resize,
    .close = text_close,
};

/* --- symbolic link: its text is the target -----------------------------------------------------
 */

static int link_size(struct node *n, uint64_t *size)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r = n->row->show(n, &sb);

	*size = sb.len;
	return r;
}

const struct kind kind_link = {
    .name = "symlink",
    .format = S_IFLNK,
    .size = link_size,
};

const struct kind kind_dir = {
    .name = "directory",
    .format = S_IFDIR,
};
