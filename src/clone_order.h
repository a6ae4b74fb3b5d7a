/* SPDX-License-Identifier: ISC */
#ifndef FV_CLONE_ORDER_H
#define FV_CLONE_ORDER_H
/* What is written behind `clone`: NEW [COUNT] [KEY=VALUE…], understood without any machine. */
#include "definition.h"

#define CLONES_MAX	1000 /* by one command */
#define CLONE_WORDS_MAX 48   /* KEY=VALUE, of one command */

/* A value that the new machines have instead of that of where they come from. */
struct clone_override {
	char *key;   /* path of its file in the machine's directory */
	char *value; /* as one writes it there */
};

struct clone_order {
	char base[MACHINE_NAME_MAX + 1];
	unsigned count; /* 0: one, whose name is @base; else base1 … baseCOUNT */
	struct clone_override overrides[CLONE_WORDS_MAX];
	unsigned n_overrides;
};

/*
 * @text: all behind the command's name. A value, or a part of one, may stand in double quotes
 * (then \" and \\ are what they say). -EINVAL, -ERANGE with words. Free it in any case.
 */
int clone_order_parse(const char *text, struct clone_order *order, struct err *err);
void clone_order_free(struct clone_order *order);
/* How many machines. */
unsigned clone_order_count(const struct clone_order *order);
/* The name of the @i'th, from 0. */
void clone_order_name(const struct clone_order *order, unsigned i, char name[MACHINE_NAME_MAX + 1]);
/*
 * Makes @def (not shared yet) what the new machines are to be: not started by themselves, network
 * cards without addresses, then the overrides. @resumed: their guests go on from memory, and
 * what those have seen of their machine cannot be another. 0, or as of a write to that file, with
 * words that begin with the key.
 */
int clone_order_apply(const struct clone_order *order, struct definition *def, bool resumed,
		      struct err *err);

#endif
