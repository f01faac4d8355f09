// SPDX-License-Identifier: MIT
//
// fiberscope serve: /debug/pprof of a running process, or of a command that it starts and stands for: signals go to it,
// its exit status is ours, and as process 1 of a container we reap what it leaves behind.

#include "cli/commands.h"

#include "collector/inject.h"
#include "collector/launch.h"
#include "collector/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOKEN_ENV          "FIBERSCOPE_TOKEN"
#define HEAP_BYTES_DEFAULT UINT64_C(524288)
#define BLOCK_NS_DEFAULT   INT64_C(10000)

enum { AGENT_PATIENCE_MS = 3000, AGENT_PAUSE_MS = 20 };

struct settings {
    const char *listen, *token_file, *method, *heap, *block, *mutex;
    struct cli_list allow;
    uint64_t pid;
    bool quiet, sidecar;
};

static const struct settings defaults = {.listen = SERVE_LISTEN_DEFAULT, .method = "auto"};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, listen, "listen", 'l', "ADDRESS", NULL,
               "127.0.0.1:6060 by default; [::1]:PORT, unix:PATH; port 0 takes a free one; %p is "
               "the pid; an "
               "address that others can reach needs a token"),
    CLI_UINT(struct settings, pid, "pid", 'p', "PID", NULL, "serve a running process"),
    CLI_STRING(struct settings, token_file, "token-file", 0, "FILE", "Who may ask",
               "clients must show the token in FILE (or in the variable " TOKEN_ENV
               "): Authorization: Bearer TOKEN, or http://:TOKEN@host/"),
    CLI_LIST(struct settings, allow, "allow", 0, "NETWORK", "Who may ask",
             "only from there: 10.0.0.0/8, fd00::/8, 192.0.2.7; may be given several times"),
    CLI_OPTIONAL(struct settings, heap, "heap", 0, "BYTES|off", "What is recorded",
                 "allocations, one in BYTES, 512KiB by default; off: none"),
    CLI_OPTIONAL(struct settings, block, "block", 0, "TIME", "What is recorded",
                 "waiting for locks and other threads, from TIME (10us by default) on"),
    CLI_OPTIONAL(struct settings, mutex, "mutex", 0, "N", "What is recorded",
                 "who makes others wait for locks; one in N contentions (1 by default)"),
    CLI_CHOICE(
        struct settings, method, "method", 0, "HOW", "What is recorded",
        "agent: by the library inside, or not at all; outside (or perf, as record has it): without "
        "it, CPU time "
        "and threads alone; auto: the first that can be had; inject, with -p: puts it into the "
        "process first, and takes it out of service at the end; ebpf, with -p: from outside, CPU "
        "time, "
        "time off the processor, locks and threads, with privilege",
        "auto agent outside inject perf ebpf"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', NULL, "no start line, no closing line"),
    // As the agent starts it (agent/sidecar.h): quiet, and nothing to do where another one has the port.
    CLI_FLAG(struct settings, sidecar, "sidecar", 0, NULL, NULL),
};

// --- Settings.

static bool is_to_inject(const struct settings *s)
{
    return strcmp(s->method, "inject") == 0;
}

static int read_rates(const struct settings *s, struct session_options *o)
{
    int64_t ns = BLOCK_NS_DEFAULT;
    o->heap_bytes = HEAP_BYTES_DEFAULT;
    if (s->heap && strcmp(s->heap, "off") == 0)
        o->heap_bytes = 0;
    else if (s->heap && *s->heap && (cli_parse_size(s->heap, &o->heap_bytes) || o->heap_bytes < 2))
        return cli_usage("--heap=%.40s: a size such as 512KiB, or `off`, is needed; to count each "
                         "allocation, record from the start: fiberscope record --heap=exact",
                         s->heap);
    if (s->block && *s->block && (cli_parse_duration(s->block, &ns) || ns < 1))
        return cli_usage("--block=%.40s: a duration such as 10us is needed", s->block);
    o->block_ns = s->block ? (uint64_t)ns : 0;
    char *end = NULL;
    unsigned long long n = s->mutex && *s->mutex ? strtoull(s->mutex, &end, 10) : 1;
    if (n < 1 || n > 1000000000 || (end && *end) || (s->mutex && *s->mutex == '-'))
        return cli_usage("--mutex=%.40s: a number from 1 is needed", s->mutex);
    o->mutex_fraction = s->mutex ? n : 0;
    if (is_to_inject(s) && !s->pid)
        return cli_usage("--method=inject is for a running process: it needs -p PID");
    bool is_by_kernel = strcmp(s->method, "ebpf") == 0;
    if (is_by_kernel && !s->pid)
        return cli_usage("--method=ebpf is for a running process: it needs -p PID");
    if (is_by_kernel && s->heap && strcmp(s->heap, "off") != 0)
        return cli_usage("--heap needs the agent: --method=inject");
    bool is_outside = strcmp(s->method, "outside") == 0 || strcmp(s->method, "perf") == 0;
    o->method = strcmp(s->method, "agent") == 0 || is_to_inject(s) ? SESSION_ONLY_AGENT
                : is_outside                                       ? SESSION_ONLY_OUTSIDE
                : is_by_kernel                                     ? SESSION_ONLY_KERNEL
                                                                   : SESSION_AUTO;
    return CLI_OK;
}

// The first line of the file, or the variable; never an argument, for arguments are seen by all.
static int read_token(const struct settings *s, char *token, size_t size, const char **out)
{
    const char *from_env = getenv(TOKEN_ENV);
    *out = NULL;
    if (s->token_file) {
        int fd = open(s->token_file, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, token, size - 1);
        int failed = errno;
        if (fd >= 0)
            close(fd);
        if (n < 0)
            return cli_fail("%s: %s", s->token_file, strerror(failed));
        token[n] = '\0';
        token[strcspn(token, "\r\n")] = '\0';
        *out = token;
    } else if (from_env && *from_env) {
        snprintf(token, size, "%s", from_env);
        *out = token;
    }
    unsetenv(TOKEN_ENV); // the command is not told
    return CLI_OK;
}

// --- Serving.

struct serving {
    const struct settings *s;
    struct session_options session_options;
    struct serve_options serve_options;
    struct session *session;
    struct serve *server;
    char listen[256];        // serve_options.listen
    const char *why_outside; // of a command that no agent can be put into; NULL, ""
    int signals;             // a signalfd
    bool looks_again;        // at children, soon
    bool is_put_in;          // the agent, by us
    bool has_ended;          // the process
    sigset_t users;
};

static void say_start(const struct serving *v)
{
    const char *address = serve_address(v->server);
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    const char *token = !v->serve_options.token ? "" : ":TOKEN@";
    if (v->s->quiet || v->s->sidecar)
        return;
    if (is_unix)
        cli_note("%s (pid %u) at %s; try: curl --unix-socket %s http://localhost/debug/pprof/",
                 session_program(v->session), session_pid(v->session), address, address + 5);
    else
        cli_note("%s (pid %u) at http://%s/debug/pprof/; try: go tool pprof "
                 "http://%s%s/debug/pprof/profile?seconds=10",
                 session_program(v->session), session_pid(v->session), address, token, address);
    const char *cpu_why = session_cpu_why(v->session);
    const char *why = v->why_outside && *v->why_outside ? v->why_outside : session_why(v->session);
    if (session_is_by_kernel(v->session))
        cli_note("by eBPF: CPU time, time off the processor, threads%s, but no heap or traces",
                 v->session_options.block_ns || v->session_options.mutex_fraction
                     ? " and locks"
                     : " (locks with --block and --mutex)");
    else if (session_way(v->session) == SESSION_OUTSIDE && *cpu_why)
        cli_note("from outside: threads and fibers alone: %s; %s", why, cpu_why);
    else if (session_way(v->session) == SESSION_OUTSIDE)
        cli_note("from outside: CPU time, threads and fibers, but no wall time, heap, locks or "
                 "traces: %s",
                 why);
}

static int start(struct serving *v, struct fscope_error *err)
{
    v->serve_options.session = v->session;
    int rc = serve_start(&v->server, &v->serve_options, err);
    if (!rc)
        say_start(v);
    return rc;
}

static void stop(struct serving *v)
{
    serve_stop(v->server);
    session_close(v->session);
    v->server = NULL;
    v->session = NULL;
}

// What a program is to be told of, and what ends us. Not those that stop and continue, nor those of its own mistakes.
static int take_signals(struct serving *v)
{
    static const int left[] = {SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGSEGV, SIGBUS,
                               SIGFPE,  SIGILL,  SIGTRAP, SIGSYS,  SIGABRT, SIGPROF};
    sigset_t taken;
    sigfillset(&taken);
    for (size_t i = 0; i < CLI_COUNT(left); i++)
        sigdelset(&taken, left[i]);
    sigprocmask(SIG_BLOCK, &taken, &v->users);
    sigdelset(&taken, SIGPIPE); // our own: somebody left
    v->signals = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
    return v->signals < 0 ? cli_fail("signalfd: %s", strerror(errno)) : CLI_OK;
}

// --- A running process.

static bool ends_us(const struct signalfd_siginfo *i)
{
    return i->ssi_signo == SIGINT || i->ssi_signo == SIGTERM || i->ssi_signo == SIGHUP ||
           i->ssi_signo == SIGQUIT;
}

static int put_in(struct serving *v, struct fscope_error *err)
{
    struct inject_result result;
    const struct inject_options o = {.size = sizeof o, .pid = v->session_options.pid};
    int rc = inject_attach(&o, &result, err);
    v->is_put_in = !rc && result.tid;
    return rc;
}

static void take_out(struct serving *v)
{
    struct inject_result result;
    struct fscope_error err = {0};
    const struct inject_options o = {.size = sizeof o, .pid = v->session_options.pid};
    if (v->is_put_in && !v->has_ended && inject_detach(&o, &result, &err) && err.code != -ESRCH)
        cli_note("the agent stays in: %s", err.text);
}

static int serve_process(struct serving *v)
{
    struct fscope_error err = {0};
    struct signalfd_siginfo info = {0};
    v->session_options.pid = (uint32_t)v->s->pid;
    // The first process that the address was given to has the port; others' sidecars have nothing to do.
    int rc = v->s->sidecar ? serve_check(&v->serve_options, &err) : 0;
    if (!rc && is_to_inject(v->s))
        rc = put_in(v, &err);
    if (!rc)
        rc = session_open(&v->session, &v->session_options, &err);
    if (!rc)
        rc = start(v, &err);
    if (rc) {
        // Another one may have come between, and a short program may be over by now.
        bool has_nothing_to_do = v->s->sidecar && (rc == -EADDRINUSE || rc == -ESRCH);
        if (!has_nothing_to_do)
            cli_fail("%s", err.text);
        stop(v);
        take_out(v);
        return has_nothing_to_do ? CLI_OK : CLI_FAILURE;
    }
    struct pollfd fds[] = {{.fd = session_fd(v->session), .events = POLLIN},
                           {.fd = v->signals, .events = POLLIN}};
    bool is_over = false;
    while (!is_over) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        while (read(v->signals, &info, sizeof info) == (ssize_t)sizeof info)
            is_over |= ends_us(&info);
        if (fds[0].revents) {
            if (!v->s->quiet && !v->s->sidecar)
                cli_note("%s (pid %u) has ended", session_program(v->session),
                         session_pid(v->session));
            is_over = v->has_ended = true;
        }
    }
    if (!v->has_ended && !v->s->quiet && !v->s->sidecar)
        cli_note("no longer served; %s (pid %u) goes on", session_program(v->session),
                 session_pid(v->session));
    stop(v);
    take_out(v);
    return CLI_OK;
}

// --- A command.

// Whether it has ended, and how. Others are reaped by the way: as process 1 we inherit them. The stops of those that a
// thread of ours traces (thread_stacks.h) are seen here too, and are for that thread: *again says so.
static bool reap(pid_t child, int *status, bool *again)
{
    bool has_ended = false;
    int how;
    *again = false;
    for (;;) {
        siginfo_t what = {0};
        if (waitid(P_ALL, 0, &what, WEXITED | WNOHANG | WNOWAIT) || !what.si_pid)
            return has_ended;
        *again =
            what.si_code != CLD_EXITED && what.si_code != CLD_KILLED && what.si_code != CLD_DUMPED;
        if (*again)
            return has_ended;
        if (waitpid(what.si_pid, &how, WNOHANG) != child)
            continue;
        has_ended = true;
        *status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
    }
}

// A terminal has sent its signals to the command as well.
static void pass_on(pid_t child, const struct signalfd_siginfo *i)
{
    if (i->ssi_code != SI_KERNEL && i->ssi_signo != SIGCHLD)
        kill(child, (int)i->ssi_signo);
}

// One round: signals are passed on, children reaped. True: the command has ended.
static bool attend(struct serving *v, pid_t child, int wait_ms, int *status)
{
    struct pollfd fd = {.fd = v->signals, .events = POLLIN};
    struct signalfd_siginfo info;
    poll(&fd, 1, v->looks_again ? AGENT_PAUSE_MS : wait_ms);
    while (read(v->signals, &info, sizeof info) == (ssize_t)sizeof info)
        pass_on(child, &info);
    return reap(child, status, &v->looks_again);
}

// %p is the process id of what is served.
static int expand(struct serving *v, uint64_t pid)
{
    char *out = v->listen, *end = out + sizeof v->listen;
    for (const char *at = v->s->listen; *at;) {
        bool is_mark = at[0] == '%' && at[1] == 'p';
        int n = is_mark ? snprintf(out, (size_t)(end - out), "%llu", (unsigned long long)pid)
                        : snprintf(out, (size_t)(end - out), "%c", *at);
        if (n >= end - out)
            return cli_usage("--listen: too long an address");
        out += n;
        at += is_mark ? 2 : 1;
    }
    *out = '\0';
    v->serve_options.listen = v->listen;
    return CLI_OK;
}

// The agent answers once the loader has run it. What cannot have it is looked at from outside.
static bool open_launched(struct serving *v, const struct launch_program *program, pid_t child,
                          int *status)
{
    struct fscope_error err = {0};
    struct session_options o = v->session_options;
    enum session_method wish = o.method;
    int rc = -ENOENT;
    o.pid = (uint32_t)child;
    expand(v, o.pid);
    if (program->way == LAUNCH_AGENT && wish != SESSION_ONLY_OUTSIDE) {
        o.method = SESSION_ONLY_AGENT;
        for (int ms = 0; rc && rc != -ESRCH && ms < AGENT_PATIENCE_MS; ms += AGENT_PAUSE_MS) {
            rc = session_open(&v->session, &o, &err);
            if (rc && attend(v, child, AGENT_PAUSE_MS, status))
                return true;
        }
    }
    o.method = wish;
    if (rc && rc != -ESRCH)
        rc = session_open(&v->session, &o, &err);
    v->why_outside = program->reason;
    if (!rc)
        rc = start(v, &err);
    if (rc && rc != -ESRCH)
        cli_note("the command runs on, but is not served: %s", err.text);
    return false;
}

static int launch(struct serving *v, const struct launch_program *program, char **argv,
                  struct launch *l)
{
    struct fscope_error err = {0};
    char agent[PATH_MAX];
    struct launch_options o = {
        .size = sizeof o, .path = program->path, .argv = argv, .hold = true, .sigmask = &v->users};
    if (program->way == LAUNCH_AGENT && v->session_options.method != SESSION_ONLY_OUTSIDE) {
        if (launch_find_agent(agent, sizeof agent, &err))
            return cli_fail("%s", err.text);
        o.preload = agent;
    }
    int rc = launch_start(l, &o, &err);
    // Ours alone: the command keeps what it was given.
    signal(SIGCHLD, SIG_DFL);
    if (!rc)
        rc = launch_go(l, program->path, &err);
    if (!rc)
        return CLI_OK;
    cli_fail("%s", err.text);
    launch_close(l);
    return rc == -ENOENT ? 127 : 126;
}

static int serve_command(struct serving *v, char **argv)
{
    struct fscope_error err = {0};
    struct launch_program *program = calloc(1, sizeof *program);
    struct launch l;
    int status = CLI_FAILURE;
    if (!program)
        return cli_fail("out of memory");
    int rc = launch_look(program, argv[0], &err);
    if (rc) {
        bool is_number = strspn(argv[0], "0123456789") == strlen(argv[0]);
        cli_fail("%s%s%s", err.text, is_number ? "; a running process is named by -p " : "",
                 is_number ? argv[0] : "");
        status = rc == -ENOENT ? 127 : 126;
    } else if (serve_check(&v->serve_options, &err)) {
        cli_fail("%s", err.text);
    } else if ((status = launch(v, program, argv, &l)) == CLI_OK) {
        bool has_ended = open_launched(v, program, l.pid, &status);
        while (!has_ended)
            has_ended = attend(v, l.pid, -1, &status);
        stop(v);
        launch_close(&l);
    }
    free(program);
    return status;
}

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    struct serving v = {.s = s, .session_options = {.size = sizeof v.session_options}};
    char token[SERVE_TOKEN_MAX + 2];
    if (s->pid && argc)
        return cli_usage("-p PID and a command exclude each other");
    if (!s->pid && !argc)
        return cli_usage("a command, or -p PID, is needed");
    if (s->pid > INT32_MAX)
        return cli_usage("--pid=%llu is no process id", (unsigned long long)s->pid);
    int status = read_rates(s, &v.session_options);
    v.serve_options = (struct serve_options){
        .size = sizeof v.serve_options, .allow = s->allow.items, .allow_count = s->allow.count};
    if (!status) // a command has no pid yet: with ours the address is checked
        status = expand(&v, s->pid ? s->pid : (uint64_t)getpid());
    if (!status)
        status = read_token(s, token, sizeof token, &v.serve_options.token);
    if (!status)
        status = take_signals(&v);
    if (!status) {
        status = s->pid ? serve_process(&v) : serve_command(&v, argv);
        close(v.signals);
    }
    explicit_bzero(token, sizeof token);
    return status;
}

const struct cli_command cmd_serve = {
    .name = "serve",
    .summary = "serve /debug/pprof of a running process or of a command, for go tool pprof",
    .operands = "COMMAND [ARGUMENT...] | -p PID",
    .details =
        "Serves over HTTP what Go's net/http/pprof serves: profiles of CPU time, heap, locks and\n"
        "fibers, execution traces, and texts for people. The program itself only counts and is\n"
        "never stopped. With COMMAND: signals are passed on, the exit status is the command's,\n"
        "and as process 1 of a container it reaps what others leave behind. Ends with the\n"
        "program.",
    .examples = "  fiberscope serve -p $(pidof shorten)\n"
                "  go tool pprof http://127.0.0.1:6060/debug/pprof/heap\n"
                "  curl 'http://127.0.0.1:6060/debug/pprof/goroutine?debug=2'\n"
                "  fiberscope serve --listen 127.0.0.1:0 ./server --port 80\n"
                "  fiberscope serve --listen 0.0.0.0:6060 --token-file /run/token ./server",
    .flags = CLI_STOP_AT_OPERAND,
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
