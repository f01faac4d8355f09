// SPDX-License-Identifier: MIT
//
// See screen.h. The sequences are those that every terminal since the VT100 (and xterm's second screen) knows; terminfo
// would tell the same ones.

#include "cli/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

// Second screen, no cursor, no wrapping at the margin; and all of that back.
#define ENTER "\033[?1049h\033[?25l\033[?7l\033[2J"
#define LEAVE "\033[0m\033[?7h\033[?25h\033[?1049l"

enum { KEYS_BYTES = 256, ESCAPE_MS = 30 };

static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};
enum { CRASHES = sizeof crashes / sizeof crashes[0] };

static struct {
    struct termios before;
    volatile sig_atomic_t is_entered;
    struct sigaction old[CRASHES];
    unsigned char keys[KEYS_BYTES];
    size_t at, count;
    bool is_gone;
} screen;

bool screen_can_be(void)
{
    const char *term = getenv("TERM");
    return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && term && *term &&
           strcmp(term, "dumb") != 0;
}

// Async-signal-safe.
static void restore(void)
{
    size_t done = 0;
    while (done < sizeof LEAVE - 1) {
        ssize_t n = write(STDOUT_FILENO, &LEAVE[done], sizeof LEAVE - 1 - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    tcsetattr(STDIN_FILENO, TCSADRAIN, &screen.before);
}

static void on_crash(int signo)
{
    if (screen.is_entered) {
        screen.is_entered = 0;
        restore();
    }
    raise(signo); // SA_RESETHAND: by default now, once we return
}

static void catch_crashes(void)
{
    struct sigaction a = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < CRASHES; i++)
        sigaction(crashes[i], &a, &screen.old[i]);
}

int screen_enter(void)
{
    struct termios raw;
    if (!screen.is_entered) {
        if (tcgetattr(STDIN_FILENO, &screen.before))
            return -errno;
        catch_crashes();
    }
    raw = screen.before;
    // ISIG stays: Ctrl-C and Ctrl-Z are signals, as everywhere.
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    screen.is_entered = 1; // before the change: a crash between the two is undone as well
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw)) {
        int rc = -errno;
        screen_leave();
        return rc;
    }
    return screen_write(ENTER, sizeof ENTER - 1) ? 0 : -EIO;
}

void screen_leave(void)
{
    if (!screen.is_entered)
        return;
    restore();
    screen.is_entered = 0;
    for (size_t i = 0; i < CRASHES; i++)
        sigaction(crashes[i], &screen.old[i], NULL);
}

void screen_size(int *rows, int *columns)
{
    struct winsize size;
    *rows = 24;
    *columns = 80;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_row || !size.ws_col)
        return;
    *rows = size.ws_row;
    *columns = size.ws_col;
}

bool screen_write(const char *text, unsigned long size)
{
    while (size) {
        ssize_t n = write(STDOUT_FILENO, text, size);
        if (n < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, -1);
            continue;
        }
        if (n < 0 && errno != EINTR)
            return false;
        text += n > 0 ? n : 0;
        size -= n > 0 ? (unsigned long)n : 0;
    }
    return true;
}

// --- Keys.

// Reads more if there is any within so long. False: there is none.
static bool refill(int timeout_ms)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    if (screen.at < screen.count)
        return true;
    if (screen.is_gone || poll(&fd, 1, timeout_ms) <= 0)
        return false;
    ssize_t n = read(STDIN_FILENO, screen.keys, sizeof screen.keys);
    screen.is_gone = n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
    screen.at = 0;
    screen.count = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static int meaning(int number, int final)
{
    switch (final) {
    case 'A': return SCREEN_KEY_UP;
    case 'B': return SCREEN_KEY_DOWN;
    case 'H': return SCREEN_KEY_HOME;
    case 'F': return SCREEN_KEY_END;
    case '~':
        return number == 5                  ? SCREEN_KEY_PAGE_UP
               : number == 6                ? SCREEN_KEY_PAGE_DOWN
               : number == 1 || number == 7 ? SCREEN_KEY_HOME
               : number == 4 || number == 8 ? SCREEN_KEY_END
                                            : SCREEN_KEY_OTHER;
    default: return SCREEN_KEY_OTHER;
    }
}

// What follows an escape: ESC [ numbers letter, ESC O letter. Alone: the key itself.
static int escape(void)
{
    int number = 0;
    bool is_first = true;
    if (!refill(ESCAPE_MS))
        return SCREEN_KEY_ESCAPE;
    int c = screen.keys[screen.at++];
    if (c != '[' && c != 'O')
        return SCREEN_KEY_OTHER;
    while (refill(ESCAPE_MS)) {
        c = screen.keys[screen.at++];
        if (c >= 0x40)
            return meaning(number, c);
        is_first &= c >= '0' && c <= '9';
        if (is_first && number < 1000)
            number = number * 10 + (c - '0');
    }
    return SCREEN_KEY_OTHER;
}

int screen_key(void)
{
    if (!refill(0))
        return screen.is_gone ? SCREEN_KEY_GONE : SCREEN_KEY_NONE;
    int c = screen.keys[screen.at++];
    if (c == SCREEN_KEY_ESCAPE)
        return escape();
    return c == '\n' ? SCREEN_KEY_ENTER : c == 8 ? SCREEN_KEY_BACKSPACE : c;
}
