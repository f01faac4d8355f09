// SPDX-License-Identifier: MIT
//
// The threads with a pending event, as a binary heap by time.
//
// Events of equal time come in the order that the shape of the heap gives, so ours has to have the
// shape of Go's: sift up first, then down; strictly smaller moves; removal through the root.

#include "formats/trace/reader.h"

static void swap(struct frontier_item *heap, uint32_t i, uint32_t j)
{
    struct frontier_item item = heap[i];
    heap[i] = heap[j];
    heap[j] = item;
}

static uint32_t sift_up(struct frontier_item *heap, uint32_t i)
{
    while (i > 0 && heap[(i - 1) / 2].time_ns > heap[i].time_ns) {
        swap(heap, (i - 1) / 2, i);
        i = (i - 1) / 2;
    }
    return i;
}

static void sift_down(struct frontier_item *heap, uint32_t count, uint32_t i)
{
    struct frontier_item item = heap[i];
    for (;;) {
        uint32_t least = i, left = 2 * i + 1;
        int64_t time_ns = item.time_ns;
        if (left < count && heap[left].time_ns < time_ns) {
            time_ns = heap[left].time_ns;
            least = left;
        }
        if (left + 1 < count && heap[left + 1].time_ns < time_ns)
            least = left + 1;
        if (least == i)
            break;
        heap[i] = heap[least];
        i = least;
    }
    heap[i] = item;
}

void frontier_insert(struct trace_reader *r, struct cursor *c)
{
    uint32_t i = r->frontier_count++;
    r->frontier[i] = (struct frontier_item){c->time_ns, c};
    sift_up(r->frontier, i);
}

void frontier_update(struct trace_reader *r, uint32_t i)
{
    r->frontier[i].time_ns = r->frontier[i].cursor->time_ns;
    if (i == 0 || sift_up(r->frontier, i) == i)
        sift_down(r->frontier, r->frontier_count, i);
}

void frontier_remove(struct trace_reader *r, uint32_t i)
{
    for (; i > 0; i = (i - 1) / 2)
        swap(r->frontier, (i - 1) / 2, i);
    r->frontier[0] = r->frontier[--r->frontier_count];
    sift_down(r->frontier, r->frontier_count, 0);
}

// Most often next to nothing is out of place. Equal ones stay in their order.
bool frontier_sort(struct trace_reader *r, uint64_t limit)
{
    struct frontier_item *items = r->frontier;
    uint32_t count = r->frontier_count;
    r->tries += count;
    for (uint32_t i = 1; i < count && r->tries < limit; i++) {
        uint32_t j = i;
        for (; j > 0 && items[j].time_ns < items[j - 1].time_ns; j--)
            swap(items, j, j - 1);
        r->tries += i - j;
    }
    if (r->tries < limit)
        return true;
    for (uint32_t i = count / 2; i-- > 0;) // half sorted it is no heap
        sift_down(items, count, i);
    return false;
}
