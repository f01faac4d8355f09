// SPDX-License-Identifier: MIT
//
// One opened file and what its views have in common.

#ifndef FIBERSCOPE_VIEWER_DOCUMENT_H
#define FIBERSCOPE_VIEWER_DOCUMENT_H

#include "viewer/kernel_model.h"
#include "viewer/profile_model.h"
#include "viewer/trace_model.h"
#include "viewer/view.h"

struct load;

struct document {
    struct trace_model *trace;     // NULL: none; both are NULL until the file is read
    struct kernel_model *kernel;   // beside the trace; NULL: none
    struct profile_model *profile; // of a trace: of a part of it, once a view has made it
    struct profile_file *file;     // of the profile; NULL: a trace's
    struct profiles *profiles;     // what its views share (views/profiles.h); NULL: not yet
    char *path;
    char title[300];
    char missing[640];       // what of the file is not there, a sentence; "": nothing
    struct load *loading;    // while it is read
    char error[384];         // why it could not be read
    const char *sample_type; // of a profile; NULL: its own choice
    bool inverted;

    // Of the command line: views take them when they are opened.
    struct document_range {
        double begin_ns, end_ns; // since the trace began
    } shown;                     // empty: everything
    const char *search;          // NULL: nothing
    const char *instances;       // regions or tasks of this name; NULL
    bool are_tasks;
    const char *function;      // of a profile: to be chosen; NULL
    const char *const *refine; // of a profile, by refine_kind; NULLs: nothing
    const char *source_path;   // see views/source.h; NULL: the working folder

    // Chosen in one view, valid in all.
    struct document_range range; // empty: nothing
    uint32_t fiber;              // lane of trace->spans; UINT32_MAX: none

    bool failed; // a view had no memory: its picture is not whole

    // A view asks for another one by its id (view.h); taken at the end of the frame.
    const char *wanted;

    // As in load.h, for threads of views; NULL: there is no window.
    void (*wake)(void *wake_context);
    void *wake_context;

    int view;                // in views[]; what is shown
    void *states[VIEWS_MAX]; // by view, made when first shown
};

#endif
