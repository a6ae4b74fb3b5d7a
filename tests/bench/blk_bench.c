// SPDX-License-Identifier: ISC
/*
 * blk_bench COUNT COMMAND…: runs a VMM with guest_blk_bench.c in it, whose console is
 * COMMAND's standard input and output, and measures from its "begin" to its "end": prints
 * nanoseconds for an operation, and nanoseconds of processor time for one: of all
 * threads of the VMM but those that run vcpus, which poll all the time.
 */
#include "bench_vmm.h"

int main(int argc, char **argv)
{
	struct vmm_sample begin = {0}, end = {0};
	double count = argc > 2 ? strtod(argv[1], NULL) : 0;
	char line[256];
	pid_t pid;
	FILE *out;
	int in;

	if (count < 1) {
		fprintf(stderr, "usage: blk_bench COUNT COMMAND...\n");
		return 2;
	}
	out = vmm_start(argv + 2, &pid, &in);
	if (!out)
		return 1;
	while (!end.wall_ns && fgets(line, sizeof(line), out)) {
		if (strstr(line, "begin")) {
			begin = vmm_take(vmm_of(pid));
			if (write(in, "g\n", 2) != 2)
				return 1;
		}
		if (strstr(line, "end"))
			end = vmm_take(vmm_of(pid));
	}
	while (fgets(line, sizeof(line), out))
		;
	waitpid(pid, NULL, 0);
	if (!begin.wall_ns || !end.wall_ns)
		return 1;
	printf("%.0f %.0f\n", (double)(end.wall_ns - begin.wall_ns) / count,
	       (double)(end.cpu_ns - begin.cpu_ns) / count);
	return 0;
}
