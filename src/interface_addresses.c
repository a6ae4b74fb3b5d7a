// SPDX-License-Identifier: ISC
/*
 * Addresses of an interface: written as a whole, so that those that stay are never away for a
 * moment: new ones are added first, then what is no longer wanted is removed. What IPv6 gives each
 * interface by itself (fe80::) stays unless another of its kind is written.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "interfaces_int.h"
#include "util/cleanup.h"
#include "util/size.h"

#define ADDRESSES_MAX 256 /* of one interface, in one write */

int address_parse(const char *text, struct host_address *address, struct err *err)
{
	char host[INET6_ADDRSTRLEN] = "";
	const char *slash = strchr(text, '/');
	uint64_t prefix;

	memset(address, 0, sizeof(*address));
	address->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (slash && (size_t)(slash - text) < sizeof(host))
		memcpy(host, text, (size_t)(slash - text));
	if (!slash || inet_pton(address->family, host, address->addr) != 1 ||
	    uint_parse(slash + 1, 1, address->family == AF_INET ? 32 : 128, &prefix) < 0)
		return err_set(err, -EINVAL, "'%.60s' is no address with its prefix (10.0.0.1/24)",
			       text);
	address->prefix = (unsigned)prefix;
	return 0;
}

void address_show(const struct host_address *address, struct strbuf *sb)
{
	char text[INET6_ADDRSTRLEN];

	if (inet_ntop(address->family, address->addr, text, sizeof(text)))
		strbuf_printf(sb, "%s/%u", text, address->prefix);
}

bool address_same(const struct host_address *a, const struct host_address *b)
{
	return a->family == b->family && a->prefix == b->prefix &&
	       memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

bool address_of_link(const struct host_address *address)
{
	return address->family == AF_INET6 && address->addr[0] == 0xfe &&
	       (address->addr[1] & 0xc0) == 0x80;
}

static int append(struct address_list *list, const struct host_address *address)
{
	void *more = realloc(list->list, (list->n + 1) * sizeof(*address));

	if (!more)
		return -ENOMEM;
	list->list = more;
	list->list[list->n++] = *address;
	return 0;
}

static int take(const struct host_address *address, void *arg)
{
	struct address_list *list = arg;

	return address->index == list->index ? append(list, address) : 0;
}

int addresses_of(int index, struct address_list *list)
{
	*list = (struct address_list){.index = index};
	return host_addresses(take, list);
}

static bool holds(const struct address_list *list, const struct host_address *address)
{
	for (size_t i = 0; i < list->n; i++)
		if (address_same(&list->list[i], address))
			return true;
	return false;
}

/* One a line, or with blanks or commas between. */
static int parse(const char *text, struct address_list *list, struct err *err)
{
	_cleanup_free_ char *copy = strdup(text);
	struct host_address address;
	char *save = NULL;
	int r = copy ? 0 : err_set(err, -ENOMEM, "out of memory");

	for (char *word = copy ? strtok_r(copy, " \t\n,", &save) : NULL; r == 0 && word;
	     word = strtok_r(NULL, " \t\n,", &save)) {
		r = address_parse(word, &address, err);
		address.index = list->index;
		if (r == 0 && list->n == ADDRESSES_MAX)
			r = err_set(err, -ENOSPC, "more than %d addresses", ADDRESSES_MAX);
		if (r == 0 && !holds(list, &address) && append(list, &address) < 0)
			r = err_set(err, -ENOMEM, "out of memory");
	}
	return r;
}

static bool has_link_address(const struct address_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (address_of_link(&list->list[i]))
			return true;
	return false;
}

/* Of the first @n those that are new: taken away again. */
static void take_back(const struct address_list *wanted, const struct address_list *present,
		      size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!holds(present, &wanted->list[i]))
			host_address_remove(&wanted->list[i], NULL);
}

static int apply(const struct address_list *wanted, const struct address_list *present,
		 struct err *err)
{
	bool keep = !has_link_address(wanted);
	int r = 0;

	for (size_t i = 0; i < wanted->n; i++) {
		if (holds(present, &wanted->list[i]))
			continue;
		r = host_address_add(&wanted->list[i], err);
		if (r < 0 && r != -EEXIST) {
			take_back(wanted, present, i);
			return r;
		}
	}
	r = 0;
	for (size_t i = 0; i < present->n; i++) {
		const struct host_address *old = &present->list[i];
		int one;

		if (holds(wanted, old) || (keep && address_of_link(old)))
			continue;
		one = host_address_remove(old, err);
		/* With the first of a subnet the kernel may remove its others. */
		if (one < 0 && one != -EADDRNOTAVAIL && r == 0)
			r = one;
	}
	/* So that those it took with it that are wanted come back. */
	for (size_t i = 0; r == 0 && i < wanted->n; i++) {
		r = host_address_add(&wanted->list[i], err);
		if (r == -EEXIST)
			r = 0;
	}
	return r;
}

int interface_check_addresses(const char *text, struct err *err)
{
	struct address_list list = {0};
	int r = parse(text, &list, err);

	free(list.list);
	return r;
}

int interface_set_addresses(struct interface *i, const char *text, struct err *err)
{
	struct address_list wanted = {0}, present = {0};
	struct host_link link;
	int r = interface_link(i, &link, err);

	wanted.index = link.index;
	if (r == 0)
		r = parse(text, &wanted, err);
	if (r == 0) {
		r = addresses_of(link.index, &present);
		if (r < 0)
			err_set(err, r, "%s: %s", link.name, strerror(-r));
	}
	if (r == 0)
		r = apply(&wanted, &present, err);
	free(wanted.list);
	free(present.list);
	return r;
}
