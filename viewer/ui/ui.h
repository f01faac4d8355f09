// SPDX-License-Identifier: MIT
//
// Immediate-mode widgets over a display list.
//
// A frame is a function of the program's state and of at most one event: ui_begin, the views and
// widgets, ui_end. A window runs one frame for each event and shows the last; a test does the same
// without a window. Widgets say in the frame itself what the user did with them.
//
// A widget has an id (ui_id of a name and a number), which must be the same from frame to frame.
// `hot` is under the mouse, `active` is held by a button, `focus` has the keyboard. A widget that
// lies over others is asked first. An event that a widget uses up is seen by none after it.

#ifndef FIBERSCOPE_VIEWER_UI_UI_H
#define FIBERSCOPE_VIEWER_UI_UI_H

#include "viewer/ui/draw.h"
#include "viewer/ui/theme.h"

enum ui_event_kind { UI_NONE, UI_MOVE, UI_PRESS, UI_RELEASE, UI_WHEEL, UI_KEY, UI_TEXT, UI_LEAVE };
enum ui_button { UI_LEFT, UI_MIDDLE, UI_RIGHT, UI_BUTTONS };
enum { UI_SHIFT = 1, UI_CTRL = 2, UI_ALT = 4 };

enum ui_key { // others are their character: 'a' (never 'A'), '0', '/'
    UI_KEY_LEFT = 0x110000,
    UI_KEY_RIGHT,
    UI_KEY_UP,
    UI_KEY_DOWN,
    UI_KEY_HOME,
    UI_KEY_END,
    UI_KEY_ENTER,
    UI_KEY_ESCAPE,
    UI_KEY_BACKSPACE,
    UI_KEY_DELETE,
    UI_KEY_TAB,
    UI_KEY_F1, // F2 and so on follow
};

struct ui_event {
    uint8_t kind;   // ui_event_kind
    uint8_t button; // PRESS, RELEASE
    uint8_t clicks; // PRESS: 2 is a double click
    uint8_t mods;
    int x, y;      // MOVE, PRESS, RELEASE, WHEEL
    int dx, dy;    // WHEEL: steps to the right, upwards; 120 is one notch
    uint32_t key;  // KEY
    char text[16]; // TEXT: UTF-8
};

struct ui {
    // Set by the program.
    struct theme theme;
    const struct font *font, *mono;

    // Of the frame.
    struct draw_list *list;
    struct ui_event event; // kind UI_NONE once it is used up
    int line;              // height of a row of text with air
    int pad;               // between things

    // From frame to frame.
    int mouse_x, mouse_y;
    int press_x, press_y; // where the button went down
    bool inside;          // the mouse is in the window
    uint8_t down;         // bits by ui_button
    uint64_t active, focus;
    uint32_t caret; // bytes, in the field that has the focus
    char tip[1024]; // of this frame
    bool again;     // something changes without an event: draw another frame

    // Movement: the clock, and whether something moves and wants a frame soon. Without a clock (0,
    // as in pictures and tests) nothing moves: all is at once where it goes.
    int64_t now_ms;
    bool moves;
    bool at_once; // this frame is saved: nothing moves, and what is slow is waited for

    // What levels of detail have taken in all frames so far: rows' pixels, and the lists of them. Views add to it.
    int64_t lod_ns;

    // Of commands (bindings.h).
    uint16_t command; // given by the palette; 0: none
    double stride;    // of the last command given: 1, 4 or 0.25
};

enum { // what ui_hit says
    UI_HOT = 1,
    UI_PRESSED = 2, // the left button went down on it
    UI_HELD = 4,    // it is down since it went down on it
    UI_CLICKED = 8, // up again, on it
    UI_DOUBLE = 16, // with PRESSED: the second time
};

int64_t ui_clock_ns(void); // CLOCK_MONOTONIC

void ui_begin(struct ui *u, struct draw_list *list, const struct ui_event *event);
void ui_end(struct ui *u); // draws the tool tip

uint64_t ui_id(const char *name, uint64_t number);

// Whether the mouse is in the rectangle, within the clip in force.
bool ui_inside(const struct ui *u, struct rect r);
unsigned ui_hit(struct ui *u, uint64_t id, struct rect r);

// The key was pressed, with exactly these modifiers (UI_SHIFT does not matter for characters that
// are no letters); no field has the focus. Uses it up.
bool ui_key(struct ui *u, uint32_t key, unsigned mods);

// --- Widgets. Rectangles are all of the widget.

void ui_label(struct ui *u, struct rect r, uint32_t color, const char *text); // left, with ellipsis
// The same, nothing where only a letter or two would fit: what many boxes have.
void ui_name(struct ui *u, struct rect r, uint32_t color, const char *text);
void ui_label_right(struct ui *u, struct rect r, uint32_t color, const char *text);
bool ui_button(struct ui *u, uint64_t id, struct rect r, const char *text, bool on); // clicked
int ui_button_width(const struct ui *u, const char *text);

// Which of count tabs is chosen, from the left; *width becomes what they take.
int ui_tabs(struct ui *u, uint64_t id, struct rect r, const char *const *names, int count,
            int chosen, int *width);

// A bar at the right of r for content of that height, with the wheel over r. *offset: pixels from
// the content's top, kept within it. What is left of r for the content.
struct rect ui_scroll(struct ui *u, uint64_t id, struct rect r, int content, int *offset);

// One line of text to edit. `hint` stands in it while it is empty. True if the text changed. Enter
// and Escape take the focus away and are left for the caller.
bool ui_field(struct ui *u, uint64_t id, struct rect r, char *text, size_t size, const char *hint);

// Text beside the mouse at the end of the frame, over everything; lines by '\n'. The first line is
// bright.
void ui_tip(struct ui *u, const char *text);

#endif
