// SPDX-License-Identifier: MIT
//
// Collecting; see table.h.

#include "collector/serve/table.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_DEFAULT = 200, SHOWN_MAX = 5000, REFRESH_S = 5 };

const struct table_heading table_headings[COLUMNS] = {
    [COLUMN_ID] = {"id", "ID", "number of the fiber or thread", true},
    [COLUMN_NAME] = {"name", "Name", "that the program gave it", false},
    [COLUMN_START] = {"start", "Start function", "", false},
    [COLUMN_SITE] = {"site", "Created at", "who made it", false},
    [COLUMN_STATE] = {"state", "State", "what it does, or what kind of wait it is in", false},
    [COLUMN_SINCE] = {"since", "Since", "how long it has been waiting", true},
    [COLUMN_COUNT] = {"count", "Count", "how many there are", true},
    [COLUMN_BUSY] = {"busy", "Busy", "time that it had a processor, or was in a blocking call",
                     true},
    [COLUMN_RUNNABLE] = {"runnable", "Runnable", "time that it waited for a processor", true},
    [COLUMN_WAITING] = {"waiting", "Waiting", "time that it waited for something else", true},
    [COLUMN_SWITCHES] = {"switches", "Switches", "times that it was given a processor", true},
    [COLUMN_WAKES] = {"wakes", "Wakes", "times that somebody made it runnable", true},
    [COLUMN_SELF] = {"self", "Self", "times that it made itself runnable: yields", true},
    [COLUMN_PREEMPTED] = {"preempted", "Preempted", "times that the processor was taken away",
                          true},
    [COLUMN_ON] = {"on", "Waits on", "the lock or channel", false},
    [COLUMN_HOLDER] = {"holder", "Held by", "who has it, or whose end it waits for", true},
};

bool table_has(const struct table *t, enum table_column c)
{
    bool is_group = t->group != TABLE_EACH;
    switch (c) {
    case COLUMN_ID:
    case COLUMN_STATE:
    case COLUMN_ON:
    case COLUMN_HOLDER: return !is_group;
    case COLUMN_NAME: return !is_group || t->is_threads;
    case COLUMN_START: return !t->is_threads && t->group != TABLE_BY_SITE;
    case COLUMN_SITE: return !t->is_threads && t->group != TABLE_BY_START;
    case COLUMN_COUNT: return is_group;
    case COLUMN_SELF: return !t->is_threads;
    default: return c < COLUMNS;
    }
}

uint64_t table_waiting_ns(const struct session_row *row)
{
    uint64_t other = row->busy_ns + row->runnable_ns;
    return row->age_ns > other ? row->age_ns - other : 0;
}

// --- Order.

static int compare(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_column(enum table_column c, const struct session_row *a,
                          const struct session_row *b)
{
    switch (c) {
    case COLUMN_NAME: return strcmp(a->name, b->name);
    case COLUMN_START: return compare(a->start, b->start);
    case COLUMN_SITE: return compare(a->created_at, b->created_at);
    case COLUMN_STATE: return strcmp(a->state, b->state);
    case COLUMN_SINCE: return compare(a->since_ns, b->since_ns);
    case COLUMN_BUSY: return compare(a->busy_ns, b->busy_ns);
    case COLUMN_RUNNABLE: return compare(a->runnable_ns, b->runnable_ns);
    case COLUMN_WAITING: return compare(table_waiting_ns(a), table_waiting_ns(b));
    case COLUMN_SWITCHES: return compare(a->switches, b->switches);
    case COLUMN_WAKES: return compare(a->wakes, b->wakes);
    case COLUMN_SELF: return compare(a->self_wakes, b->self_wakes);
    case COLUMN_PREEMPTED: return compare(a->preempted, b->preempted);
    case COLUMN_ON: return strcmp(a->on, b->on);
    case COLUMN_HOLDER: return compare(a->holder, b->holder);
    default: return 0;
    }
}

static int compare_rows(const void *a, const void *b, void *arg)
{
    const struct session_row *x = a, *y = b;
    const struct table_order *o = arg;
    int by = compare_column(o->column, x, y);
    by = o->is_descending ? -by : by;
    if (by || o->column != COLUMN_ID)
        return by ? by : compare(x->id, y->id);
    return o->is_descending ? compare(y->id, x->id) : compare(x->id, y->id);
}

static int compare_sums(const void *a, const void *b, void *arg)
{
    const struct table_sum *x = a, *y = b;
    const struct table_order *o = arg;
    const struct session_row rows[2] = {{.start = x->key,
                                         .created_at = x->key,
                                         .since_ns = x->since_max_ns,
                                         .busy_ns = x->busy_ns,
                                         .runnable_ns = x->runnable_ns,
                                         .age_ns = x->waiting_ns + x->busy_ns + x->runnable_ns,
                                         .switches = x->switches,
                                         .wakes = x->wakes,
                                         .self_wakes = x->self_wakes,
                                         .preempted = x->preempted},
                                        {.start = y->key,
                                         .created_at = y->key,
                                         .since_ns = y->since_max_ns,
                                         .busy_ns = y->busy_ns,
                                         .runnable_ns = y->runnable_ns,
                                         .age_ns = y->waiting_ns + y->busy_ns + y->runnable_ns,
                                         .switches = y->switches,
                                         .wakes = y->wakes,
                                         .self_wakes = y->self_wakes,
                                         .preempted = y->preempted}};
    if (!x->key != !y->key) // the others come last
        return x->key ? -1 : 1;
    int by = o->column == COLUMN_NAME    ? strcmp(x->name, y->name)
             : o->column == COLUMN_COUNT ? compare(x->count, y->count)
                                         : compare_column(o->column, &rows[0], &rows[1]);
    by = o->is_descending ? -by : by;
    return by ? by : compare(x->key, y->key);
}

// --- Rows.

static void sort_rows(struct table *t)
{
    if (t->count)
        qsort_r(t->rows, t->count, sizeof *t->rows, compare_rows, &t->order);
    if (t->count > t->shown_max)
        t->count = t->shown_max;
}

static int keep_row(struct table *t, const struct session_row *row)
{
    size_t most = 2 * t->shown_max;
    if (t->count == most)
        sort_rows(t); // the first half stays
    if (t->count == t->capacity) {
        size_t n = t->capacity * 2 + 64 < most ? t->capacity * 2 + 64 : most;
        struct session_row *grown = reallocarray(t->rows, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        t->rows = grown;
        t->capacity = n;
    }
    t->rows[t->count++] = *row;
    return 0;
}

static uint64_t key_of(const struct table *t, const struct session_row *row)
{
    if (!t->is_threads)
        return t->group == TABLE_BY_START ? row->start : row->created_at;
    uint64_t hash = 14695981039346656037u;
    for (const char *c = row->name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    return hash | 1;
}

// Groups are few where programs are sane; beyond the most the rest is one.
static struct table_sum *group_of(struct table *t, const struct session_row *row)
{
    uint64_t key = key_of(t, row);
    size_t i = 0;
    while (i < t->group_count && t->groups[i].key != key)
        i++;
    if (i == t->group_count && i + 1 >= TABLE_GROUPS_MAX && key) {
        for (i = 0; i < t->group_count && t->groups[i].key; i++)
            ;
        key = 0;
    }
    if (i == t->group_count) {
        t->groups[i] = (struct table_sum){.key = key};
        if (key)
            memcpy(t->groups[i].name, row->name, sizeof row->name);
        t->group_count++;
    }
    return &t->groups[i];
}

static void add_to_group(struct table *t, const struct session_row *row)
{
    struct table_sum *g = group_of(t, row);
    g->count++;
    g->busy_ns += row->busy_ns;
    g->runnable_ns += row->runnable_ns;
    g->waiting_ns += table_waiting_ns(row);
    g->switches += row->switches;
    g->wakes += row->wakes;
    g->self_wakes += row->self_wakes;
    g->preempted += row->preempted;
    if (row->since_ns > g->since_max_ns)
        g->since_max_ns = row->since_ns;
}

static void count_state(struct table *t, const char *state)
{
    size_t i = 0;
    while (i < t->state_count && strcmp(t->states[i].text, state) != 0)
        i++;
    if (i == TABLE_STATES_MAX)
        return; // the runtime has fewer
    if (i == t->state_count) {
        snprintf(t->states[i].text, sizeof t->states[i].text, "%s", state);
        t->state_count++;
    }
    t->states[i].count++;
}

static int add_row(void *arg, const struct session_row *row)
{
    struct table *t = arg;
    t->total++;
    count_state(t, row->state);
    if (t->group != TABLE_EACH)
        add_to_group(t, row);
    else
        return keep_row(t, row);
    return 0;
}

// --- The whole.

static bool is_value(const char *query, const char *key, const char *value)
{
    size_t size;
    char *text = query_get(query, key, &size);
    bool is = text && strcmp(text, value) == 0;
    free(text);
    return is;
}

static void read_query(struct table *t, const struct request *r)
{
    size_t size;
    int64_t rows = query_int(r->query, "rows");
    char *sort = query_get(r->query, "sort", &size);
    t->refresh_s = html_refresh_of(r, REFRESH_S);
    t->shown_max = rows < 1 ? SHOWN_DEFAULT : rows > SHOWN_MAX ? SHOWN_MAX : (size_t)rows;
    t->group = is_value(r->query, "group", "start")  ? TABLE_BY_START
               : is_value(r->query, "group", "site") ? TABLE_BY_SITE
                                                     : TABLE_EACH;
    t->order.column = t->group == TABLE_EACH ? COLUMN_BUSY : COLUMN_COUNT;
    for (int c = 0; sort && c < COLUMNS; c++)
        if (strcmp(sort, table_headings[c].key) == 0)
            t->order.column = (enum table_column)c;
    free(sort);
    // What is most comes first, but for names and numbers.
    bool is_rising = is_value(r->query, "order", "asc");
    bool is_falling = is_value(r->query, "order", "desc");
    bool by_number = table_headings[t->order.column].is_number && t->order.column != COLUMN_ID;
    t->order.is_descending = is_falling || (by_number && !is_rising);
}

static void refuse(struct request *r, int rc, const struct fscope_error *err)
{
    reply_http_error(r,
                     rc == -EPERM || rc == -EACCES ? MHD_HTTP_NOT_IMPLEMENTED
                                                   : MHD_HTTP_INTERNAL_SERVER_ERROR,
                     err->text[0] ? err->text : strerror(-rc));
}

int table_collect(struct table *t, struct request *r)
{
    struct session *s = r->serve->session;
    struct fscope_error err = {0};
    *t = (struct table){0};
    read_query(t, r);
    if (t->group != TABLE_EACH && !(t->groups = calloc(TABLE_GROUPS_MAX + 1, sizeof *t->groups))) {
        reply_http_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return -ENOMEM;
    }
    bool wants_threads = is_value(r->query, "of", "threads");
    int rc = wants_threads ? -ENOENT : session_each_fiber(s, add_row, t, &err);
    if (rc == -ENOENT && !t->total) {
        t->is_threads = true;
        rc = session_each_thread(s, add_row, t, &err);
    }
    if (rc) {
        refuse(r, rc, &err);
        table_free(t);
        return rc;
    }
    t->has_fibers = session_fibers(s, &t->fibers, NULL) == 0;
    sort_rows(t);
    if (t->group_count)
        qsort_r(t->groups, t->group_count, sizeof *t->groups, compare_sums, &t->order);
    return 0;
}

int table_sum_sites(struct table *t, struct session *s)
{
    *t = (struct table){.group = TABLE_BY_SITE, .order = {COLUMN_COUNT, true}};
    t->groups = calloc(TABLE_GROUPS_MAX + 1, sizeof *t->groups);
    int rc = t->groups ? session_each_fiber(s, add_row, t, NULL) : -ENOMEM;
    if (!rc)
        rc = session_fibers(s, &t->fibers, NULL);
    if (!rc && t->group_count)
        qsort_r(t->groups, t->group_count, sizeof *t->groups, compare_sums, &t->order);
    return rc;
}

void table_free(struct table *t)
{
    free(t->rows);
    free(t->groups);
    t->rows = NULL;
    t->groups = NULL;
}

uint64_t powers_quantile_ns(const uint64_t powers[SESSION_BUCKETS], double q)
{
    double total = 0, below = 0;
    for (int b = 0; b < SESSION_BUCKETS; b++)
        total += (double)powers[b];
    for (int b = 0; total > 0 && b < SESSION_BUCKETS; b++) {
        double here = (double)powers[b];
        if (here > 0 && below + here >= q * total) // as if waits were spread evenly over the bucket
            return (uint64_t)((double)(UINT64_C(1) << b) * (1 + (q * total - below) / here));
        below += here;
    }
    return 0;
}

// --- The page.

void page_fibers(struct request *r)
{
    struct table t;
    bool is_json = is_value(r->query, "format", "json");
    bool is_text = !is_json && query_int(r->query, "debug") > 0;
    if (table_collect(&t, r))
        return;
    FILE *out = reply_text_begin(r, is_json ? TYPE_JSON : is_text ? TYPE_TEXT : TYPE_HTML);
    if (out) {
        r->reply.is_ours = !is_json && !is_text;
        if (is_json)
            table_put_json(r, out, &t);
        else if (is_text)
            table_put_text(r, out, &t);
        else
            table_put_html(r, out, &t);
        reply_text_end(r, out);
    }
    table_free(&t);
}
