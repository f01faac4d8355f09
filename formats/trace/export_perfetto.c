// SPDX-License-Identifier: MIT
//
// Perfetto's protobuf (perfetto/trace/trace.proto): packets of track descriptors and track events.
// Viewers sort packets by time, so they are written as things end.

#include "formats/trace/export_sink.h"
#include "formats/trace/leb.h"

#include <string.h>

enum { // field numbers
    TRACE_PACKET = 1,
    PACKET_TIMESTAMP = 8,
    PACKET_SEQUENCE_ID = 10,
    PACKET_TRACK_EVENT = 11,
    PACKET_TRACK_DESCRIPTOR = 60,
    DESCRIPTOR_UUID = 1,
    DESCRIPTOR_NAME = 2,
    DESCRIPTOR_PARENT = 5,
    DESCRIPTOR_COUNTER = 8,
    EVENT_TYPE = 9,
    EVENT_TRACK = 11,
    EVENT_NAME = 23,
    EVENT_COUNTER = 30,
    EVENT_FLOWS = 47,
    EVENT_FLOWS_END = 48,
};
enum { SLICE_BEGIN = 1, SLICE_END, INSTANT, COUNTER };
enum { WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES };
enum { MESSAGE_MAX = 1500, NAME_MAX_BYTES = 1024 };

static const char *const kind_names[EXPORT_KINDS] = {"", "Procs", "Fibers", "Regions", "Tasks"};

struct message {
    unsigned char bytes[MESSAGE_MAX];
    size_t used;
};

static void put_varint(struct message *m, uint64_t v)
{
    m->used = (size_t)(leb_write(m->bytes + m->used, v) - m->bytes);
}

static void put_number(struct message *m, unsigned field, uint64_t v)
{
    put_varint(m, field << 3 | WIRE_VARINT);
    put_varint(m, v);
}

static void put_fixed(struct message *m, unsigned field, uint64_t v)
{
    put_varint(m, field << 3 | WIRE_FIXED64);
    for (int i = 0; i < 8; i++)
        m->bytes[m->used++] = (unsigned char)(v >> (8 * i));
}

static void put_bytes(struct message *m, unsigned field, const void *bytes, size_t n)
{
    put_varint(m, field << 3 | WIRE_BYTES);
    put_varint(m, n);
    memcpy(m->bytes + m->used, bytes, n);
    m->used += n;
}

static void put_name(struct message *m, unsigned field, const char *name)
{
    put_bytes(m, field, name, strnlen(name, NAME_MAX_BYTES));
}

static uint64_t uuid(struct export_track t)
{
    return (uint64_t)t.kind << 56 | ((uint64_t)t.id & UINT64_C(0xffffffffffffff));
}

static void write_packet(struct export_out *o, const struct message *packet)
{
    struct message head = {.used = 0};
    put_varint(&head, TRACE_PACKET << 3 | WIRE_BYTES);
    put_varint(&head, packet->used);
    export_put(o, head.bytes, head.used);
    export_put(o, packet->bytes, packet->used);
}

static void write_descriptor(struct export_out *o, uint64_t id, uint64_t parent, const char *name,
                             bool is_counter)
{
    struct message d = {.used = 0}, packet = {.used = 0};
    put_number(&d, DESCRIPTOR_UUID, id);
    put_name(&d, DESCRIPTOR_NAME, name);
    if (parent)
        put_number(&d, DESCRIPTOR_PARENT, parent);
    if (is_counter)
        put_bytes(&d, DESCRIPTOR_COUNTER, "", 0);
    put_number(&packet, PACKET_SEQUENCE_ID, 1); // some readers drop descriptors without
    put_bytes(&packet, PACKET_TRACK_DESCRIPTOR, d.bytes, d.used);
    write_packet(o, &packet);
}

static void write_event(struct export_out *o, int64_t at_ns, const struct message *event)
{
    struct message packet = {.used = 0};
    put_number(&packet, PACKET_TIMESTAMP, (uint64_t)at_ns);
    put_number(&packet, PACKET_SEQUENCE_ID, 1);
    put_bytes(&packet, PACKET_TRACK_EVENT, event->bytes, event->used);
    write_packet(o, &packet);
}

static struct message event_of(unsigned type, uint64_t track, const char *name)
{
    struct message e = {.used = 0};
    put_number(&e, EVENT_TYPE, type);
    put_number(&e, EVENT_TRACK, track);
    if (name)
        put_name(&e, EVENT_NAME, name);
    return e;
}

static void begin(struct export_out *o)
{
    for (int k = EXPORT_PROC; k < EXPORT_KINDS; k++)
        write_descriptor(o, (uint64_t)k, 0, kind_names[k], false);
}

static void end(struct export_out *o)
{
    (void)o;
}

static void track(struct export_out *o, struct export_track t, const char *name)
{
    write_descriptor(o, uuid(t), (uint64_t)t.kind, name, false);
}

static void slice(struct export_out *o, struct export_track t, const char *name, int64_t begin_ns,
                  int64_t end_ns, uint64_t flow)
{
    struct message e = event_of(SLICE_BEGIN, uuid(t), name);
    if (flow)
        put_fixed(&e, EVENT_FLOWS_END, flow);
    write_event(o, begin_ns, &e);
    e = event_of(SLICE_END, uuid(t), NULL);
    write_event(o, end_ns, &e);
}

static void mark(struct export_out *o, struct export_track t, const char *name, int64_t at_ns)
{
    struct message e = event_of(INSTANT, uuid(t), name);
    write_event(o, at_ns, &e);
}

static void wake(struct export_out *o, struct export_track t, int64_t at_ns, uint64_t flow)
{
    struct message e = event_of(INSTANT, uuid(t), "wake");
    put_fixed(&e, EVENT_FLOWS, flow);
    write_event(o, at_ns, &e);
}

static void counter(struct export_out *o, const char *name, int64_t at_ns, uint64_t value)
{
    uint64_t id = UINT64_C(0xff) << 56; // the heap is the only counter
    struct message e = event_of(COUNTER, id, NULL);
    if (!o->any) // it is described when it is first needed
        write_descriptor(o, id, 0, name, true);
    o->any = true;
    put_number(&e, EVENT_COUNTER, value);
    write_event(o, at_ns, &e);
}

const struct export_sink export_perfetto = {.begin = begin,
                                            .end = end,
                                            .track = track,
                                            .slice = slice,
                                            .mark = mark,
                                            .wake = wake,
                                            .counter = counter};
