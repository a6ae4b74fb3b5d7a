/* SPDX-License-Identifier: ISC */
#ifndef SNAPSHOT_TEST_H
#define SNAPSHOT_TEST_H
/* Snapshots, disks and memory for tests of the model. */
#include "model_test.h"

#include "content.h"
#include "save.h"
#include "snapshot_int.h"

#define DISK_BYTES (1u << 20)
#define MEM_ID	   "11111111-2222-4333-8444-555555555555"
#define SNAP_ID	   "aaaaaaaa-2222-4333-8444-555555555555"

static inline struct snapshot *take(struct machine *m, const char *name)
{
	struct snapshot *s = NULL;
	struct err err = ERR_INIT;

	if (machine_snapshot_make(m, name, &root_caller, &s, &err) < 0)
		fail_msg("snapshot %s: %s", name, err.text);
	return s;
}

static inline struct snapshot *need(struct machine *m, const char *name)
{
	struct snapshot *s = machine_snapshot_get(m, name);

	if (!s)
		fail_msg("no snapshot %s", name);
	return s;
}

static inline void make_dir(struct fixture *f, const char *path)
{
	char full[300];

	snprintf(full, sizeof(full), "%s/%s", f->root, path);
	if (mkdir(full, 0700) < 0)
		assert_int_equal(errno, EEXIST);
}

static inline void make_disk(struct fixture *f, struct machine *m, const char *disk, char fill)
{
	_cleanup_free_ char *bytes = malloc(DISK_BYTES);
	char path[200];
	struct err err = ERR_INIT;
	int fd;

	snprintf(path, sizeof(path), "%s/%s.raw", f->root, disk);
	unlink(path); /* whoever had the one before may still be ending */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	memset(bytes, fill, DISK_BYTES);
	assert_int_equal(file_write_all(fd, bytes, DISK_BYTES), 0);
	close(fd);
	assert_int_equal(machine_disk_add(m, disk, &root_caller, &err), 0);
	if (machine_disk_source_set(m, disk, path, "raw", &root_caller, &err) < 0)
		fail_msg("%s: %s", path, err.text);
}

static inline void fill_disk(struct machine *m, const char *disk, char fill)
{
	_cleanup_free_ char *bytes = malloc(DISK_BYTES);
	struct content *content = NULL;
	struct err err = ERR_INIT;
	int r = -EBUSY;

	memset(bytes, fill, DISK_BYTES);
	/* who looked at it may not have closed it yet */
	for (int i = 0; i < 1000 && r == -EBUSY; i++) {
		r = machine_disk_content_open(m, disk, true, &root_caller, &content, &err);
		if (r == -EBUSY)
			usleep(10000);
	}
	if (r < 0)
		fail_msg("%s: %s", disk, err.text);
	assert_int_equal(content_write(content, bytes, DISK_BYTES, 0), 0);
	assert_int_equal(content_close(content), 0);
}

/* Takes the content. */
static inline void assert_filled(struct content *content, char fill)
{
	char *bytes = malloc(DISK_BYTES);

	assert_int_equal(content_size(content), DISK_BYTES);
	assert_int_equal(content_read(content, bytes, DISK_BYTES, 0), DISK_BYTES);
	for (size_t i = 0; i < DISK_BYTES; i++)
		if (bytes[i] != fill)
			fail_msg("byte %zu is %02x, not %02x", i, bytes[i], fill);
	content_close(content);
	free(bytes);
}

static inline void assert_disk(struct machine *m, const char *disk, char fill)
{
	struct content *content = NULL;
	struct err err = ERR_INIT;

	if (machine_disk_content_open(m, disk, false, &root_caller, &content, &err) < 0)
		fail_msg("%s: %s", disk, err.text);
	assert_filled(content, fill);
}

static inline void make_memory(struct fixture *f, uint64_t bytes)
{
	char path[200];
	int fd;

	make_dir(f, "state/layers");
	snprintf(path, sizeof(path), "%s/state/layers/" MEM_ID ".mem", f->root);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(file_pwrite_all(fd, "here", 4, 8192), 0);
	close(fd);
}

/* A state as far as the daemon looks at it: not used. */
static inline void write_state(struct fixture *f, const char *path)
{
	char bytes[128] = VMM_STATE_MAGIC, full[200];
	int fd;

	snprintf(full, sizeof(full), "%s/%s", f->root, path);
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, bytes, sizeof(bytes)), 0);
	close(fd);
}

static inline void assert_snapshot_disk(struct machine *m, const char *name, const char *disk,
					char fill)
{
	_cleanup_(snapshot_putp) struct snapshot *s = need(m, name);
	struct content *content = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(snapshot_disk_size(s, disk), DISK_BYTES);
	if (snapshot_disk_content_open(s, disk, &root_caller, &content, &err) < 0)
		fail_msg("%s of %s: %s", disk, name, err.text);
	assert_filled(content, fill);
}

#endif
