/* A process to be recorded: toucher PRIVATE MICROSECONDS SHARED [THREADS]. It has that many private pages, and touches one each so many
 * microseconds, round and round; with 0 it sleeps. It has SHARED pages of shared anonymous memory, and as many in a memfd.
 * With THREADS, that many threads wait for SIGUSR1, then each touches its share of the private pages once, and a line with the
 * milliseconds that this took is written; again at the next signal. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
static volatile unsigned char *pages;
static long share;
static int start_word, done;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e3 + t.tv_nsec / 1e6; }

static void *touch(void *which) {
    prctl(PR_SET_NAME, "toucher-thread");
    for (int round = 0;; round++) {
        while (__atomic_load_n(&start_word, __ATOMIC_ACQUIRE) <= round)
            syscall(SYS_futex, &start_word, FUTEX_WAIT_PRIVATE, round, 0, 0, 0);
        for (long i = 0; i < share; i++)
            (void)pages[((long)which * share + i) * PAGE];
        __atomic_add_fetch(&done, 1, __ATOMIC_RELEASE);
    }
    return 0;
}

static void run_threads(long count, long total) {
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, 0);
    share = total / count;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, touch, (void *)i)) { perror("pthread_create"); exit(1); }
    }
    printf("ready\n");
    for (int round = 1;; round++) {
        int signal;
        sigwait(&usr1, &signal);
        double begun = now();
        __atomic_store_n(&done, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&start_word, round, __ATOMIC_RELEASE);
        syscall(SYS_futex, &start_word, FUTEX_WAKE_PRIVATE, 1 << 30, 0, 0, 0);
        while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < count) usleep(500);
        printf("%.3f\n", now() - begun);
    }
}

int main(int argc, char **argv) {
    long total = atol(argv[1]), interval = atol(argv[2]), shared = atol(argv[3]), threads = argc > 4 ? atol(argv[4]) : 0;
    setvbuf(stdout, 0, _IOLBF, 0);
    pages = mmap(0, total * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < total * PAGE; i++) pages[i] = (unsigned char)(i * 7 + i / PAGE + 1);
    if (shared > 0) {
        int memory = memfd_create("guest", 0);
        if (memory < 0 || ftruncate(memory, shared * PAGE)) { perror("memfd_create"); return 1; }
        memset(mmap(0, shared * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 1, shared * PAGE);
        memset(mmap(0, shared * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0), 1, shared * PAGE);
    }
    if (threads > 0) run_threads(threads, total);
    printf("ready\n");
    unsigned long sum = 0;
    for (long i = 0;; i++) {
        if (interval == 0) pause();
        sum += pages[(i % total) * PAGE];
        usleep(interval);
    }
    return (int)sum;
}
