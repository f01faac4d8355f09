// SPDX-License-Identifier: MIT
//
// A program that serves itself: sidecar_target ADDRESS. Each line on its standard input is a wish: "serve" calls
// fscope_serve, "wait" says what waitpid finds, "quit" ends it. Answers are lines.

#include "fiberscope/profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    char line[64];
    (void)argc;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (!strcmp(line, "serve")) {
            printf("%d\n", fscope_serve(argv[1]));
        } else if (!strcmp(line, "wait")) {
            pid_t pid = waitpid(-1, NULL, WNOHANG);
            printf("%s\n", pid < 0 && errno == ECHILD ? "none" : "some");
        } else {
            break;
        }
        fflush(stdout);
    }
    return 0;
}
