/* A thread that ends while its memory is missing, and those who wait for it. The first argument says who waits. A command on
 * standard input ends the thread; the answer says whether all was well. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
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
#include <time.h>
#include <unistd.h>

#define PAGE 4096
struct node { struct node *next; long filler; uint32_t word; };
struct shared { pthread_mutex_t mutex; char byte; };

static int go[2];
static atomic_int ready, thread_id;
static struct shared *shared;
static pthread_mutex_t *own, *inherits;
static struct node *pending, *listed;
static volatile uint32_t *tid_word;
static const char *mode;

/* Every one on a page of its own, so that nobody else's use brings it back. */
static void *page(int flags) { return mmap(0, PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0); }

static void make_mutex(pthread_mutex_t *m, int is_shared, int protocol) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    if (is_shared) pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&a, protocol);
    pthread_mutex_init(m, &a);
}

/* Waits for a byte and ends. Between the two it touches no memory: the kernel is the first to need it. */
static void wait_and_end(void) {
    ready = 1;
    asm volatile("syscall\n mov $60, %%eax\n xor %%edi, %%edi\n syscall\n hlt"
        :: "a"(SYS_read), "D"(go[0]), "S"(&shared->byte), "d"(1) : "rcx", "r11", "memory");
}

static void *thread(void *x) {
    (void)x;
    thread_id = (int)syscall(SYS_gettid);
    if (!strcmp(mode, "mutexes")) {
        pthread_mutex_lock(&shared->mutex);
        pthread_mutex_lock(own);
        pthread_mutex_lock(inherits);
    }
    if (!strcmp(mode, "lists")) {
        struct robust_list_head *head = page(MAP_PRIVATE);
        head->futex_offset = offsetof(struct node, word);
        head->list_op_pending = (void *)pending;
        head->list.next = (void *)listed;
        pending->word = listed->word = thread_id | FUTEX_WAITERS;
        listed->next = (void *)head;
        syscall(SYS_set_robust_list, head, sizeof *head);
    }
    if (!strcmp(mode, "cycle")) { /* the kernel gives up after 2,048 nodes */
        struct robust_list_head *head = page(MAP_PRIVATE);
        head->futex_offset = offsetof(struct node, word);
        head->list.next = (void *)listed;
        listed->word = thread_id;
        listed->next = listed;
        syscall(SYS_set_robust_list, head, sizeof *head);
    }
    if (!strcmp(mode, "tid")) { /* and a list that leads nowhere */
        static struct robust_list_head head;
        head.list.next = (void *)0x7ffffffff000;
        head.list_op_pending = (void *)-1;
        syscall(SYS_set_robust_list, &head, sizeof head);
        syscall(SYS_set_tid_address, tid_word);
    }
    wait_and_end();
    return 0;
}

static int end_thread(void) {
    char path[60];
    sprintf(path, "/proc/self/task/%d", thread_id);
    write(go[1], "", 1);
    for (int i = 0; i < 5000 && access(path, F_OK) == 0; i++) usleep(1000);
    return access(path, F_OK) != 0;
}

static int lock(pthread_mutex_t *m) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 5;
    return pthread_mutex_timedlock(m, &limit);
}

int main(int argc, char **argv) {
    mode = argc > 1 ? argv[1] : "join";
    shared = page(MAP_SHARED);
    own = page(MAP_PRIVATE);
    inherits = page(MAP_PRIVATE);
    pending = page(MAP_PRIVATE);
    listed = page(MAP_PRIVATE);
    tid_word = page(MAP_PRIVATE);
    *tid_word = 77;
    make_mutex(&shared->mutex, 1, PTHREAD_PRIO_NONE);
    make_mutex(own, 0, PTHREAD_PRIO_NONE);
    make_mutex(inherits, 0, PTHREAD_PRIO_INHERIT);
    int ask[2], answer[2];
    pipe(go);
    pipe(ask);
    pipe(answer);
    /* Another process, which shares a mutex only. */
    if (!fork()) {
        char c;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (read(ask[0], &c, 1) == 1) {
            int error = lock(&shared->mutex);
            write(answer[1], &error, sizeof error);
        }
        _exit(0);
    }
    pthread_t t;
    pthread_create(&t, 0, thread, 0);
    while (!ready) usleep(1000);
    usleep(20000);
    printf("ready\n");
    fflush(stdout);
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        int error = 0, second = EOWNERDEAD, third = EOWNERDEAD;
        if (!end_thread()) { printf("the thread does not end\n"); fflush(stdout); continue; }
        struct timespec limit;
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += 5;
        if (!strcmp(mode, "join")) {
            error = pthread_timedjoin_np(t, 0, &limit);
            printf(error ? "not joined: %s\n" : "right\n", strerror(error));
        } else if (!strcmp(mode, "mutexes")) {
            write(ask[1], "", 1);
            second = lock(own);
            third = lock(inherits);
            read(answer[0], &error, sizeof error);
            if (error == EOWNERDEAD && second == EOWNERDEAD && third == EOWNERDEAD) printf("right\n");
            else printf("other process %s, own %s, own with priority %s\n", strerror(error), strerror(second), strerror(third));
        } else if (!strcmp(mode, "lists")) {
            int right = (pending->word & FUTEX_OWNER_DIED) && (listed->word & FUTEX_OWNER_DIED);
            printf(right ? "right\n" : "pending 0x%x, listed 0x%x\n", pending->word, listed->word);
        } else if (!strcmp(mode, "cycle")) {
            printf(listed->word & FUTEX_OWNER_DIED ? "right\n" : "listed 0x%x\n", listed->word);
        } else
            printf(*tid_word == 0 ? "right\n" : "the word is %u\n", *tid_word);
        fflush(stdout);
    }
    return 0;
}
