/* binds LIBRARY: loads a library of many functions that call one another through its lazily bound
 * procedure linkage table, calls each once, and unloads it: the dynamic linker's resolver is
 * running for much of the time. Its frame is found by rbx, which is neither of the two registers
 * that most tables use.
 *
 * running:  ... bind_all call_library main ... _start
 * running:  ... call_library main ... _start
 * sleeping: ... rest main ... _start
 * rarely:   bind_all call_library main ... _start */
#include "rounds.h"
#include <dlfcn.h>

NAMED int call_library(const char *path)
{
	void *library = dlopen(path, RTLD_LAZY);
	int (*all)(int) = library ? (int (*)(int))dlsym(library, "bind_all") : NULL;
	int answer = all ? all(1) : -1;
	if (library)
		dlclose(library);
	return answer;
}

NAMED void rest(void)
{
	doze();
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	ready();
	while (!stopped) {
		for (int i = 0; i < 30; i++)
			if (call_library(argv[1]) < 0)
				return 3;
		rest();
	}
	return 0;
}
