// SPDX-License-Identifier: MIT
//
// `fiberscope top -p PID`: one loop over keys, signals and what the source brings. See top_live.h.
//
// Invariant: signals are blocked everywhere but in the loop's signalfd, so nothing is ever left half drawn, and what was
// switched on in the process is switched off again whichever of them ends us.

#include "cli/top_live.h"

#include "cli/options.h"
#include "cli/screen.h"
#include "collector/perf_target.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { FOCUS_BYTES = 256, ROWS_DEFAULT = 20 };

struct live {
    const struct top_live_options *o;
    struct top_source *source;
    struct top_source_options asked; // of this source
    struct top_update news;          // the last one; its profile is `now`
    struct pprof_profile *before, *now;
    bool is_baseline;
    uint64_t before_ns, now_ns;
    struct top_table table;
    struct report_options report;
    enum top_sort sort;
    char focus[FOCUS_BYTES], typed[FOCUS_BYTES];
    char program[64], message[600];
    bool is_bad, is_typing, is_helping, is_paused, is_over, has_switched;
    size_t first;
    uint64_t shown; // tables
    int signals_fd, ended_by, status;
};

// --- What is shown.

static struct top_view view_of(const struct live *l)
{
    struct top_view v = {
        .table = &l->table,
        .program = l->program,
        .focus = l->focus,
        .message = l->message,
        .is_bad = l->is_bad,
        .pid = l->asked.pid,
        .hz = l->asked.hz,
        .kind = l->asked.kind,
        .sort = l->sort,
        .way = l->news.way,
        .has_way = l->news.program[0] != '\0',
        .elapsed_ns = l->now_ns,
        .window_ns = l->is_baseline ? 0 : l->now_ns - l->before_ns,
        .lost = l->news.lost,
        .is_paused = l->is_paused,
        .is_helping = l->is_helping,
        .typed = l->is_typing ? l->typed : NULL,
        .first = l->first,
        .row_max = l->o->row_max > 0 ? (size_t)l->o->row_max : ROWS_DEFAULT,
    };
    return v;
}

static void draw(struct live *l)
{
    char *text = NULL;
    size_t size = 0;
    struct top_view v = view_of(l);
    screen_size(&v.rows, &v.columns);
    size_t rows = top_draw_rows(&v);
    if (l->first + rows > l->table.count)
        l->first = l->table.count > rows ? l->table.count - rows : 0;
    v.first = l->first;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    top_draw_screen(out, &v);
    if (!fclose(out) && !screen_write(text, size))
        l->is_over = true;
    free(text);
}

// The table anew, of what there is; a bad expression leaves it as it was.
static int make_table(struct live *l, struct fscope_error *err)
{
    l->report.focus = l->focus;
    if (!l->now)
        return 0;
    int rc = top_table_make(&l->table, l->before, l->now, l->is_baseline, &l->report, err);
    top_table_sort(&l->table, l->sort);
    return rc;
}

static void remake(struct live *l)
{
    struct fscope_error err = {0};
    l->is_bad = make_table(l, &err) != 0;
    snprintf(l->message, sizeof l->message, "%s", err.text);
}

// --- The source.

static void forget(struct live *l)
{
    pprof_free(l->before);
    pprof_free(l->now);
    l->before = l->now = NULL;
    l->before_ns = l->now_ns = 0;
    top_table_free(&l->table);
}

static void start(struct live *l, enum top_kind kind)
{
    struct fscope_error err = {0};
    top_source_stop(l->source);
    forget(l);
    l->news = (struct top_update){0};
    l->asked.kind = kind;
    // A level is looked at for what there is, a sum for what is added to it.
    if (top_kind_is_level(kind))
        l->sort = l->o->is_cum ? TOP_BY_TOTAL_CUM : TOP_BY_TOTAL_FLAT;
    else
        l->sort = l->o->is_cum ? TOP_BY_CUM : TOP_BY_FLAT;
    l->first = 0;
    l->message[0] = '\0';
    l->is_bad = top_source_start(&l->source, &l->asked, &err) != 0;
    if (l->is_bad)
        snprintf(l->message, sizeof l->message, "%s", err.text);
}

// True if there is a new table.
static bool take(struct live *l)
{
    top_source_take(l->source, &l->news);
    if (l->news.program[0])
        memcpy(l->program, l->news.program, sizeof l->program);
    if (l->news.profile) {
        pprof_free(l->before);
        l->before = l->now;
        l->before_ns = l->now_ns;
        l->now = l->news.profile;
        l->now_ns = l->news.elapsed_ns;
        l->is_baseline = l->news.is_baseline;
        remake(l);
    }
    if (l->news.err.code) {
        l->is_bad = true;
        snprintf(l->message, sizeof l->message, "%s", l->news.err.text);
    }
    return l->news.profile != NULL;
}

// --- Signals.

static void watch_signals(struct live *l, sigset_t *users)
{
    static const int all[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < CLI_COUNT(all); i++)
        sigaddset(&set, all[i]);
    sigprocmask(SIG_BLOCK, &set, users);
    l->signals_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

// As the signal would have it, had we not looked at it.
static void take_default(int signo)
{
    sigset_t one, old;
    struct sigaction by_default = {.sa_handler = SIG_DFL}, before;
    sigemptyset(&one);
    sigaddset(&one, signo);
    sigaction(signo, &by_default, &before);
    raise(signo);
    sigprocmask(SIG_UNBLOCK, &one, &old);
    sigprocmask(SIG_SETMASK, &old, NULL);
    sigaction(signo, &before, NULL);
}

static void on_signals(struct live *l, bool has_screen)
{
    struct signalfd_siginfo info;
    while (read(l->signals_fd, &info, sizeof info) == sizeof info) {
        int signo = (int)info.ssi_signo;
        if (signo == SIGTSTP) {
            if (has_screen)
                screen_leave();
            take_default(signo); // we stop here
        }
        if (signo == SIGINT || signo == SIGQUIT || signo == SIGTERM || signo == SIGHUP) {
            l->ended_by = signo == SIGTERM || signo == SIGHUP ? signo : 0;
            l->is_over = true;
        } else if (has_screen && signo != SIGWINCH && screen_enter()) {
            l->is_over = true;
        }
    }
}

// --- Keys.

static void type(struct live *l, int key)
{
    size_t n = strlen(l->typed);
    if (key == SCREEN_KEY_ENTER) {
        l->is_typing = false;
        memcpy(l->focus, l->typed, sizeof l->focus);
        l->first = 0;
        remake(l);
    } else if (key == SCREEN_KEY_ESCAPE) {
        l->is_typing = false;
    } else if (key == SCREEN_KEY_BACKSPACE) {
        while (n && ((unsigned char)l->typed[n - 1] & 0xc0) == 0x80) // the rest of a character
            l->typed[--n] = '\0';
        if (n)
            l->typed[n - 1] = '\0';
    } else if (key == 'U' - '@') {
        l->typed[0] = '\0';
    } else if (key >= ' ' && key < SCREEN_KEY_UP && n + 1 < sizeof l->typed) {
        l->typed[n] = (char)key;
        l->typed[n + 1] = '\0';
    }
}

static bool scroll(struct live *l, int key)
{
    struct top_view v = {0};
    screen_size(&v.rows, &v.columns);
    size_t page = top_draw_rows(&v) ? top_draw_rows(&v) : 1, by = 0;
    switch (key) {
    case SCREEN_KEY_DOWN:
    case 'j': by = 1; break;
    case SCREEN_KEY_PAGE_DOWN: by = page; break;
    case SCREEN_KEY_END: by = l->table.count; break;
    case SCREEN_KEY_UP:
    case 'k': l->first -= l->first > 0; return true;
    case SCREEN_KEY_PAGE_UP: l->first -= l->first > page ? page : l->first; return true;
    case SCREEN_KEY_HOME: l->first = 0; return true;
    default: return false;
    }
    l->first += by; // draw keeps it within the table
    return true;
}

static bool sort(struct live *l, int key)
{
    static const char keys[] = {[TOP_BY_FLAT] = 'f',
                                [TOP_BY_CUM] = 'c',
                                [TOP_BY_TOTAL_FLAT] = 'F',
                                [TOP_BY_TOTAL_CUM] = 'C',
                                [TOP_BY_NAME] = 'n'};
    const char *found = key > 0 && key < 128 ? memchr(keys, key, sizeof keys) : NULL;
    if (!found)
        return false;
    l->sort = (enum top_sort)(found - keys);
    l->first = 0;
    top_table_sort(&l->table, l->sort);
    return true;
}

static void switch_to(struct live *l, enum top_kind kind)
{
    l->has_switched = true;
    l->is_paused = false;
    start(l, kind);
}

static void command(struct live *l, int key)
{
    bool was_helping = l->is_helping;
    l->is_helping = false; // any key ends it
    if (key == 'q' || key == SCREEN_KEY_GONE)
        l->is_over = true;
    else if (key == '?' || key == 'h')
        l->is_helping = !was_helping;
    else if (key == '/') {
        l->is_typing = true;
        memcpy(l->typed, l->focus, sizeof l->typed);
    } else if (key == 'p' || key == ' ') {
        l->is_paused = !l->is_paused;
        if (!l->is_paused)
            take(l);
    } else if (key >= '1' && key < '1' + TOP_KINDS)
        switch_to(l, (enum top_kind)(key - '1'));
    else if (key == SCREEN_KEY_TAB)
        switch_to(l, (enum top_kind)((l->asked.kind + 1) % TOP_KINDS));
    else if (!sort(l, key))
        scroll(l, key);
}

static void on_keys(struct live *l)
{
    int key;
    while (!l->is_over && (key = screen_key()) != SCREEN_KEY_NONE) {
        if (l->is_typing && key != SCREEN_KEY_GONE)
            type(l, key);
        else
            command(l, key);
    }
}

// --- On a terminal.

// What is left on the terminal afterwards.
static void say_last(struct live *l)
{
    if (l->news.has_ended && l->table.count) {
        struct top_view v = view_of(l);
        int rows;
        screen_size(&rows, &v.columns);
        v.row_max = top_draw_rows(&(struct top_view){.rows = rows});
        top_draw_lines(stdout, &v);
    }
    if (l->news.has_ended)
        cli_note("process %u (%s) has ended", l->asked.pid, l->program);
}

static int on_screen(struct live *l)
{
    int rc = screen_enter();
    if (rc)
        return cli_fail("the terminal: %s", strerror(-rc));
    draw(l);
    while (!l->is_over) {
        struct pollfd fds[3] = {
            {.fd = STDIN_FILENO, .events = POLLIN},
            {.fd = l->signals_fd, .events = POLLIN},
            {.fd = l->source && !l->is_paused ? top_source_fd(l->source) : -1, .events = POLLIN}};
        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            on_signals(l, true);
        if (fds[0].revents)
            on_keys(l);
        if (fds[2].revents && !l->is_over && l->source && !l->is_paused)
            take(l);
        // One that has ended has no more to show. What cannot be shown leaves the other kinds, unless it was asked
        // for on the command line and nothing else has been.
        if (l->news.has_ended || (l->news.err.code && !l->has_switched))
            l->is_over = true;
        if (!l->is_over)
            draw(l);
    }
    screen_leave();
    say_last(l);
    return l->is_bad && !l->has_switched && !l->news.has_ended && l->news.err.code
               ? cli_fail("%s", l->message)
               : CLI_OK;
}

// --- As lines.

static void print_table(struct live *l)
{
    struct top_view v = view_of(l);
    top_draw_lines(stdout, &v);
    l->shown++;
    if (l->o->count && l->shown >= l->o->count)
        l->is_over = true;
    if (ferror(stdout)) {
        l->status = cli_fail("standard output: %s", strerror(errno));
        l->is_over = true;
    }
}

static int as_lines(struct live *l)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    sigaction(SIGPIPE, &ignore, &old); // an error that ends us in order
    while (!l->is_over && l->source) {
        struct pollfd fds[2] = {{.fd = l->signals_fd, .events = POLLIN},
                                {.fd = top_source_fd(l->source), .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            on_signals(l, false);
        if (!fds[1].revents || l->is_over)
            continue;
        bool is_new = take(l), has_ended = l->news.has_ended && l->now;
        if (l->is_bad && !has_ended) {
            l->status = cli_fail("%s", l->message);
            break;
        }
        if (is_new && !l->is_baseline)
            print_table(l);
        if (has_ended) {
            cli_note("process %u (%s) has ended", l->asked.pid, l->program);
            break;
        }
    }
    sigaction(SIGPIPE, &old, NULL);
    return l->status;
}

int top_live(const struct top_live_options *o)
{
    struct live l = {.o = o, .asked = o->source, .report = o->report};
    struct fscope_error err = {0};
    struct perf_target who;
    sigset_t users;
    int status;
    if (perf_target_look(&who, o->source.pid, &err))
        return cli_fail("%s", err.text);
    snprintf(l.program, sizeof l.program, "%s", who.name);
    snprintf(l.focus, sizeof l.focus, "%s", o->report.focus ? o->report.focus : "");
    bool has_screen = !o->count && screen_can_be();
    watch_signals(&l, &users);
    start(&l, o->source.kind);
    if (l.signals_fd < 0 || (l.is_bad && !has_screen))
        status = cli_fail("%s", l.message[0] ? l.message : strerror(errno));
    else
        status = has_screen ? on_screen(&l) : as_lines(&l);
    top_source_stop(l.source);
    forget(&l);
    if (l.signals_fd >= 0)
        close(l.signals_fd);
    if (l.ended_by)
        take_default(l.ended_by);
    sigprocmask(SIG_SETMASK, &users, NULL);
    return status;
}
