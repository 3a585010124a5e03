/* What restorer.c and handler.c share: pages, clock, and the words that CRIU's programs exchange (see RestoreSocket.cs, PageServerMessage.cs). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

static const uint32_t RestoreFinished = 0x52535446;

__attribute__((noreturn)) static void die(const char *what) { perror(what); exit(1); }

static inline uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The first word of each page that holds anything: nobody can answer with another page unseen. */
static inline uint64_t stamp(uint64_t index) { return (index + 1) * 0x9E3779B97F4A7C15u; }

static void unix_address(struct sockaddr_un *address, const char *directory)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    snprintf(address->sun_path, sizeof address->sun_path, "%s/lazy-pages.socket", directory);
}
