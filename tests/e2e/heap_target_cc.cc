// SPDX-License-Identifier: MIT
//
// Every form of operator new, each in a function of its own; see heap_target.c for what it prints.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

struct truth {
    const char *name;
    unsigned long long objects, bytes, freed_objects, freed_bytes;
};
truth table[32];
int used;

struct alignas(128) wide {
    char bytes[384];
};

template <class T> T *keep(T *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

void count(const char *name, unsigned long long bytes, bool is_freed)
{
    int i = 0;
    while (i < used && std::strcmp(table[i].name, name) != 0)
        i++;
    if (i == used)
        table[used++].name = name;
    (is_freed ? table[i].freed_objects : table[i].objects)++;
    (is_freed ? table[i].freed_bytes : table[i].bytes) += bytes;
}

} // namespace

extern "C" {
__attribute__((noinline)) int *site_new()
{
    return keep(new int);
}
__attribute__((noinline)) char *site_new_array(std::size_t n)
{
    return keep(new char[n]);
}
__attribute__((noinline)) int *site_new_nothrow()
{
    return keep(new (std::nothrow) int);
}
__attribute__((noinline)) char *site_new_array_nothrow(std::size_t n)
{
    return keep(new (std::nothrow) char[n]);
}
__attribute__((noinline)) wide *site_new_aligned()
{
    return keep(new wide);
}
__attribute__((noinline)) wide *site_new_array_aligned()
{
    return keep(new wide[3]);
}
__attribute__((noinline)) wide *site_new_aligned_nothrow()
{
    return keep(new (std::nothrow) wide);
}
__attribute__((noinline)) char *site_too_large(std::size_t n)
{
    return keep(new char[n]);
}
__attribute__((noinline)) char *site_tls(std::size_t n)
{
    return keep(new char[n]);
}
}

struct in_thread {
    char *p = site_tls(55);
    ~in_thread()
    {
        delete[] p;
        delete[] site_tls(66);
    }
};
thread_local in_thread of_thread;

int main(int argc, char **)
{
    for (int i = 0; i < 50; i++) {
        delete site_new();
        count("site_new", 4, false), count("site_new", 4, true);
        delete[] site_new_array(100);
        count("site_new_array", 100, false), count("site_new_array", 100, true);
        ::operator delete(site_new_nothrow(), std::nothrow);
        count("site_new_nothrow", 4, false), count("site_new_nothrow", 4, true);
        ::operator delete[](site_new_array_nothrow(10), std::nothrow);
        count("site_new_array_nothrow", 10, false), count("site_new_array_nothrow", 10, true);
        delete site_new_aligned();
        count("site_new_aligned", sizeof(wide), false),
            count("site_new_aligned", sizeof(wide), true);
        delete[] site_new_array_aligned();
        count("site_new_array_aligned", 3 * sizeof(wide), false);
        count("site_new_array_aligned", 3 * sizeof(wide), true);
        delete site_new_aligned_nothrow();
        count("site_new_aligned_nothrow", sizeof(wide), false);
        count("site_new_aligned_nothrow", sizeof(wide), true);
    }
    site_new(); // leaks
    count("site_new", 4, false);
    int thrown = 0;
    for (int i = 0; i < 100 && argc == 1; i++) {
        try {
            site_too_large(PTRDIFF_MAX / 2);
        } catch (const std::bad_alloc &) {
            thrown++;
        }
        try {
            throw std::runtime_error(std::string(100, 'x'));
        } catch (const std::runtime_error &e) {
            thrown += std::strlen(e.what()) == 100;
        }
    }
    if (argc == 1 && thrown != 200)
        return 3;
    for (int i = 0; i < 10; i++) {
        std::thread([] { of_thread.p[0] = 1; }).join();
        count("site_tls", 55, false), count("site_tls", 55, true);
        count("site_tls", 66, false), count("site_tls", 66, true);
    }
    for (int i = 0; i < used; i++)
        std::printf("truth %d %s %llu %llu %llu %llu 0\n", (int)getpid(), table[i].name,
                    table[i].objects, table[i].bytes, table[i].freed_objects, table[i].freed_bytes);
    return 0;
}
