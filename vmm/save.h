/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_SAVE_H
#define FV_VMM_SAVE_H
/*
 * The whole of a guest, but for its memory, into a state (state.h) and out of it. Its sections:
 *
 *	config   what the machine was made of; checked, and brought in line, before it is
 *		 made for the load
 *	clock    KVM's clock, the TSC's rate, and when that was
 *	chips    PIC, I/O APIC, PIT
 *	vcpu.N   each vcpu (vcpu_state.c)
 *	console  what was typed and not yet read
 *	others   each device's, by the device's name (device_ops.state)
 */
#include "vmm/state.h"

struct vcpu;
struct vm;
struct vm_config;

/* When the state was saved, and how long ago that is. */
struct save_times {
	uint64_t saved_ns;   /* CLOCK_REALTIME */
	uint64_t elapsed_ns; /* loading: since then */
	uint32_t tsc_khz;
};

/* By how much the TSC has gone on while the guest was not there. */
uint64_t save_tsc_ticks(const struct save_times *times);

/*
 * The machine stands still, with its devices, and has nothing under way in a queue: -EBUSY with
 * words. All goes into @state; state_result() has the words of a failure.
 */
void vm_save(struct vm *vm, struct state *state);
/*
 * Before the machine is made: does the state fit @config? Its disks are put in the places that
 * they had. -EINVAL with words.
 */
int vm_load_config(struct vm_config *config, struct state *state, struct err *err);
/*
 * Into a machine that was made without anything to boot, and stands still with its devices.
 * Memory has its contents. On failure it is good for nothing but its end.
 */
void vm_load(struct vm *vm, struct state *state);

/* vcpu_state.c: one vcpu that stands still, in the section that has begun. */
void vcpu_state(struct vcpu *vcpu, struct state *state, const struct save_times *times);

#endif
