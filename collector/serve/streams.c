// SPDX-License-Identifier: MIT
//
// What is recorded for as long as the request lasts: CPU, wall and off-CPU profiles, execution traces; and the flight recorder.

#include "collector/serve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROFILE_SECONDS = 30, TRACE_SECONDS = 1 }; // where none, or none that makes sense, are given

static bool is_over(void *arg)
{
    return request_is_over(arg);
}

static struct session_stream stream_of(struct request *r, double seconds)
{
    return (struct session_stream){.size = sizeof(struct session_stream),
                                   .duration_ns = (uint64_t)(seconds * 1e9),
                                   .is_over = is_over,
                                   .arg = r};
}

// False: too long, and the reply says so in the words that Go had for it.
static bool check_duration(struct request *r, double seconds)
{
    if (seconds * 1e9 <= (double)r->serve->o.duration_ns_max)
        return true;
    reply_error(r, MHD_HTTP_BAD_REQUEST, "profile duration exceeds server's WriteTimeout");
    return false;
}

static double whole_seconds(const struct request *r)
{
    int64_t seconds = 0;
    size_t size;
    char *text = query_get(r->query, "seconds", &size);
    int rc = text ? query_parse_int(text, size, &seconds) : -EINVAL;
    free(text);
    return rc || seconds <= 0 ? PROFILE_SECONDS : (double)seconds;
}

static double any_seconds(const struct request *r)
{
    double seconds = 0;
    size_t size;
    char *text = query_get(r->query, "seconds", &size);
    int rc = text ? query_parse_float(text, size, &seconds) : -EINVAL;
    free(text);
    return rc || !(seconds > 0) ? TRACE_SECONDS : seconds;
}

void reply_profile(struct request *r, const struct pprof_profile *p, const char *name)
{
    struct fscope_error err = {0};
    struct stat st;
    int fd = memfd_create("profile", MFD_CLOEXEC);
    int rc = fd < 0 ? error_set(&err, -errno, 0, "memfd_create: %s", strerror(errno))
                    : pprof_write_fd(p, fd, true, &err);
    if (!rc && fstat(fd, &st))
        rc = error_set(&err, -errno, 0, "fstat: %s", strerror(errno));
    if (rc) {
        if (fd >= 0)
            close(fd);
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "%s", err.text);
        return;
    }
    reply_file(r, fd, (uint64_t)st.st_size, name);
}

// What cannot be had here at all is told from what could not be had now.
static int status_of(int rc)
{
    return rc == -EOPNOTSUPP ? MHD_HTTP_NOT_IMPLEMENTED : MHD_HTTP_INTERNAL_SERVER_ERROR;
}

struct sampled {
    const char *what, *in_use, *name; // in the messages; of the file
    bool wall, offcpu;
};

static void sample(struct request *r, const struct sampled *s)
{
    struct fscope_error err = {0};
    struct pprof_profile *p = NULL;
    double seconds = whole_seconds(r);
    if (!check_duration(r, seconds))
        return;
    struct session_stream o = stream_of(r, seconds);
    o.wall = s->wall;
    o.offcpu = s->offcpu;
    int rc = session_sample(r->serve->session, &o, &p, &err);
    if (rc == -EBUSY)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR,
                    "Could not enable %s profiling: %s profiling already in use", s->what,
                    s->in_use);
    else if (rc)
        reply_error(r, status_of(rc), "Could not enable %s profiling: %s", s->what, err.text);
    else
        reply_profile(r, p, s->name);
    pprof_free(p);
}

void page_cpu(struct request *r)
{
    sample(r, &(struct sampled){.what = "CPU", .in_use = "cpu", .name = "profile"});
}

void page_wall(struct request *r)
{
    sample(r, &(struct sampled){.what = "wall", .in_use = "wall", .name = "wall", .wall = true});
}

void page_offcpu(struct request *r)
{
    sample(r, &(struct sampled){
                  .what = "off-CPU", .in_use = "off-CPU", .name = "offcpu", .offcpu = true});
}

// --- Traces go through a file, for they may be large: in a folder of its own, gone before we answer.

int spool_open(struct spool *s)
{
    const char *const places[] = {getenv("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!places[i] || !*places[i])
            continue;
        int n = snprintf(s->dir, sizeof s->dir, "%s/fiberscope-XXXXXX", places[i]);
        if (n < 0 || (size_t)n >= sizeof s->dir || !mkdtemp(s->dir))
            continue;
        snprintf(s->file, sizeof s->file, "%s/trace", s->dir);
        return 0;
    }
    return -EROFS;
}

void spool_close(struct spool *s)
{
    unlink(s->file);
    rmdir(s->dir);
}

static void reply_spool(struct request *r, struct spool *s, const char *name)
{
    struct stat st;
    int fd = open(s->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "%s: %s", name, strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    reply_file(r, fd, (uint64_t)st.st_size, name);
}

void page_trace(struct request *r)
{
    struct fscope_error err = {0};
    struct spool spool;
    uint64_t bytes = 0;
    double seconds = any_seconds(r);
    if (!check_duration(r, seconds))
        return;
    struct session_stream o = stream_of(r, seconds);
    if (spool_open(&spool)) {
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR,
                    "Could not enable tracing: no folder for temporary files can be written to; "
                    "set TMPDIR");
        return;
    }
    int rc = session_trace(r->serve->session, &o, spool.file, &bytes, &err);
    if (rc == -EBUSY)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR,
                    "Could not enable tracing: execution tracer already enabled");
    else if (rc)
        reply_error(r, status_of(rc), "Could not enable tracing: %s", err.text);
    else
        reply_spool(r, &spool, "trace");
    spool_close(&spool);
}

void page_flight(struct request *r)
{
    struct fscope_error err = {0};
    struct spool spool;
    uint64_t bytes = 0;
    if (spool_open(&spool)) {
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR,
                    "no folder for temporary files can be written to; set TMPDIR");
        return;
    }
    int rc = session_flight(r->serve->session, spool.file, &bytes, &err);
    if (rc == -ENODATA || rc == -EOPNOTSUPP)
        reply_error(r, MHD_HTTP_NOT_FOUND, "%s",
                    *err.text ? err.text : "the program has no flight recorder on");
    else if (rc)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "%s", err.text);
    else
        reply_spool(r, &spool, "flight");
    spool_close(&spool);
}
