/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_PROTO_H
#define FV_VMM_PROTO_H
/*
 * The words between filevisord and a filevisor-vmm: the only header that
 * src/ and vmm/ share (besides src/util).
 *
 * Transport: a SOCK_SEQPACKET unix socket. The daemon binds and listens on
 * RUN/machines/ID/vmm.sock and starts the VMM with that listening socket as
 * descriptor 3; then, as after every restart of its own, it connects. The VMM
 * serves one connection; a newer one replaces the older. Peers with another
 * uid than the listener's creator's are dropped (SO_PEERCRED).
 *
 * Every packet is a struct vmm_msg_hdr and `len` bytes of payload, with at
 * most VMM_MSG_FDS descriptors. The daemon sends requests; the VMM answers
 * each, in any order, with VMM_REPLY and the same seq. Events come from the
 * VMM with seq 0 whenever they happen. Both sides check lengths, bound every
 * count, force NUL at the end of every string, and copy out: a VMM taken
 * over by its guest must not harm the daemon.
 *
 * Order of a start: HELLO, CONFIG, KERNEL, [INITRD], CMDLINE, DISK*, CONSOLE,
 * RUN. RUN answers when the vcpus run (or says why they cannot).
 */
#include <stdint.h>

#define VMM_PROTO_VERSION  1
#define VMM_LISTEN_FD	   3
#define VMM_MSG_MAX	   65536 /* bytes of a packet, header included */
#define VMM_MSG_FDS	   8
#define VMM_NAME_MAX	   64
#define VMM_TEXT_MAX	   512
#define VMM_CPUS_MAX	   240
#define VMM_DISKS_MAX	   26
#define VMM_CMDLINE_MAX	   2048 /* with its NUL; x86 COMMAND_LINE_SIZE */
#define VMM_CONSOLE_IN_MAX 4096 /* bytes of one CONSOLE_INPUT */

enum vmm_msg_type {
	VMM_REPLY = 1, /* error in hdr; on failure the payload is text */
	/* requests: payload; descriptors; what the reply carries */
	VMM_HELLO = 16,	   /* struct vmm_hello; none; struct vmm_status + fds: stats, [memory] */
	VMM_CONFIG,	   /* struct vmm_config; /dev/kvm */
	VMM_KERNEL,	   /* none; the kernel's file */
	VMM_INITRD,	   /* none; the initrd's file */
	VMM_CMDLINE,	   /* text */
	VMM_DISK,	   /* struct vmm_disk; the image */
	VMM_CONSOLE,	   /* struct vmm_console; the log file (O_APPEND), [pty master] */
	VMM_RUN,	   /* none; fds of the reply: memory (memfd, offset = guest physical) */
	VMM_PAUSE,	   /* none; answered when every vcpu and device stands still */
	VMM_RESUME,	   /* none */
	VMM_RESET,	   /* none: power cycle in place */
	VMM_POWER_BUTTON,  /* none: ACPI power button (fixed feature) */
	VMM_QUIT,	   /* none: answered, then the process ends */
	VMM_VCPU,	   /* struct vmm_vcpu_get; reply: struct vmm_vcpu_state */
	VMM_CONSOLE_INPUT, /* bytes; reply: uint32_t, how many were taken */
	/* events */
	VMM_EV_STATE = 64, /* struct vmm_status: the state changed */
	VMM_EV_CONSOLE,	   /* uint64_t: bytes printed so far in this VMM's life; coalesced */
};

struct vmm_msg_hdr {
	uint32_t type;
	uint32_t seq;
	uint32_t len;  /* bytes of payload after this header */
	int32_t error; /* VMM_REPLY: 0 or -errno */
};

struct vmm_hello {
	uint32_t version; /* VMM_PROTO_VERSION of the daemon */
};

enum vmm_state {
	VMM_STATE_NEW, /* being configured */
	VMM_STATE_RUNNING,
	VMM_STATE_PAUSED,
	VMM_STATE_ENDED, /* vcpus stopped for good; waits for QUIT. See reason. */
};

enum vmm_reason {
	VMM_REASON_NONE,
	VMM_REASON_POWEROFF, /* the guest switched itself off */
	VMM_REASON_REBOOT,   /* the guest rebooted and on_reboot says stop */
	VMM_REASON_CRASH, /* triple fault, emulation failure, KVM error; registers remain readable
			   */
	VMM_REASON_FAULT, /* the VMM itself failed: a device, the host */
};

/* What the machine is doing; sent with HELLO's reply and as VMM_EV_STATE. */
struct vmm_status {
	uint32_t version; /* VMM_PROTO_VERSION of the VMM */
	uint32_t state;	  /* enum vmm_state */
	uint32_t reason;  /* enum vmm_reason, when ENDED; also on a RUNNING after a reset: why */
	uint32_t cpus;
	uint64_t memory_bytes;
	uint64_t console_bytes;	 /* printed so far in this VMM's life */
	uint64_t resets;	 /* power cycles in place so far */
	char text[VMM_TEXT_MAX]; /* words for reason; several lines with registers when crashed */
};

/* What the guest's own action leads to; resets are done by the VMM itself. */
enum vmm_action { VMM_ACTION_STOP, VMM_ACTION_RESTART, VMM_ACTION_PRESERVE };

struct vmm_config {
	char name[VMM_NAME_MAX]; /* for process title and log */
	uint8_t id[16];		 /* machine id (RFC 4122) */
	uint32_t cpus;
	uint32_t hugepages;    /* 0 or 1 */
	uint64_t memory_bytes; /* a multiple of 4096 (2 MiB with hugepages) */
	uint32_t on_reboot;    /* enum vmm_action: STOP or RESTART */
	uint32_t on_poweroff;  /* STOP or RESTART */
	uint32_t on_crash;     /* STOP, RESTART, PRESERVE (to the VMM the same as STOP: it waits) */
	uint32_t uid, gid;     /* become these when started as root; never 0 */
};

struct vmm_disk {
	char name[VMM_NAME_MAX];
	uint32_t readonly;
	uint32_t queues; /* 1 … 16; 0: as many as vcpus, at most 4 */
};

struct vmm_console {
	uint64_t log_limit_bytes; /* grow the log to no more than this (daemon away); then drop,
				     counted */
};

struct vmm_vcpu_get {
	uint32_t vcpu;
};

struct vmm_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint16_t
	    attributes; /* as in a VMCS access-rights field, low 16 bits (Intel SDM 3C §25.4.1) */
};

struct vmm_vcpu_state {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
	struct vmm_segment cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt; /* gdt, idt: base and limit */
	uint32_t mp_state;					      /* KVM_MP_STATE_… */
	uint32_t running; /* 1 while the vcpu runs guest code */
	uint8_t fxsave[512];
};

/*
 * Counters, in a memfd which the VMM makes and the daemon maps read-only, so
 * that reading statistics asks nobody. A counter is one cache line; entries
 * are only ever added (n_counters is stored with release order after the
 * entry). The daemon bounds n_counters and checks names ([a-z0-9._-], NUL).
 */
#define VMM_STATS_MAGIC 0x31617473766c6966ull
#define VMM_STATS_MAX	1023

struct vmm_counter {
	char name[56]; /* "vcpu.0.exits", "disk.root.read_bytes" */
	uint64_t value;
};

struct vmm_stats_page {
	uint64_t magic;
	uint64_t n_counters;
	uint64_t reserved[6];
	struct vmm_counter counters[VMM_STATS_MAX];
};

#endif
