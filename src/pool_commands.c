// SPDX-License-Identifier: ISC
/* A pool as the subject of commands, and their table. */
#include "command.h"
#include "util/cleanup.h"

static const struct command pool_commands[] = {};
static const size_t n_pool_commands = nitems(pool_commands);

const struct subject_ops pool_subject_ops = {.commands = pool_commands,
					     .n_commands = &n_pool_commands};
