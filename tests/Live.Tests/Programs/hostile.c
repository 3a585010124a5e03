/* A process that is hard to attach to, in one way: the first argument says which. It checks its own memory and registers. Commands come on
 * standard input, one letter each, and are answered with one line. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 512
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

static unsigned char *area;
static uint64_t area_hash;
static atomic_int wrong, dispatched, children;
static atomic_long rounds;
static volatile char selector; /* 0 lets calls pass, 1 makes them SIGSYS */
static int pipes[2];
static pid_t child;
extern char **environ;

static uint64_t next(uint64_t *s) { *s ^= *s << 13; *s ^= *s >> 7; return *s ^= *s << 17; }

static uint64_t hash(void) {
    uint64_t h = 14695981039346656037ull;
    for (size_t i = 0; i < PAGES * PAGE; i += 8) h = (h ^ *(uint64_t *)(area + i)) * 1099511628211ull;
    return h;
}

/* Registers, integer and vector, must survive whatever is done to this thread. */
static void compute(void) {
    double a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, want[8];
    static uint64_t first;
    uint64_t s = 88172645463325252ull, h = 0;
    for (int j = 0; j < 8; j++) { want[j] = a[j]; for (int i = 0; i < 1000; i++) want[j] = want[j] * 1.0001 + 0.5; }
    for (int i = 0; i < 1000; i++) { for (int j = 0; j < 8; j++) a[j] = a[j] * 1.0001 + 0.5; h ^= next(&s); }
    if (!first) first = h;
    if (memcmp(a, want, sizeof a) || h != first) wrong++;
    rounds++;
}

static void say(const char *line) { if (write(1, line, strlen(line)) < 0) _exit(3); }

static void *computing(void *x) { for (;;) compute(); return x; }

static void on_sys(int n) { (void)n; selector = 0; dispatched++; }

static void dispatch(void) {
    struct sigaction sa = {.sa_handler = on_sys};
    sigaction(SIGSYS, &sa, 0);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector)) { say("no dispatch\n"); _exit(2); }
}

static void *dispatched_computing(void *x) { dispatch(); rounds++; selector = 1; for (;;) compute(); return x; }

/* What an injection needs ends in the action; what the program needs is allowed. */
static void forbid(const int *calls, int n, unsigned action, int flags);

static void filter(unsigned action, int flags) {
    int calls[] = {SYS_mmap, SYS_mprotect, SYS_munmap, SYS_madvise, SYS_ioctl, SYS_close, SYS_socketpair, SYS_recvmsg, 323 /* userfaultfd */, SYS_getpid};
    forbid(calls, sizeof calls / sizeof *calls, action, flags);
}

static void forbid(const int *calls, int n, unsigned action, int flags) {
    struct sock_filter code[2 + 16] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)}};
    for (int i = 0; i < n; i++) code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], n - i, 0);
    code[1 + n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[2 + n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    struct sock_fprog program = {3 + n, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0) { say("no seccomp\n"); _exit(2); }
}

static void *filtered_reading(void *x) { char c; filter(SECCOMP_RET_KILL_PROCESS, 0); rounds++; for (;;) read(pipes[0], &c, 1); return x; }

/* A sleep that is interrupted by a stop goes on by restart_syscall, which few filters know. */
static void *sleeping_without_restart(void *x) {
    int call = SYS_restart_syscall;
    forbid(&call, 1, SECCOMP_RET_KILL_PROCESS, 0);
    rounds++;
    for (;;) nanosleep(&(struct timespec){1, 0}, 0);
    return x;
}

static int shared_child(void *x) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    child = syscall(SYS_getpid); /* vfork returns too late to tell */
    children++;
    for (;;) pause();
    return x != 0;
}

static int until_letter(void *x) { char c; _exit(read(0, &c, 1) != 1 || x); }

static void *vforking(void *x) {
    static char stack[65536] __attribute__((aligned(16)));
    if (clone(shared_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0) < 0) _exit(4);
    return x;
}

static void *spawning(void *x) {
    char *arguments[] = {"true", 0};
    for (;; rounds++) {
        pid_t pid;
        if (posix_spawnp(&pid, "true", 0, 0, arguments, environ)) wrong++;
        else if (waitpid(pid, 0, 0) != pid) wrong++;
    }
    return x;
}

static void *toucher(void *x) {
    char c;
    pthread_setname_np(pthread_self(), "toucher");
    rounds++;
    while (read(pipes[0], &c, 1) == 1) say(hash() == area_hash ? "good\n" : "bad memory\n");
    return x;
}

/* A read that never ends, made by a thread of the kernel's own. */
static void start_kernel_worker(void) {
    struct io_uring_params p = {0};
    int ring = syscall(425, 4, &p);
    if (ring < 0) { say("no io_uring\n"); _exit(2); }
    unsigned char *sq = mmap(0, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *sqe = mmap(0, p.sq_entries * sizeof *sqe, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    static char buffer;
    *sqe = (struct io_uring_sqe){.opcode = IORING_OP_READ, .flags = IOSQE_ASYNC, .fd = pipes[0], .addr = (uint64_t)&buffer, .len = 1};
    *(unsigned *)(sq + p.sq_off.array) = 0;
    *(unsigned *)(sq + p.sq_off.tail) = 1;
    if (syscall(426, ring, 1, 0, 0, 0, 0) != 1) _exit(4);
}

static void start(void *(*function)(void *)) { pthread_t t; pthread_create(&t, 0, function, 0); }

static void clone_shared(int flags) {
    char *stack = malloc(65536);
    if (clone(shared_child, stack + 65536, flags | SIGCHLD, 0) < 0) _exit(4);
    while (!children) sched_yield();
}

static void check(void) {
    if (dispatched) say("bad: a signal of ours was seen\n");
    else if (wrong) say("bad registers\n");
    else if (hash() != area_hash) say("bad memory\n");
    else say("good\n");
}

static void command(char c) {
    switch (c) {
    case 'h': check(); break;
    case 'V': start(vforking); while (!children) sched_yield(); say("vforked\n"); break;
    case 'C': clone_shared(CLONE_VM); say("cloned\n"); break;
    case 'E': if (child <= 1) _exit(4); children = 0; kill(child, SIGKILL); waitpid(child, 0, 0); say("ended\n"); break;
    case 't': if (write(pipes[1], "t", 1) != 1) say("bad pipe\n"); break;
    }
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    uint64_t seed = 42;
    area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < PAGES * PAGE; i += 8) *(uint64_t *)(area + i) = next(&seed);
    area_hash = hash();
    volatile char *heap = malloc(100000);
    for (int i = 0; i < 100000; i++) heap[i] = 1;
    pipe(pipes);
    int spins = 0;
    if (!strcmp(mode, "computing")) start(computing);
    else if (!strcmp(mode, "spin")) spins = 1;
    else if (!strcmp(mode, "sud")) { dispatch(); spins = 1; }
    else if (!strcmp(mode, "sud-thread")) start(dispatched_computing);
    else if (!strcmp(mode, "strict")) { if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) return 2; }
    else if (!strcmp(mode, "trap")) filter(SECCOMP_RET_TRAP, 0);
    else if (!strcmp(mode, "kill")) filter(SECCOMP_RET_KILL_PROCESS, 0);
    else if (!strcmp(mode, "errno")) filter(SECCOMP_RET_ERRNO | EPERM, 0);
    else if (!strcmp(mode, "trace")) filter(SECCOMP_RET_TRACE, 0);
    else if (!strcmp(mode, "notify")) filter(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    else if (!strcmp(mode, "filtered-thread")) { start(filtered_reading); spins = 1; }
    else if (!strcmp(mode, "no-restart")) start(sleeping_without_restart);
    else if (!strcmp(mode, "clone-vm")) clone_shared(CLONE_VM);
    else if (!strcmp(mode, "spawn")) start(spawning);
    else if (!strcmp(mode, "kernel-worker")) { start_kernel_worker(); spins = 1; }
    else if (!strcmp(mode, "toucher")) start(toucher);
    else if (!strcmp(mode, "large")) {
        size_t bytes = 400ul << 20;
        memset(mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, bytes);
    }
    if (!strcmp(mode, "sud-thread") || !strcmp(mode, "filtered-thread") || !strcmp(mode, "toucher") || !strcmp(mode, "no-restart")) while (!rounds) sched_yield();
    say("ready\n");
    if (!strcmp(mode, "vfork")) { /* until a letter comes */
        static char stack[65536] __attribute__((aligned(16)));
        child = clone(until_letter, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
        if (child < 0) _exit(4);
        waitpid(child, 0, 0);
    }
    for (char c;;) {
        if (spins) {
            selector = mode[0] == 's' && mode[1] == 'u';
            for (int i = 0; i < 300; i++) compute();
            selector = 0;
            struct pollfd input = {0, POLLIN, 0};
            if (poll(&input, 1, 0) == 0) continue;
        }
        if (read(0, &c, 1) != 1) break;
        command(c);
    }
    return 0;
}
