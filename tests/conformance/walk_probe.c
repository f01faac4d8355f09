// SPDX-License-Identifier: MIT
//
// The other half of gdb_stops.py: walks a stopped process from outside with unwind/'s remote walker.
//
//   walk_probe PID            reads lines "rip rbp rsp rax rdx rcx rbx rsi rdi r8 ... r15" (hex) and
//                             answers each with "end pc pc pc ..." (end: enum unwind_end)
//   walk_probe timer USEC COMMAND ...   runs COMMAND with a profiling timer (it survives exec), stdout closed

#include "unwind/unwind.h"

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { MODULES_MAX = 256, DEPTH_MAX = 4096, SEGMENT_MAX = 64 << 20 };

struct module {
    uint64_t start, end;
    struct unwind_tables tables; // eh_frame.size 0: none
};

static struct module modules[MODULES_MAX];
static unsigned module_count;
static int mem;
static const char *pid;

static bool read_at(uint64_t address, void *to, size_t size)
{
    return pread(mem, to, size, (off_t)address) == (ssize_t)size;
}

// The segment that holds .eh_frame_hdr is copied whole: .eh_frame follows in it.
static void load_tables(struct module *m)
{
    Elf64_Ehdr eh;
    Elf64_Phdr ph[64];
    uint64_t bias = UINT64_MAX, header = 0;
    if (!read_at(m->start, &eh, sizeof eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
        eh.e_phnum > 64 || !read_at(m->start + eh.e_phoff, ph, eh.e_phnum * sizeof ph[0]))
        return;
    for (int i = 0; i < eh.e_phnum; i++) {
        if (ph[i].p_type == PT_LOAD && bias == UINT64_MAX)
            bias = m->start - (ph[i].p_vaddr & ~UINT64_C(4095));
        if (ph[i].p_type == PT_GNU_EH_FRAME)
            header = ph[i].p_vaddr;
    }
    for (int i = 0; header && i < eh.e_phnum; i++) {
        if (ph[i].p_type != PT_LOAD || header < ph[i].p_vaddr ||
            header - ph[i].p_vaddr >= ph[i].p_filesz || ph[i].p_filesz > SEGMENT_MAX)
            continue;
        uint64_t skip = header - ph[i].p_vaddr, size = ph[i].p_filesz - skip;
        uint8_t *data = malloc(size);
        int32_t to_frame;
        if (!data || !read_at(bias + header, data, size) || size < 8 || data[1] != 0x1b)
            return;
        memcpy(&to_frame, data + 4, sizeof to_frame);
        uint64_t frame = (uint64_t)(4 + (int64_t)to_frame);
        if (frame >= size)
            return;
        m->tables.eh_frame_hdr = (struct unwind_section){data, size, bias + header};
        m->tables.eh_frame =
            (struct unwind_section){data + frame, size - frame, bias + header + frame};
    }
}

static struct module *find_module(uint64_t pc)
{
    for (unsigned i = 0; i < module_count; i++)
        if (pc >= modules[i].start && pc < modules[i].end)
            return &modules[i];
    return NULL;
}

// Looks at the process' mappings again, for a pc that is in no module yet.
static void read_maps(void)
{
    char path[64], line[4608], name[4096], last[4096] = "";
    snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    struct module *m = NULL;
    while (fgets(line, sizeof line, f)) {
        uint64_t start, end, offset;
        name[0] = 0;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %4095[^\n]", &start, &end,
                   &offset, name) < 3 ||
            !name[0])
            continue;
        if (m && !strcmp(name, last)) {
            m->end = end;
            continue;
        }
        m = NULL;
        if (offset != 0 || (name[0] != '/' && strcmp(name, "[vdso]")))
            continue;
        snprintf(last, sizeof last, "%s", name);
        m = find_module(start);
        if (!m && module_count < MODULES_MAX) {
            m = &modules[module_count++];
            *m = (struct module){.start = start};
            load_tables(m);
        }
        if (m)
            m->end = end;
    }
    fclose(f);
}

static int tables_at(void *arg, uint64_t pc, struct unwind_tables *out)
{
    (void)arg;
    struct module *m = find_module(pc);
    if (!m) {
        read_maps();
        m = find_module(pc);
    }
    if (!m || !m->tables.eh_frame.size)
        return -1;
    *out = m->tables;
    return 0;
}

static int read_word(void *arg, uint64_t address, uint64_t *value)
{
    (void)arg;
    return !read_at(address, value, sizeof *value);
}

static bool read_registers(struct unwind_registers *r)
{
    static const uint8_t order[] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15};
    if (scanf("%" SCNx64 " %" SCNx64 " %" SCNx64, &r->rip, &r->rbp, &r->rsp) != 3)
        return false;
    for (unsigned i = 0; i < sizeof order; i++)
        if (scanf("%" SCNx64, &r->other[order[i]]) != 1)
            return false;
    r->valid = 0xff3f;
    return true;
}

static int run_with_timer(char **argv)
{
    struct itimerval every = {{0, atoi(argv[0])}, {0, 100000}};
    setitimer(ITIMER_PROF, &every, NULL);
    if (!freopen("/dev/null", "w", stdout))
        return 127;
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}

int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "timer"))
        return run_with_timer(argv + 2);
    if (argc != 2)
        return 2;
    char path[64];
    pid = argv[1];
    snprintf(path, sizeof path, "/proc/%s/mem", pid);
    mem = open(path, O_RDONLY | O_CLOEXEC);
    if (mem < 0) {
        perror(path);
        return 1;
    }
    struct unwind_registers r;
    while (read_registers(&r)) {
        static uint64_t pcs[DEPTH_MAX];
        enum unwind_end end;
        struct unwind_remote remote = {.read = read_word, .tables = tables_at};
        uint32_t n = unwind_walk_remote(&remote, &r, pcs, DEPTH_MAX, &end);
        printf("%d", (int)end);
        for (uint32_t i = 0; i < n; i++)
            printf(" %" PRIx64, pcs[i]);
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
