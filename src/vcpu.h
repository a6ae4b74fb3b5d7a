/* SPDX-License-Identifier: ISC */
#ifndef FV_VCPU_H
#define FV_VCPU_H
#include "vmm.h"

/* All of a vcpu's registers as of now. 0 or -errno with words. */
int vcpu_get(struct vmm *vmm, unsigned vcpu, struct vmm_vcpu_state *state, unsigned timeout_ms,
	     struct err *err);

#endif
