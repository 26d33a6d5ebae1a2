/* Children of every kind: a clone on a stack of its own in the same memory, and one after the other
 * forked ones and ones made by vfork, which run on their parent's stack.
 *
 * running:  clone_burning clone_main ...
 * sleeping: ... clone_waiting clone_main ...
 * running:  fork_burning fork_child main ... _start
 * sleeping: ... fork_waiting fork_child main ... _start
 * running:  vfork_burning vfork_child main ... _start
 * sleeping: ... vfork_waiting vfork_child main ... _start
 * sleeping: ... await_child main ... _start
 * sleeping: ... vfork_child main ... _start
 * rarely:   ... fork_child main ... _start
 * rarely:   ... main ... _start */
#include "rounds.h"

#define STACK_BYTES 262144
#define ROUNDS 10

#define BOTTOM(kind)                    \
	NAMED void kind##_burning(void) \
	{                               \
		burn();                 \
	}                               \
	NAMED void kind##_waiting(void) \
	{                               \
		doze();                 \
	}

BOTTOM(clone)
BOTTOM(fork)
BOTTOM(vfork)

NAMED int clone_main(void *unused)
{
	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	while (!stopped) {
		clone_burning();
		clone_waiting();
	}
	return 0;
}

NAMED void await_child(pid_t child)
{
	while (waitpid(child, NULL, 0) != child && !stopped)
		;
}

NAMED pid_t fork_child(void)
{
	pid_t child = fork();
	if (!child) {
		for (int i = 0; i < ROUNDS; i++) {
			fork_burning();
			fork_waiting();
		}
		_exit(0);
	}
	return child;
}

NAMED pid_t vfork_child(void)
{
	pid_t child = vfork();
	if (!child) {
		for (int i = 0; i < ROUNDS; i++) {
			vfork_burning();
			vfork_waiting();
		}
		_exit(0);
	}
	return child;
}

int main(void)
{
	char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	pid_t cloned = clone(clone_main, stack + STACK_BYTES, CLONE_VM | SIGCHLD, NULL);
	ready_with(cloned);
	while (!stopped) {
		await_child(fork_child());
		waitpid(vfork_child(), NULL, 0); /* has ended */
	}
	kill(cloned, SIGKILL);
	return 0;
}
