/* Stands for a process that `criu restore --lazy-pages` restores: maps memory that is away, hands its userfaultfd to whatever daemon
 * listens in a directory, says that the restore is finished, touches its memory, and prints what that took.
 *
 *   restorer [-t TOUCHES] [-g GAP_US] [-a] [-b THREADS] DIRECTORY PID BASE PAGES STRIDE
 *
 * BASE in hexadecimal; every STRIDE-th page holds something. -t: touches so many of those in random order, GAP_US apart; only touches of
 * pages that were away count. -a: goes on until all is in, and looks at every page then. -b: threads that compute meanwhile, one for
 * each CPU in turn, and count what they get done. Ends when its standard input does. */
#include "common.h"
#include <pthread.h>
#include <sched.h>

static volatile int done;
static uint64_t *took;
static size_t waits;

struct busy { pthread_t thread; int cpu; uint64_t count; };

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double us(double quantile) { return waits == 0 ? 0 : (double)took[(size_t)((double)(waits - 1) * quantile)] / 1e3; }

static void *compute(void *argument)
{
    struct busy *self = argument;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(self->cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    uint64_t x = 88172645463325252u, count = 0;
    for (; !done; count++)
        for (int i = 0; i < 1000; i++)
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    self->count = count + (x == 0);
    return 0;
}

static size_t resident(void)
{
    static int fd = -1;
    char line[128];
    size_t total, pages;
    if (fd < 0)
        fd = open("/proc/self/statm", O_RDONLY);
    ssize_t n = pread(fd, line, sizeof line - 1, 0);
    if (n <= 0)
        die("statm");
    line[n] = 0;
    return sscanf(line, "%zu %zu", &total, &pages) == 2 ? pages : 0;
}

static int hand_over(const char *directory, int32_t pid, char *memory, size_t bytes)
{
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP };
    struct uffdio_register area = { .range = { (uint64_t)memory, bytes }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0 || ioctl(uffd, UFFDIO_REGISTER, &area) < 0)
        die("userfaultfd");
    struct sockaddr_un address;
    unix_address(&address, directory);
    int daemon = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int i = 0; connect(daemon, (struct sockaddr *)&address, sizeof address) < 0; i++) {
        if (i == 20000)
            die(address.sun_path);
        usleep(1000);
    }
    char byte = 0, control[CMSG_SPACE(sizeof uffd)] = { 0 };
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET, rights->cmsg_type = SCM_RIGHTS, rights->cmsg_len = CMSG_LEN(sizeof uffd);
    memcpy(CMSG_DATA(rights), &uffd, sizeof uffd);
    if (write(daemon, &pid, sizeof pid) != sizeof pid || sendmsg(daemon, &message, 0) != 1)
        die("the daemon's socket");
    close(uffd);
    return daemon;
}

static void check(const char *memory, size_t index)
{
    if (*(volatile const uint64_t *)(memory + index * PAGE) == stamp(index))
        return;
    fprintf(stderr, "page %zu is wrong\n", index);
    exit(3);
}

int main(int argc, char **argv)
{
    size_t touches = 0, gap = 0, until_all = 0, threads = 0;
    for (int option; (option = getopt(argc, argv, "t:g:ab:")) != -1;) {
        switch (option) {
        case 't': touches = strtoul(optarg, 0, 10); break;
        case 'g': gap = strtoul(optarg, 0, 10); break;
        case 'a': until_all = 1; break;
        case 'b': threads = strtoul(optarg, 0, 10); break;
        default: return 2;
        }
    }
    if (argc - optind != 5)
        return 2;
    argv += optind;
    size_t pages = strtoul(argv[3], 0, 10), stride = strtoul(argv[4], 0, 10), stamped = (pages + stride - 1) / stride;
    char *memory = mmap((void *)strtoul(argv[2], 0, 16), pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    uint32_t *order = malloc(stamped * sizeof *order);
    took = calloc(touches + 1, sizeof *took);
    if (memory == MAP_FAILED || !order || !took)
        die("memory");
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    /* As much memory as will be needed is taken once and given back: a virtual machine gets what it has not used lately from its host, which
     * takes longer than all that is to be measured. */
    size_t needed = (until_all || touches > pages ? pages : touches) * PAGE;
    memset(memory, 1, needed);
    madvise(memory, needed, MADV_DONTNEED);
    uint64_t seed = 88172645463325252u;
    for (size_t i = 0; i < stamped; i++)
        order[i] = (uint32_t)i;
    for (size_t i = stamped - 1; i > 0; i--) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        size_t j = seed % (i + 1);
        uint32_t o = order[i];
        order[i] = order[j], order[j] = o;
    }
    memset(took, 1, (touches + 1) * sizeof *took);
    struct busy busy[16];
    for (size_t i = 0; i < threads && i < 16; i++) {
        busy[i] = (struct busy){ .cpu = (int)i % (int)sysconf(_SC_NPROCESSORS_ONLN) };
        pthread_create(&busy[i].thread, 0, compute, &busy[i]);
    }
    size_t before = resident();
    int daemon = hand_over(argv[0], atoi(argv[1]), memory, pages * PAGE);
    usleep(200000);
    uint64_t begin = now(), all_in = 0;
    if (write(daemon, &RestoreFinished, sizeof RestoreFinished) != sizeof RestoreFinished)
        die("the daemon's socket");
    close(daemon);

    size_t enough = before + pages - pages / 200, i = 0;
    for (;;) {
        if (until_all && !all_in && resident() >= enough)
            all_in = now();
        if (until_all ? all_in : i >= touches)
            break;
        if (i < touches && i < stamped) {
            size_t index = order[i++] * stride;
            unsigned char here;
            if (mincore(memory + index * PAGE, PAGE, &here) < 0)
                die("mincore");
            uint64_t t = now();
            check(memory, index);
            if (!(here & 1))
                took[waits++] = now() - t;
        }
        uint64_t pause = i < touches ? gap : 1000;
        if (pause)
            usleep((useconds_t)pause);
    }
    double seconds = (double)(now() - begin) / 1e9;
    done = 1;
    for (size_t b = 0; b < threads && b < 16; b++)
        pthread_join(busy[b].thread, 0);
    if (until_all)
        for (size_t at = 0; at < pages; at += stride)
            check(memory, at);
    qsort(took, waits, sizeof *took, by_value);
    uint64_t work = 0;
    for (size_t b = 0; b < threads && b < 16; b++)
        work += busy[b].count;
    printf("waits %zu p50 %.2f p90 %.2f p99 %.2f p999 %.2f max %.2f seconds %.6f rate %.1f work %.1f\n", waits, us(.5), us(.9), us(.99), us(.999), us(1),
           seconds, (double)(pages - pages / 200) * PAGE / 1e6 / seconds, (double)work / seconds);
    fflush(stdout);
    (void)!read(0, &(char){ 0 }, 1);
    return 0;
}
