/* CPU time split 75 % / 25 % between two named functions, by the thread's own CPU clock.
 *
 * split [--seconds S] [--unit-us U]: U microseconds in burn_minor for every 3 U in burn_major, over
 * and over, for S seconds (0: until SIGTERM). Prints what each really burnt. */
#include "workload.h"

static u64 major_ns, minor_ns;

NAMED void burn_major(u64 unit)
{
	major_ns += burn_quota(3 * unit);
}

NAMED void burn_minor(u64 unit)
{
	minor_ns += burn_quota(unit);
}

int main(int argc, char **argv)
{
	u64 unit = strtoull(option(argc, argv, "--unit-us", "40000"), NULL, 10) * 1000;
	u64 begin = now_ns(), cpu_begin = cpu_ns();
	stop_after(atof(option(argc, argv, "--seconds", "0")));
	printf("{\"ready\": %d}\n", (int)getpid());
	fflush(stdout);
	while (!stopped) {
		burn_major(unit);
		burn_minor(unit);
	}
	printf("{\"pid\": %d, \"major_ns\": %llu, \"minor_ns\": %llu, \"cpu_ns\": %llu, \"wall_ns\": %llu}\n",
	       (int)getpid(), (unsigned long long)major_ns, (unsigned long long)minor_ns,
	       (unsigned long long)(cpu_ns() - cpu_begin), (unsigned long long)(now_ns() - begin));
	return 0;
}
