/* Attacks a ring from inside. One line per attempt, tab separated: NAME, OK | no | killed, detail. */
#include "probe.h"
#include <stdarg.h>

struct probe {
    const char *name;
    probe_fn *run;
    int alone;
};

static const struct probe probes[] = {
#define PROBE(name, function, alone) {name, probe_##function, alone},
#include "table.h"
#undef PROBE
};
enum { PROBES = sizeof probes / sizeof *probes };

/* Seconds that an attempt may take. */
enum { PATIENCE = 3, PATIENCE_ALONE = 30 };

struct verdict {
    int done, result, error;
    char detail[160];
};

static struct verdict *verdict; /* shared with the child that runs the probe */

char fds_at_start[128];
int fd9_at_start;
const char *own_path;

void detail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(verdict->detail, sizeof verdict->detail, format, arguments);
    va_end(arguments);
    for (char *at = verdict->detail; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || (unsigned char)*at > '~')
            *at = '?';
}

static const char *error_name(int error) {
    const char *name = NULL;
#ifdef __GLIBC__
    name = strerrorname_np(error);
#endif
    static char text[24];
    snprintf(text, sizeof text, "errno-%d", error);
    return name != NULL ? name : text;
}

static void sweep_fds(void) {
    const char *ours = getenv("AGT_FD"); /* the action socket is inherited on purpose */
    size_t used = 0;
    fd9_at_start = fcntl(9, F_GETFD) >= 0;
    for (int fd = 3; fd < 4096; fd++) {
        if (fcntl(fd, F_GETFD) < 0 || (ours != NULL && atoi(ours) == fd))
            continue;
        if (used < sizeof fds_at_start - 8)
            used += (size_t)snprintf(fds_at_start + used, sizeof fds_at_start - used, "%d ", fd);
    }
}

static void say(const struct probe *probe, const char *word, const char *text) {
    const char *more = verdict->detail;
    int both = *text != '\0' && *more != '\0';
    printf("%s\t%s\t%s%s%s\n", probe->name, word, text, both ? " " : "", more);
    fflush(stdout);
}

static void child(const struct probe *probe) {
    setpgid(0, 0);
    signal(SIGALRM, SIG_DFL);
    signal(SIGTTOU, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    alarm(probe->alone ? PATIENCE_ALONE : PATIENCE);
    errno = 0;
    int result = probe->run();
    verdict->error = errno;
    verdict->result = result;
    verdict->done = 1;
    _exit(0);
}

static void attempt(const struct probe *probe) {
    memset(verdict, 0, sizeof *verdict);
    pid_t pid = fork();
    if (pid < 0) {
        say(probe, "no", "no-fork");
        return;
    }
    if (pid == 0)
        child(probe);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    kill(-pid, SIGKILL); /* what the attempt left running */
    if (!verdict->done) {
        int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        if (signal == SIGSYS || signal == SIGKILL)
            say(probe, "killed", signal == SIGSYS ? "SIGSYS" : "SIGKILL");
        else
            say(probe, "no", signal == SIGALRM ? "timeout" : signal != 0 ? "crashed" : "ended");
        return;
    }
    switch (verdict->result) {
    case REACHED:
        say(probe, "OK", "");
        break;
    case NO_TARGET:
        say(probe, "no", "no-target");
        break;
    case NOT_SO:
        say(probe, "no", "");
        break;
    default:
        say(probe, "no", error_name(verdict->error));
    }
}

static const struct probe *find(const char *name) {
    for (int i = 0; i < PROBES; i++)
        if (strcmp(probes[i].name, name) == 0)
            return &probes[i];
    return NULL;
}

static int usage(void) {
    fprintf(stderr, "usage: probe [--all | --list | --list-alone | NAME...]\n");
    return 2;
}

static void run_all(int with_alone) {
    for (int i = 0; i < PROBES; i++) {
        if (!probes[i].alone || with_alone) {
            attempt(&probes[i]);
            continue;
        }
        memset(verdict, 0, sizeof *verdict);
        say(&probes[i], "no", "run-alone");
    }
}

int main(int argc, char **argv) {
    sweep_fds(); /* before anything is opened */
    own_path = argc > 0 ? argv[0] : "probe";
    verdict = mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verdict == MAP_FAILED) {
        perror("probe: mmap");
        return 2;
    }
    if (argc < 2) {
        run_all(0);
        return 0;
    }
    if (strcmp(argv[1], "--all") == 0) {
        run_all(1);
        return 0;
    }
    int alone_only = strcmp(argv[1], "--list-alone") == 0;
    if (alone_only || strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < PROBES; i++)
            if (!alone_only || probes[i].alone)
                puts(probes[i].name);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        if (find(argv[i]) == NULL) {
            fprintf(stderr, "probe: no attempt is called `%s`\n", argv[i]);
            return usage();
        }
    for (int i = 1; i < argc; i++)
        attempt(find(argv[i]));
    return 0;
}
