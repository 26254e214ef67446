// acts FILE --tag TAG: asks at the door again and again, and does something outside of itself for every
// answer: a line "LOG SEQ" in FILE.allow when it was allowed, in FILE.deny when not. It has a daemon, and
// neither of the two ends by itself when nobody answers any more.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int door(void) {
    if (getenv("AGT_FD")) return atoi(getenv("AGT_FD"));
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, getenv("AGT_SOCKET"), sizeof at.sun_path - 1);
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    return connect(sock, (struct sockaddr *)&at, sizeof at) == 0 ? sock : -1;
}

static void forever(void) {
    for (;;) pause();
}

static void all(int sock, char *bytes, size_t length) {
    while (length > 0) {
        ssize_t got = read(sock, bytes, length);
        if (got <= 0) forever();
        bytes += got, length -= got;
    }
}

static int ask(int sock, unsigned number, char *reply) {
    char frame[256];
    const char *query = number % 5 == 4 ? "drop table t" : "select";
    uint32_t length = snprintf(frame + 16, sizeof frame - 16,
        "{\"action\":\"tool.call\",\"tool\":\"sql.run\",\"args\":{\"query\":\"%s %u\"}}", query, number);
    uint16_t act = 67, flags = 0;
    uint64_t id = number;
    memcpy(frame, &length, 4), memcpy(frame + 4, &act, 2), memcpy(frame + 6, &flags, 2), memcpy(frame + 8, &id, 8);
    if (send(sock, frame, 16 + length, MSG_NOSIGNAL) != (ssize_t)(16 + length)) forever();
    char head[16];
    all(sock, head, 16);
    memcpy(&length, head, 4);
    all(sock, reply, length);
    reply[length] = 0;
    return strstr(reply, "\"verdict\":\"allow\"") && strstr(reply, "\"errno\":null");
}

int main(int argc, char **argv) {
    static char reply[65537];
    char name[256], line[256];
    if (argc < 2) return 2;
    snprintf(name, sizeof name, "%s.allow", argv[1]);
    int allowed = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
    snprintf(name, sizeof name, "%s.deny", argv[1]);
    int denied = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int sock = door();
    if (sock < 0 || allowed < 0 || denied < 0) return 2;
    signal(SIGTERM, SIG_IGN), signal(SIGHUP, SIG_IGN);
    if (fork() == 0) setsid(), forever();
    for (unsigned number = 0;; number++) {
        int yes = ask(sock, number, reply);
        char *log = strstr(reply, "\"log\":\""), *seq = strstr(reply, "\"seq\":");
        if (!log || !seq) {  // too fast, or not recorded
            usleep(2000);
            continue;
        }
        log += 7;
        int length = snprintf(line, sizeof line, "%.*s %llu\n", (int)strcspn(log, "\""), log, strtoull(seq + 6, 0, 10));
        if (write(yes ? allowed : denied, line, length) != length) return 3;
    }
}
