// SPDX-License-Identifier: MIT
//
// As order_target.c, with what C++ makes of locks.

#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <thread>

std::mutex g_a, g_b;
std::shared_mutex g_s;

static void in_thread(const std::function<void()> &fn)
{
    std::thread(fn).join();
}

// std::lock waits for one with nothing held, and tries the others.
static void scoped()
{
    in_thread([] { std::scoped_lock both(g_a, g_b); });
    in_thread([] { std::scoped_lock both(g_b, g_a); });
    in_thread([] {
        std::unique_lock a(g_a, std::defer_lock), b(g_b, std::defer_lock);
        std::lock(b, a);
    });
}

static void guards()
{
    in_thread([] {
        std::lock_guard a(g_a);
        std::lock_guard b(g_b);
    });
    in_thread([] {
        std::lock_guard b(g_b);
        std::lock_guard a(g_a);
    });
}

static void shared()
{
    in_thread([] {
        std::shared_lock s(g_s);
        std::lock_guard a(g_a);
    });
    in_thread([] {
        std::lock_guard a(g_a);
        std::unique_lock s(g_s);
    });
}

// An object's lock, in memory that is allocated anew: delete destroys no std::mutex.
struct Node {
    std::mutex lock;
    char more[200];
};

static void take_both(Node *first, Node *second)
{
    std::lock_guard a(first->lock);
    std::lock_guard b(second->lock);
}

static void reused()
{
    Node *low = new Node, *high = new Node;
    in_thread([&] { take_both(low, high); });
    delete low;
    delete high;
    Node *x = new Node, *y = new Node;
    in_thread([&] { take_both(x < y ? y : x, x < y ? x : y); });
    in_thread([&] { take_both(x < y ? y : x, x < y ? x : y); });
    std::printf("same %d\n", (x == low || x == high) && (y == low || y == high) && low < high);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!std::strcmp(name, "scoped"))
        scoped();
    else if (!std::strcmp(name, "guards"))
        guards();
    else if (!std::strcmp(name, "shared"))
        shared();
    else if (!std::strcmp(name, "reused"))
        reused();
    else
        return 2;
    std::puts("ready");
    std::fflush(stdout);
    std::getchar();
}
