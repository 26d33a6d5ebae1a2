/* On SIGUSR1 forks and executes itself: a process whose program is not the one it began with.
 *
 * running:  parent_burning main ... _start
 * sleeping: ... parent_waiting main ... _start
 * running:  child_burning child_round main ... _start
 * sleeping: ... child_waiting child_round main ... _start */
#include "rounds.h"

NAMED void parent_burning(void)
{
	burn();
}

NAMED void parent_waiting(void)
{
	doze();
}

NAMED int child_burning(void)
{
	burn();
	return 1;
}

NAMED int child_waiting(void)
{
	doze();
	return 1;
}

NAMED int child_round(void)
{
	return child_burning() + child_waiting();
}

static int child_main(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	while (!stopped)
		child_round();
	return 0;
}

int main(int argc, char **argv)
{
	pid_t child = 0;
	if (flag(argc, argv, "--child"))
		return child_main();
	ready();
	while (!stopped) {
		if (told_to_go && !child) {
			child = fork();
			if (!child) {
				execl(argv[0], argv[0], "--child", (char *)NULL);
				_exit(127);
			}
		}
		parent_burning();
		parent_waiting();
	}
	if (child > 0)
		kill(child, SIGKILL);
	return 0;
}
