/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_CONTROL_INT_H
#define FV_VMM_CONTROL_INT_H
/* What the files that carry out the daemon's requests (control_proto.c, control_disk.c) share. */
#include <string.h>

#include "vmm/control.h"

/* A packet that agrees with its row: lengths and numbers of descriptors were checked. */
struct request {
	struct vmm_msg_hdr hdr;
	const uint8_t *body;
	int fds[VMM_MSG_FDS]; /* -1 where one was taken */
	size_t n_fds;
};

struct reply {
	uint8_t body[sizeof(struct vmm_status) > sizeof(struct vmm_vcpu_state)
			 ? sizeof(struct vmm_status)
			 : sizeof(struct vmm_vcpu_state)];
	size_t len;
	int fds[2]; /* borrowed */
	size_t n_fds;
	int own_fd; /* closed once it is sent; -1: none */
};

/* What a request's function returns where the answer comes later, by control_proto_answer(). */
#define CONTROL_LATER 1

static inline void reply_put(struct reply *reply, const void *data, size_t len)
{
	memcpy(reply->body, data, len);
	reply->len = len;
}

/* Copies a string that the peer was to end with NUL, and ends it. */
static inline void copy_text(char *to, const char *from, size_t size)
{
	memcpy(to, from, size);
	to[size - 1] = '\0';
}

/* --- disks (control_disk.c) ----------------------------------------------------------------- */

int control_disk_layer(struct control *c, struct request *req, struct reply *reply,
		       struct err *err);
int control_disk_change(struct control *c, struct request *req, struct reply *reply,
			struct err *err);
int control_disk_resize(struct control *c, struct request *req, struct reply *reply,
			struct err *err);
int control_disk_limits(struct control *c, struct request *req, struct reply *reply,
			struct err *err);
int control_disk_snapshot(struct control *c, struct request *req, struct reply *reply,
			  struct err *err);
int control_disk_add(struct control *c, struct request *req, struct reply *reply, struct err *err);
/*
 * The disk that a VMM_DISK and the layers before it describe, opened; the layers are used up,
 * also on error. The caller puts it in one of config.disks.
 */
int control_disk_make(struct control *c, const struct request *req, struct disk **disk,
		      struct err *err);
/* The disk of that name, or NULL. */
struct disk *control_disk_find(struct control *c, const char *name);
/* The disk that a request begins with the name of; NULL with words: -ENOENT. */
struct disk *control_disk_named(struct control *c, const struct request *req, struct err *err);
/*
 * A job (disk_job.h) for that disk, to be answered to the asker when it is over; -errno with words.
 * Ends in control_disk_start() or disk_job_end().
 */
struct disk_job;
int control_disk_job(struct control *c, const struct request *req, struct disk_job **job,
		     struct err *err);
/* CONTROL_LATER, or -errno with words: then it has ended. */
int control_disk_start(struct disk_job *job, struct err *err);
/* Queues an event for the daemon; dropped where there is none. */
void control_disk_tell(struct control *c, const char *name, enum vmm_disk_what what, int error,
		       const char *text);
/* A place in config.disks that is free; -ENOSPC with words. */
int control_disk_place(struct control *c, struct err *err);

/* --- disks of a machine that there is (control_hotplug.c) ------------------------------------ */

/* Either it has not switched it on, or its tables were made before there was so much. */
#define NO_HOTPLUG "the guest has no ACPI hotplug for its slot"

int control_hotplug_attach(struct control *c, struct request *req, struct reply *reply,
			   struct err *err);
int control_hotplug_detach(struct control *c, struct request *req, struct reply *reply,
			   struct err *err);

/* --- network cards (control_nic.c) ------------------------------------------------------------ */

int control_nic_add(struct control *c, struct request *req, struct reply *reply, struct err *err);
int control_nic_set(struct control *c, struct request *req, struct reply *reply, struct err *err);
int control_nic_capture(struct control *c, struct request *req, struct reply *reply,
			struct err *err);

int control_nic_cable(struct control *c, struct request *req, struct reply *reply, struct err *err);

/* Those of a machine that there is (control_nic_hotplug.c). Takes @nic when it returns 0. */
int control_nic_attach(struct control *c, struct nic_config *nic, struct reply *reply,
		       struct err *err);
int control_nic_detach(struct control *c, struct request *req, struct reply *reply,
		       struct err *err);
/* As control_hotplug_look() and _reset(). */
void control_nic_look(struct control *c);
void control_nic_reset(struct control *c);
/* An address of a guest's that the daemon has not heard of; false: none. */
bool control_nic_news(struct control *c, struct vmm_nic_news *news);
/* Now it has. */
void control_nic_told(struct control *c, const struct vmm_nic_news *news);
/* Of one that its guest knows by another's address, if it is one: that it is. */
void control_nic_tell_stranger(struct control *c, const struct nic_config *nic);
/* Where the card of that name is; -ENOENT. */
int control_nic_place(const struct control *c, const char *name);
/* Closes it, and frees it. NULL is fine. */
void control_nic_free(struct nic_config *nic);

/* --- vsock (control_vsock.c) ------------------------------------------------------------------ */

int control_vsock_add(struct control *c, struct request *req, struct reply *reply, struct err *err);
int control_vsock_listen(struct control *c, struct request *req, struct reply *reply,
			 struct err *err);
int control_vsock_answer(struct control *c, struct request *req, struct reply *reply,
			 struct err *err);

/* --- the guest's state (control_load.c) ------------------------------------------------------- */

int control_load(struct control *c, struct request *req, struct reply *reply, struct err *err);

/* --- snapshots: the instant (control_snapshot.c), memory (control_memory.c), disks
 * (control_stage.c)
 */

int control_snapshot(struct control *c, struct request *req, struct reply *reply, struct err *err);
int control_memory(struct control *c, struct request *req, struct reply *reply, struct err *err);
int control_peek_memory(struct control *c, struct request *req, struct reply *reply,
			struct err *err);
int control_disk_stage(struct control *c, struct request *req, struct reply *reply,
		       struct err *err);
int control_disk_freeze(struct control *c, struct request *req, struct reply *reply,
			struct err *err);
int control_disk_rebase(struct control *c, struct request *req, struct reply *reply,
			struct err *err);

#endif
