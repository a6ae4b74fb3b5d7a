// SPDX-License-Identifier: ISC
/*
 * Requests to a VMM and what comes back. Any thread may call; the events
 * thread alone reads the socket, finds the call that a reply belongs to, and
 * wakes who waits. Lengths and numbers of descriptors are checked here, once.
 *
 * In a burst requests follow one another without a wait, and their answers are awaited together:
 * each wait is two wakeups, and where processors are busy each of these takes its time.
 */
#define LOG_MODULE "vmm"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "nic_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/msg.h"
#include "vmm.h"
#include "vsock_int.h"

struct vmm_call {
	struct vmm_call *next;
	struct vmm_call *later; /* of a burst: what was sent after it */
	char what[64];		/* the same: what goes in front of words; "" none */
	uint32_t seq;
	enum vmm_msg_type type;
	struct vmm_reply *reply; /* may be NULL */
	bool done;
	bool quiet; /* nobody waits for this very one */
	int error;
	char text[VMM_TEXT_MAX];
};

/* --- references ------------------------------------------------------------------------- */

struct vmm *vmm_get(struct vmm *vmm)
{
	atomic_fetch_add(&vmm->refs, 1);
	return vmm;
}

void vmm_put(struct vmm *vmm)
{
	int *fds[5];

	if (!vmm || atomic_fetch_sub(&vmm->refs, 1) != 1)
		return;
	fds[0] = &vmm->pidfd, fds[1] = &vmm->sock, fds[2] = &vmm->state_dir;
	fds[3] = &vmm->run_dir, fds[4] = &vmm->stats_fd;
	for (size_t i = 0; i < nitems(fds); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
	pthread_cond_destroy(&vmm->cond);
	pthread_mutex_destroy(&vmm->lock);
	pthread_mutex_destroy(&vmm->note_lock);
	vmm_disks_free(vmm);
	vmm_nics_free(vmm);
	vmm_vsock_free(vmm);
	machine_put(vmm->m);
	free(vmm);
}

struct vmm *machine_vmm(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->vmm && m->vmm->ready ? vmm_get(m->vmm) : NULL;
}

/* --- sending ---------------------------------------------------------------------------- */

static int send_packet(struct vmm *vmm, uint32_t seq, const struct vmm_request *rq,
		       const struct timespec *deadline)
{
	struct vmm_msg_hdr hdr = {.type = rq->type, .seq = seq, .len = (uint32_t)rq->len};

	for (;;) {
		struct pollfd pfd = {.fd = vmm->sock, .events = POLLOUT};
		struct timespec now = deadline_in_ms(0);
		long ms;
		int r = msg_send(vmm->sock, &hdr, sizeof(hdr), rq->data, rq->len, rq->fds,
				 rq->n_fds, MSG_DONTWAIT);

		if (r != -EAGAIN)
			return r;
		if (!deadline)
			return r;
		ms = (deadline->tv_sec - now.tv_sec) * 1000 +
		     (deadline->tv_nsec - now.tv_nsec) / 1000000;
		if (ms <= 0)
			return -ETIMEDOUT;
		/* in steps: a token may be requested meanwhile */
		poll(&pfd, 1, ms > 100 ? 100 : (int)ms);
		if (cancel_requested(rq->cancel))
			return -ECANCELED;
	}
}

static void wake(void *arg)
{
	struct vmm *vmm = arg;

	LOCK_SCOPE(&vmm->lock);
	pthread_cond_broadcast(&vmm->cond);
}

static int enqueue(struct vmm *vmm, struct vmm_call *call)
{
	LOCK_SCOPE(&vmm->lock);
	if (vmm->closed)
		return vmm->closed;
	call->seq = ++vmm->seq ? vmm->seq : ++vmm->seq;
	call->next = vmm->calls;
	vmm->calls = call;
	return 0;
}

/* Under vmm->lock. */
static void dequeue(struct vmm *vmm, struct vmm_call *call)
{
	for (struct vmm_call **link = &vmm->calls; *link; link = &(*link)->next)
		if (*link == call) {
			*link = call->next;
			return;
		}
}

static int await(struct vmm *vmm, struct vmm_call *call, const struct vmm_request *rq,
		 const struct timespec *deadline, int r)
{
	LOCK_SCOPE(&vmm->lock);
	while (r == 0 && !call->done) {
		if (cancel_requested(rq->cancel))
			r = -ECANCELED;
		else if (pthread_cond_timedwait(&vmm->cond, &vmm->lock, deadline) == ETIMEDOUT &&
			 !call->done)
			r = -ETIMEDOUT;
	}
	if (!call->done)
		dequeue(vmm, call);
	return call->done ? call->error : r;
}

static int call_error(int r, const struct vmm_call *call, struct err *err)
{
	switch (r) {
	case -ETIMEDOUT:
		return err_set(err, r, "the VMM does not answer");
	case -ECANCELED:
		return err_set(err, r, "ended before it was done");
	case -EPIPE:
	case -ECONNRESET:
	case -ENOTCONN:
		return err_set(err, -EPIPE, "the VMM went away");
	default:
		return err_set(err, r, "%s", call->text[0] ? call->text : strerror(-r));
	}
}

int vmm_call(struct vmm *vmm, const struct vmm_request *rq, struct vmm_reply *reply,
	     struct err *err)
{
	struct timespec deadline = deadline_in_ms(rq->timeout_ms);
	struct vmm_call call = {.type = rq->type, .reply = reply};
	int r;

	if (reply)
		reply->len = reply->n_fds = 0;
	r = enqueue(vmm, &call);
	if (r < 0)
		return call_error(r, &call, err);
	cancel_set_wake(rq->cancel, wake, vmm);
	r = send_packet(vmm, call.seq, rq, &deadline);
	r = await(vmm, &call, rq, &deadline, r);
	cancel_set_wake(rq->cancel, NULL, NULL);
	return r < 0 ? call_error(r, &call, err) : 0;
}

/* --- several at once ------------------------------------------------------------------------ */

/* Descriptors under way are counted for each user, whose limit may be as low as 1024. */
#define BURST_MAX 32

void vmm_burst_begin(struct vmm_burst *burst, struct vmm *vmm, unsigned timeout_ms,
		     struct cancel *cancel)
{
	*burst = (struct vmm_burst){.vmm = vmm, .timeout_ms = timeout_ms, .cancel = cancel};
	burst->last = &burst->first;
}

/* From now on its answer wakes. */
static void listen_for(struct vmm *vmm, struct vmm_call *call)
{
	LOCK_SCOPE(&vmm->lock);
	call->quiet = false;
}

/*
 * Waits for all; the first that failed, in the order of sending, is the error. The last one's
 * answer comes last, mostly: the others are there then, and have woken nobody.
 */
static int await_burst(struct vmm_burst *burst, struct err *err)
{
	struct timespec deadline = deadline_in_ms(burst->timeout_ms);
	const struct vmm_request rq = {.cancel = burst->cancel};
	struct vmm_call *last = burst->newest;
	int r = 0;

	cancel_set_wake(burst->cancel, wake, burst->vmm);
	if (last) {
		listen_for(burst->vmm, last);
		await(burst->vmm, last, &rq, &deadline, 0);
	}
	while (burst->first) {
		struct vmm_call *call = burst->first;
		int one;

		listen_for(burst->vmm, call);
		one = await(burst->vmm, call, &rq, &deadline, r == 0 ? 0 : -ECANCELED);
		if (r == 0 && one < 0) {
			r = call_error(one, call, err);
			if (*call->what)
				err_prefix(err, "%s", call->what);
		}
		burst->first = call->later;
		free(call);
	}
	cancel_set_wake(burst->cancel, NULL, NULL);
	burst->last = &burst->first;
	burst->newest = NULL;
	burst->n = 0;
	return r;
}

/* It was not sent: its answer is why. */
static void answer_unsent(struct vmm *vmm, struct vmm_call *call, int r)
{
	LOCK_SCOPE(&vmm->lock);
	if (call->done)
		return;
	dequeue(vmm, call);
	call->error = r;
	call->done = true;
}

int vmm_burst_add(struct vmm_burst *burst, const struct vmm_request *rq, const char *what,
		  struct err *err)
{
	struct timespec deadline = deadline_in_ms(burst->timeout_ms);
	struct vmm_request own = *rq;
	struct vmm_call *call;
	int r = burst->n < BURST_MAX ? 0 : await_burst(burst, err);

	if (r < 0)
		return r;
	call = calloc(1, sizeof(*call));
	if (!call)
		return err_set(err, -ENOMEM, "out of memory");
	own.cancel = burst->cancel;
	call->type = rq->type;
	snprintf(call->what, sizeof(call->what), "%s", what);
	call->quiet = true;
	*burst->last = call;
	burst->last = &call->later;
	burst->newest = call;
	burst->n++;
	r = enqueue(burst->vmm, call);
	if (r == 0)
		r = send_packet(burst->vmm, call->seq, &own, &deadline);
	if (r == 0)
		return 0;
	answer_unsent(burst->vmm, call, r);
	return await_burst(burst, err); /* where one before it was refused, that says more */
}

int vmm_burst_end(struct vmm_burst *burst, struct err *err)
{
	return await_burst(burst, err);
}

void vmm_burst_move(struct vmm_burst *to, struct vmm_burst *from, struct cancel *cancel)
{
	*to = *from;
	to->cancel = cancel;
	if (!to->first)
		to->last = &to->first;
	*from = (struct vmm_burst){0};
}

void vmm_burst_drop(struct vmm_burst *burst)
{
	while (burst->first) {
		struct vmm_call *call = burst->first;

		burst->first = call->later;
		pthread_mutex_lock(&burst->vmm->lock);
		if (!call->done)
			dequeue(burst->vmm, call);
		pthread_mutex_unlock(&burst->vmm->lock);
		free(call);
	}
	burst->last = &burst->first;
	burst->newest = NULL;
	burst->n = 0;
}

bool vmm_post(struct vmm *vmm, enum vmm_msg_type type, const void *data, size_t len, const int *fds,
	      size_t n_fds)
{
	struct vmm_request rq = {
	    .type = type, .data = data, .len = len, .fds = fds, .n_fds = n_fds};

	/* seq 0 belongs to no call: its reply is dropped */
	return send_packet(vmm, 0, &rq, NULL) == 0;
}

/* --- receiving ---------------------------------------------------------------------------- */

int vmm_believable(int32_t error)
{
	if (error == 0)
		return 0;
	if (error > 0 || error < -4095 || error == -EINTR || error == -EAGAIN || error == -ENOSYS ||
	    err_name(error)[1] == '?')
		return -EIO;
	return error;
}

/* What the daemon itself wants of a reply. If it was taken, it is gone from @fds. */
static void keep_fds(struct vmm *vmm, enum vmm_msg_type type, int *fds, size_t *n)
{
	if (type != VMM_HELLO || *n < 1)
		return;
	vmm_take_stats(vmm, fds[0]);
	memmove(fds, fds + 1, (*n - 1) * sizeof(*fds));
	*n -= 1;
}

static void finish_call(struct vmm_call *call, const struct vmm_msg_hdr *hdr, const char *body,
			const int *fds, size_t *n_fds)
{
	struct vmm_reply *reply = call->reply;

	call->error = vmm_believable(hdr->error);
	if (call->error) {
		size_t n = hdr->len < sizeof(call->text) ? hdr->len : sizeof(call->text) - 1;

		memcpy(call->text, body, n);
		call->text[n] = '\0';
	} else if (reply) {
		reply->len = hdr->len < reply->room ? hdr->len : reply->room;
		if (reply->data)
			memcpy(reply->data, body, reply->len);
		if (!reply->wants_fds)
			return;
		memcpy(reply->fds, fds, *n_fds * sizeof(*fds));
		reply->n_fds = *n_fds;
		*n_fds = 0;
	}
}

static void take_reply(struct vmm *vmm, const struct vmm_msg_hdr *hdr, const char *body, int *fds,
		       size_t *n_fds)
{
	enum vmm_msg_type type = VMM_REPLY;
	struct vmm_call *call;

	pthread_mutex_lock(&vmm->lock);
	for (call = vmm->calls; call && (call->seq != hdr->seq || hdr->seq == 0);)
		call = call->next;
	if (call)
		type = call->type;
	pthread_mutex_unlock(&vmm->lock);
	if (!call)
		return; /* of a call that was given up, or of none */
	if (hdr->error == 0) {
		keep_fds(vmm, type, fds, n_fds);
		vmm_heard_done(vmm, type); /* before anybody can go on */
	}
	pthread_mutex_lock(&vmm->lock);
	for (call = vmm->calls; call && call->seq != hdr->seq;)
		call = call->next;
	if (call) {
		finish_call(call, hdr, body, fds, n_fds);
		dequeue(vmm, call);
		call->done = true;
		if (!call->quiet)
			pthread_cond_broadcast(&vmm->cond);
	}
	pthread_mutex_unlock(&vmm->lock);
}

static void take_packet(struct vmm *vmm, const struct vmm_msg_hdr *hdr, const char *body, int *fds,
			size_t *n_fds)
{
	struct vmm_disk_event disk;
	struct vmm_status status;
	struct vmm_nic_event nic;
	struct vmm_nic_news news;
	struct vmm_vsock_event vsock;

	switch (hdr->type) {
	case VMM_REPLY:
		take_reply(vmm, hdr, body, fds, n_fds);
		break;
	case VMM_EV_STATE:
		if (hdr->len < sizeof(status))
			break;
		memcpy(&status, body, sizeof(status));
		vmm_heard_status(vmm, &status);
		break;
	case VMM_EV_CONSOLE:
		vmm_heard_console(vmm);
		break;
	case VMM_EV_DISK:
		if (hdr->len < sizeof(disk))
			break;
		memcpy(&disk, body, sizeof(disk));
		vmm_heard_disk(vmm, &disk);
		break;
	case VMM_EV_NIC:
		if (hdr->len < sizeof(nic))
			break;
		memcpy(&nic, body, sizeof(nic));
		vmm_heard_nic(vmm, &nic);
		break;
	case VMM_EV_NIC_NEWS:
		if (hdr->len < sizeof(news))
			break;
		memcpy(&news, body, sizeof(news));
		vmm_heard_nic_news(vmm, &news);
		break;
	case VMM_EV_VSOCK:
		if (hdr->len < sizeof(vsock))
			break;
		memcpy(&vsock, body, sizeof(vsock));
		vmm_heard_vsock(vmm, &vsock);
		break;
	default:
		log_debug("VMM %d: a packet of type %u", vmm->pid, hdr->type);
	}
}

bool vmm_receive(struct vmm *vmm, void *buf)
{
	for (int budget = 64; budget; budget--) { /* then others get their turn */
		int fds[VMM_MSG_FDS];
		size_t n_fds = VMM_MSG_FDS;
		struct vmm_msg_hdr hdr;
		ssize_t n = msg_recv(vmm->sock, buf, VMM_MSG_MAX, fds, &n_fds, MSG_DONTWAIT);

		if (n == -EAGAIN)
			return true;
		if (n == 0 || n < (ssize_t)sizeof(hdr)) {
			msg_close_fds(fds, n > 0 ? n_fds : 0);
			if (n < 0 && n != -ECONNRESET)
				log_warn("VMM %d: %s", vmm->pid, strerror((int)-n));
			vmm_fail_calls(vmm, -EPIPE);
			return false;
		}
		memcpy(&hdr, buf, sizeof(hdr));
		if (hdr.len == (size_t)n - sizeof(hdr))
			take_packet(vmm, &hdr, (char *)buf + sizeof(hdr), fds, &n_fds);
		msg_close_fds(fds, n_fds);
	}
	return true;
}

void vmm_fail_calls(struct vmm *vmm, int code)
{
	LOCK_SCOPE(&vmm->lock);
	vmm->closed = code;
	while (vmm->calls) {
		struct vmm_call *call = vmm->calls;

		vmm->calls = call->next;
		call->error = code;
		call->done = true;
	}
	pthread_cond_broadcast(&vmm->cond);
}

/* --- descriptors that came ------------------------------------------------------------------ */

/*
 * Only memory is taken: reading it never blocks, and a file of another kind
 * (a pty, the machine's own disk) would be shown as what it is not.
 */
void vmm_take_stats(struct vmm *vmm, int fd)
{
	struct stat st;
	int old = fd;

	if (fcntl(fd, F_GET_SEALS) >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		LOCK_SCOPE(&vmm->lock);
		old = vmm->stats_fd;
		vmm->stats_fd = fd;
	}
	if (old >= 0)
		close(old);
}

/* Opened anew: an offset of its own, and not for writing. */
int vmm_stats_fd(struct vmm *vmm)
{
	char path[40];
	int fd;

	LOCK_SCOPE(&vmm->lock);
	if (vmm->stats_fd < 0)
		return -ENODEV;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", vmm->stats_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
