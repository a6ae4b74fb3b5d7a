// SPDX-License-Identifier: ISC
/* Who owns a machine and what the modes of its files are; kept in its `access` file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "access.h"
#include "util/cleanup.h"
#include "vmm.h"
#include "vsock_int.h"

/* --- the file: "id UUID", "uid N", "gid N", "mode 0755", "file 0666 ctl" … --------------- */

void access_format(const char *id, const struct machine_access *access,
		   const struct file_mode *modes, size_t n_modes, struct strbuf *sb)
{
	strbuf_printf(sb, "id %s\nuid %u\ngid %u\nmode %04o\n", id, access->uid, access->gid,
		      access->mode);
	for (size_t i = 0; i < n_modes; i++)
		strbuf_printf(sb, "file %04o %s\n", modes[i].mode, modes[i].path);
}

/* Whole @text in that base, up to @max. */
static int number(const char *text, int base, unsigned long max, unsigned long *value)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*value = strtoul(text, &end, base);
	return errno || *end || *value > max ? -EINVAL : 0;
}

static bool is_id(const char *text)
{
	size_t n = text ? strlen(text) : 0;

	return n == ID_TEXT - 1 && strspn(text, "0123456789abcdef-") == n;
}

static int add_mode(struct file_mode **modes, size_t *n, const char *path, mode_t mode)
{
	struct file_mode *more = realloc(*modes, (*n + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	*modes = more;
	more[*n].mode = mode;
	more[*n].path = strdup(path);
	if (!more[*n].path)
		return -ENOMEM;
	(*n)++;
	return 0;
}

enum { HAS_ID = 1, HAS_UID = 2, HAS_GID = 4, HAS_MODE = 8, HAS_ALL = 15 };

static int parse_line(const char *key, const char *value, char *rest, struct access_file *file,
		      unsigned *has)
{
	unsigned long n = 0;

	if (strcmp(key, "id") == 0 && is_id(value)) {
		strcpy(file->id, value);
		*has |= HAS_ID;
	} else if (strcmp(key, "uid") == 0 && number(value, 10, UINT32_MAX - 1, &n) == 0) {
		file->access.uid = (uid_t)n;
		*has |= HAS_UID;
	} else if (strcmp(key, "gid") == 0 && number(value, 10, UINT32_MAX - 1, &n) == 0) {
		file->access.gid = (gid_t)n;
		*has |= HAS_GID;
	} else if (strcmp(key, "mode") == 0 && number(value, 8, 07777, &n) == 0) {
		file->access.mode = (mode_t)n;
		*has |= HAS_MODE;
	} else if (strcmp(key, "file") == 0 && number(value, 8, 07777, &n) == 0 && rest && *rest &&
		   file->n_modes < FILE_MODES_MAX) {
		return add_mode(&file->modes, &file->n_modes, rest, (mode_t)n);
	} else {
		return -EINVAL;
	}
	return 0;
}

int access_parse(char *text, struct access_file *file)
{
	unsigned has = 0;
	char *next;

	for (char *line = text; *line; line = next) {
		char *save = NULL, *key, *value;
		int r;

		next = strchr(line, '\n');
		if (!next)
			return -EINVAL; /* the last line is torn */
		*next++ = '\0';
		key = strtok_r(line, " ", &save);
		value = strtok_r(NULL, " ", &save);
		r = key ? parse_line(key, value, save, file, &has) : -EINVAL;
		if (r < 0)
			return r;
	}
	return has == HAS_ALL ? 0 : -EINVAL;
}

void access_free(struct access_file *file)
{
	for (size_t i = 0; i < file->n_modes; i++)
		free(file->modes[i].path);
	free(file->modes);
	file->modes = NULL;
	file->n_modes = 0;
}

/* --- a machine's ------------------------------------------------------------------------ */

void machine_access_get(struct machine *m, struct machine_access *access)
{
	LOCK_SCOPE(&m->lock);
	*access = m->access;
}

int machine_access_set(struct machine *m, const struct machine_access *access, struct err *err)
{
	int r;

	LOCK_SCOPE(&m->edit);
	if (!machine_alive(m))
		return err_set(err, -ENOENT, "the machine is gone");
	r = store_access(m, access, m->modes, m->n_modes, err); /* modes change under edit only */
	if (r < 0)
		return r;
	LOCK_SCOPE(&m->lock);
	m->access = *access;
	if (m->vmm) {
		vmm_own_tty(m->vmm, access);
		vmm_vsock_own(m->vmm, access);
	}
	machine_touch(m, ASPECT_ACCESS, NULL);
	return 0;
}

static struct file_mode *find_mode(struct machine *m, const char *path)
{
	for (size_t i = 0; i < m->n_modes; i++)
		if (strcmp(m->modes[i].path, path) == 0)
			return &m->modes[i];
	return NULL;
}

bool machine_file_mode_get(struct machine *m, const char *path, mode_t *mode)
{
	struct file_mode *found;

	LOCK_SCOPE(&m->lock);
	found = find_mode(m, path);
	if (found)
		*mode = found->mode;
	return found;
}

int access_modes_with(const struct file_mode *modes, size_t n, const char *path, mode_t mode,
		      struct access_file *copy)
{
	bool found = false;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		bool same = strcmp(modes[i].path, path) == 0;

		found |= same;
		r = add_mode(&copy->modes, &copy->n_modes, modes[i].path,
			     same ? mode : modes[i].mode);
	}
	if (r == 0 && !found)
		r = copy->n_modes < FILE_MODES_MAX
			? add_mode(&copy->modes, &copy->n_modes, path, mode)
			: -ENOSPC;
	return r;
}

int machine_file_mode_set(struct machine *m, const char *path, mode_t mode, struct err *err)
{
	struct access_file copy = {0}, old;
	int r;

	if (!*path || strpbrk(path, " \n"))
		return err_set(err, -EINVAL, "no such file");
	LOCK_SCOPE(&m->edit);
	if (!machine_alive(m))
		return err_set(err, -ENOENT, "the machine is gone");
	r = access_modes_with(m->modes, m->n_modes, path, mode & 07777, &copy);
	if (r < 0)
		err_set(err, r, "too many files with modes of their own");
	if (r == 0)
		r = store_access(m, &m->access, copy.modes, copy.n_modes, err);
	if (r < 0) {
		access_free(&copy);
		return r;
	}
	pthread_mutex_lock(&m->lock);
	old.modes = m->modes;
	old.n_modes = m->n_modes;
	m->modes = copy.modes;
	m->n_modes = copy.n_modes;
	machine_touch(m, ASPECT_ACCESS, NULL);
	pthread_mutex_unlock(&m->lock);
	access_free(&old);
	return 0;
}
