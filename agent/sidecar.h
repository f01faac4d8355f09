// SPDX-License-Identifier: MIT
//
// `fiberscope serve` beside this process: started by it, outside of it.
//
// What always holds
//   - It is no child that the program could meet: its parent starts it and has gone before the program runs on, and was
//     never one that waitpid gives without __WALL. (A program that is process 1 becomes its parent all the same.)
//   - It has none of the program's descriptors but stdout and stderr, no LD_PRELOAD and none of FIBERSCOPE's settings.
//   - It ends with this process, and may be killed at any time.
//
// [normal context; no fork handlers run, nothing is allocated]

#ifndef FIBERSCOPE_AGENT_SIDECAR_H
#define FIBERSCOPE_AGENT_SIDECAR_H

// Starts it. 0; -ENOENT: there is no `fiberscope` beside the library, in its installation, or in PATH; what clone
// says. That it cannot listen there, it says itself, on stderr.
int sidecar_start(const char *address);

#endif
