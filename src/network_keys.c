// SPDX-License-Identifier: ISC
/* The keys of a network, and their values as libconfig text: flat, each name once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_lex.h"
#include "network_int.h"
#include "util/cleanup.h"

static const char *const mode_words[] = {
    [MODE_NAT] = "nat",	      [MODE_ROUTE] = "route", [MODE_ISOLATED] = "isolated",
    [MODE_BRIDGE] = "bridge", [MODE_USER] = "user",   NULL};
static const char *const guests_words[] = {"together", "separate", NULL};
static const char *const filter_words[] = {
    [FILTER_AUTO] = "auto", [FILTER_STRICT] = "strict", [FILTER_OFF] = "off", NULL};

static int refine_subnet(const char *text, char **refined, int family, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct subnet subnet;
	int r;

	if (strcmp(text, "auto") == 0) { /* who stores it puts a free one there */
		*refined = strdup(text);
		return 0;
	}
	r = subnet_parse(text, family, &subnet, err);
	if (r < 0)
		return r;
	subnet_show(&subnet, &sb);
	*refined = subnet.family ? strbuf_steal(&sb) : strdup("");
	return 0;
}

static int refine_subnet4(const char *text, char **refined, struct err *err)
{
	return refine_subnet(text, refined, AF_INET, err);
}

static int refine_subnet6(const char *text, char **refined, struct err *err)
{
	return refine_subnet(text, refined, AF_INET6, err);
}

/* Labels of letters, digits and '-', with dots between. */
static int refine_domain(const char *text, char **refined, struct err *err)
{
	size_t label = 0;

	for (const char *p = text; *p; p++) {
		bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			      (*p >= '0' && *p <= '9');

		if (!letter && !(*p == '-' && label) && !(*p == '.' && label))
			return err_set(err, -EINVAL, "'%.80s' is no name of a domain", text);
		label = *p == '.' ? 0 : label + 1;
		if (label > 63)
			return err_set(err, -EINVAL, "a part of '%.80s' is too long", text);
	}
	if (*text && label == 0)
		return err_set(err, -EINVAL, "'%.80s' ends with a dot", text);
	*refined = strdup(text);
	return 0;
}

static int refine_interface(const char *text, char **refined, struct err *err)
{
	if (strlen(text) >= IFNAMSIZ || strpbrk(text, "/ \t:%\"\\") || *text == '.')
		return err_set(err, -EINVAL, "'%.40s' is no name of an interface", text);
	*refined = strdup(text);
	return 0;
}

#define OF(field) .offset = offsetof(struct network_values, field)

const struct config_key network_keys[] = {
    {.name = "mode",
     .type = KEY_ENUM,
     .preset = "nat",
     .words = mode_words,
     .help = "nat: a bridge of its own, out behind the host's address; route: the same with the "
	     "guests' own addresses; isolated: no way out; bridge: in the bridge `interface`, or "
	     "over it; user: without privileges",
     OF(mode)},
    {.name = "subnet",
     .type = KEY_TEXT,
     .max = 32,
     .preset = "auto",
     .help = "IPv4 subnet of nat, route and isolated, as 192.168.5.0/24, or with the host's "
	     "address in it; auto: one that nobody has",
     .refine = refine_subnet4,
     OF(subnet)},
    {.name = "subnet6",
     .type = KEY_TEXT,
     .max = 64,
     .preset = "",
     .help = "the same of IPv6, a /64; empty: none",
     .refine = refine_subnet6,
     OF(subnet6)},
    {.name = "dhcp",
     .type = KEY_BOOL,
     .preset = "true",
     .help = "guests are given their addresses by DHCP, and by router advertisements",
     OF(dhcp)},
    {.name = "dns",
     .type = KEY_BOOL,
     .preset = "true",
     .help = "the host answers names: of its guests, and what it can resolve itself",
     OF(dns)},
    {.name = "domain",
     .type = KEY_TEXT,
     .max = 253,
     .preset = "",
     .help = "domain of its guests' names; empty: names alone",
     .refine = refine_domain,
     OF(domain)},
    {.name = "interface",
     .type = KEY_TEXT,
     .max = IFNAMSIZ - 1,
     .preset = "",
     .help = "bridge: a bridge of the host's, or an interface, over which each card is a macvtap "
	     "then",
     .refine = refine_interface,
     OF(interface)},
    {.name = "vlan",
     .type = KEY_UINT,
     .min = 0,
     .max = 4094,
     .preset = "0",
     .help = "bridge: VLAN of its packets on the interface, where they bear its tag; 0: none",
     OF(vlan)},
    {.name = "host",
     .type = KEY_BOOL,
     .preset = "true",
     .help = "guests reach the host itself; false: nothing but its DHCP and DNS, or, isolated, "
	     "nothing",
     OF(host)},
    {.name = "guests",
     .type = KEY_ENUM,
     .preset = "together",
     .words = guests_words,
     .help = "whether its guests reach each other: together or separate",
     OF(guests_separate)},
    {.name = "filter",
     .type = KEY_ENUM,
     .preset = "auto",
     .words = filter_words,
     .help = "strict: what a guest sends not from its own addresses is dropped, and it can be no "
	     "DHCP server or router; off; auto: strict for nat and route",
     OF(filter)},
    {.name = "mtu",
     .type = KEY_UINT,
     .min = 0,
     .max = 65521,
     .preset = "0",
     .help = "bytes of the largest packet; 0: as the host has it",
     OF(mtu)},
    {.name = "autostart",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "started with the daemon; else with its first machine",
     OF(autostart)},
};
const size_t n_network_keys = nitems(network_keys);

/* --- values -------------------------------------------------------------------------------------
 */

static char **text_of(const struct network_values *values, const struct config_key *key)
{
	return (char **)((char *)values + key->offset);
}

struct network_values *network_values_new(void)
{
	struct network_values *values = calloc(1, sizeof(*values));

	for (size_t i = 0; values && i < n_network_keys; i++)
		if (value_parse(values, &network_keys[i], network_keys[i].preset, NULL) < 0) {
			network_values_free(values);
			return NULL;
		}
	return values;
}

struct network_values *network_values_copy(const struct network_values *from)
{
	struct network_values *values = malloc(sizeof(*values));
	bool whole = values;

	if (!values)
		return NULL;
	*values = *from;
	for (size_t i = 0; i < n_network_keys; i++)
		if (value_is_text(&network_keys[i])) {
			char *copy = strdup(*text_of(from, &network_keys[i]));

			*text_of(values, &network_keys[i]) = copy;
			whole = whole && copy;
		}
	if (whole)
		return values;
	network_values_free(values);
	return NULL;
}

void network_values_free(struct network_values *values)
{
	for (size_t i = 0; values && i < n_network_keys; i++)
		if (value_is_text(&network_keys[i]))
			free(*text_of(values, &network_keys[i]));
	free(values);
}

bool network_has_bridge(const struct network_values *values)
{
	return values->mode == MODE_NAT || values->mode == MODE_ROUTE ||
	       values->mode == MODE_ISOLATED;
}

bool network_has_dnsmasq(const struct network_values *values)
{
	return network_has_bridge(values) && (values->dhcp || values->dns) &&
	       !(values->mode == MODE_ISOLATED && !values->host);
}

bool network_strict(const struct network_values *values)
{
	return values->filter == FILTER_STRICT ||
	       (values->filter == FILTER_AUTO &&
		(values->mode == MODE_NAT || values->mode == MODE_ROUTE));
}

/* --- as text ------------------------------------------------------------------------------------
 */

void network_values_format(const struct network_values *values, struct strbuf *sb)
{
	for (size_t i = 0; i < n_network_keys; i++) {
		const struct config_key *key = &network_keys[i];
		bool quoted = value_is_text(key) || key->type == KEY_ENUM;

		/* no text of a network holds a quote or a backslash */
		strbuf_printf(sb, "%s = %s", key->name, quoted ? "\"" : "");
		value_show(values, key, sb);
		strbuf_puts(sb, quoted ? "\";\n" : ";\n");
	}
}

/* The value that the lexer stands on, as text. */
static int take_value(struct lexer *lex, struct network_values *values,
		      const struct config_key *key, const struct lex_token *name, struct err *err)
{
	const struct lex_token *t = &lex->token;
	bool string = value_is_text(key) || key->type == KEY_ENUM;
	char number[32];
	int r;

	if (t->type == LEX_BAD)
		return -EINVAL;
	if (string ? t->type != LEX_STRING
		   : t->type != (key->type == KEY_BOOL ? LEX_BOOL : LEX_INTEGER))
		return lex_error(t, err, "%s is %s", key->name,
				 string			 ? "text in quotes"
				 : key->type == KEY_BOOL ? "true or false"
							 : "a whole number");
	if (string && lex->string.len != (lex->string.data ? strlen(lex->string.data) : 0))
		return lex_error(t, err, "%s holds a NUL", key->name);
	if (t->negative && t->number)
		return lex_error(t, err, "%s is negative", key->name);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)t->number);
	r = value_parse(values, key,
			!string		   ? number
			: lex->string.data ? lex->string.data
					   : "",
			err);
	if (r < 0)
		err_prefix(err, "line %u, column %u: %s", name->line, name->column, key->name);
	return r;
}

/* One `name = value;` */
static int take_setting(struct lexer *lex, struct network_values *values, uint64_t *seen,
			struct err *err)
{
	struct lex_token name = lex->token;
	size_t i = 0;
	int r;

	if (name.type == LEX_BAD)
		return -EINVAL;
	if (name.type != LEX_NAME)
		return lex_error(&name, err, "a name of a setting should be here");
	while (i < n_network_keys && (strlen(network_keys[i].name) != name.len ||
				      memcmp(network_keys[i].name, name.start, name.len) != 0))
		i++;
	if (i == n_network_keys)
		return lex_error(&name, err, "a network has no %.*s",
				 (int)(name.len > 40 ? 40 : name.len), name.start);
	if (*seen & (1ull << i))
		return lex_error(&name, err, "%s a second time", network_keys[i].name);
	*seen |= 1ull << i;
	if (lex_next(lex, err) != LEX_ASSIGN)
		return lex->token.type == LEX_BAD
			   ? -EINVAL
			   : lex_error(&lex->token, err, "'=' should be here");
	lex_next(lex, err);
	r = take_value(lex, values, &network_keys[i], &name, err);
	if (r == 0 && lex_next(lex, err) == LEX_COMMA)
		lex_next(lex, err);
	return r;
}

int network_values_parse(const char *text, size_t len, struct network_values **out, struct err *err)
{
	_cleanup_values_ struct network_values *values = network_values_new();
	uint64_t seen = 0;
	struct lexer lex;
	int r = 0;

	if (!values)
		return err_set(err, -ENOMEM, "out of memory");
	if (len > CONFIG_MAX)
		return err_set(err, -EFBIG, "%zu bytes are too many", len);
	lex_init(&lex, text, len);
	lex_next(&lex, err);
	while (r == 0 && lex.token.type != LEX_END)
		r = take_setting(&lex, values, &seen, err);
	lex_free(&lex);
	if (r == 0)
		*out = take_ptr(values);
	return r;
}
