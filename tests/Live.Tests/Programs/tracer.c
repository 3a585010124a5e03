/* Traces the process that it is told, until standard input ends. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>

int main(int argc, char **argv) {
    if (argc < 2 || ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0) != 0) { puts("failed"); return 1; }
    puts("tracing");
    fflush(stdout);
    return getchar() == EOF ? 0 : 0;
}
