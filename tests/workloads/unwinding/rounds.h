/* What the programs for the unwinder share.
 *
 * They are compiled without frame pointers, and every one tells in its first comment what stacks it
 * can have, by lines that the tests read:
 *
 *     running:  NAME NAME ... NAME      while it burns CPU time
 *     sleeping: ... NAME NAME ... NAME  while it waits
 *     rarely:   NAME ... NAME           in between: may be seen or not
 *
 * Leaf first. "..." is any code that is not named in these lines: the C library's, the vdso's.
 * NAME*60 is sixty frames of one function, "[anon]" is memory that is no file's, "[plt]" a stub of
 * a procedure linkage table. Nothing else may be on a stack: what a line does not name did not run
 * for long.
 *
 * The expected waits are far longer than a millisecond, so that each carries its own stack. */
#ifndef SYSTEMSCOPE_ROUNDS_H
#define SYSTEMSCOPE_ROUNDS_H

#define WITHOUT_FRAME_POINTER
#include "../workload.h"

#define BURN_NS 4000000u
#define WAIT_NS 3000000

/* Both are inlined: the time is the caller's, under its own name. */
INLINE void burn(void)
{
	burn_quota(BURN_NS);
}

/* By the C library's own wrapper, which has no frame pointer either. */
INLINE void doze(void)
{
	struct timespec ts = { 0, WAIT_NS };
	nanosleep(&ts, NULL);
}

static volatile sig_atomic_t told_to_go;

static void on_go(int number)
{
	(void)number;
	told_to_go = 1;
}

/* SIGTERM ends the program; SIGUSR1 sets told_to_go, for programs with two parts. `other` is a
 * process that is there from the start, too. */
static inline void ready_with(pid_t other)
{
	struct sigaction action = { .sa_handler = on_go };
	sigaction(SIGUSR1, &action, NULL);
	stop_after(0);
	printf("{\"ready\": %d, \"other\": %d}\n", (int)getpid(), (int)other);
	fflush(stdout);
}

static inline void ready(void)
{
	ready_with(0);
}

/* As before a thread is made: signals are for the main thread alone. */
static inline void block_signals(sigset_t *old)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, old);
}

#endif
