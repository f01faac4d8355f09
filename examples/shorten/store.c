// SPDX-License-Identifier: MIT

#include "store.h"
#include "cache.h" // URL_MAX

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/sync.h>

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READERS = 4 };

struct reader {
    sqlite3 *db;
    sqlite3_stmt *url, *visits, *count;
};

struct store {
    struct fib_mutex writing;
    sqlite3 *db;
    sqlite3_stmt *insert, *find, *visit, *begin, *commit;
    struct reader readers[READERS];
    struct fib_chan *free_readers; // of struct reader *
};

static const char schema[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = NORMAL;"
    "CREATE TABLE IF NOT EXISTS links (id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE,"
    " visits INTEGER NOT NULL DEFAULT 0);";

static sqlite3 *db_open(const char *path, int flags)
{
    sqlite3 *db;
    if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX, NULL)) {
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_busy_timeout(db, 5000);
    return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    return stmt;
}

static bool readers_open(struct store *s, const char *path)
{
    s->free_readers = fib_chan_new(sizeof(struct reader *), READERS);
    if (!s->free_readers)
        return false;
    for (int i = 0; i < READERS; i++) {
        struct reader *r = &s->readers[i];
        r->db = db_open(path, SQLITE_OPEN_READONLY);
        if (!r->db)
            return false;
        r->url = prepare(r->db, "SELECT url FROM links WHERE id = ?1");
        r->visits = prepare(r->db, "SELECT visits FROM links WHERE id = ?1");
        r->count = prepare(r->db, "SELECT count(*) FROM links");
        if (!r->url || !r->visits || !r->count)
            return false;
        fib_chan_send(s->free_readers, &r);
    }
    return true;
}

static bool writer_open(struct store *s, const char *path, char why[256])
{
    s->db = db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (!s->db)
        return false;
    char *message = NULL;
    if (sqlite3_exec(s->db, schema, NULL, NULL, &message)) {
        snprintf(why, 256, "%s", message);
        sqlite3_free(message);
        return false;
    }
    s->insert = prepare(s->db, "INSERT OR IGNORE INTO links (url) VALUES (?1)");
    s->find = prepare(s->db, "SELECT id FROM links WHERE url = ?1");
    s->visit = prepare(s->db, "UPDATE links SET visits = visits + ?2 WHERE id = ?1");
    s->begin = prepare(s->db, "BEGIN");
    s->commit = prepare(s->db, "COMMIT");
    return s->insert && s->find && s->visit && s->begin && s->commit;
}

struct store *store_open(const char *path, char why[256])
{
    struct store *s = calloc(1, sizeof *s);
    snprintf(why, 256, "cannot be opened");
    if (!s)
        return NULL;
    fib_blocking_enter();
    bool ok = writer_open(s, path, why);
    fib_blocking_exit();
    if (ok && readers_open(s, path)) // opening is short; sending into free room does not wait
        return s;
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    fib_blocking_enter();
    for (int i = 0; i < READERS; i++) {
        sqlite3_finalize(s->readers[i].url);
        sqlite3_finalize(s->readers[i].visits);
        sqlite3_finalize(s->readers[i].count);
        sqlite3_close(s->readers[i].db);
    }
    sqlite3_stmt *mine[] = {s->insert, s->find, s->visit, s->begin, s->commit};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        sqlite3_finalize(mine[i]);
    sqlite3_close(s->db); // the last connection empties the write-ahead log
    fib_blocking_exit();
    fib_chan_free(s->free_readers);
    free(s);
}

// Runs a statement that returns nothing.
static int finish(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

int64_t store_add(struct store *s, const char *url, int *is_new)
{
    int64_t id = -EIO;
    fib_mutex_lock(&s->writing);
    fib_blocking_enter();
    sqlite3_bind_text(s->insert, 1, url, -1, SQLITE_STATIC);
    if (!finish(s->insert)) {
        *is_new = sqlite3_changes(s->db) == 1;
        if (*is_new) {
            id = sqlite3_last_insert_rowid(s->db);
        } else {
            sqlite3_bind_text(s->find, 1, url, -1, SQLITE_STATIC);
            if (sqlite3_step(s->find) == SQLITE_ROW)
                id = sqlite3_column_int64(s->find, 0);
            sqlite3_reset(s->find);
        }
    }
    fib_blocking_exit();
    fib_mutex_unlock(&s->writing);
    return id;
}

int store_add_visits(struct store *s, const struct store_visit *v, int n)
{
    fib_mutex_lock(&s->writing);
    fib_blocking_enter();
    int rc = finish(s->begin);
    for (int i = 0; i < n && !rc; i++) {
        sqlite3_bind_int64(s->visit, 1, v[i].id);
        sqlite3_bind_int64(s->visit, 2, v[i].count);
        rc = finish(s->visit);
    }
    // Also after an error: what could be counted is.
    int committed = finish(s->commit);
    fib_blocking_exit();
    fib_mutex_unlock(&s->writing);
    return rc ? rc : committed;
}

static struct reader *reader_take(struct store *s)
{
    struct reader *r;
    fib_chan_recv(s->free_readers, &r);
    return r;
}

int store_url(struct store *s, int64_t id, char *url)
{
    struct reader *r = reader_take(s);
    fib_blocking_enter();
    sqlite3_bind_int64(r->url, 1, id);
    int step = sqlite3_step(r->url), rc = step == SQLITE_DONE ? -ENOENT : -EIO;
    if (step == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(r->url, 0);
        rc = text && snprintf(url, URL_MAX + 1, "%s", text) <= URL_MAX ? 0 : -EIO;
    }
    sqlite3_reset(r->url);
    fib_blocking_exit();
    fib_chan_send(s->free_readers, &r);
    return rc;
}

static int read_number(sqlite3_stmt *stmt, int64_t *out)
{
    fib_blocking_enter();
    int step = sqlite3_step(stmt);
    if (step == SQLITE_ROW)
        *out = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    fib_blocking_exit();
    return step == SQLITE_ROW ? 0 : step == SQLITE_DONE ? -ENOENT : -EIO;
}

int store_visits(struct store *s, int64_t id, int64_t *visits)
{
    struct reader *r = reader_take(s);
    sqlite3_bind_int64(r->visits, 1, id);
    int rc = read_number(r->visits, visits);
    fib_chan_send(s->free_readers, &r);
    return rc;
}

int64_t store_count(struct store *s)
{
    struct reader *r = reader_take(s);
    int64_t count;
    int rc = read_number(r->count, &count);
    fib_chan_send(s->free_readers, &r);
    return rc ? rc : count;
}
