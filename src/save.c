// SPDX-License-Identifier: ISC
/*
 * `save` and `discard`, and what becomes of the files (save.h).
 *
 * The guest is paused; the VMM writes its state, and then the daemon copies memory, whose
 * descriptor it has: so the VMM needs nothing of the disk but the one file that it is given,
 * and goes on serving. Only pages with something in them are written. Until both files are
 * on stable storage and have their names, anything that goes wrong, and a cancelled job,
 * lets the guest go on as if nothing had been.
 */
#define LOG_MODULE "save"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "save.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm.h"

#define STATE_FILE  "saved"
#define MEMORY_FILE "saved-memory"
#define STATE_NEW   ".saved.new"
#define MEMORY_NEW  ".saved-memory.new"

#define PAGE	    4096u
#define CHUNK_BYTES (1u << 20)
#define SYNC_BYTES  (32u << 20) /* is sent to the disk while the next is copied */
#define END_MS	    30000

/* --- the files ------------------------------------------------------------------------------ */

static void remove_file(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		log_warn("cannot remove %s: %m", name);
}

static void remove_new(int dir)
{
	remove_file(dir, STATE_NEW);
	remove_file(dir, MEMORY_NEW);
}

/* Has a guest gone on from it? A file that cannot be read is for its owner to discard. */
static bool used_up(int dir)
{
	_cleanup_close_ int fd = openat(dir, STATE_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint32_t used = 0;

	return fd >= 0 && file_pread_all(fd, &used, sizeof(used), VMM_STATE_USED_AT) == 0 && used;
}

static int drop(int dir)
{
	int r;

	if (unlinkat(dir, STATE_FILE, 0) < 0 && errno != ENOENT)
		return -errno;
	r = file_sync_dir(dir);
	remove_file(dir, MEMORY_FILE);
	return r;
}

bool saved_look(int dir)
{
	bool saved = faccessat(dir, STATE_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;

	remove_new(dir);
	if (saved && !used_up(dir))
		return true;
	if (saved)
		log_info("a saved state that was used is removed");
	if (drop(dir) < 0)
		log_warn("a saved state that was used cannot be removed");
	return false;
}

bool saved_still(struct machine *m)
{
	_cleanup_close_ int dir = store_open_dir(m);

	return dir < 0 || saved_look(dir);
}

int saved_open(struct machine *m, int *state, int *memory, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	_cleanup_close_ int fd = -1;
	int mem;

	if (dir < 0)
		return err_set(err, dir, "saved state: %s", strerror(-dir));
	fd = openat(dir, STATE_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "saved state: %s", strerror(errno));
	mem = openat(dir, MEMORY_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (mem < 0)
		return err_set(err, -errno, "saved memory: %s", strerror(errno));
	*state = take_fd(&fd);
	*memory = mem;
	return 0;
}

int saved_drop(struct machine *m, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	int r = dir < 0 ? dir : drop(dir);

	return r < 0 ? err_set(err, r, "cannot remove the saved state: %s", strerror(-r)) : 0;
}

/* --- the definition, meanwhile -------------------------------------------------------------- */

static int refuse(struct err *err, const char *what, const char *name)
{
	return err_set(err, -EBUSY, "%s%s: the machine is saved: start it, or discard its state",
		       what, name);
}

static bool same_disk(const struct disk *a, const struct disk *b)
{
	return strcmp(a->values.source, b->values.source) == 0 &&
	       a->values.format == b->values.format && a->values.readonly == b->values.readonly;
}

int saved_permits(const struct definition *old, const struct definition *def, struct err *err)
{
	const struct machine_values *a = &old->values, *b = &def->values;

	if (a->cpus != b->cpus)
		return refuse(err, "cpus", "");
	if (a->memory != b->memory)
		return refuse(err, "memory", "");
	for (size_t i = 0; i < old->n_disks; i++) {
		const struct disk *d =
		    definition_disk((struct definition *)def, old->disks[i].name);

		if (!d || !same_disk(&old->disks[i], d))
			return refuse(err, "disk ", old->disks[i].name);
	}
	for (size_t i = 0; i < def->n_disks; i++)
		if (!definition_disk((struct definition *)old, def->disks[i].name))
			return refuse(err, "disk ", def->disks[i].name);
	return 0;
}

/* --- memory --------------------------------------------------------------------------------- */

struct copy {
	int from, to;
	uint64_t bytes, since_sync;
	struct job *job;
	struct cancel *cancel;
	uint8_t *buf; /* CHUNK_BYTES */
};

static bool is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* Writes what of the chunk at @at is not zero, in runs of pages. */
static int write_chunk(struct copy *c, size_t len, off_t at)
{
	size_t run = 0; /* bytes before @i that are to be written */

	for (size_t i = 0; i <= len; i += PAGE) {
		int r;

		if (i < len && !is_zero(c->buf + i, len - i < PAGE ? len - i : PAGE)) {
			run += len - i < PAGE ? len - i : PAGE;
			continue;
		}
		if (run == 0)
			continue;
		i = i < len ? i : len;
		r = file_pwrite_all(c->to, c->buf + i - run, run, at + (off_t)(i - run));
		if (r < 0)
			return r;
		c->since_sync += run;
		run = 0;
	}
	return 0;
}

/* Begins to write out, so that the last fsync(2) has little left to do. */
static void begin_sync(struct copy *c)
{
	if (c->since_sync < SYNC_BYTES)
		return;
	sync_file_range(c->to, 0, 0, SYNC_FILE_RANGE_WRITE);
	c->since_sync = 0;
}

static int copy_extent(struct copy *c, off_t at, off_t end)
{
	int r = 0;

	for (off_t n; r == 0 && at < end; at += n) {
		n = end - at < (off_t)CHUNK_BYTES ? end - at : (off_t)CHUNK_BYTES;
		if (cancel_requested(c->cancel))
			return -ECANCELED;
		r = file_pread_all(c->from, c->buf, (size_t)n, at);
		if (r == 0)
			r = write_chunk(c, (size_t)n, at);
		begin_sync(c);
		job_progress(c->job, (uint64_t)(at + n), c->bytes, "bytes");
	}
	return r;
}

static int copy_all(struct copy *c)
{
	int r = 0;

	for (off_t at = 0, hole; r == 0 && at < (off_t)c->bytes; at = hole) {
		at = lseek(c->from, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(c->from, at, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = copy_extent(c, at, hole);
	}
	return r;
}

static int save_memory(struct vmm *vmm, int to, struct job *job, struct cancel *cancel,
		       struct err *err)
{
	_cleanup_close_ int from = vmm_memory_fd(vmm);
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_BYTES);
	struct copy c = {.from = from, .to = to, .job = job, .cancel = cancel, .buf = buf};
	struct stat st;
	int r;

	if (from < 0 || !buf)
		return err_set(err, from < 0 ? from : -ENOMEM, "the guest's memory: %s",
			       strerror(from < 0 ? -from : ENOMEM));
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return err_set(err, -errno, "the guest's memory: %s", strerror(errno));
	c.bytes = (uint64_t)st.st_size;
	r = copy_all(&c);
	if (r == 0 && fsync(to) < 0)
		r = -errno;
	if (r == -ECANCELED)
		return err_set(err, r, "ended before it was saved: the guest goes on");
	return r < 0 ? err_set(err, r, "cannot write the guest's memory: %s", strerror(-r)) : 0;
}

/* --- save ----------------------------------------------------------------------------------- */

struct save {
	struct machine *m;
	struct vmm *vmm;
	int dir;
	bool was_running;
	struct job *job;
	struct cancel *cancel;
	struct err *err;
};

static int order(struct save *s, enum vmm_msg_type type, const int *fd, struct cancel *cancel)
{
	struct vmm_request rq = {.type = type,
				 .fds = fd,
				 .n_fds = fd ? 1 : 0,
				 .timeout_ms = fd ? VMM_LOAD_MS : VMM_ORDER_MS,
				 .cancel = cancel};
	int r = vmm_call(s->vmm, &rq, NULL, s->err);

	return r == -EPIPE ? err_set(s->err, -EBUSY, "it has ended meanwhile") : r;
}

static int open_new(struct save *s, const char *name)
{
	int fd;

	remove_file(s->dir, name);
	fd = openat(s->dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? err_set(s->err, -errno, "cannot make %s: %s", name, strerror(errno)) : fd;
}

static int write_files(struct save *s)
{
	_cleanup_close_ int state = open_new(s, STATE_NEW), memory = -1;
	int r = state;

	if (r >= 0)
		r = memory = open_new(s, MEMORY_NEW);
	if (r >= 0)
		r = order(s, VMM_SAVE, &state, s->cancel);
	if (r == 0)
		r = save_memory(s->vmm, memory, s->job, s->cancel, s->err);
	if (r == 0 && fsync(state) < 0)
		r = err_set(s->err, -errno, "cannot write the state: %s", strerror(errno));
	return r;
}

/* From the second rename(2) on it is saved. */
static int commit(struct save *s)
{
	int r = 0;

	if (renameat(s->dir, MEMORY_NEW, s->dir, MEMORY_FILE) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_dir(s->dir);
	if (r == 0 && renameat(s->dir, STATE_NEW, s->dir, STATE_FILE) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_dir(s->dir);
	if (r < 0)
		err_set(s->err, r, "cannot save: %s", strerror(-r));
	return r;
}

/* The VMM goes. False: it went before, with a guest that ended while its state was stored. */
static bool end_vmm(struct save *s)
{
	struct timespec deadline = deadline_in_ms(END_MS);
	struct machine *m = s->m;

	LOCK_SCOPE(&m->lock);
	if (m->vmm != s->vmm || m->killed)
		return false;
	m->saved = m->killed = true;
	m->reason = "save";
	vmm_kill(s->vmm); /* its disks are flushed, and its guest is here */
	while (m->vmm == s->vmm && machine_wait(m, &deadline) == 0)
		;
	return true;
}

static int pause_it(struct save *s)
{
	pthread_mutex_lock(&s->m->lock);
	s->was_running = s->m->state == MACHINE_RUNNING;
	s->m->reason = "save";
	pthread_mutex_unlock(&s->m->lock);
	if (!s->was_running)
		return 0;
	rundir_note_saving(s->m, true);
	return order(s, VMM_PAUSE, NULL, s->cancel);
}

static void go_on(struct save *s)
{
	struct err ignored = ERR_INIT;
	struct save quiet = *s;

	drop(s->dir);
	remove_new(s->dir);
	quiet.err = &ignored;
	if (!s->was_running)
		return;
	order(&quiet, VMM_RESUME, NULL, NULL);
	rundir_note_saving(s->m, false);
}

int lifecycle_save(struct model *model, struct machine *m, struct command_call *call,
		   const struct caller *caller, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	_cleanup_close_ int dir = store_open_dir(m);
	struct save s = {
	    .m = m, .vmm = vmm, .dir = dir, .job = call->job, .cancel = caller->cancel, .err = err};
	int r;

	(void)model;
	if (!vmm)
		return err_set(err, -EBUSY, "it has ended meanwhile");
	if (dir < 0)
		return err_set(err, dir, "its directory: %s", strerror(-dir));
	r = pause_it(&s);
	if (r == 0)
		r = write_files(&s);
	if (r == 0)
		r = commit(&s);
	if (r == 0 && !end_vmm(&s))
		r = err_set(err, -EBUSY, "it has ended meanwhile");
	if (r < 0)
		go_on(&s);
	return r;
}

/* --- discard -------------------------------------------------------------------------------- */

int lifecycle_discard(struct model *model, struct machine *m, struct command_call *call,
		      const struct caller *caller, struct err *err)
{
	int r = saved_drop(m, err);

	(void)model, (void)call, (void)caller;
	if (r < 0)
		return r;
	LOCK_SCOPE(&m->lock);
	m->saved = false;
	machine_set_state(m, MACHINE_STOPPED, "discard");
	return 0;
}
