// SPDX-License-Identifier: MIT
//
// The header in C++17, with all warnings as errors: scopes, both classes and macros, and operator new and
// std::mutex under a budget.

#include <fiberscope/profile.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            std::printf("line %d: %s\n", __LINE__, #x);                                            \
            std::exit(10);                                                                         \
        }                                                                                          \
    } while (0)

static volatile uint32_t told, told_what;
static volatile std::size_t told_bytes;

static void on_forbidden(void *, uint32_t what, std::size_t bytes, const std::uintptr_t *, uint32_t)
{
    told = told + 1;
    told_what = what;
    told_bytes = bytes;
}

static int *volatile keep; // or the compiler leaves both out

static fscope_bench_fn bench;
static void bench(fscope_bench *b, void *)
{
    for (uint64_t i = 0; i < b->n; i++) {
        keep = std::make_unique<int>(3).release();
        delete keep;
    }
}

int main()
{
    fscope_on_forbidden(on_forbidden, nullptr);
    {
        fscope::forbid none(FSCOPE_ALLOC);
        std::string s("short"); // fits into the object
        std::vector<int> v;
        CHECK(told == 0);
        v.resize(100);
        CHECK(told == 1 && told_what == FSCOPE_ALLOC && told_bytes == 400);
        {
            FSCOPE_FORBID(FSCOPE_BLOCK);
            FSCOPE_FORBID(FSCOPE_BLOCK); // two on a line
            std::mutex m;
            std::lock_guard<std::mutex> free_lock(m);
            CHECK(told == 1);
        }
        CHECK(fscope_forbid(0) == FSCOPE_ALLOC);
    }
    CHECK(fscope_forbid(0) == 0);
    std::mutex m;
    m.lock();
    std::thread t([&m] {
        FSCOPE_FORBID(FSCOPE_BLOCK);
        std::lock_guard<std::mutex> held(m);
    });
    while (told == 1)
        std::this_thread::yield();
    m.unlock();
    t.join();
    CHECK(told == 2 && told_what == FSCOPE_BLOCK);

    CHECK(fscope_heap_start(1) == 0);
    {
        fscope::label outer("request", "/a");
        FSCOPE_LABEL("request", "/b");
        uint32_t before = fscope_label_set("x", "y");
        CHECK(before != 0);
    }
    CHECK(fscope_label_set("k", nullptr) == 0); // all have ended
    fscope_profile *p = ::fscope_profile_get("cxx");
    CHECK(p && fscope_profile_add(p, &m) == 0 && fscope_profile_count(p) == 1);
    CHECK(fscope_heap_stop() == 0);

    fscope_bench_options o{};
    o.size = sizeof o;
    o.iterations = 1000;
    o.fd = 2;
    fscope_bench_result r{};
    CHECK(fscope_bench_run("MakeUnique", bench, nullptr, &o, &r) == 0);
    CHECK(r.n == 1000 && r.alloc_objects == 1000 && r.alloc_bytes == 4000);
    std::puts("ok");
}
