// SPDX-License-Identifier: MIT
//
// See bindings.h.

#include "viewer/bindings.h"

#include <stdio.h>
#include <string.h>

// clang-format off
const struct command commands[] = {
    // --- The timeline.
    {COMMAND_ZOOM_IN, CONTEXT_TIMELINE, true, NULL, {{'w', 0}, {UI_KEY_UP, 0}},
     "Zoom in at the mouse", "zoom in, at the mouse"},
    {COMMAND_ZOOM_OUT, CONTEXT_TIMELINE, true, NULL, {{'s', 0}, {UI_KEY_DOWN, 0}},
     "Zoom out at the mouse", "zoom out, at the mouse"},
    {COMMAND_PAN_LEFT, CONTEXT_TIMELINE, true, NULL, {{'a', 0}, {UI_KEY_LEFT, 0}},
     "Move earlier", "move earlier"},
    {COMMAND_PAN_RIGHT, CONTEXT_TIMELINE, true, NULL, {{'d', 0}, {UI_KEY_RIGHT, 0}},
     "Move later", "move later"},
    {COMMAND_NONE, CONTEXT_TIMELINE, false, "Shift, Ctrl with these", {{0}},
     NULL, "four times as far, a quarter"},
    {COMMAND_ZOOM_IN_MIDDLE, CONTEXT_TIMELINE, false, NULL, {{'+', 0}, {'=', 0}},
     "Zoom in", "zoom in, at the middle"},
    {COMMAND_ZOOM_OUT_MIDDLE, CONTEXT_TIMELINE, false, NULL, {{'-', 0}},
     "Zoom out", "zoom out, at the middle"},
    {COMMAND_NONE, CONTEXT_TIMELINE, false, "wheel; Ctrl, Shift", {{0}},
     NULL, "scroll lanes; zoom, move"},
    {COMMAND_NONE, CONTEXT_TIMELINE, false, "drag, right drag", {{0}},
     NULL, "choose a range, move"},
    {COMMAND_NONE, CONTEXT_TIMELINE, false, "click, double click", {{0}},
     NULL, "choose a span, zoom to it"},
    {COMMAND_FIT, CONTEXT_TIMELINE, false, NULL, {{'f', 0}},
     "Zoom to what is chosen", "zoom to what is chosen"},
    {COMMAND_WHOLE, CONTEXT_TIMELINE, false, NULL, {{'0', 0}},
     "Show the whole trace", "show the whole trace"},
    {COMMAND_SPAN_BEFORE, CONTEXT_TIMELINE, false, NULL, {{',', 0}},
     "Span before", "the span before, on its lane"},
    {COMMAND_SPAN_AFTER, CONTEXT_TIMELINE, false, NULL, {{'.', 0}},
     "Span after", "the span after, on its lane"},
    {COMMAND_LANE_ABOVE, CONTEXT_TIMELINE, false, NULL, {{'k', 0}},
     "Choose on the lane above", "choose on the lane above"},
    {COMMAND_LANE_BELOW, CONTEXT_TIMELINE, false, NULL, {{'j', 0}},
     "Choose on the lane below", "choose on the lane below"},
    {COMMAND_LANE_JUMP, CONTEXT_TIMELINE, false, NULL, {{'v', 0}},
     "Same span on its other lanes", "the same span on its Proc's, thread's, fiber's lane"},
    {COMMAND_WAKER, CONTEXT_TIMELINE, false, NULL, {{'[', 0}},
     "Who woke it", "who woke it, or the span before"},
    {COMMAND_WOKEN, CONTEXT_TIMELINE, false, NULL, {{']', 0}},
     "Whom it woke", "whom it woke, or the span after"},
    {COMMAND_WOKEN_NEXT, CONTEXT_TIMELINE, false, NULL, {{']', UI_ALT}},
     "Next of those woken together", "the next of those woken together"},
    {COMMAND_TO_RANGE, CONTEXT_TIMELINE, false, NULL, {{'r', 0}},
     "Chosen span as range", "the chosen span becomes the range"},
    {COMMAND_MARK, CONTEXT_TIMELINE, false, NULL, {{'m', 0}},
     "Mark", "mark the range, the span, the moment; again: no more"},
    {COMMAND_MARK_NEXT, CONTEXT_TIMELINE, false, NULL, {{'\'', 0}},
     "Next mark", "go to the next mark"},
    {COMMAND_MARKS_CLEAR, CONTEXT_TIMELINE, false, NULL, {{'m', UI_SHIFT}},
     "Take all marks away", "take all marks away"},
    {COMMAND_FILTER, CONTEXT_TIMELINE, false, NULL, {{'/', 0}, {'f', UI_CTRL}, {UI_KEY_F1 + 2, 0}},
     "Find, filter fibers",
     "find text in fibers, regions, tasks, logs, stacks, threads on CPUs; name:text, state:lock, ran>1ms, there>1s"},
    {COMMAND_FOUND_NEXT, CONTEXT_TIMELINE, false, NULL, {{'n', 0}},
     "Next that was found", "go to the next that was found"},
    {COMMAND_FOUND_BEFORE, CONTEXT_TIMELINE, false, NULL, {{'n', UI_SHIFT}},
     "The one found before", "go to the one found before"},
    {COMMAND_SORT, CONTEXT_TIMELINE, false, NULL, {{'o', 0}},
     "Sort fibers", "sort fibers: activity, name, state, label, duration"},
    {COMMAND_GROUPS, CONTEXT_TIMELINE, false, NULL, {{'c', 0}},
     "Close or open all groups", "close or open all groups"},
    {COMMAND_STACKS, CONTEXT_TIMELINE, false, NULL, {{'t', 0}},
     "Show stacks below fibers", "stacks below fibers, over time; again: none"},
    {COMMAND_KERNEL, CONTEXT_TIMELINE, false, NULL, {{'l', 0}},
     "Show the kernel's lanes", "lanes of a kernel trace; again: none"},
    {COMMAND_DELAY_NEXT, CONTEXT_TIMELINE, false, NULL, {{'p', 0}},
     "Next time off the CPU", "next time off the CPU, by a kernel trace"},
    {COMMAND_DELAY_BEFORE, CONTEXT_TIMELINE, false, NULL, {{'p', UI_SHIFT}},
     "Time off the CPU before", "the one before"},
    {COMMAND_LANES_TOP, CONTEXT_TIMELINE, false, NULL, {{UI_KEY_HOME, 0}},
     "First lane", "the first lane"},
    {COMMAND_LANES_BOTTOM, CONTEXT_TIMELINE, false, NULL, {{UI_KEY_END, 0}},
     "Last lane", "the last lane"},

    // --- Panels beneath the timeline. One that has the keyboard looks at keys itself, before the
    // timeline, which has some of them: those are words here.
    {COMMAND_PANEL_FLAME, CONTEXT_PANEL, false, NULL, {{'2', 0}, {'1', UI_ALT}},
     "Flame graph of the range", "flame graph of the range; again: close it"},
    {COMMAND_PANEL_FLAME + 1, CONTEXT_PANEL, false, NULL, {{'3', 0}, {'2', UI_ALT}},
     "Statistics of the range", "statistics of the range"},
    {COMMAND_PANEL_FLAME + 2, CONTEXT_PANEL, false, NULL, {{'4', 0}, {'3', UI_ALT}},
     "Table of fibers", "table of fibers"},
    {COMMAND_PANEL_FLAME + 3, CONTEXT_PANEL, false, NULL, {{'5', 0}, {'4', UI_ALT}},
     "Critical path of the range", "critical path of the range"},
    {COMMAND_PANEL_FLAME + 4, CONTEXT_PANEL, false, NULL, {{'6', 0}, {'5', UI_ALT}},
     "Explain slow regions", "explain slow regions"},
    {COMMAND_PANEL_LATENCY, CONTEXT_PANEL, false, NULL, {{'7', 0}, {'6', UI_ALT}},
     "Latencies of regions and tasks", "latencies of regions and tasks"},
    {COMMAND_PANEL_NONE, CONTEXT_PANEL, false, NULL, {{'0', UI_ALT}},
     "Close the panel", "close the panel"},
    {COMMAND_PANEL_KEYS, CONTEXT_PANEL, false, "click", {{UI_KEY_TAB, 0}},
     "Keyboard to the panel", "give a panel the keyboard, or its next part; Esc gives it back"},
    {COMMAND_NONE, CONTEXT_PANEL, false, "Up Down, Home End; Shift", {{0}},
     NULL, "in it: choose a row; by pages"},
    {COMMAND_NONE, CONTEXT_PANEL, false, "Enter, double click", {{0}},
     NULL, "show that on the timeline, as a range"},
    {COMMAND_NONE, CONTEXT_PANEL, false, "Left Right, O", {{0}},
     NULL, "order rows by another column, turn the order round"},
    {COMMAND_NONE, CONTEXT_PANEL, false, "Left Right; Shift", {{0}},
     NULL, "on a histogram: move the brush; widen it"},
    {COMMAND_NONE, CONTEXT_PANEL, false, "R", {{0}},
     NULL, "explain, latencies: of all of the trace, of the range"},
    {COMMAND_NONE, CONTEXT_PANEL, false, "K", {{0}},
     NULL, "flame graph of CPU samples, blocked, all time"},

    // --- The flame graph.
    {COMMAND_FLAME_IN, CONTEXT_FLAME, false, "click", {{UI_KEY_ENTER, 0}, {'f', 0}},
     "Zoom to the frame", "make a frame as wide as the window"},
    {COMMAND_FLAME_UP, CONTEXT_FLAME, false, NULL, {{UI_KEY_UP, 0}},
     NULL, "walk: the frame above"},
    {COMMAND_FLAME_DOWN, CONTEXT_FLAME, false, NULL, {{UI_KEY_DOWN, 0}},
     NULL, "walk: the frame below; of several the widest"},
    {COMMAND_FLAME_LEFT, CONTEXT_FLAME, false, NULL, {{UI_KEY_LEFT, 0}},
     NULL, "walk: the neighbour to the left"},
    {COMMAND_FLAME_RIGHT, CONTEXT_FLAME, false, NULL, {{UI_KEY_RIGHT, 0}},
     NULL, "walk: the neighbour to the right"},
    {COMMAND_FLAME_PARENT, CONTEXT_FLAME, false, NULL, {{'u', 0}},
     "Zoom out to the parent", "zoom out to the parent"},
    {COMMAND_FLAME_WHOLE, CONTEXT_FLAME, false, NULL, {{'0', 0}},
     "Show the whole profile", "zoom out to everything"},
    {COMMAND_FLAME_FLIP, CONTEXT_FLAME, false, NULL, {{'i', 0}},
     "Turn the flame graph over", "root at the top or at the bottom"},
    {COMMAND_SANDWICH_SIDE, CONTEXT_FLAME, false, NULL, {{UI_KEY_TAB, 0}},
     NULL, "in a sandwich: walk among the callers, the callees"},

    // --- Tables and source.
    {COMMAND_TABLE_UP, CONTEXT_TABLE, false, NULL, {{UI_KEY_UP, 0}},
     NULL, "the row above"},
    {COMMAND_TABLE_DOWN, CONTEXT_TABLE, false, NULL, {{UI_KEY_DOWN, 0}},
     NULL, "the row below"},
    {COMMAND_TABLE_PAGE_UP, CONTEXT_TABLE, false, NULL, {{UI_KEY_UP, UI_SHIFT}},
     NULL, "a page up"},
    {COMMAND_TABLE_PAGE_DOWN, CONTEXT_TABLE, false, NULL, {{UI_KEY_DOWN, UI_SHIFT}},
     NULL, "a page down"},
    {COMMAND_TABLE_FIRST, CONTEXT_TABLE, false, NULL, {{UI_KEY_HOME, 0}},
     NULL, "the first row"},
    {COMMAND_TABLE_LAST, CONTEXT_TABLE, false, NULL, {{UI_KEY_END, 0}},
     NULL, "the last row"},
    {COMMAND_TABLE_ENTER, CONTEXT_TABLE, false, "double click", {{UI_KEY_ENTER, 0}},
     NULL, "top: focus on the function; tree: open; source: to what was inlined"},
    {COMMAND_TABLE_SORT, CONTEXT_TABLE, false, "click on a title", {{'s', 0}},
     "Sort by the next column", "sort by the next column"},
    {COMMAND_TABLE_REVERSE, CONTEXT_TABLE, false, NULL, {{'s', UI_SHIFT}},
     "Reverse the order", "the other way round"},
    {COMMAND_TREE_OPEN, CONTEXT_TABLE, false, NULL, {{UI_KEY_RIGHT, 0}},
     NULL, "call tree: open, then into it"},
    {COMMAND_TREE_CLOSE, CONTEXT_TABLE, false, NULL, {{UI_KEY_LEFT, 0}},
     NULL, "call tree: close, then to the caller"},
    {COMMAND_TREE_PATH, CONTEXT_TABLE, false, NULL, {{'l', 0}},
     "Open the heaviest path", "call tree: open the heaviest path"},
    {COMMAND_SOURCE_FILE, CONTEXT_SOURCE, false, NULL, {{'n', 0}},
     "Next file of the function", "the next file that the function is in"},

    // --- All views of a profile.
    // A view has its digit in its struct view; add a row with the view.
    {COMMAND_VIEW_1 + 1, CONTEXT_PROFILE, false, NULL, {{'2', 0}},
     "Show the flame graph", "the flame graph"},
    {COMMAND_VIEW_1 + 2, CONTEXT_PROFILE, false, NULL, {{'3', 0}},
     "Show the sandwich", "the chosen function, its callers and callees"},
    {COMMAND_VIEW_1 + 3, CONTEXT_PROFILE, false, NULL, {{'4', 0}},
     "Show the top functions", "the table of functions"},
    {COMMAND_VIEW_1 + 4, CONTEXT_PROFILE, false, NULL, {{'5', 0}},
     "Show the call tree", "the call tree"},
    {COMMAND_VIEW_1 + 5, CONTEXT_PROFILE, false, NULL, {{'6', 0}},
     "Show the source", "the source of the chosen function"},
    {COMMAND_TYPE_AFTER, CONTEXT_PROFILE, false, NULL, {{'t', 0}},
     "Next sample type", "the next sample type"},
    {COMMAND_TYPE_BEFORE, CONTEXT_PROFILE, false, NULL, {{'t', UI_SHIFT}},
     "Sample type before", "the sample type before"},
    {COMMAND_INVERT, CONTEXT_PROFILE, false, NULL, {{'v', 0}},
     "Leaves or roots first", "leaves first, roots first"},
    {COMMAND_REFINE, CONTEXT_PROFILE, false, NULL, {{'r', 0}},
     "Write a refinement", "write a refinement: focus=, ignore=, hide=, show=REGEX"},
    {COMMAND_FOCUS, CONTEXT_PROFILE, false, NULL, {{'f', UI_SHIFT}},
     "Focus on the function", "only stacks with the chosen function"},
    {COMMAND_IGNORE, CONTEXT_PROFILE, false, NULL, {{'i', UI_SHIFT}},
     "Ignore the function", "no stacks with the chosen function"},
    {COMMAND_HIDE, CONTEXT_PROFILE, false, NULL, {{'h', UI_SHIFT}},
     "Hide the function", "leave the chosen function out of stacks"},
    {COMMAND_SHOW, CONTEXT_PROFILE, false, NULL, {{'o', UI_SHIFT}},
     "Show only the function", "leave all other functions out of stacks"},

    // --- All views.
    {COMMAND_SEARCH, CONTEXT_PROFILE, false, NULL, {{'/', 0}, {'f', UI_CTRL}, {UI_KEY_F1 + 2, 0}},
     "Search", "search; Esc ends it"},
    {COMMAND_UNDO, CONTEXT_ANY, false, NULL, {{'z', UI_CTRL}, {UI_KEY_BACKSPACE, 0}},
     "Undo", "undo zooming, a refinement"},
    {COMMAND_REDO, CONTEXT_ANY, false, NULL, {{'y', UI_CTRL}, {'z', UI_CTRL | UI_SHIFT}},
     "Redo", "do again what was undone"},
    {COMMAND_CANCEL, CONTEXT_ANY, false, NULL, {{UI_KEY_ESCAPE, 0}},
     "Choose nothing", "choose nothing"},

    // --- The program.
    {COMMAND_VIEW_1, CONTEXT_ANY, false, NULL, {{'1', 0}},
     "Show the timeline", "the timeline; closes a panel"},
    {COMMAND_PALETTE, CONTEXT_ANY, false, NULL, {{'p', UI_CTRL}, {':', 0}},
     NULL, "find a command by its name"},
    {COMMAND_HELP, CONTEXT_ANY, false, NULL, {{'?', 0}},
     "Show the keys", "this help"},
    {COMMAND_OPEN, CONTEXT_ANY, false, "drop a file", {{'o', UI_CTRL}},
     "Open a file", "open a file or an address"},
    {COMMAND_FILE_AFTER, CONTEXT_ANY, false, NULL, {{UI_KEY_TAB, UI_CTRL}},
     "Next file", "the next file"},
    {COMMAND_FILE_BEFORE, CONTEXT_ANY, false, NULL, {{UI_KEY_TAB, UI_CTRL | UI_SHIFT}},
     "File before", "the file before"},
    {COMMAND_FILE_CLOSE, CONTEXT_ANY, false, NULL, {{UI_KEY_F1 + 3, UI_CTRL}},
     "Close the file", "close the file"},
    {COMMAND_EXPORT, CONTEXT_ANY, false, NULL, {{'e', UI_CTRL}},
     "Save the picture as PNG and SVG", "save the picture as PNG and SVG"},
    {COMMAND_COPY, CONTEXT_ANY, false, NULL, {{'c', UI_CTRL}},
     "Copy as text", "copy what is written in the window"},
    {COMMAND_LARGER, CONTEXT_ANY, false, NULL, {{'=', UI_CTRL}, {'+', UI_CTRL}},
     "Larger letters", "larger letters"},
    {COMMAND_SMALLER, CONTEXT_ANY, false, NULL, {{'-', UI_CTRL}},
     "Smaller letters", "smaller letters"},
    {COMMAND_NORMAL_SIZE, CONTEXT_ANY, false, NULL, {{'0', UI_CTRL}},
     "Letters of normal size", "letters of normal size"},
    {COMMAND_THEME, CONTEXT_ANY, false, NULL, {{UI_KEY_F1 + 1, 0}},
     "Dark or light", "dark, light"},
    {COMMAND_FULL_SCREEN, CONTEXT_ANY, false, NULL, {{UI_KEY_F1 + 10, 0}},
     "Full screen", "full screen"},
    {COMMAND_FRAME_TIME, CONTEXT_ANY, false, NULL, {{UI_KEY_F1 + 11, 0}},
     "Show how long frames take", "how long the last frame took"},
    {COMMAND_QUIT, CONTEXT_ANY, false, NULL, {{'q', UI_CTRL}},
     "Quit", "quit"},
    {0},
};
// clang-format on

static const char *const groups[CONTEXT_COUNT] = {"Everywhere", "Timeline", "Flame graph", "Tables",
                                                  "Source",     "Profiles", "Panels"};

const struct command *command_of(enum command_id id)
{
    for (const struct command *c = commands; c->help; c++)
        if (c->id == id)
            return c;
    return NULL;
}

// The stride at which these modifiers are those of the key; 0 if they are not.
static double stride_of(const struct command *c, const struct command_key *k, unsigned mods)
{
    // '?' or '+' need Shift on some keyboards, not on others.
    bool letter = (k->code >= 'a' && k->code <= 'z') || k->code >= UI_KEY_LEFT;
    unsigned had = letter ? mods : mods & ~(unsigned)UI_SHIFT;
    if (had == k->mods)
        return 1;
    if (!c->strides || k->mods)
        return 0;
    return had == UI_SHIFT ? 4 : had == UI_CTRL ? 0.25 : 0;
}

static double given(const struct ui *u, const struct command *c)
{
    if (u->event.kind != UI_KEY)
        return 0;
    if (u->focus && !(c->contexts & CONTEXT_ANY && u->event.mods & UI_CTRL))
        return 0;
    for (int i = 0; i < COMMAND_KEYS && c->keys[i].code; i++) {
        double stride =
            c->keys[i].code == u->event.key ? stride_of(c, &c->keys[i], u->event.mods) : 0;
        if (stride > 0)
            return stride;
    }
    return 0;
}

bool command_given(struct ui *u, enum command_id id)
{
    if (u->command == id && id != COMMAND_NONE) {
        u->command = COMMAND_NONE;
        u->stride = 1;
        return true;
    }
    const struct command *c = command_of(id);
    double stride = c ? given(u, c) : 0;
    if (!(stride > 0))
        return false;
    u->stride = stride;
    u->event.kind = UI_NONE;
    return true;
}

const char *command_group(const struct command *c)
{
    for (int i = 0; i < CONTEXT_COUNT; i++)
        if (c->contexts & 1u << i)
            return groups[i];
    return groups[0];
}

static const char *const key_names[] = {"Left",  "Right", "Up",        "Down",   "Home", "End",
                                        "Enter", "Esc",   "Backspace", "Delete", "Tab"};

static void add(char *buf, const char *text)
{
    size_t n = strlen(buf);
    snprintf(buf + n, COMMAND_KEYS_TEXT - n, "%s", text);
}

static void add_key(char *buf, const struct command_key *k)
{
    char one[16] = {k->code >= 'a' && k->code <= 'z' ? (char)(k->code - 'a' + 'A') : (char)k->code};
    add(buf, k->mods & UI_CTRL ? "Ctrl+" : "");
    add(buf, k->mods & UI_ALT ? "Alt+" : "");
    add(buf, k->mods & UI_SHIFT ? "Shift+" : "");
    if (k->code >= UI_KEY_F1)
        snprintf(one, sizeof one, "F%u", k->code - UI_KEY_F1 + 1);
    add(buf,
        k->code >= UI_KEY_LEFT && k->code < UI_KEY_F1 ? key_names[k->code - UI_KEY_LEFT] : one);
}

const char *command_keys(const struct command *c, char buf[COMMAND_KEYS_TEXT])
{
    snprintf(buf, COMMAND_KEYS_TEXT, "%s", c->mouse ? c->mouse : "");
    for (int i = 0; i < COMMAND_KEYS && c->keys[i].code; i++) {
        add(buf, *buf ? "  " : "");
        add_key(buf, &c->keys[i]);
    }
    return buf;
}

static uint32_t code_of(const char *name)
{
    unsigned number;
    char more;
    for (size_t i = 0; i < sizeof key_names / sizeof key_names[0]; i++)
        if (!strcmp(name, key_names[i]))
            return UI_KEY_LEFT + (uint32_t)i;
    if (sscanf(name, "F%2u%c", &number, &more) == 1 && number >= 1 && number <= 12)
        return UI_KEY_F1 + number - 1;
    if (!name[0] || name[1] || name[0] <= ' ' || name[0] > '~')
        return 0;
    return (uint32_t)(name[0] >= 'A' && name[0] <= 'Z' ? name[0] - 'A' + 'a' : name[0]);
}

bool command_key_read(const char *text, struct command_key *k)
{
    static const struct {
        const char *name;
        unsigned mod;
    } mods[] = {{"Ctrl+", UI_CTRL}, {"Alt+", UI_ALT}, {"Shift+", UI_SHIFT}};
    *k = (struct command_key){0};
    for (size_t i = 0; i < sizeof mods / sizeof mods[0]; i++) {
        size_t n = strlen(mods[i].name);
        if (strncmp(text, mods[i].name, n) != 0)
            continue;
        k->mods |= (uint8_t)mods[i].mod;
        text += n;
    }
    k->code = code_of(text);
    return k->code;
}
