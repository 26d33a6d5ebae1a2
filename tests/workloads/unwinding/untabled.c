/* Code without a table in the middle of the stack and at its leaf, which keeps a frame pointer: an
 * object compiled without tables (untabled_part.c) and assembly without directives.
 *
 * running:  tabled_burning untabled_middle tabled_outer main ... _start
 * sleeping: ... tabled_waiting untabled_middle tabled_outer main ... _start
 * running:  untabled_burning untabled_middle tabled_outer main ... _start
 * running:  tabled_burning assembled_middle tabled_outer main ... _start
 * sleeping: ... tabled_waiting assembled_middle tabled_outer main ... _start */
#include "rounds.h"

int untabled_middle(int (*function)(int), int number);
int untabled_burning(int number);
int assembled_middle(int (*function)(int), int number);

__asm__(".pushsection .text\n"
	".globl assembled_middle\n"
	".type assembled_middle, @function\n"
	"assembled_middle:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	mov %rdi, %rax\n"
	"	mov %esi, %edi\n"
	"	call *%rax\n"
	"	pop %rbp\n"
	"	ret\n"
	".size assembled_middle, . - assembled_middle\n"
	".popsection\n");

NAMED int tabled_burning(int number)
{
	burn();
	return number + 1;
}

NAMED int tabled_waiting(int number)
{
	doze();
	return number + 1;
}

NAMED int tabled_outer(int (*middle)(int (*)(int), int), int (*function)(int))
{
	return middle(function, 1) + 1;
}

int main(void)
{
	ready();
	while (!stopped) {
		tabled_outer(untabled_middle, tabled_burning);
		tabled_outer(untabled_middle, tabled_waiting);
		tabled_outer(untabled_middle, untabled_burning);
		tabled_outer(assembled_middle, tabled_burning);
		tabled_outer(assembled_middle, tabled_waiting);
	}
	return 0;
}
