/* Reads the clock in the vdso, over and over.
 *
 * running:  ... ask_clock ask_often main ... _start
 * running:  ask_clock ask_often main ... _start
 * sleeping: ... rest main ... _start */
#include "rounds.h"

NAMED u64 ask_clock(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

NAMED void ask_often(void)
{
	u64 end = ask_clock() + 2 * BURN_NS;
	while (ask_clock() < end)
		;
}

NAMED void rest(void)
{
	doze();
}

int main(void)
{
	ready();
	while (!stopped) {
		ask_often();
		rest();
	}
	return 0;
}
