// SPDX-License-Identifier: MIT
//
// heap_plugin in C++: the first C++ library of a program in C, so operator new comes with it.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

extern "C" __attribute__((visibility("default"))) void plugin_allocate(void **blocks, int n);

template <class T> static T *keep(T *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

extern "C" __attribute__((noinline, visibility("hidden"))) char *site_plugin(int i)
{
    return keep(new char[static_cast<std::size_t>(i + 1) * 100]);
}

extern "C" __attribute__((noinline, visibility("hidden"))) char *site_refused()
{
    volatile std::size_t too_many = PTRDIFF_MAX / 2;
    return keep(new char[too_many]);
}

struct alignas(128) wide {
    char bytes[256];
};

extern "C" __attribute__((noinline, visibility("hidden"))) wide *site_wide()
{
    return keep(new wide);
}

void plugin_allocate(void **blocks, int n)
{
    for (int i = 0; i < n; i++)
        blocks[i] = site_plugin(i); // the program frees them: new is malloc here
    wide *w = site_wide();
    if (reinterpret_cast<std::uintptr_t>(w) % 128)
        std::abort();
    delete w;
    try {
        site_refused();
        std::abort();
    } catch (const std::bad_alloc &) {
    }
}
