// SPDX-License-Identifier: MIT
//
// A file that is written is whole or not there: whatever fails on the way, the path holds what it
// held before, nothing is left beside it, and the error names the file and the reason.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "formats/pprof.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char dir[64];
    char path[128];
    struct pprof_profile *p;
};

static int set_up(void **state)
{
    struct place *at = calloc(1, sizeof *at);
    if (!at)
        return -1;
    strcpy(at->dir, "write-XXXXXX");
    if (!mkdtemp(at->dir))
        return -1;
    snprintf(at->path, sizeof at->path, "%s/p.pb.gz", at->dir);
    at->p = pprof_new();
    pprof_add_sample_type(at->p, "samples", "count");
    // Large enough that a small limit cuts it, random enough that gzip does not save it.
    uint64_t x = 1;
    for (int i = 0; i < 20000; i++) {
        x = x * UINT64_C(6364136223846793005) + 1;
        struct pprof_location *stack[] = {pprof_intern_location(at->p, NULL, x, NULL, 0)};
        pprof_add_sample(at->p, stack, 1, (int64_t[]){1}, NULL, 0);
    }
    *state = at;
    return 0;
}

static size_t files_in(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    closedir(d);
    return n;
}

static int tear_down(void **state)
{
    struct place *at = *state;
    unlink(at->path);
    int rc = rmdir(at->dir); // fails if a test left something behind
    pprof_free(at->p);
    free(at);
    return rc;
}

static void put_old(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("old", f);
    fclose(f);
}

static bool is_old(const char *path)
{
    char text[8] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    bool old = fread(text, 1, sizeof text, f) == 3 && memcmp(text, "old", 3) == 0;
    fclose(f);
    return old;
}

static void it_replaces_the_old_one_and_keeps_its_mode(void **state)
{
    struct place *at = *state;
    struct fscope_error err;
    struct pprof_profile *q;
    struct stat st;
    put_old(at->path);
    assert_int_equal(chmod(at->path, 0640), 0);
    assert_int_equal(pprof_write_file(at->p, at->path, &err), 0);
    assert_int_equal(stat(at->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(files_in(at->dir), 1);
    assert_int_equal(pprof_read_file(&q, at->path, NULL, &err), 0);
    assert_int_equal(q->sample_count, at->p->sample_count);
    pprof_free(q);
}

static void a_new_file_has_the_mode_of_the_umask(void **state)
{
    struct place *at = *state;
    struct stat st;
    mode_t before = umask(027);
    assert_int_equal(pprof_write_file(at->p, at->path, NULL), 0);
    umask(before);
    assert_int_equal(stat(at->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void a_symbolic_link_is_followed(void **state)
{
    struct place *at = *state;
    struct stat st;
    char link[128];
    snprintf(link, sizeof link, "%s/link", at->dir);
    put_old(at->path);
    assert_int_equal(symlink("p.pb.gz", link), 0);
    assert_int_equal(pprof_write_file(at->p, link, NULL), 0);
    assert_false(is_old(at->path));
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    unlink(link);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    struct place *at = *state;
    struct fscope_error err = {0};
    put_old(at->path);
    // What a full disk is to the program: write(2) stops half-way with an error.
    struct rlimit old, tight = {.rlim_cur = 20000, .rlim_max = RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    int rc = pprof_write_file(at->p, at->path, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(rc, -EFBIG);
    assert_non_null(strstr(err.text, at->path));
    assert_non_null(strstr(err.text, "File too large"));
    assert_true(is_old(at->path));
    assert_int_equal(files_in(at->dir), 1);
}

static void a_full_device_says_so(void **state)
{
    struct place *at = *state;
    struct fscope_error err = {0};
    assert_int_equal(pprof_write_file(at->p, "/dev/full", &err), -ENOSPC);
    assert_string_equal(err.text, "/dev/full: cannot write the profile: No space left on device");
    assert_int_equal(pprof_write_file(at->p, "/dev/null", &err), 0);
    struct stat st;
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode)); // written to, not replaced
}

static void a_path_that_cannot_be_is_refused(void **state)
{
    struct place *at = *state;
    struct fscope_error err = {0};
    char path[160];
    assert_int_equal(pprof_write_file(at->p, at->dir, &err), -EISDIR);
    snprintf(path, sizeof path, "%s/no/p", at->dir);
    assert_int_equal(pprof_write_file(at->p, path, &err), -ENOENT);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(files_in(at->dir), 0);
}

static void a_broken_profile_is_not_written(void **state)
{
    struct place *at = *state;
    struct fscope_error err = {0};
    put_old(at->path);
    at->p->locations[3]->id = 99;
    assert_int_equal(pprof_write_file(at->p, at->path, &err), -EINVAL);
    at->p->locations[3]->id = 4;
    assert_true(is_old(at->path));
    assert_int_equal(files_in(at->dir), 1);
}

static void an_abort_removes_the_temporary(void **state)
{
    struct place *at = *state;
    struct file_replace f;
    assert_int_equal(file_begin(&f, at->path, NULL), 0);
    assert_int_equal(file_write_all(f.fd, "half", 4), 0);
    assert_int_equal(files_in(at->dir), 1);
    assert_int_equal(access(at->path, F_OK), -1);
    file_abort(&f);
    file_abort(&f); // twice is harmless
    assert_int_equal(files_in(at->dir), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(it_replaces_the_old_one_and_keeps_its_mode),
        CASE(a_new_file_has_the_mode_of_the_umask),
        CASE(a_symbolic_link_is_followed),
        CASE(a_full_disk_leaves_the_old_file),
        CASE(a_full_device_says_so),
        CASE(a_path_that_cannot_be_is_refused),
        CASE(a_broken_profile_is_not_written),
        CASE(an_abort_removes_the_temporary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
