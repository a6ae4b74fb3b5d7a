// SPDX-License-Identifier: ISC
/* What this host offers: a table of facts, each asked of the kernel when it is read. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "host.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define KVM_PATH "/dev/kvm"

/* --- KVM --------------------------------------------------------------------------------- */

int host_kvm_open(struct err *err)
{
	_cleanup_close_ int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC | O_NOCTTY);
	int version;

	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return err_set(err, -EACCES, "%s: %m", KVM_PATH);
	if (fd < 0)
		return err_set(err, -ENODEV, "%s: %m", KVM_PATH);
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return err_set(err, -ENODEV, "%s is not KVM: %m", KVM_PATH);
	if (version != KVM_API_VERSION)
		return err_set(err, -ENODEV, "%s has API version %d, not %d", KVM_PATH, version,
			       KVM_API_VERSION);
	return take_fd(&fd);
}

static void kvm_device(struct strbuf *sb)
{
	struct err err = ERR_INIT;
	_cleanup_close_ int fd = host_kvm_open(&err);

	if (fd < 0)
		strbuf_printf(sb, "%s %s", err_name(err.code), err.text);
	else
		strbuf_puts(sb, "ok");
}

/* A number that KVM says; "none" without KVM. */
static void kvm_number(struct strbuf *sb, unsigned long request, long arg)
{
	_cleanup_close_ int fd = host_kvm_open(NULL);
	int n = fd < 0 ? -1 : ioctl(fd, request, arg);

	if (n < 0)
		strbuf_puts(sb, "none");
	else
		strbuf_printf(sb, "%d", n);
}

#define KVM_FACT(function, request, arg)                                                           \
	static void function(struct strbuf *sb)                                                    \
	{                                                                                          \
		kvm_number(sb, request, arg);                                                      \
	}

KVM_FACT(kvm_api_version, KVM_GET_API_VERSION, 0)
KVM_FACT(kvm_max_vcpus, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS)
KVM_FACT(kvm_nr_vcpus, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS)
KVM_FACT(kvm_nr_memslots, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS)
KVM_FACT(kvm_irqchip, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP)
KVM_FACT(kvm_irqfd, KVM_CHECK_EXTENSION, KVM_CAP_IRQFD)
KVM_FACT(kvm_ioeventfd, KVM_CHECK_EXTENSION, KVM_CAP_IOEVENTFD)
KVM_FACT(kvm_tsc_control, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL)
KVM_FACT(kvm_dirty_ring, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING)
KVM_FACT(kvm_xsave2, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2)
KVM_FACT(kvm_immediate_exit, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT)

/* --- the machine ------------------------------------------------------------------------------ */

static void cpus(struct strbuf *sb)
{
	strbuf_printf(sb, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
}

/* A line of a file of /proc: the number behind the name. */
static bool proc_number(const char *path, const char *name, unsigned long long *n)
{
	_cleanup_free_ char *text = NULL;
	size_t len = strlen(name);

	if (file_read(AT_FDCWD, path, 1 << 16, &text, NULL) < 0)
		return false;
	for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, name, len) == 0)
			return sscanf(line + len, " %llu", n) == 1;
	return false;
}

static void meminfo(struct strbuf *sb, const char *name, unsigned unit)
{
	unsigned long long n = 0;

	proc_number("/proc/meminfo", name, &n);
	strbuf_printf(sb, "%llu", n * unit);
}

static void memory(struct strbuf *sb)
{
	meminfo(sb, "MemTotal:", 1024);
}

static void memory_free(struct strbuf *sb)
{
	meminfo(sb, "MemAvailable:", 1024);
}

static void hugepages(struct strbuf *sb)
{
	meminfo(sb, "HugePages_Total:", 1);
}

static void hugepages_free(struct strbuf *sb)
{
	meminfo(sb, "HugePages_Free:", 1);
}

static void kernel(struct strbuf *sb)
{
	struct utsname u;

	if (uname(&u) == 0)
		strbuf_puts(sb, u.release);
}

/* --- capabilities: "yes" or "no: why" --------------------------------------------------------- */

static void yes_or_errno(struct strbuf *sb, bool yes)
{
	if (yes)
		strbuf_puts(sb, "yes");
	else
		strbuf_printf(sb, "no: %s", strerror(errno));
}

static void landlock(struct strbuf *sb)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* VERSION */);

	yes_or_errno(sb, abi > 0);
}

static void io_uring(struct strbuf *sb)
{
	/* an impossible request: EFAULT where there is io_uring, else ENOSYS or EPERM */
	long r = syscall(SYS_io_uring_setup, 1, NULL);

	if (r >= 0)
		close((int)r);
	yes_or_errno(sb, r >= 0 || errno == EFAULT || errno == EINVAL);
}

static void userfaultfd(struct strbuf *sb)
{
	long fd = syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* user mode only */);

	yes_or_errno(sb, fd >= 0);
	if (fd >= 0)
		close((int)fd);
}

static void exists(struct strbuf *sb, const char *path)
{
	yes_or_errno(sb, access(path, F_OK) == 0);
}

static void vhost_net(struct strbuf *sb)
{
	exists(sb, "/dev/vhost-net");
}

static void vhost_vsock(struct strbuf *sb)
{
	exists(sb, "/dev/vhost-vsock");
}

static void tun(struct strbuf *sb)
{
	exists(sb, "/dev/net/tun");
}

static void cgroup2(struct strbuf *sb)
{
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
		strbuf_puts(sb, "yes");
	else
		exists(sb, "/sys/fs/cgroup/unified/cgroup.controllers");
}

/* --- the table ----------------------------------------------------------------------------------
 */

const struct host_fact host_facts[] = {
    {"cpus", cpus, "processors that are online"},
    {"memory", memory, "bytes of memory"},
    {"memory_free", memory_free, "bytes of memory that may be had"},
    {"kernel", kernel, "release of the kernel"},
    {"hugepages", hugepages, "huge pages that are reserved, of 2 MiB"},
    {"hugepages_free", hugepages_free, "of these, the ones nobody has"},
    {"kvm/device", kvm_device, "ok, or why KVM cannot be used"},
    {"kvm/api_version", kvm_api_version, "version of KVM's interface; must be 12"},
    {"kvm/max_vcpus", kvm_max_vcpus, "most vcpus of a machine"},
    {"kvm/recommended_vcpus", kvm_nr_vcpus, "most vcpus of a machine that make sense"},
    {"kvm/memslots", kvm_nr_memslots, "most regions of memory of a machine"},
    {"kvm/irqchip", kvm_irqchip, "interrupt controllers in the kernel"},
    {"kvm/irqfd", kvm_irqfd, "interrupts by eventfd"},
    {"kvm/ioeventfd", kvm_ioeventfd, "notifications by eventfd"},
    {"kvm/tsc_control", kvm_tsc_control, "scaling of the time stamp counter"},
    {"kvm/dirty_ring", kvm_dirty_ring, "bytes of a ring of written pages; 0: none"},
    {"kvm/xsave2", kvm_xsave2, "bytes of a vcpu's extended state; 0: as of old"},
    {"kvm/immediate_exit", kvm_immediate_exit, "leaving a vcpu without a signal"},
    {"capabilities/landlock", landlock, "VMMs can be kept from files by landlock"},
    {"capabilities/io_uring", io_uring, "disks by io_uring"},
    {"capabilities/userfaultfd", userfaultfd, "memory that comes when it is touched"},
    {"capabilities/vhost_net", vhost_net, "networking in the kernel"},
    {"capabilities/vhost_vsock", vhost_vsock, "sockets between host and guest"},
    {"capabilities/tun", tun, "network interfaces for guests"},
    {"capabilities/cgroup2", cgroup2, "limits for guests"},
};
const size_t n_host_facts = nitems(host_facts);
