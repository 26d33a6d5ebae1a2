/* deep [CALLS]: recursion, 60 calls by default, that burns and waits at its bottom. With --burn it
 * only burns, and main comes back from the bottom once it is over.
 *
 * running:  bottom_burning descend*60 main ... _start
 * sleeping: ... bottom_waiting descend*60 main ... _start */
#include "rounds.h"

static int burn_only;

NAMED int bottom_burning(void)
{
	do
		burn();
	while (burn_only && !stopped);
	return 1;
}

NAMED int bottom_waiting(void)
{
	doze();
	return 1;
}

/* noipa keeps the compiler from making a loop of it. */
NAMED int descend(int calls, int (*bottom)(void))
{
	if (calls <= 1)
		return bottom() + calls;
	return descend(calls - 1, bottom) + calls;
}

int main(int argc, char **argv)
{
	int calls = argc > 1 ? atoi(argv[1]) : 60;
	burn_only = flag(argc, argv, "--burn");
	ready();
	while (!stopped) {
		descend(calls, bottom_burning);
		if (!burn_only)
			descend(calls, bottom_waiting);
	}
	return 0;
}
