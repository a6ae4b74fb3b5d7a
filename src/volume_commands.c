// SPDX-License-Identifier: ISC
/* A volume as the subject of commands, and their table. */
#include "command.h"
#include "util/cleanup.h"

static const struct command volume_commands[] = {};
static const size_t n_volume_commands = nitems(volume_commands);

const struct subject_ops volume_subject_ops = {.commands = volume_commands,
					       .n_commands = &n_volume_commands};
