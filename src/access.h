/* SPDX-License-Identifier: ISC */
#ifndef FV_ACCESS_H
#define FV_ACCESS_H
/* The text of a machine's `access` file: its id, its owner, and the modes of its files. */
#include "model_int.h"

struct access_file {
	char id[ID_TEXT];
	struct machine_access access;
	struct file_mode *modes;
	size_t n_modes;
};

#define FILE_MODES_MAX 4096 /* files of one machine with a mode of their own */

void access_format(const char *id, const struct machine_access *access,
		   const struct file_mode *modes, size_t n_modes, struct strbuf *sb);
/* 0, -EINVAL, -ENOMEM. Release with access_free() in any case. */
int access_parse(char *text, struct access_file *file);
void access_free(struct access_file *file);
/* These modes with one more or another one, in @copy, which shares nothing. -ENOSPC, -ENOMEM. */
int access_modes_with(const struct file_mode *modes, size_t n, const char *path, mode_t mode,
		      struct access_file *copy);

#endif
