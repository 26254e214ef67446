/* What every file of the probe shares: verdicts, targets, and a few small tools. */
#ifndef PROBE_H
#define PROBE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a probe returns. A probe runs in a child of its own, so it may leave a mess in its own
 * process, but not outside of it. */
enum {
    REACHED = 0,    /* the attempt succeeded */
    REFUSED = -1,   /* refused, the reason is in errno */
    NO_TARGET = -2, /* the environment variable that names the target is not set */
    NOT_SO = -3     /* it did not succeed, and detail() says why */
};

typedef int probe_fn(void);

/* Says more than the errno: at most 159 bytes, no tab, no newline. */
void detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* REACHED when a call's result is not negative. */
int reached_if(long result);
/* REACHED when the call succeeded, or failed with `past`: an error that the kernel gives only after
 * the permission check. Lets a dangerous call be tried with arguments that cannot work. */
int reached_past(long result, int past);

/* Descriptors above 2 that were open when the program started, as a text; and whether 9 was one. */
extern char fds_at_start[128];
extern int fd9_at_start;
/* This program's path as it was started. */
extern const char *own_path;

/* The target of a probe, from the environment; the probe ends when it is not there. */
#define TARGET(variable, name)                                                                     \
    const char *variable = getenv(name);                                                           \
    if (variable == NULL || *variable == '\0')                                                     \
    return NO_TARGET

/* A ring has no uid 0, so who is root is not in one: what is the host's is left alone. */
#define NOT_AS_ROOT                                                                                \
    if (geteuid() == 0) {                                                                          \
        detail("not tried as root");                                                               \
        return NOT_SO;                                                                             \
    }

/* An environment variable's number, or `otherwise`. */
long number(const char *name, long otherwise);

/* A path for a new file: in the workspace when it can be written to, else in /tmp. */
const char *scratch(const char *name);
/* Writes a file; -1 and errno when it could not. */
int write_file(const char *path, const void *bytes, size_t length, mode_t mode);
/* Reads at most `most` - 1 bytes of a file and ends them with NUL; -1 and errno. */
long read_file(const char *path, char *buffer, size_t most);
/* REACHED when the file can be opened so. The open has no other effect. */
int open_only(const char *path, int flags);

/* The smallest program there is for this machine: it exits with 42. */
extern const unsigned char tiny_elf[];
extern const size_t tiny_elf_length;
/* The same for the 32-bit sibling of this machine. */
extern const unsigned char tiny_elf32[];
extern const size_t tiny_elf32_length;
/* Runs `run` in a child: REACHED when it exits with 42; `run` returns only when it failed. */
int exits_with_42(void (*run)(void *), void *argument);
/* Writes a program to `path` and runs it. */
int run_bytes(const char *path, const void *bytes, size_t length);
/* Runs a program and waits: REACHED when it exited with 0. */
int run_program(const char *path, char *const argv[]);

/* An address of a Unix socket; `abstract` without the leading NUL. */
socklen_t unix_address(struct sockaddr_un *address, const char *name, int abstract);
int unix_socket(int type, const char *name, int abstract);

/* Calls that the C library or the headers of a long-lived distribution do not know yet. */
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#endif
#ifndef SYS_file_setattr
#define SYS_file_setattr 469
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

struct how {
    uint64_t flags, mode, resolve;
};

/* Every probe, once: its name outside, its function, whether it must have a ring of its own. */
#define PROBE(name, function, alone) probe_fn probe_##function;
#include "table.h"
#undef PROBE

#endif
