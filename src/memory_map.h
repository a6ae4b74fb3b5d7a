/* SPDX-License-Identifier: ISC */
#ifndef FV_MEMORY_MAP_H
#define FV_MEMORY_MAP_H
/*
 * The memory of a guest that stands still somewhere on disk: which bytes of which layers
 * (layer.h, ID.mem) it is made of. As text, a line each:
 *
 *	memory 1 raw|packed BYTES		size: first address behind RAM
 *	file ID					at most VMM_MEMORY_FILES_MAX; their numbers from 0
 *	extent GPA BYTES FILE OFFSET		raw: at most VMM_EXTENTS_MAX, ascending
 */
#include "layer.h"
#include "vmm_proto.h"

struct memory_map {
	enum vmm_memory_kind kind;
	uint64_t bytes; /* first address behind RAM */
	unsigned n_files;
	char files[VMM_MEMORY_FILES_MAX][ID_TEXT];
	unsigned n_extents;
	struct vmm_extent extents[VMM_EXTENTS_MAX];
};

void memory_map_format(const struct memory_map *map, struct strbuf *sb);
/* One in *@map, freed with free(). -EINVAL with words. */
int memory_map_parse(const char *text, size_t len, struct memory_map **map, struct err *err);
/* Extents as they came from a holder or a file: ascending, aligned, within @bytes, of its files. */
int memory_map_check(const struct memory_map *map, struct err *err);
/* References of its files. */
void memory_map_get(struct model *model, const struct memory_map *map);
void memory_map_put(struct model *model, const struct memory_map *map);
/* Its files, opened for reading, in @fds (n_files). On failure none is. */
int memory_map_open(struct model *model, const struct memory_map *map,
		    int fds[VMM_MEMORY_FILES_MAX], struct err *err);
/*
 * Its bytes as a file, read-only: what no extent says reads as zeroes, with SEEK_HOLE. Takes @fds.
 */
int memory_map_content(const struct memory_map *map, int fds[VMM_MEMORY_FILES_MAX],
		       struct content **content, struct err *err);

#endif
