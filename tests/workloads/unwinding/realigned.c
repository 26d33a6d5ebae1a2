/* A realigned stack in a function that takes arguments from it and allocates at run time: the
 * compiler keeps the address of the arguments in the frame, and the table's rule is an expression
 * (DW_OP_breg6 -N, DW_OP_deref), as in vectorised code.
 *
 * running:  realigned_burning realigned_frame main ... _start
 * sleeping: ... realigned_waiting realigned_frame main ... _start */
#include "rounds.h"
#include <alloca.h>

NAMED int realigned_burning(volatile char *memory)
{
	burn();
	return *memory;
}

NAMED int realigned_waiting(volatile char *memory)
{
	doze();
	return *memory;
}

NAMED int realigned_frame(int a, int b, int c, int d, int e, int f, int g, int size)
{
	__attribute__((aligned(64))) volatile char memory[256];
	volatile char *more = alloca((size_t)size);
	memory[0] = more[0] = (char)(a + b + c + d + e + f + g);
	return realigned_burning(memory) + realigned_waiting(more);
}

int main(void)
{
	int size = 1;
	ready();
	while (!stopped)
		realigned_frame(1, 2, 3, 4, 5, 6, 7, 100 + size++ % 1000);
	return 0;
}
