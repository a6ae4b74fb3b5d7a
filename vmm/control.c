// SPDX-License-Identifier: ISC
/*
 * The control thread's loop: the listening socket, the daemon's connection, one
 * eventfd that devices and vcpus write (console output, the guest's end), the pty.
 *
 * A guest's end is acted on here: everything stands still, then on_reboot,
 * on_poweroff or on_crash says whether the machine is taken down and made anew
 * in place, or stands in ENDED until QUIT. A guest that ends again and again
 * must not keep the host busy: resets cost a token each, of which there are
 * at most RESET_BURST and one more every second; without one the reset waits.
 *
 * Output of the console is written as soon as it comes, and then at most every
 * FLUSH_MS: the first byte is not held up, and a guest that prints much
 * does not cost a write and an event for each byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#define LOG_MODULE "control"
#include "vmm/control.h"
#include "vmm/device.h"
#include "vmm/io_pool.h"
#include "vmm/pack.h"
#include "vmm/sandbox.h"
#include "util/cleanup.h"
#include "util/log.h"

#define FLUSH_MS     1
#define IDLE_MS	     60000 /* a VMM that nobody has ever connected to ends */
#define RESET_BURST  5
#define SAY_MS	     10000
#define EVENTS_BATCH 8

int64_t control_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- the state
 * ------------------------------------------------------------------------------------ */

void control_set_state(struct control *c, enum vmm_state state, enum vmm_reason reason,
		       const char *text)
{
	c->state = state;
	c->reason = reason;
	snprintf(c->text, sizeof(c->text), "%s", text);
	c->state_pending = true;
}

void control_flush(struct control *c)
{
	uint64_t printed = console_flush(c->console);

	c->last_flush = control_now_ms();
	c->flush_at = 0;
	if (printed != c->console_told)
		c->console_pending = true;
	c->console_told = printed;
}

static int make_vm(struct control *c, bool bare, struct err *err)
{
	const struct vm_parts parts = {
	    .config = &c->config,
	    .memory = &c->memory,
	    .stats = c->stats,
	    .console = c->console,
	    .io_pool = c->io_pool,
	    .wake_fd = c->wake_fd,
	    .owner = c,
	    .early = &c->early,
	    .bare = bare,
	};
	int ret = memory_map(&c->memory, err);

	if (ret < 0)
		return ret;
	ret = vm_create(&c->vm, &parts, err);
	c->has_vm = ret == 0;
	return ret;
}

int control_make_bare(struct control *c, struct err *err)
{
	return make_vm(c, true, err);
}

int control_start(struct control *c, struct err *err)
{
	bool loaded = c->has_vm;
	int ret = loaded ? 0 : make_vm(c, false, err);

	if (ret == 0 && !c->sealed)
		ret = sandbox_seal(err);
	if (ret == 0 && loaded)
		ret = control_load_mark(c, err);
	if (ret < 0) {
		if (c->has_vm)
			vm_destroy(&c->vm);
		c->has_vm = false;
		memory_wipe(&c->memory);
		return ret;
	}
	c->sealed = true;
	if (loaded)
		control_nics_renew(c);
	control_set_state(c, VMM_STATE_RUNNING, VMM_REASON_NONE, "");
	vm_resume(&c->vm);
	return 0;
}

void control_pause(struct control *c)
{
	vm_pause(&c->vm);
	control_flush(c);
	control_set_state(c, VMM_STATE_PAUSED, VMM_REASON_NONE, "");
}

void control_resume(struct control *c)
{
	control_set_state(c, VMM_STATE_RUNNING, VMM_REASON_NONE, "");
	if (c->reset_at == 0 && c->held_fd < 0)
		vm_resume(&c->vm);
}

static void on_released(struct control *c)
{
	if (c->held_fd >= 0)
		close(take_fd(&c->held_fd));
	if (c->state == VMM_STATE_RUNNING)
		vm_resume(&c->vm);
}

/* The machine is of no use any more, but what there is of it can still be looked at. */
static void stand(struct control *c, enum vmm_reason reason, const char *text)
{
	c->reset_at = 0;
	control_flush(c);
	control_set_state(c, VMM_STATE_ENDED, reason, text);
	log_info("ended: %s", text);
}

int control_reset(struct control *c, enum vmm_reason reason, const char *text, struct err *err)
{
	char words[VMM_TEXT_MAX];
	int ret;

	c->reset_at = 0;
	snprintf(words, sizeof(words), "%s", text);
	control_hotplug_reset(c);
	if (c->has_vm)
		vm_destroy(&c->vm);
	c->has_vm = false;
	control_flush(c);
	ret = memory_wipe(&c->memory);
	if (ret < 0)
		err_set(err, ret, "cannot empty the guest's memory");
	else
		ret = make_vm(c, false, err);
	if (ret < 0)
		return ret;
	c->resets++;
	control_set_state(c, VMM_STATE_RUNNING, reason, words);
	vm_resume(&c->vm);
	return 0;
}

/* --- the guest's end
 * ------------------------------------------------------------------------------ */

static bool take_token(struct control *c)
{
	int64_t now = control_now_ms();

	c->reset_tokens += (double)(now - c->tokens_as_of) / 1000;
	if (c->reset_tokens > RESET_BURST)
		c->reset_tokens = RESET_BURST;
	c->tokens_as_of = now;
	if (c->reset_tokens < 1)
		return false;
	c->reset_tokens -= 1;
	return true;
}

static void reset_now(struct control *c)
{
	struct err err = ERR_INIT;

	if (control_reset(c, c->reset_reason, c->text, &err) < 0) {
		err_prefix(&err, "cannot reset");
		stand(c, VMM_REASON_FAULT, err.text);
	}
}

/* For the log, but not of each where there are many: the daemon is told of them all. */
static void say_reset(struct control *c, const char *text)
{
	int64_t now = control_now_ms();

	if (c->reset_said != 0 && now - c->reset_said < SAY_MS) {
		c->resets_unsaid++;
		return;
	}
	if (c->resets_unsaid > 0)
		log_info("%u more resets", c->resets_unsaid);
	log_info("reset: %s", text);
	c->resets_unsaid = 0;
	c->reset_said = now;
}

static void restart(struct control *c, enum vmm_reason reason, const char *text)
{
	c->reset_reason = reason;
	snprintf(c->text, sizeof(c->text), "%s", text);
	say_reset(c, text);
	if (take_token(c))
		reset_now(c);
	else
		c->reset_at = control_now_ms() + (int64_t)((1 - c->reset_tokens) * 1000) + 1;
}

/* What may be done about each kind of end; text is the guest's. */
static void act_on_end(struct control *c, enum vm_end end, const char *text)
{
	const struct vm_config *config = &c->config;
	const struct {
		enum vmm_reason reason;
		enum vmm_action action;
	} ends[] = {
	    [VM_END_RESET] = {VMM_REASON_REBOOT, config->on_reboot},
	    [VM_END_POWEROFF] = {VMM_REASON_POWEROFF, config->on_poweroff},
	    [VM_END_CRASH] = {VMM_REASON_CRASH, config->on_crash},
	    [VM_END_FAULT] = {VMM_REASON_FAULT, VMM_ACTION_STOP},
	};

	vm_pause(&c->vm);
	control_flush(c);
	if (ends[end].action == VMM_ACTION_RESTART)
		restart(c, ends[end].reason, text);
	else
		stand(c, ends[end].reason, text);
}

static void look_for_end(struct control *c)
{
	char text[VMM_TEXT_MAX];
	enum vm_end end;

	if (!c->has_vm || c->state == VMM_STATE_ENDED || c->reset_at != 0)
		return;
	if (vm_ended(&c->vm, &end, text))
		act_on_end(c, end, text);
}

/*
 * A piece of the guest's memory cannot be had. Who waits for it waits for ever, perhaps with a
 * lock: nobody is asked to stand still, and nothing is torn down.
 */
static void look_for_memory(struct control *c)
{
	const char *words = pack_failure(&c->memory);

	if (!words)
		return;
	log_error("%s", words);
	control_set_state(c, VMM_STATE_ENDED, VMM_REASON_FAULT, words);
	control_proto_send_events(c);
	_exit(1);
}

/* --- what the loop waits for
 * ------------------------------------------------------------------------ */

static int watch(struct control *c, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void control_hold(struct control *c, pid_t pid)
{
	c->held_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* It has ended by now, or nobody could say when. */
	if (c->held_fd < 0 || watch(c, c->held_fd, EPOLLIN) < 0)
		on_released(c);
}

/* Who was just forked may have it as well for a moment: closing alone would not end its events. */
static void forget_holder(struct control *c)
{
	if (c->holder_fd < 0)
		return;
	epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, c->holder_fd, NULL);
	close(take_fd(&c->holder_fd));
}

static void on_holder_gone(struct control *c)
{
	forget_holder(c);
	memory_collapse_start(&c->memory);
}

void control_follow(struct control *c, pid_t pid)
{
	forget_holder(c); /* an earlier one's: what that still has is left alone */
	c->holder_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (c->holder_fd < 0 || watch(c, c->holder_fd, EPOLLIN) < 0)
		on_holder_gone(c);
}

void control_forget_pty(struct control *c)
{
	/* Said, not left to close(2): others have this pty open as well. */
	if (c->polled_pty >= 0)
		epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, c->polled_pty, NULL);
	c->polled_pty = -1;
}

void control_watch_pty(struct control *c)
{
	c->polled_pty = console_pty(c->console);
	/* Edges: a pty whose other side nobody has open is always ready, to say so. */
	if (c->polled_pty >= 0 && watch(c, c->polled_pty, EPOLLIN | EPOLLET) < 0)
		log_warn("cannot wait for the pty");
}

void control_drop_connection(struct control *c)
{
	if (c->conn_fd < 0)
		return;
	close(c->conn_fd);
	c->conn_fd = -1;
	c->connection++;
	c->n_disk_events = c->n_nic_events = c->n_nic_news = 0;
	control_vsock_drop(c);
	control_disk_drop_layers(c);
	control_stage_drop(c);
	c->want_out = c->state_pending = c->console_pending = false;
	/* A machine that never ran is nobody's now. */
	if (c->state == VMM_STATE_NEW)
		c->quit = true;
}

static void accept_connection(struct control *c)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	_cleanup_close_ int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != c->peer_uid) {
		log_warn("a connection of another user: dropped");
		return;
	}
	if (c->conn_fd >= 0) {
		log_info("a newer connection replaces the older");
		close(c->conn_fd);
		control_disk_drop_layers(c);
		control_stage_drop(c);
	}
	c->conn_fd = take_fd(&fd);
	c->connection++;
	c->n_disk_events = c->n_nic_events = 0;
	control_vsock_drop(c);
	c->want_out = false;
	c->idle_until = 0;
	if (watch(c, c->conn_fd, EPOLLIN) < 0)
		control_drop_connection(c);
}

static void on_wake(struct control *c)
{
	int64_t now = control_now_ms();
	uint64_t count;

	if (read(c->wake_fd, &count, sizeof(count)) < 0)
		return;
	look_for_memory(c);
	if (now - c->last_flush >= FLUSH_MS)
		control_flush(c);
	else if (c->flush_at == 0)
		c->flush_at = now + FLUSH_MS;
	if (console_pty_waits(c->console))
		console_pty_read(c->console);
	control_disks_look(c);
	control_hotplug_look(c);
	control_vsock_look(c);
	memory_readers_reap(&c->memory_readers);
	look_for_end(c);
}

static void on_ready(struct control *c, int fd, uint32_t events)
{
	if (fd == c->listen_fd)
		accept_connection(c);
	else if (fd == c->wake_fd)
		on_wake(c);
	else if (fd == c->polled_pty)
		console_pty_read(c->console);
	else if (fd == c->held_fd)
		on_released(c);
	else if (fd == c->holder_fd)
		on_holder_gone(c);
	else if (fd == c->conn_fd && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		control_proto_receive(c);
	/* Room for events: they are sent after each round. */
}

/* Milliseconds until something is due; -1: nothing is. */
static int timeout(const struct control *c)
{
	/* A reset waits for a machine that is not held. */
	const int64_t moments[] = {c->flush_at, c->idle_until, c->links_at,
				   c->state == VMM_STATE_RUNNING ? c->reset_at : 0};
	int64_t first = 0, left;

	for (unsigned i = 0; i < nitems(moments); i++)
		if (moments[i] != 0 && (first == 0 || moments[i] < first))
			first = moments[i];
	if (first == 0)
		return -1;
	left = first - control_now_ms();
	return left < 0 ? 0 : (int)left;
}

static void do_what_is_due(struct control *c)
{
	int64_t now;

	if (c->flush_at == 0 && c->idle_until == 0 && c->reset_at == 0 && c->links_at == 0)
		return;
	now = control_now_ms();
	if (c->flush_at != 0 && now >= c->flush_at)
		control_flush(c);
	if (c->links_at != 0 && now >= c->links_at)
		control_nic_links(c);
	if (c->reset_at != 0 && now >= c->reset_at && c->state == VMM_STATE_RUNNING) {
		take_token(c);
		reset_now(c);
	}
	if (c->idle_until != 0 && now >= c->idle_until) {
		log_warn("nobody has connected: ends");
		c->quit = true;
	}
}

static bool is_more_told(const struct control *c)
{
	struct pollfd more = {.fd = c->conn_fd, .events = POLLIN};

	return poll(&more, 1, 0) != 0;
}

/*
 * Between being told of its memory and of the rest there is time, in which the daemon opens
 * files, and once more before RUN: what can be done by now is. Where that fails, whoever does
 * the rest says why.
 */
static void prepare(struct control *c)
{
	struct err ignored = ERR_INIT;

	if (c->state != VMM_STATE_NEW || !c->configured || is_more_told(c))
		return;
	if (c->has_vm) {
		c->sealed = c->sealed || sandbox_seal(&ignored) == 0;
	} else if (!c->prepared) {
		c->prepared = true;
		if (memory_map(&c->memory, &ignored) == 0)
			vm_early_make(&c->early, &c->config, &c->memory, &ignored);
	}
}

static void loop(struct control *c)
{
	struct epoll_event events[EVENTS_BATCH];

	while (!c->quit) {
		int n = epoll_wait(c->epoll_fd, events, EVENTS_BATCH, timeout(c));

		for (int i = 0; i < n && !c->quit; i++)
			on_ready(c, events[i].data.fd, events[i].events);
		if (!c->quit)
			do_what_is_due(c);
		control_proto_send_events(c);
		if (!c->quit)
			prepare(c);
	}
}

/* --- life ---------------------------------------------------------------------------------------
 */

static int setup(struct control *c, struct err *err)
{
	struct ucred creator;
	socklen_t len = sizeof(creator);
	int flags = fcntl(c->listen_fd, F_GETFL);

	if (flags < 0 || fcntl(c->listen_fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(c->listen_fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(err, -errno, "descriptor %d", c->listen_fd);
	/* Of a listening socket: who called listen(2). */
	if (getsockopt(c->listen_fd, SOL_SOCKET, SO_PEERCRED, &creator, &len) < 0)
		return err_set(err, -errno, "descriptor %d is no socket that listens",
			       c->listen_fd);
	c->peer_uid = creator.uid;
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->epoll_fd < 0 || c->wake_fd < 0 || watch(c, c->listen_fd, EPOLLIN) < 0 ||
	    watch(c, c->wake_fd, EPOLLIN) < 0)
		return err_set(err, -errno, "cannot wait for events");
	if (stats_new(&c->stats) < 0)
		return err_set(err, -ENOMEM, "cannot make the page of counters");
	if (console_new(&c->console, c->stats, c->wake_fd) < 0 || io_pool_new(&c->io_pool) < 0)
		return err_set(err, -ENOMEM, "no memory");
	if (vcpu_init_signal() < 0)
		return err_set(err, -errno, "cannot handle signals");
	return 0;
}

static void close_all(struct control *c)
{
	const int fds[] = {c->listen_fd,     c->conn_fd,	  c->epoll_fd,	       c->wake_fd,
			   c->config.kvm_fd, c->config.kernel_fd, c->config.initrd_fd, c->once_fd,
			   c->held_fd,	     c->holder_fd};

	for (unsigned i = 0; i < nitems(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void teardown(struct control *c)
{
	if (c->has_vm) {
		vm_pause(&c->vm); /* disks finish what is under way */
		vm_destroy(&c->vm);
	}
	vm_early_drop(&c->early);
	if (c->console)
		console_flush(c->console);
	console_free(c->console);
	control_disks_close(c);
	control_nics_close(c);
	control_vsock_close(c);
	io_pool_free(c->io_pool);
	memory_readers_end(&c->memory_readers);
	memory_free(&c->memory);
	stats_free(c->stats);
	close_all(c);
	free(c);
}

int control_run(int listen_fd, const struct title *title, const struct memory *inherited,
		struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return err_set(err, -ENOMEM, "no memory");
	c->listen_fd = listen_fd;
	c->early.vm_fd = -1;
	if (title)
		c->title = *title;
	c->inherited = inherited;
	c->memory.pagemap_fd = c->memory.uffd = -1;
	if (!inherited)
		memory_init(&c->memory);
	c->sealed = inherited;
	c->conn_fd = c->epoll_fd = c->wake_fd = c->polled_pty = -1;
	c->config.kvm_fd = c->config.kernel_fd = c->config.initrd_fd = -1;
	c->once_fd = c->held_fd = c->holder_fd = -1;
	c->reset_tokens = RESET_BURST;
	c->tokens_as_of = control_now_ms();
	c->idle_until = control_now_ms() + IDLE_MS;
	ret = setup(c, err);
	if (ret == 0)
		loop(c);
	teardown(c);
	return ret;
}
