/* SPDX-License-Identifier: ISC */
#ifndef FV_FAKE_INTERFACES_H
#define FV_FAKE_INTERFACES_H
/* In the place of the host's interfaces: there are none. Included by fake_model.h. */
#include "interfaces.h"

const struct interface_key interface_keys[] = {{.name = "type", .help = "a type"}};
const size_t n_interface_keys = 1;

#define FAKE_NO_INTERFACE(result, name, ...)                                                       \
	result name(__VA_ARGS__)                                                                   \
	{                                                                                          \
		return (result)0;                                                                  \
	}
#define FAKE_INTERFACES_SAY_NOTHING(name, ...)                                                     \
	void name(__VA_ARGS__)                                                                     \
	{                                                                                          \
	}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

typedef struct interface *interface_ref;
FAKE_NO_INTERFACE(interface_ref, model_interface_get, struct model *model, const char *name)
FAKE_NO_INTERFACE(interface_ref, model_interface_next, struct model *model, uint64_t *cursor)
FAKE_NO_INTERFACE(size_t, model_interface_count, struct model *model)
FAKE_NO_INTERFACE(int, model_interface_make, struct model *model, const char *name,
		  const struct caller *caller, struct interface **i, struct err *err)
FAKE_NO_INTERFACE(int, model_interface_remove, struct model *model, struct interface *i,
		  const struct caller *caller, struct err *err)
FAKE_NO_INTERFACE(int, model_interface_rename, struct model *model, struct interface *i,
		  const char *name, const struct caller *caller, struct err *err)
FAKE_NO_INTERFACE(interface_ref, interface_get, struct interface *i)
FAKE_INTERFACES_SAY_NOTHING(interface_put, struct interface *i)
FAKE_INTERFACES_SAY_NOTHING(interface_name, struct interface *i, char name[INTERFACE_NAME_MAX + 1])
FAKE_NO_INTERFACE(uint64_t, interface_serial, const struct interface *i)
FAKE_NO_INTERFACE(bool, interface_alive, struct interface *i)
FAKE_NO_INTERFACE(int, interface_key_show, struct interface *i, const struct interface_key *key,
		  struct strbuf *sb)
FAKE_NO_INTERFACE(int, interface_key_check, struct interface *i, const struct interface_key *key,
		  const char *text, const struct caller *caller, struct err *err)
FAKE_NO_INTERFACE(int, interface_key_store, struct interface *i, const struct interface_key *key,
		  const char *text, const struct caller *caller, struct err *err)
FAKE_NO_INTERFACE(int, interfaces_command_run, struct model *model, const char *line,
		  const struct caller *caller, struct err *err)
FAKE_INTERFACES_SAY_NOTHING(interfaces_command_list, struct model *model, struct strbuf *sb)
FAKE_INTERFACES_SAY_NOTHING(interfaces_command_help, struct strbuf *sb)
FAKE_INTERFACES_SAY_NOTHING(interfaces_error_show, struct model *model, struct strbuf *sb)
FAKE_INTERFACES_SAY_NOTHING(interfaces_error_set, struct model *model, const char *what,
			    const struct err *err)
FAKE_INTERFACES_SAY_NOTHING(interfaces_trial_show, struct model *model, struct strbuf *sb)

#pragma GCC diagnostic pop

struct timespec model_interfaces_changed(struct model *model)
{
	(void)model;
	return (struct timespec){0};
}

struct timespec interface_changed(struct interface *i, enum interface_aspect aspect)
{
	(void)i, (void)aspect;
	return (struct timespec){0};
}

struct timespec interfaces_told(struct model *model)
{
	(void)model;
	return (struct timespec){0};
}

#endif
