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
 * Order of a start: HELLO, CONFIG, KERNEL, [INITRD], CMDLINE, (LAYER* DISK)*,
 * CONSOLE, RUN. RUN answers when the vcpus run (or says why they cannot).
 *
 * A disk is a chain of layers, the top one first. LAYERs gather at the VMM until
 * the DISK (or DISK_CHANGE) that takes them; one that is refused drops them, and so
 * does the next connection.
 */
#include <stdint.h>

#define VMM_PROTO_VERSION  2
#define VMM_LISTEN_FD	   3
#define VMM_MSG_MAX	   65536 /* bytes of a packet, header included */
#define VMM_MSG_FDS	   8
#define VMM_NAME_MAX	   64
#define VMM_TEXT_MAX	   512
#define VMM_CPUS_MAX	   240
#define VMM_DISKS_MAX	   26
#define VMM_CMDLINE_MAX	   2048 /* with its NUL; x86 COMMAND_LINE_SIZE */
#define VMM_CONSOLE_IN_MAX 4096 /* bytes of one CONSOLE_INPUT */

/* A saved state begins with it; four bytes at USED_AT are not 0 once RUN has used it. */
#define VMM_STATE_MAGIC	  "FVSTATE\n"
#define VMM_STATE_USED_AT 60

enum vmm_msg_type {
	VMM_REPLY = 1, /* error in hdr; on failure the payload is text */
	/* requests: payload; descriptors; what the reply carries */
	VMM_HELLO = 16, /* struct vmm_hello; none; struct vmm_status + fds: stats, [memory] */
	VMM_CONFIG,	/* struct vmm_config; /dev/kvm */
	VMM_KERNEL,	/* none; the kernel's file */
	VMM_INITRD,	/* none; the initrd's file */
	VMM_CMDLINE,	/* text */
	VMM_DISK,    /* struct vmm_disk; none: adds a disk of the layers before it. To a guest that
			runs or is paused it is attached hot; answered when it is plugged in,
			with words if the guest is not going to look for it by itself */
	VMM_CONSOLE, /* struct vmm_console; the log file (O_APPEND), [pty master] */
	VMM_RUN,     /* none; fds of the reply: memory (memfd, offset = guest physical) */
	VMM_PAUSE,   /* none; answered when every vcpu and device stands still */
	VMM_RESUME,  /* none */
	VMM_RESET,   /* none: power cycle in place */
	VMM_POWER_BUTTON,  /* none: ACPI power button (fixed feature) */
	VMM_QUIT,	   /* none: answered, then the process ends */
	VMM_VCPU,	   /* struct vmm_vcpu_get; reply: struct vmm_vcpu_state */
	VMM_CONSOLE_INPUT, /* bytes; reply: uint32_t, how many were taken */
	VMM_LAYER,	   /* struct vmm_layer; image or socket, [external data file] */
	/* Of disks of a guest that runs or is paused: */
	VMM_DISK_DETACH,   /* struct vmm_disk_detach: asks the guest to let go; answered at once,
			      VMM_EV_DISK DETACHED follows when it has, or is reset; at once with
			      force. -EOPNOTSUPP with words: it cannot be asked; -ENOENT: it went
			      before. DETACHED with words: the guest let go unasked */
	VMM_DISK_CHANGE,   /* struct vmm_disk: other contents (the layers before it; none: ejected)
			      for a disk that stays; its size is told to the guest */
	VMM_DISK_RESIZE,   /* struct vmm_disk_resize; reply: uint64_t, the bytes it has now */
	VMM_DISK_LIMITS,   /* struct vmm_disk_limits */
	VMM_DISK_SNAPSHOT, /* struct vmm_disk_name; an empty file for what the guest overwrites,
			      a SEQPACKET socket for struct vmm_peek; reply: struct
			      vmm_snapshot_info, memfd for the data. Ends when the socket is closed
			    */
	/* Network cards */
	VMM_NIC =
	    48, /* struct vmm_nic; queues of a tap, or a stream socket: adds a card, before RUN */
	VMM_NIC_SET,	 /* struct vmm_nic_set: link and limits of a card, now */
	VMM_NIC_CAPTURE, /* struct vmm_nic_capture; a file (O_APPEND): frames go there as pcapng;
			    none: no more */
	/* The whole state of a guest, but for its memory (vmm/state.h) */
	VMM_SAVE =
	    56,	  /* none; an empty file: the state of a paused guest goes there, what its disks
		     hold back reaches them. It stays paused. Reply: uint64_t, bytes written */
	VMM_LOAD, /* none; such a file (read and written), its memory (a sparse file, offset =
		     guest physical): instead of booting, after all else and before RUN,
		     which marks the file as used before the first vcpu runs */
	/* events */
	VMM_EV_STATE = 64, /* struct vmm_status: the state changed */
	VMM_EV_CONSOLE,	   /* uint64_t: bytes printed so far in this VMM's life; coalesced */
	VMM_EV_DISK,	   /* struct vmm_disk_event */
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
	VMM_REASON_IO, /* PAUSED: a disk failed and its on_error says pause; RESUME tries again */
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

enum vmm_layer_kind { VMM_LAYER_RAW, VMM_LAYER_QCOW2, VMM_LAYER_NBD };

/*
 * One layer of a disk. RAW, QCOW2: a regular file or block device, opened as
 * the disk will use it. NBD: a stream socket past the handshake, in transmission phase.
 */
struct vmm_layer {
	uint32_t kind;	    /* enum vmm_layer_kind */
	uint32_t has_data;  /* QCOW2: a second descriptor is the external data file */
	uint64_t bytes;	    /* NBD: size of the export */
	uint32_t nbd_flags; /* NBD: transmission flags of the export */
	uint32_t reserved;
};
#define VMM_LAYERS_MAX 64

enum vmm_cache {
	VMM_CACHE_WRITEBACK,	/* through the host's page cache; flushes reach the disk */
	VMM_CACHE_NONE,		/* O_DIRECT; flushes reach the disk */
	VMM_CACHE_WRITETHROUGH, /* each write is on the disk when it completes; no volatile cache */
	VMM_CACHE_UNSAFE,	/* flushes do nothing */
};

enum vmm_on_error {
	VMM_ON_ERROR_AUTO,   /* pause on ENOSPC (and EDQUOT), report others: the default */
	VMM_ON_ERROR_REPORT, /* the guest gets the error */
	VMM_ON_ERROR_PAUSE,  /* the machine pauses; the request is tried again at RESUME */
	VMM_ON_ERROR_IGNORE, /* writes that failed seem to succeed; reads are reported */
};

struct vmm_rate {
	uint64_t per_s; /* 0: no limit */
	uint64_t burst; /* at once after a quiet time; 0: a tenth of a second's worth */
};

/* Rows as enum BLOCK_LIMIT_… of storage/block_filter.h: total, read, write. */
struct vmm_limits {
	struct vmm_rate requests[3];
	struct vmm_rate bytes[3];
};

#define VMM_SERIAL_MAX 20 /* bytes that VIRTIO_BLK_T_GET_ID shows */

struct vmm_disk {
	char name[VMM_NAME_MAX];
	char serial[VMM_SERIAL_MAX + 4]; /* NUL-padded; empty: the name */
	uint32_t n_layers;		 /* of the LAYERs sent before; 0 (CHANGE only): ejected */
	uint32_t readonly;
	uint32_t queues;   /* 1 … 16; 0: as many as vcpus, at most 4 */
	uint32_t cache;	   /* enum vmm_cache */
	uint32_t on_error; /* enum vmm_on_error */
	uint32_t reserved;
	struct vmm_limits limits;
};

struct vmm_disk_name {
	char name[VMM_NAME_MAX];
};

struct vmm_disk_detach {
	char name[VMM_NAME_MAX];
	uint32_t force; /* 1: taken away at once, whatever the guest does */
	uint32_t reserved;
};

struct vmm_disk_resize {
	char name[VMM_NAME_MAX];
	uint64_t bytes; /* 0: take over the size that its file or device has now */
};

struct vmm_disk_limits {
	char name[VMM_NAME_MAX];
	struct vmm_limits limits;
};

enum vmm_disk_what {
	VMM_DISK_ATTACHED, /* the guest has begun to use it (DRIVER_OK) for the first time */
	VMM_DISK_DETACHED, /* it is gone; its descriptors are closed */
	VMM_DISK_FAILED,   /* an error was met; @text says which, at most one a second */
};

struct vmm_disk_event {
	char name[VMM_NAME_MAX];
	uint32_t what;	/* enum vmm_disk_what */
	int32_t error;	/* -errno, for FAILED */
	char text[128]; /* words */
};

/*
 * Reading a disk as it was when DISK_SNAPSHOT was answered. Over the socket: requests of
 * struct vmm_peek, each answered by the same struct with `error` (0 or -errno; -EIO once the
 * snapshot is lost, because the file for old contents could take no more) and, READ: the data
 * at `room` of the memfd; STATUS: `bytes` and `flags` of the extent at `offset`.
 */
enum vmm_peek_op { VMM_PEEK_READ, VMM_PEEK_STATUS };
enum { VMM_PEEK_DATA = 1, VMM_PEEK_ZERO = 2 }; /* as struct block_extent */

struct vmm_peek {
	uint64_t id; /* the asker's own */
	uint32_t op; /* enum vmm_peek_op */
	int32_t error;
	uint64_t offset;
	uint64_t bytes;
	uint64_t room; /* READ: where in the memfd; room + bytes within its size */
	uint32_t flags;
	uint32_t reserved;
};

struct vmm_snapshot_info {
	uint64_t bytes;	     /* of the disk */
	uint64_t room_bytes; /* size of the memfd */
};

#define VMM_NICS_MAX	   8
#define VMM_NIC_QUEUES_MAX 8

enum vmm_nic_kind {
	VMM_NIC_TAP, /* IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; a descriptor for each pair of queues */
	VMM_NIC_STREAM, /* a stream socket, each frame after its length (32 bits, big endian) */
};

struct vmm_nic_limits {
	struct vmm_rate packets[2]; /* to the guest, from the guest */
	struct vmm_rate bytes[2];
};

struct vmm_nic {
	char name[VMM_NAME_MAX];
	uint8_t mac[6];
	uint16_t mtu;  /* 0: the guest is told none; else 68 … 65521 */
	uint32_t kind; /* enum vmm_nic_kind */
	uint32_t link; /* 1: the cable is in */
	struct vmm_nic_limits limits;
};

struct vmm_nic_set {
	char name[VMM_NAME_MAX];
	uint32_t link;
	uint32_t reserved;
	struct vmm_nic_limits limits;
};

struct vmm_nic_capture {
	char name[VMM_NAME_MAX];
	uint64_t limit_bytes; /* of the file; frames beyond are not written */
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
#define VMM_STATS_MAX	4095

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
