// SPDX-License-Identifier: MIT
//
// Who may tell a wish, and who holds what was wished for: open file locks; see layout.h (enum seg_held).

#include "segment/reader_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

enum { WISH_PAUSE_MS = 5, WISH_PATIENCE_MS = 5000 };

int seg_reader_lock_wishes(struct seg_reader *r, bool on)
{
    struct flock lock = {.l_type = on ? F_WRLCK : F_UNLCK,
                         .l_whence = SEEK_SET,
                         .l_start = SEG_LOCK_WISHES,
                         .l_len = 1};
    for (int ms = 0; fcntl(r->fd, F_OFD_SETLK, &lock); ms += WISH_PAUSE_MS) {
        if ((errno != EAGAIN && errno != EACCES) || ms >= WISH_PATIENCE_MS)
            return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
        nanosleep(&(struct timespec){.tv_nsec = WISH_PAUSE_MS * 1000000L}, NULL);
    }
    return 0;
}

static int set_lock(const struct seg_reader *r, uint32_t kind, short type)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = seg_held_byte(kind), .l_len = 1};
    return fcntl(r->fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

int seg_reader_hold(struct seg_reader *r, uint32_t kinds)
{
    int rc = 0;
    for (uint32_t kind = 0; kind < SEG_HELD_COUNT && !rc; kind++) {
        if (!(kinds & ~r->holding & UINT32_C(1) << kind))
            continue;
        if (kind > SEG_HELD_TRACE)
            rc = set_lock(r, kind, F_RDLCK);
        if (!rc)
            r->holding |= UINT32_C(1) << kind;
    }
    return rc;
}

void seg_reader_let_go(struct seg_reader *r, uint32_t kinds)
{
    for (uint32_t kind = SEG_HELD_TRACE + 1; kind < SEG_HELD_COUNT; kind++)
        if (kinds & r->holding & UINT32_C(1) << kind)
            set_lock(r, kind, F_UNLCK);
    r->holding &= ~kinds;
}

uint32_t seg_reader_is_holding(const struct seg_reader *r)
{
    return r->holding;
}

uint32_t seg_reader_unheld(struct seg_reader *r)
{
    const struct seg_control *c = seg_reader_control(r);
    uint32_t held = c ? atomic_load_explicit(&c->held, memory_order_relaxed) : 0, kinds = 0;
    for (uint32_t kind = 0; kind < SEG_HELD_COUNT; kind++) {
        struct flock lock = {
            .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = seg_held_byte(kind), .l_len = 1};
        if (!(held & ~r->holding & UINT32_C(1) << kind))
            continue;
        if (!fcntl(r->fd, F_OFD_GETLK, &lock) && lock.l_type == F_UNLCK)
            kinds |= UINT32_C(1) << kind;
    }
    return kinds;
}
