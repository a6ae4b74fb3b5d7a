// SPDX-License-Identifier: ISC
/* The state machine: which state may follow which. Who may ask for what is in commands.c. */
#include "model_int.h"
#include "util/cleanup.h"

static const char *const names[MACHINE_STATE_MAX] = {
    [MACHINE_DEFINED] = "defined", [MACHINE_STARTING] = "starting",   [MACHINE_RUNNING] = "running",
    [MACHINE_PAUSED] = "paused",   [MACHINE_SAVED] = "saved",	      [MACHINE_STOPPED] = "stopped",
    [MACHINE_CRASHED] = "crashed", [MACHINE_MIGRATING] = "migrating",
};

/*
 * A start that fails goes back to where it began. A daemon that finds a VMM
 * running begins with that machine where the daemon before it was: at `running`.
 */
static const unsigned followers[MACHINE_STATE_MAX] = {
    [MACHINE_DEFINED] = IN(MACHINE_STARTING) | IN(MACHINE_SAVED),
    [MACHINE_STARTING] = IN(MACHINE_RUNNING) | IN(MACHINE_DEFINED) | IN(MACHINE_STOPPED) |
			 IN(MACHINE_CRASHED) | IN(MACHINE_SAVED),
    [MACHINE_RUNNING] = IN(MACHINE_PAUSED) | IN(MACHINE_STOPPED) | IN(MACHINE_CRASHED),
    [MACHINE_PAUSED] =
	IN(MACHINE_RUNNING) | IN(MACHINE_STOPPED) | IN(MACHINE_CRASHED) | IN(MACHINE_SAVED),
    [MACHINE_SAVED] = IN(MACHINE_STARTING) | IN(MACHINE_STOPPED),
    [MACHINE_STOPPED] = IN(MACHINE_STARTING) | IN(MACHINE_SAVED),
    [MACHINE_CRASHED] = IN(MACHINE_STARTING) | IN(MACHINE_STOPPED) | IN(MACHINE_SAVED),
    [MACHINE_MIGRATING] = 0,
};

_Static_assert(nitems(names) == MACHINE_STATE_MAX, "a name for each state");

const char *machine_state_name(enum machine_state state)
{
	return names[state];
}

bool state_may_follow(enum machine_state from, enum machine_state to)
{
	return followers[from] & IN(to);
}
