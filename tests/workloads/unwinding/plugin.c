/* What late.c loads. */
#include "rounds.h"

NAMED int plugin_burning(void)
{
	burn();
	return 1;
}

NAMED int plugin_waiting(void)
{
	doze();
	return 1;
}

NAMED int plugin_entry(int wait)
{
	return (wait ? plugin_waiting() : plugin_burning()) + 1;
}
