/* Exceptions through frames with destructors, in a loop, and waits below the same frames.
 *
 * running:  ... throw_it throw_inner throw_outer catch_it main ... _start
 * running:  ... throw_inner throw_outer catch_it main ... _start
 * running:  ... throw_outer catch_it main ... _start
 * running:  ... catch_it main ... _start
 * sleeping: ... wait_a_little throw_it throw_inner throw_outer catch_it main ... _start
 * rarely:   throw_it throw_inner throw_outer catch_it main ... _start
 * rarely:   throw_inner throw_outer catch_it main ... _start
 * rarely:   throw_outer catch_it main ... _start
 * rarely:   catch_it main ... _start */
extern "C" {
#include "throws.h"
}

namespace {
volatile int destroyed;

struct Guard {
	~Guard() { destroyed = destroyed + 1; }
};
}

extern "C" {

NAMED int throw_it(int number)
{
	if (number < 0) {
		wait_a_little();
		return number;
	}
	throw number;
}

NAMED int throw_inner(int number)
{
	Guard guard;
	return throw_it(number) + 1;
}

NAMED int throw_outer(int number)
{
	Guard guard;
	return throw_inner(number) + 1;
}

NAMED int catch_it(int number)
{
	try {
		return throw_outer(number);
	} catch (int caught) {
		return caught;
	}
}
}

int main()
{
	start();
	while (!over()) {
		for (int i = 0; i < 2000; i++)
			catch_it(i);
		catch_it(-1);
	}
	return 0;
}
