// SPDX-License-Identifier: MIT
//
// Links in an SQLite file. SQLite blocks the thread, so each call is one between fib_blocking_enter and exit. One
// connection writes, under a mutex; a few others read, lent out by a channel that holds those which are free.

#ifndef SHORTEN_STORE_H
#define SHORTEN_STORE_H

#include <stdint.h>

struct store;

// Opens or makes the file. *why: what SQLite says, when NULL is returned; static or the store's.
struct store *store_open(const char *path, char why[256]);
void store_close(struct store *s);

// The link's id, a new one if the URL is new. *is_new tells. Negative: -EIO.
int64_t store_add(struct store *s, const char *url, int *is_new);

// Copies the URL into url (room for URL_MAX + 1): 0, -ENOENT, -EIO.
int store_url(struct store *s, int64_t id, char *url);

// The visits of a link: 0, -ENOENT, -EIO.
int store_visits(struct store *s, int64_t id, int64_t *visits);

// Adds visits to links, all in one transaction: 0, -EIO.
struct store_visit {
    int64_t id, count;
};
int store_add_visits(struct store *s, const struct store_visit *v, int n);

// Number of links, or -EIO.
int64_t store_count(struct store *s);

#endif
