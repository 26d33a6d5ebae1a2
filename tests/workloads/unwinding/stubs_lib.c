/* The library that stubs.c calls. */
#include "rounds.h"

int stub_target(int number);
int stub_waiting(int number);

int stub_target(int number)
{
	return number + 1;
}

int stub_waiting(int number)
{
	doze();
	return number + 1;
}
