// SPDX-License-Identifier: MIT
//
// 1,000 busy fibers that use what keeps locks and state per thread, malloc with one arena, stdio, qsort with
// callbacks, pthread mutexes, thread-local variables and C++ exceptions, are preempted 1,000 times a second:
// nothing deadlocks, nothing is corrupted.
//
//     preempt_soak SECONDS        FIB_DEBUG=quantum=1000 in the environment

#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdexcept>

namespace
{

constexpr int FIBERS = 1000;

std::atomic<long> rounds;
std::atomic<bool> stop;
long guarded, guarded_twice; // by the mutex
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
FILE *sink;
thread_local long mine;

unsigned next(unsigned *seed)
{
    return *seed = *seed * 1103515245 + 12345;
}

void use_malloc(unsigned *seed)
{
    unsigned char *blocks[24];
    size_t sizes[24];
    for (int i = 0; i < 24; i++) {
        sizes[i] = 1 + (next(seed) >> 8) % 4000;
        blocks[i] = static_cast<unsigned char *>(malloc(sizes[i]));
        memset(blocks[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < 24; i++) {
        CHECK(blocks[i][0] == i + 1 && blocks[i][sizes[i] - 1] == i + 1);
        free(blocks[i]);
    }
}

int compare(const void *a, const void *b)
{
    unsigned x = *static_cast<const unsigned *>(a), y = *static_cast<const unsigned *>(b);
    return (x > y) - (x < y);
}

void use_qsort(unsigned *seed)
{
    unsigned values[300];
    for (unsigned &v : values)
        v = next(seed);
    qsort(values, 300, sizeof *values, compare);
    for (int i = 1; i < 300; i++)
        CHECK(values[i - 1] <= values[i]);
}

void use_stdio(long id)
{
    char text[64];
    snprintf(text, sizeof text, "%ld %.3f", id, static_cast<double>(id) / 8);
    long back;
    double d;
    CHECK(sscanf(text, "%ld %lf", &back, &d) == 2 && back == id);
    fprintf(sink, "fiber %ld: %s\n", id, text);
}

__attribute__((noinline)) void thrower(int depth, long id)
{
    if (!depth)
        throw std::runtime_error(std::to_string(id));
    thrower(depth - 1, id);
    asm volatile("");
}

void use_exceptions(long id)
{
    try {
        try {
            thrower(10, id);
        } catch (const std::logic_error &) {
            CHECK(false, "the wrong handler");
        }
        CHECK(false, "nothing was thrown");
    } catch (const std::exception &e) {
        CHECK(atol(e.what()) == id);
        if (id % 7 == 0)
            fib_yield(); // while the exception is being handled
        CHECK(std::current_exception() != nullptr);
    }
}

// The thread sanitizer hands a signal on at the thread's next call that it knows, not while it waits in this one: a
// fiber that waits for the mutex unannounced keeps its processor there, and with all of them the mutex's
// holder, which was preempted, waits for ever. So there it is announced.
void lock_mutex()
{
#ifdef CHECK_IS_TSAN
    fib_blocking_enter();
    pthread_mutex_lock(&mutex);
    fib_blocking_exit();
#else
    pthread_mutex_lock(&mutex);
#endif
}

void busy(void *arg)
{
    long id = reinterpret_cast<intptr_t>(arg);
    unsigned seed = static_cast<unsigned>(id);
    while (!stop) {
        use_malloc(&seed);
        use_qsort(&seed);
        use_stdio(id);
        use_exceptions(id);
        lock_mutex();
        long now = ++guarded;
        for (volatile int i = 0; i < 200; i = i + 1)
            ;
        guarded_twice = now;
        CHECK(guarded == now && guarded_twice == now);
        pthread_mutex_unlock(&mutex);
        // No call here that may switch: the thread is the same, and its own.
        errno = static_cast<int>(id);
        mine = id;
        for (volatile int i = 0; i < 3000; i = i + 1)
            ;
        CHECK(errno == static_cast<int>(id) && mine == id);
        rounds++;
        if (seed % 16 == 0)
            fib_yield();
    }
}

void start(void *arg)
{
    static fib fibers[FIBERS];
    for (intptr_t i = 0; i < FIBERS; i++)
        CHECK(!fib_go(&fibers[i], busy, reinterpret_cast<void *>(i + 1)));
    fib_sleep(static_cast<int64_t>(atof(static_cast<char *>(arg)) * 1e9));
    uint64_t preempted = 0, ran = 0;
    for (fib f : fibers) {
        fib_info info = {};
        info.size = sizeof info;
        if (!fib_info_read(f, &info)) {
            preempted += info.preempted;
            ran += info.switches > 0;
        }
    }
    stop = true;
    for (fib f : fibers)
        fib_join(f);
    printf("%ld rounds, %llu preemptions, %llu of %d fibers ran\n", rounds.load(),
           static_cast<unsigned long long>(preempted), static_cast<unsigned long long>(ran),
           FIBERS);
    CHECK(guarded == rounds && preempted > 0);
}

} // namespace

int main(int argc, char **argv)
{
    char none[] = "3";
    mallopt(M_ARENA_MAX, 1);
    setenv("FIB_DEBUG", "quantum=1000", 0);
    sink = fopen("/dev/null", "w");
    CHECK(sink);
    CHECK(!fib_main(start, argc > 1 ? argv[1] : none));
    return 0;
}
