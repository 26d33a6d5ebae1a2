/* What every workload shares: clocks, raw system calls, a stop flag, a timed burn.
 *
 * System calls that a test looks for in a stack are issued inline, in a named function that has a
 * frame pointer: C libraries' wrappers have none, and a frame-pointer walk would skip the caller. */
#ifndef SYSTEMSCOPE_WORKLOAD_H
#define SYSTEMSCOPE_WORKLOAD_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAMED __attribute__((noinline, noclone, noipa))
#define INLINE static inline __attribute__((always_inline))

typedef uint64_t u64;

static volatile sig_atomic_t stopped;

static void on_stop(int number)
{
	(void)number;
	stopped = 1;
}

/* SIGTERM, SIGINT and the alarm after `seconds` (0: never) end the workload; reads return EINTR. */
static inline void stop_after(double seconds)
{
	struct sigaction action = { .sa_handler = on_stop };
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (seconds > 0) {
		struct timespec ts = { (time_t)seconds,
				       (long)((seconds - (double)(time_t)seconds) * 1e9) };
		struct itimerspec when = { .it_value = ts };
		struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
		timer_t timer;
		if (timer_create(CLOCK_MONOTONIC, &event, &timer) ||
		    timer_settime(timer, 0, &when, NULL)) {
			perror("timer");
			exit(2);
		}
	}
}

/* Makes the function this is inlined into set up its frame pointer: gcc drops it from leaf functions
 * that use no stack, whatever -mno-omit-leaf-frame-pointer says. */
INLINE void keep_frame(void)
{
#ifndef WITHOUT_FRAME_POINTER
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)));
#endif
}

INLINE u64 read_clock(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

INLINE u64 now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

INLINE long raw3(long number, long a, long b, long c)
{
	keep_frame();
#if defined(__x86_64__)
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#else
	long result = syscall(number, a, b, c);
	return result < 0 ? -errno : result;
#endif
}

INLINE long raw4(long number, long a, long b, long c, long d)
{
	keep_frame();
#if defined(__x86_64__)
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#else
	long result = syscall(number, a, b, c, d);
	return result < 0 ? -errno : result;
#endif
}

/* The vdso has no answer for this clock. Asked inline, the time it takes belongs to the caller. */
INLINE u64 cpu_ns(void)
{
	struct timespec ts;
	raw3(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, (long)&ts, 0);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* A piece of arithmetic the compiler cannot drop: about one nanosecond a turn, in user mode. */
INLINE void turn(unsigned count)
{
	unsigned x = count;
	keep_frame();
	for (unsigned i = 0; i < count; i++)
		__asm__ volatile("" : "+r"(x) : "r"(i));
}

/* Burn until this thread's CPU clock has advanced by `quota`. The clock is read every ~60 us, so
 * that nearly all of the time is spent in the function this is inlined into. Returns what was
 * burnt. */
INLINE u64 burn_quota(u64 quota)
{
	u64 begin = cpu_ns(), used;
	do {
		turn(200000);
		used = cpu_ns() - begin;
	} while (used < quota && !stopped);
	return used;
}

INLINE void pin_to(int cpu)
{
	if (cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof set, &set)) {
			perror("sched_setaffinity");
			exit(2);
		}
	}
}

static inline void name_thread(const char *name)
{
	prctl(PR_SET_NAME, name, 0, 0, 0);
}

/* "--name VALUE" of the command line, or `fallback`. */
static inline const char *option(int argc, char **argv, const char *name, const char *fallback)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			return argv[i + 1];
	return fallback;
}

static inline int flag(int argc, char **argv, const char *name)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return 1;
	return 0;
}

#endif
