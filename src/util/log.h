/* SPDX-License-Identifier: ISC */
#ifndef FV_LOG_H
#define FV_LOG_H
/*
 * Logging for both programs, to stderr or syslog. Levels by module come from
 * the environment: FILEVISOR_LOG="info" or "vmm:debug,fuse:trace".
 * A file names its module before it includes this: #define LOG_MODULE "vmm".
 */
#include <stdbool.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG, LOG_LVL_TRACE };

#ifndef LOG_MODULE
#define LOG_MODULE "main"
#endif

/* Reads FILEVISOR_LOG. @ident is the program's name; @to_syslog chooses syslog(3) over stderr. */
void log_open(const char *ident, bool to_syslog);
/* Takes a specification as in FILEVISOR_LOG; 0 or -EINVAL (nothing changed). */
int log_set_levels(const char *spec);
bool log_enabled(const char *module, enum log_level level);
void log_write(const char *module, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		if (log_enabled(LOG_MODULE, level))                                                \
			log_write(LOG_MODULE, level, __VA_ARGS__);                                 \
	} while (0)
#define log_error(...) log_at(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LVL_DEBUG, __VA_ARGS__)
#define log_trace(...) log_at(LOG_LVL_TRACE, __VA_ARGS__)

#endif
