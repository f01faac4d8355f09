// SPDX-License-Identifier: MIT
//
// See sync_objects.h.

#include "collector/sync_objects.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>

enum {
    TID_MAX = 1 << 22, // the kernel's limit of pids
    WAITERS_MAX = TID_MAX,
    PTHREAD_TID = 720, // where a struct pthread has its tid
};

// What was asked of the kernel, and what lies around the word.
struct look {
    const struct target *t;
    const struct thread_list *list;
    uint64_t at;       // the word
    uint32_t op, want; // and the value that it has while the wait goes on
};

static bool read_words(const struct look *k, int64_t offset, uint32_t *out, size_t count)
{
    return !target_read(k->t, k->at + (uint64_t)offset, out, count * sizeof *out);
}

static bool is_tid(uint32_t tid)
{
    return tid && tid <= TID_MAX;
}

static uint64_t wide(const uint32_t *words)
{
    return words[0] | (uint64_t)words[1] << 32;
}

static bool is_lock_pi(uint32_t op)
{
    return op == FUTEX_LOCK_PI || op == FUTEX_LOCK_PI2;
}

// { lock, count, owner, nusers, kind, spins | elision << 16, list }: the ABI's 40 bytes.
static bool is_mutex(const struct look *k, struct sync_wait *out)
{
    enum { TYPE = 3, ROBUST = 16, INHERIT = 32, PROTECT = 64, SHARED = 128, ELISION = 0x300 };
    static const char *const type_text[] = {"", "recursive", "error-checking", "adaptive"};
    const uint32_t tid_in_lock = FUTEX_TID_MASK;
    uint32_t w[6];
    if (!read_words(k, 0, w, 6))
        return false;
    uint32_t lock = w[0], owner = w[2], users = w[3], kind = w[4];
    if (kind & ~(uint32_t)(TYPE | ROBUST | INHERIT | PROTECT | SHARED | ELISION))
        return false;
    bool has_tid = kind & (ROBUST | INHERIT); // in the lock itself
    if (has_tid)
        owner = lock & tid_in_lock;
    // Of a protecting one the ceiling is in the lock's high bits.
    uint32_t contended = kind & PROTECT ? k->want & 0x7ffff : k->want;
    bool fits = kind & INHERIT ? is_lock_pi(k->op)
                : kind & ROBUST
                    ? !is_lock_pi(k->op) && (k->want & tid_in_lock) && (k->want & FUTEX_WAITERS)
                    : !is_lock_pi(k->op) && contended == 2 && (w[0] & 3) != 0;
    if (!fits || !is_tid(owner) || (!has_tid && (users == 0 || users > WAITERS_MAX)))
        return false;
    out->kind = SYNC_MUTEX;
    out->object = k->at;
    out->owner = owner;
    out->is_shared = kind & SHARED;
    out->detail = type_text[kind & TYPE];
    return true;
}

// { readers, writers, write-phase futex, writers futex, 0, 0, writer's tid, shared, elision, 0.., flags }
static bool is_rwlock_at(const struct look *k, int64_t offset, struct sync_wait *out)
{
    enum { READER_SHIFT = 3, PREFERS_WRITERS = 2 };
    uint32_t w[14];
    if (!read_words(k, -offset, w, 14))
        return false;
    uint32_t readers = w[0], writer = w[6];
    bool is_padded = !w[4] && !w[5] && !w[8] && !w[9] && !w[10] && !w[11];
    if (offset == 0 && (readers != k->want || w[12] != PREFERS_WRITERS))
        return false;
    if (!is_padded || !readers || w[7] > 1 || w[12] > 2 || w[13] || (writer && !is_tid(writer)))
        return false;
    bool is_reader = offset == 0 || (offset == 8 && k->want == 3);
    out->kind = is_reader ? SYNC_RWLOCK_READ : SYNC_RWLOCK_WRITE;
    out->object = k->at - (uint64_t)offset;
    out->owner = writer;
    out->readers = writer ? 0 : readers >> READER_SHIFT;
    out->is_shared = w[7];
    return true;
}

static bool is_rwlock(const struct look *k, struct sync_wait *out)
{
    enum { READERS_WAIT = 4 }; // in the word of readers, of a lock that prefers writers
    // Else a phase or a lock, 0 or 1, with the bit that somebody waits.
    if (k->op != FUTEX_WAIT && k->op != FUTEX_WAIT_BITSET)
        return false;
    if ((k->want == 2 || k->want == 3) && k->at % 8 == 0 && is_rwlock_at(k, 8, out))
        return true;
    if (k->want == 3 && k->at % 8 == 4 && is_rwlock_at(k, 12, out))
        return true;
    return k->want & READERS_WAIT && k->at % 8 == 0 && is_rwlock_at(k, 0, out);
}

// { u64 sequence, u64 start of group 1, refs[2], size[2], original size, waiters << 3 | flags, signals[2] }: waited
// for is one of the signals.
static bool is_condition(const struct look *k, struct sync_wait *out)
{
    uint32_t w[12], which = k->at % 8 / 4;
    uint64_t start = which ? 44 : 40;
    if ((k->op != FUTEX_WAIT && k->op != FUTEX_WAIT_BITSET) ||
        !read_words(k, -(int64_t)start, w, 12))
        return false;
    uint64_t sequence = wide(w) >> 1, first = wide(w + 2) >> 1;
    uint32_t waiters = w[9] >> 3;
    if (!waiters || waiters > WAITERS_MAX || sequence < waiters || first > sequence ||
        k->want != w[10 + which] || w[8] >> 2 > WAITERS_MAX)
        return false;
    out->kind = SYNC_COND;
    out->object = k->at - start;
    return true;
}

// { value, waiters, private }
static bool is_semaphore(const struct look *k, struct sync_wait *out)
{
    uint32_t w[3];
    if ((k->op != FUTEX_WAIT && k->op != FUTEX_WAIT_BITSET) || k->want || k->at % 8 ||
        !read_words(k, 0, w, 3) || w[0] || !w[1] || w[1] > WAITERS_MAX || (w[2] && w[2] != 128))
        return false;
    out->kind = SYNC_SEMAPHORE;
    out->object = k->at;
    return true;
}

// { in, round, count, shared, out }: waited for is the end of the round.
static bool is_barrier(const struct look *k, struct sync_wait *out)
{
    uint32_t w[5];
    if (k->op != FUTEX_WAIT || !read_words(k, -4, w, 5) || w[1] != k->want || w[2] < 2 ||
        w[2] > WAITERS_MAX || w[0] - w[1] == 0 || w[0] - w[1] > w[2] || (w[3] && w[3] != 128))
        return false;
    out->kind = SYNC_BARRIER;
    out->object = k->at - 4;
    return true;
}

// A struct pthread begins with its own address, and has it again as its third word.
static bool is_pthread(const struct look *k, uint64_t at, uint32_t *tid)
{
    uint64_t words[3];
    return at % 16 == 0 && !target_read(k->t, at, words, sizeof words) && words[0] == at &&
           words[2] == at && !target_read(k->t, at + PTHREAD_TID, tid, sizeof *tid) &&
           thread_list_find(k->list, *tid);
}

// The word is the thread's own number, in its struct pthread; the kernel clears it at the end. Numbers
// alone say nothing: in a container there are small ones.
static bool is_join(const struct look *k, struct sync_wait *out)
{
    uint32_t tid;
    if ((k->op != FUTEX_WAIT_BITSET && k->op != FUTEX_WAIT) ||
        !is_pthread(k, k->at - PTHREAD_TID, &tid) || tid != k->want)
        return false;
    out->kind = SYNC_JOIN;
    out->owner = tid;
    return true;
}

// { lock, count, owner }: the owner is the address of its struct pthread.
static bool is_file_lock(const struct look *k, struct sync_wait *out)
{
    uint32_t w[4], tid;
    if (k->op != FUTEX_WAIT || k->want != 2 || !read_words(k, 0, w, 4) || !w[0] || w[0] > 2 ||
        w[1] == 0 || w[1] > WAITERS_MAX || !is_pthread(k, wide(w + 2), &tid))
        return false;
    out->kind = SYNC_FILE;
    out->object = k->at;
    out->owner = tid;
    return true;
}

void sync_recognize(struct sync_wait *out, const struct target *t, const struct thread_list *list,
                    const struct thread_state *th)
{
    const uint64_t *a = th->call.args;
    *out = (struct sync_wait){.detail = ""};
    if (!th->call.is_in || th->call.number != SYS_futex)
        return;
    struct look k = {.t = t, .list = list, .at = a[0], .want = (uint32_t)a[2]};
    k.op = (uint32_t)a[1] & (uint32_t)FUTEX_CMD_MASK;
    if (k.op != FUTEX_WAIT && k.op != FUTEX_WAIT_BITSET && !is_lock_pi(k.op))
        return;
    out->futex = k.at;
    out->has_limit = a[3] != 0;
    // The strongest signs first.
    if (is_join(&k, out) || is_file_lock(&k, out) || is_mutex(&k, out) || is_rwlock(&k, out) ||
        is_condition(&k, out) || is_semaphore(&k, out) || is_barrier(&k, out))
        return;
    out->kind = SYNC_FUTEX;
    out->object = k.at;
}

const char *sync_kind_text(enum sync_kind k)
{
    static const char *const text[] = {
        [SYNC_NONE] = "",
        [SYNC_MUTEX] = "mutex",
        [SYNC_RWLOCK_READ] = "rwlock to read",
        [SYNC_RWLOCK_WRITE] = "rwlock to write",
        [SYNC_FILE] = "FILE",
        [SYNC_JOIN] = "join",
        [SYNC_COND] = "condition",
        [SYNC_SEMAPHORE] = "semaphore",
        [SYNC_BARRIER] = "barrier",
        [SYNC_FUTEX] = "futex",
    };
    return text[k];
}
