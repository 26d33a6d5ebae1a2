/* Compiled without unwind tables, with frame pointers. See untabled.c. */
#include "../workload.h"

int untabled_middle(int (*function)(int), int number);
int untabled_burning(int number);

NAMED int untabled_middle(int (*function)(int), int number)
{
	return function(number + 1) + 1;
}

NAMED int untabled_burning(int number)
{
	burn_quota(4000000u);
	return number + 1;
}
