// SPDX-License-Identifier: ISC
/*
 * What of the model has a directory of its own: machines, jobs, pools, volumes, snapshots,
 * networks, interfaces of the host. One table.
 */
#include <stdio.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

struct thing_ops {
	void (*get)(void *ref);
	void (*put)(void *ref);
	void (*name)(void *ref, char name[256]);
	uint64_t (*number)(void *ref);
	bool (*alive)(void *ref);
};

static void get_machine(void *ref)
{
	machine_get(ref);
}

static void put_machine(void *ref)
{
	machine_put(ref);
}

static void name_machine(void *ref, char name[256])
{
	machine_name(ref, name);
}

static uint64_t number_machine(void *ref)
{
	return machine_serial(ref);
}

static bool alive_machine(void *ref)
{
	return machine_alive(ref);
}

static void get_job(void *ref)
{
	job_get(ref);
}

static void put_job(void *ref)
{
	job_put(ref);
}

static void name_job(void *ref, char name[256])
{
	snprintf(name, 256, "%llu", (unsigned long long)job_number(ref));
}

static uint64_t number_job(void *ref)
{
	return job_number(ref);
}

static void get_pool(void *ref)
{
	pool_get(ref);
}

static void put_pool(void *ref)
{
	pool_put(ref);
}

static void name_pool(void *ref, char name[256])
{
	pool_name(ref, name);
}

static uint64_t number_pool(void *ref)
{
	return pool_serial(ref);
}

static bool alive_pool(void *ref)
{
	return pool_alive(ref);
}

static void get_volume(void *ref)
{
	volume_get(ref);
}

static void put_volume(void *ref)
{
	volume_put(ref);
}

static void name_volume(void *ref, char name[256])
{
	volume_name(ref, name);
}

static uint64_t number_volume(void *ref)
{
	return volume_serial(ref);
}

static bool alive_volume(void *ref)
{
	return volume_alive(ref);
}

static void get_snapshot(void *ref)
{
	snapshot_get(ref);
}

static void put_snapshot(void *ref)
{
	snapshot_put(ref);
}

static void name_snapshot(void *ref, char name[256])
{
	snapshot_name(ref, name);
}

static uint64_t number_snapshot(void *ref)
{
	return snapshot_serial(ref);
}

static bool alive_snapshot(void *ref)
{
	return snapshot_alive(ref);
}

static void get_network(void *ref)
{
	network_get(ref);
}

static void put_network(void *ref)
{
	network_put(ref);
}

static void name_network(void *ref, char name[256])
{
	network_name(ref, name);
}

static uint64_t number_network(void *ref)
{
	return network_serial(ref);
}

static bool alive_network(void *ref)
{
	return network_alive(ref);
}

static void get_interface(void *ref)
{
	interface_get(ref);
}

static void put_interface(void *ref)
{
	interface_put(ref);
}

static void name_interface(void *ref, char name[256])
{
	interface_name(ref, name);
}

static uint64_t number_interface(void *ref)
{
	return interface_serial(ref);
}

static bool alive_interface(void *ref)
{
	return interface_alive(ref);
}

static const struct thing_ops things[] = {
    [THING_MACHINE] = {get_machine, put_machine, name_machine, number_machine, alive_machine},
    [THING_JOB] = {get_job, put_job, name_job, number_job, NULL},
    [THING_POOL] = {get_pool, put_pool, name_pool, number_pool, alive_pool},
    [THING_VOLUME] = {get_volume, put_volume, name_volume, number_volume, alive_volume},
    [THING_SNAPSHOT] = {get_snapshot, put_snapshot, name_snapshot, number_snapshot, alive_snapshot},
    [THING_NETWORK] = {get_network, put_network, name_network, number_network, alive_network},
    [THING_INTERFACE] = {get_interface, put_interface, name_interface, number_interface,
			 alive_interface},
};
_Static_assert(nitems(things) == THING_KIND_MAX, "a row for each kind of thing");

struct thing thing_get(struct thing t)
{
	if (t.kind != THING_NONE)
		things[t.kind].get(t.ref);
	return t;
}

void thing_put(struct thing t)
{
	if (t.kind != THING_NONE)
		things[t.kind].put(t.ref);
}

void thing_name(struct thing t, char name[256])
{
	name[0] = '\0';
	if (t.kind != THING_NONE)
		things[t.kind].name(t.ref, name);
}

uint64_t thing_number(struct thing t)
{
	return t.kind == THING_NONE ? 0 : things[t.kind].number(t.ref);
}

bool thing_alive(struct thing t)
{
	return t.kind == THING_NONE || !things[t.kind].alive || things[t.kind].alive(t.ref);
}

void child_of_thing(struct node *dir, struct thing t, struct child *child)
{
	thing_name(t, child->name);
	child->row = &node_dir(dir)->child;
	child->id = CHILD_ID(thing_number(t));
	child->thing = t;
}

void child_release(struct child *child)
{
	if (!child)
		return;
	thing_put(child->thing);
	child->thing = (struct thing){0};
}
