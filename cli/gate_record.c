// SPDX-License-Identifier: MIT
//
// Recording for the gate: `fiberscope record` as a process of its own, run after run, so that one
// recording cannot disturb the next and the gate needs to know no more than record's options.

#include "cli/commands.h"
#include "cli/gate_inputs.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

bool gate_can_record(const char *option)
{
    for (size_t i = 0; i < cmd_record.option_count; i++) {
        if (!strcmp(cmd_record.options[i].name, option))
            return true;
    }
    return false;
}

int gate_recording_kind(struct gate_recording *r, const char *word, struct fscope_error *err)
{
    static const char *const kinds[] = {"heap", "cpu", "wall", "block", "mutex"};
    size_t n = strcspn(word, "=");
    const char *known = NULL;
    char name[32];
    for (size_t i = 0; i < CLI_COUNT(kinds); i++) {
        if (strlen(kinds[i]) == n && !strncmp(word, kinds[i], n))
            known = kinds[i];
    }
    snprintf(name, sizeof name, "%.*s", n < 31 ? (int)n : 31, word);
    if (!known) {
        const char *near = cli_nearest(name, kinds, CLI_COUNT(kinds));
        return error_set(err, -EINVAL, 0,
                         "\"%.40s\" cannot be recorded; there are heap, cpu, wall, "
                         "block and mutex%s%s%s",
                         word, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    if (!gate_can_record(known))
        return error_set(err, -EINVAL, 0, "this fiberscope cannot record %s profiles", known);
    if (r->kind_count == GATE_RECORD_KINDS_MAX || strlen(word) > 28)
        return error_set(err, -EINVAL, 0, "\"%.40s\": too many or too long", word);
    snprintf(r->kinds[r->kind_count++], sizeof r->kinds[0], "--%s", word);
    return 0;
}

int gate_recording_like(struct gate_recording *r, const struct gate_input *in,
                        struct fscope_error *err)
{
    int rc = 0;
    size_t most = 1;
    for (size_t i = 0; i < in->kind_count && !rc; i++) {
        const struct gate_kind *k = &in->kinds[i];
        char word[32];
        if (!k->base.count)
            continue;
        long long period = k->base.runs[0]->period;
        snprintf(word, sizeof word, "%.25s", k->name);
        if (!strcmp(k->name, "heap"))
            snprintf(word, sizeof word, period == 1 ? "heap=exact" : "heap=%lld", period);
        else if ((!strcmp(k->name, "cpu") || !strcmp(k->name, "wall")) && period > 0 &&
                 period <= 1000000000)
            snprintf(word, sizeof word, "%s=%lld", k->name, (1000000000 + period / 2) / period);
        rc = gate_recording_kind(r, word, err);
        most = k->base.count > most ? k->base.count : most;
    }
    if (!r->runs)
        r->runs = most;
    return rc;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void gate_remove_folder(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

// The child: record's output is the folder, the command's standard output our standard error, so
// that a report on standard output stays a report.
static void exec_record(const struct gate_recording *r, const char *folder)
{
    size_t n = 0, count = 0;
    while (r->command[count])
        count++;
    char **argv = calloc(count + r->kind_count + 8, sizeof *argv);
    if (!argv)
        _exit(127);
    argv[n++] = strdup("fiberscope");
    argv[n++] = strdup("record");
    argv[n++] = strdup("-q");
    argv[n++] = strdup("-o");
    argv[n++] = strdup(folder);
    for (size_t i = 0; i < r->kind_count; i++)
        argv[n++] = strdup(r->kinds[i]);
    argv[n++] = strdup("--");
    for (size_t i = 0; i < count; i++)
        argv[n++] = r->command[i];
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execv("/proc/self/exe", argv);
    _exit(127);
}

static int record_once(const struct gate_recording *r, const char *folder, struct fscope_error *err)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return error_set(err, -errno, 0, "fork: %s", strerror(errno));
    if (!pid)
        exec_record(r, folder);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return error_set(err, -errno, 0, "waiting for record: %s", strerror(errno));
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code && !(r->allow_failure && code != 126 && code != 127))
        return error_set(err, -ECHILD, 0,
                         "%.100s ended with status %d, so its profile is of a run that went wrong "
                         "(--allow-failure takes it nevertheless)",
                         r->command[0], code);
    return 0;
}

int gate_record(struct gate_inputs *in, bool is_base, const struct gate_recording *r,
                struct fscope_error *err)
{
    char top[512], folder[560];
    const char *tmp = getenv("TMPDIR");
    int rc = 0;
    snprintf(top, sizeof top, "%.480s/fiberscope-gate-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(top))
        return error_set(err, -errno, 0, "%.300s: %s", top, strerror(errno));
    for (size_t run = 0; run < r->runs && !rc; run++) {
        snprintf(folder, sizeof folder, "%s/%zu", top, run);
        if (!r->quiet && r->runs > 1 && isatty(STDERR_FILENO))
            fprintf(stderr, "\rrun %zu of %zu ", run + 1, r->runs);
        if (mkdir(folder, 0700))
            rc = error_set(err, -errno, 0, "%.300s: %s", folder, strerror(errno));
        if (!rc)
            rc = record_once(r, folder, err);
        if (!rc && gate_inputs_add(in, is_base, folder, err))
            rc = error_prefix(err, "run %zu left no profile", run + 1);
    }
    if (!r->quiet && r->runs > 1 && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    gate_remove_folder(top);
    return rc;
}
