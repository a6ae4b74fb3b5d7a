// SPDX-License-Identifier: ISC
/*
 * trycall CALL ARGUMENT…: makes one system call, or opens, writes and closes a
 * file, and prints "ok" or which call failed with which errno ("write
 * EBUSY"): what a shell's own tools do not tell apart. Always ends with 0, for
 * tests compare what it printed.
 *
 *	trycall write FILE TEXT        open(O_WRONLY|O_TRUNC), write(TEXT and a newline), close
 *	trycall write-raw FILE TEXT    the same without the newline, backslash escapes undone
 *	trycall append FILE TEXT       with O_APPEND
 *	trycall pwrite FILE TEXT OFFS  at an offset
 *	trycall bytewise FILE TEXT     one write a byte, then the newline
 *	trycall twice FILE A B         two writes on one descriptor
 *	trycall fill FILE BYTES CHAR   one open, BYTES times CHAR in writes of 128 KiB, close
 *	trycall line FILE BYTES CHAR   BYTES times CHAR and a newline in one write
 *	trycall read FILE              all of it, thrown away
 *	trycall mkdir|rmdir|unlink|create|mknod|fifo|truncate PATH
 *	trycall rename|link|symlink FROM TO
 *	trycall chmod PATH MODE; trycall chown PATH UID
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"

static int result(const char *call, int failed)
{
	if (failed)
		printf("%s %s\n", call, err_name(errno));
	else
		printf("ok\n");
	return 0;
}

/* \n, \0, \xHH in place; the length. */
static size_t unescape(char *s)
{
	char *out = s;

	for (char *p = s; *p; p++) {
		unsigned value;

		if (*p != '\\') {
			*out++ = *p;
		} else if (*++p == 'n') {
			*out++ = '\n';
		} else if (*p == '0') {
			*out++ = '\0';
		} else if (*p == 'x' && sscanf(p + 1, "%2x", &value) == 1) {
			*out++ = (char)value;
			p += 2;
		} else {
			*out++ = *p;
		}
	}
	return (size_t)(out - s);
}

struct piece {
	const char *data;
	size_t len;
};

/* A short count is an error of its own: the tree takes a write whole. */
static int write_pieces(const char *file, int flags, off_t offset, const struct piece *pieces,
			size_t n)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC | flags);

	if (fd < 0)
		return result("open", 1);
	if (offset && lseek(fd, offset, SEEK_SET) < 0)
		return result("seek", 1);
	for (size_t i = 0; i < n; i++) {
		ssize_t done = write(fd, pieces[i].data, pieces[i].len);

		if (done >= 0 && (size_t)done != pieces[i].len) {
			printf("write SHORT\n");
			return 0;
		}
		if (done < 0) {
			result("write", 1);
			close(fd);
			return 0;
		}
	}
	return result("close", close(fd) < 0);
}

static int bytewise(const char *file, const char *text)
{
	size_t len = strlen(text);
	_cleanup_free_ struct piece *pieces = calloc(len + 1, sizeof(*pieces));

	for (size_t i = 0; i < len; i++)
		pieces[i] = (struct piece){text + i, 1};
	pieces[len] = (struct piece){"\n", 1};
	return write_pieces(file, O_TRUNC, 0, pieces, len + 1);
}

static int fill(const char *file, size_t bytes, char c)
{
	const size_t piece_len = 131072;
	size_t n = bytes / piece_len;
	_cleanup_free_ char *data = malloc(piece_len);
	_cleanup_free_ struct piece *pieces = calloc(n + 1, sizeof(*pieces));

	memset(data, c, piece_len);
	for (size_t i = 0; i <= n; i++)
		pieces[i] = (struct piece){data, i < n ? piece_len : bytes % piece_len};
	return write_pieces(file, O_TRUNC, 0, pieces, n + 1);
}

static int one_line(const char *file, size_t bytes, char c)
{
	_cleanup_free_ char *data = malloc(bytes + 1);

	memset(data, c, bytes);
	data[bytes] = '\n';
	return write_pieces(file, O_TRUNC, 0, &(struct piece){data, bytes + 1}, 1);
}

static int with_newline(const char *file, int flags, off_t offset, const char *text)
{
	_cleanup_free_ char *line = NULL;
	int len = asprintf(&line, "%s\n", text);

	return write_pieces(file, flags, offset, &(struct piece){line, (size_t)len}, 1);
}

static int read_all(const char *file)
{
	char buf[65536];
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return result("open", 1);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	if (n < 0)
		return result("read", 1);
	return result("close", close(fd) < 0);
}

static int create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd >= 0)
		close(fd);
	return result("create", fd < 0);
}

static int path_call(const char *call, const char *path)
{
	if (strcmp(call, "mkdir") == 0)
		return result(call, mkdir(path, 0755) < 0);
	if (strcmp(call, "rmdir") == 0)
		return result(call, rmdir(path) < 0);
	if (strcmp(call, "unlink") == 0)
		return result(call, unlink(path) < 0);
	if (strcmp(call, "create") == 0)
		return create(path);
	if (strcmp(call, "mknod") == 0)
		return result(call, mknod(path, S_IFREG | 0644, 0) < 0);
	if (strcmp(call, "fifo") == 0)
		return result(call, mkfifo(path, 0644) < 0);
	if (strcmp(call, "truncate") == 0)
		return result(call, truncate(path, 0) < 0);
	if (strcmp(call, "read") == 0)
		return read_all(path);
	return 2;
}

static int pair_call(const char *call, char *a, char *b)
{
	if (strcmp(call, "write") == 0)
		return with_newline(a, O_TRUNC, 0, b);
	if (strcmp(call, "append") == 0)
		return with_newline(a, O_APPEND, 0, b);
	if (strcmp(call, "write-raw") == 0)
		return write_pieces(a, O_TRUNC, 0, &(struct piece){b, unescape(b)}, 1);
	if (strcmp(call, "bytewise") == 0)
		return bytewise(a, b);
	if (strcmp(call, "rename") == 0)
		return result(call, rename(a, b) < 0);
	if (strcmp(call, "link") == 0)
		return result(call, link(a, b) < 0);
	if (strcmp(call, "symlink") == 0)
		return result(call, symlink(a, b) < 0);
	if (strcmp(call, "chmod") == 0)
		return result(call, chmod(a, (mode_t)strtoul(b, NULL, 8)) < 0);
	if (strcmp(call, "chown") == 0)
		return result(call, chown(a, (uid_t)atoi(b), (gid_t)-1) < 0);
	return 2;
}

int main(int argc, char **argv)
{
	const char *call = argc > 1 ? argv[1] : "";
	int ret = 2;

	if (argc == 3)
		ret = path_call(call, argv[2]);
	else if (argc == 4)
		ret = pair_call(call, argv[2], argv[3]);
	else if (argc == 5 && strcmp(call, "pwrite") == 0)
		ret = with_newline(argv[2], 0, atoll(argv[4]), argv[3]);
	else if (argc == 5 && strcmp(call, "fill") == 0)
		ret = fill(argv[2], strtoull(argv[3], NULL, 10), argv[4][0]);
	else if (argc == 5 && strcmp(call, "line") == 0)
		ret = one_line(argv[2], strtoull(argv[3], NULL, 10), argv[4][0]);
	else if (argc == 5 && strcmp(call, "twice") == 0)
		ret = write_pieces(
		    argv[2], O_TRUNC, 0,
		    (struct piece[]){{argv[3], unescape(argv[3])}, {argv[4], unescape(argv[4])}},
		    2);
	if (ret == 2)
		fprintf(stderr, "trycall: see the comment at the top of %s\n", __FILE__);
	return ret;
}
