// SPDX-License-Identifier: MIT
//
// The consuming side, outside the target. Everything in the segment was written by a stranger: each
// thing is copied first and validated in the copy, every loop is bounded by sizes from the
// consumer's own validated copy of the header, and damage costs what is damaged and no more.
//
// One consumer at a time holds an OFD write lock on the segment file; the kernel drops it when the
// consumer dies, so a successor takes over where the tails stand. A dump or a core file is read the
// same way, from a private copy, without a lock.

#ifndef FIBERSCOPE_SEGMENT_CONSUMER_H
#define FIBERSCOPE_SEGMENT_CONSUMER_H

#include "base/error.h"
#include "segment/layout.h"

#include <stdbool.h>

struct seg_reader;

// Opens a live segment by descriptor (taken: closed by seg_reader_close), for draining.
// -EBUSY: another consumer holds it (err says which pid if that can be known). -EPROTO: other
// version. -EINVAL: not a segment. -EAGAIN: its creator has not finished it.
int seg_reader_open(struct seg_reader **out, int fd, struct fscope_error *err);

// The same for some parts of it: rings and trace buffers have one consumer each, state has any number of readers.
enum seg_reader_part { SEG_READER_STATE = 0, SEG_READER_RINGS = 1, SEG_READER_TRACE = 2 };
int seg_reader_open_parts(struct seg_reader **out, int fd, unsigned parts,
                          struct fscope_error *err);

// Opens a black box, a dump or a core file by content; read-only, the file is not changed.
int seg_reader_open_file(struct seg_reader **out, const char *path, struct fscope_error *err);

// A live one through its owner's memory, where it is mapped: fn reads n bytes at offset of it, 0 or -errno. Read-only, of
// what is state; a page of it that nobody has touched comes to be by being read, so what is looked at is what is used.
typedef int seg_read_fn(void *arg, uint64_t offset, void *out, uint64_t n);
int seg_reader_open_memory(struct seg_reader **out, seg_read_fn *fn, void *arg, uint64_t bytes,
                           struct fscope_error *err);

void seg_reader_close(struct seg_reader *r); // accepts NULL

// Wishes (seg_control.asked) are told one at a time: true waits for those of other collectors, -EBUSY after
// 5 s. 0 or -errno.
int seg_reader_lock_wishes(struct seg_reader *r, bool on);

// Holds those kinds (1 << enum seg_held) too, or no more: they stay on for as long as anybody does. Samples and the
// trace are held by who was opened with that part, until it lets go, which keeps the part. 0 or -errno.
int seg_reader_hold(struct seg_reader *r, uint32_t kinds);
void seg_reader_let_go(struct seg_reader *r, uint32_t kinds);
uint32_t seg_reader_is_holding(const struct seg_reader *r);

// Those of seg_control.held that neither we nor others hold. Of meaning under the lock of the wishes.
uint32_t seg_reader_unheld(struct seg_reader *r);

// The validated copy of the header, counters as of the open (seg_reader_losses for fresh ones).
const struct seg_header *seg_reader_header(const struct seg_reader *r);
void seg_reader_losses(struct seg_reader *r, struct seg_losses *out);

// The live control words, writable; NULL for dumps, black boxes and cores. Call
// seg_reader_control_commit after a change: a live black box is not mapped (its owner may truncate
// it), so there the words are a copy until then. 0 or -errno.
struct seg_control *seg_reader_control(struct seg_reader *r);
int seg_reader_control_commit(struct seg_reader *r);

// Calls fn for each whole record in all rings, oldest first within a ring, and releases them. A ring's
// tail moves once its records are delivered, so a consumer that dies hands its successor at most one
// ring's records again.
// fn returns nonzero to stop (which leaves that record and the rest). Returns the number delivered
// or fn's value if negative. Records whose check or kind is wrong are skipped and counted in
// *damaged (may be NULL).
typedef int seg_record_fn(void *arg, const struct seg_record *r);
int64_t seg_reader_drain(struct seg_reader *r, seg_record_fn *fn, void *arg, uint64_t *damaged);

// Calls fn for each published state entry, with values as of now. index: for seg_reader_site.
typedef int seg_state_fn(void *arg, const struct seg_state *e, uint32_t index);
int64_t seg_reader_states(struct seg_reader *r, seg_state_fn *fn, void *arg);

// Copies the site of state entry index. -ENODATA: the segment has none. -EINVAL: no such entry.
int seg_reader_site(struct seg_reader *r, uint32_t index, struct seg_site *out);

// The heap as a whole, as of now.
void seg_reader_heap(struct seg_reader *r, struct seg_heap *out);

// Calls fn for each published module, also unmapped ones. path is valid during the call.
typedef int seg_module_fn(void *arg, const struct seg_module *m, const char *path);
int64_t seg_reader_modules(struct seg_reader *r, seg_module_fn *fn, void *arg);

// Calls fn for each thread slot ever used.
typedef int seg_thread_fn(void *arg, const struct seg_thread *t);
int64_t seg_reader_threads(struct seg_reader *r, seg_thread_fn *fn, void *arg);

// Copies the stack's pcs; its depth (at most max), 0 for id 0, -EINVAL for an id that does not
// exist or is damaged. *kind, *epoch, *flags may be NULL.
int seg_reader_stack(struct seg_reader *r, uint32_t id, uint64_t *pcs, uint32_t max, uint32_t *kind,
                     uint32_t *epoch, uint32_t *flags);

// Copies a string (NUL-terminated, cut at size); its full length or -EINVAL.
int seg_reader_string(struct seg_reader *r, uint32_t id, char *text, size_t size);

// Copies a label set's {key, value} string ids; the number of pairs or -EINVAL.
int seg_reader_labels(struct seg_reader *r, uint32_t id, uint32_t (*pairs)[2], uint32_t max);

// --- The order of locks.

// The area's head as of now. -ENODATA: the segment has no such area. -EINVAL: it is damaged.
int seg_reader_order(struct seg_reader *r, struct seg_order *out);

// Calls fn with each lock that lives, and with each edge whose locks do: their names are below lock_count. An edge that
// changed while it was copied is left out. Stops as seg_reader_states does.
typedef int seg_order_lock_fn(void *arg, const struct seg_order_lock *l, uint32_t index);
typedef int seg_order_edge_fn(void *arg, const struct seg_order_edge *e);
int64_t seg_reader_order_locks(struct seg_reader *r, seg_order_lock_fn *fn, void *arg);
int64_t seg_reader_order_edges(struct seg_reader *r, seg_order_edge_fn *fn, void *arg);

// Writes whether it is wanted; SEG_ASK_LOOK makes it so. 0, -ENODATA, -EROFS (not of a live segment's file).
int seg_reader_order_want(struct seg_reader *r, bool on);

// --- Execution traces: the buffers of SEG_AREA_TRACE. seg_reader_trace comes first.

// A copy of the area's head as of now; where the buffers lie has been checked. Clocks that were being
// replaced are zeroed. -ENODATA: the segment has no such area. -EINVAL: it is damaged.
int seg_reader_trace(struct seg_reader *r, struct seg_trace *out);

// Calls fn with a copy of the head of each buffer that is WRITING or SEALED, in no order, until fn returns
// nonzero. The number of calls, or fn's value if negative. What the target had sealed when seg_reader_trace
// read `complete` is seen as sealed.
typedef int seg_trace_buffer_fn(void *arg, const struct seg_trace_buffer *b, uint32_t index);
int64_t seg_reader_trace_buffers(struct seg_reader *r, seg_trace_buffer_fn *fn, void *arg);

// Copies the b->used bytes that were committed when the head was read. 0; -ESTALE: the buffer was given to
// others meanwhile, and what is in out is worth nothing.
int seg_reader_trace_copy(struct seg_reader *r, uint32_t index, const struct seg_trace_buffer *b,
                          void *out);

// Of a process that has ended: whether a thread may have been writing an event. Bytes behind what was committed are those
// of such an event, or are left from the buffer's former use; where there are none, nobody was.
bool seg_reader_trace_in_flight(struct seg_reader *r);

// Gives a buffer back to the target if it is SEALED. 0, or -EBUSY: it is not.
int seg_reader_trace_free(struct seg_reader *r, uint32_t index);

// Asks a flight recorder to leave sealed buffers alone while they are copied: until it is switched off, or nothing has been
// copied for a second. An error
// costs no correctness: copies are checked.
int seg_reader_trace_hold(struct seg_reader *r, bool on);

// Limits for the flight recorder that SEG_ASK_TRACE will begin. 0 or -errno.
int seg_reader_trace_limits(struct seg_reader *r, const uint64_t slow_ns[4]);

// Asks the target to end the trace, or to begin the next generation. -ESRCH: it is dead.
int seg_reader_trace_request(struct seg_reader *r, enum seg_trace_request request);

#endif
