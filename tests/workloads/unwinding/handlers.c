/* Signal handlers that burn and wait: reached through raise(), from a timer at any instruction, on
 * the thread's stack and on another one, which lies below it or above it.
 *
 * running:  handler_burning ... raise_one main ... _start
 * sleeping: ... handler_waiting ... raise_one main ... _start
 * running:  elsewhere_burning ... raise_one main ... _start
 * sleeping: ... elsewhere_waiting ... raise_one main ... _start
 * running:  interrupted main ... _start
 * running:  timer_burning on_timer ... interrupted main ... _start
 * sleeping: ... timer_waiting on_timer ... interrupted main ... _start
 * running:  above_burning ... raise_above thread_above ...
 * sleeping: ... above_waiting ... raise_above thread_above ...
 * sleeping: ... rest main ... _start
 * sleeping: ... rest thread_above ... */
#include "rounds.h"

#define STACK_BYTES 65536

enum { BURN, WAIT, BURN_ELSEWHERE, WAIT_ELSEWHERE, BURN_ABOVE, WAIT_ABOVE, HANDLERS };

static char below_all_stacks[STACK_BYTES];
static atomic_int ticks;

NAMED void handler_burning(int number)
{
	(void)number;
	burn();
}

NAMED void handler_waiting(int number)
{
	(void)number;
	doze();
}

NAMED void elsewhere_burning(int number)
{
	(void)number;
	burn();
}

NAMED void elsewhere_waiting(int number)
{
	(void)number;
	doze();
}

NAMED void above_burning(int number)
{
	(void)number;
	burn();
}

NAMED void above_waiting(int number)
{
	(void)number;
	doze();
}

NAMED void timer_burning(void)
{
	burn();
}

NAMED void timer_waiting(void)
{
	doze();
}

NAMED void interrupted(void)
{
	burn_quota(3 * BURN_NS);
}

NAMED void rest(void)
{
	doze();
}

NAMED void on_timer(int number)
{
	(void)number;
	if (atomic_fetch_add(&ticks, 1) % 2)
		timer_burning();
	else
		timer_waiting();
}

NAMED void raise_one(int which)
{
	raise(SIGRTMIN + which);
}

NAMED void raise_above(int which)
{
	pthread_kill(pthread_self(), SIGRTMIN + which);
}

static void handle(int which, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART | flags };
	sigaction(SIGRTMIN + which, &action, NULL);
}

/* Its other stack was mapped before its own, so it lies above: mmap() goes downwards. */
NAMED void *thread_above(void *memory)
{
	stack_t other = { .ss_sp = memory, .ss_size = STACK_BYTES };
	sigset_t wanted;
	sigaltstack(&other, NULL);
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGRTMIN + BURN_ABOVE);
	sigaddset(&wanted, SIGRTMIN + WAIT_ABOVE);
	pthread_sigmask(SIG_UNBLOCK, &wanted, NULL);
	while (!stopped) {
		raise_above(BURN_ABOVE);
		raise_above(WAIT_ABOVE);
		rest();
	}
	return NULL;
}

static pthread_t start_above(void)
{
	pthread_t thread;
	sigset_t old;
	void *memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	block_signals(&old);
	pthread_create(&thread, NULL, thread_above, memory);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return thread;
}

/* The timer counts this thread's CPU time, so it is code that is interrupted, and that of main: the
 * signal is directed at this thread. */
static timer_t start_timer(void)
{
	struct sigaction action = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF };
	timer_t timer;
	event._sigev_un._tid = gettid();
	sigaction(SIGPROF, &action, NULL);
	timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
	return timer;
}

/* Its first tick comes within `interrupted`, its second is not awaited. */
static void set_timer(timer_t timer, long ns)
{
	struct itimerspec when = { .it_value = { 0, ns } };
	timer_settime(timer, 0, &when, NULL);
}

int main(void)
{
	stack_t other = { .ss_sp = below_all_stacks, .ss_size = STACK_BYTES };
	sigaltstack(&other, NULL);
	handle(BURN, handler_burning, 0);
	handle(WAIT, handler_waiting, 0);
	handle(BURN_ELSEWHERE, elsewhere_burning, SA_ONSTACK);
	handle(WAIT_ELSEWHERE, elsewhere_waiting, SA_ONSTACK);
	handle(BURN_ABOVE, above_burning, SA_ONSTACK);
	handle(WAIT_ABOVE, above_waiting, SA_ONSTACK);
	ready();
	timer_t timer = start_timer();
	pthread_t thread = start_above();
	while (!stopped) {
		for (int which = BURN; which <= WAIT_ELSEWHERE; which++)
			raise_one(which);
		set_timer(timer, BURN_NS);
		interrupted();
		rest();
	}
	pthread_join(thread, NULL);
	return 0;
}
