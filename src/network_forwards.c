// SPDX-License-Identifier: ISC
/*
 * Forwards: ports of the host that are guests'. Lines "tcp|udp PORT[-PORT] MACHINE|ADDRESS [PORT]";
 * what is after '#' is a comment, and not kept. The text is replaced whole, and applies at once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "network_int.h"
#include "util/cleanup.h"
#include "util/size.h"

#define SPREAD_MAX 1024 /* ports that go to others than themselves: a rule for each */

/* --- text ---------------------------------------------------------------------------------------
 */

static int parse_port(const char *text, uint16_t *port, struct err *err)
{
	uint64_t n;

	if (uint_parse(text, 1, 65535, &n) < 0)
		return err_set(err, -EINVAL, "'%.20s' is no port: 1 to 65535", text);
	*port = (uint16_t)n;
	return 0;
}

static int parse_ports(char *text, struct network_forward *f, struct err *err)
{
	char *dash = strchr(text, '-');
	int r;

	if (dash)
		*dash++ = '\0';
	r = parse_port(text, &f->first, err);
	f->last = f->first;
	if (r == 0 && dash)
		r = parse_port(dash, &f->last, err);
	if (r == 0 && f->last < f->first)
		return err_set(err, -EINVAL, "port %u is less than %u", f->last, f->first);
	return r;
}

static int parse_target(const char *text, struct network_forward *f, struct err *err)
{
	uint8_t addr[16];

	if (strlen(text) > NETWORK_NAME_MAX ||
	    (machine_name_check(text, NULL) < 0 && inet_pton(AF_INET6, text, addr) != 1))
		return err_set(err, -EINVAL, "'%.80s' is neither a machine nor an address", text);
	strcpy(f->target, text);
	return 0;
}

static int parse_line(char *line, struct network_forward *f, struct err *err)
{
	char *words[5], *save = NULL;
	unsigned n = 0;
	int r;

	for (char *w = strtok_r(line, " \t", &save); w && n < nitems(words);
	     w = strtok_r(NULL, " \t", &save))
		words[n++] = w;
	if (n != 3 && n != 4)
		return err_set(err, -EINVAL,
			       "a line is: tcp|udp PORT[-PORT] MACHINE|ADDRESS [PORT]");
	f->udp = strcmp(words[0], "udp") == 0;
	if (!f->udp && strcmp(words[0], "tcp") != 0)
		return err_set(err, -EINVAL, "'%.20s' is neither tcp nor udp", words[0]);
	r = parse_ports(words[1], f, err);
	if (r == 0)
		r = parse_target(words[2], f, err);
	f->to_port = f->first;
	if (r == 0 && n == 4)
		r = parse_port(words[3], &f->to_port, err);
	if (r < 0)
		return r;
	if (f->to_port + (f->last - f->first) > 65535)
		return err_set(err, -ERANGE, "port %u and those that follow are too many",
			       f->to_port);
	if (f->to_port != f->first && f->last - f->first >= SPREAD_MAX)
		return err_set(err, -ERANGE, "at most %d ports go to others than themselves",
			       SPREAD_MAX);
	return 0;
}

static bool collide(const struct network_forward *a, const struct network_forward *b)
{
	return a->udp == b->udp && a->first <= b->last && b->first <= a->last;
}

/* The same port may not be two guests'. */
static int add(struct network_forward **list, size_t *n, const struct network_forward *f,
	       struct err *err)
{
	struct network_forward *more;

	for (size_t i = 0; i < *n; i++)
		if (collide(&(*list)[i], f))
			return err_set(err, -EEXIST, "%s port %u is forwarded twice",
				       f->udp ? "udp" : "tcp", f->first);
	if (*n >= FORWARDS_MAX)
		return err_set(err, -ENOSPC, "there are more than %d lines", FORWARDS_MAX);
	more = realloc(*list, (*n + 1) * sizeof(*more));
	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	*list = more;
	more[(*n)++] = *f;
	return 0;
}

int forwards_parse(const char *text, size_t len, struct network_forward **out, size_t *n_out,
		   struct err *err)
{
	_cleanup_free_ char *copy = strndup(text, len);
	struct network_forward *list = NULL;
	unsigned number = 0;
	size_t n = 0;
	int r = 0;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	if (len > FORWARDS_BYTES || memchr(text, '\0', len))
		return err_set(err, -EINVAL, "no text of forwards");
	for (char *line = copy, *next; r == 0 && line; line = next) {
		struct network_forward f = {0};

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		number++;
		line[strcspn(line, "#\r")] = '\0';
		if (line[strspn(line, " \t")] == '\0')
			continue;
		r = parse_line(line, &f, err);
		if (r == 0)
			r = add(&list, &n, &f, err);
		if (r < 0)
			err_prefix(err, "line %u", number);
	}
	if (r < 0) {
		free(list);
		return r;
	}
	*out = list;
	*n_out = n;
	return 0;
}

void forwards_format(const struct network_forward *forwards, size_t n, struct strbuf *sb)
{
	for (size_t i = 0; i < n; i++) {
		const struct network_forward *f = &forwards[i];

		strbuf_printf(sb, "%s %u", f->udp ? "udp" : "tcp", f->first);
		if (f->last != f->first)
			strbuf_printf(sb, "-%u", f->last);
		strbuf_printf(sb, " %s %u\n", f->target, f->to_port);
	}
}

struct network_forward *forwards_copy(struct network *network, size_t *n)
{
	struct network_forward *copy;

	LOCK_SCOPE(&network->lock);
	*n = network->n_forwards;
	copy = calloc(*n + 1, sizeof(*copy));
	if (copy && *n)
		memcpy(copy, network->forwards, *n * sizeof(*copy));
	return copy;
}

int forwards_must_be_free(struct networks *networks, const struct network *own,
			  const struct network_forward *forwards, size_t n, struct err *err)
{
	LOCK_SCOPE(&networks->lock);
	for (size_t i = 0; i < networks->n; i++) {
		struct network *network = networks->list[i];

		if (network == own)
			continue;
		LOCK_SCOPE(&network->lock);
		for (size_t k = 0; k < n * network->n_forwards; k++) {
			const struct network_forward *f = &forwards[k % n];

			if (collide(f, &network->forwards[k / n]))
				return err_set(err, -EEXIST,
					       "%s port %u is forwarded by network %s",
					       f->udp ? "udp" : "tcp", f->first, network->name);
		}
	}
	return 0;
}

/* --- network.h ----------------------------------------------------------------------------------
 */

int network_forwards_show(struct network *network, struct strbuf *sb)
{
	LOCK_SCOPE(&network->lock);
	forwards_format(network->forwards, network->n_forwards, sb);
	return sb->failed ? -ENOMEM : 0;
}

/* Addresses are of the network's own, or anybody's port could be made to look like the host's. */
static int check_addresses(struct network *network, const struct network_forward *forwards,
			   size_t n, struct err *err)
{
	_cleanup_values_ struct network_values *values = network_values(network);
	struct subnet v4 = {0}, v6 = {0};
	uint8_t addr[16];

	if (!values)
		return err_set(err, -ENOMEM, "out of memory");
	if (n && values->mode == MODE_BRIDGE)
		return err_set(err, -EINVAL, "a network of mode bridge forwards nothing");
	if (n && values->mode == MODE_ISOLATED)
		return err_set(err, -EINVAL, "an isolated network forwards nothing");
	if (!network_has_bridge(values))
		return 0;
	subnet_parse(values->subnet, AF_INET, &v4, NULL);
	subnet_parse(values->subnet6, AF_INET6, &v6, NULL);
	for (size_t i = 0; i < n; i++) {
		bool is4 = inet_pton(AF_INET, forwards[i].target, addr) == 1;
		bool is6 = !is4 && inet_pton(AF_INET6, forwards[i].target, addr) == 1;

		if ((is4 && !(v4.family && subnet_holds(&v4, addr))) ||
		    (is6 && !(v6.family && subnet_holds(&v6, addr))))
			return err_set(err, -EINVAL, "%s is not in the network's subnet",
				       forwards[i].target);
	}
	return 0;
}

/* What it had may be so still. Under networks.edit. (passt listens itself, and says if it cannot.)
 */
static int check_listeners(struct network *network, const struct network_forward *forwards,
			   size_t n, struct err *err)
{
	_cleanup_values_ struct network_values *values = network_values(network);

	if (!values)
		return err_set(err, -ENOMEM, "out of memory");
	if (!network_has_bridge(values))
		return 0;
	return forwards_must_not_hide(forwards, n, network->forwards, network->n_forwards, err);
}

/* passt listens with its user's rights; the host's rules are root's. */
static int may_forward(struct network *network, const struct caller *caller, struct err *err)
{
	bool may = caller->uid == 0 || caller->uid == geteuid();

	LOCK_SCOPE(&network->lock);
	if (!may && network->values->mode == MODE_USER && caller->uid == network->access.uid)
		return 0;
	return may ? 0 : err_set(err, -EPERM, "only root sets what is forwarded");
}

/* All that can be told of it before it is so. Under networks.edit. */
static int check(struct network *network, const struct network_forward *forwards, size_t n,
		 const struct caller *caller, struct err *err)
{
	int r = may_forward(network, caller, err);

	if (r == 0)
		r = network_alive(network) ? check_addresses(network, forwards, n, err)
					   : err_set(err, -ENOENT, "the network is gone");
	if (r == 0)
		r = forwards_must_be_free(network->model->networks, network, forwards, n, err);
	return r == 0 ? check_listeners(network, forwards, n, err) : r;
}

static int store(struct network *network, struct network_forward **forwards, size_t n,
		 struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r;

	forwards_format(*forwards, n, &sb);
	r = network_store_text(network, "forwards", &sb, err);
	if (r < 0)
		return r;
	LOCK_SCOPE(&network->lock);
	free(network->forwards);
	network->forwards = take_ptr(*forwards);
	network->n_forwards = n;
	network_touch(network, NETWORK_FORWARDS);
	return 0;
}

static int take(struct network *network, const char *text, size_t len, bool for_good,
		const struct caller *caller, struct err *err)
{
	_cleanup_free_ struct network_forward *forwards = NULL;
	size_t n = 0;
	int r = forwards_parse(text, len, &forwards, &n, err);

	if (r < 0)
		return r;
	LOCK_SCOPE(&network->model->networks->edit);
	r = check(network, forwards, n, caller, err);
	return r == 0 && for_good ? store(network, &forwards, n, err) : r;
}

int network_forwards_check(struct network *network, const char *text, size_t len,
			   const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = take(network, text, len, false, caller, e);

	e->code = r;
	if (r < 0)
		network_outcome(network, "forwards", e);
	return r;
}

int network_forwards_store(struct network *network, const char *text, size_t len,
			   const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = take(network, text, len, true, caller, e);

	if (r == 0)
		r = rules_apply(network->model->networks, caller->cancel, e);
	e->code = r;
	network_outcome(network, "forwards", e);
	return r;
}
