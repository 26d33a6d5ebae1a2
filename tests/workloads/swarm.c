/* Many short processes.
 *
 * swarm PROGRAM [--count N] [--work-us US] [--parallel P] [--fork-only]
 *
 * Starts N processes, at most P at a time, each of which burns US microseconds: PROGRAM (see short.c)
 * executed, or with --fork-only functions of this program. Prints their number, the CPU time the
 * kernel charged them and the sum of their lives as seen from here. */
#include "workload.h"

NAMED void forked_first(u64 quota)
{
	burn_quota(quota);
}

NAMED void forked_second(u64 quota)
{
	burn_quota(quota);
}

int main(int argc, char **argv)
{
	int count = atoi(option(argc, argv, "--count", "500"));
	int parallel = atoi(option(argc, argv, "--parallel", "2"));
	const char *work = option(argc, argv, "--work-us", "5000");
	int fork_only = flag(argc, argv, "--fork-only");
	u64 quota = strtoull(work, NULL, 10) * 500, begin = now_ns(), child_cpu_ns = 0;
	int running = 0, finished = 0, failed = 0;
	if (argc < 2)
		return 2;
	stop_after(0);
	printf("{\"ready\": %d}\n", (int)getpid());
	fflush(stdout);
	for (int started = 0; (started < count && !stopped) || running;) {
		if (started < count && !stopped && running < parallel) {
			pid_t child = fork();
			if (child < 0)
				return 3;
			if (!child) {
				if (fork_only) {
					forked_first(quota);
					forked_second(quota);
					_exit(0);
				}
				execl(argv[1], argv[1], work, (char *)NULL);
				_exit(127);
			}
			started++;
			running++;
			continue;
		}
		struct rusage usage;
		int status;
		if (wait4(-1, &status, 0, &usage) < 0)
			continue;
		running--;
		finished++;
		failed += status != 0;
		child_cpu_ns += ((u64)usage.ru_utime.tv_sec + (u64)usage.ru_stime.tv_sec) * 1000000000u +
				((u64)usage.ru_utime.tv_usec + (u64)usage.ru_stime.tv_usec) * 1000u;
	}
	printf("{\"finished\": %d, \"failed\": %d, \"child_cpu_ns\": %llu, \"wall_ns\": %llu}\n", finished,
	       failed, (unsigned long long)child_cpu_ns, (unsigned long long)(now_ns() - begin));
	return failed != 0;
}
