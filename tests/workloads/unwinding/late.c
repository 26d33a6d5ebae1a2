/* late PLUGIN: on SIGUSR1 loads code that was not there when the window began.
 *
 * running:  before_burning main ... _start
 * sleeping: ... before_waiting main ... _start
 * running:  plugin_burning plugin_entry call_plugin main ... _start
 * sleeping: ... plugin_waiting plugin_entry call_plugin main ... _start */
#include "rounds.h"
#include <dlfcn.h>

NAMED void before_burning(void)
{
	burn();
}

NAMED void before_waiting(void)
{
	doze();
}

NAMED int call_plugin(int (*entry)(int), int number)
{
	return entry(number) + 1;
}

int main(int argc, char **argv)
{
	int (*entry)(int) = NULL;
	if (argc < 2)
		return 2;
	ready();
	while (!stopped) {
		if (told_to_go && !entry) {
			void *plugin = dlopen(argv[1], RTLD_NOW);
			entry = plugin ? (int (*)(int))dlsym(plugin, "plugin_entry") : NULL;
			if (!entry)
				return 3;
		}
		if (entry) {
			call_plugin(entry, 0);
			call_plugin(entry, 1);
		} else {
			before_burning();
			before_waiting();
		}
	}
	return 0;
}
