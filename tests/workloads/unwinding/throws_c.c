/* The C part of throws.cc. */
#include "rounds.h"

void start(void);
int over(void);
void wait_a_little(void);

void start(void)
{
	ready();
}

int over(void)
{
	return stopped;
}

void wait_a_little(void)
{
	doze();
}
