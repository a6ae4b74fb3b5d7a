// SPDX-License-Identifier: ISC
/*
 * What a VMM taken over by its guest may say about disks: events, sizes, snapshots. As in
 * test_vmm_hostile.c this program is its own VMM; the kernel command line says what it does wrong.
 */
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "content.h"
#include "model_test.h"
#include "util/msg.h"
#include "vmm_proto.h"

#define ROOM  (64u << 10)
#define BYTES (1u << 20)

/* --- the VMM --------------------------------------------------------------------------------- */

static int conn, peeker = -1, room = -1;
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

static void say_disk(const char *name, uint32_t what, int32_t error, const char *text)
{
	struct vmm_disk_event e = {.what = what, .error = error};

	memset(e.text, 'z', sizeof(e.text)); /* no NUL behind the words */
	memset(e.name, 'z', sizeof(e.name));
	if (name)
		strcpy(e.name, name);
	if (text)
		strcpy(e.text, text);
	say(VMM_EV_DISK, 0, 0, &e, sizeof(e), NULL, 0);
}

static void say_events(void)
{
	if (is("events")) {
		say(VMM_EV_DISK, 0, 0, "abc", 3, NULL, 0);
		say_disk(NULL, VMM_DISK_DETACHED, 0, NULL);
		say_disk("other", VMM_DISK_FAILED, -5, "no such disk");
		say_disk("../d", VMM_DISK_DETACHED, 0, "");
		say_disk("d", 0xffffffff, 12345, "");
		say_disk("d", VMM_DISK_ATTACHED, 12345, NULL);
	}
	if (is("fails"))
		say_disk("d", VMM_DISK_FAILED, 77777, "odd \x01\n words");
	if (is("flood"))
		for (int i = 0; i < 20000; i++)
			say_disk("d", VMM_DISK_FAILED, -28, "again");
	if (is("begins"))
		for (int i = 0; i < 20000; i++)
			say_disk("d", VMM_DISK_ATTACHED, 0, "");
	if (is("gone"))
		for (int i = 0; i < 3; i++)
			say_disk("d", VMM_DISK_DETACHED, 0, "not \x07 any more");
}

static void answer_resize(uint32_t seq)
{
	uint64_t bytes = is("resize-huge") ? ~0ull : 4096;

	say(VMM_REPLY, seq, 0, &bytes, is("resize-short") ? 3 : sizeof(bytes), NULL, 0);
}

static void answer_snapshot(uint32_t seq, int *fds, size_t n_fds)
{
	struct vmm_snapshot_info info = {.bytes = BYTES, .room_bytes = ROOM};
	int pipes[2];

	if (n_fds != 2)
		_exit(8);
	peeker = take_fd(&fds[1]);
	room = memory(ROOM);
	if (is("no-room"))
		say(VMM_REPLY, seq, 0, &info, sizeof(info), NULL, 0);
	else if (is("pipe-room") && pipe(pipes) == 0)
		say(VMM_REPLY, seq, 0, &info, sizeof(info), pipes, 1);
	else if (is("short-info"))
		say(VMM_REPLY, seq, 0, &info, 8, &room, 1);
	else {
		if (is("endless"))
			info.bytes = ~0ull;
		if (is("large-room"))
			info.room_bytes = ~0ull;
		if (is("small-room"))
			info.room_bytes = 1;
		say(VMM_REPLY, seq, 0, &info, sizeof(info), &room, 1);
	}
}

static void answer_peek(void)
{
	struct vmm_peek peek;
	int fds[1];
	size_t n_fds = 0;
	static char block[ROOM];

	if (msg_recv(peeker, &peek, sizeof(peek), fds, &n_fds, 0) != sizeof(peek)) {
		close(take_fd(&peeker));
		return;
	}
	memset(block, 0x5a, sizeof(block));
	if (pwrite(room, block, sizeof(block), 0) < 0)
		_exit(9);
	if (is("other-id"))
		peek.id++;
	if (is("odd-error"))
		peek.error = 4242;
	if (is("again-error"))
		peek.error = -EAGAIN;
	if (is("io-error"))
		peek.error = -EIO;
	if (is("cut") && ftruncate(room, 100) < 0)
		_exit(9);
	if (is("status-nothing"))
		peek.bytes = 0;
	if (is("status-more"))
		peek.bytes = ~0ull;
	if (is("hang-up"))
		close(take_fd(&peeker));
	else if (is("short-peek"))
		send(peeker, &peek, 7, MSG_NOSIGNAL);
	else
		send(peeker, &peek, sizeof(peek), MSG_NOSIGNAL);
}

static void answer(const struct vmm_msg_hdr *hdr, const char *body, int *fds, size_t n_fds)
{
	struct vmm_status status = {.version = VMM_PROTO_VERSION, .cpus = 1};
	int two[2];

	switch (hdr->type) {
	case VMM_HELLO:
		two[0] = memory(sizeof(struct vmm_stats_page));
		two[1] = memory(1 << 20);
		say(VMM_REPLY, hdr->seq, 0, &status, sizeof(status), two, 2);
		return;
	case VMM_CMDLINE:
		snprintf(mode, sizeof(mode), "%.*s", (int)hdr->len, body);
		break;
	case VMM_RUN:
		two[0] = memory(1 << 20);
		say(VMM_REPLY, hdr->seq, 0, NULL, 0, two, 1);
		say_events();
		return;
	case VMM_DISK_RESIZE:
		answer_resize(hdr->seq);
		return;
	case VMM_DISK_SNAPSHOT:
		answer_snapshot(hdr->seq, fds, n_fds);
		return;
	case VMM_DISK_DETACH:
		if (is("never-there")) {
			say(VMM_REPLY, hdr->seq, -ENOENT, "no", 2, NULL, 0);
			return;
		}
		break;
	case VMM_QUIT:
		_exit(0);
	default:
		break;
	}
	say(VMM_REPLY, hdr->seq, 0, NULL, 0, NULL, 0);
}

static void answer_one(void)
{
	static char buf[VMM_MSG_MAX];
	int fds[VMM_MSG_FDS];
	size_t n_fds = VMM_MSG_FDS;
	struct vmm_msg_hdr hdr;

	if (msg_recv(conn, buf, sizeof(buf), fds, &n_fds, 0) < (ssize_t)sizeof(hdr))
		_exit(0);
	memcpy(&hdr, buf, sizeof(hdr));
	answer(&hdr, buf + sizeof(hdr), fds, n_fds);
	for (size_t i = 0; i < n_fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static __attribute__((noreturn)) void play_vmm(void)
{
	conn = accept(VMM_LISTEN_FD, NULL, NULL);
	for (;;) {
		struct pollfd p[] = {{.fd = conn, .events = POLLIN},
				     {.fd = peeker, .events = POLLIN}};

		poll(p, nitems(p), -1);
		if (peeker >= 0 && p[1].revents)
			answer_peek();
		if (p[0].revents)
			answer_one();
	}
}

/* --- the daemon ------------------------------------------------------------------------------ */

static char self[256];

static int setup_vmm(void **state)
{
	int r = setup(state);
	struct fixture *f = *state;

	f->vmm = self;
	reopen_model(f);
	return r;
}

static const struct config_key *disk_key(const char *name)
{
	for (size_t i = 0; i < n_disk_keys; i++)
		if (strcmp(disk_keys[i].name, name) == 0)
			return &disk_keys[i];
	return NULL;
}

static bool have_kvm(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

/* Runs with a VMM that does that wrong, and has a disk `d` of 1 MiB. */
static struct machine *running(struct fixture *f, const char *how)
{
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;
	char path[200];

	snprintf(path, sizeof(path), "%s/disk.img", f->root);
	write_file(f, "disk.img", "");
	assert_int_equal(truncate(path, BYTES), 0);
	assert_int_equal(put(m, "cmdline", how, NULL), 0);
	assert_int_equal(put(m, "kernel", self, NULL), 0);
	if (!machine_disk_exists(m, "d"))
		assert_int_equal(machine_disk_add(m, "d", &root_caller, &err), 0);
	assert_int_equal(
	    machine_disk_key_store(m, "d", disk_key("source"), path, &root_caller, &err), 0);
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

static void state_is(struct machine *m, const char *wanted)
{
	struct strbuf sb = STRBUF_INIT;

	for (int i = 0; i < 60000; i++) {
		strbuf_reset(&sb);
		assert_int_equal(machine_disk_state_show(m, "d", &sb), 0);
		if (strcmp(sb.data, wanted) == 0)
			break;
		usleep(1000);
	}
	assert_string_equal(sb.data, wanted);
	strbuf_free(&sb);
}

static int disk_command(struct machine *m, const char *line, struct err *err)
{
	*err = (struct err)ERR_INIT;
	return machine_disk_command_run(m, "d", line, &root_caller, err);
}

static void events_of_disks(void **state)
{
	struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;
	struct machine *m;

	if (!have_kvm())
		skip();
	m = running(*state, "events");
	assert_int_equal(machine_command_run(m, "pause", &root_caller, &err), 0); /* all heard */
	state_is(m, "attached");
	machine_error_show(m, &sb);
	assert_true(!sb.data || !*sb.data);
	ended(m);
	m = running(*state, "fails");
	assert_int_equal(machine_command_run(m, "pause", &root_caller, &err), 0);
	assert_error(m, "EIO guest: disks/d: odd ?? words");
	ended(m);
	m = running(*state, "flood");
	assert_int_equal(machine_command_run(m, "pause", &root_caller, &err), 0);
	assert_error(m, "ENOSPC");
	ended(m);
	m = running(*state, "gone");
	state_is(m, "detached");
	assert_int_equal(disk_command(m, "detach", &err), -EBUSY);
	assert_int_equal(disk_command(m, "attach", &err), 0);
	state_is(m, "attached");
	ended(m);
	m = running(*state, "never-there");
	assert_int_equal(disk_command(m, "detach", &err), 0);
	state_is(m, "detached");
	ended(m);
	strbuf_free(&sb);
}

/* Far fewer lines than were said. */
static void floods_are_bounded(void **state)
{
	static const char *const modes[] = {"flood", "begins"};
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct timespec t;
	uint64_t size;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < nitems(modes); i++) {
		struct machine *m = running(f, modes[i]);

		assert_int_equal(machine_command_run(m, "pause", &root_caller, &err), 0);
		assert_int_equal(model_events_stat(f->model, false, &size, &t), 0);
		assert_true(size < 200 << 10);
		ended(m);
	}
}

static void sizes_are_not_believed(void **state)
{
	static const char *const modes[] = {"resize-huge", "resize-short"};
	struct err err;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < nitems(modes); i++) {
		struct machine *m = running(*state, modes[i]);

		assert_int_equal(disk_command(m, "resize 2M", &err), -EIO);
		assert_int_equal(machine_disk_size(m, "d"), BYTES);
		ended(m);
	}
}

static int snapshot(struct machine *m, struct content **c, struct err *err)
{
	*err = (struct err)ERR_INIT;
	return machine_disk_content_open(m, "d", false, &root_caller, c, err);
}

static void snapshots_that_are_none(void **state)
{
	static const char *const modes[] = {"no-room", "pipe-room", "short-info", "endless",
					    "small-room"};
	struct content *c;
	struct err err;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < nitems(modes); i++) {
		struct machine *m = running(*state, modes[i]);

		if (snapshot(m, &c, &err) != -EIO)
			fail_msg("%s: '%s'", modes[i], err.text);
		assert_true(err.text[0]);
		ended(m);
	}
}

static void reads_that_fail(void **state)
{
	static const char *const modes[] = {"other-id", "odd-error",  "again-error", "io-error",
					    "cut",	"short-peek", "hang-up"};
	static char buf[ROOM];
	struct content *c;
	struct err err;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < nitems(modes); i++) {
		struct machine *m = running(*state, modes[i]);
		ssize_t n;

		assert_int_equal(snapshot(m, &c, &err), 0);
		n = content_read(c, buf, sizeof(buf), 0);
		if (n >= 0 || n == -EAGAIN || n == -EINTR)
			fail_msg("%s: %zd", modes[i], n);
		assert_true(content_read(c, buf, 1, 4096) < 0);
		assert_true(content_write(c, buf, 1, 0) < 0);
		assert_true(content_resize(c, 0) < 0);
		assert_int_equal(content_close(c), 0);
		ended(m);
	}
}

static void holes_that_make_no_sense(void **state)
{
	struct content *c;
	struct machine *m;
	struct err err;

	if (!have_kvm())
		skip();
	m = running(*state, "status-nothing");
	assert_int_equal(snapshot(m, &c, &err), 0);
	assert_int_equal(content_seek(c, 0, SEEK_HOLE), -EIO);
	assert_int_equal(content_seek(c, -1, SEEK_HOLE), -ENXIO);
	assert_int_equal(content_seek(c, BYTES, SEEK_DATA), -ENXIO);
	content_close(c);
	ended(m);
	m = running(*state, "status-more");
	assert_int_equal(snapshot(m, &c, &err), 0);
	assert_int_equal(content_seek(c, 0, SEEK_HOLE), BYTES);
	content_close(c);
	ended(m);
}

static void what_is_read_is_what_was_there(void **state)
{
	static char buf[3 * ROOM];
	struct content *c;
	struct machine *m;
	struct err err;

	if (!have_kvm())
		skip();
	m = running(*state, "large-room"); /* no more of it is used than there is */
	assert_int_equal(snapshot(m, &c, &err), 0);
	assert_int_equal(content_size(c), BYTES);
	assert_int_equal(content_read(c, buf, sizeof(buf), 5), sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0x5a);
	assert_int_equal(content_read(c, buf, sizeof(buf), BYTES - 7), 7);
	assert_int_equal(content_read(c, buf, sizeof(buf), BYTES), 0);
	assert_int_equal(content_read(c, buf, sizeof(buf), ~0ull), 0);
	content_close(c);
	ended(m);
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
	    TEST(events_of_disks),
	    TEST(floods_are_bounded),
	    TEST(sizes_are_not_believed),
	    TEST(snapshots_that_are_none),
	    TEST(reads_that_fail),
	    TEST(holes_that_make_no_sense),
	    TEST(what_is_read_is_what_was_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
