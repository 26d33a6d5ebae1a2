/* 256 functions of one name ("bound.", and a number that the tests leave out), each called through the procedure linkage table. See binds.c. */
#define NAMED __attribute__((noinline, noipa))

#define FOUR(x, n) x(n##0) x(n##1) x(n##2) x(n##3)
#define SIXTEEN(x, n) FOUR(x, n##0) FOUR(x, n##1) FOUR(x, n##2) FOUR(x, n##3)
#define SIXTY_FOUR(x, n) SIXTEEN(x, n##0) SIXTEEN(x, n##1) SIXTEEN(x, n##2) SIXTEEN(x, n##3)
#define ALL(x) SIXTY_FOUR(x, 0) SIXTY_FOUR(x, 1) SIXTY_FOUR(x, 2) SIXTY_FOUR(x, 3)

#define DEFINE(n)                                 \
	int bound_##n(int number) __asm__("bound." #n); \
	NAMED int bound_##n(int number)           \
	{                                         \
		return number + 1;                \
	}
ALL(DEFINE)

int bind_all(int number);

#define CALL(n) number = bound_##n(number);
NAMED int bind_all(int number)
{
	ALL(CALL)
	return number;
}
