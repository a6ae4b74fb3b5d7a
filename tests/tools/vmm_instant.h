/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_VMM_INSTANT_H
#define FV_TEST_VMM_INSTANT_H
/*
 * Of vmm_run: instants of its guest, their memory as files, and clones. What memory is made of
 * is kept in a file of lines "file PATH" and "extent GPA BYTES FILE OFFSET".
 */
#include "tests/tools/vmm_run.h"

struct map {
	struct vmm_memory head;
	struct vmm_extent extents[VMM_EXTENTS_MAX];
	char paths[VMM_MEMORY_FILES_MAX][256];
	int fds[VMM_MEMORY_FILES_MAX];
};

static void map_read(struct map *map, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[512];

	if (!f)
		die("%s: %m", path);
	memset(map, 0, sizeof(*map));
	while (fgets(line, sizeof(line), f)) {
		unsigned long long gpa, bytes, offset;
		unsigned n = map->head.n_files, file;

		if (strcmp(line, "packed\n") == 0) {
			map->head.kind = VMM_MEMORY_PACKED;
		} else if (sscanf(line, "file %255s", map->paths[n]) == 1) {
			map->fds[n] = open(map->paths[n], O_RDONLY | O_CLOEXEC);
			if (map->fds[n] < 0)
				die("%s: %m", map->paths[n]);
			map->head.n_files++;
		} else if (sscanf(line, "extent %llu %llu %u %llu", &gpa, &bytes, &file, &offset) ==
			   4) {
			map->extents[map->head.n_extents++] =
			    (struct vmm_extent){gpa, bytes, offset, file, 0};
		} else {
			die("%s: %s", path, line);
		}
	}
	fclose(f);
}

static void map_close(struct map *map)
{
	msg_close_fds(map->fds, map->head.n_files);
}

static void map_write(const struct map *map, const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		die("%s: %m", path);
	if (map->head.kind == VMM_MEMORY_PACKED)
		fprintf(f, "packed\n");
	for (unsigned i = 0; i < map->head.n_files; i++)
		fprintf(f, "file %s\n", map->paths[i]);
	for (unsigned i = 0; i < map->head.n_extents; i++) {
		const struct vmm_extent *e = &map->extents[i];

		fprintf(f, "extent %llu %llu %u %llu\n", (unsigned long long)e->gpa,
			(unsigned long long)e->bytes, e->file, (unsigned long long)e->offset);
	}
	fclose(f);
}

/* --- the instant ---------------------------------------------------------------------------- */

static int make_file(const char *dir, const char *name)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s%s%s", dir, *name ? "/" : "", name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		die("%s: %m", path);
	return fd;
}

/* !instant DIR [stay] [nomemory] */
static void instant(struct run *r, char *args)
{
	struct vmm_snapshot ask_for = {0};
	struct vmm_snapshot_done done;
	const char *dir = strsep(&args, " ");
	int pair[2], fds[3];
	int result;

	for (const char *word; (word = strsep(&args, " "));)
		ask_for.flags |= strcmp(word, "stay") == 0	 ? VMM_SNAPSHOT_STAY
				 : strcmp(word, "nomemory") == 0 ? VMM_SNAPSHOT_NO_MEMORY
								 : 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair: %m");
	fds[0] = make_file(dir, "state");
	fds[1] = make_file(dir, "registers");
	fds[2] = pair[1];
	result = ask(r, VMM_SNAPSHOT, &ask_for, sizeof(ask_for), fds,
		     ask_for.flags & VMM_SNAPSHOT_NO_MEMORY ? 2 : 3, &done, NULL, NULL);
	msg_close_fds(fds, 3);
	if (r->hold >= 0)
		close(r->hold);
	r->hold = pair[0];
	if (result < 0)
		return;
	fprintf(stderr, "instant: pause=%llu us state=%llu top=%llu vcpus=%u running=%u\n",
		(unsigned long long)done.pause_ns / 1000, (unsigned long long)done.state_bytes,
		(unsigned long long)done.ram_top, done.vcpus, done.running);
}

/* --- its holder ----------------------------------------------------------------------------- */

/* Asks the holder; the answer of that type, in @body (VMM_MSG_MAX). Its error. */
static int ask_holder(struct run *r, uint32_t type, uint32_t answer, const void *data, size_t len,
		      const int *fds, size_t n_fds, void *body)
{
	struct vmm_msg_hdr hdr = {.type = type, .seq = 1, .len = (uint32_t)len};
	static uint8_t packet[VMM_MSG_MAX];
	int ret = msg_send(r->hold, &hdr, sizeof(hdr), data, len, fds, n_fds, 0);

	while (ret == 0) {
		size_t none = 0;
		ssize_t n = msg_recv(r->hold, packet, sizeof(packet), NULL, &none, 0);

		if (n < (ssize_t)sizeof(hdr)) {
			ret = n < 0 ? (int)n : -EPIPE;
			break;
		}
		memcpy(&hdr, packet, sizeof(hdr));
		if (hdr.type != answer)
			continue;
		memcpy(body, packet + sizeof(hdr), hdr.len);
		if (hdr.error)
			fprintf(stderr, "holder: %s: %.*s\n", strerror(-hdr.error), (int)hdr.len,
				(char *)body);
		return hdr.error;
	}
	fprintf(stderr, "holder: %s\n", strerror(-ret));
	return ret;
}

/* !write raw|packed MAP FILE [MAP OF ITS PARENT] */
static void hold_write(struct run *r, char *args)
{
	static uint8_t body[VMM_MSG_MAX];
	static struct map map, parent;
	bool packed = strcmp(strsep(&args, " "), "packed") == 0;
	const char *to = strsep(&args, " "), *file = strsep(&args, " ");
	struct vmm_hold_write *m = (struct vmm_hold_write *)body;
	struct vmm_hold_done done;
	int fds[VMM_MEMORY_FILES_MAX] = {make_file(file, "")}, ret;
	struct timespec began;

	memset(&map, 0, sizeof(map));
	memset(&parent, 0, sizeof(parent));
	if (args)
		map_read(&parent, args);
	*m = (struct vmm_hold_write){.kind = packed ? VMM_MEMORY_PACKED : VMM_MEMORY_RAW,
				     .n_extents = parent.head.n_extents,
				     .n_files = parent.head.n_files};
	memcpy(m + 1, parent.extents, m->n_extents * sizeof(parent.extents[0]));
	memcpy(fds + 1, parent.fds, m->n_files * sizeof(int));
	clock_gettime(CLOCK_MONOTONIC, &began);
	ret = ask_holder(r, VMM_HOLD_WRITE, VMM_HOLD_DONE, body,
			 sizeof(*m) + m->n_extents * sizeof(parent.extents[0]), fds, 1 + m->n_files,
			 body);
	close(fds[0]);
	map_close(&parent);
	if (ret < 0)
		return;
	memcpy(&done, body, sizeof(done));
	map.head.kind = packed ? VMM_MEMORY_PACKED : VMM_MEMORY_RAW;
	map.head.n_files = 1 + parent.head.n_files;
	map.head.n_extents = done.n_extents;
	snprintf(map.paths[0], sizeof(map.paths[0]), "%s", file);
	memcpy(map.paths + 1, parent.paths, sizeof(parent.paths) - sizeof(parent.paths[0]));
	memcpy(map.extents, body + sizeof(done), done.n_extents * sizeof(map.extents[0]));
	map_write(&map, to);
	fprintf(stderr, "written: data=%llu stored=%llu extents=%u\n",
		(unsigned long long)done.data_bytes, (unsigned long long)done.stored_bytes,
		done.n_extents);
	if (r->times)
		fprintf(stderr, "%8.3f ms  to write memory\n", ms_since(&began));
}

/* A socket that listens. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 4) < 0)
		die("%s: %m", path);
	return fd;
}

/* !clone SOCKET: a VMM for `vmm_run --connect SOCKET`. */
static void hold_clone(struct run *r, const char *path)
{
	static uint8_t body[VMM_MSG_MAX];
	int fds[] = {listen_at(path), STDERR_FILENO};

	if (ask_holder(r, VMM_HOLD_CLONE, VMM_HOLD_CLONED, NULL, 0, fds, 2, body) == 0)
		fprintf(stderr, "cloned\n");
	close(fds[0]);
}

/* --- going on from one ---------------------------------------------------------------------- */

/* Instead of booting: --load STATE, with --map (none: memory is there already). */
static void send_state(struct run *r)
{
	struct vmm_load load = {.flags = (r->once ? VMM_LOAD_ONCE : 0) |
					 (r->clone ? VMM_LOAD_CLONE : 0)};
	int fd;

	if (r->map) {
		static struct map map;

		map_read(&map, r->map);
		/* The extents follow the head in memory. */
		must(r, VMM_MEMORY, &map,
		     sizeof(map.head) + map.head.n_extents * sizeof(map.extents[0]), map.fds,
		     map.head.n_files);
		map_close(&map);
	}
	memset(load.generation, 0xc1, sizeof(load.generation));
	fd = open(r->state, (r->once ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		die("%s: %m", r->state);
	must(r, VMM_LOAD, &load, sizeof(load), &fd, 1);
	close(fd);
}

#endif
