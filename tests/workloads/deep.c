/* Sixty frames deep without frame pointers: burns, then sleeps, at the bottom of a recursion through
 * two functions and the C library's qsort.
 *
 * deep [--depth N]: until SIGTERM. Built with -fomit-frame-pointer, unlike the others. */
#include "workload.h"

static int bottom_first(const void *a, const void *b)
{
	struct timespec pause = { 0, 3000000 };
	(void)a;
	(void)b;
	burn_quota(2000000);
	nanosleep(&pause, NULL);
	return 0;
}

NAMED int descend_odd(int left, volatile int *sum);

NAMED int descend_even(int left, volatile int *sum)
{
	char room[24 + 8 * 5];
	int pair[2] = { 1, 0 };
	memset(room, left, sizeof room);
	if (left <= 0)
		qsort(pair, 2, sizeof *pair, bottom_first);
	else
		*sum += descend_odd(left - 1, sum);
	return *sum + room[left & 31];
}

NAMED int descend_odd(int left, volatile int *sum)
{
	long long kept = *sum;
	*sum += descend_even(left - 1, sum);
	return (int)(kept + *sum);
}

int main(int argc, char **argv)
{
	int depth = atoi(option(argc, argv, "--depth", "60"));
	volatile int sum = 0;
	stop_after(0);
	printf("{\"ready\": %d}\n", (int)getpid());
	fflush(stdout);
	while (!stopped)
		descend_even(depth & ~1, &sum);
	printf("{\"sum\": %d}\n", sum);
	return 0;
}
