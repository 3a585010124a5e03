/* The least that takes the place of a lazy-pages daemon, to compare ours with. Takes one process from restorer.c, and then
 *
 *   handler DIRECTORY local BASE PAGES STRIDE [spin]     waits in poll, reads a fault, copies the page from memory of its own
 *   handler DIRECTORY bulk BASE PAGES PID PORT CHUNK     gets all pages from a page server: recv, UFFDIO_COPY, CHUNK pages at a time
 */
#include "common.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>

static int receive_process(const char *directory, int *restorer)
{
    struct sockaddr_un address;
    unix_address(&address, directory);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    unlink(address.sun_path);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0)
        die(address.sun_path);
    *restorer = accept(listener, 0, 0);
    int32_t pid;
    int uffd;
    char byte, control[CMSG_SPACE(sizeof uffd)];
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    if (read(*restorer, &pid, sizeof pid) != sizeof pid || recvmsg(*restorer, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
        die("the restorer's socket");
    memcpy(&uffd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof uffd);
    return uffd;
}

static int copy(int uffd, uint64_t to, void *from, uint64_t length)
{
    struct uffdio_copy c = { .dst = to, .src = (uint64_t)from, .len = length };
    return ioctl(uffd, UFFDIO_COPY, &c);
}

/* Every STRIDE-th page, one after the other; at the end one of zeros. */
static char *make_content(size_t pages, size_t stride)
{
    size_t stamped = (pages + stride - 1) / stride;
    char *memory = aligned_alloc(PAGE, (stamped + 1) * PAGE);
    memset(memory, 0, (stamped + 1) * PAGE);
    for (size_t i = 0; i < stamped; i++)
        *(uint64_t *)(memory + i * PAGE) = stamp(i * stride);
    return memory;
}

static void serve(int uffd, uint64_t base, char *memory, size_t pages, size_t stride, int spin)
{
    char *zero = memory + (pages + stride - 1) / stride * PAGE;
    for (;;) {
        struct pollfd readable = { .fd = uffd, .events = POLLIN };
        if (!spin && poll(&readable, 1, -1) < 0)
            die("poll");
        struct uffd_msg m;
        if (read(uffd, &m, sizeof m) != sizeof m) {
            if (errno == EAGAIN && spin)
                continue;
            return;
        }
        if (m.event != UFFD_EVENT_PAGEFAULT)
            continue;
        uint64_t address = m.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
        size_t index = (address - base) / PAGE;
        if (copy(uffd, address, index % stride ? zero : memory + index / stride * PAGE, PAGE) < 0 && errno == ESRCH)
            return;
    }
}

struct request { uint32_t command, padding; uint64_t pages, address, target; };

static void receive(int server, void *to, size_t length)
{
    while (length > 0) {
        ssize_t n = recv(server, to, length, 0);
        if (n <= 0)
            die("recv");
        to = (char *)to + n, length -= (size_t)n;
    }
}

static void bulk(int uffd, int restorer, uint64_t base, size_t pages, uint64_t pid, int port, size_t chunk)
{
    enum { IN_FLIGHT = 16 };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(server, (struct sockaddr *)&address, sizeof address) < 0)
        die("page server");
    char *buffer = aligned_alloc(PAGE, chunk * PAGE);
    memset(buffer, 0, chunk * PAGE);
    uint32_t word;
    if (read(restorer, &word, sizeof word) != sizeof word || word != RestoreFinished)
        die("the restorer's socket");
    size_t asked = 0;
    for (size_t at = 0; at < pages;) {
        for (; asked < pages && asked < at + IN_FLIGHT * chunk; asked += chunk) {
            struct request get = { 7, 0, pages - asked < chunk ? pages - asked : chunk, base + asked * PAGE, pid };
            if (write(server, &get, sizeof get) != sizeof get)
                die("page server");
        }
        struct request reply;
        receive(server, &reply, sizeof reply);
        receive(server, buffer, reply.pages * PAGE);
        if (copy(uffd, reply.address, buffer, reply.pages * PAGE) < 0)
            die("UFFDIO_COPY");
        at += reply.pages;
    }
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    uint64_t base = strtoul(argv[3], 0, 16);
    size_t pages = strtoul(argv[4], 0, 10), stride = strtoul(argv[5], 0, 10);
    int is_bulk = strcmp(argv[2], "bulk") == 0, restorer;
    char *memory = is_bulk ? 0 : make_content(pages, stride);
    int uffd = receive_process(argv[1], &restorer);
    if (is_bulk)
        bulk(uffd, restorer, base, pages, strtoul(argv[5], 0, 10), atoi(argv[6]), strtoul(argv[7], 0, 10));
    else
        serve(uffd, base, memory, pages, stride, argc > 6);
    return 0;
}
