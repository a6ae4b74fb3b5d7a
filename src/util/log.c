// SPDX-License-Identifier: ISC
/*
 * Logging. The level table is written once at start (log_open) and read
 * without a lock afterwards; a line is one write(2), so threads never mix.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

#include "util/log.h"
#include "util/cleanup.h"

#define MAX_MODULES 16

static const struct {
	const char *name;
	int priority; /* syslog(3)'s */
} levels[] = {
    [LOG_LVL_ERROR] = {"error", LOG_ERR},   [LOG_LVL_WARN] = {"warn", LOG_WARNING},
    [LOG_LVL_INFO] = {"info", LOG_INFO},    [LOG_LVL_DEBUG] = {"debug", LOG_DEBUG},
    [LOG_LVL_TRACE] = {"trace", LOG_DEBUG},
};

struct log_config {
	bool to_syslog;
	char ident[32];
	enum log_level level;
	unsigned n_modules;
	struct {
		char name[16];
		enum log_level level;
	} modules[MAX_MODULES];
};

/* The one piece of state that logging cannot do without. */
static struct log_config config = {.ident = "filevisor", .level = LOG_LVL_INFO};

static int parse_level(const char *s, enum log_level *level)
{
	for (unsigned i = 0; i < nitems(levels); i++)
		if (strcasecmp(s, levels[i].name) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

int log_set_levels(const char *spec)
{
	struct log_config next = config;
	_cleanup_free_ char *copy = strdup(spec);
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *word = strtok_r(copy, ", ", &save); word; word = strtok_r(NULL, ", ", &save)) {
		char *colon = strchr(word, ':');

		if (!colon) {
			if (parse_level(word, &next.level) < 0)
				return -EINVAL;
			continue;
		}
		*colon = '\0';
		if (next.n_modules == MAX_MODULES || strlen(word) >= sizeof(next.modules[0].name) ||
		    parse_level(colon + 1, &next.modules[next.n_modules].level) < 0)
			return -EINVAL;
		strcpy(next.modules[next.n_modules++].name, word);
	}
	config = next;
	return 0;
}

void log_open(const char *ident, bool to_syslog)
{
	const char *spec = getenv("FILEVISOR_LOG");

	snprintf(config.ident, sizeof(config.ident), "%s", ident);
	config.to_syslog = to_syslog;
	if (to_syslog)
		openlog(config.ident, LOG_PID, LOG_DAEMON);
	if (spec && log_set_levels(spec) < 0)
		log_warn("FILEVISOR_LOG: cannot read '%s'", spec);
}

bool log_enabled(const char *module, enum log_level level)
{
	for (unsigned i = 0; i < config.n_modules; i++)
		if (strcmp(module, config.modules[i].name) == 0)
			return level <= config.modules[i].level;
	return level <= config.level;
}

void log_write(const char *module, enum log_level level, const char *fmt, ...)
{
	char line[1024];
	int saved = errno;
	va_list ap;
	size_t n = 0;

	if (!config.to_syslog)
		n = (size_t)snprintf(line, sizeof(line), "%s[%d] %s %s: ", config.ident,
				     (int)getpid(), levels[level].name, module);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (config.to_syslog) {
		syslog(levels[level].priority, "%s: %s", module, line);
	} else {
		n = strlen(line);
		line[n++] = '\n';
		if (write(STDERR_FILENO, line, n) < 0) {
			/* nobody is left to tell */
		}
	}
	errno = saved;
}
