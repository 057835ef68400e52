/* SPDX-License-Identifier: Apache-2.0
 *
 * The first process of every pod: it keeps the pod's namespaces alive, reaps
 * orphans when the pod shares its process namespace, and ends on SIGTERM or
 * SIGINT. It uses no C library: one page of code and one of stack is all that
 * a pod pays. All signals it cares about stay blocked and are waited for, so no
 * handler is needed; the kernel ignores unblocked ones for a process 1.
 */
#include <asm/unistd.h>

enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, SIG_BLOCK = 0, WNOHANG = 1 };

static long call(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return n;
}

__attribute__((noreturn)) void _start(void)
{
	unsigned long set = 1UL << (SIGINT - 1) | 1UL << (SIGTERM - 1) | 1UL << (SIGCHLD - 1);
	long sig;

	call(__NR_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof set);
	do {
		while (call(__NR_wait4, -1, 0, WNOHANG, 0) > 0)
			;
		sig = call(__NR_rt_sigtimedwait, (long)&set, 0, 0, sizeof set);
	} while (sig != SIGINT && sig != SIGTERM);
	for (;;)
		call(__NR_exit_group, 0, 0, 0, 0);
}
