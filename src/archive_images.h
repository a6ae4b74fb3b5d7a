/* SPDX-License-Identifier: ISC */
#ifndef FV_ARCHIVE_IMAGES_H
#define FV_ARCHIVE_IMAGES_H
/*
 * Files that came with an archive, in STATE/images/ (0711; the files 0600 and of their machine's
 * owner, who names them in the definition as he does any file):
 *
 *	ID-DISK.qcow2		ID: of the machine that was made from an archive
 *	ID-kernel, ID-initrd
 *	.new-ID-…		while the archive is read; the next daemon removes it
 *
 * They are the machine's own: they go with it, unless something else (a clone's disk) is over
 * them by then; in that case when that has gone.
 */
#include "archive.h"
#include "model_int.h"

#define ARCHIVE_FILE_MAX (ID_TEXT + DISK_NAME_MAX + 16)

struct archive_file {
	char name[ARCHIVE_FILE_MAX]; /* without .new- */
	int fd;			     /* read and write */
	bool placed;
};

/* --- archive_images.c ------------------------------------------------------------------------- */

/* STATE/images, made where @make; a descriptor or -errno. */
int archive_files_dir(struct model *model, bool make);
/* Its path, absolute. -errno. */
int archive_files_path(int dir, char *path, size_t size);
/* A new one, hidden: @suffix as above ("DISK.qcow2"). -errno with words. */
int archive_file_make(int dir, struct machine *m, const char *suffix, struct archive_file *file,
		      struct err *err);
/* Synced, the owner's, under its name. -errno with words; not durable before the directory is. */
int archive_file_place(int dir, struct machine *m, struct archive_file *file, struct err *err);
/* Closes it; removes it where @remove. */
void archive_file_close(int dir, struct archive_file *file, bool remove);

/* --- archive_images_sweep.c ------------------------------------------------------------------- */

/*
 * Removes what belongs to no machine any more and is named by nothing. @start: nothing is being
 * read yet, so that halves go, too. Where it cannot be told, nothing goes.
 */
void archive_images_sweep(struct model *model, bool start);

#endif
