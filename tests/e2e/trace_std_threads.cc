// SPDX-License-Identifier: MIT
//
// std::threads that begin with functions of all kinds, which their traces name: see trace_gaps.py. Each sleeps for a
// moment in the function that it is to be called after, but the last one, which computes and is never seen to do anything.

#include <future>
#include <thread>
#include <unistd.h>

namespace work
{

void nap()
{
    usleep(20000);
}

void compute()
{
    static volatile unsigned long sink;
    for (unsigned long i = 0; i < 20000000; i++)
        sink = i;
}

void function()
{
    nap();
}

void with_arguments(int n, const char *text)
{
    for (int i = 0; i < n && *text; i++)
        nap();
}

int asynchronous(int n)
{
    nap();
    return n;
}

struct object {
    void operator()() const
    {
        nap();
    }
    void member()
    {
        nap();
    }
};

} // namespace work

int main()
{
    work::object object;
    std::thread threads[] = {
        std::thread(work::function),
        std::thread(work::with_arguments, 2, "x"),
        std::thread(object),
        std::thread(&work::object::member, &object),
        std::thread([] { work::nap(); }),
        std::thread([] { work::compute(); }),
    };
    std::future<int> answer = std::async(std::launch::async, work::asynchronous, 1);
    std::future<void> lambda = std::async(std::launch::async, [] { work::nap(); });
    lambda.get();
    for (std::thread &t : threads)
        t.join();
    return answer.get() - 1;
}
