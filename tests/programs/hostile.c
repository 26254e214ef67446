/* hostile N --tag T [--exit CODE]: N processes that are hard to end. Each is double-forked, leads a
 * session of its own, ignores every signal that can be ignored, clears its death signal; some spin,
 * some have stopped themselves. Prints "ready N" when all are up, then exits or waits for ever.
 * The tag is in every command line, so that a survivor can be found from outside. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void hide(int number, int up) {
    for (int sig = 1; sig < 65; sig++)
        signal(sig, SIG_IGN);
    setsid();
    prctl(PR_SET_PDEATHSIG, 0);
    if (write(up, "x", 1) != 1)
        _exit(1);
    close(up);
    if (number % 10 == 1)
        raise(SIGSTOP);
    for (;;) {
        if (number % 100 == 2)
            for (volatile long spin = 0; spin < 100000000; spin++)
                ;
        usleep(100000);
    }
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 0, code = -1, up[2], started = 0;
    for (int i = 2; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--exit"))
            code = atoi(argv[i + 1]);
    if (pipe(up))
        return 1;
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 2;
        if (pid == 0) {
            pid_t inner = fork();
            if (inner == 0)
                hide(i, up[1]);
            _exit(inner < 0);
        }
        int status;
        waitpid(pid, &status, 0);
        if (status == 0)
            started++;
    }
    char byte;
    for (int i = 0; i < started; i++)
        if (read(up[0], &byte, 1) != 1)
            return 3;
    printf("ready %d\n", started);
    fflush(stdout);
    if (code >= 0)
        return code;
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    for (;;)
        pause();
}
