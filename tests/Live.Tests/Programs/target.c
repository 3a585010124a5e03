/* A process to be captured: memory with known content, threads that wait in every way that an interruption could
 * disturb, and one that computes. Commands come on standard input, one letter each; each answers with one line. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define AREAS 4
static unsigned char *area[AREAS];
static size_t area_pages[AREAS];
static char *small[1000];
static atomic_int spurious, wrong_sum, waiting, alarms;
static atomic_long rounds;
static const char *who[16];

static uint64_t next(uint64_t *s) { *s ^= *s << 13; *s ^= *s >> 7; return *s ^= *s << 17; }

/* A wait that nobody ends. Whoever returns was disturbed. */
static void disturbed(const char *name, long result) {
    int i = atomic_fetch_add(&spurious, 1);
    if (i < 16) who[i] = name;
    fprintf(stderr, "disturbed: %s returned %ld, errno %d\n", name, result, errno);
}
#define WAIT(name, call) static void *name(void *x) { (void)x; waiting++; long r = (call); disturbed(#name, r); return 0; }
static int pipes[2], pairs[2], semaphore, ep;
static int word;
static struct epoll_event event;
static struct timespec hour = {3600, 0};
static sigset_t usr2, usr;
WAIT(in_epoll_wait, epoll_wait(ep, &event, 1, -1))
WAIT(in_epoll_wait_timeout, epoll_wait(ep, &event, 1, 3600000))
WAIT(in_epoll_pwait, epoll_pwait(ep, &event, 1, -1, &usr))
WAIT(in_nanosleep, nanosleep(&hour, 0))
WAIT(in_clock_nanosleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, 0))
WAIT(in_futex, syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0))
WAIT(in_futex_timeout, syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &hour, 0, 0))
WAIT(in_read, read(pipes[0], &(char){0}, 1))
WAIT(in_sigtimedwait, sigtimedwait(&usr2, 0, &hour))
WAIT(in_poll, poll(&(struct pollfd){pipes[0], POLLIN, 0}, 1, 3600000))
WAIT(in_ppoll, ppoll(&(struct pollfd){pipes[0], POLLIN, 0}, 1, &hour, &usr))
static long select_pipe(void) { fd_set s; FD_ZERO(&s); FD_SET(pipes[0], &s); return select(pipes[0] + 1, &s, 0, 0, 0); }
WAIT(in_select, select_pipe())
WAIT(in_recv_timeout, recv(pairs[0], &(char){0}, 1, 0))
WAIT(in_semop, semop(semaphore, &(struct sembuf){0, -1, 0}, 1))
WAIT(in_sigsuspend, sigsuspend(&usr))

/* Vector and integer registers must survive whatever is done to this thread. */
static void *computing(void *x) {
    waiting++;
    for (;;) {
        double a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, want[8];
        uint64_t s = 88172645463325252ull, h = 0;
        for (int j = 0; j < 8; j++) { want[j] = a[j]; for (int i = 0; i < 1000; i++) want[j] = want[j] * 1.0001 + 0.5; }
        for (int i = 0; i < 1000; i++) { for (int j = 0; j < 8; j++) a[j] = a[j] * 1.0001 + 0.5; h ^= next(&s); }
        static uint64_t first;
        if (!first) first = h;
        if (memcmp(a, want, sizeof a) || h != first) { wrong_sum++; if (x) abort(); }
        rounds++;
    }
    return 0;
}

static void on_alarm(int n) { (void)n; alarms++; }

static uint64_t hash(void) {
    uint64_t h = 14695981039346656037ull;
    for (int a = 0; a < AREAS; a++)
        for (size_t i = 0; area[a] && i < area_pages[a] * PAGE; i += 8)
            h = (h ^ *(uint64_t *)(area[a] + i)) * 1099511628211ull;
    for (int i = 0; i < 1000; i++)
        for (int j = 0; j < 1000; j++) h = (h ^ (unsigned char)small[i][j]) * 1099511628211ull;
    return h;
}

int main(int argc, char **argv) {
    size_t pages = argc > 1 ? strtoul(argv[1], 0, 0) : 1024;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    uint64_t seed = 42;
    if (argc > 3 && !strcmp(argv[3], "again")) { puts("executed"); fflush(stdout); pause(); }
    for (int a = 0; a < AREAS; a++) {
        area_pages[a] = pages;
        area[a] = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t p = 0; p < pages; p++) {
            if (p % 7 == 3) continue;                       /* never touched */
            if (p % 7 == 5) { area[a][p * PAGE] = 0; continue; } /* touched, all zero */
            for (int i = 0; i < PAGE; i += 8) *(uint64_t *)(area[a] + p * PAGE + i) = next(&seed);
        }
    }
    mlock(area[1], pages * PAGE / 2);
    mprotect(area[2], pages * PAGE / 4, PROT_READ);
    for (int i = 0; i < 1000; i++) { small[i] = malloc(1000); for (int j = 0; j < 1000; j++) small[i][j] = (char)next(&seed); }
    sigemptyset(&usr2); sigaddset(&usr2, SIGUSR2);
    usr = usr2; sigaddset(&usr, SIGUSR1);
    /* SIGUSR1 is for the first thread: it would rightly end some of the others' waits, whatever SA_RESTART says. */
    sigprocmask(SIG_BLOCK, &usr, 0);
    struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &sa, 0);
    if (threads == 2) { /* nothing but computing, and an end at the first wrong result */
        printf("ready\n");
        fflush(stdout);
        computing((void *)1);
    }
    if (threads) {
        void *(*all[])(void *) = {in_epoll_wait, in_epoll_wait_timeout, in_epoll_pwait, in_nanosleep, in_clock_nanosleep, in_futex,
            in_futex_timeout, in_read, in_sigtimedwait, in_poll, in_ppoll, in_select, in_recv_timeout, in_semop, in_sigsuspend, computing};
        int n = sizeof all / sizeof *all;
        ep = epoll_create1(0);
        pipe(pipes);
        socketpair(AF_UNIX, SOCK_STREAM, 0, pairs);
        setsockopt(pairs[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){3600, 0}, sizeof(struct timeval));
        semaphore = semget(IPC_PRIVATE, 1, 0600);
        for (int i = 0; i < n; i++) { pthread_t t; pthread_create(&t, 0, all[i], 0); }
        while (waiting < n) usleep(1000);
        usleep(20000);
    }
    sigprocmask(SIG_SETMASK, &usr2, 0);
    printf("ready\n");
    fflush(stdout);
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        switch (line[0]) {
        case 'h': printf("%016lx\n", hash()); break;
        case 's': printf("spurious %d wrong %d rounds %d alarms %d\n", spurious, wrong_sum, rounds > 0, alarms); rounds = 0; break;
        case 'f': { /* a child that reads everything */
            fflush(stdout);
            pid_t child = fork();
            if (!child) { printf("%016lx\n", hash()); fflush(stdout); _exit(0); }
            waitpid(child, 0, 0);
            break; }
        case 'g': /* a child that reads everything later, and answers with a second line */
            fflush(stdout);
            if (!fork()) { usleep(1500000); printf("%016lx\n", hash()); fflush(stdout); _exit(0); }
            printf("forked\n");
            break;
        case 'm': { /* move area 0 */
            void *moved = mremap(area[0], area_pages[0] * PAGE, area_pages[0] * PAGE * 2, MREMAP_MAYMOVE | MREMAP_FIXED,
                mmap(0, area_pages[0] * PAGE * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
            printf("%s\n", moved == MAP_FAILED ? strerror(errno) : "moved");
            area[0] = moved; break; }
        case 'u': /* the second half of area 3 goes */
            munmap(area[3] + area_pages[3] / 2 * PAGE, (area_pages[3] - area_pages[3] / 2) * PAGE);
            area_pages[3] /= 2; printf("unmapped\n"); break;
        case 'd': { /* the first half of area 3 becomes zero */
            size_t half = area_pages[3] / 2 * PAGE;
            madvise(area[3], half, MADV_DONTNEED);
            size_t set = 0;
            for (size_t i = 0; i < half; i++) set += area[3][i] != 0;
            printf("not zero %zu\n", set); break; }
        case 'p': /* split areas in pieces of other protection */
            for (size_t p = 0; p + 8 < area_pages[0]; p += 16) mprotect(area[0] + p * PAGE, PAGE * 4, PROT_READ);
            printf("protected\n"); break;
        case 'x': execl("/proc/self/exe", "target", "16", "0", "again", (char *)0); break;
        case 'q': exit(0);
        }
        fflush(stdout);
    }
    if (threads) semctl(semaphore, 0, IPC_RMID);
    return 0;
}
