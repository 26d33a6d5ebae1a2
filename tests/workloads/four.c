/* Four threads whose states are known: one burns CPU, one works 10 ms and sleeps 10 ms, one is
 * blocked on a futex from start to end, one reads a pipe that another process feeds at 100 Hz.
 *
 * four [--seconds S]. Prints {"ready": pid, "tids": {...}} once all of them are where they belong. */
#include "workload.h"
#include <linux/futex.h>

#define WORK_NS 10000000u
#define FEED_NS 10000000u

static int feed[2];
static atomic_int futex_word;
static atomic_int tids[4];
static u64 bytes_read, naps, worked_ns, burnt_ns;

NAMED void nap(long ns)
{
	struct timespec ts = { 0, ns };
	raw4(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&ts, 0);
}

NAMED void do_work(void)
{
	worked_ns += burn_quota(WORK_NS);
}

NAMED void *worker_thread(void *unused)
{
	name_thread("worker");
	atomic_store(&tids[1], (int)gettid());
	while (!stopped) {
		do_work();
		nap(WORK_NS);
		naps++;
	}
	return unused;
}

NAMED void wait_on_futex(void)
{
	raw4(SYS_futex, (long)&futex_word, FUTEX_WAIT_PRIVATE, 0, 0);
}

NAMED void *futex_thread(void *unused)
{
	name_thread("futexer");
	atomic_store(&tids[2], (int)gettid());
	while (!atomic_load(&futex_word))
		wait_on_futex();
	return unused;
}

NAMED long read_feed(char *byte)
{
	return raw3(SYS_read, feed[0], (long)byte, 1);
}

NAMED void *reader_thread(void *unused)
{
	char byte;
	name_thread("reader");
	atomic_store(&tids[3], (int)gettid());
	while (read_feed(&byte) == 1)
		bytes_read++;
	return unused;
}

/* Writes one byte every 10 ms, by absolute deadlines, until the reader is gone. */
static void feeder(void)
{
	u64 next = now_ns();
	name_thread("feeder");
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (;;) {
		next += FEED_NS;
		struct timespec ts = { (time_t)(next / 1000000000u), (long)(next % 1000000000u) };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		if (write(feed[1], "x", 1) != 1)
			_exit(0);
	}
}

NAMED void burn_until_stopped(void)
{
	while (!stopped)
		burnt_ns += burn_quota(1000000000u);
}

int main(int argc, char **argv)
{
	pthread_t threads[3];
	if (pipe(feed))
		return 2;
	pid_t child = fork();
	if (!child) {
		close(feed[0]);
		feeder();
	}
	/* Signals go to the main thread alone: the others' waits are never interrupted. */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_create(&threads[0], NULL, worker_thread, NULL);
	pthread_create(&threads[1], NULL, futex_thread, NULL);
	pthread_create(&threads[2], NULL, reader_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	name_thread("burner");
	atomic_store(&tids[0], (int)gettid());
	stop_after(atof(option(argc, argv, "--seconds", "0")));
	for (int i = 0; i < 4; i++)
		while (!atomic_load(&tids[i]))
			usleep(1000);
	usleep(20000);
	printf("{\"ready\": %d, \"feeder\": %d, \"tids\": {\"burner\": %d, \"worker\": %d, \"futexer\": %d, \"reader\": %d}}\n",
	       (int)getpid(), (int)child, tids[0], tids[1], tids[2], tids[3]);
	fflush(stdout);
	burn_until_stopped();
	atomic_store(&futex_word, 1);
	syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(feed[1]);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	printf("{\"bytes_read\": %llu, \"naps\": %llu, \"worked_ns\": %llu, \"burnt_ns\": %llu}\n",
	       (unsigned long long)bytes_read, (unsigned long long)naps,
	       (unsigned long long)worked_ns, (unsigned long long)burnt_ns);
	return 0;
}
