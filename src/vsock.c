// SPDX-License-Identifier: ISC
/*
 * Sockets for the ports of a guest: RUN/vsock/ID/PORT. See vsock.h.
 *
 * A socket is bound under another name, is given to the machine's owner, and only then listens and
 * gets its own name: nobody connects who may not. Which there are is known by the files: a daemon
 * that finds a VMM makes each of them anew, for the one before it may have been killed before it
 * had handed its socket over.
 */
#define LOG_MODULE "vsock"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "util/size.h"
#include "vsock_int.h"

#define BACKLOG	 128
#define FILE_MAX 24 /* of a socket's name */

/* --- the address ---------------------------------------------------------------------------- */

/* FNV-1a, 32 bits, into the addresses that are not reserved. */
uint32_t vsock_cid(const char *id)
{
	uint32_t hash = 2166136261u;

	for (const char *p = id; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	return VMM_VSOCK_CID_MIN + hash % (VMM_VSOCK_CID_MAX - VMM_VSOCK_CID_MIN);
}

int machine_vsock_cid_show(struct machine *m, struct strbuf *sb)
{
	strbuf_printf(sb, "%u", vsock_cid(m->id));
	return 0;
}

/* --- directories ---------------------------------------------------------------------------- */

/* RUN/vsock/ID; made where @make. A descriptor or -errno. */
static int open_dir(struct machine *m, bool make)
{
	_cleanup_close_ int all = -1;
	int fd;

	if (make && mkdirat(m->model->run_fd, "vsock", 0711) < 0 && errno != EEXIST)
		return -errno;
	/* Its users pass through, whatever the daemon's umask is. */
	if (make && geteuid() == 0 && fchmod(m->model->run_fd, 0711) < 0)
		return -errno;
	all = openat(m->model->run_fd, "vsock", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (all < 0)
		return -errno;
	if (make && ((mkdirat(all, m->id, 0711) < 0 && errno != EEXIST) || fchmod(all, 0711) < 0))
		return -errno;
	fd = openat(all, m->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && make && fchmod(fd, 0711) < 0) {
		close(fd);
		return -EACCES;
	}
	return fd < 0 ? -errno : fd;
}

void vsock_clear(struct machine *m)
{
	_cleanup_closedir_ DIR *d = NULL;
	int fd = open_dir(m, false);
	struct dirent *e;
	char path[64];

	if (fd < 0 || !(d = fdopendir(fd))) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	snprintf(path, sizeof(path), "vsock/%s", m->id);
	unlinkat(m->model->run_fd, path, AT_REMOVEDIR);
}

/* --- a socket ------------------------------------------------------------------------------- */

/* Whoever may write the machine's files may connect: that takes the right to write. */
static int own(int dir, const char *name, const struct machine_access *access)
{
	if (fchmodat(dir, name, access->mode & 0666, 0) < 0)
		return -errno;
	if (geteuid() == 0 &&
	    fchownat(dir, name, access->uid, access->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

void vmm_vsock_own(struct vmm *vmm, const struct machine_access *access)
{
	_cleanup_close_ int dir = vmm->vsock ? open_dir(vmm->m, false) : -1;

	for (unsigned i = 0; dir >= 0 && i < vmm->vsock->n; i++) {
		char name[FILE_MAX];

		snprintf(name, sizeof(name), "%u", vmm->vsock->ports[i]);
		if (own(dir, name, access) < 0)
			log_warn("vsock port %s cannot be handed to its owner: %m", name);
	}
}

static bool known(const struct vmm_vsock_ports *v, uint32_t port)
{
	for (unsigned i = 0; i < v->n; i++)
		if (v->ports[i] == port)
			return true;
	return false;
}

static int bind_socket(int dir, const char *name)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	unlinkat(dir, name, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir, name);
	return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : take_fd(&fd);
}

/* Its owner, its name, and that it listens: all at once for who changes the owner. */
static int show(struct vmm *vmm, uint32_t port, int dir, const char *hidden, int fd)
{
	struct vmm_vsock_ports *v = vmm->vsock;
	char name[FILE_MAX];
	int r;

	snprintf(name, sizeof(name), "%u", port);
	LOCK_SCOPE(&vmm->m->lock);
	if (vmm->gone)
		return -ENOENT;
	if (!known(v, port) && v->n == nitems(v->ports))
		return -ENOSPC;
	r = own(dir, hidden, &vmm->m->access);
	if (r == 0 && (listen(fd, BACKLOG) < 0 || renameat(dir, hidden, dir, name) < 0))
		r = -errno;
	if (r == 0 && !known(v, port))
		v->ports[v->n++] = port;
	return r;
}

/* Nobody listens there: it is made again when it is asked for again. */
static void forget(struct vmm *vmm, uint32_t port, int dir)
{
	struct vmm_vsock_ports *v = vmm->vsock;
	char name[FILE_MAX];
	unsigned i = 0;

	snprintf(name, sizeof(name), "%u", port);
	LOCK_SCOPE(&vmm->m->lock);
	while (i < v->n && v->ports[i] != port)
		i++;
	if (i < v->n)
		v->ports[i] = v->ports[--v->n];
	unlinkat(dir, name, 0);
}

/* Under v->lock. */
static int make_socket(struct vmm *vmm, uint32_t port)
{
	struct vmm_vsock_port msg = {.port = port};
	_cleanup_close_ int dir = open_dir(vmm->m, true), fd = -1;
	char hidden[FILE_MAX];
	int r = dir;

	snprintf(hidden, sizeof(hidden), "%u.new", port);
	if (dir >= 0)
		r = fd = bind_socket(dir, hidden);
	if (r >= 0)
		r = show(vmm, port, dir, hidden, fd);
	if (r < 0 && dir >= 0)
		unlinkat(dir, hidden, 0);
	if (r == 0 && !vmm_post(vmm, VMM_VSOCK_LISTEN, &msg, sizeof(msg), &fd, 1)) {
		forget(vmm, port, dir);
		r = -EBUSY; /* it hangs, or is going */
	}
	return r;
}

int machine_vsock_path(struct machine *m, uint32_t port, struct strbuf *sb)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	bool there;
	int r = 0;

	if (!vmm || !vmm->vsock || port == UINT32_MAX)
		return -ENOENT;
	LOCK_SCOPE(&vmm->vsock->lock);
	pthread_mutex_lock(&m->lock);
	there = known(vmm->vsock, port);
	pthread_mutex_unlock(&m->lock);
	if (!there)
		r = make_socket(vmm, port);
	if (r < 0)
		return r;
	strbuf_printf(sb, "%s/vsock/%s/%u", m->model->run_dir, m->id, port);
	return 0;
}

bool machine_vsock_on(struct machine *m)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);

	return vmm && vmm->vsock;
}

bool machine_vsock_at(struct machine *m, size_t index, uint32_t *port)
{
	LOCK_SCOPE(&m->lock);
	if (!m->vmm || !m->vmm->vsock || !m->vmm->ready || index >= m->vmm->vsock->n)
		return false;
	*port = m->vmm->vsock->ports[index];
	return true;
}

/* --- of a VMM ------------------------------------------------------------------------------- */

int vmm_vsock_set(struct vmm *vmm)
{
	vmm->vsock = calloc(1, sizeof(*vmm->vsock));
	if (!vmm->vsock)
		return -ENOMEM;
	pthread_mutex_init(&vmm->vsock->lock, NULL);
	return 0;
}

void vmm_vsock_free(struct vmm *vmm)
{
	if (vmm->vsock)
		pthread_mutex_destroy(&vmm->vsock->lock);
	free(take_ptr(vmm->vsock));
}

void vmm_vsock_note(struct vmm *vmm, struct strbuf *sb)
{
	if (vmm->vsock)
		strbuf_puts(sb, "vsock\n");
}

bool vmm_vsock_read(struct vmm *vmm, const char *line)
{
	return strcmp(line, "vsock") == 0 && !vmm->vsock && vmm_vsock_set(vmm) == 0;
}

void vmm_vsock_recover(struct vmm *vmm)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	uint64_t port;
	int fd = vmm->vsock ? open_dir(vmm->m, false) : -1;

	if (fd < 0 || !(d = fdopendir(fd))) {
		if (fd >= 0)
			close(fd);
		return;
	}
	LOCK_SCOPE(&vmm->vsock->lock);
	while ((e = readdir(d))) {
		LOCK_SCOPE(&vmm->m->lock);
		if (uint_parse(e->d_name, 0, UINT32_MAX - 1, &port) == 0 &&
		    vmm->vsock->n < nitems(vmm->vsock->ports))
			vmm->vsock->ports[vmm->vsock->n++] = (uint32_t)port;
		else if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0); /* one that was being made */
	}
	for (unsigned i = vmm->vsock->n;
	     i-- > 0;) { /* one that is forgotten moves those behind it */
		uint32_t lost = vmm->vsock->ports[i];

		if (make_socket(vmm, lost) < 0)
			log_warn("vsock port %u has no socket any more", lost);
	}
}
