// SPDX-License-Identifier: ISC
/*
 * Locking in, step two: the system calls that a machine makes once it is made,
 * each with its reason; for all threads there are and will be. Any other one ends
 * the process. A few that the C library tries and can do without are refused.
 *
 * The filter is assembled here from the tables: a comparison for each row, in the order of
 * the table. The kernel finds out at loading which calls are always allowed and then
 * answers for these without running it; so only those with a condition
 * cost anything, and they stand first.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>
#include <linux/fs.h>

#define LOG_MODULE "sandbox"
#include "vmm/sandbox.h"
#include "vmm/sandbox_int.h"
#include "util/cleanup.h"
#include "util/log.h"

/* Allowed where (low half of argument @arg & @mask) == @value. */
static const struct {
	int nr;
	unsigned arg;
	uint32_t mask, value;
	const char *why;
} conditional[] = {
    {SYS_ioctl, 1, 0xff00, KVMIO << 8, "KVM's own: run a vcpu, a reset's new VM"},
    {SYS_ioctl, 1, 0xff00, UFFDIO << 8, "memory that is brought in as it is touched"},
    {SYS_ioctl, 1, UINT32_MAX, BLKGETSIZE64, "a disk's size, when a reset opens it anew"},
    {SYS_ioctl, 1, UINT32_MAX, BLKSSZGET, "the same: its sector"},
    {SYS_ioctl, 1, UINT32_MAX, BLKPBSZGET, "the same"},
    {SYS_ioctl, 1, UINT32_MAX, TCGETS, "a new pty of the console"},
    {SYS_ioctl, 1, UINT32_MAX, TCSETS, "the same: made raw"},
    {SYS_ioctl, 1, UINT32_MAX, (uint32_t)TUNSETOFFLOAD, "what a guest takes off a tap's hands"},
    {SYS_ioctl, 1, UINT32_MAX, (uint32_t)TUNSETQUEUE, "how many queues of a tap a guest uses"},
    {SYS_ioctl, 1, UINT32_MAX, (uint32_t)TUNGETFEATURES, "a tap, when a reset opens it anew"},
    {SYS_ioctl, 1, UINT32_MAX, (uint32_t)TUNSETVNETHDRSZ, "the same"},
    {SYS_ioctl, 1, UINT32_MAX, (uint32_t)TUNSETVNETLE, "the same"},
    {SYS_mmap, 2, PROT_EXEC, 0, "vcpus, stacks and memory of a reset; never code"},
    {SYS_mprotect, 2, PROT_EXEC, 0, "guard pages of stacks, the heap; never code"},
    {SYS_clone, 0,
     CLONE_THREAD | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
	 CLONE_NEWPID | CLONE_NEWNET,
     CLONE_THREAD, "threads of vcpus and devices after a reset; no namespaces"},
    {SYS_clone, 0,
     CLONE_VM | CLONE_THREAD | CLONE_PARENT | CLONE_PTRACE | CLONE_NEWNS | CLONE_NEWCGROUP |
	 CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
     0, "fork: who holds memory at a snapshot, and clones; locked in as this one, no namespaces"},
    {SYS_prctl, 0, UINT32_MAX, PR_SET_NAME, "names of threads"},
    {SYS_fcntl, 1, UINT32_MAX, F_GETFL, "flags of disks and of the pty"},
    {SYS_fcntl, 1, UINT32_MAX, F_SETFL, "the same"},
    {SYS_fcntl, 1, UINT32_MAX, F_SETFD, "a clone: the socket it was given"},
    {SYS_fcntl, 1, UINT32_MAX, F_DUPFD_CLOEXEC, "a device's own descriptor of its disk"},
    {SYS_fcntl, 1, UINT32_MAX, F_OFD_SETLK, "a disk below a new layer: others may read it now"},
    {SYS_fcntl, 1, UINT32_MAX, F_ADD_SEALS, "memory shared with a snapshot's reader: it stays"},
};

static const struct {
	int nr;
	const char *why;
} allowed[] = {
    {SYS_read, "eventfds, pty, kernel and initrd of a reset"},
    {SYS_write, "eventfds, log, pty"},
    {SYS_readv, "block layer"},
    {SYS_writev, "block layer"},
    {SYS_pread64, "kernel and initrd of a reset; block layer"},
    {SYS_pwrite64, "block layer"},
    {SYS_preadv, "block layer, threads"},
    {SYS_pwritev, "block layer, threads"},
    {SYS_preadv2, "block layer, threads"},
    {SYS_pwritev2, "block layer, threads"},
    {SYS_fdatasync, "block layer: FLUSH"},
    {SYS_fsync, "block layer: FLUSH"},
    {SYS_fallocate, "block layer: DISCARD; memory given back at a reset"},
    {SYS_lseek, "sizes of kernel, initrd, disks"},
    {SYS_fstat, "the same, room in the console's log"},
    {SYS_newfstatat, "what the C library calls for fstat"},
    {SYS_statx, "block layer: alignment for O_DIRECT"},
    {SYS_ftruncate, "block layer: resize"},
    {SYS_io_uring_enter, "block layer: rings made before, which refuse all but disk I/O"},
    {SYS_io_uring_register, "block layer: enabling such a ring"},
    {SYS_futex, "locks"},
    {SYS_epoll_wait, "loops of control and device threads"},
    {SYS_epoll_pwait, "the same"},
    {SYS_epoll_ctl, "the same"},
    {SYS_epoll_create1, "device threads after a reset"},
    {SYS_eventfd2, "device threads and interrupts after a reset, MSI-X vectors"},
    {SYS_poll, "block layer, threads"},
    {SYS_ppoll, "the same"},
    {SYS_timerfd_create, "timers of devices after a reset"},
    {SYS_timerfd_settime, "the same"},
    {SYS_memfd_create, "memory shared with a snapshot's reader; never code: see mmap"},
    {SYS_close_range, "the holder of a snapshot's memory: all that is not its own"},
    {SYS_dup2, "the same, and a clone: what it has, to where that is looked for"},
    {SYS_sched_getaffinity, "how many threads write a snapshot's memory"},
    {SYS_sync_file_range, "a snapshot's memory goes to the disk while more is written"},
    {SYS_pidfd_open,
     "the end of who holds memory: its pages become huge again, or the guest waits for it"},
    {SYS_recvmsg, "requests of the daemon"},
    {SYS_sendmsg, "answers and events"},
    {SYS_accept4, "a daemon that was restarted; who connects to a port of the guest (vsock)"},
    {SYS_shutdown, "vsock: half of a connection"},
    {SYS_getsockopt, "whose uid that one has"},
    {SYS_close, "replaced descriptors, resets"},
    {SYS_munmap, "resets, ends of threads"},
    {SYS_mremap, "the heap"},
    {SYS_madvise, "guest memory; the C library at a thread's end"},
    {SYS_brk, "the heap"},
    {SYS_tgkill, "kicks of vcpus; abort"},
    {SYS_getpid, "the C library before tgkill; lines of the log"},
    {SYS_gettid, "the same"},
    {SYS_rt_sigprocmask, "making threads"},
    {SYS_rt_sigreturn, "the end of a kick's handler"},
    {SYS_rt_sigaction, "abort"},
    {SYS_set_robust_list, "a new thread"},
    {SYS_rseq, "a new thread"},
    {SYS_sched_yield, "the C library"},
    {SYS_restart_syscall, "waits that were interrupted"},
    {SYS_clock_gettime, "where the vdso cannot answer"},
    {SYS_clock_nanosleep, "waits of devices"},
    {SYS_gettimeofday, "where the vdso cannot answer"},
    {SYS_getrandom, "virtio-rng"},
    {SYS_exit, "a thread's end"},
    {SYS_exit_group, "QUIT"},
};

/* Refused with an errno that whoever tries them lives with. */
static const struct {
	int nr;
	int error;
	const char *why;
} refused[] = {
    {SYS_clone3, ENOSYS, "its flags cannot be looked at: the C library then takes clone"},
    {SYS_io_uring_setup, EPERM, "a new ring could do anything; the block layer takes threads"},
    {SYS_openat, EACCES, "the C library, for files of the host that it does without"},
};

struct program {
	struct sock_filter code[512];
	unsigned n;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (p->n < nitems(p->code))
		p->code[p->n] = (struct sock_filter){code, jt, jf, k};
	p->n++;
}

static void emit_load(struct program *p, uint32_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

/* If the accumulator is @k return @action, else go on. */
static void emit_case(struct program *p, uint32_t k, uint32_t action)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
	emit(p, BPF_RET | BPF_K, action, 0, 0);
}

static void emit_conditional(struct program *p, unsigned row)
{
	const uint32_t nr = offsetof(struct seccomp_data, nr);
	const uint32_t arg = offsetof(struct seccomp_data, args[0]) +
			     conditional[row].arg * (uint32_t)sizeof(uint64_t);

	emit_load(p, nr);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)conditional[row].nr, 0, 4);
	emit_load(p, arg); /* the low half: little endian */
	emit(p, BPF_ALU | BPF_AND | BPF_K, conditional[row].mask, 0, 0);
	emit_case(p, conditional[row].value, SECCOMP_RET_ALLOW);
}

static void assemble(struct program *p)
{
	emit_load(p, offsetof(struct seccomp_data, arch));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	emit(p, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	for (unsigned i = 0; i < nitems(conditional); i++)
		emit_conditional(p, i);
	emit_load(p, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < nitems(allowed); i++)
		emit_case(p, (uint32_t)allowed[i].nr, SECCOMP_RET_ALLOW);
	for (unsigned i = 0; i < nitems(refused); i++)
		emit_case(p, (uint32_t)refused[i].nr,
			  SECCOMP_RET_ERRNO | (uint32_t)refused[i].error);
	/* Calls of the x32 ABI have numbers of their own and end here as well. */
	emit(p, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

int sandbox_seal(struct err *err)
{
	struct program p = {.n = 0};
	struct sock_fprog prog = {.filter = p.code};

	if (SANDBOX_INSTRUMENTED) {
		log_info("an instrumented build: system calls are not filtered");
		return 0;
	}
	assemble(&p);
	if (p.n > nitems(p.code))
		return err_set(err, -E2BIG, "sandbox: filter too long");
	prog.len = (unsigned short)p.n;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) != 0)
		return err_set(err, -errno, "sandbox: cannot filter system calls");
	return 0;
}
