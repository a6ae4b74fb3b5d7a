/* SPDX-License-Identifier: ISC */
/*
 * /init of initrd.cpio: proves that a kernel, its initial RAM disk and the
 * console work, with nothing else there: no libc, no disk, no shell. Says
 * `filevisor-guest initrd`, then obeys one word a line: poweroff, reboot, halt
 * or crash; any other line is echoed.
 */
#include <linux/reboot.h>
#include <sys/syscall.h>

static long call(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

static unsigned long length(const char *s)
{
	unsigned long n = 0;

	while (s[n])
		n++;
	return n;
}

static void say(const char *s)
{
	call(SYS_write, 1, (long)s, (long)length(s), 0);
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void restart(unsigned cmd)
{
	call(SYS_reboot, (long)LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, (long)cmd, 0);
}

__attribute__((noreturn)) void _start(void)
{
	char line[128];

	say("filevisor-guest initrd\n");
	for (;;) {
		long n;

		say("> ");
		n = call(SYS_read, 0, (long)line, sizeof(line) - 1, 0);
		if (n <= 0)
			restart(LINUX_REBOOT_CMD_POWER_OFF); /* no console to talk to */
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			n--;
		line[n > 0 ? n : 0] = '\0';
		if (same(line, "poweroff"))
			restart(LINUX_REBOOT_CMD_POWER_OFF);
		else if (same(line, "reboot"))
			restart(LINUX_REBOOT_CMD_RESTART);
		else if (same(line, "halt"))
			restart(LINUX_REBOOT_CMD_HALT);
		else if (same(line, "crash"))
			call(SYS_exit, 1, 0, 0, 0); /* the kernel panics without init */
		say(line);
		say("\n");
	}
}
