/* short [US]: a process that lives a few milliseconds: burns US microseconds of CPU (default 5000),
 * half in each of two named functions, and exits. Never reads a clock from the C library's start-up
 * on: all of its burning is under main. */
#include "workload.h"

NAMED void short_first(u64 quota)
{
	burn_quota(quota);
}

NAMED void short_second(u64 quota)
{
	burn_quota(quota);
}

int main(int argc, char **argv)
{
	u64 quota = (argc > 1 ? strtoull(argv[1], NULL, 10) : 5000) * 500;
	short_first(quota);
	short_second(quota);
	return 0;
}
