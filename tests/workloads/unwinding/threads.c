/* Threads that burn and wait in nested calls, each in its own way; one of them never runs.
 *
 * running:  burn_inner burn_outer burn_thread ...
 * sleeping: ... burn_thread ...
 * sleeping: ... nap_inner nap_outer nap_thread ...
 * sleeping: ... condition_inner condition_outer condition_thread ...
 * sleeping: ... pipe_inner pipe_outer pipe_thread ...
 * sleeping: ... poll_inner poll_outer poll_thread ...
 * sleeping: ... never_inner never_outer never_thread ...
 * sleeping: ... feed main ... _start */
#include "rounds.h"
#include <poll.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turns, fed[2], polled[2], silent[2];

NAMED int burn_inner(void)
{
	burn();
	return 1;
}

NAMED int burn_outer(void)
{
	return burn_inner() + 1;
}

NAMED void *burn_thread(void *unused)
{
	while (!stopped) {
		burn_outer();
		usleep(2000);
	}
	return unused;
}

NAMED int nap_inner(void)
{
	doze();
	return 1;
}

NAMED int nap_outer(void)
{
	return nap_inner() + 1;
}

NAMED void *nap_thread(void *unused)
{
	while (!stopped)
		nap_outer();
	return unused;
}

NAMED int condition_inner(int seen)
{
	pthread_mutex_lock(&mutex);
	while (turns == seen && !stopped)
		pthread_cond_wait(&condition, &mutex);
	seen = turns;
	pthread_mutex_unlock(&mutex);
	return seen;
}

NAMED int condition_outer(int seen)
{
	return condition_inner(seen);
}

NAMED void *condition_thread(void *unused)
{
	int seen = 0;
	while (!stopped)
		seen = condition_outer(seen);
	return unused;
}

NAMED long pipe_inner(char *byte)
{
	return read(fed[0], byte, 1);
}

NAMED long pipe_outer(void)
{
	char byte;
	return pipe_inner(&byte);
}

NAMED void *pipe_thread(void *unused)
{
	while (pipe_outer() == 1)
		;
	return unused;
}

NAMED int poll_inner(struct pollfd *wanted)
{
	return poll(wanted, 1, 1000);
}

NAMED int poll_outer(void)
{
	struct pollfd wanted = { .fd = polled[0], .events = POLLIN };
	return poll_inner(&wanted);
}

NAMED void *poll_thread(void *unused)
{
	char byte;
	while (!stopped)
		if (poll_outer() == 1 && read(polled[0], &byte, 1) != 1)
			break;
	return unused;
}

NAMED long never_inner(char *byte)
{
	return read(silent[0], byte, 1);
}

NAMED long never_outer(void)
{
	char byte;
	return never_inner(&byte);
}

NAMED void *never_thread(void *unused)
{
	never_outer();
	return unused;
}

NAMED int feed(void)
{
	doze();
	pthread_mutex_lock(&mutex);
	turns++;
	pthread_mutex_unlock(&mutex);
	pthread_cond_broadcast(&condition); /* whom it wakes finds the mutex free */
	return write(fed[1], "x", 1) == 1 && write(polled[1], "x", 1) == 1;
}

int main(void)
{
	void *(*const starts[])(void *) = { burn_thread, nap_thread,  condition_thread,
					    pipe_thread, poll_thread, never_thread };
	enum { COUNT = sizeof starts / sizeof *starts };
	pthread_t threads[COUNT];
	sigset_t old;
	if (pipe(fed) || pipe(polled) || pipe(silent))
		return 2;
	block_signals(&old);
	for (int i = 0; i < COUNT; i++)
		pthread_create(&threads[i], NULL, starts[i], NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	usleep(50000);
	ready();
	while (!stopped && feed())
		;
	close(fed[1]);
	close(silent[1]);
	pthread_mutex_lock(&mutex);
	pthread_cond_broadcast(&condition);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < COUNT; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
