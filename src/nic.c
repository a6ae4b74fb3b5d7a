// SPDX-License-Identifier: ISC
/*
 * What is shown of a machine's network cards, and captures of what passes through them.
 *
 * A capture is RUN/machines/ID/pcap-NAME, opened for appending and handed to the VMM, which
 * writes blocks of pcapng there until it has as many bytes as were asked for. It stays when the
 * machine has ended, until the next capture, or until the machine is undefined.
 */
#define LOG_MODULE "nic"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nic_int.h"
#include "util/cleanup.h"
#include "vmm.h"

#define PCAP_NAME_MAX (DISK_NAME_MAX + 8)

bool nic_same_device(const struct nic *a, const struct nic *b)
{
	return strcmp(a->values.mac, b->values.mac) == 0 && a->values.mtu == b->values.mtu &&
	       a->values.queues == b->values.queues;
}

int machine_nic_state_show(struct machine *m, const char *name, struct strbuf *sb)
{
	const struct vmm_has_nic *has;
	const struct nic *n;

	LOCK_SCOPE(&m->lock);
	n = definition_nic(m->def, name);
	if (!n)
		return -ENOENT;
	has = m->vmm ? vmm_nic_find(m->vmm, name) : NULL;
	strbuf_puts(sb, !has					 ? "detached"
			: has->waits || has->stranger		 ? "waiting"
			: has->plug.network[0] && n->values.link ? "connected"
								 : "disconnected");
	return sb->failed ? -ENOMEM : 0;
}

/* --- captures --------------------------------------------------------------------------------- */

static void pcap_name(char name[PCAP_NAME_MAX], const char *nic)
{
	snprintf(name, PCAP_NAME_MAX, "pcap-%.31s", nic);
}

static int make_file(struct vmm *vmm, const char *nic, struct err *err)
{
	char name[PCAP_NAME_MAX];
	int fd;

	pcap_name(name, nic);
	/* another file than before: who reads that one reads on */
	unlinkat(vmm->run_dir, name, 0);
	fd = openat(vmm->run_dir, name,
		    O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? err_set(err, -errno, "cannot make a file for frames: %s", strerror(errno))
		      : fd;
}

static int tell_capture(struct vmm *vmm, const char *nic, int fd, uint64_t bytes, struct err *err)
{
	struct vmm_nic_capture msg = {.limit_bytes = bytes};
	struct vmm_request rq = {.type = VMM_NIC_CAPTURE,
				 .data = &msg,
				 .len = sizeof(msg),
				 .fds = &fd,
				 .n_fds = fd >= 0,
				 .timeout_ms = VMM_ORDER_MS};

	snprintf(msg.name, sizeof(msg.name), "%s", nic);
	return vmm_call(vmm, &rq, NULL, err);
}

int nic_capture(struct machine *m, const char *nic, uint64_t bytes, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	_cleanup_close_ int fd = -1;
	struct vmm_has_nic *has;
	int r;

	if (!vmm)
		return err_set(err, -EBUSY, "the machine has ended");
	pthread_mutex_lock(&m->lock);
	has = vmm_nic_find(vmm, nic);
	pthread_mutex_unlock(&m->lock);
	if (!has)
		return err_set(err, -EBUSY, "it is not attached");
	fd = bytes ? make_file(vmm, nic, err) : -1;
	if (bytes && fd < 0)
		return fd;
	r = tell_capture(vmm, nic, fd, bytes, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->lock);
	has = vmm_nic_find(vmm, nic);
	if (has)
		has->capturing = bytes;
	machine_touch(m, ASPECT_NIC, nic);
	pthread_mutex_unlock(&m->lock);
	vmm_note(vmm);
	return 0;
}

int machine_nic_pcap_open(struct machine *m, const char *nic)
{
	_cleanup_close_ int dir = rundir_open(m, false);
	char name[PCAP_NAME_MAX];
	int fd;

	if (dir < 0 || disk_name_check(nic, NULL) < 0)
		return -ENOENT;
	pcap_name(name, nic);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int machine_nic_pcap_stat(struct machine *m, const char *nic, uint64_t *size,
			  struct timespec *mtime)
{
	_cleanup_close_ int fd = machine_nic_pcap_open(m, nic);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	*mtime = st.st_mtim;
	return 0;
}
