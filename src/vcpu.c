// SPDX-License-Identifier: ISC
/* What is shown of a running machine's processors: state, registers, affinity. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "model_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/size.h"
#include "vcpu.h"

unsigned machine_vcpu_count(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->vmm && m->vmm->ready ? m->vmm->cpus : 0;
}

int vcpu_get(struct vmm *vmm, unsigned vcpu, struct vmm_vcpu_state *state, unsigned timeout_ms,
	     struct err *err)
{
	struct vmm_vcpu_get get = {.vcpu = vcpu};
	struct vmm_request rq = {
	    .type = VMM_VCPU, .data = &get, .len = sizeof(get), .timeout_ms = timeout_ms};
	struct vmm_reply reply = {.data = state, .room = sizeof(*state)};
	int r = vmm_call(vmm, &rq, &reply, err);

	if (r == 0 && reply.len < sizeof(*state))
		r = err_set(err, -EIO, "the VMM answers what cannot be");
	return r;
}

static int get(struct machine *m, unsigned vcpu, struct vmm_vcpu_state *state, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);

	if (!vmm)
		return err_set(err, -ENODEV, "the machine does not run");
	return vcpu_get(vmm, vcpu, state, VMM_QUERY_MS, err);
}

/* --- registers: 16 hexadecimal digits each, so the text's length never varies --------------------
 */

static const struct {
	const char *name;
	size_t offset;
} registers[] = {
#define R(name)                                                                                    \
	{                                                                                          \
#name, offsetof(struct vmm_vcpu_state, name)                                       \
	}
    R(rip), R(rflags), R(rax), R(rbx), R(rcx), R(rdx),	R(rsi),	      R(rdi), R(rsp),
    R(rbp), R(r8),     R(r9),  R(r10), R(r11), R(r12),	R(r13),	      R(r14), R(r15),
    R(cr0), R(cr2),    R(cr3), R(cr4), R(cr8), R(efer), R(apic_base),
#undef R
};

static const struct {
	const char *name;
	size_t offset;
} segments[] = {
#define S(name)                                                                                    \
	{                                                                                          \
#name, offsetof(struct vmm_vcpu_state, name)                                       \
	}
    S(cs), S(ds), S(es), S(fs), S(gs), S(ss), S(tr), S(ldt), S(gdt), S(idt),
#undef S
};

static void show_registers(const struct vmm_vcpu_state *state, struct strbuf *sb)
{
	for (size_t i = 0; i < nitems(registers); i++) {
		uint64_t value;

		memcpy(&value, (const char *)state + registers[i].offset, sizeof(value));
		strbuf_printf(sb, "%-9s 0x%016llx\n", registers[i].name, (unsigned long long)value);
	}
	for (size_t i = 0; i < nitems(segments); i++) {
		struct vmm_segment s;

		memcpy(&s, (const char *)state + segments[i].offset, sizeof(s));
		strbuf_printf(sb,
			      "%-9s selector=0x%04x base=0x%016llx limit=0x%08x "
			      "attributes=0x%04x\n",
			      segments[i].name, s.selector, (unsigned long long)s.base, s.limit,
			      s.attributes);
	}
}

int machine_registers_show(struct machine *m, unsigned vcpu, struct strbuf *sb, struct err *err)
{
	struct vmm_vcpu_state state;
	int r = get(m, vcpu, &state, err);

	if (r == 0)
		show_registers(&state, sb);
	return r;
}

size_t machine_registers_size(void)
{
	static const struct vmm_vcpu_state none;
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	show_registers(&none, &sb);
	return sb.len;
}

int machine_vcpu_state_show(struct machine *m, unsigned vcpu, struct strbuf *sb)
{
	static const char *const mp_states[] = {"runnable", "uninitialized", "init", "halted",
						"sipi"};
	enum machine_state machine = machine_state(m);
	struct vmm_vcpu_state state;
	int r = get(m, vcpu, &state, NULL);

	if (r < 0)
		return r;
	if (machine == MACHINE_PAUSED || machine == MACHINE_CRASHED)
		strbuf_puts(sb, machine_state_name(machine));
	else if (state.mp_state == 0)
		strbuf_puts(sb, "running");
	else if (state.mp_state < nitems(mp_states))
		strbuf_puts(sb, mp_states[state.mp_state]);
	else
		strbuf_printf(sb, "mp_state %u", state.mp_state);
	return 0;
}

/* --- affinity
 * -------------------------------------------------------------------------------------- */

/* The thread of that vcpu: its name is "vcpu/N". 0 or -ESRCH. */
static int find_thread(struct vmm *vmm, unsigned vcpu, pid_t *tid)
{
	char path[64], wanted[32];
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;

	snprintf(wanted, sizeof(wanted), "vcpu/%u\n", vcpu);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)vmm->pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		_cleanup_free_ char *comm = NULL;

		snprintf(path, sizeof(path), "%.20s/comm", e->d_name);
		if (file_read(dirfd(d), path, 64, &comm, NULL) == 0 && strcmp(comm, wanted) == 0) {
			*tid = (pid_t)atoi(e->d_name);
			return 0;
		}
	}
	return -ESRCH;
}

static void show_cpus(const cpu_set_t *set, size_t size, size_t n, struct strbuf *sb)
{
	const char *comma = "";

	for (size_t first = 0; first < n; first++) {
		size_t last = first;

		if (!CPU_ISSET_S(first, size, set))
			continue;
		while (last + 1 < n && CPU_ISSET_S(last + 1, size, set))
			last++;
		strbuf_printf(sb, first == last ? "%s%zu" : "%s%zu-%zu", comma, first, last);
		comma = ",";
		first = last;
	}
}

/* "0-3,8": at least one. */
static int parse_cpus(const char *text, cpu_set_t *set, size_t size, size_t n, struct err *err)
{
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	CPU_ZERO_S(size, set);
	do {
		char *word = strsep(&rest, ","), *dash = strchr(word, '-');
		uint64_t first, last;
		int r;

		if (dash)
			*dash++ = '\0';
		r = uint_parse(word, 0, n - 1, &first);
		last = first;
		if (r == 0 && dash)
			r = uint_parse(dash, 0, n - 1, &last);
		if (r == 0 && last < first)
			r = -EINVAL;
		if (r < 0)
			return err_set(err, r, "'%.40s' is no list of CPUs such as 0-3,8", text);
		for (uint64_t i = first; i <= last; i++)
			CPU_SET_S(i, size, set);
	} while (rest);
	return 0;
}

#define CPUS_MAX 8192

int machine_affinity_show(struct machine *m, unsigned vcpu, struct strbuf *sb)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
	_cleanup_free_ cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
	pid_t tid;
	int r = vmm ? find_thread(vmm, vcpu, &tid) : -ENODEV;

	if (r < 0 || !set)
		return r < 0 ? r : -ENOMEM;
	CPU_ZERO_S(size, set);
	if (sched_getaffinity(tid, size, set) < 0)
		return -errno;
	show_cpus(set, size, CPUS_MAX, sb);
	return 0;
}

int machine_affinity_store(struct machine *m, unsigned vcpu, const char *text, struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
	_cleanup_free_ cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
	struct err own = ERR_INIT, *words = err ? err : &own;
	char what[32];
	pid_t tid;
	int r;

	if (!vmm)
		r = err_set(words, -EBUSY, "the machine does not run");
	else if (!set)
		r = err_set(words, -ENOMEM, "out of memory");
	else
		r = parse_cpus(text, set, size, CPUS_MAX, words);
	if (r == 0 && find_thread(vmm, vcpu, &tid) < 0)
		r = err_set(words, -ENODEV, "vcpu %u is gone", vcpu);
	if (r == 0 && sched_setaffinity(tid, size, set) < 0)
		r = err_set(words, -errno, "CPUs %s: %m", text);
	words->code = r;
	snprintf(what, sizeof(what), "vcpu/%u/affinity", vcpu);
	machine_outcome(m, what, words);
	return r;
}
