// SPDX-License-Identifier: ISC
/*
 * Guest memory as a file, and an ELF core of a running guest, made as it is read.
 *
 *   0          ELF header, CORE_SEGMENTS program headers (those not needed are PT_NULL)
 *              notes: NT_PRPSINFO, then for each vcpu NT_PRSTATUS, NT_FPREGSET and "QEMU"
 *   header     guest RAM, without the hole below 4 GiB
 *
 * The size follows from the number of vcpus and the RAM alone, so it is known
 * before the core is opened. A debugger wants virtual addresses: segments
 * for those are found in the page tables of the guest (core_pages.c) and refer to the same
 * bytes of the file; the last ones map RAM at its physical addresses.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>

#include "content_int.h"
#include "core.h"
#include "core_pages.h"
#include "model_int.h"
#include "peek.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "vcpu.h"

#define CORE_SEGMENTS (CORE_RUNS_MAX + 3) /* notes, and RAM below and above the hole */
#define LOW_RAM_END   0xc0000000ull
#define HIGH_RAM      0x100000000ull
#define PAGE	      4096ull

/* What crash(8) and others know from QEMU's cores: control registers of a vcpu. */
struct qemu_segment {
	uint32_t selector, limit, flags, pad;
	uint64_t base;
};

struct qemu_state {
	uint32_t version, size;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
	struct qemu_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
	uint64_t cr[5];
	uint64_t kernel_gs_base;
};

struct machine_core {
	struct core_ram ram; /* its content is the core's */
	uint8_t *header;
	size_t header_size, used;
	uint64_t size;
};

/* --- sizes ------------------------------------------------------------------------------- */

#define NOTE_SIZE(name, type)                                                                      \
	(sizeof(Elf64_Nhdr) + (sizeof(name) + 3) / 4 * 4 + (sizeof(type) + 3) / 4 * 4)

static size_t header_size(unsigned cpus)
{
	size_t notes = NOTE_SIZE("CORE", struct elf_prpsinfo);

	notes += cpus * (NOTE_SIZE("CORE", struct elf_prstatus) +
			 NOTE_SIZE("CORE", struct user_fpregs_struct) +
			 NOTE_SIZE("QEMU", struct qemu_state));
	return (sizeof(Elf64_Ehdr) + CORE_SEGMENTS * sizeof(Elf64_Phdr) + notes + PAGE - 1) / PAGE *
	       PAGE;
}

/* How memory is divided whose last byte is before @size. */
static struct core_ram ram_of(struct content *memory, uint64_t size)
{
	struct core_ram ram = {.memory = memory, .low = size < LOW_RAM_END ? size : LOW_RAM_END};

	if (size > HIGH_RAM)
		ram.high = size - HIGH_RAM;
	return ram;
}

/* --- memory.img ----------------------------------------------------------------------------- */

static int open_memory(struct vmm *vmm, struct content **content, struct err *err)
{
	struct peek_params params = {.type = VMM_PEEK_MEMORY,
				     .order_ms = VMM_QUERY_MS,
				     .answer_ms = VMM_QUERY_MS,
				     .seek_ms = VMM_QUERY_MS};

	return peek_open(vmm, &params, content, err);
}

int machine_memory_open(struct machine *m, struct content **content, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);

	if (!vmm)
		return err_set(err, -ENODEV, "the machine does not run");
	return open_memory(vmm, content, err);
}

uint64_t machine_memory_size(struct machine *m)
{
	uint64_t bytes;

	LOCK_SCOPE(&m->lock);
	bytes = m->vmm && m->vmm->ready ? m->vmm->memory_bytes : 0;
	return bytes > LOW_RAM_END ? HIGH_RAM + (bytes - LOW_RAM_END) : bytes;
}

/* --- notes ------------------------------------------------------------------------------------ */

static void *add_note(struct machine_core *core, const char *name, uint32_t type, size_t size)
{
	size_t name_size = strlen(name) + 1;
	Elf64_Nhdr note = {
	    .n_namesz = (uint32_t)name_size, .n_descsz = (uint32_t)size, .n_type = type};
	uint8_t *p = core->header + core->used;

	memcpy(p, &note, sizeof(note));
	memcpy(p + sizeof(note), name, name_size);
	core->used += sizeof(note) + (name_size + 3) / 4 * 4 + (size + 3) / 4 * 4;
	return p + sizeof(note) + (name_size + 3) / 4 * 4;
}

static void fill_registers(struct user_regs_struct *to, const struct vmm_vcpu_state *s)
{
	*to = (struct user_regs_struct){
	    .r15 = s->r15,
	    .r14 = s->r14,
	    .r13 = s->r13,
	    .r12 = s->r12,
	    .rbp = s->rbp,
	    .rbx = s->rbx,
	    .r11 = s->r11,
	    .r10 = s->r10,
	    .r9 = s->r9,
	    .r8 = s->r8,
	    .rax = s->rax,
	    .rcx = s->rcx,
	    .rdx = s->rdx,
	    .rsi = s->rsi,
	    .rdi = s->rdi,
	    .orig_rax = ~0ull,
	    .rip = s->rip,
	    .cs = s->cs.selector,
	    .eflags = s->rflags,
	    .rsp = s->rsp,
	    .ss = s->ss.selector,
	    .fs_base = s->fs.base,
	    .gs_base = s->gs.base,
	    .ds = s->ds.selector,
	    .es = s->es.selector,
	    .fs = s->fs.selector,
	    .gs = s->gs.selector,
	};
}

static struct qemu_segment qemu_segment(const struct vmm_segment *s)
{
	return (struct qemu_segment){.selector = s->selector,
				     .limit = s->limit,
				     .flags = (uint32_t)s->attributes << 8,
				     .base = s->base};
}

static void fill_qemu(struct qemu_state *to, const struct vmm_vcpu_state *s)
{
	*to = (struct qemu_state){
	    .version = 1,
	    .size = sizeof(*to),
	    .rip = s->rip,
	    .rflags = s->rflags,
	    .cs = qemu_segment(&s->cs),
	    .ds = qemu_segment(&s->ds),
	    .es = qemu_segment(&s->es),
	    .fs = qemu_segment(&s->fs),
	    .gs = qemu_segment(&s->gs),
	    .ss = qemu_segment(&s->ss),
	    .ldt = qemu_segment(&s->ldt),
	    .tr = qemu_segment(&s->tr),
	    .gdt = qemu_segment(&s->gdt),
	    .idt = qemu_segment(&s->idt),
	    .cr = {s->cr0, 0, s->cr2, s->cr3, s->cr4},
	};
	memcpy(&to->rax, &s->rax, 16 * sizeof(uint64_t)); /* both in this order */
}

static void add_vcpu(struct machine_core *core, unsigned vcpu, const struct vmm_vcpu_state *s)
{
	struct elf_prstatus status = {.pr_pid = (pid_t)vcpu + 1};
	struct user_regs_struct regs;
	struct qemu_state qemu;

	fill_registers(&regs, s);
	memcpy(&status.pr_reg, &regs, sizeof(status.pr_reg));
	fill_qemu(&qemu, s);
	memcpy(add_note(core, "CORE", NT_PRSTATUS, sizeof(status)), &status, sizeof(status));
	memcpy(add_note(core, "CORE", NT_FPREGSET, sizeof(s->fxsave)), s->fxsave,
	       sizeof(s->fxsave));
	memcpy(add_note(core, "QEMU", 0, sizeof(qemu)), &qemu, sizeof(qemu));
}

/* A debugger compares the program's name with that of the file it is given: the kernel's. */
static void add_process(struct machine_core *core, const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');
	const char *kernel = slash ? slash + 1 : path;
	struct elf_prpsinfo info = {.pr_sname = 'R', .pr_pid = 1};

	if (strncmp(kernel, "vmlinuz", 7) == 0 || strncmp(kernel, "bzImage", 7) == 0)
		kernel = "vmlinux"; /* what is in them */
	snprintf(info.pr_fname, sizeof(info.pr_fname), "%.15s", kernel);
	snprintf(info.pr_psargs, sizeof(info.pr_psargs), "%.15s (machine %.48s)", kernel, name);
	memcpy(add_note(core, "CORE", NT_PRPSINFO, sizeof(info)), &info, sizeof(info));
}

/* --- the header
 * ------------------------------------------------------------------------------------ */

static Elf64_Phdr segment(const struct machine_core *core, uint64_t vaddr, uint64_t paddr,
			  uint64_t len)
{
	uint64_t at = paddr < LOW_RAM_END ? paddr : paddr - HIGH_RAM + core->ram.low;

	return (Elf64_Phdr){.p_type = PT_LOAD,
			    .p_flags = PF_R | PF_W | PF_X,
			    .p_offset = core->header_size + at,
			    .p_vaddr = vaddr,
			    .p_paddr = paddr,
			    .p_filesz = len,
			    .p_memsz = len,
			    .p_align = PAGE};
}

static void fill_header(struct machine_core *core, size_t notes, const struct core_run *runs,
			size_t n_runs)
{
	Elf64_Ehdr eh = {
	    .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	    .e_type = ET_CORE,
	    .e_machine = EM_X86_64,
	    .e_version = EV_CURRENT,
	    .e_phoff = sizeof(eh),
	    .e_ehsize = sizeof(eh),
	    .e_phentsize = sizeof(Elf64_Phdr),
	    .e_phnum = CORE_SEGMENTS,
	};
	Elf64_Phdr ph[CORE_SEGMENTS] = {0};
	size_t n = 0;

	ph[n++] = (Elf64_Phdr){
	    .p_type = PT_NOTE, .p_offset = notes, .p_filesz = core->used - notes, .p_align = 4};
	for (size_t i = 0; i < n_runs; i++)
		ph[n++] = segment(core, runs[i].vaddr, runs[i].paddr, runs[i].len);
	if (core->ram.low)
		ph[n++] = segment(core, 0, 0, core->ram.low);
	if (core->ram.high)
		ph[n++] = segment(core, HIGH_RAM, HIGH_RAM, core->ram.high);
	memcpy(core->header, &eh, sizeof(eh));
	memcpy(core->header + sizeof(eh), ph, sizeof(ph));
}

/* Whose page tables to look at: a vcpu in the kernel sees all of it. */
static const struct vmm_vcpu_state *best_vcpu(const struct vmm_vcpu_state *states, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if ((states[i].cs.selector & 3) == 0 && core_pages_on(&states[i]))
			return &states[i];
	return &states[0];
}

static void fill(struct machine_core *core, const struct core_params *p)
{
	struct core_run runs[CORE_RUNS_MAX];
	size_t notes = sizeof(Elf64_Ehdr) + CORE_SEGMENTS * sizeof(Elf64_Phdr), n_runs;

	core->used = notes;
	add_process(core, p->kernel, p->name);
	for (unsigned i = 0; i < p->cpus; i++)
		add_vcpu(core, i, &p->states[i]);
	n_runs = core_pages_walk(&core->ram, best_vcpu(p->states, p->cpus), runs);
	fill_header(core, notes, runs, n_runs);
}

/* --- core.h ------------------------------------------------------------------------------------
 */

uint64_t core_size(uint64_t memory_bytes, unsigned cpus)
{
	struct core_ram ram = ram_of(NULL, memory_bytes);

	return memory_bytes && cpus ? header_size(cpus) + ram.low + ram.high : 0;
}

int core_make(const struct core_params *p, struct machine_core **out, struct err *err)
{
	struct machine_core *core = calloc(1, sizeof(*core));

	if (core)
		core->header = calloc(1, header_size(p->cpus));
	if (!core || !core->header) {
		content_close(p->memory);
		free(core);
		return err_set(err, -ENOMEM, "out of memory");
	}
	core->ram = ram_of(p->memory, content_size(p->memory));
	core->header_size = header_size(p->cpus);
	core->size = core->header_size + core->ram.low + core->ram.high;
	fill(core, p);
	*out = core;
	return 0;
}

/* --- machine.h
 * ------------------------------------------------------------------------------------- */

uint64_t machine_core_size(struct machine *m)
{
	return core_size(machine_memory_size(m), machine_vcpu_count(m));
}

static int get_vcpus(struct vmm *vmm, struct vmm_vcpu_state *states, unsigned cpus, struct err *err)
{
	for (unsigned i = 0; i < cpus; i++) {
		int r = vcpu_get(vmm, i, &states[i], VMM_QUERY_MS, err);

		if (r < 0) {
			err_prefix(err, "vcpu %u", i);
			return r;
		}
	}
	return 0;
}

int machine_core_open(struct machine *m, struct machine_core **out, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	_cleanup_definition_ struct definition *def = machine_definition(m);
	unsigned cpus = machine_vcpu_count(m);
	_cleanup_free_ struct vmm_vcpu_state *states = calloc(cpus + 1, sizeof(*states));
	char name[MACHINE_NAME_MAX + 1];
	struct core_params p = {
	    .states = states, .cpus = cpus, .kernel = def->values.kernel, .name = name};
	int r;

	if (!vmm || !cpus)
		return err_set(err, -ENODEV, "the machine does not run");
	if (!states)
		return err_set(err, -ENOMEM, "out of memory");
	machine_name(m, name);
	r = get_vcpus(vmm, states, cpus, err);
	if (r < 0)
		return r;
	r = open_memory(vmm, &p.memory, err);
	if (r < 0)
		return r;
	peek_hurry(p.memory, VMM_QUERY_MS); /* page tables may be many */
	r = core_make(&p, out, err);
	if (r == 0)
		peek_hurry(p.memory, 0);
	return r;
}

/* From an offset in RAM as the core has it to its address, and how far that goes on. */
static uint64_t ram_offset(const struct core_ram *ram, uint64_t at, uint64_t *left)
{
	if (at < ram->low) {
		*left = ram->low - at;
		return at;
	}
	*left = ram->low + ram->high - at;
	return at - ram->low + HIGH_RAM;
}

ssize_t machine_core_read(struct machine_core *core, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	if (offset >= core->size)
		return 0;
	if (len > core->size - offset)
		len = core->size - offset;
	if (offset < core->header_size) {
		done = core->header_size - offset < len ? core->header_size - offset : len;
		memcpy(buf, core->header + offset, done);
	}
	while (done < len) {
		uint64_t left,
		    at = ram_offset(&core->ram, offset + done - core->header_size, &left);
		ssize_t n = content_read(core->ram.memory, (char *)buf + done,
					 left < len - done ? left : len - done, at);

		if (n < 0)
			return done ? (ssize_t)done : n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Within one of the two parts of RAM, of @len bytes at @gpa: the next, or @len where there is none.
 */
static uint64_t seek_part(struct content *memory, uint64_t gpa, uint64_t len, uint64_t at,
			  int whence)
{
	int64_t found = content_seek(memory, (int64_t)(gpa + at), whence);

	if (found < 0 || (uint64_t)found > gpa + len)
		return len;
	return (uint64_t)found - gpa;
}

int64_t machine_core_seek(struct machine_core *core, int64_t offset, int whence)
{
	const struct core_ram *ram = &core->ram;
	uint64_t at = (uint64_t)offset;

	if (offset < 0 || at >= core->size)
		return -ENXIO;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (at < core->header_size) {
		if (whence == SEEK_DATA)
			return offset;
		at = core->header_size;
	}
	at -= core->header_size;
	if (at < ram->low) {
		at = seek_part(ram->memory, 0, ram->low, at, whence);
		if (at < ram->low)
			return (int64_t)(core->header_size + at);
	}
	if (ram->high)
		at = ram->low + seek_part(ram->memory, HIGH_RAM, ram->high, at - ram->low, whence);
	if (whence == SEEK_DATA && at >= ram->low + ram->high)
		return -ENXIO;
	return (int64_t)(core->header_size + at);
}

void machine_core_close(struct machine_core *core)
{
	if (!core)
		return;
	content_close(core->ram.memory);
	free(core->header);
	free(core);
}
