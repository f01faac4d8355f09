// SPDX-License-Identifier: MIT
//
// C++ exceptions through deep frames, for frameless.c: the unwinder of libgcc works while we sample.

#include "tests/e2e/frameless.h"

#include <stdexcept>

namespace
{

volatile unsigned destroyed;

struct guard {
    ~guard()
    {
        destroyed = destroyed + 1;
        leaf_work(1);
    }
};

} // namespace

// Not in the unnamed namespace: the test knows it by name.
__attribute__((noinline)) void throw_down(unsigned depth)
{
    guard g;
    if (depth == 0)
        throw std::runtime_error("the bottom");
    throw_down(depth - 1);
}

extern "C" void throw_deep(unsigned depth)
{
    try {
        throw_down(depth);
    } catch (const std::runtime_error &) {
        leaf_work(20);
    }
}
