// SPDX-License-Identifier: ISC
/*
 * vmm_run: plays the daemon's side of src/vmm_proto.h for one filevisor-vmm.
 *
 *	vmm_run [OPTIONS] KERNEL
 *	  --vmm PROGRAM   filevisor-vmm (else beside this program's build)
 *	  --initrd FILE   --cmdline TEXT   --cpus N   --memory MIB   --queues N
 *	  --disk [ro:|qcow2:|none:|writethrough:|unsafe:|report:|pause:|ignore:]…FILE
 *	  --tap INTERFACE its network card is nic0 on this tap
 *	  --hugepages     --on-reboot|--on-poweroff|--on-crash stop|restart
 *	  --uid N         whom the VMM becomes when root
 *	  --log FILE      console goes there (else to a temporary file)
 *	  --time          says how long each step of the start took, and ends
 *	  --until TEXT    ends well when the console has printed this
 *	  --timeout S     ends badly after so many seconds
 *	  --hold          ends not when the guest has, but at quit
 *	  --load STATE    goes on from an instant instead of booting, with --once and --clone,
 *	  --map MAP       with that memory (none: it is there, as in a clone)
 *	  --connect SOCK  does not start a VMM: one of !clone is there
 *	  --malformed N   first sends N packets of random bytes, each over a connection of its own
 *
 * The console goes to stdout. Lines of stdin that begin with '!' are commands, others are typed:
 *
 *	!pause !resume !reset !power !quit !stats !reconnect !sleep MS
 *	!regs N !input TEXT
 *	!attach NAME [WORD:]…FILE   !detach NAME   !take NAME (by force)   !resize NAME BYTES
 *	!link 0|1   !capture [FILE]
 *	!instant DIR [stay] [nomemory]   its state and registers, files in DIR; its memory is held
 *	!stage NAME FILE   a new image that !instant puts over the disk   !freeze NAME
 *	!merge NAME KEEP FILE   FILE, below the top KEEP layers, goes into what is below it
 *	!write raw|packed MAP FILE [MAP] writes that (what differs from the other), notes it in MAP
 *	!kill           kills the VMM (then only commands of the holder work, and !end)
 *	!clone SOCKET   has its holder fork a VMM that serves SOCKET   !release   lets the holder
 *end !disk NAME attached|detached   !console TEXT   wait until it is so
 *
 * Events are shown on stderr. Exit status: 0 powered off, reached TEXT or quit; 3 reboot, 4 crash,
 * 5 fault, 6 time, 1 for errors.
 */
#include "tests/tools/vmm_instant.h"
#include "tests/tools/vmm_nic.h"
#include "tests/tools/vmm_run.h"
#include "tests/tools/vmm_stage.h"

static void spawn(struct run *r)
{
	int listener;

	r->address.sun_family = AF_UNIX;
	if (r->connect) {
		snprintf(r->address.sun_path, sizeof(r->address.sun_path), "%s", r->connect);
		return;
	}
	snprintf(r->address.sun_path, sizeof(r->address.sun_path), "/tmp/vmm_run.%d", getpid());
	listener = listen_at(r->address.sun_path);
	r->pid = fork();
	if (r->pid < 0)
		die("fork: %m");
	if (r->pid == 0) {
		if (listener == VMM_LISTEN_FD)
			fcntl(listener, F_SETFD, 0);
		else
			dup2(listener, VMM_LISTEN_FD);
		execl(r->vmm, "filevisor-vmm", NULL);
		die("%s: %m", r->vmm);
	}
	close(listener);
}

static void reconnect(struct run *r)
{
	if (r->sock >= 0)
		close(r->sock);
	r->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(r->sock, (struct sockaddr *)&r->address, sizeof(r->address)) < 0)
		die("connect: %m");
}

static void hello(struct run *r)
{
	struct vmm_hello hello = {VMM_PROTO_VERSION};
	int fds[VMM_MSG_FDS];
	size_t n;

	if (ask(r, VMM_HELLO, &hello, sizeof(hello), NULL, 0, &r->status, fds, &n) < 0)
		exit(1);
	if (n < 1)
		die("HELLO without a page of counters");
	r->stats_fd = fds[0];
	msg_close_fds(fds + 1, n - 1);
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die("%s: %m", path);
	return fd;
}

static void send_file(struct run *r, uint32_t type, const char *path)
{
	int fd = open_or_die(path, O_RDONLY);

	must(r, type, NULL, 0, &fd, 1);
	close(fd);
}

/* Takes "WORD:" off the front. */
static bool prefix(const char **text, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(*text, word, n) != 0 || (*text)[n] != ':')
		return false;
	*text += n + 1;
	return true;
}

static void send_layers(struct run *r, const char *path, enum image_format format,
			struct vmm_disk *disk)
{
	struct image_chain chain;
	struct err err = ERR_INIT;

	if (image_chain_find(&chain, path, format, disk->readonly ? IMAGE_READONLY : 0,
			     &image_opener_plain, &err) < 0)
		die("%s", err.text);
	for (unsigned i = 0; i < chain.n; i++) {
		const struct image_layer *l = &chain.layers[i];
		struct vmm_layer layer = {.kind = l->format == IMAGE_QCOW2 ? VMM_LAYER_QCOW2
									   : VMM_LAYER_RAW,
					  .has_data = l->data_fd >= 0};
		int fds[] = {l->fd, l->data_fd};

		must(r, VMM_LAYER, &layer, sizeof(layer), fds, layer.has_data ? 2 : 1);
	}
	disk->n_layers = chain.n;
	image_chain_close(&chain);
}

/* What stands before a disk's file, as often as one likes. */
static const char *disk_words(const char *text, struct vmm_disk *disk, enum image_format *format)
{
	static const struct {
		const char *word;
		size_t field;
		uint32_t value;
	} words[] = {
#define WORD(w, f, v) {w, offsetof(struct vmm_disk, f), v}
	    WORD("ro", readonly, 1),
	    WORD("none", cache, VMM_CACHE_NONE),
	    WORD("writethrough", cache, VMM_CACHE_WRITETHROUGH),
	    WORD("unsafe", cache, VMM_CACHE_UNSAFE),
	    WORD("report", on_error, VMM_ON_ERROR_REPORT),
	    WORD("pause", on_error, VMM_ON_ERROR_PAUSE),
	    WORD("ignore", on_error, VMM_ON_ERROR_IGNORE),
#undef WORD
	};
	bool more = true;

	while (more) {
		more = prefix(&text, "qcow2");
		if (more)
			*format = IMAGE_QCOW2;
		for (unsigned i = 0; i < nitems(words); i++) {
			if (!prefix(&text, words[i].word))
				continue;
			*(uint32_t *)((char *)disk + words[i].field) = words[i].value;
			more = true;
		}
	}
	return text;
}

/* 0 or -errno, which was shown. */
static int send_disk(struct run *r, const char *name, const char *what)
{
	struct vmm_disk disk = {.queues = r->queues};
	enum image_format format = IMAGE_RAW;
	const char *path = disk_words(what, &disk, &format);
	char words[VMM_MSG_MAX] = "";
	int ret;

	snprintf(disk.name, sizeof(disk.name), "%.63s", name);
	send_layers(r, path, format, &disk);
	ret = ask(r, VMM_DISK, &disk, sizeof(disk), NULL, 0, words, NULL, NULL);
	if (*words)
		fprintf(stderr, "disk %s: %s\n", name, words);
	return ret;
}

static void send_disks(struct run *r)
{
	char name[VMM_NAME_MAX];

	for (unsigned i = 0; i < r->n_disks; i++) {
		snprintf(name, sizeof(name), "disk%u", i);
		if (send_disk(r, name, r->disks[i]) < 0)
			exit(1);
	}
}

static void send_nic(struct run *r)
{
	struct vmm_nic nic = nic_card();
	int fd;

	if (!r->tap)
		return;
	fd = nic_tap(r->tap);
	if (fd < 0)
		die("tap %s: %s", r->tap, strerror(-fd));
	must(r, VMM_NIC, &nic, sizeof(nic), &fd, 1);
	close(fd);
}

static void set_link(struct run *r, const char *up)
{
	struct vmm_nic_set set = {.name = "nic0", .link = *up == '1'};

	ask(r, VMM_NIC_SET, &set, sizeof(set), NULL, 0, NULL, NULL, NULL);
}

/* Frames go to the file from now on; to none where @path is empty. */
static void capture(struct run *r, const char *path)
{
	struct vmm_nic_capture m = {.name = "nic0", .limit_bytes = 1 << 20};
	int fd = *path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;

	ask(r, VMM_NIC_CAPTURE, &m, sizeof(m), &fd, fd >= 0, NULL, NULL, NULL);
	if (fd >= 0)
		close(fd);
}

static void send_console(struct run *r)
{
	struct vmm_console console = {.log_limit_bytes = 1ull << 30};
	char template[] = "/tmp/vmm_run.XXXXXX";

	if (r->log_path) {
		r->log_fd =
		    open(r->log_path, O_RDWR | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		r->read_fd = r->log_fd;
	} else {
		r->log_fd = mkostemp(template, O_APPEND | O_CLOEXEC);
		r->read_fd = r->log_fd;
		unlink(template);
	}
	if (r->log_fd < 0)
		die("log: %m");
	must(r, VMM_CONSOLE, &console, sizeof(console), &r->log_fd, 1);
}

static void start(struct run *r)
{
	struct vmm_config config = {
	    .name = "vmm_run",
	    .cpus = r->cpus,
	    .hugepages = r->hugepages,
	    .memory_bytes = r->memory_mib << 20,
	    .on_reboot = r->on_reboot,
	    .on_poweroff = r->on_poweroff,
	    .on_crash = r->on_crash,
	    .uid = r->uid,
	    .gid = r->uid,
	};
	int kvm = open_or_die("/dev/kvm", O_RDWR);

	hello(r);
	mark(r, "HELLO");
	must(r, VMM_CONFIG, &config, sizeof(config), &kvm, 1);
	close(kvm);
	mark(r, "CONFIG (locked in)");
	send_file(r, VMM_KERNEL, r->kernel);
	if (r->initrd)
		send_file(r, VMM_INITRD, r->initrd);
	must(r, VMM_CMDLINE, r->cmdline, strlen(r->cmdline) + 1, NULL, 0);
	send_disks(r);
	send_nic(r);
	send_console(r);
	mark(r, "KERNEL … CONSOLE");
	if (r->state) {
		send_state(r);
		mark(r, "MEMORY, LOAD");
	}
	must(r, VMM_RUN, NULL, 0, NULL, 0);
	mark(r, "RUN");
}

static void send_malformed(struct run *r)
{
	uint8_t junk[4096];

	for (unsigned i = 0; i < r->malformed; i++) {
		size_t len = (size_t)random() % sizeof(junk) + 1;

		for (size_t k = 0; k < len; k++)
			junk[k] = (uint8_t)random();
		if (i % 2) { /* a believable header */
			struct vmm_msg_hdr hdr = {.type = 16 + (uint32_t)random() % 16,
						  .len = (uint32_t)(len - sizeof(hdr))};

			if (len < sizeof(hdr))
				continue;
			if (hdr.type == VMM_QUIT)
				continue;
			memcpy(junk, &hdr, sizeof(hdr));
		}
		if (send(r->sock, junk, len, MSG_NOSIGNAL) < 0 && errno != EPIPE)
			die("send: %m");
		reconnect(r);
	}
}

/* --- commands
 * --------------------------------------------------------------------------------------- */

static void show_regs(struct run *r, unsigned vcpu)
{
	struct vmm_vcpu_get get = {vcpu};
	struct vmm_vcpu_state s;

	if (ask(r, VMM_VCPU, &get, sizeof(get), NULL, 0, &s, NULL, NULL) < 0)
		return;
	fprintf(stderr,
		"vcpu %u %s mp=%u rip=%llx rsp=%llx rflags=%llx rax=%llx cr0=%llx cr3=%llx "
		"cr4=%llx efer=%llx cs=%x/%x\n",
		vcpu, s.running ? "runs" : "stands", s.mp_state, (unsigned long long)s.rip,
		(unsigned long long)s.rsp, (unsigned long long)s.rflags, (unsigned long long)s.rax,
		(unsigned long long)s.cr0, (unsigned long long)s.cr3, (unsigned long long)s.cr4,
		(unsigned long long)s.efer, s.cs.selector, s.cs.attributes);
}

static void show_stats(struct run *r)
{
	struct vmm_stats_page *page =
	    mmap(NULL, sizeof(*page), PROT_READ, MAP_SHARED, r->stats_fd, 0);

	if (page == MAP_FAILED)
		die("counters: %m");
	for (uint64_t i = 0; i < page->n_counters && i < VMM_STATS_MAX; i++)
		fprintf(stderr, "%.56s %llu\n", page->counters[i].name,
			(unsigned long long)page->counters[i].value);
	munmap(page, sizeof(*page));
}

static void type(struct run *r, const char *text, size_t len)
{
	uint32_t taken = 0;

	if (ask(r, VMM_CONSOLE_INPUT, text, len, NULL, 0, &taken, NULL, NULL) == 0 && taken != len)
		fprintf(stderr, "typed %u of %zu\n", taken, len);
}

/* Cuts @args at its first space: what stands behind it. */
static char *split(char *args)
{
	char *space = strchr(args, ' ');

	if (!space)
		die("%s: a word is missing", args);
	*space = '\0';
	return space + 1;
}

static void attach(struct run *r, char *args)
{
	char *what = split(args);

	send_disk(r, args, what);
}

static void detach(struct run *r, const char *name, bool force)
{
	struct vmm_disk_detach m = {.force = force};

	snprintf(m.name, sizeof(m.name), "%.63s", name);
	ask(r, VMM_DISK_DETACH, &m, sizeof(m), NULL, 0, NULL, NULL, NULL);
}

static void resize(struct run *r, char *args)
{
	struct vmm_disk_resize m = {.bytes = strtoull(split(args), NULL, 0)};
	uint64_t bytes = 0;

	snprintf(m.name, sizeof(m.name), "%.63s", args);
	if (ask(r, VMM_DISK_RESIZE, &m, sizeof(m), NULL, 0, &bytes, NULL, NULL) == 0)
		fprintf(stderr, "disk %s has %llu bytes\n", m.name, (unsigned long long)bytes);
}

/* Milliseconds until --timeout, never 0; -1: for ever. The program ends when they are over. */
static int time_left(struct run *r)
{
	int left = r->timeout_s ? (int)((double)r->timeout_s * 1e3 - ms_since(&r->began)) : -1;

	if (!r->timeout_s || left > 0)
		return left;
	fprintf(stderr, "vmm_run: time is up\n");
	show_regs(r, 0);
	if (r->pid)
		kill(r->pid, SIGKILL);
	else
		msg_send(r->sock, &(struct vmm_msg_hdr){.type = VMM_QUIT},
			 sizeof(struct vmm_msg_hdr), NULL, 0, NULL, 0, 0);
	exit(6);
}

static void next_packet(struct run *r)
{
	struct vmm_msg_hdr hdr;
	uint8_t body[VMM_MSG_MAX];
	int got[VMM_MSG_FDS];
	size_t n = VMM_MSG_FDS;

	take_packet(r, &hdr, body, got, &n);
	msg_close_fds(got, n);
}

/* Until @text is in the console or, as a line, among the disks' events; what is up to it is used
 * up. */
static void wait_for(struct run *r, const char *text, bool console)
{
	char line[256];

	snprintf(line, sizeof(line), console ? "%s" : "%s\n", text);
	for (;;) {
		struct pollfd fd = {.fd = r->sock, .events = POLLIN};
		char *in = console ? r->tail : r->disk_news, *at;
		size_t len = console ? r->tail_len : strlen(r->disk_news), used;

		at = memmem(in, len, line, strlen(line));
		if (at) {
			/* Events of other disks before it stay. */
			used = console ? (size_t)(at - in) + strlen(line) : strlen(line);
			at = console ? in : at;
			memmove(at, at + used, len - (size_t)(at - in) - used + !console);
			r->tail_len -= console ? used : 0;
			return;
		}
		if (poll(&fd, 1, time_left(r)) > 0)
			next_packet(r);
	}
}

static void kill_it(struct run *r)
{
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	unlink(r->address.sun_path);
	r->killed = true;
	fprintf(stderr, "killed\n");
}

static bool command(struct run *r, char *line)
{
	static const struct {
		const char *word;
		uint32_t type;
	} plain[] = {
	    {"!pause", VMM_PAUSE},
	    {"!resume", VMM_RESUME},
	    {"!reset", VMM_RESET},
	    {"!power", VMM_POWER_BUTTON},
	};

	for (unsigned i = 0; i < nitems(plain); i++)
		if (strcmp(line, plain[i].word) == 0) {
			ask(r, plain[i].type, NULL, 0, NULL, 0, NULL, NULL, NULL);
			return true;
		}
	if (strcmp(line, "!quit") == 0)
		return false;
	if (strcmp(line, "!end") == 0)
		exit(0);
	if (strncmp(line, "!regs", 5) == 0)
		show_regs(r, (unsigned)strtoul(line + 5, NULL, 0));
	else if (strncmp(line, "!input ", 7) == 0)
		type(r, line + 7, strlen(line + 7));
	else if (strncmp(line, "!sleep ", 7) == 0)
		usleep((useconds_t)strtoul(line + 7, NULL, 0) * 1000);
	else if (strncmp(line, "!attach ", 8) == 0)
		attach(r, line + 8);
	else if (strncmp(line, "!detach ", 8) == 0)
		detach(r, line + 8, false);
	else if (strncmp(line, "!take ", 6) == 0)
		detach(r, line + 6, true);
	else if (strncmp(line, "!resize ", 8) == 0)
		resize(r, line + 8);
	else if (strncmp(line, "!link ", 6) == 0)
		set_link(r, line + 6);
	else if (strncmp(line, "!capture", 8) == 0)
		capture(r, line + 8 + strspn(line + 8, " "));
	else if (strncmp(line, "!disk ", 6) == 0)
		wait_for(r, line + 6, false);
	else if (strncmp(line, "!console ", 9) == 0)
		wait_for(r, line + 9, true);
	else if (strcmp(line, "!kill") == 0)
		kill_it(r);
	else if (strncmp(line, "!instant ", 9) == 0)
		instant(r, line + 9);
	else if (strncmp(line, "!stage ", 7) == 0)
		disk_stage(r, line + 7);
	else if (strncmp(line, "!freeze ", 8) == 0)
		disk_freeze(r, line + 8);
	else if (strncmp(line, "!merge ", 7) == 0)
		disk_merge(r, line + 7);
	else if (strncmp(line, "!write ", 7) == 0)
		hold_write(r, line + 7);
	else if (strncmp(line, "!clone ", 7) == 0)
		hold_clone(r, line + 7);
	else if (strcmp(line, "!release") == 0)
		close(take_fd(&r->hold));
	else if (strcmp(line, "!stats") == 0)
		show_stats(r);
	else if (strcmp(line, "!reconnect") == 0) {
		reconnect(r);
		hello(r);
		fprintf(stderr, "state %u after reconnecting\n", r->status.state);
	} else
		fprintf(stderr, "unknown command %s\n", line);
	return true;
}

/* False: quit. */
static bool read_stdin(struct run *r, bool *eof)
{
	static char buf[8192];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, buf + len, sizeof(buf) - 1 - len);
	char *nl;

	if (n <= 0) {
		*eof = true;
		return true;
	}
	len += (size_t)n;
	buf[len] = '\0';
	while ((nl = strchr(buf, '\n'))) {
		size_t line = (size_t)(nl - buf) + 1;

		if (buf[0] == '!') {
			*nl = '\0';
			if (!command(r, buf))
				return false;
		} else {
			type(r, buf, line);
		}
		memmove(buf, buf + line, len - line + 1);
		len -= line;
	}
	return true;
}

/* --- the whole
 * -------------------------------------------------------------------------------------- */

static void serve(struct run *r)
{
	bool eof = false;

	while (!r->reached && (!r->ended || r->stays) && !(r->times && r->log_at)) {
		struct pollfd fds[] = {{.fd = r->killed ? -1 : r->sock, .events = POLLIN},
				       {.fd = eof ? -1 : STDIN_FILENO, .events = POLLIN}};

		poll(fds, 2, time_left(r));
		if (fds[0].revents)
			next_packet(r);
		if (fds[1].revents && !read_stdin(r, &eof))
			return;
	}
}

static unsigned action(const char *word)
{
	if (strcmp(word, "restart") == 0)
		return VMM_ACTION_RESTART;
	if (strcmp(word, "stop") != 0)
		die("an action is stop or restart, not %s", word);
	return VMM_ACTION_STOP;
}

enum kind { TEXT, NUMBER, NUMBER64, ACTION, FLAG, DISK };

#define FIELD(f) offsetof(struct run, f)

static const struct {
	const char *name;
	enum kind kind;
	size_t field;
} options[] = {
    {"vmm", TEXT, FIELD(vmm)},
    {"initrd", TEXT, FIELD(initrd)},
    {"cmdline", TEXT, FIELD(cmdline)},
    {"disk", DISK, 0},
    {"tap", TEXT, FIELD(tap)},
    {"queues", NUMBER, FIELD(queues)},
    {"cpus", NUMBER, FIELD(cpus)},
    {"memory", NUMBER64, FIELD(memory_mib)},
    {"hugepages", FLAG, FIELD(hugepages)},
    {"on-reboot", ACTION, FIELD(on_reboot)},
    {"on-poweroff", ACTION, FIELD(on_poweroff)},
    {"on-crash", ACTION, FIELD(on_crash)},
    {"uid", NUMBER, FIELD(uid)},
    {"log", TEXT, FIELD(log_path)},
    {"time", FLAG, FIELD(times)},
    {"until", TEXT, FIELD(until)},
    {"timeout", NUMBER, FIELD(timeout_s)},
    {"hold", FLAG, FIELD(stays)},
    {"connect", TEXT, FIELD(connect)},
    {"load", TEXT, FIELD(state)},
    {"map", TEXT, FIELD(map)},
    {"once", FLAG, FIELD(once)},
    {"clone", FLAG, FIELD(clone)},
    {"malformed", NUMBER, FIELD(malformed)},
};

static void set_option(struct run *r, unsigned row, char *value)
{
	void *field = (char *)r + options[row].field;

	switch (options[row].kind) {
	case TEXT:
		*(const char **)field = value;
		break;
	case NUMBER:
		*(unsigned *)field = (unsigned)strtoul(value, NULL, 0);
		break;
	case NUMBER64:
		*(uint64_t *)field = strtoull(value, NULL, 0);
		break;
	case ACTION:
		*(unsigned *)field = action(value);
		break;
	case FLAG:
		*(bool *)field = true;
		break;
	case DISK:
		if (r->n_disks == VMM_DISKS_MAX)
			die("too many disks");
		r->disks[r->n_disks++] = value;
		break;
	}
}

static void parse(struct run *r, int argc, char **argv)
{
	struct option all[nitems(options) + 1] = {0};
	int row;

	for (unsigned i = 0; i < nitems(options); i++)
		all[i] = (struct option){options[i].name, options[i].kind != FLAG, NULL, (int)i};
	while ((row = getopt_long(argc, argv, "", all, NULL)) != -1) {
		if (row == '?')
			exit(2);
		set_option(r, (unsigned)row, optarg);
	}
	if (optind != argc - 1)
		die("one kernel is needed");
	r->kernel = argv[optind];
}

/* The VMM of the build that this program is in: BUILD/tests/tools/vmm_run. */
static const char *find_vmm(void)
{
	static char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		die("/proc/self/exe: %m");
	path[n] = '\0';
	for (int i = 0; i < 3; i++)
		*strrchr(path, '/') = '\0';
	strncat(path, "/filevisor-vmm", sizeof(path) - strlen(path) - 1);
	return path;
}

int main(int argc, char **argv)
{
	static const int status_of[] = {0, 0, 3, 4, 5};
	struct run r = {
	    .cmdline = "", .cpus = 1, .memory_mib = 64, .uid = 65534, .sock = -1, .hold = -1};
	int status = 0, result;

	parse(&r, argc, argv);
	if (!r.vmm)
		r.vmm = find_vmm();
	clock_gettime(CLOCK_MONOTONIC, &r.began);
	spawn(&r);
	reconnect(&r);
	mark(&r, "spawned and connected");
	start(&r);
	send_malformed(&r);
	if (r.malformed)
		hello(&r);
	serve(&r);
	result = r.reached || !r.ended || r.stays ? 0 : status_of[r.status.reason];
	ask(&r, VMM_QUIT, NULL, 0, NULL, 0, NULL, NULL, NULL);
	if (r.pid && waitpid(r.pid, &status, 0) < 0)
		die("waitpid: %m");
	show_console(&r);
	unlink(r.address.sun_path);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "vmm_run: the VMM ended with status %#x\n", status);
		return 1;
	}
	return result;
}
