// SPDX-License-Identifier: MIT
//
// What profilers break: exceptions through many frames in several threads, and a thousand children
// that allocate, lock and end in different ways. Prints what it computed, the same on every run.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

std::mutex lock;
long caught_sum;

struct guard {
    explicit guard(long *n) : n_(n), text_(64 + *n % 64, 'x')
    {
        ++*n_;
    }
    ~guard()
    {
        --*n_;
    }
    long *n_;
    std::string text_;
};

[[gnu::noinline]] long deep(int depth, long seed, long *alive)
{
    guard g(alive);
    auto p = std::make_unique<std::vector<long>>(static_cast<size_t>(depth + 1), seed);
    if (depth == 0)
        throw std::runtime_error(std::to_string(seed));
    return deep(depth - 1, seed, alive) + (*p)[0];
}

void throw_often(int thread)
{
    long alive = 0, sum = 0;
    for (int i = 0; i < 20000; i++) {
        try {
            sum += deep(i % 24, i, &alive);
        } catch (const std::exception &e) {
            sum += std::strtol(e.what(), nullptr, 10);
        }
        if (alive != 0)
            std::abort();
        try { // operator new throws, too
            if (i % 100 == 0)
                delete[] new char[static_cast<size_t>(-1) / 4 - static_cast<size_t>(thread)];
        } catch (const std::bad_alloc &) {
            sum += 7;
        }
    }
    std::lock_guard<std::mutex> hold(lock);
    caught_sum += sum;
}

int throw_case()
{
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back(throw_often, i);
    for (auto &t : threads)
        t.join();
    std::printf("%ld\n", caught_sum);
    return 0;
}

int child(int i)
{
    std::map<int, std::string> m;
    for (int k = 0; k < 50; k++)
        m[k * i % 101] = std::string(static_cast<size_t>(k), 'a');
    std::lock_guard<std::mutex> hold(lock);
    return static_cast<int>(m.size() % 50);
}

int fork_case()
{
    long sum = 0;
    std::vector<std::string> kept;
    for (int i = 0; i < 1000; i++) {
        kept.emplace_back(static_cast<size_t>(i % 300), 'k');
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            int status = child(i);
            kept.clear(); // frees what the parent allocated
            if (i % 50 == 3)
                execl("/bin/true", "true", nullptr);
            if (i % 3)
                _exit(status);
            std::exit(status);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
            return 2;
        sum = sum * 31 % 1000003 + WEXITSTATUS(status);
    }
    std::printf("%ld %zu\n", sum, kept.size());
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc == 2 && !std::strcmp(argv[1], "throw"))
        return throw_case();
    if (argc == 2 && !std::strcmp(argv[1], "fork"))
        return fork_case();
    return 2;
}
