/* SPDX-License-Identifier: ISC */
#ifndef FV_EVENT_H
#define FV_EVENT_H
/*
 * The log of events: RUN/events, a JSON object a line, each with "seq" (which
 * goes on over restarts of the daemon), "time" and "event". When it exceeds its limit
 * it becomes events.old and a new one begins.
 */
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "util/strbuf.h"

#define EVENTS_MAX (4u << 20)

struct events;

/* Opens or makes it in the directory @dir (borrowed); a torn last line is dropped. -errno. */
int events_open(struct events **events, int dir, uint64_t limit_bytes);
void events_close(struct events *events);

/* Members of the object to be: the kind first, then as wanted, then events_write(). */
void event_begin(struct strbuf *sb, const char *kind);
void event_text(struct strbuf *sb, const char *name, const char *value);
void event_number(struct strbuf *sb, const char *name, uint64_t value);
/* Numbers and appends it with one write(2); empties @sb. Any thread. */
void events_write(struct events *events, struct strbuf *sb);

/* See model.h. */
int events_open_file(struct events *events, bool old);
int events_stat(struct events *events, bool old, uint64_t *size, struct timespec *mtime);

#endif
