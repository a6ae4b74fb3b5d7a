// SPDX-License-Identifier: ISC
/*
 * Network cards of machines: their definition, what a VMM is told of them at start and while it
 * runs, what it says of them, also when it lies. As in test_vmm_hostile.c this program is its own
 * VMM; the kernel command line says what it does wrong, its log what it was told.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "model_test.h"
#include "nic.h"
#include "util/msg.h"
#include "vmm_proto.h"

/* --- the VMM ---------------------------------------------------------------------------------- */

static int conn;
static char mode[VMM_TEXT_MAX];

static bool is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void say(uint32_t type, uint32_t seq, int error, const void *body, size_t len,
		const int *fds, size_t n_fds)
{
	struct vmm_msg_hdr hdr = {.type = type, .seq = seq, .len = (uint32_t)len, .error = error};

	if (msg_send(conn, &hdr, sizeof(hdr), body, len, fds, n_fds, 0) < 0)
		_exit(0);
}

static void say_gone(const char *name, const char *text)
{
	struct vmm_nic_event e;

	memset(&e, 'z', sizeof(e)); /* no NUL behind the words */
	if (name)
		strcpy(e.name, name);
	if (text)
		strcpy(e.text, text);
	say(VMM_EV_NIC, 0, 0, &e, sizeof(e), NULL, 0);
}

static void say_events(void)
{
	if (is("events")) {
		say(VMM_EV_NIC, 0, 0, "abc", 3, NULL, 0);
		say_gone(NULL, NULL);
		say_gone("other", "no such card");
		say_gone("../lan", "");
		say_gone("", "");
	}
	if (is("gone"))
		for (int i = 0; i < 2000; i++)
			say_gone("lan", i ? NULL : "not \x07 any more");
}

static void hear_nic(const struct vmm_msg_hdr *hdr, const char *body, size_t n_fds)
{
	struct vmm_nic m;

	memcpy(&m, body, sizeof(m));
	fprintf(stderr,
		"NIC %s mac=%02x:%02x:%02x:%02x:%02x:%02x mtu=%u link=%u kind=%u fds=%zu "
		"pps=%llu\n",
		m.name, m.mac[0], m.mac[1], m.mac[2], m.mac[3], m.mac[4], m.mac[5], m.mtu, m.link,
		m.kind, n_fds, (unsigned long long)m.limits.packets[0].per_s);
	if (is("full"))
		say(VMM_REPLY, hdr->seq, -ENOSPC, "no PCI slot is free", 20, NULL, 0);
	else
		say(VMM_REPLY, hdr->seq, 0, "a note", 7, NULL, 0);
}

static void hear_set(const struct vmm_msg_hdr *hdr, const char *body)
{
	struct vmm_nic_set m;

	memcpy(&m, body, sizeof(m));
	fprintf(stderr, "SET %s link=%u bps=%llu\n", m.name, m.link,
		(unsigned long long)m.limits.bytes[1].per_s);
	say(VMM_REPLY, hdr->seq,
	    is("forgets")    ? -ENOENT
	    : is("stubborn") ? -77777
			     : 0,
	    NULL, 0, NULL, 0);
}

static void hear_capture(const struct vmm_msg_hdr *hdr, const char *body, int *fds, size_t n_fds)
{
	struct vmm_nic_capture m;

	memcpy(&m, body, sizeof(m));
	fprintf(stderr, "CAPTURE %s %llu fds=%zu\n", m.name, (unsigned long long)m.limit_bytes,
		n_fds);
	/* appended, wherever it believes to be */
	if (n_fds && (write(fds[0], "begin", 5) != 5 || lseek(fds[0], 0, SEEK_SET) != 0 ||
		      write(fds[0], " and end", 8) != 8))
		_exit(9);
	say(VMM_REPLY, hdr->seq, 0, NULL, 0, NULL, 0);
}

static void hear_detach(const struct vmm_msg_hdr *hdr, const char *body)
{
	struct vmm_nic_detach m;

	memcpy(&m, body, sizeof(m));
	fprintf(stderr, "DETACH %s force=%u\n", m.name, m.force);
	if (is("keeps") && !m.force) {
		say(VMM_REPLY, hdr->seq, -EOPNOTSUPP, "it cannot be asked", 19, NULL, 0);
		return;
	}
	if (is("never-there")) {
		say(VMM_REPLY, hdr->seq, -ENOENT, "no", 3, NULL, 0);
		return;
	}
	if (m.force)
		say_gone(m.name, "");
	say(VMM_REPLY, hdr->seq, 0, NULL, 0, NULL, 0);
	if (!m.force)
		say_gone(m.name, "");
}

static void answer(const struct vmm_msg_hdr *hdr, const char *body, int *fds, size_t n_fds)
{
	struct vmm_status status = {.version = VMM_PROTO_VERSION, .cpus = 1};
	static bool runs;
	int page;

	switch (hdr->type) {
	case VMM_HELLO:
		page = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (ftruncate(page, sizeof(struct vmm_stats_page)) < 0)
			_exit(9);
		status.state = runs ? VMM_STATE_RUNNING : VMM_STATE_NEW;
		say(VMM_REPLY, hdr->seq, 0, &status, sizeof(status), &page, 1);
		close(page);
		return;
	case VMM_CMDLINE:
		snprintf(mode, sizeof(mode), "%.*s", (int)hdr->len, body);
		break;
	case VMM_RUN:
		runs = true;
		say(VMM_REPLY, hdr->seq, 0, NULL, 0, NULL, 0);
		say_events();
		return;
	case VMM_NIC:
		hear_nic(hdr, body, n_fds);
		return;
	case VMM_NIC_SET:
		hear_set(hdr, body);
		return;
	case VMM_NIC_CAPTURE:
		hear_capture(hdr, body, fds, n_fds);
		return;
	case VMM_NIC_DETACH:
		hear_detach(hdr, body);
		return;
	case VMM_QUIT:
		_exit(0);
	default:
		break;
	}
	say(VMM_REPLY, hdr->seq, 0, NULL, 0, NULL, 0);
}

static __attribute__((noreturn)) void play_vmm(void)
{
	conn = accept(VMM_LISTEN_FD, NULL, NULL);
	for (;;) {
		static char buf[VMM_MSG_MAX];
		int fds[VMM_MSG_FDS];
		size_t n_fds = VMM_MSG_FDS;
		struct vmm_msg_hdr hdr;

		if (msg_recv(conn, buf, sizeof(buf), fds, &n_fds, 0) < (ssize_t)sizeof(hdr)) {
			close(conn);
			conn = accept(VMM_LISTEN_FD, NULL, NULL); /* the next daemon */
			continue;
		}
		memcpy(&hdr, buf, sizeof(hdr));
		answer(&hdr, buf + sizeof(hdr), fds, n_fds);
		msg_close_fds(fds, n_fds);
	}
}

/* --- the daemon ------------------------------------------------------------------------------- */

static char self[256];

struct heard {
	pthread_mutex_t lock;
	unsigned nics, nic;
	char last[32];
};

static struct heard heard = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_change(void *arg, struct machine *m, enum machine_aspect aspect, const char *name)
{
	(void)arg, (void)m;
	if (aspect != ASPECT_NICS && aspect != ASPECT_NIC)
		return;
	LOCK_SCOPE(&heard.lock);
	heard.nics += aspect == ASPECT_NICS;
	heard.nic += aspect == ASPECT_NIC;
	snprintf(heard.last, sizeof(heard.last), "%s", name);
}

static const struct model_observer observer = {.machine_changed = on_change};

static int setup_vmm(void **state)
{
	int r = setup(state);
	struct fixture *f = *state;

	f->vmm = self;
	reopen_model(f);
	return r;
}

static bool have_kvm(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

static const struct config_key *nic_key(const char *name)
{
	for (size_t i = 0; i < n_nic_keys; i++)
		if (strcmp(nic_keys[i].name, name) == 0)
			return &nic_keys[i];
	fail_msg("no key %s", name);
	return NULL;
}

static int store(struct machine *m, const char *nic, const char *key, const char *text)
{
	struct err err = ERR_INIT;

	return machine_nic_key_store(m, nic, nic_key(key), text, &root_caller, &err);
}

static char *shown(struct machine *m, const char *nic, const char *key)
{
	struct strbuf sb = STRBUF_INIT;

	assert_int_equal(machine_nic_key_show(m, nic, nic_key(key), &sb), 0);
	return sb.data ? strbuf_steal(&sb) : strdup("");
}

static void assert_shown(struct machine *m, const char *nic, const char *key, const char *wanted)
{
	_cleanup_free_ char *got = shown(m, nic, key);

	assert_string_equal(got, wanted);
}

static int add(struct machine *m, const char *name)
{
	struct err err = ERR_INIT;

	return machine_nic_add(m, name, &root_caller, &err);
}

static int removed(struct machine *m, const char *name)
{
	struct err err = ERR_INIT;

	return machine_nic_remove(m, name, &root_caller, &err);
}

static int command(struct machine *m, const char *nic, const char *line)
{
	struct err err = ERR_INIT;

	return machine_nic_command_run(m, nic, line, &root_caller, &err);
}

static int config(struct machine *m, const char *text)
{
	struct err err = ERR_INIT;

	return machine_config_store(m, text, strlen(text), &root_caller, &err);
}

/* What the VMMs of all machines were told. */
static bool was_told(struct fixture *f, const char *what)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	char command_line[300], line[300];
	FILE *p;

	snprintf(command_line, sizeof(command_line), "cat %s/machines/*/vmm.log", f->run);
	p = popen(command_line, "r");
	assert_non_null(p);
	while (fgets(line, sizeof(line), p))
		strbuf_puts(&sb, line);
	pclose(p);
	return sb.data && strstr(sb.data, what);
}

static struct machine *running(struct fixture *f, const char *how)
{
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;

	assert_int_equal(put(m, "cmdline", how, NULL), 0);
	assert_int_equal(put(m, "kernel", self, NULL), 0);
	if (!machine_nic_exists(m, "lan"))
		assert_int_equal(add(m, "lan"), 0);
	if (machine_command_run(m, "start", &root_caller, &err) < 0)
		fail_msg("%s: start: %s", how, err.text);
	return m;
}

static void ended(struct machine *m)
{
	struct err err = ERR_INIT;

	machine_command_run(m, "kill", &root_caller, &err);
	for (int i = 0; i < 60000 && machine_has_vmm(m); i++)
		usleep(1000);
	assert_false(machine_has_vmm(m));
	machine_put(m);
}

static void state_is(struct machine *m, const char *nic, const char *wanted)
{
	struct strbuf sb = STRBUF_INIT;

	for (int i = 0; i < 60000; i++) {
		strbuf_reset(&sb);
		assert_int_equal(machine_nic_state_show(m, nic, &sb), 0);
		if (strcmp(sb.data, wanted) == 0)
			break;
		usleep(1000);
	}
	assert_string_equal(sb.data, wanted);
	strbuf_free(&sb);
}

/* --- the definition --------------------------------------------------------------------------- */

static void cards_come_and_go(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	char name[DISK_NAME_MAX + 1];

	model_set_observer(f->model, &observer, NULL);
	heard.nics = heard.nic = 0;
	assert_false(machine_nic_at(m, 0, name));
	assert_int_equal(add(m, "lan"), 0);
	assert_int_equal(add(m, "lan"), -EEXIST);
	assert_int_equal(add(m, "wan"), 0);
	assert_int_equal(heard.nics, 2);
	assert_string_equal(heard.last, "wan");
	assert_true(machine_nic_at(m, 1, name));
	assert_string_equal(name, "wan");
	assert_shown(m, "lan", "network", "");
	assert_shown(m, "lan", "link", "true");
	assert_int_equal(store(m, "lan", "link", "off"), 0);
	assert_int_equal(heard.nic, 1);
	assert_string_equal(heard.last, "lan");
	assert_int_equal(store(m, "lan", "link", "false"), 0); /* nothing new */
	assert_int_equal(heard.nic, 1);
	assert_int_equal(removed(m, "lan"), 0);
	assert_int_equal(removed(m, "lan"), -ENOENT);
	assert_error(m, "there is no network card lan");
	assert_false(machine_nic_exists(m, "lan"));
	assert_true(machine_nic_at(m, 0, name));
	assert_string_equal(name, "wan");
	assert_int_equal(heard.nics, 3);
	assert_int_equal(machine_nic_key_store(m, "lan", nic_key("link"), "true", &root_caller,
					       &(struct err)ERR_INIT),
			 -ENOENT);
	model_set_observer(f->model, NULL, NULL);
	machine_put(m);
}

static void at_most_eight(void **state)
{
	struct machine *m = need_machine(*state, "m");
	char name[16];

	for (int i = 0; i < VMM_NICS_MAX; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_int_equal(add(m, name), 0);
	}
	assert_int_equal(add(m, "more"), -ENOSPC);
	machine_put(m);
}

static void names_and_values_that_cannot_be(void **state)
{
	static const char *const names[] = {
	    "",	   ".",	 "..",	 "a/b", "1lan", "lan\n",
	    "a b", "-a", "\xff", "a.b", "_",	"abcdefghijabcdefghijabcdefghijab"};
	static const struct {
		const char *key, *text;
		int error;
	} wrong[] = {
	    {"mac", "52:54:00:12:34", -EINVAL},
	    {"mac", "53:54:00:12:34:56", -EINVAL},
	    {"mac", "00:00:00:00:00:00", -EINVAL},
	    {"mac", "52:54:00:12:34:567", -EFBIG},
	    {"mac", "52-54-00-12-34-56", -EINVAL},
	    {"mac", "+2:54:00:12:34:56", -EINVAL},
	    {"mac", " 2:54:00:12:34:56", -EINVAL},
	    {"fixed_address", "10.0.0", -EINVAL},
	    {"fixed_address", "fe80::1", -EINVAL},
	    {"fixed_address", "239.0.0.1", -EINVAL},
	    {"fixed_address", "10.0.0.0000005.1", -EFBIG},
	    {"mtu", "65522", -ERANGE},
	    {"mtu", "1", -ERANGE},
	    {"mtu", "-1", -EINVAL},
	    {"queues", "9", -ERANGE},
	    {"vlan", "4095", -ERANGE},
	    {"link", "maybe", -EINVAL},
	    {"limits", "rx_pps", -EINVAL},
	    {"limits", "iops=3", -EINVAL},
	    {"limits", "rx_bps=-1", -EINVAL},
	    {"network", "a/b", -EINVAL},
	    {"network", "..", -EINVAL},
	    {"network", "a\nb", -EINVAL},
	    {"network", "-", -EINVAL},
	};
	struct machine *m = need_machine(*state, "m");

	for (size_t i = 0; i < nitems(names); i++)
		assert_int_equal(add(m, names[i]), -EINVAL);
	assert_int_equal(add(m, "lan"), 0);
	for (size_t i = 0; i < nitems(wrong); i++) {
		_cleanup_free_ char *before = shown(m, "lan", wrong[i].key);
		int r = store(m, "lan", wrong[i].key, wrong[i].text);

		if (r != wrong[i].error)
			fail_msg("%s = '%s': %d", wrong[i].key, wrong[i].text, r);
		assert_shown(m, "lan", wrong[i].key, before);
	}
	machine_put(m);
}

static void addresses_are_made_up_and_kept(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	_cleanup_free_ char *first = NULL, *second = NULL, *again = NULL;
	char text[200];

	assert_int_equal(add(m, "lan"), 0);
	assert_int_equal(add(m, "wan"), 0);
	first = shown(m, "lan", "mac");
	second = shown(m, "wan", "mac");
	assert_int_equal(strncmp(first, "52:54:00:", 9), 0);
	assert_string_not_equal(first, second);
	assert_int_equal(store(m, "wan", "mac", first), -EINVAL);
	assert_error(m, "lan and wan have the same address");
	/* a whole config that says none keeps it; "" makes no other */
	assert_int_equal(config(m, "nics = { lan = { mtu = 9000; }; wan = { }; };"), 0);
	assert_shown(m, "lan", "mac", first);
	assert_int_equal(store(m, "lan", "mac", ""), 0);
	assert_shown(m, "lan", "mac", first);
	assert_int_equal(store(m, "lan", "mac", "02:AB:cd:00:00:01"), 0);
	assert_shown(m, "lan", "mac", "02:ab:cd:00:00:01");
	snprintf(text, sizeof(text),
		 "nics = { lan = { mac = \"%s\"; }; wan = { mac = \"%s\"; }; };", first, first);
	assert_int_equal(config(m, text), -EINVAL);
	machine_put(m);
	reopen_model(f);
	m = need_machine(f, "m");
	assert_shown(m, "lan", "mac", "02:ab:cd:00:00:01");
	assert_shown(m, "lan", "mtu", "9000");
	again = shown(m, "wan", "mac");
	assert_string_equal(again, second);
	machine_put(m);
}

/* --- a VMM ------------------------------------------------------------------------------------ */

static void a_start_tells_of_them(void **state)
{
	struct fixture *f = *state;
	struct machine *m;

	if (!have_kvm())
		skip();
	m = need_machine(f, "m");
	assert_int_equal(config(m, "nics = { lan = { mac = \"52:54:00:00:00:07\"; mtu = 1400; "
				   "limits = \"rx_pps=30\"; }; two = { link = false; }; };"),
			 0);
	machine_put(m);
	m = running(f, "well");
	/* a cable that is out: its other end is nobody's */
	assert_true(
	    was_told(f, "NIC lan mac=52:54:00:00:00:07 mtu=1400 link=0 kind=1 fds=1 pps=30\n"));
	assert_true(was_told(f, "NIC two "));
	state_is(m, "lan", "disconnected");
	state_is(m, "two", "disconnected");
	ended(m);
	m = need_machine(f, "m");
	state_is(m, "lan", "detached");
	machine_put(m);
}

static void a_network_that_is_not_there(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;

	if (!have_kvm())
		skip();
	assert_int_equal(put(m, "kernel", self, NULL), 0);
	assert_int_equal(add(m, "lan"), 0);
	assert_int_equal(store(m, "lan", "network", "nowhere"), 0);
	assert_int_equal(machine_command_run(m, "start", &root_caller, &err), -ENOENT);
	assert_non_null(strstr(err.text, "network card lan: "));
	assert_non_null(strstr(err.text, "nowhere"));
	assert_int_equal(machine_state(m), MACHINE_DEFINED);
	assert_false(machine_has_vmm(m));
	/* and while it runs: the card stays as it was */
	assert_int_equal(store(m, "lan", "network", ""), 0);
	machine_put(m);
	m = running(f, "well");
	assert_int_equal(command(m, "lan", "detach"), 0);
	assert_int_equal(store(m, "lan", "network", "nowhere"), -ENOENT);
	assert_shown(m, "lan", "network", "");
	state_is(m, "lan", "detached");
	ended(m);
}

static void live_changes(void **state)
{
	struct fixture *f = *state;
	struct machine *m;

	if (!have_kvm())
		skip();
	m = running(f, "well");
	assert_int_equal(store(m, "lan", "limits", "tx_bps=77"), 0);
	assert_true(was_told(f, "SET lan link=0 bps=77\n"));
	assert_int_equal(store(m, "lan", "mtu", "1000"), 0); /* from the next start on */
	assert_int_equal(add(m, "later"), 0);		     /* it has no network yet */
	state_is(m, "later", "detached");
	assert_false(was_told(f, "NIC later"));
	assert_int_equal(command(m, "later", "attach"), 0);
	assert_int_equal(command(m, "later", "attach"), -EBUSY);
	assert_true(was_told(f, "NIC later"));
	state_is(m, "later", "disconnected");
	assert_int_equal(removed(m, "later"), 0);
	assert_true(was_told(f, "DETACH later force=0\n"));
	assert_false(machine_nic_exists(m, "later"));
	assert_int_equal(command(m, "lan", "detach force"), 0);
	assert_true(was_told(f, "DETACH lan force=1\n"));
	state_is(m, "lan", "detached");
	assert_int_equal(command(m, "lan", "detach"), -EBUSY);
	assert_int_equal(command(m, "lan", "detach now"), -EINVAL);
	assert_int_equal(store(m, "lan", "limits", ""), 0); /* nobody is to be told */
	assert_false(was_told(f, "bps=0\n"));
	ended(m);
}

static void changes_that_a_vmm_refuses(void **state)
{
	struct fixture *f = *state;
	struct machine *m;

	if (!have_kvm())
		skip();
	m = running(f, "keeps");
	assert_int_equal(removed(m, "lan"), -EOPNOTSUPP);
	assert_error(m, "it cannot be asked");
	assert_true(machine_nic_exists(m, "lan"));
	state_is(m, "lan", "disconnected");
	assert_int_equal(command(m, "lan", "detach force"), 0);
	assert_int_equal(removed(m, "lan"), 0);
	ended(m);
	m = running(f, "stubborn");
	assert_true(store(m, "lan", "limits", "tx_bps=9") < 0);
	assert_shown(m, "lan", "limits", "");
	ended(m);
	m = running(f, "never-there");
	assert_int_equal(command(m, "lan", "detach"), 0);
	state_is(m, "lan", "detached");
	ended(m);
}

static void a_card_that_a_vmm_does_not_take(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;

	if (!have_kvm())
		skip();
	assert_int_equal(put(m, "cmdline", "full", NULL), 0);
	assert_int_equal(put(m, "kernel", self, NULL), 0);
	assert_int_equal(machine_command_run(m, "start", &root_caller, &err), 0);
	assert_int_equal(add(m, "lan"), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(command(m, "lan", "attach"), -ENOSPC);
	assert_error(m, "no PCI slot is free");
	state_is(m, "lan", "detached");
	ended(m);
	m = need_machine(f, "m");
	err = (struct err)ERR_INIT;
	assert_int_equal(machine_command_run(m, "start", &root_caller, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "network card lan: "));
	assert_false(machine_has_vmm(m));
	machine_put(m);
}

static void lies(void **state)
{
	struct fixture *f = *state;
	struct strbuf sb = STRBUF_INIT;
	struct machine *m;

	if (!have_kvm())
		skip();
	m = running(f, "events");
	assert_int_equal(store(m, "lan", "limits", "tx_bps=5"), 0); /* all heard */
	state_is(m, "lan", "disconnected");
	machine_error_show(m, &sb);
	assert_true(!sb.data || !*sb.data);
	strbuf_free(&sb);
	ended(m);
	m = running(f, "gone");
	state_is(m, "lan", "detached");
	assert_int_equal(command(m, "lan", "attach"), 0);
	ended(m);
}

static void the_next_daemon(void **state)
{
	struct fixture *f = *state;
	struct machine *m;

	if (!have_kvm())
		skip();
	m = running(f, "well");
	assert_int_equal(add(m, "later"), 0);
	assert_int_equal(command(m, "later", "attach"), 0);
	machine_put(m);
	reopen_model(f);
	m = need_machine(f, "m");
	state_is(m, "lan", "disconnected");
	state_is(m, "later", "disconnected");
	assert_int_equal(command(m, "later", "detach"), 0);
	ended(m);
	m = running(f, "forgets");
	machine_put(m);
	reopen_model(f);
	m = need_machine(f, "m");
	state_is(m, "lan", "detached"); /* it went while nobody was there to hear of it */
	ended(m);
}

static void captures(void **state)
{
	struct fixture *f = *state;
	struct timespec mtime;
	struct machine *m;
	uint64_t size;
	char text[32];
	int fd;

	if (!have_kvm())
		skip();
	m = running(f, "well");
	assert_int_equal(machine_nic_pcap_open(m, "lan"), -ENOENT);
	assert_int_equal(machine_nic_pcap_open(m, "../note"), -ENOENT);
	assert_int_equal(command(m, "lan", "capture maybe"), -EINVAL);
	assert_int_equal(command(m, "lan", "capture on 10"), -ERANGE);
	assert_int_equal(command(m, "lan", "capture on 1T"), -ERANGE);
	assert_int_equal(command(m, "lan", "capture off 1M"), -EINVAL);
	assert_int_equal(command(m, "lan", "capture on 8K"), 0);
	assert_true(was_told(f, "CAPTURE lan 8192 fds=1\n"));
	assert_int_equal(machine_nic_pcap_stat(m, "lan", &size, &mtime), 0);
	assert_int_equal(size, 13);
	fd = machine_nic_pcap_open(m, "lan");
	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 13);
	assert_memory_equal(text, "begin and end", 13);
	assert_int_equal(command(m, "lan", "capture off"), 0);
	assert_true(was_told(f, "CAPTURE lan 0 fds=0\n"));
	/* it can be read on; a new one is another file */
	assert_int_equal(command(m, "lan", "capture on"), 0);
	assert_int_equal(machine_nic_pcap_stat(m, "lan", &size, &mtime), 0);
	assert_int_equal(size, 13);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 13);
	close(fd);
	ended(m);
	m = need_machine(f, "m");
	assert_int_equal(command(m, "lan", "capture on"), -EBUSY);
	assert_int_equal(machine_nic_pcap_stat(m, "lan", &size, &mtime), 0);
	assert_int_equal(model_machine_undefine(f->model, m, NULL), 0);
	machine_put(m);
	assert_int_equal(count_entries(f, "run/machines"), 0);
}

int main(void)
{
	int listening = 0;
	socklen_t len = sizeof(listening);
	ssize_t n;

	if (getsockopt(VMM_LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 &&
	    listening)
		play_vmm();
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_vmm, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(cards_come_and_go),
	    TEST(at_most_eight),
	    TEST(names_and_values_that_cannot_be),
	    TEST(addresses_are_made_up_and_kept),
	    TEST(a_start_tells_of_them),
	    TEST(a_network_that_is_not_there),
	    TEST(live_changes),
	    TEST(changes_that_a_vmm_refuses),
	    TEST(a_card_that_a_vmm_does_not_take),
	    TEST(lies),
	    TEST(the_next_daemon),
	    TEST(captures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
