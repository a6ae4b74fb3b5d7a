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
 * Order of a start: HELLO, CONFIG, KERNEL, [INITRD], CMDLINE, (LAYER* DISK)*, NIC*, [VSOCK],
 * CONSOLE, RUN. RUN answers when the vcpus run (or says why they cannot).
 *
 * A disk is a chain of layers, the top one first. LAYERs gather at the VMM until
 * the DISK (or DISK_CHANGE) that takes them; one that is refused drops them, and so
 * does the next connection.
 */
#include <stdint.h>

#define VMM_PROTO_VERSION  4
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
	VMM_HELLO = 16, /* struct vmm_hello; none; struct vmm_status + fd: stats */
	VMM_CONFIG,	/* struct vmm_config; /dev/kvm. Guest memory is the VMM's alone */
	VMM_KERNEL,	/* none; the kernel's file */
	VMM_INITRD,	/* none; the initrd's file */
	VMM_CMDLINE,	/* text */
	VMM_DISK,    /* struct vmm_disk; none: adds a disk of the layers before it. To a guest that
			runs or is paused it is attached hot; answered when it is plugged in,
			with words if the guest is not going to look for it by itself */
	VMM_CONSOLE, /* struct vmm_console; the log file (O_APPEND), [pty master] */
	VMM_RUN,     /* none */
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
	VMM_NIC = 48,	 /* struct vmm_nic; queues of a tap, or a stream socket: adds a card. To a
			    guest that    runs or is paused it is attached hot, as a DISK is */
	VMM_NIC_SET,	 /* struct vmm_nic_set: link and limits of a card, now */
	VMM_NIC_CAPTURE, /* struct vmm_nic_capture; a file (O_APPEND): frames go there as pcapng;
			    none: no more */
	VMM_NIC_DETACH,	 /* struct vmm_nic_detach: as DISK_DETACH; VMM_EV_NIC follows */
	/* vsock: stream sockets between the guest and the host */
	VMM_VSOCK = 52,	  /* struct vmm_vsock; none: adds the device, before RUN */
	VMM_VSOCK_LISTEN, /* struct vmm_vsock_port; a listening unix stream socket: what connects
			     there is connected to that port of the guest. In place of what was
			     given for it before */
	VMM_VSOCK_ANSWER, /* struct vmm_vsock_answer; a connected stream socket, or none where error
			     says why not */
	VMM_NIC_CABLE = 55, /* struct vmm_nic_cable; as of NIC, kind NONE: no descriptor. What it is
			   plugged into becomes another port; its link is down for a second, so
			   that the guest notices. -EOPNOTSUPP with words: its driver counts on
			   more than the other has; nothing has changed then */
	/* The whole state of a guest (vmm/state.h), and its memory */
	VMM_SNAPSHOT = 56, /* struct vmm_snapshot; two empty files: its state, and its vcpus'
			      registers (struct vmm_vcpu_state of each), [a SEQPACKET socket: who
			      holds its memory as it is then serves it, see enum vmm_hold_type]. Of
			      a guest that runs or is paused; disks that were staged go over to what
			      was staged, at the same instant. Reply: struct vmm_snapshot_done */
	VMM_MEMORY, /* struct vmm_memory, the extents; its files: what memory begins as, after
		       CONFIG and before LOAD */
	VMM_LOAD,   /* struct vmm_load; a state (read and, with VMM_LOAD_ONCE, written): instead of
		       booting, after all else and before RUN */
	VMM_PEEK_MEMORY, /* none; a SEQPACKET socket for struct vmm_peek; reply: struct
			    vmm_snapshot_info (bytes: first address behind RAM), memfd for the data.
			    Memory as it is when each answer is made */
	/* More of disks */
	VMM_DISK_STAGE =
	    60,		 /* struct vmm_disk_name; an empty qcow2 image of the disk's size, opened
			    for writing: the next SNAPSHOT puts it over what the disk has. In
			    place of what was staged before; dropped with the connection */
	VMM_DISK_FREEZE, /* struct vmm_disk_name: all that went below a staged image reaches stable
			    storage; then others may read it: locks become those of readers.
			    Answered when that is done */
	VMM_DISK_REBASE, /* struct vmm_disk_rebase, the layers before it: they take the place
			    of all but the top ones, and read alike */
	/* events */
	VMM_EV_STATE = 96, /* struct vmm_status: the state changed */
	VMM_EV_CONSOLE,	   /* uint64_t: bytes printed so far in this VMM's life; coalesced */
	VMM_EV_DISK,	   /* struct vmm_disk_event */
	VMM_EV_NIC,	   /* struct vmm_nic_event: a card is gone; its descriptors are closed */
	VMM_EV_NIC_NEWS,   /* struct vmm_nic_news */
	VMM_EV_VSOCK,	   /* struct vmm_vsock_event: the guest connects to a port of the host */
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

struct vmm_disk_rebase {
	char name[VMM_NAME_MAX];
	uint32_t keep;	   /* layers on top that stay, at least 1 */
	uint32_t n_layers; /* of the LAYERs sent before, at least 1 */
};

/* --- snapshots -------------------------------------------------------------------------------- */

enum {
	VMM_SNAPSHOT_STAY = 1,	    /* a guest that ran stays paused; then no disk is switched */
	VMM_SNAPSHOT_NO_MEMORY = 2, /* no socket: disks and state only */
};

struct vmm_snapshot {
	uint32_t flags;
	uint32_t reserved;
};

struct vmm_snapshot_done {
	uint64_t state_bytes;
	uint64_t pause_ns; /* how long the guest stood still; 0: it was paused, or is now; or its
			      memory is in hugepages: then it stands still until its holder ends */
	uint64_t ram_top;  /* first address behind RAM: size of its memory's file */
	uint32_t vcpus;
	uint32_t running; /* 1: it ran */
};

/*
 * Guest memory as files: an extent is a private copy of bytes of a file; what no extent says is
 * zero. Extents ascend, do not overlap, and lie within RAM. All are multiples of 4096.
 */
#define VMM_EXTENTS_MAX	     1024
#define VMM_MEMORY_FILES_MAX 7
#define VMM_EXTENT_ZERO	     UINT32_MAX

struct vmm_extent {
	uint64_t gpa, bytes;
	uint64_t offset; /* in the file */
	uint32_t file;	 /* which; VMM_EXTENT_ZERO: zeroes (only where the holder tells of them) */
	uint32_t reserved;
};

enum vmm_memory_kind {
	VMM_MEMORY_RAW,	   /* regular files, sparse, offset = guest physical address; mapped */
	VMM_MEMORY_PACKED, /* one file, no extents: vmm/pack.h; read as it is touched */
};

struct vmm_memory {
	uint32_t kind; /* enum vmm_memory_kind */
	uint32_t n_extents;
	uint32_t n_files;
	uint32_t reserved;
};

enum {
	VMM_LOAD_ONCE = 1,  /* marks the state as used, on stable storage, before a vcpu runs */
	VMM_LOAD_CLONE = 2, /* another guest goes on from it: it gets the new generation id */
};

struct vmm_load {
	uint32_t flags;
	uint32_t reserved;
	uint8_t generation[16]; /* VM generation id: told to the guest with CLONE */
};

/*
 * The holder: a process forked from the VMM at the instant of a snapshot, which has the guest's
 * memory as it was then. On its socket, each packet a struct vmm_msg_hdr and its payload:
 * requests, and what it says. One WRITE at a time; a CLONE may come while it writes. It ends when
 * the socket is closed, and what it was writing is then nobody's.
 */
enum vmm_hold_type {
	VMM_HOLD_WRITE = 128, /* struct vmm_hold_write, its n_extents of the parent's memory; the
				 file (empty), the parent's files. Answered by PROGRESS and DONE */
	VMM_HOLD_CLONE,	      /* none; a listening socket, a log: forks a VMM with this memory which
				 serves that socket as one that was just started, and needs no
				 MEMORY. Answered by CLONED */
	VMM_HOLD_PROGRESS = 160, /* struct vmm_hold_progress; at most every 50 ms */
	VMM_HOLD_DONE,		 /* error in hdr; struct vmm_hold_done and extents, or words */
	VMM_HOLD_CLONED,	 /* error in hdr; words */
};

/*
 * RAW: writes pages that hold anything but zeroes, at offset = address. With a parent: only what
 * differs from it; the extents of DONE then say what of the whole is in the new file (file 0), and
 * what in the parent's (file 1 + theirs). Where the parent does not pay, or there would be too
 * many files, all is written, and DONE has extents of file 0 alone.
 * PACKED: all, compressed. The holder syncs nothing.
 */
struct vmm_hold_write {
	uint32_t kind;	    /* enum vmm_memory_kind */
	uint32_t n_extents; /* of the parent's memory (RAW); 0: no parent */
	uint32_t n_files;   /* of the parent's, at most VMM_MEMORY_FILES_MAX - 1 */
	uint32_t level;	    /* PACKED: of zstd; 0: the usual */
};

struct vmm_hold_progress {
	uint64_t done, total; /* bytes of memory looked at */
};

struct vmm_hold_done {
	uint64_t data_bytes;   /* of memory that is not zero */
	uint64_t stored_bytes; /* written to the new file */
	uint32_t n_extents;    /* struct vmm_extent follow; PACKED: none */
	uint32_t reserved;
};

#define VMM_NICS_MAX	   8
#define VMM_NIC_QUEUES_MAX 8

enum vmm_nic_kind {
	VMM_NIC_TAP, /* IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; a descriptor for each pair of queues */
	VMM_NIC_STREAM, /* a stream socket, each frame after its length (32 bits, big endian) */
	VMM_NIC_NONE,	/* a cable that leads nowhere; of NIC_CABLE alone */
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
	uint32_t vlan; /* whose tag frames bear on the other side; 0: none */
	uint32_t reserved;
	struct vmm_nic_limits limits;
};

struct vmm_nic_cable {
	char name[VMM_NAME_MAX];
	uint32_t kind;
	uint32_t link; /* 1: the cable is in, after its second */
	uint32_t vlan;
	uint32_t reserved;
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

struct vmm_nic_detach {
	char name[VMM_NAME_MAX];
	uint32_t force; /* 1: taken away at once, whatever the guest does */
	uint32_t reserved;
};

struct vmm_nic_event {
	char name[VMM_NAME_MAX];
	char text[128]; /* words, where nobody asked for it; else empty */
};

enum vmm_nic_what {
	/* The guest says (by ARP, neighbour discovery) that it has this address. Told once in a
	 * VMM's life, and again after each NIC_SET; the latest one last. */
	VMM_NIC_ADDRESS = 1,
	/* It went on from a state with another address for the card, which another machine has:
	 * its cable is out. STRANGER, with words: until the guest is reset, or lets go of it by
	 * itself, for it cannot be asked. ASKED: it was. RENEWED: it has let go of it, and has
	 * the card with its own address now */
	VMM_NIC_STRANGER,
	VMM_NIC_ASKED,
	VMM_NIC_RENEWED,
};

struct vmm_nic_news {
	char name[VMM_NAME_MAX];
	uint32_t what; /* enum vmm_nic_what */
	uint32_t len;  /* ADDRESS: of it, 4 or 16 */
	uint8_t addr[16];
};

#define VMM_VSOCK_CID_MIN   3u /* less are reserved (virtio 1.2 §5.10.4) */
#define VMM_VSOCK_CID_MAX   (UINT32_MAX - 1)
#define VMM_VSOCK_PORTS_MAX 256

struct vmm_vsock {
	uint32_t cid; /* the guest's */
	uint32_t reserved;
};

struct vmm_vsock_port {
	uint32_t port; /* of the guest, not UINT32_MAX */
	uint32_t reserved;
};

struct vmm_vsock_event {
	uint64_t id;   /* for the answer */
	uint32_t port; /* of the host */
	uint32_t reserved;
};

struct vmm_vsock_answer {
	uint64_t id;
	int32_t error; /* -errno: there is no socket */
	uint32_t reserved;
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
