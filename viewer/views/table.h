// SPDX-License-Identifier: MIT
//
// A table of any number of rows, of which those in sight are asked for and drawn.
//
// The first line names the columns; a click on a name sorts by it, another turns the order round.
// What sorting means is the owner's business: the table says that it is wanted.

#ifndef FIBERSCOPE_VIEWER_VIEWS_TABLE_H
#define FIBERSCOPE_VIEWER_VIEWS_TABLE_H

#include "viewer/ui/ui.h"

enum { TABLE_COLUMNS_MAX = 8 };

struct table_column {
    const char *title;
    int letters;  // wide; 0: what is left, for one column
    bool is_text; // to the left; else a figure
    bool sortable;
};

struct table_cell {
    char text[512];
    uint32_t color; // 0: the theme's
    double bar;     // 0 to 1: how much of the cell is tinted, from the left
    uint32_t bar_color;
    int indent;  // steps
    bool mono;   // letters of one width
    int8_t fold; // -1: closed, 1: open, with a triangle before the text
};

struct table {
    const char *name; // for ids
    uint32_t chosen;  // row
    int scroll;       // pixels
    int sort;         // column
    bool reversed;

    uint32_t reveal; // row + 1 to bring into sight in the next frame; 0: none
    int above;       // rows that are then to stand over it; -1: as little scrolling as can be

    // Of the frame.
    struct rect body;
    int row;
};

enum { TABLE_CHOSE = 1, TABLE_SORTED = 2, TABLE_OPENED = 4 }; // opened: Enter or a double click

// A frame. `cell` fills one in: zeroed when it is called. What the user did.
unsigned table_frame(struct table *t, struct ui *u, struct rect r, const struct table_column *c,
                     int columns, uint32_t rows,
                     void (*cell)(void *view, const struct ui *u, uint32_t row, int column,
                                  struct table_cell *out),
                     void *view);

// Scrolls so that a row is in sight in the next frame: as little as can be (above -1), or with that
// many rows over it.
void table_show(struct table *t, uint32_t row, int above);

#endif
