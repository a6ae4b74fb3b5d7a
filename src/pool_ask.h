/* SPDX-License-Identifier: ISC */
#ifndef FV_POOL_ASK_H
#define FV_POOL_ASK_H
/* One refresh of a pool: asking its storage (pool_ask.c), and showing what came (pool_merge.c). */
#include "pool_int.h"

/* What is known of a volume when the storage is asked. */
struct known {
	char name[VOLUME_NAME_MAX + 1];
	uint64_t id, born_ns;
	bool decided, busy, looked;
	enum image_format format;
	uint64_t next_id, next_born_ns;
	enum image_format next_format;
	uint64_t bytes;
	struct timespec changed;
};

/* One refresh: what the strand works on, nobody else's until it is done. */
struct refresh {
	struct storage *storage;
	struct known *known; /* sorted by name */
	size_t n_known;
	bool watch; /* is to be watched, too */
	/* what came */
	int watch_fd; /* -1: none */
	struct storage_list list;
	struct found {
		bool looked, decided;
		enum image_format format;
		struct volume_look look;
	} * found;
};

/* Under pool.lock: with what is known now. NULL: no storage, or no memory. */
struct refresh *refresh_new(struct pool *pool, bool watch);
void refresh_free(void *refresh);
/* On a strand: lists the storage, and looks into what is new or changed there. */
int refresh_ask(void *refresh, struct cancel *cancel, struct err *err);

/* Under pool.lock: shows what came. True where what is kept of volumes changed. */
bool refresh_merge(struct pool *pool, struct refresh *refresh);
/* Under pool.lock: nothing is shown, and why. */
void refresh_failed(struct pool *pool, const struct err *err);

#endif
