// SPDX-License-Identifier: MIT
//
// See nearest.h.

#include "base/nearest.h"

#include <stdint.h>
#include <string.h>

// Optimal string alignment: insertions, deletions, substitutions and swapped neighbours cost one.
static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > NEAREST_LENGTH_MAX || m > NEAREST_LENGTH_MAX)
        return SIZE_MAX;
    size_t row[3][NEAREST_LENGTH_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *nearest_word(const char *what, const char *const *words, size_t count)
{
    const char *found = NULL;
    size_t length = strlen(what), best = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        size_t d = edit_distance(what, words[i]);
        // A beginning is as good as one slip: `rec` means record.
        if (length >= 2 && !strncmp(what, words[i], length) && d > 1)
            d = 1;
        if (d < best) {
            best = d;
            found = words[i];
        }
    }
    // A third of the word may be wrong, at least one letter: more is another word.
    size_t allowed = length < 3 ? 1 : (length + 2) / 3;
    return best <= allowed ? found : NULL;
}
