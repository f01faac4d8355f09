// SPDX-License-Identifier: MIT
//
// Who wakes whom among plain threads. See waits.c.

#ifndef FIBERSCOPE_EMIT_WAITS_H
#define FIBERSCOPE_EMIT_WAITS_H

#include "emit/internal.h"

// What t released and nobody has gone on for yet: t is about to block or end, so it tells now. Within
// t's transition.
void emit_waits_flush(struct emit_thread *t);

// t is blocked, and waits for object (0: nobody can know), and then for the mutex `again` (0: none). Within its transition.
void emit_waits_begin(struct emit_thread *t, uint64_t object, uint64_t again);

// t's wait for a condition has been over by its time since late_ns, from when on it has been blocked on its mutex. Within
// its transition.
void emit_waits_timed_out(struct emit_thread *t, uint64_t mutex, uint64_t late_ns);

// t has got a mutex, which may be what who was woken needs. Within t's transition.
void emit_waits_took(struct emit_thread *t, uint64_t mutex);

// t was woken, and its mutex is another's for more than a moment: it is blocked on that. t's stream is held by the caller,
// who is within a transition of this session.
void emit_waits_settle(struct emit_thread *t);
void emit_waits_settle_all(void); // before tracing is off

// It goes on. Whether its GoUnblock has been told. Outside of its stream's transition, as it is told in another
// thread's stream; but `held`, from before until after emit_waits_over: a handler that came in between would find a claim
// that nobody but the thread it interrupted gives back. Then, within the transition in which it starts: emit_waits_over.
bool emit_waits_end(struct emit_thread *t);
void emit_waits_over(struct emit_thread *t);

// t is about to release object, or signals one or all of its waiters. Within its transition.
void emit_waits_note(struct emit_thread *t, uint64_t object);
void emit_waits_signal(struct emit_thread *t, uint64_t object, bool all);

// The claim of one that waits (see waits.c). False: it does not wait, or another has claimed it.
bool emit_waits_claim(struct emit_thread *w);
bool emit_waits_is_waiting(const struct emit_thread *w);

// With w's stream held: nobody tells of its wait until it is let go. False: somebody is
// just about to, or its thread is on its way.
bool emit_waits_keep(struct emit_thread *w, bool *is_waiting);
void emit_waits_let_go(struct emit_thread *w, bool is_waiting);

// Whether a blocked t has been told as unblocked in this session: runnable.
bool emit_waits_woken(const struct emit_thread *t);

bool emit_waits_claimed(struct emit_thread *t); // somebody is about to tell of its wait

void emit_waits_forget(void); // in a forked child

#endif
