/*
 * A tree of processes that change their memory in every way that a lazy restore must keep up with. A port of the loopback address, a
 * line asked and a line answered:
 *   FILL         every page of every process gets a content that says whose it is and where; the processes are forked off
 *   CHURN seed   each process at the same time: forks a child that reads everything, moves, unmaps, drops, splits (mprotect), rewrites or
 *                reads under a storm of signals, and looks at what it reads. Answers ok
 *   RACE times   each process at the same time, so often: forks a child that reads a few pages, then moves, unmaps or drops. Answers ok
 *   CHECK        each process reads every page; the sum over all
 *   PING
 * Called with: address, port, pages in all, processes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, AREAS = 6, MOST = 16 };

struct child { FILE *to, *from; };

static uint64_t *area[AREAS];
static uint64_t area_pages;
static int self, processes;
static struct child children[MOST];
static volatile sig_atomic_t spoilt;
static char *wrong_page; /* shared by all processes: what the last one of them found */

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t key(int a, uint64_t n) { return mix(((uint64_t)self << 48) + ((uint64_t)a << 40) + n + 1); }

static uint64_t *page(int a, uint64_t n) { return area[a] + n * WORDS; }

static void write_pages(int a, uint64_t from, uint64_t to) {
    for (uint64_t n = from; n < to; n++)
        for (int w = 0; w < WORDS; w++)
            page(a, n)[w] = key(a, n) + w;
}

static int good(int a, uint64_t n) {
    uint64_t *p = page(a, n), k = key(a, n), wrong = 0;
    for (int w = 0; w < WORDS; w++)
        wrong |= p[w] ^ (k + w);
    if (wrong)
        snprintf(wrong_page, PAGE, "area %d, page %llu: %016llx, expected %016llx", a, (unsigned long long)n, (unsigned long long)p[0], (unsigned long long)k);
    return wrong == 0;
}

static int zero(int a, uint64_t from, uint64_t to) {
    for (uint64_t n = from; n < to; n++)
        for (int w = 0; w < WORDS; w++)
            if (page(a, n)[w]) {
                snprintf(wrong_page, PAGE, "area %d, page %llu: expected zero", a, (unsigned long long)n);
                return 0;
            }
    return 1;
}

static int read_all(uint64_t *sum) {
    for (int a = 0; a < AREAS; a++)
        for (uint64_t n = 0; n < area_pages; n++) {
            if (!good(a, n))
                return 0;
            *sum = *sum * 31 + page(a, n)[0];
        }
    return 1;
}

static int read_some(int a, uint64_t seed, int count) {
    for (int i = 0; i < count; i++)
        if (!good(a, mix(seed + i) % area_pages))
            return 0;
    return 1;
}

static void on_alarm(int signal) {
    static uint64_t times;
    uint64_t drawn = mix(++times * 977 + self);
    (void)signal;
    if (!good((int)(drawn % AREAS), (drawn >> 8) % area_pages))
        spoilt = 1;
}

static int forks(void) {
    uint64_t sum = 0;
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(read_all(&sum) ? 0 : 1);
    /* The parent goes on writing what the child reads the old content of: the same, so that both must see it. */
    for (int a = 0; a < AREAS; a++)
        write_pages(a, area_pages / 2, area_pages / 2 + 4);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return child > 0 && status == 0;
}

static int moves(int a, uint64_t seed) {
    void *room = mmap(NULL, area_pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *there = mremap(area[a], area_pages * PAGE, area_pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    if (there != MAP_FAILED)
        area[a] = there;
    else if (errno != EFAULT || munmap(room, area_pages * PAGE) != 0) /* EFAULT: it is in pieces, some of them registered and some not */
        return 0;
    return read_some(a, seed, 16);
}

static int unmaps(int a) {
    uint64_t from = area_pages - area_pages / 4;
    size_t length = (area_pages - from) * PAGE;
    if (munmap(page(a, from), length) != 0)
        return 0;
    if (mmap(page(a, from), length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != page(a, from))
        return 0;
    int well = zero(a, from, from + 8);
    write_pages(a, from, area_pages);
    return well;
}

static int drops(int a, uint64_t seed) {
    uint64_t from = mix(seed) % (area_pages / 2), to = from + 1 + mix(seed + 1) % 32;
    if (madvise(page(a, from), (to - from) * PAGE, MADV_DONTNEED) != 0)
        return 0;
    int well = zero(a, from, to);
    write_pages(a, from, to);
    return well;
}

/* No event tells of it, and it stays split until the next time. */
static int splits(int a, uint64_t seed) {
    uint64_t from = mix(seed) % (area_pages / 2), count = 1 + mix(seed + 1) % (area_pages / 2);
    if (mprotect(area[a], area_pages * PAGE, PROT_READ | PROT_WRITE) != 0 || mprotect(page(a, from), count * PAGE, PROT_READ) != 0)
        return 0;
    int well = read_some(a, seed, 16);
    return mprotect(page(a, from), PAGE, PROT_READ | PROT_WRITE) == 0 && well;
}

static int storms(int a, uint64_t seed) {
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    int well = read_some(a, seed, 64);
    setitimer(ITIMER_REAL, &never, NULL);
    return well && !spoilt;
}

/* What another change made read-only. */
static int unsplits(void) {
    for (int a = 0; a < AREAS; a++)
        if (mprotect(area[a], area_pages * PAGE, PROT_READ | PROT_WRITE) != 0)
            return 0;
    return 1;
}

static int races(uint64_t times) {
    int well = unsplits();
    for (uint64_t i = 0; i < times && well; i++) {
        int a = (int)(mix(i * 31 + self) % AREAS), status;
        pid_t child = fork();
        if (child == 0)
            _exit(read_some(a, i, 8) ? 0 : 1);
        well = i % 3 == 0 ? moves(a, i) : i % 3 == 1 ? drops(a, i) : i % 9 != 2 || unmaps(a);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        well &= child > 0 && status == 0;
    }
    return well;
}

static int churn(uint64_t seed) {
    int a = (int)(mix(seed * 31 + self) % AREAS);
    if ((seed + self) % 7 != 4 && !unsplits())
        return 0;
    switch ((seed + self) % 7) {
    case 0: return forks();
    case 1: return moves(a, seed);
    case 2: return unmaps(a);
    case 3: return drops(a, seed);
    case 4: return splits(a, seed);
    case 5: return storms(a, seed);
    default: write_pages(a, 0, area_pages / 8); return read_some(a, seed, 16);
    }
}

static int fill(void) {
    for (int a = 0; a < AREAS; a++) {
        if (!area[a])
            area[a] = mmap(NULL, area_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area[a] == MAP_FAILED)
            return 0;
        write_pages(a, 0, area_pages);
    }
    return 1;
}

/* What a process does itself for a line; the answer. */
static void own(const char *line, char *to, size_t room) {
    unsigned long long seed;
    uint64_t sum = 0;
    if (sscanf(line, "CHURN %llu", &seed) == 1)
        snprintf(to, room, churn(seed) ? "ok" : "error process %d: CHURN %llu: %s", self, seed, wrong_page);
    else if (sscanf(line, "RACE %llu", &seed) == 1)
        snprintf(to, room, races(seed) ? "ok" : "error process %d: RACE: %s", self, wrong_page);
    else if (strcmp(line, "FILL") == 0)
        snprintf(to, room, fill() ? "ok" : "error no memory");
    else if (strcmp(line, "CHECK") == 0 && read_all(&sum))
        snprintf(to, room, "%016llx", (unsigned long long)sum);
    else
        snprintf(to, room, "error process %d: %s: %s", self, line, wrong_page);
}

static void grow(void) {
    for (int i = 1; i < processes && !children[i].to; i++) {
        int to[2], from[2];
        if (pipe(to) != 0 || pipe(from) != 0)
            exit(1);
        if (fork() == 0) {
            char line[256], reply[256];
            FILE *in = fdopen(to[0], "r");
            self = i;
            close(to[1]);
            while (fgets(line, sizeof line, in)) {
                line[strcspn(line, "\n")] = 0;
                own(line, reply, sizeof reply);
                dprintf(from[1], "%s\n", reply);
            }
            _exit(0);
        }
        close(to[0]);
        close(from[1]);
        children[i] = (struct child){fdopen(to[1], "w"), fdopen(from[0], "r")};
    }
}

/* The line goes to all processes, which work at the same time. */
static void everybody(const char *line, char *to, size_t room) {
    char reply[256];
    for (int i = 1; i < processes; i++) {
        fprintf(children[i].to, "%s\n", line);
        fflush(children[i].to);
    }
    own(line, to, room);
    for (int i = 1; i < processes; i++) {
        if (!fgets(reply, sizeof reply, children[i].from))
            snprintf(reply, sizeof reply, "error process %d has ended", i);
        reply[strcspn(reply, "\n")] = 0;
        if (strncmp(reply, "error", 5) == 0)
            snprintf(to, room, "%s", reply);
        else if (strcmp(reply, "ok") != 0 && strlen(to) + strlen(reply) + 2 < room)
            strcat(strcat(to, ":"), reply);
    }
}

static void serve(int client) {
    char line[256], reply[512];
    FILE *in = fdopen(client, "r");
    while (fgets(line, sizeof line, in)) {
        line[strcspn(line, "\r\n")] = 0;
        if (strcmp(line, "PING") == 0)
            strcpy(reply, "pong");
        else {
            grow();
            everybody(line, reply, sizeof reply);
        }
        if (dprintf(client, "%s\n", reply) < 0)
            break;
    }
    fclose(in);
}

int main(int argc, char **argv) {
    struct sockaddr_in name = {.sin_family = AF_INET};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 5 || inet_pton(AF_INET, argv[1], &name.sin_addr) != 1 || (processes = atoi(argv[4])) < 1 || processes > MOST ||
        (area_pages = strtoull(argv[3], NULL, 10) / processes / AREAS) < 128) {
        fprintf(stderr, "expected an address, a port, a number of pages, and 1 to %d processes with 768 pages each or more\n", MOST);
        return 2;
    }
    wrong_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    name.sin_port = htons((uint16_t)atoi(argv[2]));
    signal(SIGALRM, on_alarm);
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, 64) != 0) {
        perror("tree");
        return 1;
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0)
            serve(client);
    }
}
