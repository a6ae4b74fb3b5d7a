// SPDX-License-Identifier: ISC
/*
 * Which signal interrupted a client.
 *
 * The kernel tells of an interrupt at any signal, and a shell gets SIGCHLD whenever
 * one of its background jobs ends: that must not cancel the command which it
 * waits for. So what is pending is looked up in /proc, and a signal that asks for
 * nothing is passed over; so is, for a call on an image, any that does not end the
 * client: reads and writes of regular files are not interrupted by others, and few
 * programs expect it. The kernel tells only once in a request, though; from
 * then on it is up to us to look now and then whether one came that does.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define LOOK_MS 100

struct signals {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards what follows, and the links */
	pthread_cond_t wake;
	bool stop;
	struct interrupted *first;
};

int signals_open(struct signals **out)
{
	struct signals *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	*out = s;
	return 0;
}

static uint64_t bit(int signal)
{
	return (uint64_t)1 << (signal - 1);
}

/*
 * Whether a signal waits for this thread that asks it to do something else; so, too, if
 * that cannot be seen (but not of a client that cannot be seen at all that it is to end).
 */
static bool is_asked(pid_t tid, bool deadly)
{
	const uint64_t harmless = bit(SIGCHLD) | bit(SIGWINCH) | bit(SIGURG) | bit(SIGCONT);
	const uint64_t stops = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
	unsigned long long pending = 0, shared = 0, blocked = 0, ignored = 0, caught = 0;
	_cleanup_fclose_ FILE *f = NULL;
	char path[64], line[256];
	int found = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = tid ? fopen(path, "re") : NULL;
	while (f && found < 5 && fgets(line, sizeof(line), f))
		found += sscanf(line, "SigPnd: %llx", &pending) == 1 ||
			 sscanf(line, "ShdPnd: %llx", &shared) == 1 ||
			 sscanf(line, "SigBlk: %llx", &blocked) == 1 ||
			 sscanf(line, "SigIgn: %llx", &ignored) == 1 ||
			 sscanf(line, "SigCgt: %llx", &caught) == 1;
	if (found < 5)
		return !deadly || tid != 0;
	pending = (pending | shared) & ~blocked & ~harmless;
	return (deadly ? pending & ~(stops | ignored | caught) : pending) != 0;
}

/* Requests each that is asked by now; true if there are others. With the lock. */
static bool look(struct signals *s)
{
	struct interrupted *next;

	for (struct interrupted *i = s->first; i; i = next) {
		next = i->next;
		if (!is_asked(i->tid, i->deadly))
			continue;
		*i->prev = i->next;
		if (i->next)
			i->next->prev = i->prev;
		i->prev = NULL;
		cancel_request(i->cancel);
	}
	return s->first != NULL;
}

static void *signals_thread(void *arg)
{
	struct signals *s = arg;

	pthread_setname_np(pthread_self(), "signals");
	LOCK_SCOPE(&s->lock);
	while (!s->stop) {
		struct timespec until;

		if (!look(s)) {
			pthread_cond_wait(&s->wake, &s->lock);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_MS * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		pthread_cond_timedwait(&s->wake, &s->lock, &until);
	}
	return NULL;
}

void signals_heard(struct signals *s, struct interrupted *i)
{
	if (is_asked(i->tid, i->deadly)) {
		cancel_request(i->cancel);
		return;
	}
	LOCK_SCOPE(&s->lock);
	i->next = s->first;
	i->prev = &s->first;
	if (i->next)
		i->next->prev = &i->next;
	s->first = i;
	pthread_cond_signal(&s->wake);
}

void signals_forget(struct signals *s, struct interrupted *i)
{
	LOCK_SCOPE(&s->lock);
	if (!i->prev)
		return;
	*i->prev = i->next;
	if (i->next)
		i->next->prev = i->prev;
	i->prev = NULL;
}

int signals_start(struct signals *s)
{
	int r = pthread_create(&s->thread, NULL, signals_thread, s);

	s->started = r == 0;
	return -r;
}

void signals_stop(struct signals *s)
{
	if (!s->started)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	s->started = false;
}

void signals_close(struct signals *s)
{
	if (!s)
		return;
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
