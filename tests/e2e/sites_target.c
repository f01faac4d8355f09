// SPDX-License-Identifier: MIT
//
// A program that knows how it grows, what it allocates and who waits for whom, for who looks at it from outside. It says
// "ready PID", waits for a line, does what MODE says, and prints "truth NAME NUMBER..." lines ("flood" and "fill" begin at once). Usage: sites_target MODE.

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { MIB = 1 << 20, PAGE = 4096 };

static void *volatile kept;
static volatile uint64_t sink;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

// --- grow

KEEP static void touch(char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += PAGE)
        p[i] = 1;
    sink++;
}

KEEP static char *map_large(void)
{
    char *p = map(40 * MIB);
    sink++;
    return p;
}

KEEP static void touch_half(char *p)
{
    touch(p, 20 * MIB);
    sink++;
}

KEEP static void give_pages_back(char *p)
{
    if (madvise(p, 8 * MIB, MADV_DONTNEED))
        abort();
    sink++;
}

KEEP static void unmap_some(char *p)
{
    if (munmap(p + 30 * MIB, 10 * MIB))
        abort();
    sink++;
}

KEEP static void move_larger(void)
{
    void *p = map(MIB);
    if (mremap(p, MIB, 6 * MIB, MREMAP_MAYMOVE) == MAP_FAILED)
        abort();
    sink++;
}

KEEP static void grow_break(void)
{
    void *p = sbrk(3 * MIB);
    if (p == (void *)-1)
        abort();
    touch(p, 3 * MIB);
    sink++;
}

KEEP static void *grow_in_thread(void *arg)
{
    touch(arg, 4 * MIB);
    sink++;
    return NULL;
}

static void grow(void)
{
    pthread_t threads[2];
    char *p = map_large(), *q = map(8 * MIB);
    touch_half(p);
    give_pages_back(p);
    unmap_some(p);
    move_larger();
    grow_break();
    for (size_t i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, grow_in_thread, q + i * 4 * MIB))
            abort();
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("truth resident touch_half %d\n", 20 * MIB);
    printf("truth resident grow_break %d\n", 3 * MIB);
    printf("truth resident grow_in_thread %d\n", 8 * MIB);
    printf("truth returned give_pages_back %d\n", 8 * MIB);
    printf("truth mapped map_large %d\n", 40 * MIB);
    printf("truth mapped move_larger %d\n", 6 * MIB);
    printf("truth mapped grow_break %d\n", 3 * MIB);
    printf("truth unmapped unmap_some %d\n", 10 * MIB);
}

// --- heap: as heap_target's random sizes.

KEEP static void *site_random(size_t size)
{
    void *p = malloc(size);
    sink++;
    return p;
}

KEEP static void *site_big(size_t size)
{
    void *p = malloc(size);
    sink += 2; // else one function with the other
    return p;
}

static void heap(uint64_t count)
{
    uint64_t r = 12345, bytes = 0, freed = 0, big = 0;
    for (uint64_t i = 0; i < count; i++) {
        r = r * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t size = 16 + (r >> 40) % (i % 50 == 0 ? 40000 : 700);
        void *p = site_random(size);
        bytes += size;
        if (i % 4) {
            free(p);
            freed += size;
        }
        if (i % 5000 == 0) {
            kept = site_big(MIB);
            big++;
        }
    }
    printf("truth heap site_random %llu %llu %llu\n", (unsigned long long)count,
           (unsigned long long)bytes, (unsigned long long)(bytes - freed));
    printf("truth heap site_big %llu %llu %llu\n", (unsigned long long)big,
           (unsigned long long)(big * MIB), (unsigned long long)(big * MIB));
}

// --- tick: an allocation each millisecond at the most, until it is told to end.

KEEP static void allocate_once(void)
{
    kept = malloc(64);
    sink += 3;
}

static void *tick(void *arg)
{
    for (;;) {
        allocate_once();
        pause_ms(1);
    }
    return arg;
}

static void start_ticking(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, tick, NULL))
        abort();
    printf("truth ticking\n");
}

// --- locks: one holds, one waits; who waits measures.

enum { ROUNDS = 60 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;
static uint64_t waited_ns;

KEEP static void wait_for_mutex(void)
{
    uint64_t began = now_ns();
    pthread_mutex_lock(&mutex);
    waited_ns += now_ns() - began;
    pthread_mutex_unlock(&mutex);
    sink++;
}

KEEP static void hold_and_unlock(void)
{
    pause_ms(4);
    pthread_mutex_unlock(&mutex);
    sink++;
}

static void *waiter(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&both); // the other one has it
        wait_for_mutex();
        pthread_barrier_wait(&both);
    }
    return arg;
}

static void locks(void)
{
    pthread_t thread;
    pthread_barrier_init(&both, NULL, 2);
    if (pthread_create(&thread, NULL, waiter, NULL))
        abort();
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        pthread_barrier_wait(&both);
        hold_and_unlock();
        pthread_barrier_wait(&both);
    }
    pthread_join(thread, NULL);
    printf("truth locks %d %llu\n", ROUNDS, (unsigned long long)waited_ns);
}

// --- flood: all threads allocate as fast as they can, from stacks of 60 KiB, as soon as the program begins.

enum { FLOODERS = 4, FLOOD_MS = 800, FRAME_BYTES = 3000, FRAMES = 20 };

KEEP static void allocate_on(void)
{
    uint64_t end = now_ns() + FLOOD_MS * UINT64_C(1000000);
    while (now_ns() < end)
        kept = malloc(16);
    sink++;
}

KEEP static void deep(int frames)
{
    volatile char room[FRAME_BYTES];
    room[frames] = 1;
    if (frames)
        deep(frames - 1);
    else
        allocate_on();
    sink += (uint64_t)room[frames];
}

static void *flooder(void *arg)
{
    deep(FRAMES);
    return arg;
}

static int flood(void)
{
    pthread_t threads[FLOODERS];
    for (size_t i = 0; i < FLOODERS; i++)
        if (pthread_create(&threads[i], NULL, flooder, NULL))
            abort();
    for (size_t i = 0; i < FLOODERS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

// --- fill: two threads touch pages as fast as they can, as soon as the program begins.

enum { FILLS = 4, FILLED = 32 * MIB };

KEEP static void *fill_pages(void *arg)
{
    for (int i = 0; i < FILLS; i++) {
        char *p = map(FILLED);
        touch(p, FILLED);
        munmap(p, FILLED);
    }
    return arg;
}

static int fill(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, fill_pages, NULL))
        abort();
    fill_pages(NULL);
    pthread_join(thread, NULL);
    printf("truth filled %d\n", 2 * FILLS * FILLED);
    return 0;
}

// --- Executing itself.

enum { OLD_BLOCKS = 100, NEW_BLOCKS = 10, BLOCK_BYTES = 1000 };

static KEEP void site_old(void)
{
    for (int i = 0; i < OLD_BLOCKS; i++)
        kept = malloc(BLOCK_BYTES);
}

static KEEP void site_new(void)
{
    for (int i = 0; i < NEW_BLOCKS; i++)
        kept = malloc(BLOCK_BYTES);
}

static int execute(char *const argv[])
{
    site_old();
    printf("truth old %d 0\ntruth new %d %d\n", OLD_BLOCKS, NEW_BLOCKS, NEW_BLOCKS);
    fflush(stdout);
    execl("/proc/self/exe", argv[0], "executed", NULL);
    return 1;
}

int main(int argc, char **argv)
{
    char line[16];
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "flood") == 0)
        return flood();
    if (strcmp(mode, "fill") == 0)
        return fill();
    if (strcmp(mode, "executed") == 0) { // the first image has said that it is ready
        site_new();
        return fgets(line, sizeof line, stdin) ? 0 : 1;
    }
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 1;
    if (strcmp(mode, "grow") == 0) {
        grow();
    } else if (strcmp(mode, "heap") == 0) {
        heap(argc > 2 ? strtoull(argv[2], NULL, 10) : 200000);
    } else if (strcmp(mode, "tick") == 0) {
        start_ticking();
    } else if (strcmp(mode, "locks") == 0) {
        locks();
    } else if (strcmp(mode, "execute") == 0) {
        return execute(argv);
    } else {
        return 2;
    }
    fflush(stdout);
    // Until told to end, or killed.
    return fgets(line, sizeof line, stdin) ? 0 : 1;
}
