// SPDX-License-Identifier: ISC
/*
 * Definitions as libconfig text: settings `name = value;` and groups. Which
 * names there are, and of what type, is said by the tables of keys; so the
 * parser expects at each place what the table says, nests no deeper than
 * disks and network cards do, and needs no tree. libconfig has the last word on what is its
 * format: it reads what passed, which by then is bounded and includes nothing.
 */
#include <errno.h>
#include <libconfig.h>
#include <stdio.h>
#include <string.h>

#include "config_lex.h"
#include "definition.h"
#include "util/cleanup.h"

/* --- out ----------------------------------------------------------------------------- */

static void format_string(const char *s, struct strbuf *sb)
{
	strbuf_putc(sb, '"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			strbuf_putc(sb, '\\');
		strbuf_putc(sb, *s);
	}
	strbuf_putc(sb, '"');
}

/* In the largest unit that is exact. */
static void format_size(uint64_t bytes, struct strbuf *sb)
{
	static const char *const units[] = {"", "K", "M", "G", "T", "P"};
	size_t unit = 0;

	while (bytes && bytes % 1024 == 0 && unit + 1 < nitems(units)) {
		bytes /= 1024;
		unit++;
	}
	strbuf_printf(sb, "\"%llu%s\"", (unsigned long long)bytes, units[unit]);
}

static void format_values(const void *values, const struct config_key *keys, size_t n,
			  const char *indent, struct strbuf *sb)
{
	for (size_t i = 0; i < n; i++) {
		strbuf_printf(sb, "%s%s = ", indent, keys[i].name);
		if (value_is_text(&keys[i]))
			format_string(value_text(values, &keys[i]), sb);
		else if (keys[i].type == KEY_ENUM)
			format_string(keys[i].words[value_number(values, &keys[i])], sb);
		else if (keys[i].type == KEY_SIZE)
			format_size(value_number(values, &keys[i]), sb);
		else
			value_show(values, &keys[i], sb);
		strbuf_puts(sb, ";\n");
	}
}

void config_format(const struct definition *def, struct strbuf *sb)
{
	format_values(&def->values, machine_keys, n_machine_keys, "", sb);
	strbuf_puts(sb, "disks = {\n");
	for (size_t i = 0; i < def->n_disks; i++) {
		strbuf_printf(sb, "  %s = {\n", def->disks[i].name);
		format_values(&def->disks[i].values, disk_keys, n_disk_keys, "    ", sb);
		strbuf_puts(sb, "  };\n");
	}
	strbuf_puts(sb, "};\n");
	if (def->n_nics)
		strbuf_puts(sb, "nics = {\n");
	for (size_t i = 0; i < def->n_nics; i++) {
		strbuf_printf(sb, "  %s = {\n", def->nics[i].name);
		format_values(&def->nics[i].values, nic_keys, n_nic_keys, "    ", sb);
		strbuf_puts(sb, "  };\n");
	}
	if (def->n_nics)
		strbuf_puts(sb, "};\n");
}

/* --- in ------------------------------------------------------------------------------ */

struct parser {
	struct lexer lex; /* stands on the token to be looked at */
	struct definition *def;
	bool parts_seen[2]; /* of part_groups[] */
	struct err *err;
};

/* What a group's settings are: a table of keys, and what to do with a name that is no key. */
struct group {
	const struct config_key *keys;
	const size_t *n_keys;
	int (*other)(struct parser *p, const struct lex_token *name);
};

static int unexpected(struct parser *p, const char *wanted)
{
	const struct lex_token *t = &p->lex.token;

	if (t->type == LEX_BAD)
		return -EINVAL; /* the words are there */
	if (t->type == LEX_END)
		return lex_error(t, p->err, "the text ends where %s should be", wanted);
	return lex_error(t, p->err, "'%.*s' where %s should be", (int)(t->len > 40 ? 40 : t->len),
			 t->start, wanted);
}

static int expect(struct parser *p, enum lex_type type, const char *wanted)
{
	if (p->lex.token.type != type)
		return unexpected(p, wanted);
	lex_next(&p->lex, p->err);
	return 0;
}

/* "line L, column C: NAME: " before the words of a value that is refused. */
static int refused(struct parser *p, const struct lex_token *name, int code)
{
	err_prefix(p->err, "line %u, column %u: %.*s", name->line, name->column,
		   (int)(name->len > 40 ? 40 : name->len), name->start);
	return code;
}

static int take_integer(void *values, const struct config_key *key, const struct lex_token *t,
			struct err *err)
{
	if (t->negative && t->number)
		return err_set(err, -ERANGE, "a negative number");
	return value_set_number(values, key, t->number, err);
}

/* A value for @key; -EINVAL "… is wanted" where it is of another type. */
static int take_value(struct parser *p, void *values, const struct config_key *key,
		      const struct lex_token *name)
{
	static const struct {
		bool integer, boolean, string;
		const char *words;
	} types[] = {
	    [KEY_UINT] = {true, false, false, "a whole number"},
	    [KEY_SIZE] = {true, false, true, "a size (bytes, or as \"512M\")"},
	    [KEY_BOOL] = {false, true, false, "true or false"},
	    [KEY_ENUM] = {false, false, true, "a word in quotes"},
	    [KEY_TEXT] = {false, false, true, "text in quotes"},
	    [KEY_PATH] = {false, false, true, "a path in quotes"},
	};
	const struct lex_token *t = &p->lex.token;
	int r;

	if (t->type == LEX_INTEGER && types[key->type].integer)
		r = take_integer(values, key, t, p->err);
	else if (t->type == LEX_BOOL && types[key->type].boolean)
		r = value_parse(values, key, t->number ? "true" : "false", p->err);
	else if (t->type == LEX_STRING && types[key->type].string)
		r = value_parse(values, key, p->lex.string.data, p->err);
	else if (t->type <= LEX_NAME || t->type >= LEX_COMMA || t->type == LEX_ASSIGN ||
		 t->type == LEX_CLOSE)
		return unexpected(p, "a value");
	else
		r = err_set(p->err, -EINVAL, "%s is wanted", types[key->type].words);
	if (r < 0)
		return refused(p, name, r);
	lex_next(&p->lex, p->err);
	return 0;
}

/* Settings up to the end of the group. @seen has a flag for each key, all false. */
static int take_settings(struct parser *p, const struct group *g, void *values, bool *seen,
			 enum lex_type end)
{
	while (p->lex.token.type != end) {
		struct lex_token name = p->lex.token;
		const struct config_key *key = NULL;
		int r = expect(p, LEX_NAME, "the name of a setting");

		if (r < 0 || (r = expect(p, LEX_ASSIGN, "'='")) < 0)
			return r;
		for (size_t i = 0; i < *g->n_keys && !key; i++)
			if (strlen(g->keys[i].name) == name.len &&
			    memcmp(g->keys[i].name, name.start, name.len) == 0)
				key = &g->keys[i];
		if (key && seen[key - g->keys])
			return lex_error(&name, p->err, "%s is set twice", key->name);
		if (key) {
			seen[key - g->keys] = true;
			r = take_value(p, values, key, &name);
		} else {
			r = g->other(p, &name);
		}
		if (r < 0)
			return r;
		if (p->lex.token.type == LEX_COMMA)
			lex_next(&p->lex, p->err);
	}
	return 0;
}

static int no_such_key(struct parser *p, const struct lex_token *name)
{
	return lex_error(name, p->err, "%.*s: there is no such key",
			 (int)(name->len > 40 ? 40 : name->len), name->start);
}

#define PART_KEYS_MAX 32

static const struct group disk_group = {disk_keys, &n_disk_keys, no_such_key};
static const struct group nic_group = {nic_keys, &n_nic_keys, no_such_key};

/* { settings } of the part @token, of which definition_add_…() has made @r. */
static int take_part(struct parser *p, const struct lex_token *token, int r, const struct group *g,
		     void *values, bool seen[PART_KEYS_MAX])
{
	if (r < 0)
		return refused(p, token, r == -EEXIST ? -EINVAL : r);
	r = expect(p, LEX_OPEN, "'{' (it is a group)");
	if (r == 0)
		r = take_settings(p, g, values, seen, LEX_CLOSE);
	return r == 0 ? expect(p, LEX_CLOSE, "'}'") : r;
}

/* NAME = { settings } of disks = { }. */
static int take_disk(struct parser *p, const struct lex_token *token)
{
	char name[DISK_NAME_MAX + 2];
	bool seen[PART_KEYS_MAX] = {0};
	struct disk *disk = NULL;
	int r;

	snprintf(name, sizeof(name), "%.*s", (int)token->len, token->start);
	r = definition_add_disk(p->def, name, &disk, p->err);
	r = take_part(p, token, r, &disk_group, disk ? &disk->values : NULL, seen);
	for (size_t i = 0; r == 0 && i < n_disk_keys; i++)
		if (strcmp(disk_keys[i].name, "format") == 0)
			disk->format_given = seen[i];
	return r;
}

/* The same of nics = { }. */
static int take_nic(struct parser *p, const struct lex_token *token)
{
	char name[DISK_NAME_MAX + 2];
	bool seen[PART_KEYS_MAX] = {0};
	struct nic *nic = NULL;
	int r;

	snprintf(name, sizeof(name), "%.*s", (int)token->len, token->start);
	r = definition_add_nic(p->def, name, &nic, p->err);
	return take_part(p, token, r, &nic_group, nic ? &nic->values : NULL, seen);
}

static const size_t no_keys;

static const struct {
	const char *name;
	struct group group;
} part_groups[] = {
    {"disks", {disk_keys, &no_keys, take_disk}},
    {"nics", {nic_keys, &no_keys, take_nic}},
};

static int take_parts(struct parser *p, const struct lex_token *name)
{
	size_t i = 0;
	int r;

	while (i < nitems(part_groups) && (strlen(part_groups[i].name) != name->len ||
					   memcmp(part_groups[i].name, name->start, name->len)))
		i++;
	if (i == nitems(part_groups))
		return no_such_key(p, name);
	if (p->parts_seen[i])
		return lex_error(name, p->err, "%s is set twice", part_groups[i].name);
	p->parts_seen[i] = true;
	if (p->lex.token.type != LEX_OPEN && p->lex.token.type != LEX_BAD) {
		r = err_set(p->err, -EINVAL, "a group of %s is wanted: { NAME = { … }; }",
			    part_groups[i].name);
		return refused(p, name, r);
	}
	r = expect(p, LEX_OPEN, "'{'");
	if (r == 0)
		r = take_settings(p, &part_groups[i].group, NULL, NULL, LEX_CLOSE);
	return r == 0 ? expect(p, LEX_CLOSE, "'}'") : r;
}

/* -EINVAL for what libconfig does not read, so that its other users can read every definition. */
static int check_format(const char *text, size_t len, struct err *err)
{
	_cleanup_free_ char *copy = NULL;
	config_t config;
	int r = 0;

	/* The newline is for a comment at the end, which libconfig wants to end in one. */
	if (asprintf(&copy, "%.*s\n", (int)len, text) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	config_init(&config);
	if (config_read_string(&config, copy) != CONFIG_TRUE)
		r = err_set(err, -EINVAL, "line %d, column 1: libconfig: %s",
			    config_error_line(&config), config_error_text(&config));
	config_destroy(&config);
	return r;
}

static const struct group machine_group = {machine_keys, &n_machine_keys, take_parts};

int config_parse(const char *text, size_t len, struct definition **out, struct err *err)
{
	_cleanup_definition_ struct definition *def = definition_new();
	struct parser p = {.def = def, .err = err};
	bool seen[ASPECT_MAX - ASPECT_KEY0] = {0};
	bool empty;
	int r;

	if (!def)
		return err_set(err, -ENOMEM, "out of memory");
	if (len > CONFIG_MAX)
		return err_set(err, -EFBIG, "%zu bytes are more than %u", len, CONFIG_MAX);
	lex_init(&p.lex, text, len);
	empty = lex_next(&p.lex, err) == LEX_END;
	r = take_settings(&p, &machine_group, &def->values, seen, LEX_END);
	lex_free(&p.lex);
	if (r == 0 && !empty) /* which libconfig takes for an error */
		r = check_format(text, len, err);
	if (r == 0)
		r = definition_check(def, err);
	if (r == 0)
		*out = take_ptr(def);
	return r;
}
