/* varied [CALLS]: as deep.c, but through 32 functions with frames of 32 sizes ("step.", and a number
 * that the tests leave out), so that no two frames in a row are alike.
 *
 * running:  bottom_burning step*60 main ... _start
 * sleeping: ... bottom_waiting step*60 main ... _start */
#include "rounds.h"

typedef int step_function(int calls);

static int burn_only, wait_now;

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

INLINE int step(int calls, volatile char *room, int size);

#define FOUR(x, n) x(n##0) x(n##1) x(n##2) x(n##3)
#define SIXTEEN(x, n) FOUR(x, n##0) FOUR(x, n##1) FOUR(x, n##2) FOUR(x, n##3)
#define ALL(x) SIXTEEN(x, 0) SIXTEEN(x, 1)

/* 0000 to 0133 in octal, which has gaps, are frames of about as many bytes and 24 more. */
#define DEFINE(n)                                      \
	step_function step_##n __asm__("step." #n);    \
	NAMED int step_##n(int calls)                  \
	{                                              \
		volatile char room[24 + n];            \
		return step(calls, room, sizeof room); \
	}
ALL(DEFINE)

#define ENTRY(n) step_##n,
static step_function *const steps[] = { ALL(ENTRY) };

INLINE int step(int calls, volatile char *room, int size)
{
	room[0] = room[size - 1] = (char)calls;
	if (calls <= 1)
		return (wait_now ? bottom_waiting() : bottom_burning()) + room[0];
	return steps[(unsigned)calls * 7 % 32](calls - 1) + room[size - 1];
}

int main(int argc, char **argv)
{
	int calls = argc > 1 ? atoi(argv[1]) : 60;
	burn_only = flag(argc, argv, "--burn");
	ready();
	while (!stopped) {
		steps[0](calls);
		wait_now = !wait_now && !burn_only;
	}
	return 0;
}
