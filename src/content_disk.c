// SPDX-License-Identifier: ISC
/*
 * The content of a machine's disk. Where no VMM has it, its image is opened here, with the rights
 * of the machine's owner and the locks of any user of it, so no machine starts to write it
 * meanwhile. Where one has it, the VMM keeps it as it is now for us (VMM_DISK_SNAPSHOT):
 * what the guest overwrites goes to a file without a name in the machine's directory of
 * the daemon's state. When there is no more room the snapshot is lost, not the guest's write:
 * reads give EIO then.
 *
 * The VMM is not believed: sizes are bounded, data comes by pread(2) from a memfd that it cannot
 * make larger or smaller than we see at each read, and it has a time to answer, once missed
 * for ever missed.
 */
#define LOG_MODULE "disk"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_int.h"
#include "disk.h"
#include "layer.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/msg.h"
#include "vmm.h"

#define ANSWER_MS  60000      /* for one peek */
#define WINDOW_MAX (1u << 20) /* read at once, where reading goes on from where it was */

/* --- a disk that a VMM has ---------------------------------------------------------------------
 */

struct peek {
	struct content content;
	int sock, room;	     /* room: the memfd */
	uint64_t bytes;	     /* of the disk */
	uint64_t room_bytes; /* of the memfd, at most WINDOW_MAX used */

	pthread_mutex_t lock; /* one request at a time; guards what follows */
	bool dead;	      /* it did not answer, or nonsense */
	uint64_t id;
	uint64_t at, len; /* what is in the room */
	uint64_t next;	  /* behind the last read */
};

static struct peek *of(struct content *content)
{
	return (struct peek *)content;
}

static uint64_t peek_size(struct content *content)
{
	return of(content)->bytes;
}

static int await(int sock, const struct timespec *deadline)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	struct timespec now = deadline_in_ms(0);
	long ms =
	    (deadline->tv_sec - now.tv_sec) * 1000 + (deadline->tv_nsec - now.tv_nsec) / 1000000;
	int n = poll(&p, 1, ms > 0 ? (int)ms : 0);

	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : errno == EINTR ? 0 : -errno;
}

/* Sends it and waits for the answer with its id. The errno that it brings, or why there is none. */
static int exchange(struct peek *p, struct vmm_peek *peek)
{
	struct timespec deadline = deadline_in_ms(ANSWER_MS);
	uint64_t id = ++p->id;
	int r;

	peek->id = id;
	r = msg_send(p->sock, peek, sizeof(*peek), NULL, 0, NULL, 0, MSG_DONTWAIT);
	while (r == 0) {
		int fds[1];
		size_t n_fds = 0;
		ssize_t n = msg_recv(p->sock, peek, sizeof(*peek), fds, &n_fds, MSG_DONTWAIT);

		if (n == -EAGAIN)
			r = await(p->sock, &deadline);
		else if (n != sizeof(*peek) || peek->id != id)
			r = -EPROTO;
		else
			break;
	}
	if (r < 0) {
		p->dead = true;
		return -EIO;
	}
	return vmm_believable(peek->error);
}

/* Fills the room with what is at @offset: as much as is asked for, or more where reading goes on.
 */
static int fill(struct peek *p, uint64_t offset, uint64_t len)
{
	uint64_t most = p->room_bytes < WINDOW_MAX ? p->room_bytes : WINDOW_MAX;
	struct vmm_peek peek = {.op = VMM_PEEK_READ, .offset = offset};
	int r;

	if (offset == p->next || len > most)
		len = most;
	if (len > p->bytes - offset)
		len = p->bytes - offset;
	peek.bytes = len;
	p->len = 0;
	r = exchange(p, &peek);
	if (r == 0) {
		p->at = offset;
		p->len = len;
	}
	return r;
}

static ssize_t read_part(struct peek *p, void *buf, size_t len, uint64_t offset)
{
	uint64_t inside;
	int r = 0;

	if (p->dead)
		return -EIO;
	if (offset < p->at || offset >= p->at + p->len)
		r = fill(p, offset, len);
	if (r < 0)
		return r;
	inside = offset - p->at;
	if (len > p->len - inside)
		len = p->len - inside;
	if (len == 0 || file_pread_all(p->room, buf, len, (off_t)inside) < 0)
		return -EIO; /* the room was cut short */
	p->next = offset + len;
	return (ssize_t)len;
}

static ssize_t peek_read(struct content *content, void *buf, size_t len, uint64_t offset)
{
	struct peek *p = of(content);
	size_t done = 0;

	LOCK_SCOPE(&p->lock);
	if (offset >= p->bytes)
		return 0;
	if (len > p->bytes - offset)
		len = p->bytes - offset;
	while (done < len) {
		ssize_t n = read_part(p, (char *)buf + done, len - done, offset + done);

		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int peek_extent(struct content *content, uint64_t offset, uint64_t bytes, uint64_t *alike,
		       bool *zero)
{
	struct peek *p = of(content);
	struct vmm_peek peek = {.op = VMM_PEEK_STATUS, .offset = offset, .bytes = bytes};
	int r;

	LOCK_SCOPE(&p->lock);
	r = p->dead ? -EIO : exchange(p, &peek);
	if (r < 0)
		return r;
	*alike = peek.bytes < bytes ? peek.bytes : bytes;
	*zero = peek.flags & VMM_PEEK_ZERO;
	return 0;
}

static int64_t peek_seek(struct content *content, int64_t offset, int whence)
{
	return content_seek_extents(content, of(content)->bytes, offset, whence, peek_extent);
}

static int peek_close(struct content *content)
{
	struct peek *p = of(content);

	if (p->sock >= 0)
		close(p->sock);
	if (p->room >= 0)
		close(p->room);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return 0;
}

static const struct content_ops peek_ops = {
    .size = peek_size, .read = peek_read, .seek = peek_seek, .close = peek_close};

/* Only memory that we can read without waiting, of a size that it has. */
static int check_room(struct peek *p, const struct vmm_snapshot_info *info)
{
	struct stat st;

	if (fcntl(p->room, F_GET_SEALS) < 0 || fstat(p->room, &st) < 0 || !S_ISREG(st.st_mode))
		return -EIO;
	if (info->bytes > INT64_MAX || info->room_bytes < 4096 || st.st_size < 4096)
		return -EIO;
	p->bytes = info->bytes;
	p->room_bytes =
	    info->room_bytes < (uint64_t)st.st_size ? info->room_bytes : (uint64_t)st.st_size;
	return 0;
}

static int ask_snapshot(struct vmm *vmm, const char *disk, struct peek *p, int old, int theirs,
			struct cancel *cancel, struct err *err)
{
	struct vmm_disk_name msg = {0};
	struct vmm_snapshot_info info = {0};
	struct vmm_reply reply = {.data = &info, .room = sizeof(info)};
	int fds[] = {old, theirs};
	struct vmm_request rq = {.type = VMM_DISK_SNAPSHOT,
				 .data = &msg,
				 .len = sizeof(msg),
				 .fds = fds,
				 .n_fds = 2,
				 .timeout_ms = VMM_ORDER_MS,
				 .cancel = cancel};
	int r;

	snprintf(msg.name, sizeof(msg.name), "%s", disk);
	r = vmm_call(vmm, &rq, &reply, err);
	if (r < 0)
		return r == -EPIPE ? err_set(err, -EBUSY, "the machine has ended meanwhile") : r;
	if (reply.n_fds >= 1 && reply.len == sizeof(info)) {
		p->room = reply.fds[0];
		msg_close_fds(reply.fds + 1, reply.n_fds - 1);
		r = check_room(p, &info);
	} else {
		msg_close_fds(reply.fds, reply.n_fds);
		r = -EIO;
	}
	return r < 0 ? err_set(err, r, "the VMM gives no snapshot") : 0;
}

/* For what the guest overwrites: no name, gone with its last user. */
static int old_file(struct vmm *vmm)
{
	int fd = openat(vmm->state_dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		fd = openat(vmm->state_dir, ".old", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0 && unlinkat(vmm->state_dir, ".old", 0) < 0)
			close(take_fd(&fd));
	}
	return fd < 0 ? -errno : fd;
}

static int open_peek(struct vmm *vmm, const char *disk, struct cancel *cancel,
		     struct content **content, struct err *err)
{
	_cleanup_close_ int old = old_file(vmm), theirs = -1;
	struct peek *p = calloc(1, sizeof(*p));
	int pair[2], r = 0;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->content.ops = &peek_ops;
	p->sock = p->room = -1;
	pthread_mutex_init(&p->lock, NULL);
	if (old < 0)
		r = err_set(err, old, "no file for what the guest overwrites: %s", strerror(-old));
	else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		r = err_set(err, -errno, "no socket: %m");
	if (r == 0) {
		p->sock = pair[0];
		theirs = pair[1];
		r = ask_snapshot(vmm, disk, p, old, theirs, cancel, err);
	}
	if (r < 0)
		peek_close(&p->content);
	else
		*content = &p->content;
	return r;
}

/* --- one that nobody has --------------------------------------------------------------------- */

struct still {
	struct machine *m;
	char name[DISK_NAME_MAX + 1];
};

static void still_closed(void *arg, bool written)
{
	struct still *s = arg;

	if (written) {
		LOCK_SCOPE(&s->m->lock);
		machine_touch(s->m, ASPECT_DISK_CONTENT, s->name);
	}
	machine_put(s->m);
	free(s);
}

static int open_still(struct machine *m, const struct disk *d, bool write,
		      const struct rights *owner, struct cancel *cancel, struct content **content,
		      struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = NULL;
	struct disk_asks asks = {.owner = *owner, .cancel = cancel};
	struct content_block_params params = {.write = write, .closed = still_closed};
	struct still *still = calloc(1, sizeof(*still));
	struct disk copy = *d; /* texts are borrowed */
	struct block *block;
	struct block_info info;
	int r;

	if (!still)
		return err_set(err, -ENOMEM, "out of memory");
	copy.values.readonly = !write;
	r = disk_open_source(m, &copy, &asks, &o, err);
	if (r == 0)
		r = disk_opened_block(o, write, &block, err);
	if (r < 0) {
		free(still);
		return r;
	}
	block_info_get(block, &info);
	disk_size_note(m, d->name, info.bytes);
	still->m = machine_get(m);
	strcpy(still->name, d->name);
	params.arg = still;
	return content_block_open(content, block, &params, err);
}

/* --- content.h ------------------------------------------------------------------------------- */

/* The VMM that has it, or NULL. */
static struct vmm *vmm_with(struct machine *m, const char *disk, bool *empty)
{
	const struct vmm_has_disk *has;

	LOCK_SCOPE(&m->lock);
	has = m->vmm && m->vmm->ready && !m->vmm->ended ? vmm_disk_find(m->vmm, disk) : NULL;
	*empty = has && has->state == VMM_DISK_EMPTY;
	return has ? vmm_get(m->vmm) : NULL;
}

static bool has_layers(struct machine *m, const struct disk *d)
{
	LOCK_SCOPE(&m->lock);
	return m->layers && layer_set_find(m->layers, d->name, d->values.source);
}

/* A volume's own content, as the machine's owner may have it. */
static int open_volume(struct machine *m, const char *source, bool write,
		       const struct rights *owner, struct cancel *cancel, struct content **content,
		       struct err *err)
{
	struct caller caller = {.uid = owner->uid,
				.gid = owner->gid,
				.groups = owner->groups,
				.n_groups = owner->n_groups,
				.cancel = cancel};
	_cleanup_volume_ struct volume *volume = NULL;
	int r = model_volume_find(m->model, source, &volume, err);

	if (r == 0)
		r = volume_may_use(volume, owner, write, err);
	if (r == 0)
		r = volume_content_open(volume, write, &caller, content, err);
	return r;
}

int machine_disk_content_open(struct machine *m, const char *disk, bool write,
			      const struct caller *caller, struct content **content,
			      struct err *err)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	const struct disk *d = definition_disk(def, disk);
	_cleanup_rights_ struct rights owner = {0};
	bool empty;
	_cleanup_vmm_ struct vmm *vmm = vmm_with(m, disk, &empty);

	if (!d)
		return err_set(err, -ENOENT, "there is no disk %s", disk);
	if (vmm && write)
		return err_set(err, -EBUSY,
			       "the machine runs with it: its content can only be read");
	if (write && machine_state(m) == MACHINE_SAVED)
		return err_set(err, -EBUSY,
			       "the machine is saved and goes on with it: its content can only be "
			       "read");
	if (empty || !*d->values.source)
		return err_set(err, -ENXIO, "disk %s has no source", disk);
	if (vmm)
		return open_peek(vmm, disk, caller->cancel, content, err);
	if (machine_owner_rights(m, &owner) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (disk_source_pool(d->values.source) > 0 && !has_layers(m, d))
		return open_volume(m, d->values.source, write, &owner, caller->cancel, content,
				   err);
	return open_still(m, d, write, &owner, caller->cancel, content, err);
}
