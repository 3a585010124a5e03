/* Processes to be dumped and restored lazily, whose threads end the moment they run again. The first one has the say: when the file that is
 * its first argument is there, it kills the owner of a mutex, lets a thread of another process end, and tries guard pages and an area that
 * fork wipes. What came of it is written to the second argument, one line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 64
#define NODES 5
#define GUARD_INSTALL 102
#define WIPEONFORK 18

struct shared {
    pthread_mutex_t owned;
    volatile int ready, end, joined, nodes;
};
static struct shared *shared;
static pthread_mutex_t *node[NODES];
static unsigned char *guarded, *wiped;
static sigjmp_buf trap;

/* Without libc, which looks at the thread's own page. */
static long bare(long number, long a, long b) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return result;
}

static pthread_mutex_t *robust(void *at, int pshared) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, pshared);
    pthread_mutex_init(at, &attr);
    return at;
}

/* Waits far from its own page, which is at the end of its stack, and ends without touching that. */
static __attribute__((noinline)) void wait_and_end(void) {
    volatile char far[64 * 1024];
    far[0] = 0;
    struct timespec little = {0, 1000000};
    shared->ready++;
    while (!shared->end) bare(SYS_nanosleep, (long)&little, 0);
    bare(SYS_exit, far[0], 0);
}

static void *owner_of_nodes(void *x) {
    for (int i = 0; i < NODES; i++) pthread_mutex_lock(node[i]);
    wait_and_end();
    return x;
}

static int lock(pthread_mutex_t *mutex) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 3;
    return pthread_mutex_timedlock(mutex, &until);
}

static void be_joiner(void) {
    for (int i = 0; i < NODES; i++)
        node[i] = robust(mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + (i % 3) * PAGE, PTHREAD_PROCESS_PRIVATE);
    pthread_t thread;
    pthread_create(&thread, 0, owner_of_nodes, 0);
    pthread_join(thread, 0);
    shared->joined = 1;
    int died = 0;
    for (int i = 0; i < NODES; i++) died += lock(node[i]) == EOWNERDEAD;
    shared->nodes = 1 + died;
    pause();
}

static void on_trap(int n) { siglongjmp(trap, n); }

static int traps(void) {
    volatile int n = 0;
    for (volatile int p = 0; p < PAGES; p++) {
        if (sigsetjmp(trap, 1)) { n++; continue; }
        if (((volatile unsigned char *)guarded)[p * PAGE] != p + 1) n += 1000;
    }
    return n;
}

static int wiped_in_child(void) {
    pid_t child = fork();
    if (!child) {
        int n = 0;
        for (int i = 0; i < PAGES * PAGE; i++) n |= wiped[i];
        _exit(n ? 1 : 0);
    }
    int status;
    waitpid(child, &status, 0);
    return status == 0;
}

/* Killed while CRIU still traces it, a process makes the restore fail. */
static int is_traced(pid_t pid) {
    char path[64], line[128];
    int tracer = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status)) sscanf(line, "TracerPid: %d", &tracer);
    if (status) fclose(status);
    return tracer != 0;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    robust(&shared->owned, PTHREAD_PROCESS_SHARED);
    guarded = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    wiped = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int p = 0; p < PAGES; p++) { guarded[p * PAGE] = p + 1; wiped[p * PAGE] = p + 1; }
    pid_t owner = fork();
    if (!owner) { pthread_mutex_lock(&shared->owned); shared->ready++; pause(); }
    if (!fork()) be_joiner();
    int guards = madvise(guarded, PAGE, GUARD_INSTALL) == 0 && madvise(guarded + 10 * PAGE, 6 * PAGE, GUARD_INSTALL) == 0
        && madvise(guarded + (PAGES - 1) * PAGE, PAGE, GUARD_INSTALL) == 0;
    madvise(wiped, PAGES * PAGE, WIPEONFORK);
    signal(SIGSEGV, on_trap);
    while (shared->ready < 2) usleep(1000);
    int ready = open(argv[2], O_WRONLY | O_CREAT, 0644);
    dprintf(ready, "%s\n", guards ? "ready" : "no guards");
    close(ready);
    struct timespec little = {0, 1000000};
    while (access(argv[1], F_OK)) nanosleep(&little, 0);
    /* At once: nobody touched the pages of either. */
    while (is_traced(owner)) nanosleep(&little, 0);
    kill(owner, SIGKILL);
    shared->end = 1;
    int owned = lock(&shared->owned);
    for (int i = 0; i < 3000 && !shared->nodes; i++) usleep(1000);
    int result = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dprintf(result, "owner %s, joined %d, nodes %d, traps %d, wiped %d\n",
        owned == EOWNERDEAD ? "died" : strerror(owned), shared->joined, shared->nodes - 1, traps(), wiped_in_child());
    close(result);
    pause();
    return 0;
}
