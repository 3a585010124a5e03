/*
 * Touches its memory in a known pattern, behind a Unix socket, a line asked and a line answered:
 *   FILL            writes every page: a number that says which it is, the address of the next one to follow, and noise
 *   STEP seed n     touches the next n pages of the pattern; a new seed begins anew elsewhere. Answers with the sum of what it read
 *   CHECK           reads every page; the sum over all, and whether each is what it was
 *   PING
 * Called with: socket, pages, pattern. One thread for each connection; with the pattern "threads" the first four have a quarter
 * of the memory each, and a pattern of their own.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, STRIDE = 17 };
enum pattern { SEQUENTIAL, STRIDED, REVERSE, RANDOM, CHASE };

struct walk {
    enum pattern pattern;
    uint64_t first, count; /* the pages that are its own */
    uint64_t seed, steps, at;
};

static uint64_t *memory;
static uint64_t pages;
static const char *pattern_name;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int connections;

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t *page(uint64_t n) { return memory + n * WORDS; }

/* A permutation of 0 .. count-1 without a table: a Feistel network over the next power of four, again until it is in range. */
static uint64_t shuffled(uint64_t n, uint64_t count, uint64_t seed) {
    int half = 1;
    while ((1ull << (2 * half)) < count)
        half++;
    uint64_t mask = (1ull << half) - 1;
    do {
        for (int round = 0; round < 4; round++) {
            uint64_t left = n >> half, right = n & mask;
            n = right << half | ((left ^ mix(right + seed * 4 + round)) & mask);
        }
    } while (n >= count);
    return n;
}

static void fill(void) {
    uint64_t previous = shuffled(pages - 1, pages, 99);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t n = shuffled(i, pages, 99);
        page(previous)[1] = n; /* one round through all of them */
        previous = n;
    }
    for (uint64_t n = 0; n < pages; n++) {
        uint64_t *p = page(n);
        p[0] = mix(n);
        /* Half noise, half the same again: a page that compresses to half. */
        for (int w = 2; w < WORDS; w++)
            p[w] = w < WORDS / 2 ? mix(n * WORDS + w) : n;
    }
}

static uint64_t step(struct walk *w) {
    uint64_t i = w->steps++, start = mix(w->seed) % w->count, n;
    switch (w->pattern) {
    case SEQUENTIAL: n = (start + i) % w->count; break;
    case REVERSE: n = (start + w->count - i % w->count) % w->count; break;
    case STRIDED: {
        /* Every 17th page, then the ones beside them. */
        uint64_t a_round = (w->count + STRIDE - 1) / STRIDE, k = i % (a_round * STRIDE);
        n = (start + k % a_round * STRIDE + k / a_round) % w->count;
        break;
    }
    case RANDOM: n = shuffled(i % w->count, w->count, w->seed); break;
    default:
        n = i == 0 ? start : page(w->at)[1];
        break;
    }
    w->at = w->first + n;
    return page(w->at)[0];
}

static int check(uint64_t *sum) {
    *sum = 0;
    for (uint64_t n = 0; n < pages; n++) {
        uint64_t *p = page(n);
        if (p[0] != mix(n) || p[2] != mix(n * WORDS + 2) || p[WORDS - 1] != n || p[1] >= pages)
            return 0;
        for (int w = 0; w < WORDS; w++)
            *sum = *sum * 31 + p[w];
    }
    return 1;
}

static struct walk new_walk(int connection) {
    static const char *names[] = {"sequential", "stride", "reverse", "random", "chase"};
    struct walk w = {.first = 0, .count = pages};
    if (strcmp(pattern_name, "threads") == 0) {
        w.pattern = (enum pattern)(connection % 4);
        w.count = pages / 4;
        w.first = connection % 4 * w.count;
        return w;
    }
    for (int i = 0; i < 5; i++)
        if (strcmp(pattern_name, names[i]) == 0)
            w.pattern = (enum pattern)i;
    return w;
}

static void answer(struct walk *w, int connection, const char *line, char *to, size_t room) {
    unsigned long long seed, count;
    uint64_t sum = 0;
    if (sscanf(line, "STEP %llu %llu", &seed, &count) == 2) {
        if (w->count == 0 || w->seed != seed) {
            *w = new_walk(connection);
            w->seed = seed;
        }
        for (unsigned long long i = 0; i < count; i++)
            sum += step(w);
        snprintf(to, room, "%016llx\n", (unsigned long long)sum);
    } else if (strcmp(line, "FILL") == 0) {
        fill();
        snprintf(to, room, "ok\n");
    } else if (strcmp(line, "CHECK") == 0) {
        if (check(&sum))
            snprintf(to, room, "%llu:%016llx\n", (unsigned long long)pages, (unsigned long long)sum);
        else
            snprintf(to, room, "error: a page has changed\n");
    } else {
        snprintf(to, room, strcmp(line, "PING") == 0 ? "pong\n" : "error unknown request\n");
    }
}

static void *serve(void *argument) {
    int client = (int)(intptr_t)argument;
    struct walk w = {0};
    int connection = -1;
    char line[256], reply[64];
    FILE *in = fdopen(client, "r");
    while (fgets(line, sizeof line, in)) {
        line[strcspn(line, "\r\n")] = 0;
        /* The connections that step are counted, not those that only ask. */
        if (connection < 0 && strncmp(line, "STEP", 4) == 0) {
            pthread_mutex_lock(&lock);
            connection = connections++;
            pthread_mutex_unlock(&lock);
        }
        answer(&w, connection, line, reply, sizeof reply);
        if (write(client, reply, strlen(reply)) < 0)
            break;
    }
    fclose(in);
    return NULL;
}

int main(int argc, char **argv) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (argc != 4 || (pages = strtoull(argv[2], NULL, 10)) < 64) {
        fprintf(stderr, "expected a socket, a number of pages from 64 on, and a pattern\n");
        return 2;
    }
    pattern_name = argv[3];
    memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (memory == MAP_FAILED || bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, 64) != 0) {
        perror("stress");
        return 1;
    }
    for (;;) {
        pthread_t thread;
        int client = accept(listener, NULL, NULL);
        if (client >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)client) == 0)
            pthread_detach(thread);
    }
}
