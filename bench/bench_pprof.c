// SPDX-License-Identifier: MIT
//
// Reading and writing a large profile: ours against protobuf-c on an arena, in one process and one
// stage at a time, and against `go tool pprof -proto` as whole processes (gzip in, gzip out).
//
// protobuf-c only builds its messages: it does not resolve ids, check or intern, which ours does in
// the same call, so the first ratios flatter protobuf-c.
//
//   bench_pprof [ROUNDS]          median, smallest and largest ratio of ROUNDS (default 7)
//   bench_pprof --convert IN OUT  what the process comparison runs

#include "base/arena.h"
#include "formats/pprof.h"
#include "profile.pb-c.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES = 200 * 1000, LOCATIONS = 40 * 1000, FUNCTIONS = 8000, DEPTH = 30, ROUNDS_MAX = 99 };

static uint64_t state = 42;

static uint64_t rnd(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_pprof: %s\n", what);
    exit(1);
}

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Stacks share their roots, as real ones do; a third of the samples has a label.
static struct pprof_profile *large_profile(void)
{
    struct pprof_profile *p = pprof_new();
    pprof_add_sample_type(p, "samples", "count");
    pprof_add_sample_type(p, "cpu", "nanoseconds");
    p->period_type = p->sample_types[1];
    p->period = 1000000;
    p->time_nanos = INT64_C(1700000000000000000);
    struct pprof_mapping *m =
        pprof_add_mapping(p, 0x400000, 0x40000000, 0, "/usr/bin/program", "0123456789abcdef");
    m->has_functions = true;
    for (int i = 0; i < FUNCTIONS; i++) {
        char name[64], file[64];
        snprintf(name, sizeof name, "namespace_%d::function_%d(int, char const*)", i % 50, i);
        snprintf(file, sizeof file, "/usr/src/program/part_%d/file_%d.cc", i % 20, i % 400);
        pprof_intern_function(p, name, name, file, i % 3000);
    }
    for (uint64_t i = 0; i < LOCATIONS; i++) {
        struct pprof_line lines[2] = {{.function = p->functions[rnd(FUNCTIONS)], .line = 10},
                                      {.function = p->functions[rnd(FUNCTIONS)], .line = 20}};
        pprof_intern_location(p, m, 0x400000 + i * 12, lines, rnd(5) ? 1 : 2);
    }
    struct pprof_location *stack[DEPTH];
    for (int i = 0; i < DEPTH; i++)
        stack[i] = p->locations[rnd(LOCATIONS)];
    for (int i = 0; i < SAMPLES; i++) {
        uint64_t changed = 1 + rnd(8);
        for (uint64_t j = 0; j < changed; j++)
            stack[j] = p->locations[rnd(LOCATIONS)];
        char thread[16];
        snprintf(thread, sizeof thread, "worker-%d", (int)rnd(64));
        struct pprof_label label = {.key = "thread", .str = thread};
        if (!pprof_append_sample(p, stack, DEPTH, (int64_t[]){1, 1000000}, &label, rnd(3) == 0))
            die("out of memory");
    }
    return p;
}

static void write_to(const struct pprof_profile *p, int fd, bool gzip)
{
    struct fscope_error err;
    if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET) || pprof_write_fd(p, fd, gzip, &err))
        die(err.text);
}

static void *arena_take(void *arena, size_t n)
{
    return arena_alloc(arena, n);
}

static void arena_give(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

struct rounds {
    const char *what;
    double ratio[ROUNDS_MAX], ours[ROUNDS_MAX];
    int count;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add_round(struct rounds *r, double ours, double peer)
{
    r->ours[r->count] = ours;
    r->ratio[r->count++] = ours / peer;
}

static void report(struct rounds *r)
{
    qsort(r->ratio, (size_t)r->count, sizeof r->ratio[0], by_value);
    qsort(r->ours, (size_t)r->count, sizeof r->ours[0], by_value);
    printf("%-34s %6.1f ms  ratio %.2f  (%.2f .. %.2f, %d rounds)\n", r->what,
           1e3 * r->ours[r->count / 2], r->ratio[r->count / 2], r->ratio[0], r->ratio[r->count - 1],
           r->count);
}

static void in_process(int fd, int rounds)
{
    struct rounds decode = {.what = "decode, ours / protobuf-c + arena"};
    struct rounds encode = {.what = "encode, ours / protobuf-c"};
    struct stat st;
    if (fstat(fd, &st))
        die("fstat");
    size_t n = (size_t)st.st_size;
    void *bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    unsigned char *packed = malloc(n);
    int sink = memfd_create("sink", MFD_CLOEXEC);
    if (bytes == MAP_FAILED || !packed || sink < 0)
        die("out of memory");
    for (int i = 0; i < rounds; i++) {
        struct pprof_profile *p = NULL;
        struct arena arena = {0};
        ProtobufCAllocator on_arena = {arena_take, arena_give, &arena};
        double t0 = cpu_now();
        if (pprof_read_memory(&p, bytes, n, NULL, NULL))
            die("cannot read back");
        double t1 = cpu_now();
        Fscope__Pb__Profile *b = fscope__pb__profile__unpack(&on_arena, n, bytes);
        double t2 = cpu_now();
        if (!b || p->sample_count != b->n_sample)
            die("protobuf-c disagrees");
        add_round(&decode, t1 - t0, t2 - t1);
        t0 = cpu_now();
        write_to(p, sink, false);
        t1 = cpu_now();
        size_t packed_n = fscope__pb__profile__pack(b, packed);
        if (lseek(sink, 0, SEEK_SET) || write(sink, packed, packed_n) != (ssize_t)packed_n)
            die("write");
        t2 = cpu_now();
        add_round(&encode, t1 - t0, t2 - t1);
        arena_finish(&arena);
        pprof_free(p);
    }
    report(&decode);
    report(&encode);
    close(sink);
    free(packed);
    munmap(bytes, n);
}

static int convert(const char *in, const char *out)
{
    struct fscope_error err;
    struct pprof_profile *p;
    if (pprof_read_file(&p, in, NULL, &err) || pprof_write_file(p, out, &err))
        die(err.text);
    pprof_free(p);
    return 0;
}

// CPU seconds of a command; *rss_mib is its peak.
static double run(char *const argv[], double *rss_mib)
{
    struct rusage u;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &u) != pid || status)
        die("a command failed");
    *rss_mib = (double)u.ru_maxrss / 1024;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static bool find_go_pprof(char path[4096])
{
    path[0] = '\0';
    FILE *f = popen("PATH=$PATH:/usr/local/go/bin; go tool pprof -h >/dev/null 2>&1;"
                    "PATH=$PATH:/usr/local/go/bin go tool -n pprof 2>/dev/null",
                    "r");
    if (f && fgets(path, 4096, f))
        path[strcspn(path, "\n")] = '\0';
    if (f)
        pclose(f);
    return path[0] != '\0';
}

static void processes(char *self, const struct pprof_profile *p, int rounds)
{
    struct rounds whole = {.what = "gzip to gzip, ours / go tool pprof"};
    char in[] = "/tmp/bench_pprof_XXXXXX", out[64], pprof[4096];
    double ours_mib = 0, go_mib = 0;
    if (!find_go_pprof(pprof)) {
        printf("go tool pprof is not installed: not compared\n");
        return;
    }
    int fd = mkstemp(in);
    if (fd < 0)
        die("mkstemp");
    write_to(p, fd, true);
    struct stat st;
    fstat(fd, &st);
    close(fd);
    snprintf(out, sizeof out, "%s.out", in);
    char convert_word[] = "--convert", proto[] = "-proto", none[] = "-symbolize=none",
         output[] = "-output";
    char *ours_argv[] = {self, convert_word, in, out, NULL};
    char *go_argv[] = {pprof, none, proto, output, out, in, NULL};
    for (int i = 0; i < rounds; i++) {
        double ours = run(ours_argv, &ours_mib);
        add_round(&whole, ours, run(go_argv, &go_mib));
    }
    report(&whole);
    printf("%-34s %.1f MiB file; peak memory %.0f MiB, go tool pprof %.0f MiB\n", "",
           (double)st.st_size / (1 << 20), ours_mib, go_mib);
    unlink(in);
    unlink(out);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--convert") == 0)
        return convert(argv[2], argv[3]);
    int rounds = argc > 1 ? atoi(argv[1]) : 7;
    if (rounds < 1 || rounds > ROUNDS_MAX)
        die("usage: bench_pprof [ROUNDS]");
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        die("readlink");
    self[n] = '\0';
    struct pprof_profile *p = large_profile();
    int fd = memfd_create("profile", MFD_CLOEXEC);
    if (fd < 0)
        die("memfd_create");
    write_to(p, fd, false);
    struct stat st;
    fstat(fd, &st);
    printf("%d samples of %d frames, %.1f MiB plain; CPU time, median, ratios below 1 are ours\n",
           SAMPLES, DEPTH, (double)st.st_size / (1 << 20));
    in_process(fd, rounds);
    processes(self, p, rounds < 5 ? rounds : 5);
    pprof_free(p);
    return 0;
}
