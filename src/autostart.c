// SPDX-License-Identifier: ISC
/* Networks and machines with autostart = true, started one after the other with the daemon. */
#define LOG_MODULE "autostart"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "model_int.h"
#include "networks.h"
#include "util/cleanup.h"
#include "util/log.h"

static bool wants_start(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->alive && m->def->values.autostart && !m->vmm && m->state != MACHINE_STARTING;
}

static void *autostart_thread(void *arg)
{
	struct model *model = arg;
	struct caller self = {.uid = geteuid(), .gid = getegid(), .cancel = &model->stopping};
	uint64_t cursor = 0;
	struct machine *next;

	pthread_setname_np(pthread_self(), "autostart");
	networks_autostart(model->networks);
	while (!cancel_requested(&model->stopping) && (next = model_machine_next(model, &cursor))) {
		_cleanup_machine_ struct machine *m = next;
		struct err err = ERR_INIT;
		char name[MACHINE_NAME_MAX + 1];

		if (!wants_start(m) || machine_command_run(m, "start", &self, &err) == 0)
			continue;
		machine_name(m, name);
		log_error("machine %s: %s %s", name, err_name(err.code), err.text);
	}
	return NULL;
}

void model_autostart(struct model *model)
{
	int r = pthread_create(&model->autostart, NULL, autostart_thread, model);

	model->autostarting = r == 0;
	if (r)
		log_error("cannot start machines: %s", strerror(r));
}
