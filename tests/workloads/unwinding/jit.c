/* Code written at run time, in memory that is no file's: it keeps a frame pointer and calls back.
 *
 * running:  jit_burning [anon] jit_caller main ... _start
 * sleeping: ... jit_waiting [anon] jit_caller main ... _start */
#include "rounds.h"

NAMED int jit_burning(int number)
{
	burn();
	return number + 1;
}

NAMED int jit_waiting(int number)
{
	doze();
	return number + 1;
}

NAMED int jit_caller(int (*code)(int (*)(int), int), int (*function)(int))
{
	return code(function, 1) + 1;
}

int main(void)
{
	static const unsigned char code[] = {
		0x55,		  /* push %rbp */
		0x48, 0x89, 0xe5, /* mov %rsp, %rbp */
		0x48, 0x89, 0xf8, /* mov %rdi, %rax */
		0x89, 0xf7,	  /* mov %esi, %edi */
		0xff, 0xd0,	  /* call *%rax */
		0x5d,		  /* pop %rbp */
		0xc3,		  /* ret */
	};
	unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, code, sizeof code);
	mprotect(page, 4096, PROT_READ | PROT_EXEC);
	ready();
	while (!stopped) {
		jit_caller((int (*)(int (*)(int), int))page, jit_burning);
		jit_caller((int (*)(int (*)(int), int))page, jit_waiting);
	}
	return 0;
}
