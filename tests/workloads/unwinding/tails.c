/* Calls that never return are the last instruction of their function: the return address already
 * belongs to the next function.
 *
 * running:  hang_forever die_inner die_outer main ... _start
 * sleeping: ... hang_forever die_inner die_outer main ... _start */
#include "rounds.h"

NAMED __attribute__((noreturn)) void hang_forever(int status)
{
	while (!stopped) {
		burn();
		doze();
	}
	_exit(status);
}

NAMED __attribute__((noreturn)) void die_inner(int status)
{
	hang_forever(status - 1);
}

NAMED __attribute__((noreturn)) void die_outer(int status)
{
	die_inner(status - 1);
}

int main(void)
{
	ready();
	die_outer(2);
}
