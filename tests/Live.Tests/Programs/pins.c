/* A process into whose memory somebody else writes while it is captured: a disk that is slow, an io_uring, another process.
 * The first argument says who, the second how many pages there are. Commands come on standard input, one letter each; each answers with one line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fuse.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IORING_SETUP_NO_MMAP
#define IORING_SETUP_NO_MMAP (1u << 14)
#endif
#define PAGE 4096
#define MOST_PAGES 65536
#define READ_PAGES 32
#define CHECK(x) do { if ((long)(x) < 0) { printf("%s: %s\n", #x, strerror(errno)); fflush(stdout); exit(1); } } while (0)

static unsigned char *area;
static size_t pages = 1024;

static void *map(size_t n) {
    void *p = mmap(0, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p == MAP_FAILED ? -1 : 0);
    return p;
}

static unsigned char pattern(size_t i) { return (unsigned char)(i * 167 + (i >> 12) * 31 + 1); }

static size_t wrong(const unsigned char *p, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += p[i] != pattern(i);
    return n;
}

/* A file system of one file, /file, whose reads are answered when SIGUSR1 has come: as slow a disk as one wants. */
static void serve(int fuse) {
    static char in[1 << 20], out[1 << 20];
    sigset_t go;
    int released = 0;
    sigemptyset(&go);
    sigaddset(&go, SIGUSR1);
    for (;;) {
        ssize_t n = read(fuse, in, sizeof in);
        if (n < 0 && (errno == EINTR || errno == ENOENT)) continue;
        if (n <= 0) _exit(0);
        struct fuse_in_header *h = (void *)in;
        struct fuse_out_header *o = (void *)out;
        void *arg = h + 1, *body = o + 1;
        size_t len = 0;
        int error = 0;
        struct fuse_attr attr = {.ino = h->nodeid, .size = 1 << 20, .mode = h->nodeid == 1 ? S_IFDIR | 0755 : S_IFREG | 0644, .nlink = 1};
        memset(body, 0, 256);
        switch (h->opcode) {
        case FUSE_INIT:
            *(struct fuse_init_out *)body = (struct fuse_init_out){.major = 7, .minor = 31, .flags = FUSE_ASYNC_READ | FUSE_ASYNC_DIO,
                .max_readahead = 131072, .max_write = 131072};
            len = sizeof(struct fuse_init_out);
            break;
        case FUSE_LOOKUP:
            attr.ino = 2; attr.mode = S_IFREG | 0644;
            *(struct fuse_entry_out *)body = (struct fuse_entry_out){.nodeid = 2, .attr = attr, .entry_valid = 3600, .attr_valid = 3600};
            len = sizeof(struct fuse_entry_out);
            break;
        case FUSE_GETATTR:
            *(struct fuse_attr_out *)body = (struct fuse_attr_out){.attr = attr, .attr_valid = 3600};
            len = sizeof(struct fuse_attr_out);
            break;
        case FUSE_OPEN:
            len = sizeof(struct fuse_open_out);
            break;
        case FUSE_READ: {
            struct fuse_read_in *r = arg;
            int signal;
            if (!released) sigwait(&go, &signal);
            released = 1;
            len = r->size;
            for (size_t i = 0; i < len; i++) ((unsigned char *)body)[i] = pattern(r->offset + i);
            break; }
        case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: continue;
        case FUSE_FLUSH: case FUSE_RELEASE: break;
        default: error = -ENOSYS;
        }
        *o = (struct fuse_out_header){.len = sizeof *o + (error ? 0 : len), .error = error, .unique = h->unique};
        if (write(fuse, out, o->len) < 0) _exit(1);
    }
}

static pid_t server;
static int slow_file(void) {
    char dir[] = "/tmp/pins-XXXXXX", options[100], file[100];
    CHECK(mkdtemp(dir) ? 0 : -1);
    int fuse = open("/dev/fuse", O_RDWR);
    CHECK(fuse);
    sprintf(options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    CHECK(mount("pins", dir, "fuse", MS_NOSUID | MS_NODEV, options));
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, 0);
    server = fork();
    if (!server) {
        /* Without what it has from its parent: a child that shares pages is another test. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char number[20];
        sprintf(number, "%d", fuse);
        execl("/proc/self/exe", "pins", "serve", number, (char *)0);
        _exit(1);
    }
    close(fuse);
    sprintf(file, "%s/file", dir);
    int fd = open(file, O_RDONLY | O_DIRECT);
    int error = errno;
    umount2(dir, MNT_DETACH);
    rmdir(dir);
    errno = error;
    CHECK(fd);
    return fd;
}

static aio_context_t aio;
static unsigned char *read_buffer;
static void submit_read(void) {
    static struct iocb cb;
    struct iocb *list[] = {&cb};
    int fd = slow_file();
    read_buffer = area + 100 * PAGE;
    CHECK(syscall(SYS_io_setup, 8, &aio));
    cb = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uintptr_t)read_buffer, .aio_nbytes = READ_PAGES * PAGE};
    CHECK(syscall(SYS_io_submit, aio, 1, list));
}
static void check_read(void) {
    struct io_event event;
    struct timespec patience = {10, 0};
    long n = syscall(SYS_io_getevents, aio, 1, 1, &event, &patience);
    if (n != 1 || event.res != READ_PAGES * PAGE) { printf("read ended with %ld, %lld\n", n, n == 1 ? (long long)event.res : 0LL); return; }
    size_t bad = wrong(read_buffer, READ_PAGES * PAGE);
    printf(bad ? "%zu bytes wrong\n" : "right\n", bad);
}

static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask, *sq_flags;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static int sqpoll;
static void make_ring(unsigned flags) {
    struct io_uring_params p = {.flags = flags, .sq_thread_idle = 100000};
    unsigned char *rings = 0;
    if (flags & IORING_SETUP_NO_MMAP) {
        unsigned char *memory = area + 200 * PAGE;
        memset(memory, 0, 2 * PAGE);
        p.cq_off.resv2 = (uintptr_t)memory /* user_addr */;
        p.sq_off.resv2 = (uintptr_t)(memory + PAGE);
        rings = memory;
        sqes = (void *)(memory + PAGE);
    }
    ring = syscall(SYS_io_uring_setup, 8, &p);
    CHECK(ring);
    if (!rings) {
        rings = mmap(0, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
        sqes = mmap(0, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    }
    sqpoll = flags & IORING_SETUP_SQPOLL;
    sq_tail = (void *)(rings + p.sq_off.tail); sq_mask = (void *)(rings + p.sq_off.ring_mask); sq_array = (void *)(rings + p.sq_off.array);
    sq_flags = (void *)(rings + p.sq_off.flags);
    cq_head = (void *)(rings + p.cq_off.head); cq_tail = (void *)(rings + p.cq_off.tail); cq_mask = (void *)(rings + p.cq_off.ring_mask);
    cqes = (void *)(rings + p.cq_off.cqes);
}
static void submit(struct io_uring_sqe sqe) {
    unsigned i = *sq_tail & *sq_mask;
    sqes[i] = sqe;
    sq_array[i] = i;
    __atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
    if (!sqpoll) syscall(SYS_io_uring_enter, ring, 1, 0, 0, 0, 0);
    else if (__atomic_load_n(sq_flags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP)
        syscall(SYS_io_uring_enter, ring, 1, 0, IORING_ENTER_SQ_WAKEUP, 0, 0);
}
static int reap(struct io_uring_cqe *cqe) {
    for (int i = 0; i < 5000; i++) {
        unsigned head = *cq_head;
        if (head != __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE)) {
            *cqe = cqes[head & *cq_mask];
            __atomic_store_n(cq_head, head + 1, __ATOMIC_RELEASE);
            return 1;
        }
        usleep(1000);
    }
    return 0;
}
static void check_ring(void) {
    for (uint64_t i = 1; i <= 50; i++) {
        struct io_uring_cqe cqe;
        submit((struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = i});
        if (!reap(&cqe) || cqe.user_data != i || cqe.res != 0) { printf("request %d of the ring never ends\n", (int)i); return; }
    }
    printf("right\n");
}

static int pair[2];
static void check_receive(uint64_t tag) {
    static unsigned char text[8 * PAGE];
    struct io_uring_cqe cqe;
    for (size_t i = 0; i < sizeof text; i++) text[i] = pattern(i);
    CHECK(send(pair[1], text, sizeof text, 0));
    if (!reap(&cqe) || cqe.user_data != tag) { printf("what was sent never comes\n"); return; }
    if (cqe.res != (int)sizeof text) { printf("received %d\n", cqe.res); return; }
    size_t bad = wrong(area + 300 * PAGE, sizeof text);
    printf(bad ? "%zu bytes wrong\n" : "right\n", bad);
}
static void provide_buffers(void) {
    struct io_uring_buf_ring *bufs = (void *)(area + 200 * PAGE);
    memset(bufs, 0, PAGE);
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)bufs, .ring_entries = 8, .bgid = 7};
    CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &reg, 1));
}
/* Only after the capture has begun: the kernel must look where the program writes. */
static void add_buffer(void) {
    struct io_uring_buf_ring *bufs = (void *)(area + 200 * PAGE);
    bufs->bufs[0] = (struct io_uring_buf){.addr = (uintptr_t)(area + 300 * PAGE), .len = 8 * PAGE, .bid = 1};
    __atomic_store_n(&bufs->tail, 1, __ATOMIC_RELEASE);
    submit((struct io_uring_sqe){.opcode = IORING_OP_RECV, .fd = pair[0], .flags = IOSQE_BUFFER_SELECT, .buf_group = 7, .user_data = 9});
}

static int pipes[2];
static void check_pipe(void) {
    static unsigned char text[8 * PAGE];
    for (size_t got = 0; got < sizeof text;) {
        ssize_t n = read(pipes[0], text + got, sizeof text - got);
        if (n <= 0) { printf("the pipe ends\n"); return; }
        got += n;
    }
    printf(wrong(text, sizeof text) ? "the pipe has other bytes\n" : "right\n");
}

/* Another process writes to all pages from an address on, and knows what must be there in the end. */
static int write_outside(pid_t pid, uintptr_t address) {
    static uint64_t want[MOST_PAGES];
    char path[50];
    uint64_t writes = 0, seed = 88172645463325252ull;
    sprintf(path, "/proc/%d/mem", pid);
    int mem = open(path, O_RDWR);
    CHECK(mem);
    fcntl(0, F_SETFL, O_NONBLOCK);
    printf("ready\n");
    fflush(stdout);
    char c;
    while (read(0, &c, 1) != 1) {
        seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
        size_t page = seed % pages;
        uint64_t value = (want[page] & ~0xfull) + 16 + page % 16;
        uintptr_t at = address + page * PAGE + 64;
        struct iovec local = {&value, 8}, remote = {(void *)at, 8};
        ssize_t n = writes % 2 ? process_vm_writev(pid, &local, 1, &remote, 1, 0) : pwrite(mem, &value, 8, at);
        if (n == 8) { want[page] = value; writes++; }
        else if (errno != EIO && errno != EFAULT) { printf("write: %s\n", strerror(errno)); return 1; }
        else writes |= 1; /* The kernel refuses to wait for a missing page here. The other way waits. */
    }
    size_t lost = 0;
    for (size_t page = 0; page < pages; page++) {
        uint64_t is = 0;
        struct iovec local = {&is, 8}, remote = {(void *)(address + page * PAGE + 64), 8};
        CHECK(process_vm_readv(pid, &local, 1, &remote, 1, 0));
        lost += want[page] && is != want[page];
    }
    printf("lost %zu%s\n", lost, writes < 1000 ? " of too few" : "");
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "serve")) pages = strtoul(argv[2], 0, 0);
    if (argc > 4 && !strcmp(argv[1], "write")) return write_outside(atoi(argv[3]), strtoull(argv[4], 0, 0));
    if (argc > 2 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
    const char *mode = argc > 1 ? argv[1] : "";
    area = map(pages);
    for (size_t p = 0; p < pages; p++) memset(area + p * PAGE, (int)(p % 255) + 1, PAGE);
    if (!strcmp(mode, "aio") || !strcmp(mode, "read-only")) submit_read();
    if (!strcmp(mode, "read-only")) CHECK(mprotect(area + 64 * PAGE, 128 * PAGE, PROT_READ));
    if (!strcmp(mode, "no-mmap")) make_ring(IORING_SETUP_NO_MMAP);
    if (!strcmp(mode, "sqpoll")) make_ring(IORING_SETUP_NO_MMAP | IORING_SETUP_SQPOLL);
    if (!strcmp(mode, "buffers") || !strcmp(mode, "receive")) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        make_ring(0);
        if (*mode == 'b') provide_buffers();
        else submit((struct io_uring_sqe){.opcode = IORING_OP_RECV, .fd = pair[0], .addr = (uintptr_t)(area + 300 * PAGE),
            .len = 8 * PAGE, .msg_flags = MSG_WAITALL, .user_data = 9});
    }
    if (!strcmp(mode, "vmsplice") || !strcmp(mode, "gift")) {
        unsigned char *p = area + 300 * PAGE;
        struct iovec iov = {p, 8 * PAGE};
        for (size_t i = 0; i < iov.iov_len; i++) p[i] = pattern(i);
        CHECK(pipe(pipes));
        CHECK(vmsplice(pipes[1], &iov, 1, *mode == 'g' ? SPLICE_F_GIFT : 0));
    }
    pid_t child = 0;
    int ask[2], answer[2];
    if (!strcmp(mode, "fork")) {
        pipe(ask);
        pipe(answer);
        child = fork();
        if (!child) {
            char c;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            while (read(ask[0], &c, 1) == 1) {
                size_t bad = 0;
                for (size_t i = 0; i < pages * PAGE; i++) bad += area[i] != (i / PAGE) % 255 + 1;
                write(answer[1], &bad, sizeof bad);
            }
            _exit(0);
        }
    }
    printf("ready 0x%lx %d\n", (unsigned long)area, server);
    fflush(stdout);
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        switch (line[0]) {
        case 'c': /* is all well that was under way? */
            if (aio) check_read();
            else if (!strcmp(mode, "buffers")) { add_buffer(); check_receive(9); }
            else if (!strcmp(mode, "receive")) check_receive(9);
            else if (ring) check_ring();
            else check_pipe();
            break;
        case 'm': { /* and the memory that nobody wrote to? */
            size_t bad = 0;
            for (size_t p = 0; p < pages; p++) {
                if ((p >= 100 && p < 100 + READ_PAGES) || (p >= 200 && p < 202) || (p >= 300 && p < 308)) continue;
                /* Eight bytes of each page are for the other process to write. */
                for (size_t i = 0; i < PAGE; i++) bad += !(!*mode && i / 8 == 8) && area[p * PAGE + i] != p % 255 + 1;
            }
            printf(bad ? "%zu bytes wrong\n" : "right\n", bad);
            break; }
        case 'k': { /* and the child's? */
            size_t bad;
            write(ask[1], "", 1);
            read(answer[0], &bad, sizeof bad);
            printf(bad ? "%zu bytes wrong\n" : "right\n", bad);
            break; }
        case 'w': memset(area, 7, PAGE); printf("written\n"); break;
        }
        fflush(stdout);
    }
    return 0;
}
