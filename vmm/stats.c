// SPDX-License-Identifier: ISC
/*
 * The page of counters (src/vmm_proto.h). An entry's name is complete before
 * n_counters, stored with release order, tells of it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>

#include "src/vmm_proto.h"
#include "vmm/stats.h"
#include "util/cleanup.h"

struct stats {
	int fd;
	struct vmm_stats_page *page;
	pthread_mutex_t lock; /* guards adding */
	uint64_t unseen;      /* what did not fit */
};

/* The memfd; nobody who has it need fear that it shrinks under him. */
static int make_page(struct vmm_stats_page **page)
{
	_cleanup_close_ int fd = memfd_create("stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, sizeof(**page)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return -errno;
	*page = mmap(NULL, sizeof(**page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*page == MAP_FAILED)
		return -errno;
	/* A fork counts in a page of its own. */
	madvise(*page, sizeof(**page), MADV_DONTFORK);
	return take_fd(&fd);
}

int stats_new(struct stats **out)
{
	struct vmm_stats_page *page;
	struct stats *s;
	int fd = make_page(&page);

	if (fd < 0)
		return fd;
	s = calloc(1, sizeof(*s));
	if (!s) {
		munmap(page, sizeof(*page));
		close(fd);
		return -ENOMEM;
	}
	s->fd = fd;
	s->page = page;
	s->page->magic = VMM_STATS_MAGIC;
	pthread_mutex_init(&s->lock, NULL);
	*out = s;
	return 0;
}

void stats_free(struct stats *stats)
{
	if (!stats)
		return;
	munmap(stats->page, sizeof(*stats->page));
	close(stats->fd);
	pthread_mutex_destroy(&stats->lock);
	free(stats);
}

int stats_fd(const struct stats *stats)
{
	return stats->fd;
}

uint64_t *stats_counter(struct stats *stats, const char *fmt, ...)
{
	char name[sizeof(stats->page->counters[0].name)];
	va_list ap;
	uint64_t n;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);

	LOCK_SCOPE(&stats->lock);
	/* The daemon cannot write here: it has the file, but only maps it to read. */
	n = stats->page->n_counters;
	for (uint64_t i = 0; i < n; i++)
		if (strcmp(stats->page->counters[i].name, name) == 0)
			return &stats->page->counters[i].value;
	if (n >= VMM_STATS_MAX)
		return &stats->unseen;
	memcpy(stats->page->counters[n].name, name, sizeof(name));
	__atomic_store_n(&stats->page->n_counters, n + 1, __ATOMIC_RELEASE);
	return &stats->page->counters[n].value;
}
