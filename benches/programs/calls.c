/* Prints "name nanoseconds" for a few system calls, each the mean of many. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

#define MEASURE(name, count, call)                                   \
    do {                                                             \
        for (int i = 0; i < (count) / 10; i++) { call; }             \
        double since = now();                                        \
        for (int i = 0; i < (count); i++) { call; }                  \
        printf("%s %.1f\n", name, (now() - since) / (count));        \
    } while (0)

int main(void) {
    struct stat st;
    char byte[64];
    int zero = open("/dev/zero", O_RDONLY);
    MEASURE("getppid", 300000, syscall(SYS_getppid));
    MEASURE("read", 300000, if (read(zero, byte, sizeof byte) < 0) return 1);
    MEASURE("stat", 200000, if (stat("/usr/bin/env", &st)) return 1);
    MEASURE("open+close", 100000, int fd = open("/usr/bin/env", O_RDONLY); if (fd < 0) return 1; close(fd));
    return 0;
}
