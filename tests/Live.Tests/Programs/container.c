// The only program of a container: memory of which it knows the sum. Whoever makes /ask gets that sum in /answer.
// Usage: container MIB
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    size_t words = (size_t)(argc > 1 ? atoi(argv[1]) : 16) << 17;
    uint64_t *memory = malloc(words * sizeof *memory), next = 88172645463325252u;
    for (size_t i = 0; i < words; i++) {
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        memory[i] = next;
    }
    for (;; usleep(5000)) {
        if (access("/ask", F_OK) != 0)
            continue;
        unlink("/ask");
        uint64_t sum = 0;
        for (size_t i = 0; i < words; i++)
            sum = sum * 31 + memory[i];
        FILE *answer = fopen("/new", "w");
        fprintf(answer, "%016llx", (unsigned long long)sum);
        fclose(answer);
        rename("/new", "/answer");
    }
}
