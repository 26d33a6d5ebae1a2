/* Calls through a procedure linkage table that is bound lazily.
 *
 * running:  call_often main ... _start
 * running:  [plt] call_often main ... _start
 * running:  stub_target call_often main ... _start
 * sleeping: ... stub_waiting call_waiting main ... _start */
#include "rounds.h"

int stub_target(int number);
int stub_waiting(int number);

NAMED int call_often(int number)
{
	for (int i = 0; i < 2000000 && !stopped; i++)
		number = stub_target(number);
	return number;
}

NAMED int call_waiting(int number)
{
	return stub_waiting(number) + 1;
}

int main(void)
{
	int number = 0;
	ready();
	while (!stopped)
		number = call_waiting(call_often(number) & 1);
	return 0;
}
