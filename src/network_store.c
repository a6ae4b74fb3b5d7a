// SPDX-License-Identifier: ISC
/*
 * What of a network is on disk:
 *
 *   STATE/networks/NAME/access    id, owner, modes: always there
 *                       config    its keys, as libconfig text; absent: the presets
 *                       forwards  as the file of that name is written
 *                       leases    "MACHINE-ID NIC ADDRESS": who has which address
 *
 * It appears and goes by one rename(2), as a machine does: see store.c. All under networks.edit,
 * but for leases: under network.work.
 */
#define LOG_MODULE "store"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define HIDDEN_MAX 64
#define LEASES_MAX (16u << 20)

static int make_dir(int parent, const char *parent_path, mode_t mode, struct err *err)
{
	int fd;

	if (mkdirat(parent, "networks", mode) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s/networks: %m", parent_path);
	fd = openat(parent, "networks", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "%s/networks: %m", parent_path);
	if (fchmod(fd, mode) < 0)
		log_warn("%s/networks: %m", parent_path);
	return fd;
}

/* dnsmasq, which is nobody, reads in RUN/networks/NAME what we tell it of guests. */
int networks_store_open(struct networks *networks, struct err *err)
{
	struct model *model = networks->model;

	networks->dir = make_dir(model->state_fd, model->state_dir, 0700, err);
	if (networks->dir < 0)
		return networks->dir;
	networks->run_dir = make_dir(model->run_fd, model->run_dir, 0711, err);
	if (networks->run_dir < 0)
		return networks->run_dir;
	if (geteuid() == 0 && fchmod(model->run_fd, 0711) < 0)
		log_warn("%s: %m", model->run_dir);
	return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static int refused(struct err *err, int code, const char *what)
{
	if (code == -EDQUOT)
		code = -ENOSPC;
	return err_set(err, code, "cannot write %s: %s", what, strerror(-code));
}

int network_store_text(struct network *network, const char *file, const struct strbuf *sb,
		       struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = sb->failed ? -ENOMEM : 0;

	if (network->damaged)
		return err_set(err, -EROFS, "what is known of the network is damaged: see `error`");
	dir = openat(network->model->networks->dir, network->name,
		     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r == 0)
		r = dir < 0 ? -errno
			    : file_replace(dir, file, sb->data ? sb->data : "", sb->len, 0600);
	return r < 0 ? refused(err, r, file) : 0;
}

int network_store_config(struct network *network, const struct network_values *values,
			 struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	network_values_format(values, &sb);
	return network_store_text(network, "config", &sb, err);
}

int network_store_access(struct network *network, const struct machine_access *access,
			 const struct file_mode *modes, size_t n_modes, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	access_format(network->id, access, modes, n_modes, &sb);
	return network_store_text(network, "access", &sb, err);
}

/* --- come, go, change its name ------------------------------------------------------------------
 */

static void hidden_name(char name[HIDDEN_MAX], const char *kind, const struct network *network)
{
	snprintf(name, HIDDEN_MAX, ".%s-%s", kind, network->id);
}

static void remove_dir(int parent, const char *name)
{
	static const char *const files[] = {"access",	     "config",	    "forwards",
					    "leases",	     ".access.new", ".config.new",
					    ".forwards.new", ".leases.new"};
	_cleanup_close_ int dir =
	    openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	for (size_t i = 0; dir >= 0 && i < nitems(files); i++)
		unlinkat(dir, files[i], 0);
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		log_warn("cannot remove networks/%s: %m", name);
}

static int prepare(struct network *network, const char *hidden)
{
	_cleanup_strbuf_ struct strbuf access = STRBUF_INIT, config = STRBUF_INIT;
	int parent = network->model->networks->dir, r;
	_cleanup_close_ int dir = -1;

	access_format(network->id, &network->access, NULL, 0, &access);
	network_values_format(network->values, &config);
	if (access.failed || config.failed)
		return -ENOMEM;
	if (mkdirat(parent, hidden, 0700) < 0)
		return -errno;
	dir = openat(parent, hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? -errno : file_replace(dir, "config", config.data, config.len, 0600);
	return r < 0 ? r : file_replace(dir, "access", access.data, access.len, 0600);
}

int network_store_define(struct network *network, struct err *err)
{
	int parent = network->model->networks->dir, r;
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "new", network);
	r = prepare(network, hidden);
	if (r == 0 && renameat2(parent, hidden, parent, network->name, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r == 0) {
		r = file_sync_dir(parent);
		if (r < 0 && renameat(parent, network->name, parent, hidden) < 0)
			log_error("cannot take back %s: %m", network->name);
	}
	if (r < 0) {
		remove_dir(parent, hidden);
		return refused(err, r, network->name);
	}
	return 0;
}

int network_store_undefine(struct network *network, struct err *err)
{
	int parent = network->model->networks->dir, r;
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "trash", network);
	if (renameat(parent, network->name, parent, hidden) < 0)
		return err_set(err, -errno, "cannot remove %s: %m", network->name);
	r = file_sync_dir(parent);
	if (r < 0 && renameat(parent, hidden, parent, network->name) == 0)
		return err_set(err, r, "cannot remove %s: %s", network->name, strerror(-r));
	remove_dir(parent, hidden);
	return 0;
}

int network_store_rename(struct network *network, const char *name, struct err *err)
{
	int parent = network->model->networks->dir, r;

	if (renameat2(parent, network->name, parent, name, RENAME_NOREPLACE) < 0)
		return err_set(err, -errno, "cannot rename %s: %m", network->name);
	r = file_sync_dir(parent);
	if (r < 0 && renameat(parent, name, parent, network->name) == 0)
		return err_set(err, r, "cannot rename %s: %s", network->name, strerror(-r));
	return 0;
}

/* --- loading ------------------------------------------------------------------------------------
 */

static int load_access(struct network *network, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	struct access_file file = {0};
	int r = file_read(dir, "access", 1 << 20, &text, NULL);

	if (r == 0)
		r = access_parse(text, &file);
	if (r < 0) {
		access_free(&file);
		network->access = (struct machine_access){geteuid(), getegid(), 0700};
		return err_set(err, r, "who may do what is damaged: %s", strerror(-r));
	}
	strcpy(network->id, file.id);
	network->access = file.access;
	network->modes = file.modes;
	network->n_modes = file.n_modes;
	return 0;
}

static int load_config(struct network *network, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	struct network_values *values;
	size_t len;
	int r = file_read(dir, "config", 65536, &text, &len);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = network_values_parse(text, len, &values, err);
	else
		err_set(err, r, "%s", strerror(-r));
	if (r < 0)
		return err_prefix(err, "the definition is damaged");
	network_values_free(network->values);
	network->values = values;
	return 0;
}

static int load_rest(struct network *network, int dir, struct err *err)
{
	_cleanup_free_ char *forwards = NULL, *leases = NULL;
	size_t len;
	int r = file_read(dir, "forwards", FORWARDS_BYTES, &forwards, &len);

	if (r == 0)
		r = forwards_parse(forwards, len, &network->forwards, &network->n_forwards, err);
	if (r < 0 && r != -ENOENT)
		return err_prefix(err, "what is forwarded is damaged");
	r = file_read(dir, "leases", LEASES_MAX, &leases, NULL);
	if (r == 0)
		r = leases_parse_held(network, leases);
	return r < 0 && r != -ENOENT
		   ? err_set(err, r, "who has which address is damaged: %s", strerror(-r))
		   : 0;
}

static int load_network(struct networks *networks, const char *name)
{
	_cleanup_close_ int dir =
	    openat(networks->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_network_ struct network *network = NULL;
	struct err err = ERR_INIT;
	char id[ID_TEXT];
	struct stat st;
	int r;

	if (dir < 0 || fstat(dir, &st) < 0)
		return -errno;
	model_make_id(id);
	network = network_new(networks->model, name, id);
	if (!network)
		return -ENOMEM;
	r = load_access(network, dir, &err);
	if (r == 0)
		r = load_config(network, dir, &err);
	if (r == 0)
		r = load_rest(network, dir, &err);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		log_error("network %s: %s", name, err.text);
		outcome_set(&network->error, "load", &err, false);
		network->damaged = true;
		network_set_state(network, NETWORK_FAILED, network->error.text);
	}
	for (size_t i = 0; i < NETWORK_ASPECT_MAX; i++)
		network->changed[i] = st.st_mtim;
	return networks_insert(networks, network);
}

int networks_store_load(struct networks *networks, struct err *err)
{
	struct dirent **entries;
	int n = scandirat(networks->dir, ".", &entries, NULL, alphasort), r = 0;

	if (n < 0)
		return err_set(err, -errno, "%s/networks: %m", networks->model->state_dir);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		int one = 0;

		if (strncmp(name, ".new-", 5) == 0 || strncmp(name, ".trash-", 7) == 0)
			remove_dir(networks->dir, name);
		else if (*name != '.')
			one = machine_name_check(name, NULL) < 0 ? -EINVAL
								 : load_network(networks, name);
		if (one == -ENOMEM)
			r = one;
		else if (one < 0)
			log_error("network %s cannot be loaded: %s", name, strerror(-one));
		free(entries[i]);
	}
	free(entries);
	return r < 0 ? err_set(err, r, "%s/networks: out of memory", networks->model->state_dir)
		     : 0;
}
