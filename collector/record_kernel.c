// SPDX-License-Identifier: MIT
//
// See record_kernel.h.

#include "collector/record_kernel.h"

#include "base/file.h"
#include "base/shell_word.h"
#include "collector/record_internal.h"

#ifdef FSCOPE_BPF
#include "collector/bpf/kernel_trace.h"
#include "collector/bpf/privileges.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef FSCOPE_BPF

enum { FILES_MAX = 1000, FILES_SAID = 4 };

struct record_kernel_file {
    char *path;
    struct kernel_build_file file;
    int rc;
};

struct record_kernel {
    const struct record_options *o;
    struct record_result *result;
    struct kernel_trace *trace;
    char path[PATH_MAX]; // of the first file
    struct file_replace open;
    char *open_path;
    struct record_kernel_file *files;
    size_t count;
    int rc;
    char error[384];
};

bool record_kernel_is_built(void)
{
    return true;
}

// "k.trace" to "k.kernel.trace".
static int make_path(struct record_kernel *k, struct fscope_error *err)
{
    static const char ending[] = ".trace", inner[] = ".kernel.trace";
    struct record_result named = {.pid = k->result->pid};
    memcpy(named.program, k->result->program, sizeof named.program);
    int rc = record_path(k->path, sizeof k->path, k->o->output, &named, RECORD_TRACE_NAME, err);
    if (rc)
        return rc;
    if (strcmp(k->path, "-") == 0)
        return error_set(err, -EINVAL, 0,
                         "--kernel writes a second file: -o FILE is needed, not standard output");
    size_t n = strlen(k->path), cut = sizeof ending - 1;
    if (n >= cut && !strcmp(k->path + n - cut, ending))
        n -= cut;
    if (n + sizeof inner + 8 > sizeof k->path)
        return error_set(err, -ENAMETOOLONG, 0, "-o %s: too long a path", k->o->output);
    memcpy(k->path + n, inner, sizeof inner);
    return 0;
}

static int open_file(void *arg, uint32_t number, struct fscope_error *err)
{
    struct record_kernel *k = arg;
    char path[PATH_MAX + 16];
    if (number > FILES_MAX)
        return error_set(err, -EMFILE, 0, "more than %d kernel traces in one recording", FILES_MAX);
    if (number > 1)
        snprintf(path, sizeof path, "%s.%u", k->path, number);
    else
        snprintf(path, sizeof path, "%s", k->path);
    k->open_path = strdup(path);
    int rc = k->open_path ? file_begin(&k->open, path, err) : -ENOMEM;
    if (rc) {
        snprintf(k->error, sizeof k->error, "%s", err->text);
        free(k->open_path);
        k->open_path = NULL;
    }
    return rc ? rc : k->open.fd;
}

// A former recording of that name may have had more files: whoever reads ours would go on with those.
static void remove_former(const struct record_kernel *k)
{
    char path[PATH_MAX + 16];
    for (uint32_t number = 2; number <= FILES_MAX; number++) {
        snprintf(path, sizeof path, "%s.%u", k->path, number);
        unlink(path);
    }
}

static void close_file(void *arg, const struct kernel_build_file *f, int rc)
{
    struct record_kernel *k = arg;
    struct fscope_error err = {0};
    if (!k->open_path)
        return;
    if (!f->generations)
        file_abort(&k->open);
    else {
        if (!k->count)
            remove_former(k);
        if (file_commit(&k->open, &err) && !rc)
            rc = err.code;
    }
    if (rc && !k->rc) {
        k->rc = rc;
        snprintf(k->error, sizeof k->error, "%.250s: %.120s", k->open_path,
                 err.text[0] ? err.text : strerror(-rc));
    }
    struct record_kernel_file *grown = reallocarray(k->files, k->count + 1, sizeof *grown);
    if (grown && f->generations) {
        k->files = grown;
        k->files[k->count++] = (struct record_kernel_file){k->open_path, *f, rc};
        k->open_path = NULL;
    } else if (grown) {
        k->files = grown;
    }
    free(k->open_path);
    k->open_path = NULL;
}

static bool may_write(void *arg)
{
    const struct record_kernel *k = arg;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", k->path);
    char *slash = strrchr(folder, '/');
    snprintf(slash ? slash + (slash == folder) : folder, 2, "%s", slash ? "" : ".");
    return faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0;
}

int record_kernel_start(const struct record_options *o, struct record_result *result, uint32_t pid,
                        struct fscope_error *err)
{
    if (!o->kernel)
        return 0;
    struct record_kernel *k = calloc(1, sizeof *k);
    if (!k)
        return error_set(err, -ENOMEM, 0, "out of memory");
    *k = (struct record_kernel){.o = o, .result = result, .open = {.fd = -1}};
    result->kernel = k;
    int rc = make_path(k, err);
    const struct kernel_trace_options ko = {
        .size = sizeof ko,
        .pid = (pid_t)pid,
        .no_inherit = !o->inherit,
        .version = o->trace_version,
        .ring_bytes = o->kernel_ring_bytes,
        .open_file = open_file,
        .close_file = close_file,
        .may_write = may_write,
        .arg = k,
    };
    if (!rc)
        rc = kernel_trace_start(&k->trace, &ko, err);
    if (!rc && !o->quiet && kernel_trace_lacks(k->trace)[0])
        fprintf(o->messages, "fiberscope: this kernel does not tell which waits are for %s\n",
                kernel_trace_lacks(k->trace));
    if (rc)
        record_kernel_free(result);
    return rc;
}

int record_kernel_drop(struct record_result *result, struct fscope_error *err)
{
    uint64_t more = UINT64_C(1) << CAP_PERFMON | UINT64_C(1) << CAP_KILL;
    struct record_kernel *k = result->kernel;
    return k ? privileges_drop(may_write, k, more, err) : 0;
}

void record_kernel_stop(struct record_result *result)
{
    struct record_kernel *k = result->kernel;
    if (!k || !k->trace)
        return;
    int rc = kernel_trace_stop(k->trace);
    kernel_trace_free(k->trace);
    k->trace = NULL;
    if (rc && !k->rc) {
        k->rc = rc;
        if (!k->error[0])
            snprintf(k->error, sizeof k->error, "kernel trace: %s", strerror(-rc));
    }
}

void record_kernel_free(struct record_result *result)
{
    struct record_kernel *k = result->kernel;
    if (!k)
        return;
    record_kernel_stop(result);
    for (size_t i = 0; i < k->count; i++)
        free(k->files[i].path);
    free(k->files);
    free(k);
    result->kernel = NULL;
}

static void say_file(FILE *out, const struct record_kernel_file *f)
{
    fputs("fiberscope: kernel trace: ", out);
    record_say_count(out, f->file.switches);
    fprintf(out, " switches, ");
    record_say_count(out, f->file.syscalls);
    fprintf(out, " system calls, ");
    record_say_count(out, f->file.faults);
    fprintf(out, " page faults in %.2f s, ", (double)(f->file.end_ns - f->file.start_ns) / 1e9);
    record_say_bytes(out, f->file.bytes);
    fprintf(out, "; wrote %s\n", f->path);
    if (f->file.repairs)
        fprintf(
            out,
            "fiberscope: %" PRIu64
            " of its records showed that one before was missing, and were made to fit; the trace "
            "is sound (docs/trace.md)\n",
            f->file.repairs);
    if (f->file.why[0])
        fprintf(out,
                "fiberscope: its last part did not make sense and is left out: %s (please report "
                "this)\n",
                f->file.why);
}

int record_kernel_report(const struct record_options *o, struct record_result *result,
                         struct fscope_error *err)
{
    struct record_kernel *k = result->kernel;
    uint64_t lost = 0;
    if (!k)
        return 0;
    for (size_t i = 0; i < k->count; i++) {
        lost += k->files[i].file.lost + k->files[i].file.gap_lost;
        if (!o->quiet && i < FILES_SAID)
            say_file(o->messages, &k->files[i]);
    }
    if (k->count > FILES_SAID && !o->quiet)
        fprintf(o->messages, "fiberscope: and %zu more kernel traces\n", k->count - FILES_SAID);
    if (lost && !o->quiet)
        fprintf(
            o->messages,
            "fiberscope: the kernel trace was cut, as %" PRIu64
            " records found no room (--kernel-buffer gives more); it goes on in the next file\n",
            lost);
    if (k->count && !o->quiet && o->trace) {
        fputs("fiberscope: both: fiberscope trace lost ", o->messages);
        char path[PATH_MAX];
        struct record_result named = *result;
        if (!record_path(path, sizeof path, o->output, &named, RECORD_TRACE_NAME, NULL))
            shell_word_print(o->messages, path);
        fputc('\n', o->messages);
    }
    if (k->rc)
        return error_set(err, k->rc, 0, "%s", k->error);
    return k->count ? 0 : error_set(err, -ENODATA, 0, "no kernel trace: nothing has happened");
}

#else

bool record_kernel_is_built(void)
{
    return false;
}

int record_kernel_start(const struct record_options *o, struct record_result *result, uint32_t pid,
                        struct fscope_error *err)
{
    (void)result, (void)pid;
    return o->kernel ? error_set(err, -ENOTSUP, 0,
                                 "--kernel: this fiberscope was built without eBPF (clang, bpftool "
                                 "and libbpf-dev are needed)")
                     : 0;
}

int record_kernel_drop(struct record_result *result, struct fscope_error *err)
{
    (void)result, (void)err;
    return 0;
}

void record_kernel_stop(struct record_result *result)
{
    (void)result;
}

int record_kernel_report(const struct record_options *o, struct record_result *result,
                         struct fscope_error *err)
{
    (void)o, (void)result, (void)err;
    return 0;
}

void record_kernel_free(struct record_result *result)
{
    (void)result;
}

#endif
