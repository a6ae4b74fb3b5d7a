/* SPDX-License-Identifier: ISC */
#ifndef FV_HOST_H
#define FV_HOST_H
/* What this host offers, as rows of a table: the tree shows each as a file under host/. */
#include "util/err.h"
#include "util/strbuf.h"

struct host_fact {
	const char *path; /* "cpus", "memory", "kvm/api_version", "capabilities/vhost_net" */
	void (*show)(struct strbuf *sb); /* the value, one line, no newline; never blocks */
	const char *help;
};

extern const struct host_fact host_facts[];
extern const size_t n_host_facts;

/* /dev/kvm, found to be KVM: a descriptor, or -ENODEV, -EACCES with words that say why not. */
int host_kvm_open(struct err *err);

#endif
