// SPDX-License-Identifier: MIT
//
// A table: a head that sorts, rows that scroll, one of which is chosen.
//
// It is virtual: a frame asks for the cells of the rows that are seen and of no others, so a table
// of a million rows costs as much as one of fifty. The order of the rows is its owner's: the table
// says by which column it is to be, the owner sorts.
//
// The first column is the name: left, and as wide as the others leave room. The others are figures:
// right, and as wide as `widest` says.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_TABLE_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_TABLE_H

#include "viewer/ui/ui.h"

enum { PANEL_CELL_MAX = 512, PANEL_COLUMNS_MAX = 16 };

struct panel_column {
    const char *title;
    const char *widest; // text that every cell has room for; NULL: it is the first
};

struct panel_rows { // what a table shows
    const struct panel_column *columns;
    int column_count;
    uint32_t count;
    // The text of a cell; returns what part of the whole it is, 0 to 1, drawn as a bar behind it.
    double (*cell)(const void *context, uint32_t row, int column, char *text);
    uint32_t (*color)(const void *context, uint32_t row); // a box before the name; NULL: none
    const uint32_t *bars; // [column_count], their colours; 0, or NULL: the accent
    const void *context;
    const char *none; // stands there instead of rows
};

struct panel_table {
    int column; // the order: by this column
    bool ascending;
    uint32_t chosen; // row; UINT32_MAX: none
    int scroll;
    bool reveal; // the next frame scrolls to the chosen row
};

enum {                     // what panel_table says
    PANEL_TABLE_ORDER = 1, // the order is another one
    PANEL_TABLE_CHOSE = 2, // another row is chosen
    PANEL_TABLE_ENTER = 4, // Enter or a double click on the chosen row
};

// Keys, with has_keys: Up and Down, with Shift by a page, Home, End; Left and Right change the
// column of the order, O turns it round; Enter.
unsigned panel_table(struct panel_table *t, struct ui *u, uint64_t id, struct rect r,
                     const struct panel_rows *rows, bool has_keys);

int panel_row_height(const struct ui *u);

// Text at the right of r whose digits stand below each other.
void panel_figure(struct ui *u, struct rect r, uint32_t color, const char *text);

// "1.23ms", as the reports have it. Returns text, which has room for PANEL_CELL_MAX.
const char *panel_ns(char *text, int64_t ns);

#endif
