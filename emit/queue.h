// SPDX-License-Identifier: MIT
//
// Waiting threads by what they wait for, and who has a mutex that some need: so that a release costs the same however
// many threads there are.
//
// What always holds
//   - A queue is a hint of where to look. Who is found there is believed for what its own words say: waits.c's `wait`
//     and `wait_object`. One that waits is in the queue of its object, or counted in `emit_unqueued`.
//   - A stream's links are changed by who holds its claim alone (waits.c), within the bucket's lock.
//   - The lock is held for some instructions, and nobody waits for it for long: who does not get it does without, and
//     looks at all streams, or leaves a stream where it is.

#ifndef FIBERSCOPE_EMIT_QUEUE_H
#define FIBERSCOPE_EMIT_QUEUE_H

#include "emit/internal.h"

enum emit_queue {
    EMIT_QUEUE_WAITING,
    EMIT_QUEUE_RELOCKING, // woken, and to take a mutex first
    EMIT_QUEUES,
};

enum { EMIT_BUCKETS = 1024 };

// NOLINTNEXTLINE(*Padding): one cache line
struct emit_bucket {
    _Alignas(64) _Atomic uint32_t waiters; // for its objects: what a release asks first
    _Atomic uint32_t lock;
    struct emit_thread *_Atomic last; // who released such an object last
    struct emit_thread *_Atomic first[EMIT_QUEUES];
    // The mutex that was last seen to be taken while somebody needs it, since when (0: it is free, as far as is known),
    // and by whom (NULL: not known). Within the lock.
    uint64_t mutex, taken_ticks;
    struct emit_thread *taken_by;
    struct emit_thread
        *_Atomic missed; // whose stream was not free when somebody went on by its release
};
_Static_assert(sizeof(struct emit_bucket) == 64, "found by a shift");

extern struct emit_bucket emit_buckets[EMIT_BUCKETS] __attribute__((visibility("hidden")));
extern _Atomic uint32_t emit_unqueued __attribute__((visibility("hidden")));

static inline struct emit_bucket *emit_bucket_of(uint64_t object)
{
    return &emit_buckets[object * UINT64_C(0x9e3779b97f4a7c15) >> 54];
}

// w, which is claimed (or begins to wait), comes before those of its queue that have waited for less long.
void emit_queue_add(struct emit_thread *w, uint64_t object, enum emit_queue which);
void emit_queue_remove(struct emit_thread *w); // from where it is, if it is

// Who has waited longest for object, of those that waited at that time: claimed. NULL: nobody.
struct emit_thread *emit_queue_claim(uint64_t object, uint64_t ticks);
// Up to n of those that need the mutex.
uint32_t emit_queue_relocking(uint64_t mutex, struct emit_thread *out[], uint32_t n);

// t (NULL: who is not known) has the mutex: since now, or as long as is known already. ticks 0: it is free.
void emit_queue_took(uint64_t mutex, struct emit_thread *t, uint64_t ticks);
// Since when another than w has it: 0: nobody, as far as is known.
uint64_t emit_queue_taken(uint64_t mutex, const struct emit_thread *w);
bool emit_queue_has(uint64_t mutex, const struct emit_thread *t); // whether that is t
// The same of t, which releases the mutex: if it was not known who has it, that is t, and if nobody was known to have it,
// t has had it for longer than anyone knows: it waits since before the trace.
bool emit_queue_released(uint64_t mutex, struct emit_thread *t);

void emit_queue_forget(void); // in a forked child

#endif
