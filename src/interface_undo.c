// SPDX-License-Identifier: ISC
/*
 * What was tried with the host's interfaces is put back, in this order: those made are removed;
 * those removed are made again, over and over until none follows, as one may be over another; then
 * names, masters, mtu, mac, up or down, addresses, and at last routes, which the kernel drops with
 * the interface or the address that they go through. Whatever others did to the host meanwhile
 * stays. What cannot be put back does not keep the rest from being; the first such is told.
 */
#define LOG_MODULE "interface"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interfaces_int.h"
#include "util/cleanup.h"
#include "util/log.h"

/* The first thing that went wrong is what is told. */
static void went_wrong(int *first, struct err *err, int r, const char *name, const struct err *why)
{
	log_warn("%s is not put back: %s", name, why->text);
	if (*first == 0)
		*first = err_set(err, r, "%s is not put back: %s", name, why->text);
}

static void remove_made(struct interfaces *all, int *first, struct err *err)
{
	const struct trial *trial = all->trial;

	for (size_t k = trial->head.n; k > 0; k--) {
		const struct note_head *head = &trial->notes[k - 1].head;
		struct err why = ERR_INIT;
		struct host_link link;
		int r;

		if (head->kind != NOTE_MADE || host_link_find(head->link.name, 0, &link) < 0 ||
		    !interfaces_made(all, &link) ||
		    trial_has_note(trial, NOTE_WAS, link.index, NULL))
			continue;
		r = host_link_remove(link.index, &why);
		if (r < 0 && r != -ENODEV)
			went_wrong(first, err, r, link.name, &why);
	}
}

/* By its number, or one of ours that has its name. */
static int find(struct interfaces *all, const struct note_head *head, struct host_link *link)
{
	int r = host_link_find(NULL, head->link.index, link);

	if (r == 0)
		return 0;
	r = host_link_find(head->link.name, 0, link);
	return r == 0 && !interfaces_made(all, link) ? -EEXIST : r;
}

/* Makes those that are missing; whether any was made. */
static bool make_missing(struct interfaces *all, bool last, int *first, struct err *err)
{
	bool some = false;

	for (size_t k = 0; k < all->trial->head.n; k++) {
		const struct note_head *head = &all->trial->notes[k].head;
		struct err why = ERR_INIT;
		struct host_link link;
		int r;

		if (head->kind != NOTE_WAS || find(all, head, &link) != -ENODEV)
			continue;
		if (strcmp(head->link.alias, all->alias) != 0)
			r = err_set(&why, -ENODEV, "it has vanished");
		else
			r = interface_make(all, interface_type(&head->link), head->link.name,
					   head->lower, head->link.vlan, &why);
		some = some || r >= 0;
		if (r < 0 && last)
			went_wrong(first, err, r, head->link.name, &why);
	}
	return some;
}

static void set_one(int *first, struct err *err, const struct host_link *link,
		    const struct host_link_set *set)
{
	struct err why = ERR_INIT;
	int r = host_link_set(link->index, set, &why);

	if (r < 0)
		went_wrong(first, err, r, link->name, &why);
}

/* Some kernels rename only what is down. */
static int rename_link(int index, const char *name, struct err *err)
{
	struct host_link_set down = HOST_LINK_SET, set = HOST_LINK_SET;

	set.name = name;
	if (host_link_set(index, &set, NULL) == 0)
		return 0;
	down.up = 0;
	host_link_set(index, &down, NULL);
	return host_link_set(index, &set, err);
}

/* Whoever has its name now and is to have another one: they may have exchanged theirs. */
static void make_way(const struct trial *trial, const char *name)
{
	struct host_link link;
	char aside[IFNAMSIZ];

	if (host_link_find(name, 0, &link) < 0)
		return;
	for (size_t k = 0; k < trial->head.n; k++) {
		const struct note_head *head = &trial->notes[k].head;

		if (head->kind != NOTE_WAS || head->link.index != link.index ||
		    strcmp(head->link.name, name) == 0)
			continue;
		snprintf(aside, sizeof(aside), "fvold%d", link.index % 1000000);
		rename_link(link.index, aside, NULL);
	}
}

static void put_name(const struct trial *trial, const struct note_head *head,
		     const struct host_link *link, int *first, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	if (strcmp(link->name, head->link.name) == 0)
		return;
	make_way(trial, head->link.name);
	r = rename_link(link->index, head->link.name, &why);
	if (r < 0)
		went_wrong(first, err, r, link->name, &why);
}

static void put_master(const struct note_head *head, const struct host_link *link, int *first,
		       struct err *err)
{
	struct host_link_set set = HOST_LINK_SET, down = HOST_LINK_SET;
	struct host_link master = {0};

	if (*head->master && host_link_find(head->master, 0, &master) < 0) {
		struct err why = ERR_INIT;

		err_set(&why, -ENODEV, "there is no %s any more", head->master);
		went_wrong(first, err, -ENODEV, link->name, &why);
		return;
	}
	if (link->master == master.index)
		return;
	down.up = 0;
	if (strcmp(master.kind, "bond") == 0)
		host_link_set(link->index, &down, NULL);
	set.master = master.index;
	set_one(first, err, link, &set);
}

/* Some cards take another mac only while they are down. */
static void put_mac(const struct note_head *head, const struct host_link *link, int *first,
		    struct err *err)
{
	struct host_link_set set = HOST_LINK_SET, down = HOST_LINK_SET;
	static const uint8_t none[6];

	if (memcmp(link->mac, head->link.mac, sizeof(link->mac)) == 0 ||
	    memcmp(head->link.mac, none, sizeof(none)) == 0)
		return;
	set.mac = head->link.mac;
	if (host_link_set(link->index, &set, NULL) == 0)
		return;
	down.up = 0;
	host_link_set(link->index, &down, NULL);
	set_one(first, err, link, &set);
}

static void put_link(const struct note_head *head, const struct host_link *link, int *first,
		     struct err *err)
{
	struct host_link_set mtu = HOST_LINK_SET, up = HOST_LINK_SET;

	put_master(head, link, first, err);
	mtu.mtu = head->link.mtu;
	if (link->mtu != head->link.mtu)
		set_one(first, err, link, &mtu);
	put_mac(head, link, first, err);
	up.up = (head->link.flags & IFF_UP) != 0;
	set_one(first, err, link, &up);
}

static bool among(const struct host_address *address, const struct host_address *list, size_t n)
{
	for (size_t k = 0; k < n; k++)
		if (address_same(address, &list[k]))
			return true;
	return false;
}

static void put_addresses(const struct note *note, const struct host_link *link, int *first,
			  struct err *err)
{
	struct address_list now;
	struct err why = ERR_INIT;

	if (addresses_of(link->index, &now) < 0)
		now.n = 0;
	for (size_t k = 0; k < now.n; k++)
		if (!address_of_link(&now.list[k]) &&
		    !among(&now.list[k], note->addresses, note->head.n_addresses))
			host_address_remove(&now.list[k], NULL);
	/* Each, as the kernel may have removed one with another. */
	for (size_t k = 0; k < note->head.n_addresses; k++) {
		struct host_address address = note->addresses[k];
		int r;

		address.index = link->index;
		r = address_of_link(&address) ? 0 : host_address_add(&address, &why);
		if (r < 0 && r != -EEXIST)
			went_wrong(first, err, r, link->name, &why);
	}
	free(now.list);
}

/* The way to a router is before what lies behind it: once more for those that came too early. */
static void put_routes(const struct note *note, const struct host_link *link, int *first,
		       struct err *err)
{
	for (int round = 0; round < 2; round++)
		for (size_t k = 0; k < note->head.n_routes; k++) {
			struct host_route route = note->routes[k];
			struct err why = ERR_INIT;
			int r;

			route.index = link->index;
			r = host_route_add(&route, &why);
			if (r < 0 && r != -EEXIST && round == 1)
				went_wrong(first, err, r, link->name, &why);
		}
}

enum step { STEP_NAME, STEP_LINK, STEP_ADDRESSES, STEP_ROUTES, STEPS };

static void put_step(struct interfaces *all, enum step step, int *first, struct err *err)
{
	for (size_t k = 0; k < all->trial->head.n; k++) {
		const struct note *note = &all->trial->notes[k];
		struct host_link link;

		if (note->head.kind != NOTE_WAS || find(all, &note->head, &link) < 0)
			continue;
		switch (step) {
		case STEP_NAME:
			put_name(all->trial, &note->head, &link, first, err);
			break;
		case STEP_LINK:
			put_link(&note->head, &link, first, err);
			break;
		case STEP_ADDRESSES:
			put_addresses(note, &link, first, err);
			break;
		case STEP_ROUTES:
			if (note->head.link.flags & IFF_UP)
				put_routes(note, &link, first, err);
			break;
		case STEPS:
			break;
		}
	}
}

int trial_undo(struct interfaces *all, struct err *err)
{
	char count[24];
	int first = 0;

	snprintf(count, sizeof(count), "%u", all->trial->head.n);
	remove_made(all, &first, err);
	while (make_missing(all, false, &first, err))
		;
	make_missing(all, true, &first, err);
	for (enum step step = STEP_NAME; step < STEPS; step++)
		put_step(all, step, &first, err);
	trial_end(all);
	interfaces_look(all);
	interfaces_event(all, "interfaces-put-back", NULL, "changes", count, NULL);
	return first;
}
