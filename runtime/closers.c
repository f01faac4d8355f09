// SPDX-License-Identifier: MIT
//
// Who closed a channel, with its stack, for the message of who sends on it later. Unwinding at each close would
// cost more than the close; so the top of the stack is copied, and unwound if it comes to that.
//
// Invariant: a note's number is 0 while it is being written; it is the channel's close_number as long as
// the note is that one's. The last NOTES closes have one; for older ones the pc in the channel is left.

#include "runtime/chan.h"
#include "runtime/print.h"
#include "unwind/modules.h"
#include "unwind/unwind.h"

enum { NOTES = 64, WORDS = 128, DEPTH = 32, PAGE = 4096 };

struct note {
    _Atomic uint64_t number;
    struct unwind_registers registers;
    uint32_t words;
    uint64_t stack[WORDS]; // from registers.rsp
};

static struct note notes[NOTES];
static _Atomic uint64_t last_number;

// Frames of others, and notes that another may overwrite: the sanitizers are not to look.
#define UNCHECKED __attribute__((noinline, no_sanitize_address, no_sanitize_thread))

// How far the stack may be read: to its end, or where that is not known, to the end of the page.
static uint64_t stack_end(uint64_t rsp)
{
    struct m *m = this_m();
    const struct live *live = m ? m->cur->live : NULL;
    if (live && rsp >= live->low && rsp < (uintptr_t)live && (uintptr_t)live <= live->high)
        return (uintptr_t)live;
    return rsp / PAGE * PAGE + PAGE;
}

UNCHECKED uint64_t closer_note(void)
{
    // relaxed: only the number counts
    uint64_t number = atomic_fetch_add_explicit(&last_number, 1, memory_order_relaxed) + 1;
    struct note *n = &notes[number % NOTES];
    atomic_store_explicit(&n->number, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); // pairs with the fence in read_note
    unwind_here(&n->registers);
    uint64_t rsp = n->registers.rsp;
    uint64_t words = (stack_end(rsp) - rsp) / 8;
    n->words = words < WORDS ? (uint32_t)words : WORDS;
    const volatile uint64_t *from = (const uint64_t *)(uintptr_t)rsp;
    for (uint32_t i = 0; i < n->words; i++)
        n->stack[i] = from[i];
    // release: pairs with the acquire in read_note
    atomic_store_explicit(&n->number, number, memory_order_release);
    return number;
}

static UNCHECKED bool read_note(struct note *to, uint64_t number)
{
    struct note *n = &notes[number % NOTES];
    if (!number || atomic_load_explicit(&n->number, memory_order_acquire) != number)
        return false;
    to->registers = n->registers;
    to->words = n->words;
    for (uint32_t i = 0; i < WORDS; i++)
        to->stack[i] = ((volatile uint64_t *)n->stack)[i];
    atomic_thread_fence(memory_order_acquire); // what was read was read before this look
    return atomic_load_explicit(&n->number, memory_order_relaxed) == number;
}

static int read_word(void *arg, uint64_t address, uint64_t *value)
{
    const struct note *n = arg;
    uint64_t i = (address - n->registers.rsp) / 8;
    if (address < n->registers.rsp || address % 8 || i >= n->words)
        return -1;
    *value = n->stack[i];
    return 0;
}

static int find_tables(void *arg, uint64_t pc, struct unwind_tables *out)
{
    (void)arg;
    return unwind_modules_find(pc, out);
}

void closer_print(const struct fib_chan *c)
{
    struct print p = {.fd = 2};
    struct note n;
    uint64_t pcs[DEPTH];
    uint32_t depth = 0, first = 2; // behind closer_note and fib_chan_close
    if (read_note(&n, c->close_number)) {
        struct unwind_remote r = {.read = read_word, .tables = find_tables, .arg = &n};
        enum unwind_end end;
        unwind_init();
        n.registers.valid = 0;
        depth = unwind_walk_remote(&r, &n.registers, pcs, DEPTH, &end);
    }
    bool is_thread = c->closer >> 63;
    print_text(&p, is_thread ? "thread " : "goroutine ");
    print_number(&p, c->closer << 1 >> 1);
    print_text(&p, " had closed the channel:\n");
    if (depth <= first)
        print_pc(&p, c->closed_at, false);
    for (uint32_t i = first; i < depth; i++)
        print_pc(&p, pcs[i], false);
    print_text(&p, "\n");
    print_flush(&p);
}
