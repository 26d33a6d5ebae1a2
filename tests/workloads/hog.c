/* hog [--seconds S]: one thread that wants a CPU all the time. */
#include "workload.h"

NAMED void hog_forever(void)
{
	while (!stopped)
		turn(1000000);
}

int main(int argc, char **argv)
{
	stop_after(atof(option(argc, argv, "--seconds", "0")));
	printf("{\"ready\": %d}\n", (int)getpid());
	fflush(stdout);
	hog_forever();
	printf("{\"cpu_ns\": %llu}\n", (unsigned long long)cpu_ns());
	return 0;
}
