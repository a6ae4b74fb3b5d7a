// SPDX-License-Identifier: ISC
/*
 * What a machine's start needs, opened with the rights of its owner before anything is begun.
 *
 * A guest that goes on from where it stood still has its kernel in memory already. The file is
 * then only for its next reset: where it cannot be opened any more the guest goes on all the
 * same, and a reset of it is refused.
 */
#define LOG_MODULE "start"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "console.h"
#include "host.h"
#include "start_int.h"
#include "util/cleanup.h"
#include "util/log.h"

static int open_disk(struct start *s, struct disk_asks *asks, unsigned i)
{
	const struct disk *d = &s->def->disks[i];
	int r;

	if (!*d->values.source)
		return 0; /* no medium: not there */
	asks->n_before = i;
	r = disk_open_source(s->m, d, asks, &s->disks[i], s->err);
	return r < 0 ? err_prefix(s->err, "disk %s", d->name), r : 0;
}

static int open_disks(struct start *s, const struct rights *owner)
{
	struct disk_asks asks = {.owner = *owner, .cancel = s->cancel, .before = s->disks};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < s->def->n_disks; i++)
		r = open_disk(s, &asks, i);
	return r;
}

static int open_file(struct start *s, const struct rights *rights, const char *key,
		     const char *path, int *fd)
{
	struct opener_request rq = {.rights = *rights, .path = path, .cancel = s->cancel};

	*fd = opener_file(s->m->model->opener, &rq, O_RDONLY, false, s->err);
	if (*fd < 0)
		err_prefix(s->err, "%s", key);
	return *fd < 0 ? *fd : 0;
}

static int open_boot(struct start *s, const struct rights *rights)
{
	const struct machine_values *v = &s->def->values;
	int r;

	if (!*v->kernel)
		return err_set(s->err, -EINVAL, "no kernel is set");
	r = open_file(s, rights, "kernel", v->kernel, &s->kernel);
	if (r == 0 && *v->initrd)
		r = open_file(s, rights, "initrd", v->initrd, &s->initrd);
	return r;
}

static int open_boot_if_there(struct start *s, const struct rights *rights)
{
	int r = open_boot(s, rights);
	char name[MACHINE_NAME_MAX + 1];

	if (r == 0 || r == -ECANCELED)
		return r;
	machine_name(s->m, name);
	log_warn("machine %s goes on, but cannot be reset: %s", name, s->err->text);
	*s->err = (struct err)ERR_INIT;
	if (s->kernel >= 0)
		close(take_fd(&s->kernel)); /* not to boot without its initrd */
	return 0;
}

static int open_console(struct start *s)
{
	s->console = console_open_log(s->m);
	if (s->console < 0)
		return err_set(s->err, s->console, "console: %s", strerror(-s->console));
	s->pty = console_open_pty(&s->access, s->tty, sizeof(s->tty));
	return s->pty < 0 ? err_set(s->err, s->pty, "no pty: %s", strerror(-s->pty)) : 0;
}

static int plug_nics(struct start *s)
{
	const struct definition *def = s->def;
	int r = def->n_nics ? nics_await_released(s->m, s->cancel, s->err) : 0;

	for (size_t i = 0; r == 0 && i < def->n_nics; i++) {
		r = nic_plug_in(s->m, &def->nics[i], (unsigned)def->values.cpus, &s->nics[i],
				s->cancel, s->err);
		if (r == 0)
			s->n_nics++;
	}
	return r;
}

int start_may(struct start *s)
{
	if (!s->resume && !*s->def->values.kernel)
		return err_set(s->err, -EINVAL, "no kernel is set");
	s->kvm = host_kvm_open(s->err);
	return s->kvm < 0 ? s->kvm : 0;
}

int start_open(struct start *s)
{
	_cleanup_rights_ struct rights rights = {0};
	int r = machine_owner_rights(s->m, &rights);

	if (r < 0)
		return err_set(s->err, r, "out of memory");
	r = s->resume ? open_boot_if_there(s, &rights) : open_boot(s, &rights);
	if (r == 0)
		r = open_disks(s, &rights);
	if (r == 0)
		r = open_console(s);
	return r == 0 ? plug_nics(s) : r;
}

void start_close(struct start *s)
{
	int *fds[] = {&s->kvm, &s->kernel, &s->initrd, &s->console, &s->pty};

	for (size_t i = 0; i < nitems(fds); i++)
		if (*fds[i] >= 0)
			close(take_fd(fds[i]));
	for (size_t i = 0; i < nitems(s->disks); i++)
		disk_opened_free(s->disks[i]);
	for (unsigned i = 0; i < s->n_nics; i++) {
		nic_close_fds(&s->nics[i]);
		if (i >= s->n_nics_given)
			nic_pull(s->m, &s->nics[i]);
	}
	if (s->burst.vmm)
		vmm_burst_drop(&s->burst);
	definition_put(s->def);
	vmm_put(s->vmm);
}
