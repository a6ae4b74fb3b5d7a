// SPDX-License-Identifier: ISC
/*
 * A VMM taken over by its guest. This program is its own hostile VMM: started
 * with a listening socket as descriptor 3 it plays one, and the kernel command
 * line that it is sent says what to do wrong. The daemon's side must survive
 * all of it, answer with an errno and words, and leak nothing.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "content.h"
#include "model_test.h"
#include "util/msg.h"
#include "vmm_proto.h"

/* --- the VMM
 * -------------------------------------------------------------------------------------- */

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

static int memory(size_t size)
{
	int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (ftruncate(fd, (off_t)size) < 0)
		_exit(9);
	return fd;
}

static int stats_page(void)
{
	static struct vmm_stats_page page = {.magic = VMM_STATS_MAGIC, .n_counters = ~0ull};
	int fd = memory(sizeof(page));

	memset(page.counters, 'x', sizeof(page.counters)); /* names without an end */
	strcpy(page.counters[0].name, "good.counter");
	strcpy(page.counters[1].name, "bad\ncounter 7");
	strcpy(page.counters[2].name, "good.counter");
	strcpy(page.counters[3].name, "quote\"");
	if (pwrite(fd, &page, sizeof(page), 0) < 0)
		_exit(9);
	return fd;
}

static void say_state(uint32_t state, uint32_t reason, const char *text)
{
	struct vmm_status s = {.version = VMM_PROTO_VERSION, .state = state, .reason = reason};

	memset(s.text, 'z', sizeof(s.text)); /* no NUL behind the words */
	memcpy(s.text, text, strlen(text));
	if (*text)
		s.text[strlen(text)] = '\0';
	s.cpus = 0xffffffff;
	s.memory_bytes = ~0ull;
	s.resets = 1;
	say(VMM_EV_STATE, 0, 0, &s, sizeof(s), NULL, 0);
}

static void answer_hello(uint32_t seq)
{
	struct vmm_status s = {.version = VMM_PROTO_VERSION, .cpus = 4096, .memory_bytes = ~0ull};
	int fds[] = {stats_page(), memory(1 << 20)}; /* the second is nobody's */

	say(VMM_REPLY, seq, 0, &s, sizeof(s), fds, 2);
}

/* What comes beside an answer. */
static void junk(uint32_t seq)
{
	static char big[VMM_MSG_MAX + 100];
	struct vmm_msg_hdr lie = {.type = VMM_REPLY, .seq = seq, .len = 0xffffffff};
	int pipes[2], many[12];

	if (is("short"))
		send(conn, "x", 1, MSG_NOSIGNAL);
	if (is("lie"))
		send(conn, &lie, sizeof(lie), MSG_NOSIGNAL);
	if (is("big"))
		send(conn, big, sizeof(big), MSG_NOSIGNAL);
	if (is("unknown"))
		say(0x12345678, seq, -5, "abc", 3, NULL, 0);
	if (is("state-short"))
		say(VMM_EV_STATE, 0, 0, "abc", 3, NULL, 0);
	if (is("state-wild"))
		say_state(0xffffffff, 0xffffffff, "");
	if (is("fds")) {
		for (size_t i = 0; i < nitems(many); i++)
			many[i] = 0;
		say(VMM_EV_CONSOLE, 0, 0, NULL, 0, many, nitems(many));
	}
	if (is("pipe") && pipe(pipes) == 0)
		say(VMM_REPLY, seq, 0, NULL, 0, pipes, 2);
	if (is("flood"))
		for (int i = 0; i < 20000; i++)
			say_state(i % 2 ? VMM_STATE_PAUSED : VMM_STATE_RUNNING, 0, "flood");
	if (is("other-seq"))
		for (uint32_t s = 0; s < 5000; s++)
			if (s != seq)
				say(VMM_REPLY, s, 0, NULL, 0, NULL, 0);
}

static void answer_run(uint32_t seq)
{
	int ram = memory(1 << 20);

	if (is("hang"))
		pause();
	if (is("exit"))
		_exit(3);
	if (is("close")) {
		close(conn);
		pause();
	}
	if (is("end-first"))
		say_state(VMM_STATE_ENDED, VMM_REASON_POWEROFF, "");
	if (is("refuse"))
		say(VMM_REPLY, seq, -ENOMEM, "not \x01 today", 12, NULL, 0);
	else if (is("odd-errno"))
		say(VMM_REPLY, seq, 12345, "what", 4, NULL, 0);
	else if (is("no-memory"))
		say(VMM_REPLY, seq, 0, NULL, 0, NULL, 0);
	else
		say(VMM_REPLY, seq, 0, NULL, 0, &ram, 1);
	if (is("crash"))
		say_state(VMM_STATE_ENDED, VMM_REASON_CRASH, "triple fault\nrip 0x1\x07");
	if (is("crash-endless"))
		say_state(VMM_STATE_ENDED, VMM_REASON_CRASH, "");
	if (is("suicide"))
		kill(getpid(), SIGKILL);
	close(ram);
}

static void answer(const struct vmm_msg_hdr *hdr, const char *body)
{
	struct vmm_vcpu_state vcpu;
	uint32_t taken = 0xffffffff;

	switch (hdr->type) {
	case VMM_HELLO:
		answer_hello(hdr->seq);
		return;
	case VMM_CMDLINE:
		snprintf(mode, sizeof(mode), "%.*s", (int)hdr->len, body);
		break;
	case VMM_RUN:
		junk(hdr->seq);
		answer_run(hdr->seq);
		return;
	case VMM_QUIT:
		if (is("stubborn"))
			return;
		_exit(0);
	case VMM_VCPU:
		memset(&vcpu, 0xff, sizeof(vcpu));
		say(VMM_REPLY, hdr->seq, 0, &vcpu, is("vcpu-short") ? 8 : sizeof(vcpu), NULL, 0);
		return;
	case VMM_CONSOLE_INPUT:
		say(VMM_REPLY, hdr->seq, 0, &taken, is("input-short") ? 1 : 4, NULL, 0);
		return;
	default:
		break;
	}
	say(VMM_REPLY, hdr->seq, 0, NULL, 0, NULL, 0);
}

static __attribute__((noreturn)) void play_vmm(void)
{
	static char buf[VMM_MSG_MAX];

	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		conn = accept(VMM_LISTEN_FD, NULL, NULL);
		for (;;) {
			int fds[VMM_MSG_FDS];
			size_t n_fds = VMM_MSG_FDS;
			struct vmm_msg_hdr hdr;
			ssize_t n = msg_recv(conn, buf, sizeof(buf), fds, &n_fds, 0);

			if (n < (ssize_t)sizeof(hdr))
				break;
			msg_close_fds(fds, n_fds);
			memcpy(&hdr, buf, sizeof(hdr));
			answer(&hdr, buf + sizeof(hdr));
		}
		close(conn);
	}
}

/* --- the daemon
 * -------------------------------------------------------------------------------------- */

static char self[256];

static int setup_vmm(void **state)
{
	int r = setup(state);
	struct fixture *f = *state;

	f->vmm = self;
	reopen_model(f);
	return r;
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static struct machine *machine_in_mode(struct fixture *f, const char *name)
{
	struct machine *m = need_machine(f, "m");

	assert_int_equal(put(m, "cmdline", name, NULL), 0);
	assert_int_equal(put(m, "kernel", self, NULL), 0);
	return m;
}

static int start(struct machine *m, struct err *err)
{
	return machine_command_run(m, "start", &root_caller, err);
}

/* Until the machine has come to rest; a generous deadline only ends a hang. */
static enum machine_state rest(struct machine *m)
{
	for (int i = 0; i < 60000 && machine_has_vmm(m); i++)
		usleep(1000);
	return machine_state(m);
}

static void look_at_memory(struct machine *m)
{
	struct content *memory;
	struct err err = ERR_INIT;
	char buf[8192];

	if (machine_memory_open(m, &memory, &err) < 0)
		return;
	assert_true(content_read(memory, buf, sizeof(buf), 0) <= (ssize_t)sizeof(buf));
	content_read(memory, buf, sizeof(buf), content_size(memory) - 1);
	content_seek(memory, 0, SEEK_DATA);
	content_seek(memory, 0, SEEK_HOLE);
	content_close(memory);
}

static void look_at_everything(struct machine *m)
{
	struct strbuf sb = STRBUF_INIT;
	struct machine_core *core;
	struct err err = ERR_INIT;
	char buf[4096];

	machine_stats_show(m, &sb);
	if (sb.data && strstr(sb.data, "counter"))
		assert_null(strstr(strstr(sb.data, "counter") + 1, "counter"));
	strbuf_reset(&sb);
	machine_metrics_show(m, &sb);
	for (unsigned i = 0; i < machine_vcpu_count(m) && i < 2; i++) {
		strbuf_reset(&sb);
		if (machine_registers_show(m, i, &sb, &err) == 0)
			assert_int_equal(sb.len, machine_registers_size());
		machine_vcpu_state_show(m, i, &sb);
		machine_affinity_show(m, i, &sb);
	}
	assert_true(machine_vcpu_count(m) <= VMM_CPUS_MAX);
	if (machine_core_open(m, &core, &err) == 0) {
		assert_true(machine_core_read(core, buf, sizeof(buf), 0) > 0);
		machine_core_close(core);
	}
	look_at_memory(m);
	machine_console_type(m, "abc", 3, &err);
	machine_tty(m, &sb);
	strbuf_free(&sb);
}

static bool have_kvm(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

/* Whatever it sends, afterwards it can be killed, the machine is sound, no descriptor is left. */
static void nonsense_does_no_harm(void **state)
{
	static const char *const modes[] = {"short",	   "lie",	 "big",	      "unknown",
					    "state-short", "state-wild", "fds",	      "pipe",
					    "flood",	   "other-seq",	 "no-memory", "vcpu-short",
					    "input-short", "end-first",	 "plain"};
	struct fixture *f = *state;
	unsigned before = 0;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < nitems(modes); i++) {
		struct machine *m = machine_in_mode(f, modes[i]);
		struct err err = ERR_INIT;
		int r = start(m, &err);

		if (r < 0)
			assert_true(err.text[0]);
		look_at_everything(m);
		machine_command_run(m, "kill", &root_caller, &err);
		rest(m);
		assert_false(machine_has_vmm(m));
		assert_int_equal(model_machine_undefine(f->model, m, &err), 0);
		machine_put(m);
		if (i == 0)
			before = open_fds();
		if (open_fds() > before)
			fail_msg("%s: %u descriptors, %u before", modes[i], open_fds(), before);
	}
	/* none unwaited for; the one that lives opens files for the model */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
}

static void a_start_that_fails_is_taken_back(void **state)
{
	static const struct {
		const char *mode;
		int code;
		const char *words;
	} cases[] = {
	    {"exit", -EIO, "status 3"},
	    {"close", -EIO, "went away"},
	    {"refuse", -ENOMEM, "not ? today"},
	    {"odd-errno", -EIO, "what"},
	};
	struct fixture *f = *state;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < nitems(cases); i++) {
		struct machine *m = machine_in_mode(f, cases[i].mode);
		struct err err = ERR_INIT;

		assert_int_equal(start(m, &err), cases[i].code);
		assert_error(m, cases[i].words);
		assert_int_equal(machine_state(m), MACHINE_DEFINED);
		assert_false(machine_has_vmm(m));
		machine_put(m);
	}
}

static void ends_are_told_apart(void **state)
{
	static const struct {
		const char *mode;
		enum machine_state state;
		const char *words;
	} cases[] = {
	    {"end-first", MACHINE_STOPPED, ""},
	    {"crash", MACHINE_CRASHED, "EIO guest: triple fault\nrip 0x1?"},
	    {"crash-endless", MACHINE_CRASHED, "EIO guest: zzz"},
	    {"suicide", MACHINE_CRASHED, "signal 9"},
	};
	struct fixture *f = *state;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < nitems(cases); i++) {
		struct machine *m = machine_in_mode(f, cases[i].mode);

		assert_int_equal(start(m, NULL), 0);
		assert_int_equal(rest(m), cases[i].state);
		assert_error(m, cases[i].words);
		machine_put(m);
		/* and is so for the next daemon, too */
		reopen_model(f);
		m = need_machine(f, "m");
		assert_int_equal(machine_state(m), cases[i].state);
		assert_error(m, cases[i].words);
		machine_put(m);
	}
}

static void *start_thread(void *arg)
{
	struct err err = ERR_INIT;

	return (void *)(intptr_t)start(arg, &err);
}

static void kill_gets_through(void **state)
{
	struct fixture *f = *state;
	struct machine *m;
	pthread_t thread;
	void *result;

	if (!have_kvm())
		skip();
	m = machine_in_mode(f, "hang");
	pthread_create(&thread, NULL, start_thread, m);
	while (machine_state(m) != MACHINE_STARTING)
		usleep(1000);
	assert_int_equal(machine_command_run(m, "kill", &root_caller, NULL), 0);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, -EBUSY);
	assert_int_equal(machine_state(m), MACHINE_DEFINED);
	machine_put(m);

	m = machine_in_mode(f, "stubborn"); /* does not quit */
	assert_int_equal(start(m, NULL), 0);
	assert_int_equal(machine_command_run(m, "kill", &root_caller, NULL), 0);
	assert_int_equal(machine_state(m), MACHINE_STOPPED);
	machine_put(m);
}

static void a_new_daemon_finds_it(void **state)
{
	struct fixture *f = *state;
	struct machine *m;

	if (!have_kvm())
		skip();
	m = machine_in_mode(f, "plain");
	assert_int_equal(start(m, NULL), 0);
	machine_put(m);
	reopen_model(f);
	m = need_machine(f, "m");
	assert_int_equal(machine_state(m), MACHINE_RUNNING);
	assert_true(machine_has_vmm(m));
	look_at_everything(m);
	assert_int_equal(model_machine_undefine(f->model, m, NULL), -EBUSY);
	assert_int_equal(machine_command_run(m, "kill", &root_caller, NULL), 0);
	assert_int_equal(machine_state(m), MACHINE_STOPPED);
	machine_put(m);
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
	    TEST(nonsense_does_no_harm), TEST(a_start_that_fails_is_taken_back),
	    TEST(ends_are_told_apart),	 TEST(kill_gets_through),
	    TEST(a_new_daemon_finds_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
