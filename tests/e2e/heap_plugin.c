// SPDX-License-Identifier: MIT
//
// A library that is loaded, allocates, and goes before what it allocated is freed.

#include <stdlib.h>

__attribute__((visibility("default"))) void plugin_allocate(void **blocks, int n);

__attribute__((noinline)) static void *site_plugin(int i)
{
    void *p = malloc((size_t)(i + 1) * 100);
    __asm__ volatile("" : "+r"(p));
    return p;
}

void plugin_allocate(void **blocks, int n)
{
    for (int i = 0; i < n; i++)
        blocks[i] = site_plugin(i);
}
