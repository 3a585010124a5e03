/* Touches N pages in random order, and prints how long each touch took as the thread sees it.
 *
 *   touch PAGES           fills memory, prints its pid, waits for a line on stdin, touches, prints quantiles
 *   touch PAGES --handler the same, but serves itself: a child process is a minimal userfaultfd handler that blocks in
 *                         read and copies each page from its own memory, which is the peer to compare with
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void serve(int uffd)
{
    static char page[PAGE] __attribute__((aligned(PAGE)));
    memset(page, 7, PAGE);
    for (;;) {
        struct uffd_msg m;
        if (read(uffd, &m, sizeof m) != sizeof m)
            _exit(0);
        struct uffdio_copy c = { .dst = m.arg.pagefault.address & ~(uint64_t)(PAGE - 1), .src = (uint64_t)page, .len = PAGE };
        ioctl(uffd, UFFDIO_COPY, &c);
    }
}

static void send_fd(int socket, int fd)
{
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (sendmsg(socket, &m, 0) < 0)
        die("sendmsg");
}

static int receive_fd(int socket)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    if (recvmsg(socket, &m, 0) < 1)
        die("recvmsg");
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

/* The handler is another process, as a lazy-pages daemon is. */
static void start_handler(char *memory, size_t bytes)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        die("socketpair");
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, 9);
        serve(receive_fd(pair[1]));
    }
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register reg = { .range = { (uint64_t)memory, bytes }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0 || ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
        die("userfaultfd");
    if (madvise(memory, bytes, MADV_DONTNEED) < 0)
        die("madvise");
    send_fd(pair[0], uffd);
}

int main(int argc, char **argv)
{
    size_t pages = argc > 1 ? strtoul(argv[1], 0, 10) : 50000;
    char *memory = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *order = malloc(pages * sizeof *order);
    uint64_t *took = malloc(pages * sizeof *took);
    if (memory == MAP_FAILED || !order || !took)
        die("memory");
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    memset(memory, 7, pages * PAGE);
    uint64_t seed = 88172645463325252u;
    for (size_t i = 0; i < pages; i++)
        order[i] = (uint32_t)i, took[i] = 0;
    for (size_t i = pages - 1; i > 0; i--) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        size_t j = seed % (i + 1);
        uint32_t o = order[i];
        order[i] = order[j], order[j] = o;
    }
    if (argc > 2 && strcmp(argv[2], "--handler") == 0) {
        start_handler(memory, pages * PAGE);
    } else {
        printf("%d\n", getpid());
        fflush(stdout);
        char line[8];
        if (!fgets(line, sizeof line, stdin))
            return 1;
        /* The book-keeping's own pages are faulted in first, so that only the measured touches wait. */
        volatile uint64_t sum = 0;
        for (size_t i = 0; i < pages; i++)
            sum += order[i] + took[i];
    }
    uint64_t begin = now();
    for (size_t i = 0; i < pages; i++) {
        uint64_t t = now();
        if (*(volatile char *)(memory + (size_t)order[i] * PAGE) != 7)
            return 3;
        took[i] = now() - t;
    }
    double seconds = (double)(now() - begin) / 1e9;
    qsort(took, pages, sizeof *took, by_value);
    printf("p50 %.1f us  p90 %.1f us  p99 %.1f us  p99.9 %.1f us  max %.1f us  %.0f touches/s\n", took[pages / 2] / 1e3,
           took[pages * 9 / 10] / 1e3, took[pages * 99 / 100] / 1e3, took[pages * 999 / 1000] / 1e3, took[pages - 1] / 1e3, pages / seconds);
    return 0;
}
