// SPDX-License-Identifier: MIT
//
// A server in C++ that throws for every request: attach_server THREADS. It says its port, then answers each line "N" with
// the sum 1 + .. + N, which comes up N frames as an exception; memory, a lock and a condition are used on the way. Ends
// at the end of its standard input and says how many requests it has answered.

#include <arpa/inet.h>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

struct Sum : std::runtime_error {
    long value;
    explicit Sum(long v) : std::runtime_error("sum " + std::to_string(v)), value(v)
    {
    }
};

std::mutex lock;
std::condition_variable changed;
std::map<long, std::string> seen;
long answered;

__attribute__((noinline)) void climb(long n, long sum)
{
    std::unique_ptr<std::string> kept(new std::string(100 + n % 400, 'x'));
    if (n == 0)
        throw Sum(sum);
    try {
        climb(n - 1, sum + n);
    } catch (const Sum &) {
        if (n % 3 == 0)
            throw Sum(sum + n * (n + 1) / 2); // a new one, of the same value
        throw;
    }
    std::abort();
}

std::string answer(const std::string &line)
{
    try {
        climb(std::stol(line), 0);
    } catch (const Sum &s) {
        std::lock_guard<std::mutex> hold(lock);
        seen[s.value] = s.what();
        answered++;
        changed.notify_all();
        return std::to_string(s.value) + "\n";
    } catch (const std::exception &e) {
        return std::string("error ") + e.what() + "\n";
    }
    return "nothing\n";
}

void serve(int fd)
{
    std::string in;
    char data[512];
    ssize_t n;
    while ((n = read(fd, data, sizeof data)) > 0) {
        in.append(data, n);
        for (size_t at; (at = in.find('\n')) != std::string::npos; in.erase(0, at + 1)) {
            std::string out = answer(in.substr(0, at));
            if (write(fd, out.data(), out.size()) != (ssize_t)out.size())
                break;
        }
    }
    close(fd);
}

void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0)
        serve(fd);
}

void watch() // waits for each answer
{
    std::unique_lock<std::mutex> hold(lock);
    for (;;)
        changed.wait(hold);
}

} // namespace

int main(int argc, char **argv)
{
    struct sockaddr_in at = {};
    socklen_t size = sizeof at;
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, size) || listen(listener, 64) ||
        getsockname(listener, (struct sockaddr *)&at, &size))
        return 1;
    for (int i = 0; i < (argc > 1 ? atoi(argv[1]) : 2); i++)
        std::thread(accept_all, listener).detach();
    std::thread(watch).detach();
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    while (getchar() != EOF)
        ;
    std::lock_guard<std::mutex> hold(lock);
    printf("answered %ld\n", answered);
    fflush(stdout);
    _exit(0);
}
