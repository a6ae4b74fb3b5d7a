// SPDX-License-Identifier: ISC
/*
 * Statistics: read from the VMM's memfd (by pread, so that a VMM which cuts it
 * short does no harm), checked, shown flat-keyed and for Prometheus.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model_int.h"
#include "stats.h"
#include "util/cleanup.h"
#include "vmm.h"

/* --- reading --------------------------------------------------------------------------- */

static bool good_name(const char name[56])
{
	size_t n = strnlen(name, 56);

	if (n == 0 || n == 56)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
			return false;
	return true;
}

static bool has_counter(const struct counters *c, const char *name)
{
	for (size_t i = 0; i < c->n; i++)
		if (strcmp(c->list[i].name, name) == 0)
			return true;
	return false;
}

struct counters *counters_parse(const void *data, size_t len)
{
	const struct vmm_stats_page *page = data;
	const size_t head = offsetof(struct vmm_stats_page, counters);
	size_t n = len < head ? 0 : (len - head) / sizeof(page->counters[0]);
	struct counters *c;

	if (len < head || page->magic != VMM_STATS_MAGIC)
		n = 0;
	else if (page->n_counters < n)
		n = page->n_counters;
	if (n > VMM_STATS_MAX)
		n = VMM_STATS_MAX;
	c = calloc(1, sizeof(*c) + n * sizeof(c->list[0]));
	for (size_t i = 0; c && i < n; i++) {
		struct counter *to = &c->list[c->n];

		memcpy(to->name, page->counters[i].name, sizeof(to->name));
		to->value = page->counters[i].value;
		if (good_name(to->name) && !has_counter(c, to->name))
			c->n++;
	}
	return c;
}

struct counters *counters_read(struct vmm *vmm)
{
	_cleanup_close_ int fd = vmm_stats_fd(vmm);
	_cleanup_free_ char *room = NULL;
	uint64_t said[2]; /* magic, n_counters */
	size_t len;
	ssize_t n;

	if (fd < 0 || pread(fd, said, sizeof(said), 0) != sizeof(said))
		return NULL;
	len = offsetof(struct vmm_stats_page, counters) +
	      (said[1] < VMM_STATS_MAX ? said[1] : VMM_STATS_MAX) * sizeof(struct vmm_counter);
	room = malloc(len);
	if (!room)
		return NULL;
	n = pread(fd, room, len, 0);
	return n < 0 ? NULL : counters_parse(room, (size_t)n);
}

void counters_free(struct counters *c)
{
	free(c);
}

/* --- a machine's: those of its VMM, or of the one that ended last --------------------------- */

static struct counters *copy_counters(const struct counters *from)
{
	size_t size = sizeof(*from) + from->n * sizeof(from->list[0]);
	struct counters *c = malloc(size);

	return c ? memcpy(c, from, size) : NULL;
}

static struct counters *machine_counters(struct machine *m, uint64_t *resets)
{
	_cleanup_vmm_ struct vmm *vmm = NULL;

	*resets = 0;
	pthread_mutex_lock(&m->lock);
	if (m->vmm && m->vmm->ready) {
		vmm = vmm_get(m->vmm);
		*resets = vmm->status.resets;
	}
	if (!vmm && m->last_counters) {
		struct counters *c = copy_counters(m->last_counters);

		pthread_mutex_unlock(&m->lock);
		return c;
	}
	pthread_mutex_unlock(&m->lock);
	return vmm ? counters_read(vmm) : NULL;
}

void machine_stats_show(struct machine *m, struct strbuf *sb)
{
	uint64_t resets;
	struct counters *c = machine_counters(m, &resets);

	if (!c || !has_counter(c, "vm.resets"))
		strbuf_printf(sb, "vm.resets %llu\n", (unsigned long long)resets);
	for (size_t i = 0; c && i < c->n; i++)
		strbuf_printf(sb, "%s %llu\n", c->list[i].name,
			      (unsigned long long)c->list[i].value);
	counters_free(c);
}

void machine_stats_show_prefix(struct machine *m, const char *prefix, struct strbuf *sb)
{
	size_t n = strlen(prefix);
	uint64_t resets;
	struct counters *c = machine_counters(m, &resets);

	for (size_t i = 0; c && i < c->n; i++)
		if (strncmp(c->list[i].name, prefix, n) == 0 && c->list[i].name[n])
			strbuf_printf(sb, "%s %llu\n", c->list[i].name + n,
				      (unsigned long long)c->list[i].value);
	counters_free(c);
}

/* --- for Prometheus ----------------------------------------------------------------------------
 */

/* A counter's name taken apart: "disk.root.read_bytes" → disk_read_bytes{disk="root"}. */
struct sample {
	char metric[64];
	char label[16], label_value[56]; /* "" without */
	uint64_t value;
};

static void take_apart(const struct counter *counter, struct sample *s)
{
	static const char *const kinds[] = {"vcpu", "disk", "nic", "share"};
	const char *dot = strchr(counter->name, '.'), *last = strrchr(counter->name, '.');
	size_t first = dot ? (size_t)(dot - counter->name) : 0;

	memset(s, 0, sizeof(*s));
	s->value = counter->value;
	snprintf(s->metric, sizeof(s->metric), "%s", counter->name);
	for (size_t i = 0; i < nitems(kinds); i++) {
		if (!dot || last == dot || strlen(kinds[i]) != first ||
		    strncmp(counter->name, kinds[i], first) != 0)
			continue;
		snprintf(s->label, sizeof(s->label), "%s", kinds[i]);
		snprintf(s->label_value, sizeof(s->label_value), "%.*s", (int)(last - dot - 1),
			 dot + 1);
		snprintf(s->metric, sizeof(s->metric), "%s_%s", kinds[i], last + 1);
	}
	for (char *p = s->metric; *p; p++)
		if (!isalnum((unsigned char)*p))
			*p = '_';
}

static int by_metric(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;
	int r = strcmp(x->metric, y->metric);

	return r ? r : strcmp(x->label_value, y->label_value);
}

static void show_sample(const struct sample *s, const char *machine, struct strbuf *sb)
{
	strbuf_printf(sb, "filevisor_%s_total{machine=\"%s\"", s->metric, machine);
	if (s->label[0])
		strbuf_printf(sb, ",%s=\"%s\"", s->label, s->label_value);
	strbuf_printf(sb, "} %llu\n", (unsigned long long)s->value);
}

static void show_counters(const struct counters *c, const char *machine, struct strbuf *sb)
{
	_cleanup_free_ struct sample *samples = calloc(c->n + 1, sizeof(*samples));

	if (!samples) {
		sb->failed = true;
		return;
	}
	for (size_t i = 0; i < c->n; i++)
		take_apart(&c->list[i], &samples[i]);
	qsort(samples, c->n, sizeof(*samples), by_metric);
	for (size_t i = 0; i < c->n; i++) {
		if (i == 0 || strcmp(samples[i].metric, samples[i - 1].metric) != 0)
			strbuf_printf(sb,
				      "# HELP filevisor_%s_total Counter %s of the machine.\n"
				      "# TYPE filevisor_%s_total counter\n",
				      samples[i].metric, c->n ? samples[i].metric : "",
				      samples[i].metric);
		else if (by_metric(&samples[i], &samples[i - 1]) == 0)
			continue; /* two names that look the same here */
		show_sample(&samples[i], machine, sb);
	}
}

static void gauge(struct strbuf *sb, const char *metric, const char *help)
{
	strbuf_printf(sb, "# HELP filevisor_%s %s\n# TYPE filevisor_%s gauge\n", metric, help,
		      metric);
}

void machine_metrics_show(struct machine *m, struct strbuf *sb)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	enum machine_state state = machine_state(m);
	char name[MACHINE_NAME_MAX + 1];
	uint64_t resets;
	struct counters *c = machine_counters(m, &resets);

	machine_name(m, name);
	gauge(sb, "machine_state", "1 for the state that the machine is in, else 0.");
	for (int s = 0; s < MACHINE_STATE_MAX; s++)
		strbuf_printf(sb, "filevisor_machine_state{machine=\"%s\",state=\"%s\"} %d\n", name,
			      machine_state_name((enum machine_state)s), state == (unsigned)s);
	gauge(sb, "machine_cpus", "Number of vcpus that it is defined with.");
	strbuf_printf(sb, "filevisor_machine_cpus{machine=\"%s\"} %llu\n", name,
		      (unsigned long long)def->values.cpus);
	gauge(sb, "machine_memory_bytes", "Guest memory that it is defined with.");
	strbuf_printf(sb, "filevisor_machine_memory_bytes{machine=\"%s\"} %llu\n", name,
		      (unsigned long long)def->values.memory);
	gauge(sb, "machine_resets", "Resets of the guest since it was started.");
	strbuf_printf(sb, "filevisor_machine_resets{machine=\"%s\"} %llu\n", name,
		      (unsigned long long)resets);
	if (c)
		show_counters(c, name, sb);
	counters_free(c);
}
