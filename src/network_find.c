// SPDX-License-Identifier: ISC
/*
 * What an earlier daemon left, however it ended: networks that ran are taken up with the ports
 * whose machines still run; those that were being stopped are; bridges and processes of networks
 * that are no more are removed. All of it is found by notes in RUN/networks/ and by our alias.
 */
#define LOG_MODULE "network"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm_int.h"

static struct machine *find_machine(struct model *model, const char *id)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		if (strcmp(m->id, id) == 0)
			return m;
		machine_put(m);
	}
	return NULL;
}

/* One line of `ports`: still there where its machine runs and its tap is ours. */
static void take_port(struct network *network, const char *line)
{
	char id[ID_TEXT], nic[DISK_NAME_MAX + 1], tap[IFNAMSIZ], mac[NIC_MAC_TEXT], addr[16];
	_cleanup_machine_ struct machine *m = NULL;
	struct network_port port = {0}, *more;
	struct host_link link;
	int pid;

	if (sscanf(line, "%36s %31s %15s %17s %15s %d %u %u", id, nic, tap, mac, addr, &pid,
		   &port.vlan, &port.pvid) != 8 ||
	    nic_mac_parse(mac, port.mac, NULL) < 0 || inet_pton(AF_INET, addr, port.addr) != 1)
		return;
	m = find_machine(network->model, id);
	if (!m || !machine_has_vmm(m))
		return;
	if (strcmp(tap, "-") != 0) {
		if (host_link_find(tap, 0, &link) < 0 ||
		    !networks_made(network->model->networks, &link))
			return;
		strcpy(port.tap, tap);
	}
	strcpy(port.nic, nic);
	port.pid = pid;
	port.m = m;
	LOCK_SCOPE(&network->lock);
	more = realloc(network->ports, (network->n_ports + 1) * sizeof(*more));
	if (!more)
		return;
	network->ports = more;
	machine_get(m);
	more[network->n_ports++] = port;
}

static void take_ports(struct network *network, int dir)
{
	_cleanup_free_ char *text = NULL;
	char *save = NULL;

	if (file_read(dir, "ports", 1 << 20, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		take_port(network, line);
}

static void take_up(struct network *network)
{
	_cleanup_close_ int dir = network_run_dir(network, false);
	_cleanup_free_ char *state = NULL;
	struct err err = ERR_INIT;

	if (dir < 0 || network->damaged || file_read(dir, "state", 100, &state, NULL) < 0)
		return;
	LOCK_SCOPE(&network->work);
	take_ports(network, dir);
	if (network->n_ports == 0 && strncmp(state, "running", 7) != 0) {
		dns_adopt(network);
		pthread_mutex_lock(&network->lock);
		network_set_state(network, NETWORK_FAILED, NULL);
		pthread_mutex_unlock(&network->lock);
		network_stop(network, true, &err);
		return;
	}
	if (network_start(network, &network->model->stopping, &err) < 0) {
		log_error("network %s: %s", network->name, err.text);
		return;
	}
	if (network_note_ports(network) < 0 || dns_tell(network, &err) < 0)
		log_warn("network %s: %s", network->name, err.text);
	log_info("network %s: taken up with %zu ports", network->name, network->n_ports);
}

/* --- what belongs to nobody ---------------------------------------------------------------------
 */

static bool belongs(struct networks *networks, const char *name)
{
	_cleanup_network_ struct network *network = model_network_get(networks->model, name);

	return network != NULL;
}

/* dnsmasq of a network that is no more, and its directory. */
static void remove_left(struct networks *networks, const char *name)
{
	_cleanup_close_ int dir = openat(networks->run_dir, name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			    fd = -1;
	_cleanup_free_ char *text = NULL;
	unsigned long long started;
	struct dirent **entries;
	int pid, n;

	if (dir < 0)
		return;
	if (file_read(dir, "dns", 100, &text, NULL) == 0 &&
	    sscanf(text, "%d %llu", &pid, &started) == 2 && pid > 1) {
		fd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (fd >= 0 && started && vmm_start_time(pid) == started)
			syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	}
	n = scandirat(dir, ".", &entries, NULL, NULL);
	for (int i = 0; i < n; i++) {
		if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0)
			unlinkat(dir, entries[i]->d_name, 0);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	unlinkat(networks->run_dir, name, AT_REMOVEDIR);
}

static void remove_left_dirs(struct networks *networks)
{
	struct dirent **entries;
	int n = scandirat(networks->run_dir, ".", &entries, NULL, NULL);

	for (int i = 0; i < n; i++) {
		if (*entries[i]->d_name != '.' && !belongs(networks, entries[i]->d_name))
			remove_left(networks, entries[i]->d_name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

#define LEFT_MAX 1024

struct left {
	struct networks *networks;
	int index[LEFT_MAX];
	size_t n;
};

/* A bridge of a network, or a macvtap of one of its machines. */
static bool in_use(struct networks *networks, const struct host_link *link)
{
	LOCK_SCOPE(&networks->lock);
	for (size_t i = 0; i < networks->n; i++)
		if (networks->list[i]->bridge_index == link->index ||
		    port_exists(networks->list[i], link->name))
			return true;
	return false;
}

/* Taps go with their VMM: bridges and macvtaps are what stays. */
static int note_left(const struct host_link *link, void *arg)
{
	bool stays = strcmp(link->kind, "bridge") == 0 || strcmp(link->kind, "macvtap") == 0;
	struct left *left = arg;

	if (stays && networks_made(left->networks, link) && !in_use(left->networks, link) &&
	    left->n < nitems(left->index))
		left->index[left->n++] = link->index;
	return 0;
}

void networks_find(struct networks *networks)
{
	struct left left = {.networks = networks};
	struct err err = ERR_INIT;

	for (size_t i = 0; i < networks->n; i++)
		take_up(networks->list[i]);
	remove_left_dirs(networks);
	host_links(note_left, &left);
	for (size_t i = 0; i < left.n; i++)
		if (host_link_remove(left.index[i], &err) < 0)
			log_warn("an interface that was left: %s", err.text);
	if (rules_apply(networks, NULL, &err) < 0)
		log_warn("rules of networks: %s", err.text);
}
