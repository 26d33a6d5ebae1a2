/* A storm of context switches: two threads answer each other through pipes as fast as they go.
 *
 * storm [--seconds S] [--pin CPU] [--order strict|random] [--seed N] [--work-a NS] [--work-b NS]
 *       [--counter FILE]
 *
 * The asker waits for each answer at one of two call sites, wait_at_a and wait_at_b, in strict
 * alternation or drawn at random. The answerer works --work-a or --work-b nanoseconds (by turns of
 * arithmetic calibrated at the start) before it answers, so the waits of one site are longer than the
 * other's.
 *
 * Truth, without a bias by system call and clock costs: around every wait the asker reads
 * CLOCK_MONOTONIC, so it knows the sum per site plus an unknown constant cost per wait; it also knows
 * from its CPU clock how long it was off the CPU altogether. The difference of the two, spread over
 * all waits, is that constant. --counter: a file whose first 8 bytes count round trips. */
#include "workload.h"

static int to_answerer[2], to_asker[2];
static atomic_int answerer_tid;
static unsigned work[2];
static u64 answerer_cpu_ns, answerer_wall_ns;
static volatile u64 *counter;

NAMED long wait_at_a(char *byte)
{
	return raw3(SYS_read, to_asker[0], (long)byte, 1);
}

NAMED long wait_at_b(char *byte)
{
	return raw3(SYS_read, to_asker[0], (long)byte, 1);
}

NAMED void answer_work(unsigned turns)
{
	if (turns)
		turn(turns);
}

NAMED void *answerer_thread(void *unused)
{
	char byte;
	name_thread("answerer");
	u64 begin = now_ns(), cpu_begin = cpu_ns();
	atomic_store(&answerer_tid, (int)gettid());
	while (raw3(SYS_read, to_answerer[0], (long)&byte, 1) == 1) {
		answer_work(work[byte & 1]);
		raw3(SYS_write, to_asker[1], (long)&byte, 1);
	}
	answerer_cpu_ns = cpu_ns() - cpu_begin;
	answerer_wall_ns = now_ns() - begin;
	return unused;
}

struct truth {
	u64 rounds[2], clock_ns[2], wall_ns, cpu_ns, begin_ns;
};

/* xorshift64*: seeded, and good enough to have no period a sampler could lock onto. */
INLINE unsigned draw(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (unsigned)((*state * 2685821657736338717ull) >> 63);
}

NAMED void ask(struct truth *truth, int at_random, u64 seed)
{
	char byte = 0;
	unsigned site = 0;
	u64 state = seed;
	u64 cpu_begin = cpu_ns();
	truth->begin_ns = now_ns();
	while (!stopped) {
		site = at_random ? draw(&state) : site ^ 1;
		byte = (char)site;
		if (raw3(SYS_write, to_answerer[1], (long)&byte, 1) != 1)
			break;
		u64 before = now_ns();
		while ((site ? wait_at_b(&byte) : wait_at_a(&byte)) == -EINTR)
			;
		truth->clock_ns[site] += now_ns() - before;
		truth->rounds[site]++;
		(*counter)++;
	}
	truth->wall_ns = now_ns() - truth->begin_ns;
	truth->cpu_ns = cpu_ns() - cpu_begin;
}

/* Turns of arithmetic that take `ns`: the best of several tries, free of preemption. */
static unsigned turns_for(u64 ns)
{
	u64 best = UINT64_MAX;
	for (int i = 0; ns && i < 50; i++) {
		u64 begin = now_ns();
		turn(100000);
		u64 took = now_ns() - begin;
		best = took < best ? took : best;
	}
	return ns ? (unsigned)(ns * 100000 / best) : 0;
}

static void map_counter(const char *path)
{
	static u64 private_counter;
	counter = &private_counter;
	if (*path) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, 4096)) {
			perror(path);
			exit(2);
		}
		counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
}

int main(int argc, char **argv)
{
	struct truth truth = { 0 };
	pthread_t answerer;
	/* A batch thread never preempts the one that wakes it: the asker's waits happen at its two sites
	 * and nowhere else. */
	struct sched_param param = { 0 };
	if (sched_setscheduler(0, SCHED_BATCH, &param))
		perror("sched_setscheduler");
	pin_to(atoi(option(argc, argv, "--pin", "-1")));
	map_counter(option(argc, argv, "--counter", ""));
	work[0] = turns_for(strtoull(option(argc, argv, "--work-a", "0"), NULL, 10));
	work[1] = turns_for(strtoull(option(argc, argv, "--work-b", "0"), NULL, 10));
	if (pipe(to_answerer) || pipe(to_asker))
		return 2;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_create(&answerer, NULL, answerer_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	name_thread("asker");
	while (!atomic_load(&answerer_tid))
		usleep(1000);
	printf("{\"ready\": %d, \"tids\": {\"asker\": %d, \"answerer\": %d}}\n", (int)getpid(),
	       (int)gettid(), answerer_tid);
	fflush(stdout);
	stop_after(atof(option(argc, argv, "--seconds", "0")));
	ask(&truth, !strcmp(option(argc, argv, "--order", "strict"), "random"),
	    strtoull(option(argc, argv, "--seed", "88172645463325252"), NULL, 10) | 1);
	close(to_answerer[1]);
	pthread_join(answerer, NULL);
	u64 rounds = truth.rounds[0] + truth.rounds[1];
	double off = (double)(truth.wall_ns - truth.cpu_ns);
	double cost = ((double)(truth.clock_ns[0] + truth.clock_ns[1]) - off) / (double)(rounds ? rounds : 1);
	printf("{\"rounds_a\": %llu, \"rounds_b\": %llu, \"waited_a_ns\": %.0f, \"waited_b_ns\": %.0f, "
	       "\"wall_ns\": %llu, \"asker_cpu_ns\": %llu, \"answerer_cpu_ns\": %llu, "
	       "\"asker_life_cpu_ns\": %llu, "
	       "\"wait_cost_ns\": %.0f, \"round_trips_per_second\": %.0f}\n",
	       (unsigned long long)truth.rounds[0], (unsigned long long)truth.rounds[1],
	       (double)truth.clock_ns[0] - cost * (double)truth.rounds[0],
	       (double)truth.clock_ns[1] - cost * (double)truth.rounds[1],
	       (unsigned long long)truth.wall_ns, (unsigned long long)truth.cpu_ns,
	       (unsigned long long)answerer_cpu_ns, (unsigned long long)cpu_ns(), cost,
	       (double)rounds * 1e9 / (double)truth.wall_ns);
	return 0;
}
