// SPDX-License-Identifier: MIT
//
// What a process can ask about its own fibers: fib_info_read, fib_each, fib_stack, fib_metrics_read, and the
// descriptor; against what the test itself has counted.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"
#include "runtime/descriptor.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>

static struct fib_mutex mutex;
static struct fib waiting, lock_waiting, sleeping, owner;

static __attribute__((noinline)) void receiver(void *arg)
{
    int got = 0;
    fib_chan_recv(arg, &got);
    CHECK(got == 7, "%d", got);
}

static __attribute__((noinline)) void locker(void *arg)
{
    fib_mutex_lock(arg);
    fib_mutex_unlock(arg);
}

static __attribute__((noinline)) void sleeper(void *arg)
{
    fib_set_name("sleeping one");
    fib_label_set("route", "/look");
    fib_sleep((int64_t)(intptr_t)arg);
}

static struct fib_info info_of(struct fib f)
{
    struct fib_info i = {.size = sizeof i};
    int rc = fib_info_read(f, &i);
    CHECK(rc == 0, "%d", rc);
    return i;
}

static void check_infos(void *channel, uint64_t self)
{
    struct fib_info i = info_of(waiting);
    CHECK(i.status == FIB_WAITING && !strcmp(i.reason, "chan receive") && i.object == channel, "%s",
          i.reason);
    CHECK(i.start == receiver && i.creator == self && i.id == waiting.id && !i.name[0], "%s",
          i.name);
    CHECK(i.switches == 1 && i.preempted == 0 && i.owner == 0, "%d", (int)i.switches);
    CHECK(i.waiting_ns >= 50000000 && i.waiting_ns < 10000000000, "%f", (double)i.waiting_ns);
    CHECK(i.stack_bytes == 256 << 10 && i.stack_used_bytes >= 4096 && i.stack_used_bytes <= 32768,
          "%d %d", (int)i.stack_bytes, (int)i.stack_used_bytes);
    i = info_of(lock_waiting);
    CHECK(!strcmp(i.reason, "sync.Mutex.Lock") && i.owner == owner.id && i.object == &mutex,
          "%s %d", i.reason, (int)i.owner);
    i = info_of(sleeping);
    CHECK(!strcmp(i.reason, "sleep") && !strcmp(i.name, "sleeping one"), "%s %s", i.reason, i.name);
    i = info_of(owner);
    CHECK(i.status == FIB_RUNNING && !strcmp(i.reason, "") && i.cpu_ns > 0, "%s", i.reason);
    CHECK(fib_info_read((struct fib){owner.g, owner.id + 1}, &i) == -ESRCH, "another's id");
    i.size = 4;
    CHECK(fib_info_read(owner, &i) == -EINVAL, "a size that cannot be");
}

static void check_stacks(void)
{
    uintptr_t pcs[64];
    int n = fib_stack(waiting, pcs, 64);
    CHECK(n >= 3, "%d", n);
    // Its function is the last frame: the root is not shown.
    const uintptr_t start = (uintptr_t)receiver;
    CHECK(pcs[n - 1] > start && pcs[n - 1] < start + 512, "%lx", (unsigned long)pcs[n - 1]);
    CHECK(fib_stack(waiting, pcs, 2) == 2, "no more than asked for");
    CHECK(fib_stack(owner, pcs, 64) == -EBUSY, "the caller runs");
    CHECK(fib_stack((struct fib){owner.g, 1 << 20}, pcs, 64) == -ESRCH, "no such fiber");
}

struct seen {
    int count, stop_after;
    uint64_t ids[16];
};

static int note(void *arg, struct fib f)
{
    struct seen *s = arg;
    s->ids[s->count++ % 16] = f.id;
    return s->count == s->stop_after ? 42 : 0;
}

static void check_each(void)
{
    struct seen s = {0};
    CHECK(fib_each(note, &s) == 0 && s.count == 4, "%d", s.count);
    for (int i = 0; i < 4; i++)
        CHECK(s.ids[i] == waiting.id || s.ids[i] == lock_waiting.id || s.ids[i] == sleeping.id ||
                  s.ids[i] == owner.id,
              "%d", (int)s.ids[i]);
    s = (struct seen){.stop_after = 2};
    CHECK(fib_each(note, &s) == 42 && s.count == 2, "%d", s.count);
}

// --- Metrics.

struct metrics {
    uint64_t alive, created, running, waiting, runnable, calls, procs, threads, latencies, stacks,
        free;
    int count;
};

static void take(void *arg, const struct fib_metric *m)
{
    struct metrics *all = arg;
    struct {
        const char *name;
        uint64_t *to;
    } known[] = {
        {"/sched/goroutines:goroutines", &all->alive},
        {"/sched/goroutines-created:goroutines", &all->created},
        {"/sched/goroutines/running:goroutines", &all->running},
        {"/sched/goroutines/waiting:goroutines", &all->waiting},
        {"/sched/goroutines/runnable:goroutines", &all->runnable},
        {"/sched/goroutines/not-in-go:goroutines", &all->calls},
        {"/sched/gomaxprocs:threads", &all->procs},
        {"/sched/threads/total:threads", &all->threads},
        {"/fib/stacks:stacks", &all->stacks},
        {"/fib/stacks/free:stacks", &all->free},
    };
    all->count++;
    CHECK(m->description && *m->description, "%s", m->name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(m->name, known[i].name))
            *known[i].to = m->value;
    if (strcmp(m->name, "/sched/latencies:seconds") != 0)
        return;
    CHECK(m->bucket_count == 64 && m->bounds[0] <= 0 && isinf(m->bounds[64]), "%u",
          m->bucket_count);
    for (uint32_t i = 0; i < m->bucket_count; i++) {
        CHECK(m->bounds[i] < m->bounds[i + 1], "bound %u", i);
        all->latencies += m->buckets[i];
    }
    CHECK(fabs(m->bounds[20] - 1048576e-9) < 1e-12, "%g", m->bounds[20]); // 2^20 ns
}

static void nothing(void *arg)
{
    (void)arg;
}

static void check_metrics(void)
{
    struct metrics m = {0}, after = {0};
    fib_metrics_read(take, &m);
    CHECK(m.alive == 4 && m.created == 4 && m.running == 1 && m.waiting == 3 && m.runnable == 0 &&
              m.calls == 0 && m.procs == 1,
          "%d %d %d %d", (int)m.alive, (int)m.created, (int)m.running, (int)m.waiting);
    struct rlimit unused;
    CHECK(m.threads >= 3 && m.count >= 15 && !getrlimit(RLIMIT_NPROC, &unused), "%d",
          (int)m.threads);
    CHECK(m.stacks - m.free == 4, "%d - %d", (int)m.stacks, (int)m.free);
    for (int i = 0; i < 1000; i++) {
        struct fib f;
        CHECK(!fib_go(&f, nothing, NULL), "a fiber");
        fib_join(f);
    }
    fib_metrics_read(take, &after);
    CHECK(after.created == 1004 && after.alive == 4, "%d", (int)after.created);
    // One in 8 waits is measured, and counts for 8.
    CHECK(after.latencies > m.latencies + 500 && after.latencies < m.latencies + 4000, "%d",
          (int)(after.latencies - m.latencies));
}

// --- The descriptor, as an outsider uses it.

static void *at(const void *base, uint32_t offset)
{
    return (void *)((uintptr_t)base + offset);
}

static void check_descriptor(void)
{
    const struct fib_descriptor *d = &fib_descriptor;
    CHECK(!memcmp(d->magic, "FIBRT\0\0", 8) && d->version == 1 && d->size == sizeof *d &&
              d->is_ready,
          "head");
    void **tls = at(__builtin_thread_pointer(), (uint32_t)0);
    tls = (void **)(void *)((char *)tls + d->tls_offset);
    CHECK(tls[1] == owner.g && *(void **)at(tls[0], d->m_cur) == owner.g, "what this thread runs");
    void *g = waiting.g, *live = *(void **)at(g, d->g_live);
    CHECK(*(uint64_t *)at(g, d->g_id) == waiting.id && *(fib_fn **)at(g, d->g_fn) == receiver,
          "its id");
    CHECK(*(void **)at(live, d->live_g) == g, "there and back");
    CHECK(!strcmp(d->reason_text[*(uint32_t *)at(live, d->live_wait_reason)], "chan receive"),
          "why");
    CHECK(!strcmp(d->status_text[*(uint8_t *)at(g, d->g_status)], "waiting"), "state");
    int32_t labels = *(int32_t *)at(sleeping.g, d->g_labels);
    const char *pair = (const char *)(uintptr_t)d->labels + labels * (int64_t)d->label_set_size;
    CHECK(labels > 0 && !strcmp(pair, "route") && !strcmp(pair + d->label_size, "/look"), "%d",
          labels);
    // Three minutes and a half ago, by the clock's own scale.
    uint64_t scale = *(uint64_t *)(uintptr_t)d->ns_per_tick;
    uint64_t ticks = (uint64_t)(((unsigned __int128)210000000000u << 32) / scale);
    *(uint64_t *)at(live, d->live_wait_since) -= ticks;
    char text[16384] = "";
    int fds[2];
    CHECK(!pipe(fds), "pipe");
    fib_dump(fds[1]);
    CHECK(read(fds[0], text, sizeof text - 1) > 0, "dump");
    CHECK(strstr(text, " [chan receive, 3 minutes]:\n"), "%s", text);
    CHECK(strstr(text, " [sleep, \"sleeping one\"]:\n"), "%s", text);
    struct fib_info i = info_of(waiting);
    CHECK(i.waiting_ns / 1000000000 >= 210 && i.waiting_ns / 1000000000 < 220, "%d s",
          (int)(i.waiting_ns / 1000000000));
}

static void start(void *arg)
{
    (void)arg;
    struct fib_chan *c = fib_chan_new(sizeof(int), 0);
    owner = fib_self();
    fib_mutex_lock(&mutex);
    CHECK(!fib_go(&waiting, receiver, c) && !fib_go(&lock_waiting, locker, &mutex) &&
              !fib_go(&sleeping, sleeper, (void *)(intptr_t)INT64_MAX),
          "fibers");
    fib_sleep(60000000);
    check_infos(c, owner.id);
    check_stacks();
    check_each();
    check_metrics();
    check_descriptor();
    fib_mutex_unlock(&mutex);
    int seven = 7;
    fib_chan_send(c, &seven);
    fib_join(waiting);
    struct fib_info i = {.size = sizeof i};
    CHECK(fib_info_read(waiting, &i) == -ESRCH, "it has ended");
}

int main(void)
{
    struct fib_options o = {.size = sizeof o, .procs = 1, .stack_bytes = 256 << 10};
    CHECK(!fib_init(&o) && !fib_main(start, NULL), "start");
    return 0;
}
