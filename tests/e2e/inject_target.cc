// SPDX-License-Identifier: MIT
//
// A program into which an agent is put, and which notices everything: inject_target MODE. It says "ready", runs until
// SIGTERM, and at the end says what it has seen; exit status 1 if anything was amiss.
//
//   registers  threads that hold known values in all registers (general, x87, SSE, AVX, MXCSR, flags, errno, the signal
//              mask, the alternate stack) and look at them all the time
//   throws     threads that throw and catch, allocate, lock and load a library
//   allocates  at SIGUSR1 allocates 100 MB, then 1000 blocks of 100,000 bytes in site_kept, frees 500 of these and says
//              "done"; blocks from before main's loop are freed on the way, too

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <poll.h>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static std::atomic<bool> over;
static std::atomic<unsigned long> rounds, broken;
static volatile sig_atomic_t asked;

static void on_term(int)
{
    over = true;
}

static void on_usr1(int)
{
    asked = 1;
}

static void amiss(const char *what)
{
    if (broken++ < 20)
        fprintf(stderr, "amiss: %s\n", what);
}

// --- registers

struct held {
    uint64_t general[8];
    uint8_t wide[8][32];
};

// Spins for a while with all of them loaded, then stores what is there.
static void hold(const held *in, held *out, double *x87, unsigned long turns)
{
    double pi = 3.25, e = 2.5, got_pi = 0, got_e = 0;
    __asm__ volatile("fldl %[pi]\n\t"
                     "fldl %[e]\n\t"
                     "vmovdqu 64(%[in]), %%ymm8\n\t"
                     "vmovdqu 96(%[in]), %%ymm9\n\t"
                     "vmovdqu 128(%[in]), %%ymm10\n\t"
                     "vmovdqu 160(%[in]), %%ymm11\n\t"
                     "vmovdqu 192(%[in]), %%ymm12\n\t"
                     "vmovdqu 224(%[in]), %%ymm13\n\t"
                     "vmovdqu 256(%[in]), %%ymm14\n\t"
                     "vmovdqu 288(%[in]), %%ymm15\n\t"
                     "mov 0(%[in]), %%r8\n\t"
                     "mov 8(%[in]), %%r9\n\t"
                     "mov 16(%[in]), %%r10\n\t"
                     "mov 24(%[in]), %%r11\n\t"
                     "mov 32(%[in]), %%r12\n\t"
                     "mov 40(%[in]), %%r13\n\t"
                     "mov 48(%[in]), %%r14\n\t"
                     "mov 56(%[in]), %%r15\n"
                     "1:\n\t"
                     "dec %[turns]\n\t"
                     "jnz 1b\n\t"
                     "mov %%r8, 0(%[out])\n\t"
                     "mov %%r9, 8(%[out])\n\t"
                     "mov %%r10, 16(%[out])\n\t"
                     "mov %%r11, 24(%[out])\n\t"
                     "mov %%r12, 32(%[out])\n\t"
                     "mov %%r13, 40(%[out])\n\t"
                     "mov %%r14, 48(%[out])\n\t"
                     "mov %%r15, 56(%[out])\n\t"
                     "vmovdqu %%ymm8, 64(%[out])\n\t"
                     "vmovdqu %%ymm9, 96(%[out])\n\t"
                     "vmovdqu %%ymm10, 128(%[out])\n\t"
                     "vmovdqu %%ymm11, 160(%[out])\n\t"
                     "vmovdqu %%ymm12, 192(%[out])\n\t"
                     "vmovdqu %%ymm13, 224(%[out])\n\t"
                     "vmovdqu %%ymm14, 256(%[out])\n\t"
                     "vmovdqu %%ymm15, 288(%[out])\n\t"
                     "fstpl %[got_e]\n\t"
                     "fstpl %[got_pi]"
                     : [turns] "+a"(turns), [got_pi] "=m"(got_pi), [got_e] "=m"(got_e)
                     : [in] "S"(in), [out] "D"(out), [pi] "m"(pi), [e] "m"(e)
                     : "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory", "cc", "st",
                       "st(1)", "st(2)", "st(3)");
    x87[0] = got_pi;
    x87[1] = got_e;
}

static uint32_t mxcsr()
{
    uint32_t value;
    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value & ~0x3fu; // without what has happened
}

static void watch_registers(unsigned seed)
{
    held in, out;
    double x87[2];
    sigset_t mask, now;
    static thread_local char stack[65536];
    stack_t alt = {}, alt_now;
    const uint32_t rounding = 0x1f80 | 0x4000; // upwards
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    if (seed & 1)
        sigaddset(&mask, SIGWINCH);
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    alt.ss_sp = stack;
    alt.ss_size = sizeof stack;
    sigaltstack(&alt, nullptr);
    for (unsigned n = seed; !over; n += 7) {
        memset(&in, (int)(n | 1), sizeof in);
        in.general[n % 8] = n * 0x9e3779b97f4a7c15u;
        memcpy(in.wide[n % 8], &n, sizeof n);
        memset(&out, 0, sizeof out);
        __asm__ volatile("ldmxcsr %0" : : "m"(rounding));
        errno = (int)(n % 100);
        hold(&in, &out, x87, 200000);
        if (errno != (int)(n % 100))
            amiss("errno");
        if (mxcsr() != rounding)
            amiss("mxcsr");
        if (memcmp(&in, &out, sizeof in) != 0)
            amiss("registers");
        if (x87[0] != 3.25 || x87[1] != 2.5)
            amiss("x87");
        pthread_sigmask(SIG_SETMASK, nullptr, &now);
        if (sigismember(&now, SIGUSR2) != 1 || sigismember(&now, SIGTERM) != 0 ||
            sigismember(&now, SIGWINCH) != (int)(seed & 1))
            amiss("signal mask");
        sigaltstack(nullptr, &alt_now);
        if (alt_now.ss_sp != stack || alt_now.ss_size != sizeof stack)
            amiss("alternate stack");
        rounds++;
    }
}

// --- throws

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((noinline)) static int deep(int n)
{
    std::string own(static_cast<size_t>(n) + 20, 'x');
    if (n == 0)
        throw std::runtime_error(own);
    return deep(n - 1) + static_cast<int>(own.size());
}

static void throw_and_catch(unsigned seed)
{
    std::map<int, std::string> kept;
    for (unsigned n = seed; !over; n++) {
        std::string what;
        try {
            deep(static_cast<int>(n % 20));
        } catch (const std::runtime_error &e) {
            what = e.what();
        }
        if (what != std::string(20, 'x'))
            amiss("exception");
        pthread_mutex_lock(&lock);
        kept[static_cast<int>(n % 97)] = what + std::to_string(n);
        pthread_mutex_unlock(&lock);
        if (n % 64 == 0) {
            void *library = dlopen("libm.so.6", RTLD_NOW);
            double (*cosine)(double);
            *reinterpret_cast<void **>(&cosine) = library ? dlsym(library, "cos") : nullptr;
            if (!cosine || cosine(0) != 1)
                amiss("dlopen");
            if (library)
                dlclose(library);
        }
        rounds++;
    }
}

// --- allocates

extern "C" __attribute__((noinline)) void *site_kept()
{
    void *p = malloc(100000);
    __asm__ volatile("" : "+r"(p));
    return p;
}

static void allocate_on_demand()
{
    std::vector<void *> before, blocks;
    blocks.reserve(1000);
    for (int i = 0; i < 100; i++)
        before.push_back(malloc(1000));
    printf("ready\n");
    fflush(stdout);
    while (!over) {
        poll(nullptr, 0, 5);
        rounds++;
        if (!asked)
            continue;
        asked = 0;
        for (void *p : before)
            free(p);
        before.clear();
        for (int i = 0; i < 100;
             i++) { // a thread that found nothing recorded looks again after a while
            void *p = malloc(1000000);
            __asm__ volatile("" : "+r"(p));
            free(p);
        }
        for (int i = 0; i < 1000; i++)
            blocks.push_back(site_kept());
        for (int i = 0; i < 500; i++)
            free(blocks[static_cast<size_t>(i)]);
        if (write(1, "done\n", 5) != 5)
            amiss("write");
    }
}

int main(int argc, char **argv)
{
    std::string mode = argc > 1 ? argv[1] : "registers";
    std::vector<std::thread> threads;
    signal(SIGTERM, on_term);
    signal(SIGUSR1, on_usr1);
    if (mode == "allocates") {
        allocate_on_demand();
    } else {
        for (unsigned i = 0; i < 3; i++)
            threads.emplace_back(mode == "throws" ? throw_and_catch : watch_registers, i);
        printf("ready\n");
        fflush(stdout);
        while (!over)
            usleep(20000);
    }
    for (auto &t : threads)
        t.join();
    printf("rounds %lu broken %lu\n", rounds.load(), broken.load());
    return broken != 0;
}
