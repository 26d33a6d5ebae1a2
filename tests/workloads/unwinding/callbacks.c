/* The C library calls back: qsort's comparator burns in one sort and waits in another.
 *
 * running:  compare_burning ... sort_burning main ... _start
 * sleeping: ... compare_waiting ... sort_waiting main ... _start */
#include "rounds.h"

NAMED int compare_burning(const void *left, const void *right)
{
	burn();
	return *(const int *)left - *(const int *)right;
}

NAMED int compare_waiting(const void *left, const void *right)
{
	doze();
	return *(const int *)left - *(const int *)right;
}

NAMED int sort_burning(void)
{
	int numbers[4] = { 3, 1, 4, 1 };
	qsort(numbers, 4, sizeof *numbers, compare_burning);
	return numbers[0];
}

NAMED int sort_waiting(void)
{
	int numbers[4] = { 2, 7, 1, 8 };
	qsort(numbers, 4, sizeof *numbers, compare_waiting);
	return numbers[0];
}

int main(void)
{
	ready();
	while (!stopped)
		if (sort_burning() != sort_waiting())
			return 1;
	return 0;
}
