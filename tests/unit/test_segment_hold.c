// SPDX-License-Identifier: MIT
//
// What is on goes off with the last who holds it: who does is known to all, and one that is killed holds nothing any
// more.

#include "segment/consumer.h"
#include "segment/producer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void holders_are_known(void **state)
{
    (void)state;
    const uint32_t heap = 1u << SEG_HELD_HEAP, block = 1u << SEG_HELD_BLOCK;
    const uint32_t samples = 1u << SEG_HELD_SAMPLES;
    struct seg s;
    struct seg_reader *a = NULL, *b = NULL;
    int ready[2];
    assert_int_equal(seg_create(&s, NULL), 0);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct seg_reader *mine = NULL;
        char ok = (char)(seg_reader_open_parts(&mine, dup(s.fd), SEG_READER_RINGS, NULL) == 0 &&
                         seg_reader_hold(mine, samples | heap) == 0);
        if (write(ready[1], &ok, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, 1);
    assert_int_equal(seg_reader_open_parts(&a, dup(s.fd), SEG_READER_STATE, NULL), 0);
    assert_int_equal(seg_reader_open_parts(&b, dup(s.fd), SEG_READER_STATE, NULL), 0);
    atomic_store(&s.header->control.held, samples | heap | block);
    assert_int_equal(seg_reader_unheld(a), block);
    assert_int_equal(seg_reader_hold(a, block | heap), 0);
    assert_int_equal(seg_reader_is_holding(a), block | heap);
    assert_int_equal(seg_reader_unheld(a), 0);
    assert_int_equal(seg_reader_unheld(b), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(seg_reader_unheld(b), samples);
    assert_int_equal(seg_reader_hold(b, heap), 0);
    seg_reader_let_go(a, heap);
    assert_int_equal(seg_reader_unheld(a), samples);
    seg_reader_close(b);
    assert_int_equal(seg_reader_unheld(a), samples | heap);
    // Who lets go of samples has the rings still.
    assert_int_equal(seg_reader_open_parts(&b, dup(s.fd), SEG_READER_RINGS, NULL), 0);
    assert_int_equal(seg_reader_hold(b, samples), 0);
    assert_int_equal(seg_reader_unheld(a), heap);
    seg_reader_let_go(b, samples);
    assert_int_equal(seg_reader_unheld(b), samples | heap);
    seg_reader_close(b);
    seg_reader_close(a);
    seg_close(&s);
    close(ready[0]);
    close(ready[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(holders_are_known)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
