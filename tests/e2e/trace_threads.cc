// SPDX-License-Identifier: MIT
//
// Plain threads that wait for known things: what tests/e2e/trace_threads.py looks for in their trace. Each of four
// rounds: a mutex held for 20 ms, a condition after 20 ms, a semaphore, a barrier, a pipe and a socket of which the
// other end waits 20 ms, a sleep of 20 ms, and a child process that is forked and waited for.

#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <cstdlib>

namespace
{

constexpr int ROUNDS = 4;

void delay()
{
    usleep(20000);
}

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
std::mutex guard;
std::condition_variable ready;
bool is_ready;
sem_t semaphore;
pthread_barrier_t barrier, mutex_held;
int pipes[2], sockets[2];

extern "C" void *mutex_waiter(void *)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&mutex_held);
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        pthread_barrier_wait(&mutex_held);
    }
    return nullptr;
}

extern "C" void *mutex_holder(void *)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        pthread_barrier_wait(&mutex_held);
        delay();
        pthread_mutex_unlock(&mutex);
        pthread_barrier_wait(&mutex_held); // before it is taken again
    }
    return nullptr;
}

extern "C" void *semaphore_waiter(void *)
{
    for (int i = 0; i < ROUNDS; i++)
        sem_wait(&semaphore);
    return nullptr;
}

extern "C" void *reader(void *)
{
    char byte;
    for (int i = 0; i < ROUNDS; i++)
        if (read(pipes[0], &byte, 1) != 1 || recv(sockets[0], &byte, 1, 0) != 1)
            abort();
    return nullptr;
}

extern "C" void *barrier_waiter(void *)
{
    for (int i = 0; i < ROUNDS; i++)
        pthread_barrier_wait(&barrier);
    return nullptr;
}

void condition_waiter()
{
    std::unique_lock<std::mutex> lock(guard);
    ready.wait(lock, [] { return is_ready; });
}

extern "C" void *driver(void *)
{
    for (int i = 0; i < ROUNDS; i++) {
        delay();
        sem_post(&semaphore);
        if (write(pipes[1], "x", 1) != 1)
            abort();
        delay();
        if (send(sockets[1], "x", 1, 0) != 1)
            abort();
        pthread_barrier_wait(&barrier);
    }
    {
        std::lock_guard<std::mutex> lock(guard);
        is_ready = true;
    }
    ready.notify_all();
    return nullptr;
}

} // namespace

int main()
{
    sem_init(&semaphore, 0, 0);
    pthread_barrier_init(&barrier, nullptr, 2);
    pthread_barrier_init(&mutex_held, nullptr, 2);
    if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
        return 1;
    void *(*const all[])(void *) = {mutex_waiter, mutex_holder,   semaphore_waiter,
                                    reader,       barrier_waiter, driver};
    pthread_t threads[6];
    std::thread condition(condition_waiter);
    for (int i = 0; i < 6; i++)
        if (pthread_create(&threads[i], nullptr, all[i], nullptr))
            return 1;
    pid_t child = fork();
    if (!child)
        _exit(0);
    if (waitpid(child, nullptr, 0) != child)
        return 1;
    for (pthread_t t : threads)
        pthread_join(t, nullptr);
    condition.join();
    return 0;
}
