/* What throws.cc needs of rounds.h, which is no C++. */
#define NAMED __attribute__((noinline, noipa))

void start(void);
int over(void);
void wait_a_little(void);
