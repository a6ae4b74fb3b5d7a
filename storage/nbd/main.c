// SPDX-License-Identifier: ISC
/*
 * filevisor-nbd: holds one network disk for who is at the other end of descriptor 3 (see
 * storage/nbd.h, nbd_proto.h), or lists what a server exports. Started by filevisord:
 *
 *	filevisor-nbd [--uid N --gid N --groups N,…] --attach URI [EXPORT] [--readonly]
 *	filevisor-nbd [--uid N --gid N --groups N,…] --list URI
 *
 * It becomes a process of its own, which outlives the daemon, and the user for whom it works,
 * for good, before it opens anything.
 */
#define LOG_MODULE "nbd"
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "storage/nbd/serve.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/size.h"

#define GROUPS_MAX 65536

struct options {
	struct target target;
	bool list, attach;
	bool as_user;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t n_groups;
};

static void die(const char *what)
{
	fprintf(stderr, "filevisor-nbd: %s\n", what);
	exit(2);
}

static unsigned id_of(const char *text)
{
	uint64_t id;

	if (uint_parse(text, 0, UINT32_MAX - 1, &id) < 0)
		die("bad number of a user or group");
	return (unsigned)id;
}

static void parse_groups(struct options *o, char *text)
{
	char *save = NULL;

	o->groups = calloc(GROUPS_MAX, sizeof(*o->groups));
	if (!o->groups)
		die("out of memory");
	for (char *g = strtok_r(text, ",", &save); g; g = strtok_r(NULL, ",", &save)) {
		if (o->n_groups == GROUPS_MAX)
			die("too many groups");
		o->groups[o->n_groups++] = id_of(g);
	}
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
	    {"list", required_argument, NULL, 'l'},
	    {"attach", required_argument, NULL, 'a'},
	    {"readonly", no_argument, NULL, 'r'},
	    {"uid", required_argument, NULL, 'u'},
	    {"gid", required_argument, NULL, 'g'},
	    {"groups", required_argument, NULL, 'G'},
	    {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (c == 'l' || c == 'a') {
			*(c == 'l' ? &o->list : &o->attach) = true;
			o->target.uri = optarg;
		} else if (c == 'r') {
			o->target.readonly = true;
		} else if (c == 'u') {
			o->as_user = true;
			o->uid = id_of(optarg);
		} else if (c == 'g') {
			o->gid = id_of(optarg);
		} else if (c == 'G') {
			parse_groups(o, optarg);
		} else {
			exit(2);
		}
	}
	if (o->list == o->attach || argc > optind + 1)
		die("usage: filevisor-nbd --list URI | --attach URI [EXPORT] [--readonly]");
	o->target.export = argv[optind];
}

/* For good: real, effective and saved ids, so that nothing brings root back. */
static void become(const struct options *o)
{
	struct passwd *user;

	if (o->as_user && geteuid() == 0) {
		if (setgroups(o->n_groups, o->groups) < 0 ||
		    setresgid(o->gid, o->gid, o->gid) < 0 || setresuid(o->uid, o->uid, o->uid) < 0)
			die("cannot become the user");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("cannot give up privileges");
	/* where libnbd looks for keys that the URI does not name */
	user = getpwuid(getuid());
	if (user && user->pw_dir)
		setenv("HOME", user->pw_dir, 1);
	else
		unsetenv("HOME");
}

/* Who started us shall not have to wait for us, and need not be there any more. */
static void become_own_process(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("cannot fork");
	if (pid > 0)
		_exit(0);
	setsid();
	if (chdir("/") < 0)
		die("cannot go to /");
	signal(SIGPIPE, SIG_IGN);
	close_range(NBD_LINK_FD + 1, ~0u, 0);
}

/* A daemon in the background gives us no stderr worth writing to. */
static bool stderr_is_null(void)
{
	struct stat st;

	return fstat(STDERR_FILENO, &st) < 0 ||
	       (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct stat st;

	parse(&o, argc, argv);
	if (fstat(NBD_LINK_FD, &st) < 0 || !S_ISSOCK(st.st_mode))
		die("descriptor 3 is no socket: this program is filevisord's");
	become_own_process();
	become(&o);
	free(o.groups);
	log_open("filevisor-nbd", stderr_is_null());
	if (o.list)
		list_exports(&o.target, NBD_LINK_FD);
	else
		serve(&o.target, NBD_LINK_FD);
	return 0;
}
