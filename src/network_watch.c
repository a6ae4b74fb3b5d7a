// SPDX-License-Identifier: ISC
/*
 * The thread `networks`: hears when interfaces, rules or leases change and when dnsmasq ends, and
 * puts right what is ours; and looks by itself now and then, for what nobody tells.
 *
 * Many changes come at once: it looks some time after the first. A network that is being started
 * or stopped is left alone, and looked at again soon.
 */
#define LOG_MODULE "network"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

#define QUIET_MS 30    /* from the first change to the look */
#define LOOK_MS	 10000 /* without any */
#define SOON_MS	 200
#define LOG_MAX	 65536
#define AGAIN_NS 1000000000ull /* between two starts of dnsmasq */

enum { FD_WAKE, FD_LINKS, FD_RULES, FD_NOTES, FDS };

/* --- a look at one network; under work ---------------------------------------------------------
 */

/* Ports whose taps have gone: their VMM ended. */
static void drop_gone(struct network *network)
{
	for (;;) {
		struct network_port port;
		struct host_link link;
		bool gone = false;

		pthread_mutex_lock(&network->lock);
		for (size_t i = 0; i < network->n_ports && !gone; i++) {
			port = network->ports[i];
			gone = *port.tap ? host_link_find(port.tap, 0, &link) == -ENODEV
					 : port.pid > 0 && kill(port.pid, 0) < 0 && errno == ESRCH;
		}
		pthread_mutex_unlock(&network->lock);
		if (!gone)
			return;
		pthread_mutex_unlock(&network->work);
		if (*port.tap)
			port_drop(network, port.tap);
		else
			port_drop_pid(network, port.pid);
		pthread_mutex_lock(&network->work);
	}
}

static void check_bridge(struct network *network)
{
	bool own = network_has_bridge(network->values);
	struct host_link link;
	char words[128];

	if (!*network->bridge)
		return;
	if (host_link_find(NULL, network->bridge_index, &link) == 0 &&
	    strcmp(link.name, network->bridge) == 0)
		return;
	snprintf(words, sizeof(words), "ENODEV the %s %s has vanished from the host%s",
		 network->direct ? "interface" : "bridge", network->bridge,
		 own ? ": `start` makes it again" : "");
	log_error("network %s: %s", network->name, words);
	dns_stop(network);
	LOCK_SCOPE(&network->lock);
	network_set_state(network, NETWORK_FAILED, words);
}

/* A bridge of the host's that vanished is there again: so are its ports. */
static bool take_back(struct network *network)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	struct err err = ERR_INIT;
	struct host_link link;

	if (!values || values->mode != MODE_BRIDGE || !*network->bridge ||
	    host_link_find(values->interface, 0, &link) < 0 || link.index == network->bridge_index)
		return false;
	if (network_start(network, &network->model->stopping, &err) < 0) {
		log_warn("network %s: %s", network->name, err.text);
		return false;
	}
	network_event(network, "network-interface-back", NULL, NULL);
	log_info("network %s: %s is there again", network->name, link.name);
	return network->direct;
}

/* Macvtaps went with it: cards are plugged in anew. Not under work. */
static void replug(struct network *network)
{
	char name[NETWORK_NAME_MAX + 1];
	uint64_t cursor = 0;
	struct machine *next;

	network_name(network, name);
	while ((next = model_machine_next(network->model, &cursor))) {
		_cleanup_machine_ struct machine *m = next;

		machine_nics_replug(m, name);
	}
}

/* What it wrote is not to fill the host's memory. */
static void bound_log(struct network *network)
{
	_cleanup_close_ int dir = network_run_dir(network, false), fd = -1;
	struct stat st;

	if (dir >= 0)
		fd = openat(dir, "dnsmasq.log", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > LOG_MAX && ftruncate(fd, 0) < 0)
		log_warn("network %s: dnsmasq.log: %m", network->name);
}

/* False: it is to be tried again soon. */
static bool check_dnsmasq(struct network *network)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	struct err err = ERR_INIT;

	if (!values || !network_has_dnsmasq(values))
		return true;
	if (network->dns_pid && !dns_ended(network)) {
		bound_log(network);
		return true;
	}
	if (now_ns() < network->dns_again)
		return false;
	network->dns_again = now_ns() + AGAIN_NS;
	if (dns_start(network, &err) < 0) {
		log_error("network %s: %s", network->name, err.text);
		LOCK_SCOPE(&network->lock);
		network_set_state(network, NETWORK_RUNNING, err.text);
		return false;
	}
	network_event(network, "network-dnsmasq-restarted", NULL, NULL);
	log_warn("network %s: dnsmasq had ended: started again", network->name);
	LOCK_SCOPE(&network->lock);
	network_set_state(network, NETWORK_RUNNING, NULL);
	return true;
}

static bool look_at(struct network *network)
{
	bool well = true, lost = false;

	if (pthread_mutex_trylock(&network->work) != 0)
		return false;
	if (network_state(network) == NETWORK_RUNNING) {
		drop_gone(network);
		check_bridge(network);
	}
	if (network_state(network) == NETWORK_RUNNING) {
		well = check_dnsmasq(network);
		leases_read(network);
	} else if (network_state(network) == NETWORK_FAILED) {
		drop_gone(network);
		lost = take_back(network);
	}
	pthread_mutex_unlock(&network->work);
	if (lost)
		replug(network);
	return well;
}

static bool look(struct networks *networks)
{
	uint64_t cursor = 0;
	struct network *next;
	bool well = true;

	while ((next = model_network_next(networks->model, &cursor))) {
		_cleanup_network_ struct network *network = next;

		well = look_at(network) && well;
	}
	return well;
}

/* --- the thread ---------------------------------------------------------------------------------
 */

#define DNS_MAX NETWORKS_MAX

/* Descriptors of those whose end is to be heard: copies, for theirs may be closed meanwhile. */
static size_t dns_fds(struct networks *networks, struct pollfd *fds)
{
	uint64_t cursor = 0;
	struct network *next;
	size_t n = 0;

	while (n < DNS_MAX && (next = model_network_next(networks->model, &cursor))) {
		_cleanup_network_ struct network *network = next;
		int fd = -1;

		if (pthread_mutex_trylock(&network->work) != 0)
			continue;
		if (network->dns_fd >= 0)
			fd = fcntl(network->dns_fd, F_DUPFD_CLOEXEC, 3);
		pthread_mutex_unlock(&network->work);
		if (fd >= 0)
			fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	return n;
}

static void drain(int fd)
{
	char room[4096] __attribute__((aligned(8)));

	while (read(fd, room, sizeof(room)) > 0)
		;
}

static void run(struct networks *networks, struct pollfd *fds)
{
	bool rules = false, well = true;

	while (!cancel_requested(&networks->model->stopping)) {
		size_t n = dns_fds(networks, fds + FDS);
		int some = poll(fds, FDS + n, well ? LOOK_MS : SOON_MS);

		for (size_t i = 0; i < n; i++)
			close(fds[FDS + i].fd);
		if (some > 0 && !cancel_requested(&networks->model->stopping))
			poll(NULL, 0, QUIET_MS);
		drain(fds[FD_WAKE].fd);
		drain(fds[FD_NOTES].fd);
		if (fds[FD_LINKS].fd >= 0)
			host_watch_read(fds[FD_LINKS].fd);
		rules = some == 0 || rules;
		if (fds[FD_RULES].fd >= 0)
			rules = host_watch_read(fds[FD_RULES].fd) || rules;
		if (cancel_requested(&networks->model->stopping))
			break;
		well = look(networks);
		if (rules)
			rules_restore(networks);
		rules = false;
	}
}

static void *watch_thread(void *arg)
{
	struct networks *networks = arg;
	struct pollfd *fds = calloc(FDS + DNS_MAX, sizeof(*fds));

	pthread_setname_np(pthread_self(), "networks");
	if (!fds)
		return NULL;
	for (size_t i = 0; i < FDS; i++)
		fds[i].events = POLLIN;
	fds[FD_WAKE].fd = networks->wake;
	fds[FD_NOTES].fd = networks->notes;
	fds[FD_LINKS].fd = host_watch_open();
	fds[FD_RULES].fd = geteuid() == 0 ? host_nft_watch_open() : -1;
	run(networks, fds);
	for (size_t i = FD_LINKS; i <= FD_RULES; i++)
		if (fds[i].fd >= 0)
			close(fds[i].fd);
	free(fds);
	return NULL;
}

int networks_watch_start(struct networks *networks)
{
	int r = pthread_create(&networks->thread, NULL, watch_thread, networks);

	networks->threaded = r == 0;
	return -r;
}

void networks_watch_wake(struct networks *networks)
{
	uint64_t one = 1;

	if (write(networks->wake, &one, sizeof(one)) < 0)
		return; /* it is readable already */
}

/* After model.stopping was requested. */
void networks_watch_stop(struct networks *networks)
{
	if (!networks->threaded)
		return;
	networks_watch_wake(networks);
	pthread_join(networks->thread, NULL);
	networks->threaded = false;
}
