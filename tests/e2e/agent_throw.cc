// SPDX-License-Identifier: MIT
//
// Two C++ threads that throw through twenty frames for a CPU second each: libgcc's unwinder and ours
// are at work on the same stacks. Prints "ok" if every exception arrived.

#include <cstdio>
#include <ctime>
#include <stdexcept>
#include <thread>

static volatile int sink;
static bool failed;

__attribute__((noinline)) static void deep(int n)
{
    if (!n)
        throw std::runtime_error("bottom");
    deep(n - 1);
    sink = sink + 1;
}

static void run()
{
    int thrown = 0, caught = 0;
    for (clock_t start = clock(); clock() - start < CLOCKS_PER_SEC;) {
        try {
            thrown++;
            deep(20);
        } catch (const std::runtime_error &) {
            caught++;
        }
    }
    if (thrown != caught || !caught)
        failed = true;
}

int main()
{
    std::thread a(run), b(run);
    a.join();
    b.join();
    std::puts(failed ? "failed" : "ok");
    return failed;
}
