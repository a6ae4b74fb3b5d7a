// SPDX-License-Identifier: ISC
/* machines/NAME/vcpu: a directory for each processor of a guest that runs. */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"
#include "util/size.h"

static unsigned vcpu_of(const struct node *n)
{
	return (unsigned)(n->parent->id - CHILD_ID(0));
}

static int state_show(struct node *n, struct strbuf *sb)
{
	return machine_vcpu_state_show(n->m, vcpu_of(n), sb);
}

static int registers_show(struct node *n, struct strbuf *sb)
{
	return machine_registers_show(n->m, vcpu_of(n), sb, NULL);
}

static int affinity_show(struct node *n, struct strbuf *sb)
{
	return machine_affinity_show(n->m, vcpu_of(n), sb);
}

static int affinity_store(struct node *n, const char *text, size_t len, const struct caller *caller,
			  struct err *err)
{
	int r;

	(void)len;
	(void)caller;
	r = machine_affinity_store(n->m, vcpu_of(n), text, err);
	if (r < 0)
		node_complain(n, "affinity", err);
	return r;
}

static int stats_show(struct node *n, struct strbuf *sb)
{
	char prefix[32];

	snprintf(prefix, sizeof(prefix), "vcpu.%u.", vcpu_of(n));
	machine_stats_show_prefix(n->m, prefix, sb);
	return 0;
}

static const struct row vcpu_rows[] = {
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_LIVE,
     .flags = ROW_VOLATILE | ROW_SLOW,
     .show = state_show,
     .help = "what it does now"},
    {.name = "registers",
     .kind = &kind_attribute,
     .mode = 0440,
     .aspect = ASPECT_LIVE,
     .flags = ROW_VOLATILE | ROW_SLOW | ROW_FIXED_SIZE,
     .show = registers_show,
     .help = "its registers as of opening"},
    {.name = "affinity",
     .kind = &kind_attribute,
     .mode = 0666,
     .aspect = ASPECT_LIVE,
     .flags = ROW_VOLATILE,
     .show = affinity_show,
     .store = affinity_store,
     .help = "host processors that it may use: 0-3,8"},
    {.name = "stats",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_LIVE,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = stats_show,
     .help = "its counters"},
};

/* --- vcpu/ --------------------------------------------------------------------------------------
 */

static void vcpu_child(struct node *dir, uint64_t number, struct child *child)
{
	snprintf(child->name, sizeof(child->name), "%llu", (unsigned long long)number);
	child->row = &node_dir(dir)->child;
	child->id = CHILD_ID(number);
}

static int vcpus_find(struct node *dir, const char *name, struct child *child)
{
	uint64_t number;

	if (uint_parse(name, 0, UINT32_MAX, &number) < 0 || number >= machine_vcpu_count(dir->m))
		return -ENOENT;
	vcpu_child(dir, number, child);
	return strcmp(child->name, name) == 0 ? 0 : -ENOENT; /* not "00" */
}

static bool vcpus_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	(void)h;
	if (*cursor >= machine_vcpu_count(dir->m))
		return false;
	vcpu_child(dir, (*cursor)++, child);
	return true;
}

static size_t vcpus_count(struct node *dir)
{
	return machine_vcpu_count(dir->m);
}

static const struct dir_ops vcpus_ops = {
    .find = vcpus_find, .next = vcpus_next, .count = vcpus_count};

int tree_vcpu_build(struct dir dirs[DIR_MAX])
{
	dirs[DIR_VCPUS].ops = &vcpus_ops;
	dirs[DIR_VCPUS].child =
	    (struct row){.kind = &kind_dir, .mode = 0555, .aspect = ASPECT_VCPUS, .dir = DIR_VCPU};
	dirs[DIR_VCPU].rows = vcpu_rows;
	dirs[DIR_VCPU].n_rows = nitems(vcpu_rows);
	dirs[DIR_VCPU].title = "A processor.";
	return 0;
}
