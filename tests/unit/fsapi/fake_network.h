/* SPDX-License-Identifier: ISC */
#ifndef FV_FAKE_NETWORK_H
#define FV_FAKE_NETWORK_H
/* In the place of the model's networks and cards: there are none. Included by fake_model.h. */
#include "nic.h"
#include "vsock.h"

const struct config_key network_keys[] = {
    {.name = "mode", .type = KEY_TEXT, .max = 10, .preset = "nat", .help = "a mode"}};
const size_t n_network_keys = 1;
const struct config_key nic_keys[] = {
    {.name = "network", .type = KEY_TEXT, .max = 10, .preset = "", .help = "a network"}};
const size_t n_nic_keys = 1;

#define FAKE_NO_NETWORK(result, name, ...)                                                         \
	result name(__VA_ARGS__)                                                                   \
	{                                                                                          \
		return (result)0;                                                                  \
	}
#define FAKE_SHOWS_NOTHING(name, ...)                                                              \
	void name(__VA_ARGS__)                                                                     \
	{                                                                                          \
	}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

typedef struct network *network_ref;
typedef enum network_state network_state_type;
typedef const char *const_text;
FAKE_NO_NETWORK(network_ref, model_network_get, struct model *model, const char *name)
FAKE_NO_NETWORK(network_ref, model_network_next, struct model *model, uint64_t *cursor)
FAKE_NO_NETWORK(size_t, model_network_count, struct model *model)
FAKE_NO_NETWORK(network_ref, network_get, struct network *network)
FAKE_SHOWS_NOTHING(network_put, struct network *network)
FAKE_SHOWS_NOTHING(network_name, struct network *network, char name[NETWORK_NAME_MAX + 1])
FAKE_NO_NETWORK(uint64_t, network_serial, const struct network *network)
FAKE_NO_NETWORK(bool, network_alive, struct network *network)
FAKE_NO_NETWORK(network_state_type, network_state, struct network *network)
FAKE_NO_NETWORK(const_text, network_state_name, enum network_state state)
FAKE_NO_NETWORK(int, model_network_define, struct model *model, const char *name, mode_t mode,
		const struct caller *caller, struct network **network, struct err *err)
FAKE_NO_NETWORK(int, model_network_undefine, struct model *model, struct network *network,
		const struct caller *caller, struct err *err)
FAKE_NO_NETWORK(int, model_network_rename, struct model *model, struct network *network,
		const char *name, const struct caller *caller, struct err *err)
FAKE_SHOWS_NOTHING(network_access_get, struct network *network, struct machine_access *access)
FAKE_NO_NETWORK(int, network_access_set, struct network *network,
		const struct machine_access *access, struct err *err)
FAKE_NO_NETWORK(bool, network_file_mode_get, struct network *network, const char *path,
		mode_t *mode)
FAKE_NO_NETWORK(int, network_file_mode_set, struct network *network, const char *path, mode_t mode,
		struct err *err)
FAKE_NO_NETWORK(int, network_key_show, struct network *network, const struct config_key *key,
		struct strbuf *sb)
FAKE_NO_NETWORK(int, network_key_store, struct network *network, const struct config_key *key,
		const char *text, const struct caller *caller, struct err *err)
FAKE_NO_NETWORK(int, network_config_show, struct network *network, struct strbuf *sb)
FAKE_NO_NETWORK(int, network_config_store, struct network *network, const char *text, size_t len,
		const struct caller *caller, struct err *err)
FAKE_NO_NETWORK(int, network_forwards_show, struct network *network, struct strbuf *sb)
FAKE_NO_NETWORK(int, network_forwards_check, struct network *network, const char *text, size_t len,
		const struct caller *caller, struct err *err)
FAKE_NO_NETWORK(int, network_forwards_store, struct network *network, const char *text, size_t len,
		const struct caller *caller, struct err *err)
FAKE_SHOWS_NOTHING(network_leases_show, struct network *network, struct strbuf *sb)
FAKE_SHOWS_NOTHING(network_hosts_show, struct network *network, struct strbuf *sb)
FAKE_SHOWS_NOTHING(network_bridge_show, struct network *network, struct strbuf *sb)
FAKE_NO_NETWORK(int, network_command_run, struct network *network, const char *line,
		const struct caller *caller, struct err *err)
FAKE_SHOWS_NOTHING(network_command_list, struct network *network, struct strbuf *sb)
FAKE_SHOWS_NOTHING(network_command_help, struct strbuf *sb)
FAKE_SHOWS_NOTHING(network_error_show, struct network *network, struct strbuf *sb)
FAKE_SHOWS_NOTHING(network_error_set, struct network *network, const char *what,
		   const struct err *err)
FAKE_NO_NETWORK(int, machine_vsock_path, struct machine *m, uint32_t port, struct strbuf *sb)
FAKE_NO_NETWORK(int, machine_vsock_cid_show, struct machine *m, struct strbuf *sb)
FAKE_NO_NETWORK(bool, machine_vsock_on, struct machine *m)
FAKE_NO_NETWORK(bool, machine_vsock_at, struct machine *m, size_t index, uint32_t *port)
FAKE_NO_NETWORK(int, machine_nic_add, struct machine *m, const char *name,
		const struct caller *caller, struct err *err)
FAKE_NO_NETWORK(int, machine_nic_remove, struct machine *m, const char *name,
		const struct caller *caller, struct err *err)
FAKE_NO_NETWORK(bool, machine_nic_exists, struct machine *m, const char *name)
FAKE_NO_NETWORK(bool, machine_nic_at, struct machine *m, size_t index, char name[DISK_NAME_MAX + 1])
FAKE_NO_NETWORK(int, machine_nic_key_show, struct machine *m, const char *nic,
		const struct config_key *key, struct strbuf *sb)
FAKE_NO_NETWORK(int, machine_nic_key_store, struct machine *m, const char *nic,
		const struct config_key *key, const char *text, const struct caller *caller,
		struct err *err)
FAKE_SHOWS_NOTHING(machine_nic_address_show, struct machine *m, const char *nic, struct strbuf *sb)
FAKE_SHOWS_NOTHING(machine_nic_addresses_show, struct machine *m, const char *nic,
		   struct strbuf *sb)
FAKE_NO_NETWORK(int, machine_nic_state_show, struct machine *m, const char *nic, struct strbuf *sb)
FAKE_NO_NETWORK(int, machine_nic_command_run, struct machine *m, const char *nic, const char *line,
		const struct caller *caller, struct err *err)
FAKE_SHOWS_NOTHING(machine_nic_command_list, struct machine *m, const char *nic, struct strbuf *sb)
FAKE_SHOWS_NOTHING(machine_nic_command_help, struct strbuf *sb)
FAKE_NO_NETWORK(int, machine_nic_pcap_open, struct machine *m, const char *nic)
FAKE_NO_NETWORK(int, machine_nic_pcap_stat, struct machine *m, const char *nic, uint64_t *size,
		struct timespec *mtime)

#pragma GCC diagnostic pop

struct timespec model_networks_changed(struct model *model)
{
	(void)model;
	return (struct timespec){0};
}

struct timespec network_changed(struct network *network, enum network_aspect aspect)
{
	(void)network, (void)aspect;
	return (struct timespec){0};
}

#endif
