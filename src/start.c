// SPDX-License-Identifier: ISC
/*
 * `start`: everything that may be refused is opened first, with the rights of
 * the machine's owner; then a VMM is made and given what was opened. Until its
 * vcpus run, any failure takes back all that was done.
 */
#define LOG_MODULE "start"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "console.h"
#include "host.h"
#include "paths.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/rights.h"
#include "vmm.h"

#define NOBODY	 65534 /* whom the guests of root run as */
#define ALONE_MS 200   /* for a VMM that hung up to be gone */
#define END_MS	 10000 /* for one that was killed */

struct start {
	struct machine *m;
	struct definition *def;
	struct machine_access access;
	struct cancel *cancel;
	struct err *err;
	gid_t *groups;
	int kvm, kernel, initrd, console, pty;
	int disks[VMM_DISKS_MAX];
	char tty[64];
	struct vmm_image images[VMM_DISKS_MAX];
	struct vmm *vmm;
};

/* --- opening --------------------------------------------------------------------------------- */

/* Who, other than @m, has the image; false if that cannot be told. */
static bool find_user(struct machine *self, const struct vmm_image *image, char *name)
{
	uint64_t cursor = 0;
	struct machine *m;
	bool found = false;

	while (!found && (m = model_machine_next(self->model, &cursor))) {
		pthread_mutex_lock(&m->lock);
		for (unsigned i = 0; m->vmm && i < m->vmm->n_images; i++)
			found |= m->vmm->images[i].dev == image->dev &&
				 m->vmm->images[i].ino == image->ino;
		strcpy(name, m->name);
		pthread_mutex_unlock(&m->lock);
		machine_put(m);
	}
	return found;
}

static int in_use(struct start *s, const struct disk *d, const struct vmm_image *image)
{
	char name[MACHINE_NAME_MAX + 1];

	if (find_user(s->m, image, name))
		return err_set(s->err, -EBUSY, "disk %s: %s is in use by machine %s", d->name,
			       d->values.source, name);
	return err_set(s->err, -EBUSY, "disk %s: %s is in use by another program", d->name,
		       d->values.source);
}

/*
 * A lock of the open file, which the VMM's descriptor is: it lasts as long as
 * the VMM, whatever becomes of the daemon. Readers share it.
 */
static int lock_image(int fd, bool readonly)
{
	struct flock lock = {.l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

static int open_disk(struct start *s, const struct rights *rights, unsigned i)
{
	const struct disk *d = &s->def->disks[i];
	struct vmm_image *image = &s->images[i];
	bool readonly = d->values.readonly;
	struct stat st;
	int r;

	if (!*d->values.source)
		return err_set(s->err, -EINVAL, "disk %s has no source", d->name);
	r = s->disks[i] =
	    path_open(rights, d->values.source, readonly ? O_RDONLY : O_RDWR, true, s->err);
	if (r < 0 && r != -EBUSY) {
		err_prefix(s->err, "disk %s", d->name);
		return r;
	}
	if (r == -EBUSY)
		return err_set(s->err, r, "disk %s: %s is in use on this host", d->name,
			       d->values.source);
	if (fstat(s->disks[i], &st) < 0)
		return err_set(s->err, -errno, "disk %s: %m", d->name);
	image->dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	image->ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	strcpy(image->name, d->name);
	for (unsigned k = 0; k < i; k++)
		if (s->images[k].dev == image->dev && s->images[k].ino == image->ino &&
		    !(readonly && s->def->disks[k].values.readonly))
			return err_set(s->err, -EBUSY, "disks %s and %s are the same image",
				       s->images[k].name, d->name);
	r = lock_image(s->disks[i], readonly);
	if (r == -EBUSY)
		return in_use(s, d, image);
	return r < 0 ? err_set(s->err, r, "disk %s cannot be locked: %s", d->name, strerror(-r))
		     : 0;
}

static int open_file(struct start *s, const struct rights *rights, const char *key,
		     const char *path, int *fd)
{
	*fd = path_open(rights, path, O_RDONLY, false, s->err);
	if (*fd < 0)
		err_prefix(s->err, "%s", key);
	return *fd < 0 ? *fd : 0;
}

static int open_all(struct start *s)
{
	const struct machine_values *v = &s->def->values;
	struct rights rights = {.uid = s->access.uid, .gid = s->access.gid};
	int r;

	if (!*v->kernel)
		return err_set(s->err, -EINVAL, "no kernel is set");
	s->kvm = host_kvm_open(s->err);
	if (s->kvm < 0)
		return s->kvm;
	r = rights_groups(rights.uid, rights.gid, &s->groups, &rights.n_groups);
	if (r < 0)
		return err_set(s->err, r, "out of memory");
	rights.groups = s->groups;
	r = open_file(s, &rights, "kernel", v->kernel, &s->kernel);
	if (r == 0 && *v->initrd)
		r = open_file(s, &rights, "initrd", v->initrd, &s->initrd);
	for (unsigned i = 0; r == 0 && i < s->def->n_disks; i++)
		r = open_disk(s, &rights, i);
	if (r < 0)
		return r;
	s->console = console_open_log(s->m);
	if (s->console < 0)
		return err_set(s->err, s->console, "console: %s", strerror(-s->console));
	s->pty = console_open_pty(&s->access, s->tty, sizeof(s->tty));
	return s->pty < 0 ? err_set(s->err, s->pty, "no pty: %s", strerror(-s->pty)) : 0;
}

static void close_all(struct start *s)
{
	int *fds[] = {&s->kvm, &s->kernel, &s->initrd, &s->console, &s->pty};

	for (size_t i = 0; i < nitems(fds); i++)
		if (*fds[i] >= 0)
			close(take_fd(fds[i]));
	for (size_t i = 0; i < nitems(s->disks); i++)
		if (s->disks[i] >= 0)
			close(take_fd(&s->disks[i]));
	free(s->groups);
	definition_put(s->def);
	vmm_put(s->vmm);
}

/* --- telling the VMM ----------------------------------------------------------------------------
 */

static int tell(struct start *s, enum vmm_msg_type type, const void *data, size_t len,
		const int *fds, size_t n_fds)
{
	struct vmm_request rq = {.type = type,
				 .data = data,
				 .len = len,
				 .fds = fds,
				 .n_fds = n_fds,
				 .timeout_ms = VMM_LOAD_MS,
				 .cancel = s->cancel};

	return vmm_call(s->vmm, &rq, NULL, s->err);
}

static void id_bytes(const char *text, uint8_t id[16])
{
	for (int i = 0; i < 16 && *text; i++, text += 2) {
		unsigned byte = 0;

		if (*text == '-')
			text++;
		sscanf(text, "%2x", &byte);
		id[i] = (uint8_t)byte;
	}
}

static int tell_config(struct start *s)
{
	const struct machine_values *v = &s->def->values;
	struct vmm_config config = {
	    .cpus = (uint32_t)v->cpus,
	    .hugepages = (uint32_t)v->hugepages,
	    .memory_bytes = v->memory,
	    .on_reboot = (uint32_t)v->on_reboot,
	    .on_poweroff = (uint32_t)v->on_poweroff,
	    .on_crash = (uint32_t)v->on_crash,
	    .uid = s->access.uid ? s->access.uid : NOBODY,
	    .gid = s->access.uid && s->access.gid ? s->access.gid : NOBODY,
	};

	machine_name(s->m, config.name);
	id_bytes(s->m->id, config.id);
	return tell(s, VMM_CONFIG, &config, sizeof(config), &s->kvm, 1);
}

static int tell_disks(struct start *s)
{
	const struct vmm_layer layer = {.kind = VMM_LAYER_RAW};
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->def->n_disks; i++) {
		const struct disk *d = &s->def->disks[i];
		struct vmm_disk msg = {.readonly = (uint32_t)d->values.readonly,
				       .queues = (uint32_t)d->values.queues,
				       .n_layers = 1};

		strcpy(msg.name, d->name);
		r = tell(s, VMM_LAYER, &layer, sizeof(layer), &s->disks[i], 1);
		if (r == 0)
			r = tell(s, VMM_DISK, &msg, sizeof(msg), NULL, 0);
		if (r < 0)
			err_prefix(s->err, "disk %s", d->name);
	}
	return r;
}

static int tell_all(struct start *s)
{
	const char *cmdline = s->def->values.cmdline;
	struct vmm_console con = {.log_limit_bytes = CONSOLE_ALONE_MAX};
	int console_fds[] = {s->console, s->pty};
	int r = tell_config(s);

	if (r == 0)
		r = tell(s, VMM_KERNEL, NULL, 0, &s->kernel, 1);
	if (r == 0 && s->initrd >= 0)
		r = tell(s, VMM_INITRD, NULL, 0, &s->initrd, 1);
	if (r == 0)
		r = tell(s, VMM_CMDLINE, cmdline, strlen(cmdline), NULL, 0);
	if (r == 0)
		r = tell_disks(s);
	if (r == 0)
		r = tell(s, VMM_CONSOLE, &con, sizeof(con), console_fds, 2);
	return r == 0 ? tell(s, VMM_RUN, NULL, 0, NULL, 0) : r;
}

/* --- from one state to the other
 * -------------------------------------------------------------------- */

static enum machine_state begin_starting(struct start *s)
{
	struct machine *m = s->m;
	enum machine_state before;

	LOCK_SCOPE(&m->lock);
	before = m->state;
	m->killed = false;
	machine_set_state(m, MACHINE_STARTING, "start");
	return before;
}

/* The images are known to the machine before the VMM can use them. */
static int hand_over(struct start *s)
{
	struct vmm *vmm = s->vmm;

	pthread_mutex_lock(&s->m->lock);
	memcpy(vmm->images, s->images, sizeof(s->images));
	vmm->n_images = (unsigned)s->def->n_disks;
	vmm->cpus = (unsigned)s->def->values.cpus;
	strcpy(vmm->tty, s->tty);
	pthread_mutex_unlock(&s->m->lock);
	vmm_note(vmm);
	rundir_forget_end(s->m);
	return tell_all(s);
}

/* Under m->lock: until the VMM's process is gone, or the time is over. */
static bool await_gone(struct start *s, uint64_t ms)
{
	struct timespec deadline = deadline_in_ms(ms);

	while (!s->vmm->gone && machine_wait(s->m, &deadline) == 0)
		;
	return s->vmm->gone;
}

/* Under m->lock: ends the VMM. Where it went away by itself, how it did is the reason. */
static int end_vmm(struct start *s, int code)
{
	bool alone = code == -EPIPE && await_gone(s, ALONE_MS);

	vmm_kill(s->vmm);
	if (!await_gone(s, END_MS))
		log_warn("VMM %d cannot be killed", s->vmm->pid);
	if (alone)
		return err_set(s->err, -EIO, "%s", s->vmm->how);
	return code == -EPIPE ? -EIO : code;
}

/* Takes all back: the VMM goes, the state is the one before. */
static int give_up(struct start *s, enum machine_state before, int code)
{
	struct machine *m = s->m;
	struct vmm *vmm;
	bool killed;

	pthread_mutex_lock(&m->lock);
	if (s->vmm)
		code = end_vmm(s, code);
	vmm = take_ptr(m->vmm);
	killed = m->killed;
	m->killed = false;
	machine_set_state(m, before, killed ? "kill" : "start failed");
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
	if (vmm)
		vmm_loop_remove(vmm);
	vmm_put(vmm);
	rundir_clear(m, false);
	return killed ? err_set(s->err, -EBUSY, "killed while it started") : code;
}

int lifecycle_start(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err)
{
	struct start s = {.m = m,
			  .cancel = caller->cancel,
			  .err = err,
			  .kvm = -1,
			  .kernel = -1,
			  .initrd = -1,
			  .console = -1,
			  .pty = -1};
	enum machine_state before;
	bool damaged;
	int r;

	(void)model, (void)call;
	memset(s.disks, -1, sizeof(s.disks));
	pthread_mutex_lock(&m->lock);
	s.def = definition_get(m->def);
	s.access = m->access;
	damaged = m->damaged;
	pthread_mutex_unlock(&m->lock);
	r = damaged ? err_set(err, -EINVAL, "its definition is damaged: replace config")
		    : open_all(&s);
	if (r == 0) {
		before = begin_starting(&s);
		r = vmm_spawn(m, &s.vmm, s.cancel, err);
		if (r == 0)
			r = hand_over(&s);
		if (r < 0)
			r = give_up(&s, before, r);
	}
	close_all(&s);
	return r;
}
