/* A process whose memory the kernel treats specially: areas that fork wipes, keeps back or shares, and guard pages. Commands come on
 * standard input, one word each; each answers with one line. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif
#define GUARD_INSTALL 102
#define GUARD_REMOVE 103
#define DROPPABLE 0x08
#define PAGE 4096

static size_t pages;
static unsigned char *wiped, *plain, *held, *droppable, *guarded, *fresh;

static unsigned char *filled(int flags, int seed) {
    unsigned char *at = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return 0;
    for (size_t i = 0; i < pages * PAGE; i++) at[i] = (unsigned char)(1 + (i * 31 + seed) % 251);
    return at;
}

/* Pages that are not all zero; those that hold something else than the parent wrote count a thousand. */
static size_t set(const unsigned char *at, int seed) {
    size_t n = 0;
    for (size_t p = 0; at && p < pages; p++) {
        size_t nonzero = 0, wrong = 0;
        for (size_t i = p * PAGE; i < (p + 1) * PAGE; i++) {
            nonzero += at[i] != 0;
            wrong += at[i] != (unsigned char)(1 + (i * 31 + seed) % 251);
        }
        n += nonzero == 0 ? 0 : wrong ? 1000 : 1;
    }
    return n;
}

static int can_read(const void *at) {
    int ends[2];
    if (pipe(ends)) return -1;
    int ok = write(ends[1], at, 1) == 1;
    close(ends[0]); close(ends[1]);
    return ok;
}

static void report(const char *who) {
    char line[200];
    int n = snprintf(line, sizeof line, "%s wiped %zu plain %zu held %d\n", who, set(wiped, 1), set(plain, 2), can_read(held));
    if (write(1, line, n) != n) abort();
}

static void *touch(void *at) { return (void *)(uintptr_t)*(volatile unsigned char *)at; }

static void *fork_and_report(void *x) {
    pid_t child = fork();
    if (!child) { usleep(1000); report(x); _exit(0); }
    waitpid(child, 0, 0);
    return 0;
}

static sigjmp_buf trap;
static void on_trap(int n) { siglongjmp(trap, n); }

/* What a load of each page gives. */
static void loads(const unsigned char *at) {
    size_t traps = 0, zeros = 0, right = 0, other = 0;
    for (size_t p = 0; p < pages; p++) {
        volatile int result = 0;
        if (sigsetjmp(trap, 1)) { traps++; continue; }
        result = at[p * PAGE];
        if (result == 0) zeros++;
        else if (result == (unsigned char)(1 + (p * PAGE * 31 + 5) % 251)) right++;
        else other++;
    }
    printf("traps %zu zeros %zu right %zu other %zu\n", traps, zeros, right, other);
}

int main(int argc, char **argv) {
    pages = argc > 1 ? strtoul(argv[1], 0, 0) : 64;
    guarded = filled(MAP_PRIVATE, 5); /* the highest address: what goes by address comes to it last */
    wiped = filled(MAP_PRIVATE, 1);
    plain = filled(MAP_PRIVATE, 2);
    held = filled(MAP_PRIVATE, 3);
    droppable = filled(DROPPABLE, 4);
    fresh = filled(MAP_PRIVATE, 6);
    if (madvise(wiped, pages * PAGE, MADV_WIPEONFORK)) return 1;
    if (argc > 2 && madvise(guarded, 8 * PAGE, GUARD_INSTALL)) { puts("no guard pages"); return 0; }
    mlock(plain, pages / 4 * PAGE);
    signal(SIGSEGV, on_trap);
    signal(SIGBUS, on_trap);
    puts("ready");
    fflush(stdout);
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "fork")) fork_and_report("child");
        else if (!strcmp(line, "orphan")) { /* as daemons do: the one between is gone before anybody looks */
            if (!fork()) { if (!fork()) { usleep(50000); report("orphan"); } _exit(0); }
            wait(0);
        } else if (!strcmp(line, "grandchild")) {
            pid_t child = fork();
            if (!child) { if (!fork()) { report("grandchild"); _exit(0); } wait(0); _exit(0); }
            waitpid(child, 0, 0);
        } else if (!strcmp(line, "sibling")) { /* CLONE_PARENT: no child of ours */
            if (!syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)) { report("sibling"); _exit(0); }
        } else if (!strcmp(line, "vfork")) { /* the same memory: nothing is wiped */
            if (!vfork()) { report("vfork"); _exit(0); }
            wait(0);
        } else if (!strcmp(line, "two")) { /* two threads at once */
            pthread_t t[2];
            for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, fork_and_report, "child");
            for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
        } else if (!strcmp(line, "flight")) { /* a thread waits for such a page meanwhile */
            pthread_t t;
            pthread_create(&t, 0, touch, wiped);
            usleep(3000);
            fork_and_report("child");
            pthread_join(t, 0);
        } else if (!strcmp(line, "forget")) { /* the child no longer wants what it has been given wiped */
            pid_t child = fork();
            if (!child) { madvise(wiped, pages * PAGE, MADV_KEEPONFORK); usleep(20000); report("child"); _exit(0); }
            waitpid(child, 0, 0);
        } else if (!strcmp(line, "after")) { /* from now on, but not for the child that is there already */
            pid_t child = fork();
            if (!child) { usleep(50000); report("child"); _exit(0); }
            madvise(plain, pages * PAGE, MADV_WIPEONFORK);
            waitpid(child, 0, 0);
            madvise(plain, pages * PAGE, MADV_KEEPONFORK);
        } else if (!strcmp(line, "late")) { madvise(plain + pages / 2 * PAGE, pages / 2 * PAGE, MADV_WIPEONFORK); puts("ok"); }
        else if (!strcmp(line, "keep")) { madvise(wiped, pages / 2 * PAGE, MADV_KEEPONFORK); puts("ok"); }
        else if (!strcmp(line, "hold")) { madvise(held, pages * PAGE, MADV_DONTFORK); puts("ok"); }
        else if (!strcmp(line, "slow")) { /* answers at once, and the child a second later */
            if (!fork()) { usleep(1000000); report("child"); _exit(0); }
            puts("forked");
        } else if (!strcmp(line, "guard")) puts(madvise(guarded + 8 * PAGE, 8 * PAGE, GUARD_INSTALL) ? strerror(errno) : "ok");
        else if (!strcmp(line, "unguard")) puts(madvise(guarded, 12 * PAGE, GUARD_REMOVE) ? strerror(errno) : "ok");
        else if (!strcmp(line, "loads")) loads(guarded);
        else if (!strcmp(line, "sum")) printf("wiped %zu plain %zu held %zu fresh %zu\n", set(wiped, 1), set(plain, 2), set(held, 3), set(fresh, 6));
        else return 0;
        fflush(stdout);
    }
    return 0;
}
