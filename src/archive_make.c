// SPDX-License-Identifier: ISC
/*
 * Making a snapshot's archive: .archive-ID in its directory, that becomes `archive` by one
 * rename(2) when it is whole and on stable storage. Everything is read with the rights of the
 * machine's owner, through what the snapshot's own files show (content.h), and in order: META
 * says how much there is of what before any of it is read.
 */
#define LOG_MODULE "snapshot"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"
#include "command.h"
#include "disk.h"
#include "pool_int.h"
#include "snapshot_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "version.h"

#define ARCHIVE_FILE "archive"
#define PAGE	     4096u
#define DISK_STEP    65536u /* what of a disk is zero is left out by so much */

struct make {
	struct snapshot *s;
	struct archive_out *out;
	struct archive_meta meta;
	int dir, fd;
	int kernel, initrd; /* -1: not there, or not for its owner to read */
	uint8_t *buf;	    /* ARCHIVE_PIECE_MAX */
	uint64_t done, total;
	struct job *job;
	struct cancel *cancel;
	struct err *err;
};

/* --- pieces ---------------------------------------------------------------------------------- */

static int step(struct make *k, uint64_t done)
{
	k->done = done;
	job_progress(k->job, done, k->total, "bytes");
	if (k->cancel && cancel_requested(k->cancel))
		return err_set(k->err, -ECANCELED, "ended before it was whole");
	return 0;
}

static int put(struct make *k, enum archive_kind kind, const char *name, uint64_t offset,
	       const void *data, size_t len)
{
	struct archive_record record = {.kind = kind, .bytes = (uint32_t)len, .offset = offset};

	snprintf(record.name, sizeof(record.name), "%s", name);
	return archive_out_put(k->out, &record, data, k->err);
}

static int put_text(struct make *k, enum archive_kind kind, const struct strbuf *sb)
{
	if (sb->failed)
		return err_set(k->err, -ENOMEM, "out of memory");
	return put(k, kind, "", 0, sb->data ? sb->data : "", sb->len);
}

/* A file of which META says that it has so many bytes. */
static int put_file(struct make *k, enum archive_kind kind, int fd, uint64_t bytes)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < bytes;) {
		size_t n = bytes - at < ARCHIVE_PIECE_MAX ? bytes - at : ARCHIVE_PIECE_MAX;

		r = file_pread_all(fd, k->buf, n, (off_t)at);
		if (r < 0)
			return err_set(k->err, r == -ENODATA ? -EIO : r, "it cannot be read: %s",
				       r == -ENODATA ? "it was cut short meanwhile" : strerror(-r));
		r = put(k, kind, "", at, k->buf, n);
		if (r == 0)
			r = step(k, k->done + n);
		at += n;
	}
	return r;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static size_t step_of(enum archive_kind kind)
{
	return kind == ARCHIVE_MEMORY ? PAGE : DISK_STEP;
}

/* What of the @len bytes in the buffer is not zero. */
static int put_runs(struct make *k, enum archive_kind kind, const char *name, uint64_t offset,
		    size_t len)
{
	size_t from = 0, at = 0;
	int r = 0;

	while (r == 0 && at < len) {
		size_t n = len - at < step_of(kind) ? len - at : step_of(kind);
		bool zero = is_zero(k->buf + at, n);

		if (zero && from < at)
			r = put(k, kind, name, offset + from, k->buf + from, at - from);
		at += n;
		if (zero)
			from = at;
	}
	return r == 0 && from < at ? put(k, kind, name, offset + from, k->buf + from, at - from)
				   : r;
}

/* One stretch that has data; @base: progress before the whole content. */
static int put_data(struct make *k, struct content *content, enum archive_kind kind,
		    const char *name, uint64_t from, uint64_t to, uint64_t base)
{
	int r = 0;

	for (uint64_t at = from; r == 0 && at < to;) {
		size_t n = to - at < ARCHIVE_PIECE_MAX ? to - at : ARCHIVE_PIECE_MAX;
		ssize_t got = content_read(content, k->buf, n, at);

		if (got != (ssize_t)n) {
			r = got < 0 ? (int)got : -EIO;
			return err_set(k->err, r, "byte %" PRIu64 ": %s", at, strerror(-r));
		}
		r = put_runs(k, kind, name, at, n);
		at += n;
		if (r == 0)
			r = step(k, base + at);
	}
	return r;
}

/* The next stretch from *@from on, in whole steps: 1, or 0 where there is none. */
static int next_data(struct make *k, struct content *content, enum archive_kind kind,
		     uint64_t bytes, uint64_t *from, uint64_t *to)
{
	int64_t at = *from < bytes ? content_seek(content, (int64_t)*from, SEEK_DATA) : -ENXIO;
	int64_t end = at < 0 ? at : content_seek(content, at, SEEK_HOLE);
	uint64_t by = step_of(kind);

	if (at == -ENXIO || (at >= 0 && (uint64_t)at >= bytes))
		return 0;
	if (end < 0)
		return err_set(k->err, (int)end, "it cannot be read: %s", strerror((int)-end));
	*from = (uint64_t)at / by * by;
	*to = ((uint64_t)end + by - 1) / by * by;
	if (*to > bytes)
		*to = bytes;
	return 1;
}

/* All of it that may be other than zero. Takes @content. */
static int put_content(struct make *k, struct content *content, enum archive_kind kind,
		       const char *name, uint64_t bytes)
{
	uint64_t base = k->done, from = 0, to = 0;
	int r = 0, more = 1;

	if (content_size(content) < bytes)
		r = err_set(k->err, -EIO, "it is shorter than it was");
	while (r == 0 && more > 0) {
		from = to;
		more = next_data(k, content, kind, bytes, &from, &to);
		if (more > 0)
			r = step(k, base + from);
		if (more > 0 && r == 0)
			r = put_data(k, content, kind, name, from, to, base);
		if (more < 0)
			r = more;
	}
	content_close(content);
	return r == 0 ? step(k, base + bytes) : r;
}

/* --- what there is --------------------------------------------------------------------------- */

/* A file that the definition names, as its owner may read it: without that it is left out. */
static void open_named(struct make *k, const char *path, int *fd, uint64_t *bytes)
{
	_cleanup_rights_ struct rights owner = {0};
	struct err why = ERR_INIT;
	struct stat st;

	if (!*path || machine_owner_rights(k->s->m, &owner) < 0)
		return;
	*fd = path_open_waiting(&owner, path, false, k->cancel, &why);
	if (*fd >= 0 && (fstat(*fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0))
		close(take_fd(fd));
	if (*fd >= 0)
		*bytes = (uint64_t)st.st_size;
	else
		log_info("%s is not in the archive: %s", path, why.text);
}

static int open_own(struct make *k, const char *name, uint64_t *bytes)
{
	_cleanup_close_ int fd = openat(k->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(k->err, -errno, "the snapshot's %s: %s", name, strerror(errno));
	*bytes = (uint64_t)st.st_size;
	return take_fd(&fd);
}

static void find_parent(struct make *k)
{
	_cleanup_(snapshot_putp) struct snapshot *parent = NULL;
	char id[ID_TEXT];

	pthread_mutex_lock(&k->s->lock);
	strcpy(id, k->s->parent);
	pthread_mutex_unlock(&k->s->lock);
	parent = *id ? machine_snapshot_by_id(k->s->m, id) : NULL;
	if (parent)
		snapshot_name(parent, k->meta.parent);
}

static void describe(struct make *k)
{
	struct archive_meta *meta = &k->meta;
	struct snapshot *s = k->s;

	strcpy(meta->program, FILEVISOR_RELEASE);
	machine_name(s->m, meta->machine);
	snapshot_name(s, meta->snapshot);
	find_parent(k);
	strcpy(meta->was, machine_state_name(s->was));
	snprintf(meta->time, sizeof(meta->time), "%lld.%09ld", (long long)s->time.tv_sec,
		 s->time.tv_nsec);
	open_named(k, s->def->values.kernel, &k->kernel, &meta->kernel);
	open_named(k, s->def->values.initrd, &k->initrd, &meta->initrd);
	for (size_t i = 0; i < s->def->n_disks && meta->n_disks < VMM_DISKS_MAX; i++) {
		const char *name = s->def->disks[i].name;
		struct archive_disk *disk = &meta->disks[meta->n_disks];

		disk->bytes = snapshot_disk_size(s, name);
		if (!disk->bytes)
			continue; /* it had no medium */
		strcpy(disk->name, name);
		meta->n_disks++;
		k->total += disk->bytes;
	}
	meta->memory = snapshot_memory_size(s);
	k->total += meta->kernel + meta->initrd + meta->memory;
}

/* --- writing --------------------------------------------------------------------------------- */

static int put_disks(struct make *k)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < k->meta.n_disks; i++) {
		const struct archive_disk *disk = &k->meta.disks[i];
		struct content *content;

		r = snapshot_disk_content_open(k->s, disk->name, NULL, &content, k->err);
		if (r < 0)
			return r;
		r = put_content(k, content, ARCHIVE_DISK, disk->name, disk->bytes);
		if (r < 0)
			err_prefix(k->err, "disk %s", disk->name);
	}
	return r;
}

static int put_memory(struct make *k)
{
	struct content *content;
	int r = snapshot_memory_open(k->s, &content, k->err);

	if (r == 0)
		r = put_content(k, content, ARCHIVE_MEMORY, "", k->meta.memory);
	if (r < 0)
		err_prefix(k->err, "memory");
	return r;
}

static int put_guest(struct make *k, int state, int registers)
{
	int r = put_memory(k);

	if (r == 0)
		r = put_file(k, ARCHIVE_STATE, state, k->meta.state);
	return r == 0 ? put_file(k, ARCHIVE_REGISTERS, registers, k->meta.registers) : r;
}

static int put_texts(struct make *k)
{
	_cleanup_strbuf_ struct strbuf meta = STRBUF_INIT, config = STRBUF_INIT;
	int r;

	archive_meta_format(&k->meta, &meta);
	config_format(k->s->def, &config);
	r = put_text(k, ARCHIVE_META, &meta);
	return r == 0 ? put_text(k, ARCHIVE_CONFIG, &config) : r;
}

static int write_it(struct make *k)
{
	_cleanup_close_ int state = -1, registers = -1;
	int r = 0;

	describe(k);
	if (k->meta.memory) {
		k->meta.cpus = k->s->cpus;
		r = state = open_own(k, "state", &k->meta.state);
		if (r >= 0)
			r = registers = open_own(k, "registers", &k->meta.registers);
		k->total += k->meta.state + k->meta.registers;
	}
	if (r >= 0)
		r = archive_out_open(&k->out, k->fd, k->err);
	if (r == 0)
		r = put_texts(k);
	if (r == 0)
		r = put_file(k, ARCHIVE_KERNEL, k->kernel, k->meta.kernel);
	if (r == 0)
		r = put_file(k, ARCHIVE_INITRD, k->initrd, k->meta.initrd);
	if (r == 0)
		r = put_disks(k);
	if (r == 0 && k->meta.memory)
		r = put_guest(k, state, registers);
	return r == 0 ? archive_out_end(k->out, k->err) : r;
}

/* --- its file -------------------------------------------------------------------------------- */

static void hidden_name(char name[64], const struct snapshot *s)
{
	snprintf(name, 64, ".archive-%s", s->id);
}

static int place(struct make *k, const char *hidden)
{
	int r = fsync(k->fd) < 0 ? -errno : 0;

	if (r == 0 && renameat(k->dir, hidden, k->dir, ARCHIVE_FILE) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_dir(k->dir);
	if (r == -EDQUOT)
		r = -ENOSPC;
	return r < 0 ? err_set(k->err, r, "cannot write the archive: %s", strerror(-r)) : 0;
}

static int make(struct make *k)
{
	char hidden[64];
	int r;

	hidden_name(hidden, k->s);
	k->dir = snapshot_dir(k->s);
	k->buf = malloc(ARCHIVE_PIECE_MAX);
	if (k->dir < 0 || !k->buf)
		return err_set(k->err, k->dir < 0 ? k->dir : -ENOMEM, "the snapshot: %s",
			       strerror(k->dir < 0 ? -k->dir : ENOMEM));
	unlinkat(k->dir, hidden, 0); /* of a daemon that was killed */
	k->fd = openat(k->dir, hidden, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (k->fd < 0)
		return err_set(k->err, -errno, "cannot write the archive: %s", strerror(errno));
	r = write_it(k);
	if (r == 0)
		r = place(k, hidden);
	if (r < 0)
		unlinkat(k->dir, hidden, 0);
	return r;
}

int snapshot_archive(struct snapshot *s, struct job *job, struct cancel *cancel, struct err *err)
{
	struct make k = {.s = s,
			 .dir = -1,
			 .fd = -1,
			 .kernel = -1,
			 .initrd = -1,
			 .job = job,
			 .cancel = cancel,
			 .err = err};
	int *fds[] = {&k.dir, &k.fd, &k.kernel, &k.initrd}, r = make(&k);

	for (size_t i = 0; i < nitems(fds); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
	archive_out_free(k.out);
	free(k.buf);
	if (r < 0)
		return r;
	tell_snapshot(s, SNAPSHOT_ARCHIVE);
	tell_snapshot(s, SNAPSHOT_SIZE);
	return 0;
}

uint64_t snapshot_archive_size(struct snapshot *s)
{
	_cleanup_close_ int dir = snapshot_dir(s);
	struct stat st;

	if (dir < 0 || fstatat(dir, ARCHIVE_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return 0;
	return (uint64_t)st.st_size;
}

int snapshot_archive_open(struct snapshot *s, struct err *err)
{
	_cleanup_close_ int dir = snapshot_dir(s);
	int fd = dir < 0 ? -1 : openat(dir, ARCHIVE_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, dir < 0 ? dir : -errno,
			       "there is no archive: `echo archive > ctl` makes one");
	return fd;
}
