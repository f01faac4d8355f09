// SPDX-License-Identifier: MIT
//
// Deadlock: two transfers between two accounts, each of which locks its source first. Both get one lock and wait
// for the other's forever; main waits for both.
//
// What it shows: when no fiber can ever run again, the program ends with status 2 and says what each fiber waits
// for and where, as Go does. `deadlock ordered` locks in one order for all, and ends well.

#include <fiberscope/fiber.h>
#include <fiberscope/sync.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct account {
    struct fib_mutex mutex;
    long cents;
};

struct transfer {
    struct account *from, *to;
    long cents;
};

static struct account accounts[2] = {{.cents = 1000}, {.cents = 1000}};
static bool is_ordered;

static void transfer(void *arg)
{
    struct transfer *t = arg;
    struct account *first = t->from, *second = t->to;
    if (is_ordered && first > second) {
        first = t->to;
        second = t->from;
    }
    fib_mutex_lock(&first->mutex);
    fib_sleep(1000000); // the other one gets its first lock, whatever the processors' number
    fib_mutex_lock(&second->mutex);
    t->from->cents -= t->cents;
    t->to->cents += t->cents;
    fib_mutex_unlock(&second->mutex);
    fib_mutex_unlock(&first->mutex);
}

static void start(void *arg)
{
    (void)arg;
    struct transfer there = {&accounts[0], &accounts[1], 300};
    struct transfer back = {&accounts[1], &accounts[0], 100};
    struct fib_go_options names[] = {
        {.size = sizeof(struct fib_go_options), .name = "transfer there"},
        {.size = sizeof(struct fib_go_options), .name = "transfer back"},
    };
    struct fib f[2];
    if (fib_go_with(&f[0], &names[0], transfer, &there) ||
        fib_go_with(&f[1], &names[1], transfer, &back))
        return;
    fib_join(f[0]);
    fib_join(f[1]);
    printf("accounts: %ld and %ld\n", accounts[0].cents, accounts[1].cents);
}

int main(int argc, char **argv)
{
    is_ordered = argc > 1 && !strcmp(argv[1], "ordered");
    return fib_main(start, NULL) ? 1 : 0;
}
