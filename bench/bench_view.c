// SPDX-License-Identifier: MIT
//
// The viewer on a large trace: how long until its first part and all of it is seen, how long a frame takes meanwhile,
// memory for an event, and what a frame of a scripted zoom and pan over 64 lanes at 2560x1440 costs with the CPU back end,
// levels of detail apart. Medians over RUNS runs, each of which opens the file anew, and in brackets the least and the most.
//
// Usage: bench_view [MILLIONS [RUNS [FILE]]]: a trace of so many million events (default 10): 64 Procs, four fibers each,
// which are woken, run and block; with FILE it is kept for the next time. Default: 5 runs.
// bench_view --first ...: the same, only until the first part is drawn; --cold ...: and none of the file is in memory.
// bench_view --profile [MILLIONS [FILE]]: how long until the flame graph of a profile of so many million samples (default
// 1.2: 100 MB) is seen.

#include "base/file.h"
#include "formats/pprof.h"
#include "formats/trace/write.h"
#include "viewer/app.h"
#include "viewer/ui/raster.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    PROCS = 64,
    FIBERS = 4 * PROCS,
    WIDTH = 2560,
    HEIGHT = 1440,
    NAMES = 9,
    STEPS = 800,
    RUNS_MAX = 100
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must(int rc, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-rc));
    exit(1);
}

// --- The trace.

static uint32_t state = 12345;

static uint32_t random_below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % n;
}

static uint64_t stack(struct trace_writer *w, const char *leaf, const char *root)
{
    const struct trace_writer_frame f[] = {
        {.pc = 16 + (uint64_t)leaf[0], .function = {leaf, (uint32_t)strlen(leaf)}, .line = 1},
        {.pc = 4096 + (uint64_t)root[7], .function = {root, (uint32_t)strlen(root)}, .line = 2}};
    uint64_t id;
    must(trace_writer_stack(w, f, 2, &id), "stack");
    return id;
}

static void say(struct trace_writer *w, uint32_t proc, uint8_t wire, uint64_t at, uint64_t a,
                uint64_t b, uint64_t c)
{
    const uint64_t args[] = {a, b, c, 0};
    must(trace_writer_event(w, 10 + (int64_t)proc, wire, at, args), "event");
}

// Fiber f, from 1, belongs to Proc f % PROCS.
static void begin(struct trace_writer *w, uint64_t stacks[NAMES])
{
    for (uint32_t i = 0; i < NAMES; i++) {
        char root[] = "worker_0";
        root[7] = (char)('0' + i);
        stacks[i] = stack(w, "wait", root);
    }
    for (uint32_t p = 0; p < PROCS; p++)
        say(w, p, TRACE_EV_PROC_STATUS, 1000, p, TRACE_PROC_STATUS_RUNNING, 0);
    for (uint32_t f = 1; f <= FIBERS; f++) {
        const uint64_t args[] = {f, UINT64_MAX, TRACE_GO_STATUS_WAITING, stacks[f % NAMES]};
        must(trace_writer_event(w, 10 + f % PROCS, TRACE_EV_GO_STATUS_STACK, 1000, args), "status");
    }
}

static void write_trace(const char *path, uint64_t events)
{
    const struct trace_writer_options o = {.size = sizeof o, .version = 23};
    struct trace_writer *w = NULL;
    uint64_t at[PROCS], seq[FIBERS + 1] = {0}, stacks[NAMES], reason;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd < 0 ? -1 : trace_writer_open_fd(&w, fd, &o), path);
    must(trace_writer_begin(w, 1), "begin");
    begin(w, stacks);
    must(trace_writer_string(w, "chan receive", 12, &reason), "string");
    for (uint32_t p = 0; p < PROCS; p++)
        at[p] = 2000 + random_below(10000);
    for (uint64_t n = 0; n < events; n += 3) {
        uint32_t p = 0; // whose turn it is
        for (uint32_t i = 1; i < PROCS; i++)
            p = at[i] < at[p] ? i : p;
        uint32_t f = random_below(4) * PROCS + p;
        f = f ? f : FIBERS;
        say(w, p, TRACE_EV_GO_UNBLOCK, at[p], f, ++seq[f], 0);
        say(w, p, TRACE_EV_GO_START, at[p] += 200 + random_below(800), f, ++seq[f], 0);
        uint64_t run = 1000 + random_below(40000) * (random_below(50) ? 1 : 40);
        say(w, p, TRACE_EV_GO_BLOCK, at[p] += run, reason, stacks[f % NAMES], 0);
        at[p] += random_below(20000) * (random_below(200) ? 1 : 100);
    }
    must(trace_writer_end(w, NULL), "end");
    must(trace_writer_close(w), "close");
    close(fd);
}

// --- Memory, of this process.

static double memory_bytes(const char *name)
{
    char line[256];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            kb = strtod(line + strlen(name), NULL);
    if (f)
        fclose(f);
    return kb * 1024;
}

// --- What is measured, and how it spreads over the runs.

enum what { FIRST_S, WHOLE_S, LOADING_MS, LOD, MADE, DRAWN, FRAME, PROCESSORS, WHATS };

struct figure {
    double p50[RUNS_MAX], p99[RUNS_MAX], most[RUNS_MAX];
};

static struct figure figures[WHATS];
static int runs;
static bool only_first, is_cold;

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// "0.23 [0.20, 0.25]", until the next four.
static const char *spread(double *of_runs, int digits)
{
    static char texts[4][64];
    static int at;
    char *text = texts[at++ % 4];
    qsort(of_runs, (size_t)runs, sizeof *of_runs, by_size);
    snprintf(text, sizeof texts[0], "%.*f [%.*f, %.*f]", digits, of_runs[runs / 2], digits,
             of_runs[0], digits, of_runs[runs - 1]);
    return text;
}

static void tell(const char *name, enum what what)
{
    struct figure *f = &figures[what];
    printf("  %-36s p50 %-20s p99 %-20s most %s ms\n", name, spread(f->p50, 2), spread(f->p99, 2),
           spread(f->most, 2));
}

// --- Frames.

static double taken_ms[WHATS][STEPS];
static int frame_count;

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

// A picture 16 ms after the last one, as on a screen. With a key's own frame, which is not drawn.
static void one(struct app *a, struct raster *r, uint32_t key)
{
    const struct ui_event ev = {.kind = UI_KEY, .key = key};
    double began = now_ms(), cpu = cpu_ms();
    int64_t lod_ns = a->ui.lod_ns;
    a->ui.now_ms += 16;
    if (key)
        app_frame(a, WIDTH, HEIGHT, &ev);
    app_frame(a, WIDTH, HEIGHT, NULL);
    double made = now_ms();
    raster_frame(r, &a->list, &a->atlas, a->ui.theme.ground);
    double end = now_ms();
    taken_ms[LOD][frame_count] = (double)(a->ui.lod_ns - lod_ns) / 1e6;
    taken_ms[MADE][frame_count] = made - began;
    taken_ms[DRAWN][frame_count] = end - made;
    taken_ms[FRAME][frame_count] = end - began;
    taken_ms[PROCESSORS][frame_count++] = cpu_ms() - cpu;
}

// --- Loading, as a window does it: frames when the thread calls for them.

static sem_t woken;

static void wake(void *context)
{
    (void)context;
    sem_post(&woken);
}

static void draw(struct app *a, struct raster *r)
{
    app_frame(a, WIDTH, HEIGHT, NULL);
    for (int i = 0; i < 4 && a->ui.again; i++)
        app_frame(a, WIDTH, HEIGHT, NULL);
    raster_clear(r, a->ui.theme.ground);
    raster_draw(r, &a->list, &a->atlas);
}

struct loading {
    double began, first_ms, whole_ms, frame_ms, before;
    int parts;
};

static void load(struct app *a, struct loading *l)
{
    struct raster r;
    const struct trace_model *was = NULL;
    const struct document *d = a->documents[0];
    must(raster_init(&r, WIDTH, HEIGHT), "raster");
    while (d->loading && !(only_first && d->trace)) {
        sem_wait(&woken);
        while (!sem_trywait(&woken))
            ; // one picture of all
        double began = now_ms();
        draw(a, &r);
        double ms = now_ms() - began;
        l->frame_ms = ms > l->frame_ms ? ms : l->frame_ms;
        if (d->trace != was && !was)
            l->first_ms = now_ms() - l->began;
        l->parts += d->trace != was;
        was = d->trace;
    }
    if (*d->error)
        fprintf(stderr, "%s\n", d->error);
    if (!d->trace)
        exit(1);
    l->whole_ms = now_ms() - l->began;
    raster_finish(&r);
}

// Of the first run: later ones find memory that was used before.
static void tell_memory(const struct loading *l, double millions)
{
    double after, most = memory_bytes("VmHWM:");
    malloc_trim(0);
    after = memory_bytes("VmRSS:");
    printf("%.1f million events, %d lanes, %d parts\n", millions, PROCS, l->parts);
    printf("  memory: %.1f bytes an event, %.1f at most while reading\n",
           (after - l->before) / millions / 1e6, (most - l->before) / millions / 1e6);
}

// In to the middle, along, out again: as far as spans of a few pixels, and back. A key at every second picture.
static void script(struct app *a, int run)
{
    struct raster r;
    must(raster_init(&r, WIDTH, HEIGHT), "raster");
    a->ui.now_ms = 1;
    frame_count = 0;
    for (int round = 0; frame_count + 4 <= STEPS; round++) {
        int phase = round % 60;
        one(a, &r, phase < 20 ? 'w' : phase < 40 ? 'd' : 's');
        one(a, &r, 0);
        one(a, &r, phase < 30 ? 'd' : 'a');
        one(a, &r, 0);
    }
    for (int i = LOD; i < WHATS; i++) {
        qsort(taken_ms[i], (size_t)frame_count, sizeof taken_ms[i][0], by_size);
        figures[i].p50[run] = taken_ms[i][frame_count / 2];
        figures[i].p99[run] = taken_ms[i][frame_count * 99 / 100];
        figures[i].most[run] = taken_ms[i][frame_count - 1];
    }
    double began = now_ms();
    int n = 1;
    app_frame(a, WIDTH, HEIGHT, NULL);
    for (a->ui.now_ms += 1000; a->ui.moves; n++, a->ui.now_ms += 16)
        app_frame(a, WIDTH, HEIGHT, NULL);
    if (!run)
        printf("  all exact after %d frames, %.1f ms\n", n, now_ms() - began);
    raster_finish(&r);
}

static void forget(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must(fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -EIO : 0, path);
    close(fd);
}

// Opens the file, waits for all of it, and moves in it.
static void measure(const char *path, double millions, int run)
{
    static struct app a;
    const struct app_options o = {.font = "builtin", .scale = 100, .wake = wake};
    struct fscope_error err = {0};
    must(app_init(&a, &o, &err), "fonts");
    if (is_cold)
        forget(path);
    struct loading l = {.before = memory_bytes("VmRSS:"), .began = now_ms()};
    must(app_add(&a, path, &err), path);
    load(&a, &l);
    figures[FIRST_S].p50[run] = l.first_ms / 1e3;
    figures[WHOLE_S].p50[run] = l.whole_ms / 1e3;
    figures[LOADING_MS].p50[run] = l.frame_ms;
    if (!run && !only_first)
        tell_memory(&l, millions);
    if (!only_first)
        script(&a, run);
    app_close(&a);
    // The thread that was reading ends by itself; the next run is not to meet it.
    for (int i = 0; only_first && i < 50; i++)
        usleep(20000);
}

static void tell_all(void)
{
    printf("%d runs: median [least, most]\n", runs);
    printf("  first part drawn after %s s\n", spread(figures[FIRST_S].p50, 2));
    if (only_first)
        return;
    printf("  all after %s s\n", spread(figures[WHOLE_S].p50, 2));
    printf("  longest frame meanwhile %s ms\n", spread(figures[LOADING_MS].p50, 1));
    printf("each %d frames of a zoom and pan, %dx%d, %d lanes, CPU back end\n", frame_count, WIDTH,
           HEIGHT, PROCS);
    tell("levels of detail, and their list", LOD);
    tell("made: these, and the rest of the list", MADE);
    tell("drawn", DRAWN);
    tell("frame: made and drawn", FRAME);
    tell("processors' time of it", PROCESSORS);
}

// --- A large profile: stacks of 30 frames that share their roots, as real ones do.

static void write_profile(const char *path, uint64_t samples)
{
    enum { LOCATIONS = 40000, FUNCTIONS = 8000, DEPTH = 30 };
    struct fscope_error err = {0};
    struct pprof_location *frames[DEPTH];
    struct pprof_profile *p = pprof_new();
    struct pprof_mapping *m =
        pprof_add_mapping(p, 0x400000, 0x40000000, 0, "/usr/bin/program", "01");
    pprof_add_sample_type(p, "samples", "count");
    pprof_add_sample_type(p, "cpu", "nanoseconds");
    p->period_type = p->sample_types[1];
    for (int i = 0; i < FUNCTIONS; i++) {
        char name[64];
        snprintf(name, sizeof name, "namespace_%d::function_%d(int, char const*)", i % 50, i);
        pprof_intern_function(p, name, name, "file.cc", i);
    }
    for (uint64_t i = 0; i < LOCATIONS; i++) {
        struct pprof_line l = {.function = p->functions[random_below(FUNCTIONS)], .line = 10};
        pprof_intern_location(p, m, 0x400000 + i * 12, &l, 1);
    }
    for (int i = 0; i < DEPTH; i++)
        frames[i] = p->locations[random_below(LOCATIONS)];
    for (uint64_t i = 0; i < samples; i++) {
        for (uint32_t k = 0, changed = 1 + random_below(8); k < changed; k++)
            frames[k] = p->locations[random_below(LOCATIONS)];
        pprof_append_sample(p, frames, DEPTH, (int64_t[]){1, 1000000}, NULL, 0);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd < 0 ? -1 : pprof_write_fd(p, fd, false, &err), path);
    close(fd);
    pprof_free(p);
}

static int profile(int argc, char **argv)
{
    char made[] = "/tmp/fiberscope-bench-XXXXXX";
    const char *path = argc > 3 ? argv[3] : made;
    if (argc < 4) {
        int fd = mkstemp(made);
        must(fd < 0 ? -1 : close(fd), made);
        write_profile(made, (uint64_t)((argc > 2 ? strtod(argv[2], NULL) : 1.2) * 1e6));
    }
    static struct app a;
    const struct app_options o = {.font = "builtin", .scale = 100, .wake = wake};
    struct fscope_error err = {0};
    struct raster r;
    must(app_init(&a, &o, &err), "fonts");
    must(raster_init(&r, WIDTH, HEIGHT), "raster");
    double began = now_ms(), first = 0;
    must(app_add(&a, path, &err), path);
    const struct document *d = a.documents[0];
    while (d->loading) {
        sem_wait(&woken);
        while (!sem_trywait(&woken))
            ; // one picture of all
        draw(&a, &r);
        if (first <= 0 && d->profile)
            first = now_ms();
    }
    printf("profile: first flame graph drawn after %.2f s, all after %.2f s%s\n",
           (first - began) / 1e3, (now_ms() - began) / 1e3, d->error);
    raster_finish(&r);
    app_close(&a);
    if (argc < 4)
        unlink(made);
    return 0;
}

int main(int argc, char **argv)
{
    char made[] = "/tmp/fiberscope-bench-XXXXXX";
    sem_init(&woken, 0, 0);
    mallopt(M_MMAP_THRESHOLD, 256 << 10); // as fiberscope-view
    if (argc > 1 && !strcmp(argv[1], "--profile"))
        return profile(argc, argv);
    is_cold = argc > 1 && !strcmp(argv[1], "--cold");
    only_first = is_cold || (argc > 1 && !strcmp(argv[1], "--first"));
    argc -= only_first;
    argv += only_first;
    double millions = argc > 1 ? strtod(argv[1], NULL) : 10;
    const char *path = argc > 3 ? argv[3] : made;
    runs = argc > 2 ? atoi(argv[2]) : 5;
    runs = runs < 1 ? 1 : runs < RUNS_MAX ? runs : RUNS_MAX;
    if (argc < 4) {
        int fd = mkstemp(made);
        must(fd < 0 ? -1 : close(fd), made);
    }
    if (argc < 4 || access(path, F_OK))
        write_trace(path, (uint64_t)(millions * 1e6));
    for (int run = 0; run < runs; run++)
        measure(path, millions, run);
    tell_all();
    if (argc < 4)
        unlink(made);
    return 0;
}
