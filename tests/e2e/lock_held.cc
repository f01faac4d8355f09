// SPDX-License-Identifier: MIT
//
// A std::mutex in an object on the heap, which no call initialises, held while another thread wants it.

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>

namespace
{

struct Queue {
    char name[32];
    std::mutex lock;
};

std::atomic<bool> is_waiting;

__attribute__((noinline)) std::unique_ptr<Queue> make_queue()
{
    auto q = std::make_unique<Queue>();
    q->name[0] = 'q';
    return q;
}

__attribute__((noinline)) void want(Queue *q)
{
    is_waiting = true;
    std::lock_guard<std::mutex> hold(q->lock);
    q->name[1] = 'w';
}

} // namespace

int main()
{
    auto q = make_queue();
    std::unique_lock<std::mutex> hold(q->lock);
    std::thread other(want, q.get());
    while (!is_waiting)
        std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    hold.unlock();
    other.join();
    return 0;
}
