/* Frames that are not found by a small constant: more than 64 kB of locals, sizes known at run time
 * only, a realigned stack pointer.
 *
 * running:  huge_burning huge_frame main ... _start
 * sleeping: ... huge_waiting huge_frame main ... _start
 * running:  sized_burning sized_frame main ... _start
 * sleeping: ... sized_waiting sized_frame main ... _start
 * running:  aligned_burning aligned_frame main ... _start
 * sleeping: ... aligned_waiting aligned_frame main ... _start */
#include "rounds.h"

#define HUGE_BYTES 200000

INLINE void touch(volatile char *memory, unsigned size)
{
	memory[0] = memory[size / 2] = memory[size - 1] = 1;
}

#define BOTTOM(kind)                                     \
	NAMED int kind##_burning(volatile char *memory)  \
	{                                                \
		burn();                                  \
		return *memory;                          \
	}                                                \
	NAMED int kind##_waiting(volatile char *memory)  \
	{                                                \
		doze();                                  \
		return *memory;                          \
	}

BOTTOM(huge)
BOTTOM(sized)
BOTTOM(aligned)

NAMED int huge_frame(void)
{
	volatile char memory[HUGE_BYTES];
	touch(memory, sizeof memory);
	return huge_burning(memory) + huge_waiting(memory);
}

NAMED int sized_frame(unsigned size)
{
	volatile char memory[size];
	touch(memory, size);
	return sized_burning(memory) + sized_waiting(memory);
}

NAMED int aligned_frame(void)
{
	__attribute__((aligned(64))) volatile char memory[256];
	touch(memory, sizeof memory);
	return aligned_burning(memory) + aligned_waiting(memory);
}

int main(void)
{
	unsigned size = 1;
	ready();
	while (!stopped) {
		huge_frame();
		sized_frame(100 + size++ % 1000);
		aligned_frame();
	}
	return 0;
}
