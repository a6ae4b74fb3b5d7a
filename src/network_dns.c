// SPDX-License-Identifier: ISC
/*
 * dnsmasq of a network: DHCP, router advertisements and DNS on its bridge.
 *
 * RUN/networks/NAME/ holds what it reads (dnsmasq.conf; `guests`, which address is whose; `names`,
 * for DNS), what it writes (dhcp.leases, dnsmasq.pid, dnsmasq.log) and our note of it (dns: pid
 * and start time). It is nobody after its start, in a session of its own, and outlives the daemon;
 * the next one knows it by the note. It reads `guests` and `names` anew at SIGHUP.
 */
#define LOG_MODULE "network"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm_int.h"

#define START_MS 10000
#define STOP_MS	 3000
#define LEASE_S	 3600

extern char **environ;

/* --- what it is told ----------------------------------------------------------------------------
 */

static int put_file(int dir, const char *name, struct strbuf *sb)
{
	char hidden[64];
	_cleanup_close_ int fd = -1;
	int r = sb->failed ? -ENOMEM : 0;

	snprintf(hidden, sizeof(hidden), ".%s.new", name);
	fd = openat(dir, hidden, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (r == 0)
		r = fd < 0 ? -errno : file_write_all(fd, sb->data ? sb->data : "", sb->len);
	if (r == 0 && fchmod(fd, 0644) < 0)
		r = -errno;
	if (r == 0 && renameat(dir, hidden, dir, name) < 0)
		r = -errno;
	return r;
}

static void put_addr(struct strbuf *sb, int family, const uint8_t *addr)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(family, addr, text, sizeof(text));
	strbuf_puts(sb, text);
}

static void put_dhcp(const struct network_values *values, struct strbuf *sb)
{
	struct subnet v4, v6;
	uint8_t first[4], last[4];

	if (subnet_parse(values->subnet, AF_INET, &v4, NULL) == 0 && v4.family) {
		if (lease_range(&v4, first, last)) {
			strbuf_puts(sb, "dhcp-range=");
			put_addr(sb, AF_INET, first);
			strbuf_putc(sb, ',');
			put_addr(sb, AF_INET, last);
			strbuf_printf(sb, ",%d\n", LEASE_S);
		} else {
			strbuf_puts(sb, "dhcp-range=");
			put_addr(sb, AF_INET, v4.net);
			strbuf_printf(sb, ",static,%d\n", LEASE_S);
		}
		/* machines have theirs outside of that range */
		strbuf_puts(sb, "dhcp-authoritative\ndhcp-no-override\nno-ping\n");
		if (values->mode == MODE_ISOLATED)
			strbuf_puts(sb, "dhcp-option=3\n");
		if (!values->dns)
			strbuf_puts(sb, "dhcp-option=6\n");
		if (values->mtu)
			strbuf_printf(sb, "dhcp-option=26,%llu\n", (unsigned long long)values->mtu);
	}
	if (subnet_parse(values->subnet6, AF_INET6, &v6, NULL) == 0 && v6.family) {
		strbuf_puts(sb, "enable-ra\ndhcp-range=");
		put_addr(sb, AF_INET6, v6.net);
		strbuf_printf(sb, ",ra-stateless,ra-names,64,%d\n", LEASE_S);
		/* no way out: nobody's default router */
		if (values->mode == MODE_ISOLATED)
			strbuf_puts(sb, "ra-param=*,0,0\n");
	}
}

static void put_config(const struct network *network, const struct network_values *values,
		       const char *dir, struct strbuf *sb)
{
	strbuf_printf(sb,
		      "interface=%s\nbind-dynamic\nexcept-interface=lo\nuser=nobody\n"
		      "pid-file=%s/dnsmasq.pid\nlog-facility=-\n"
		      "no-hosts\naddn-hosts=%s/names\n",
		      network->bridge, dir, dir);
	if (values->dns)
		strbuf_puts(sb, "domain-needed\nbogus-priv\nlocalise-queries\n");
	else
		strbuf_puts(sb, "port=0\n");
	/* names of elsewhere are not for those who cannot get there */
	if (values->mode == MODE_ISOLATED)
		strbuf_puts(sb, "no-resolv\n");
	if (*values->domain)
		strbuf_printf(sb, "domain=%s\nlocal=/%s/\nexpand-hosts\n", values->domain,
			      values->domain);
	if (values->dhcp) {
		strbuf_printf(sb,
			      "dhcp-hostsfile=%s/guests\ndhcp-leasefile=%s/dhcp.leases\n"
			      "quiet-dhcp\nquiet-dhcp6\nquiet-ra\n",
			      dir, dir);
		put_dhcp(values, sb);
	}
}

/* A name as DNS has them: a machine's may hold dots and underscores. */
static void host_name(struct machine *m, char name[MACHINE_NAME_MAX + 1])
{
	machine_name(m, name);
	for (char *p = name; *p; p++)
		if (*p == '.' || *p == '_')
			*p = '-';
	for (size_t n = strlen(name); n && name[n - 1] == '-'; n--)
		name[n - 1] = '\0';
}

/* References to the ports' machines, for a look without the lock. */
static size_t copy_ports(struct network *network, struct network_port **out)
{
	struct network_port *copy;
	size_t n = 0;

	LOCK_SCOPE(&network->lock);
	*out = copy = calloc(network->n_ports + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < network->n_ports; i++)
		if (memcmp(network->ports[i].addr, "\0\0\0", 4) != 0) {
			copy[n] = network->ports[i];
			machine_get(copy[n++].m);
		}
	return n;
}

static bool seen_before(const struct network_port *ports, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (ports[k].m == ports[i].m)
			return true;
	return false;
}

/* A machine's first card bears its name. */
static int put_guests(struct network *network, int dir)
{
	_cleanup_strbuf_ struct strbuf guests = STRBUF_INIT, names = STRBUF_INIT;
	_cleanup_free_ struct network_port *ports = NULL;
	size_t n = copy_ports(network, &ports);
	int r;

	for (size_t i = 0; i < n; i++) {
		char mac[NIC_MAC_TEXT], name[MACHINE_NAME_MAX + 1];
		bool named = !seen_before(ports, i);

		nic_mac_show(ports[i].mac, mac);
		host_name(ports[i].m, name);
		strbuf_printf(&guests, "%s,", mac);
		put_addr(&guests, AF_INET, ports[i].addr);
		if (named && *name) {
			strbuf_printf(&guests, ",%s", name);
			put_addr(&names, AF_INET, ports[i].addr);
			strbuf_printf(&names, " %s\n", name);
		}
		strbuf_putc(&guests, '\n');
	}
	for (size_t i = 0; i < n; i++)
		machine_put(ports[i].m);
	r = put_file(dir, "guests", &guests);
	return r < 0 ? r : put_file(dir, "names", &names);
}

int dns_tell(struct network *network, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r;

	if (!network->dns_pid)
		return 0;
	dir = network_run_dir(network, false);
	r = dir < 0 ? dir : put_guests(network, dir);
	if (r < 0)
		return err_set(err, r, "cannot tell dnsmasq of guests: %s", strerror(-r));
	if (syscall(SYS_pidfd_send_signal, network->dns_fd, SIGHUP, NULL, 0) < 0)
		log_warn("network %s: dnsmasq: %m", network->name); /* the thread starts it anew */
	return 0;
}

/* --- the process ---------------------------------------------------------------------------------
 */

static int spawn(struct network *network, const char *config, int log)
{
	const char *const argv[] = {"dnsmasq", "-k", "-C", config, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, 0, 1);
	posix_spawn_file_actions_adddup2(&actions, log, 2);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
					    POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	r = -posix_spawnp(&network->dns_pid, argv[0], &actions, &attr, (char *const *)argv,
			  environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (r < 0) {
		network->dns_pid = 0;
		return r;
	}
	network->dns_fd = (int)syscall(SYS_pidfd_open, network->dns_pid, 0);
	network->dns_started = now_ns();
	return network->dns_fd < 0 ? -errno : 0;
}

static int note(struct network *network, int dir)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	strbuf_printf(&sb, "%d %llu\n", (int)network->dns_pid, vmm_start_time(network->dns_pid));
	return put_file(dir, "dns", &sb);
}

/* It listens once it has written its pid. */
static int await_ready(struct network *network, int dir)
{
	struct pollfd p = {.fd = network->dns_fd, .events = POLLIN};
	uint64_t end = now_ns() + START_MS * 1000000ull;

	while (now_ns() < end) {
		struct stat st;

		if (fstatat(dir, "dnsmasq.pid", &st, 0) == 0 && st.st_size > 0)
			return 0;
		if (poll(&p, 1, 5) > 0)
			return -EIO;
	}
	return -ETIMEDOUT;
}

/* The last line that it wrote, into the words. */
static int failed(int r, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	char *line = NULL;

	if (r == -ENOENT)
		return err_set(err, r, "there is no program dnsmasq here");
	if (r == -EIO && file_read(dir, "dnsmasq.log", 1 << 20, &text, NULL) == 0) {
		for (size_t n = strlen(text); n && text[n - 1] == '\n'; n--)
			text[n - 1] = '\0';
		line = strrchr(text, '\n');
		line = line ? line + 1 : text;
	}
	return err_set(err, r, "dnsmasq: %s", line && *line ? line : strerror(-r));
}

int dns_start(struct network *network, struct err *err)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	_cleanup_close_ int dir = network_run_dir(network, true), log = -1;
	_cleanup_strbuf_ struct strbuf config = STRBUF_INIT;
	_cleanup_free_ char *path = NULL;
	char file[4200];
	int r = dir < 0 ? dir : 0;

	if (asprintf(&path, "%s/networks/%s", network->model->run_dir, network->name) < 0)
		path = NULL;
	if (!values || !path)
		return err_set(err, -ENOMEM, "out of memory");
	put_config(network, values, path, &config);
	snprintf(file, sizeof(file), "%s/dnsmasq.conf", path);
	if (r == 0)
		r = put_file(dir, "dnsmasq.conf", &config);
	if (r == 0)
		r = put_guests(network, dir);
	if (r == 0) {
		unlinkat(dir, "dnsmasq.pid", 0);
		log =
		    openat(dir, "dnsmasq.log",
			   O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
		r = log < 0 ? -errno : spawn(network, file, log);
	}
	if (r == 0)
		r = note(network, dir);
	if (r == 0)
		r = await_ready(network, dir);
	if (r == 0)
		return 0;
	dns_stop(network);
	return failed(r, dir, err);
}

bool dns_adopt(struct network *network)
{
	_cleanup_close_ int dir = network_run_dir(network, false);
	_cleanup_free_ char *text = NULL;
	unsigned long long started;
	int pid;

	if (dir < 0 || file_read(dir, "dns", 100, &text, NULL) < 0 ||
	    sscanf(text, "%d %llu", &pid, &started) != 2 || pid <= 1)
		return false;
	network->dns_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (network->dns_fd >= 0 && started && vmm_start_time(pid) == started) {
		network->dns_pid = pid;
		network->dns_started = now_ns();
		return !dns_ended(network);
	}
	if (network->dns_fd >= 0)
		close(take_fd(&network->dns_fd));
	return false;
}

static void forget(struct network *network)
{
	waitpid(network->dns_pid, NULL, WNOHANG); /* unless another daemon started it */
	if (network->dns_fd >= 0)
		close(take_fd(&network->dns_fd));
	network->dns_pid = 0;
}

bool dns_ended(struct network *network)
{
	struct pollfd p = {.fd = network->dns_fd, .events = POLLIN};

	if (!network->dns_pid || poll(&p, 1, 0) <= 0)
		return false;
	forget(network);
	return true;
}

void dns_stop(struct network *network)
{
	static const int signals[] = {SIGTERM, SIGKILL};

	for (size_t i = 0; network->dns_pid && i < nitems(signals); i++) {
		struct pollfd p = {.fd = network->dns_fd, .events = POLLIN};

		if (network->dns_fd < 0)
			kill(network->dns_pid, signals[i]); /* our child: not waited for yet */
		else
			syscall(SYS_pidfd_send_signal, network->dns_fd, signals[i], NULL, 0);
		if (network->dns_fd < 0 || poll(&p, 1, STOP_MS) > 0)
			forget(network);
	}
}
