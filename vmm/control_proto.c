// SPDX-License-Identifier: ISC
/*
 * The daemon's requests (src/vmm_proto.h): a row for each, with what it may
 * carry and when, and a function that does it. Packets are checked against
 * the row before the function sees them; their descriptors are closed
 * afterwards, unless it took them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/kvm.h>

#define LOG_MODULE "control"
#include "vmm/control_int.h"
#include "vmm/device.h"
#include "vmm/sandbox.h"
#include "vmm/vmgenid.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/msg.h"

void control_proto_fill_status(struct control *c, struct vmm_status *status)
{
	memset(status, 0, sizeof(*status));
	status->version = VMM_PROTO_VERSION;
	status->state = c->state;
	status->reason = c->reason;
	status->cpus = c->config.cpus;
	status->memory_bytes = c->config.memory_bytes;
	status->console_bytes = console_printed(c->console);
	status->resets = c->resets;
	memcpy(status->text, c->text, sizeof(status->text));
}

/* --- requests
 * --------------------------------------------------------------------------------------- */

static int do_hello(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_hello hello;
	struct vmm_status status;

	memcpy(&hello, req->body, sizeof(hello));
	if (hello.version != VMM_PROTO_VERSION)
		return err_set(err, -EPROTO, "this VMM speaks version %d, not %u",
			       VMM_PROTO_VERSION, hello.version);
	control_proto_fill_status(c, &status);
	reply_put(reply, &status, sizeof(status));
	reply->fds[reply->n_fds++] = stats_fd(c->stats);
	return 0;
}

static int check_config(const struct control *c, const struct vmm_config *m, struct err *err)
{
	const struct memory *has = c->inherited;

	if (m->cpus < 1 || m->cpus > VMM_CPUS_MAX)
		return err_set(err, -ERANGE, "%u vcpus: not 1 to %d", m->cpus, VMM_CPUS_MAX);
	if (m->on_reboot > VMM_ACTION_RESTART || m->on_poweroff > VMM_ACTION_RESTART ||
	    m->on_crash > VMM_ACTION_PRESERVE)
		return err_set(err, -EINVAL, "an unknown action");
	if (has && (m->hugepages || m->memory_bytes != has->low_bytes + has->high_bytes))
		return err_set(err, -EINVAL, "this memory has %llu bytes in small pages",
			       (unsigned long long)(has->low_bytes + has->high_bytes));
	if (!has && geteuid() == 0 && (m->uid == 0 || m->gid == 0))
		return err_set(err, -EINVAL, "a guest may not run as root");
	return 0;
}

static void copy_config(struct vm_config *config, const struct vmm_config *m)
{
	copy_text(config->name, m->name, sizeof(config->name));
	memcpy(config->id, m->id, sizeof(config->id));
	config->cpus = m->cpus;
	config->hugepages = m->hugepages;
	config->memory_bytes = m->memory_bytes;
	config->on_reboot = (enum vmm_action)m->on_reboot;
	config->on_poweroff = (enum vmm_action)m->on_poweroff;
	config->on_crash = (enum vmm_action)m->on_crash;
	config->uid = m->uid;
	config->gid = m->gid;
}

static int do_config(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_config m;
	int ret;

	(void)reply;
	if (c->configured)
		return err_set(err, -EBUSY, "already configured");
	memcpy(&m, req->body, sizeof(m));
	ret = check_config(c, &m, err);
	if (ret == 0 && !c->inherited)
		ret = sandbox_enter(m.uid, m.gid, err);
	if (ret < 0)
		return ret;
	if (c->inherited)
		memory_inherit(&c->memory, c->inherited);
	else
		ret = memory_new(&c->memory, m.memory_bytes, m.hugepages, err);
	if (ret < 0)
		return ret;
	copy_config(&c->config, &m);
	vmgenid_make(c->config.generation);
	title_set(&c->title, c->config.name);
	c->config.kvm_fd = take_fd(&req->fds[0]);
	c->configured = true;
	return 0;
}

static void replace_fd(int *fd, int *by)
{
	if (*fd >= 0)
		close(*fd);
	*fd = take_fd(by);
}

static int do_kernel(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)reply, (void)err;
	replace_fd(&c->config.kernel_fd, &req->fds[0]);
	return 0;
}

static int do_initrd(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)reply, (void)err;
	replace_fd(&c->config.initrd_fd, &req->fds[0]);
	return 0;
}

static int do_cmdline(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	size_t len = strnlen((const char *)req->body, req->hdr.len);

	(void)reply;
	if (len >= sizeof(c->config.cmdline))
		return err_set(err, -EINVAL, "cmdline is longer than %zu bytes",
			       sizeof(c->config.cmdline) - 1);
	memcpy(c->config.cmdline, req->body, len);
	c->config.cmdline[len] = '\0';
	return 0;
}

static int do_console(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_console m;
	int pty = req->n_fds > 1 ? req->fds[1] : -1;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	control_forget_pty(c);
	ret = console_attach(c->console, req->fds[0], pty, m.log_limit_bytes);
	control_watch_pty(c);
	if (ret < 0)
		return err_set(err, ret, "the console's pty");
	req->fds[0] = req->fds[1] = -1;
	return 0;
}

static int do_run(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)req, (void)reply;
	if (!c->configured || (c->config.kernel_fd < 0 && !c->has_vm)) /* a state needs none */
		return err_set(err, -EINVAL, "no %s yet",
			       c->configured ? "kernel" : "configuration");
	if (c->memory.filled && !c->has_vm)
		return err_set(err, -EINVAL, "memory, and no state that goes with it");
	return control_start(c, err);
}

static int do_pause(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)req, (void)reply, (void)err;
	control_pause(c);
	return 0;
}

static int do_resume(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)req, (void)reply, (void)err;
	control_resume(c);
	return 0;
}

static int do_reset(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	int ret;

	(void)req, (void)reply;
	if (c->config.kernel_fd < 0)
		return err_set(err, -ENOENT,
			       "it went on from a state, and there was no kernel any more");
	if (c->held_fd >= 0)
		return err_set(err, -EBUSY, "its memory is being written");
	vm_pause(&c->vm); /* disks finish what is under way */
	ret = control_reset(c, VMM_REASON_NONE, "", err);
	if (ret < 0)
		control_set_state(c, VMM_STATE_ENDED, VMM_REASON_FAULT, err->text);
	return ret;
}

static int do_power_button(struct control *c, struct request *req, struct reply *reply,
			   struct err *err)
{
	(void)req, (void)reply, (void)err;
	devices_power_button(&c->vm);
	return 0;
}

static int do_quit(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)req, (void)reply, (void)err;
	c->quit = true;
	return 0;
}

static int do_vcpu(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_vcpu_state state;
	struct vmm_vcpu_get get;
	int ret;

	memcpy(&get, req->body, sizeof(get));
	if (!c->has_vm)
		return err_set(err, -ENODEV, "no machine");
	ret = vm_vcpu_get(&c->vm, get.vcpu, &state);
	if (ret < 0)
		return err_set(err, ret, "vcpu %u", get.vcpu);
	reply_put(reply, &state, sizeof(state));
	return 0;
}

static int do_console_input(struct control *c, struct request *req, struct reply *reply,
			    struct err *err)
{
	uint32_t taken = (uint32_t)console_type(c->console, req->body, req->hdr.len);

	(void)err;
	reply_put(reply, &taken, sizeof(taken));
	return 0;
}

#define IN(state) (1u << (state))
#define LIVE	  (IN(VMM_STATE_RUNNING) | IN(VMM_STATE_PAUSED))
#define ANY	  (IN(VMM_STATE_NEW) | IN(VMM_STATE_RUNNING) | IN(VMM_STATE_PAUSED) | IN(VMM_STATE_ENDED))

static const struct row {
	uint32_t type;
	const char *name;
	uint32_t min_len, max_len;
	unsigned min_fds, max_fds;
	unsigned states;
	int (*run)(struct control *c, struct request *req, struct reply *reply, struct err *err);
} rows[] = {
#define EXACT(t) sizeof(t), sizeof(t)
    {VMM_HELLO, "HELLO", EXACT(struct vmm_hello), 0, 0, ANY, do_hello},
    {VMM_CONFIG, "CONFIG", EXACT(struct vmm_config), 1, 1, IN(VMM_STATE_NEW), do_config},
    {VMM_KERNEL, "KERNEL", 0, 0, 1, 1, IN(VMM_STATE_NEW), do_kernel},
    {VMM_INITRD, "INITRD", 0, 0, 1, 1, IN(VMM_STATE_NEW), do_initrd},
    {VMM_CMDLINE, "CMDLINE", 0, VMM_CMDLINE_MAX, 0, 0, IN(VMM_STATE_NEW), do_cmdline},
    {VMM_LAYER, "LAYER", EXACT(struct vmm_layer), 1, 2, ANY, control_disk_layer},
    {VMM_DISK, "DISK", EXACT(struct vmm_disk), 0, 0, IN(VMM_STATE_NEW) | LIVE, control_disk_add},
    {VMM_DISK_DETACH, "DISK_DETACH", EXACT(struct vmm_disk_detach), 0, 0, LIVE,
     control_hotplug_detach},
    {VMM_DISK_CHANGE, "DISK_CHANGE", EXACT(struct vmm_disk), 0, 0, LIVE, control_disk_change},
    {VMM_DISK_RESIZE, "DISK_RESIZE", EXACT(struct vmm_disk_resize), 0, 0, LIVE,
     control_disk_resize},
    {VMM_DISK_LIMITS, "DISK_LIMITS", EXACT(struct vmm_disk_limits), 0, 0, LIVE,
     control_disk_limits},
    {VMM_DISK_SNAPSHOT, "DISK_SNAPSHOT", EXACT(struct vmm_disk_name), 2, 2, LIVE,
     control_disk_snapshot},
    {VMM_NIC, "NIC", EXACT(struct vmm_nic), 1, VMM_NIC_QUEUES_MAX, IN(VMM_STATE_NEW) | LIVE,
     control_nic_add},
    {VMM_NIC_CABLE, "NIC_CABLE", EXACT(struct vmm_nic_cable), 0, VMM_NIC_QUEUES_MAX, LIVE,
     control_nic_cable},
    {VMM_NIC_DETACH, "NIC_DETACH", EXACT(struct vmm_nic_detach), 0, 0, LIVE, control_nic_detach},
    {VMM_NIC_SET, "NIC_SET", EXACT(struct vmm_nic_set), 0, 0, LIVE, control_nic_set},
    {VMM_NIC_CAPTURE, "NIC_CAPTURE", EXACT(struct vmm_nic_capture), 0, 1, LIVE,
     control_nic_capture},
    {VMM_VSOCK, "VSOCK", EXACT(struct vmm_vsock), 0, 0, IN(VMM_STATE_NEW), control_vsock_add},
    {VMM_VSOCK_LISTEN, "VSOCK_LISTEN", EXACT(struct vmm_vsock_port), 1, 1, ANY,
     control_vsock_listen},
    {VMM_VSOCK_ANSWER, "VSOCK_ANSWER", EXACT(struct vmm_vsock_answer), 0, 1, ANY,
     control_vsock_answer},
    {VMM_LOAD, "LOAD", EXACT(struct vmm_load), 1, 1, IN(VMM_STATE_NEW), control_load},
    {VMM_SNAPSHOT, "SNAPSHOT", EXACT(struct vmm_snapshot), 2, 3, LIVE, control_snapshot},
    {VMM_MEMORY, "MEMORY", sizeof(struct vmm_memory),
     sizeof(struct vmm_memory) + VMM_EXTENTS_MAX * sizeof(struct vmm_extent), 1,
     VMM_MEMORY_FILES_MAX, IN(VMM_STATE_NEW), control_memory},
    {VMM_PEEK_MEMORY, "PEEK_MEMORY", 0, 0, 1, 1, LIVE | IN(VMM_STATE_ENDED), control_peek_memory},
    {VMM_DISK_STAGE, "DISK_STAGE", EXACT(struct vmm_disk_name), 1, 1, LIVE, control_disk_stage},
    {VMM_DISK_FREEZE, "DISK_FREEZE", EXACT(struct vmm_disk_name), 0, 0, LIVE, control_disk_freeze},
    {VMM_DISK_REBASE, "DISK_REBASE", EXACT(struct vmm_disk_rebase), 0, 0, LIVE,
     control_disk_rebase},
    {VMM_CONSOLE, "CONSOLE", EXACT(struct vmm_console), 1, 2, ANY, do_console},
    {VMM_RUN, "RUN", 0, 0, 0, 0, IN(VMM_STATE_NEW), do_run},
    {VMM_PAUSE, "PAUSE", 0, 0, 0, 0, IN(VMM_STATE_RUNNING), do_pause},
    {VMM_RESUME, "RESUME", 0, 0, 0, 0, IN(VMM_STATE_PAUSED), do_resume},
    {VMM_RESET, "RESET", 0, 0, 0, 0, IN(VMM_STATE_RUNNING) | IN(VMM_STATE_PAUSED), do_reset},
    {VMM_POWER_BUTTON, "POWER_BUTTON", 0, 0, 0, 0, IN(VMM_STATE_RUNNING), do_power_button},
    {VMM_QUIT, "QUIT", 0, 0, 0, 0, ANY, do_quit},
    {VMM_VCPU, "VCPU", EXACT(struct vmm_vcpu_get), 0, 0, ANY, do_vcpu},
    {VMM_CONSOLE_INPUT, "CONSOLE_INPUT", 0, VMM_CONSOLE_IN_MAX, 0, 0,
     IN(VMM_STATE_RUNNING) | IN(VMM_STATE_PAUSED), do_console_input},
#undef EXACT
};

/* --- packets
 * ---------------------------------------------------------------------------------------- */

static const struct row *find_row(uint32_t type)
{
	for (unsigned i = 0; i < nitems(rows); i++)
		if (rows[i].type == type)
			return &rows[i];
	return NULL;
}

static int run(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	static const char *const states[] = {"new", "running", "paused", "ended"};
	const struct row *row = find_row(req->hdr.type);

	if (!row)
		return err_set(err, -EOPNOTSUPP, "unknown request %u", req->hdr.type);
	if (req->hdr.len < row->min_len || req->hdr.len > row->max_len ||
	    req->n_fds < row->min_fds || req->n_fds > row->max_fds)
		return err_set(err, -EPROTO, "%s: malformed", row->name);
	if (!(row->states & IN(c->state)))
		return err_set(err, -EBUSY, "%s: the machine is %s", row->name, states[c->state]);
	return row->run(c, req, reply, err);
}

static void send_reply(struct control *c, uint32_t seq, int result, const void *body, size_t len,
		       const int *fds, size_t n_fds)
{
	struct vmm_msg_hdr hdr = {
	    .type = VMM_REPLY, .seq = seq, .error = result, .len = (uint32_t)len};
	int ret;

	ret = msg_send(c->conn_fd, &hdr, sizeof(hdr), body, len, fds, n_fds, MSG_DONTWAIT);
	if (ret < 0) {
		/* Also one that asks and never reads: it may come again. */
		log_warn("cannot answer the daemon: %s", strerror(-ret));
		control_drop_connection(c);
	}
}

void control_proto_answer(struct control *c, uint32_t seq, int result, const void *body, size_t len,
			  const struct err *err)
{
	if (result < 0)
		send_reply(c, seq, result, err->text, strlen(err->text) + 1, NULL, 0);
	else
		send_reply(c, seq, 0, body, len, NULL, 0);
}

static void answer(struct control *c, const struct request *req, struct reply *reply, int result,
		   const struct err *err)
{
	if (result < 0)
		control_proto_answer(c, req->hdr.seq, result, NULL, 0, err);
	else if (result != CONTROL_LATER)
		send_reply(c, req->hdr.seq, 0, reply->body, reply->len, reply->fds, reply->n_fds);
	if (reply->own_fd >= 0)
		close(take_fd(&reply->own_fd));
}

void control_proto_receive(struct control *c)
{
	struct request req = {.fds = {-1, -1, -1, -1, -1, -1, -1, -1}, .n_fds = VMM_MSG_FDS};
	struct reply reply = {.own_fd = -1};
	struct err err = ERR_INIT;
	ssize_t n =
	    msg_recv(c->conn_fd, c->packet, sizeof(c->packet), req.fds, &req.n_fds, MSG_DONTWAIT);
	int ret;

	if (n == -EAGAIN)
		return;
	if (n > 0 && (size_t)n >= sizeof(req.hdr))
		memcpy(&req.hdr, c->packet, sizeof(req.hdr));
	if (n < (ssize_t)sizeof(req.hdr) || req.hdr.len != (size_t)n - sizeof(req.hdr)) {
		if (n != 0 && n != -ECONNRESET)
			log_warn("a malformed packet: connection dropped");
		msg_close_fds(req.fds, req.n_fds);
		control_drop_connection(c);
		return;
	}
	req.body = c->packet + sizeof(req.hdr);
	ret = run(c, &req, &reply, &err);
	if (ret < 0 && (req.hdr.type == VMM_LAYER || req.hdr.type == VMM_DISK ||
			req.hdr.type == VMM_DISK_CHANGE || req.hdr.type == VMM_DISK_REBASE))
		control_disk_drop_layers(c);
	for (size_t i = 0; i < req.n_fds; i++)
		if (req.fds[i] >= 0)
			close(req.fds[i]);
	answer(c, &req, &reply, ret, &err);
}

/* --- events
 * ----------------------------------------------------------------------------------------- */

/* False: it did not go. */
static bool send_event(struct control *c, uint32_t type, const void *body, size_t len)
{
	struct vmm_msg_hdr hdr = {.type = type, .len = (uint32_t)len};
	int ret;

	ret = msg_send(c->conn_fd, &hdr, sizeof(hdr), body, len, NULL, 0, MSG_DONTWAIT);
	if (ret < 0 && ret != -EAGAIN)
		control_drop_connection(c);
	return ret == 0;
}

static void wait_for_room(struct control *c, bool wait)
{
	struct epoll_event event = {.events = EPOLLIN | (wait ? EPOLLOUT : 0),
				    .data.fd = c->conn_fd};

	if (c->conn_fd < 0 || wait == c->want_out)
		return;
	if (epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, c->conn_fd, &event) == 0)
		c->want_out = wait;
}

/* False: not all of it went. */
static bool send_nic_news(struct control *c)
{
	struct vmm_nic_news news;

	while (c->n_nic_news > 0 && c->conn_fd >= 0) {
		if (!send_event(c, VMM_EV_NIC_NEWS, &c->nic_news[0], sizeof(news)))
			return false;
		c->n_nic_news--;
		memmove(&c->nic_news[0], &c->nic_news[1], c->n_nic_news * sizeof(news));
	}
	while (c->conn_fd >= 0 && control_nic_news(c, &news)) {
		if (!send_event(c, VMM_EV_NIC_NEWS, &news, sizeof(news)))
			return false;
		control_nic_told(c, &news);
	}
	return true;
}

void control_proto_send_events(struct control *c)
{
	struct vmm_status status;
	bool full = false;

	if (c->conn_fd < 0) {
		c->state_pending = c->console_pending = false; /* HELLO will tell */
		return;
	}
	/* What was printed first: who hears of the end has then heard of all output. */
	if (c->console_pending) {
		full = !send_event(c, VMM_EV_CONSOLE, &c->console_told, sizeof(c->console_told));
		c->console_pending = full;
	}
	while (c->n_disk_events > 0 && !full && c->conn_fd >= 0) {
		full = !send_event(c, VMM_EV_DISK, &c->disk_events[0], sizeof(c->disk_events[0]));
		if (full)
			break;
		c->n_disk_events--;
		memmove(&c->disk_events[0], &c->disk_events[1],
			c->n_disk_events * sizeof(c->disk_events[0]));
	}
	while (c->n_nic_events > 0 && !full && c->conn_fd >= 0) {
		full = !send_event(c, VMM_EV_NIC, &c->nic_events[0], sizeof(c->nic_events[0]));
		if (full)
			break;
		c->n_nic_events--;
		memmove(&c->nic_events[0], &c->nic_events[1],
			c->n_nic_events * sizeof(c->nic_events[0]));
	}
	full = full || !send_nic_news(c);
	while (c->n_vsock_events > 0 && !full && c->conn_fd >= 0) {
		full =
		    !send_event(c, VMM_EV_VSOCK, &c->vsock_events[0], sizeof(c->vsock_events[0]));
		if (full)
			break;
		c->n_vsock_events--;
		memmove(&c->vsock_events[0], &c->vsock_events[1],
			c->n_vsock_events * sizeof(c->vsock_events[0]));
	}
	if (c->state_pending && !full && c->conn_fd >= 0) {
		control_proto_fill_status(c, &status);
		full = !send_event(c, VMM_EV_STATE, &status, sizeof(status));
		c->state_pending = full;
	}
	wait_for_room(c, full);
}
