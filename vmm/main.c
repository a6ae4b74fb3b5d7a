// SPDX-License-Identifier: ISC
/*
 * filevisor-vmm: one process, one machine. Started by filevisord with a
 * listening socket as descriptor VMM_LISTEN_FD, over which it gets everything
 * it is ever to have; see src/vmm_proto.h.
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/version.h"
#include "src/vmm_proto.h"
#include "vmm/control.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/slice.h"

static int usage(void)
{
	fprintf(stderr,
		"filevisor-vmm is started by filevisord, with a listening socket as "
		"descriptor %d.\n",
		VMM_LISTEN_FD);
	return 2;
}

/* A missing 0, 1 or 2 would be given to something that is no terminal. */
static int fill_standard_fds(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return -1;
	return 0;
}

/*
 * A guest outlives the daemon, its terminal and whoever read the log. How children (hold.h) end
 * is nobody's business here: they leave nothing behind.
 */
static void ignore_signals(void)
{
	static const int signals[] = {SIGPIPE, SIGHUP, SIGINT, SIGCHLD};

	for (unsigned i = 0; i < nitems(signals); i++)
		signal(signals[i], SIG_IGN);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct title title;
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("filevisor-vmm %s\n", FILEVISOR_RELEASE);
		return 0;
	}
	if (getsockopt(VMM_LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 ||
	    !listening)
		return usage();
	if (fill_standard_fds() < 0)
		return 1;
	/* One heap for all threads: they allocate next to nothing while the guest runs. */
	mallopt(M_ARENA_MAX, 1);
	ignore_signals();
	log_open("filevisor-vmm", false);
	slice_be_short(false); /* vcpus and devices are as usual */
	title_init(&title, argc, argv);
	if (control_run(VMM_LISTEN_FD, &title, NULL, &err) < 0) {
		log_error("%s", err.text);
		return 1;
	}
	return 0;
}
