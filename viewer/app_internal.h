// SPDX-License-Identifier: MIT
//
// What the parts of the program share.

#ifndef FIBERSCOPE_VIEWER_APP_INTERNAL_H
#define FIBERSCOPE_VIEWER_APP_INTERNAL_H

#include "viewer/app.h"
#include "viewer/load.h"

// --- app_document.c

// kernel: the trace of the kernel that is shown beside it; NULL: the one of its name, if there is one.
int document_open(struct document **out, const struct app_options *o, const char *path,
                  const char *kernel, struct fscope_error *err);
void document_close(struct document *d);  // accepts NULL
void document_cancel(struct document *d); // reads no more: the part that there is stays

// Takes what its thread has read, if it is done.
void document_poll(struct document *d, const struct app_options *o);

unsigned document_kind(const struct document *d);   // VIEW_ bits; 0 while it is read
unsigned document_digits(const struct document *d); // bits of its views' digits
int document_show(struct document *d, int view);    // 0 or -errno

// --- app_bar.c

// Tabs of files and views above; what is left of r.
struct rect bar_draw(struct app *a, struct rect r);

// In place of a view: how far reading is, or why it went wrong.
void bar_loading(struct app *a, struct document *d, struct rect r);
void bar_nothing(struct app *a, struct rect r);

// Over all: the path to open, a note below.
void bar_prompt(struct app *a, struct rect r);
void bar_note(struct app *a, struct rect r);

// --- app_export.c

void export_picture(struct app *a); // PNG and SVG beside each other; a note says where
void export_words(struct app *a);   // for the clipboard

#endif
