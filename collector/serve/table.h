// SPDX-License-Identifier: MIT
//
// The table of fibers (of threads, where there are none) that /debug/fibers shows: collected by table.c, written by
// table_html.c and table_text.c.
//
// What always holds
//   - Memory is bounded by what is shown, however many fibers there are: of all only sums are kept, and the rows that
//     come first in the order that was asked for.
//   - Sums are of all fibers, also of those that are not shown.

#ifndef FIBERSCOPE_COLLECTOR_SERVE_TABLE_H
#define FIBERSCOPE_COLLECTOR_SERVE_TABLE_H

#include "collector/serve/internal.h"

enum table_group { TABLE_EACH, TABLE_BY_START, TABLE_BY_SITE };

enum table_column {
    COLUMN_ID,
    COLUMN_NAME,
    COLUMN_START,
    COLUMN_SITE,
    COLUMN_STATE,
    COLUMN_SINCE,
    COLUMN_COUNT, // of a group
    COLUMN_BUSY,
    COLUMN_RUNNABLE,
    COLUMN_WAITING,
    COLUMN_SWITCHES,
    COLUMN_WAKES,
    COLUMN_SELF,
    COLUMN_PREEMPTED,
    COLUMN_ON,
    COLUMN_HOLDER,
    COLUMNS,
};

enum { TABLE_STATES_MAX = 48, TABLE_GROUPS_MAX = 1024 };

struct table_order {
    enum table_column column;
    bool is_descending;
};

struct table_sum {
    uint64_t key; // address, or hash of a thread's name; 0: of all others
    char name[SESSION_TEXT];
    uint64_t count, busy_ns, runnable_ns, waiting_ns, since_max_ns;
    uint64_t switches, wakes, self_wakes, preempted;
};

struct table {
    bool is_threads;
    enum table_group group;
    struct table_order order;
    uint64_t refresh_s;
    size_t shown_max;
    struct session_row *rows; // [count] in order
    size_t count, capacity;
    uint64_t total;
    struct table_sum *groups; // [group_count]
    size_t group_count;
    struct {
        char text[SESSION_TEXT / 2];
        uint64_t count;
    } states[TABLE_STATES_MAX];
    size_t state_count;
    bool has_fibers;
    struct session_fibers fibers;
};

// What is asked for by the query, and all of it. 0; else the reply is there.
int table_collect(struct table *t, struct request *r);
void table_free(struct table *t);
// The sums of all fibers by who made them, the most first; no rows. 0 or -errno: -ENOENT, there are none.
int table_sum_sites(struct table *t, struct session *s);

uint64_t table_waiting_ns(const struct session_row *row);

struct table_heading {
    const char *key, *title, *help;
    bool is_number;
};
extern const struct table_heading table_headings[COLUMNS];
// Whether the column is of that kind of table.
bool table_has(const struct table *t, enum table_column c);

void table_put_html(struct request *r, FILE *out, const struct table *t);
void table_put_json(struct request *r, FILE *out, const struct table *t);
void table_put_text(struct request *r, FILE *out, const struct table *t);

#endif
