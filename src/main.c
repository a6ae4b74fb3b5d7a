// SPDX-License-Identifier: ISC
/*
 * filevisord: puts the parts together. Options, the background, signals; then
 * model_open → fsapi_mount → fsapi_run, and back in the other order.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"
#include "fsapi/fsapi.h"
#include "model.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/slice.h"
#include "version.h"

struct options {
	bool foreground;
	bool trace;
	bool no_spare;
	bool clean;
	char *fuse; /* -o, joined by commas; NULL: none */
	char *state, *run, *vmm, *mountpoint;
};

/* --- options ----------------------------------------------------------------------------- */

static void print_help(void)
{
	printf(
	    "Usage: filevisord [OPTION]... MOUNTPOINT\n"
	    "       filevisord --clean\n"
	    "Mounts a tree in which directories are virtual machines.\n\n"
	    "  -f                stay in the foreground, log to stderr\n"
	    "  -o OPTION[,...]   FUSE mount options, such as allow_other\n"
	    "      --state DIR   definitions and consoles (root: /var/lib/filevisor;\n"
	    "                    others: $XDG_STATE_HOME/filevisor)\n"
	    "      --run DIR     what is gone after a reboot (root: /run/filevisor;\n"
	    "                    others: $XDG_RUNTIME_DIR/filevisor)\n"
	    "      --vmm PATH    the program filevisor-vmm\n"
	    "      --no-spare    keep no process at the ready for the next machine\n"
	    "      --clean       mount nothing: take off the host what a daemon that was killed\n"
	    "                    left of networks, but what machines that run use\n"
	    "      --trace       print each operation on the tree in one line\n"
	    "      --help        print this text\n"
	    "      --version     print the version\n\n"
	    "SIGTERM unmounts the tree; machines run on, and the next filevisord finds them.\n"
	    "See filevisord(8); once it is mounted, see README in the tree.\n");
}

static int usage_error(const char *words)
{
	fprintf(stderr, "filevisord: %s; see filevisord --help\n", words);
	return -EINVAL;
}

static int set_path(char **option, const char *path)
{
	free(*option);
	*option = daemon_absolute(path);
	return *option ? 0 : -ENOMEM;
}

static int add_fuse_options(struct options *o, const char *more)
{
	char *joined;

	if (asprintf(&joined, "%s%s%s", o->fuse ? o->fuse : "", o->fuse ? "," : "", more) < 0)
		return -ENOMEM;
	free(o->fuse);
	o->fuse = joined;
	return 0;
}

enum {
	OPT_STATE = 256,
	OPT_RUN,
	OPT_VMM,
	OPT_NO_SPARE,
	OPT_CLEAN,
	OPT_TRACE,
	OPT_HELP,
	OPT_VERSION
};

static int take_option(struct options *o, int c)
{
	switch (c) {
	case 'f':
		o->foreground = true;
		return 0;
	case 'o':
		return add_fuse_options(o, optarg);
	case OPT_STATE:
		return set_path(&o->state, optarg);
	case OPT_RUN:
		return set_path(&o->run, optarg);
	case OPT_VMM:
		return set_path(&o->vmm, optarg);
	case OPT_NO_SPARE:
		o->no_spare = true;
		return 0;
	case OPT_CLEAN:
		o->clean = o->foreground = true;
		return 0;
	case OPT_TRACE:
		o->trace = true;
		return 0;
	case OPT_HELP:
		print_help();
		exit(0);
	case OPT_VERSION:
		printf("filevisord %s, tree format %d\n", FILEVISOR_RELEASE, FILEVISOR_VERSION);
		exit(0);
	default:
		return usage_error("unknown option, or one without its argument");
	}
}

static int take_defaults(struct options *o)
{
	if (!o->state)
		o->state = daemon_state_dir();
	if (!o->run)
		o->run = daemon_run_dir();
	if (!o->vmm)
		o->vmm = daemon_vmm_path();
	if (!o->state || !o->run)
		return usage_error(
		    "neither $XDG_STATE_HOME nor $HOME is set: give --state and --run");
	return o->vmm && (o->mountpoint || o->clean) ? 0 : usage_error("out of memory");
}

static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option options[] = {{"state", required_argument, NULL, OPT_STATE},
						{"run", required_argument, NULL, OPT_RUN},
						{"vmm", required_argument, NULL, OPT_VMM},
						{"no-spare", no_argument, NULL, OPT_NO_SPARE},
						{"clean", no_argument, NULL, OPT_CLEAN},
						{"trace", no_argument, NULL, OPT_TRACE},
						{"help", no_argument, NULL, OPT_HELP},
						{"version", no_argument, NULL, OPT_VERSION},
						{NULL, 0, NULL, 0}};
	int c, r;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "fo:h", options, NULL)) != -1) {
		r = take_option(o, c == 'h' ? OPT_HELP : c);
		if (r < 0)
			return r;
	}
	if (o->clean && optind != argc)
		return usage_error("--clean mounts nothing");
	if (!o->clean && optind + 1 != argc)
		return usage_error(optind == argc ? "no MOUNTPOINT given"
						  : "more than one MOUNTPOINT");
	r = o->clean ? 0 : set_path(&o->mountpoint, argv[optind]);
	return r < 0 ? r : take_defaults(o);
}

static void free_options(struct options *o)
{
	free(o->fuse);
	free(o->state);
	free(o->run);
	free(o->vmm);
	free(o->mountpoint);
}

/* --- signals: a thread of their own waits for them ------------------------------------------- */

struct signals {
	sigset_t set;
	pthread_t thread;
	struct fsapi *fs;
};

static void *signal_thread(void *arg)
{
	struct signals *s = arg;
	int signal = 0;

	pthread_setname_np(pthread_self(), "signals");
	while (sigwait(&s->set, &signal) == 0 && signal != SIGUSR1) {
		if (signal == SIGHUP)
			continue;
		log_info("signal %d: unmounting", signal);
		fsapi_stop(s->fs);
	}
	return NULL;
}

/* Before any thread is made, so that all of them leave these signals alone. */
static void block_signals(struct signals *s)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&s->set);
	sigaddset(&s->set, SIGTERM);
	sigaddset(&s->set, SIGINT);
	sigaddset(&s->set, SIGHUP);
	sigaddset(&s->set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &s->set, NULL);
}

/* --- the life of the daemon --------------------------------------------------------------------
 */

/* A running machine takes a few descriptors, and there may be hundreds. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("cannot raise the limit of open files: %m");
}

static int serve(struct signals *signals, struct model *model, struct fsapi *fs, struct daemon *d,
		 const struct options *o, struct err *err)
{
	int r;

	signals->fs = fs;
	r = -pthread_create(&signals->thread, NULL, signal_thread, signals);
	if (r < 0)
		return err_set(err, r, "cannot make a thread: %s", strerror(-r));
	if (!o->no_spare)
		model_keep_spare(model);
	model_autostart(model);
	if (!o->foreground)
		log_open("filevisord", true);
	log_info("%s is mounted", o->mountpoint);
	daemon_ready(d);
	r = fsapi_run(fs, err);
	daemon_notify("STOPPING=1");
	pthread_kill(signals->thread, SIGUSR1);
	pthread_join(signals->thread, NULL);
	return r;
}

static int run(const struct options *o, struct daemon *d, struct err *err)
{
	struct model_options model_options = {
	    .state_dir = o->state, .run_dir = o->run, .vmm_path = o->vmm};
	struct fsapi_options fsapi_options = {
	    .mountpoint = o->mountpoint, .fuse_opts = o->fuse, .trace = o->trace};
	struct signals signals;
	struct model *model;
	struct fsapi *fs = NULL;
	int r;

	block_signals(&signals);
	raise_limits();
	r = model_open(&model, &model_options, err);
	if (r < 0)
		return r;
	/* What nobody uses goes with the model. */
	r = o->clean ? model_idle(model, err) : fsapi_mount(&fs, model, &fsapi_options, err);
	if (r == 0 && !o->clean) {
		r = serve(&signals, model, fs, d, o, err);
		fsapi_close(fs);
	}
	model_close(model);
	return r;
}

int main(int argc, char **argv)
{
	struct daemon d = {.ready_fd = -1};
	struct options o = {0};
	struct err err = ERR_INIT;
	int r;

	umask(077);
	log_open("filevisord", false);
	slice_be_short(true);
	if (parse_options(&o, argc, argv) < 0) {
		free_options(&o);
		return 2;
	}
	r = o.foreground ? 0 : daemon_fork(&d);
	if (r < 0)
		err_set(&err, r, "cannot fork: %s", strerror(-r));
	else if (!o.foreground && chdir("/") < 0)
		r = err_set(&err, -errno, "cannot change to /: %m");
	if (r == 0)
		r = run(&o, &d, &err);
	if (r < 0)
		log_error("%s", *err.text ? err.text : strerror(-r));
	free_options(&o);
	return r < 0 ? 1 : 0;
}
