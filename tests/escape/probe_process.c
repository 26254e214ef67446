/* Other processes: outside the ring (the victim) and above it in the ring (its init). */
#include "probe.h"
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static long victim_pid(void) { return number("PROBE_VICTIM_PID", 0); }
/* The victim's number may be that of a process inside, which it is not: then the victim is not seen. */
static int is_another(long pid) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    long length = read_file(path, line, sizeof line);
    if (length <= 0 || memmem(line, (size_t)length, "victim", 6) != NULL)
        return 0;
    detail("its number is that of a process inside");
    return 1;
}

#define VICTIM(name)                                                                               \
    long name = victim_pid();                                                                      \
    if (name <= 0)                                                                                 \
        return NO_TARGET;                                                                          \
    if (is_another(name))                                                                          \
    return NOT_SO

static int seize(long pid) { return reached_if(ptrace(PTRACE_SEIZE, pid, NULL, NULL)); }

static int vm_readv(long pid) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x10000, 1};
    /* EFAULT: allowed, and only the guessed address was wrong. */
    return reached_past(process_vm_readv((pid_t)pid, &here, 1, &there, 1, 0), EFAULT);
}

static int proc_open(long pid, const char *name, int flags) {
    char path[256];
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    return open_only(path, flags);
}

static int proc_read(long pid, const char *name) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    long length = read_file(path, text, sizeof text);
    if (length == 0)
        detail("empty");
    return length > 0 ? REACHED : length == 0 ? NOT_SO : REFUSED;
}

static int getfd(long pid) {
    long pidfd = syscall(SYS_pidfd_open, pid, 0);
    return pidfd < 0 ? REFUSED : reached_if(syscall(SYS_pidfd_getfd, pidfd, 0, 0));
}

static int limit_core(long pid) {
    struct rlimit now;
    if (prlimit((pid_t)pid, RLIMIT_CORE, NULL, &now) < 0)
        return REFUSED;
    detail("soft %ld hard %ld", (long)now.rlim_cur, (long)now.rlim_max);
    return reached_if(prlimit((pid_t)pid, RLIMIT_CORE, &now, NULL));
}

static int renice(long pid) {
    errno = 0;
    int now = getpriority(PRIO_PROCESS, (id_t)pid);
    if (now == -1 && errno != 0)
        return REFUSED;
    return reached_if(setpriority(PRIO_PROCESS, (id_t)pid, now));
}

static int affinity(long pid) {
    cpu_set_t cpus;
    if (sched_getaffinity((pid_t)pid, sizeof cpus, &cpus) < 0)
        return REFUSED;
    return reached_if(sched_setaffinity((pid_t)pid, sizeof cpus, &cpus));
}

int probe_ptrace_seize_victim(void) {
    VICTIM(pid);
    return seize(pid);
}
int probe_ptrace_seize_parent(void) { return seize(getppid()); }
int probe_vm_readv_victim(void) {
    VICTIM(pid);
    return vm_readv(pid);
}
int probe_proc_victim_mem(void) {
    VICTIM(pid);
    return proc_open(pid, "mem", O_RDONLY);
}
int probe_proc_victim_environ(void) {
    VICTIM(pid);
    return proc_read(pid, "environ");
}
int probe_proc_victim_cmdline(void) {
    VICTIM(pid);
    return proc_read(pid, "cmdline");
}
int probe_proc_victim_root_secret(void) {
    VICTIM(pid);
    TARGET(secret, "PROBE_SECRET");
    char name[256];
    snprintf(name, sizeof name, "root%s", secret);
    return proc_open(pid, name, O_RDONLY);
}
int probe_proc_victim_cwd(void) {
    VICTIM(pid);
    return proc_open(pid, "cwd", O_RDONLY | O_DIRECTORY);
}
int probe_proc_1_root(void) { return proc_open(1, "root/", O_RDONLY | O_DIRECTORY); }
int probe_pidfd_open_victim(void) {
    VICTIM(pid);
    return reached_if(syscall(SYS_pidfd_open, pid, 0));
}
int probe_pidfd_getfd_victim(void) {
    VICTIM(pid);
    return getfd(pid);
}
int probe_kill0_victim(void) {
    VICTIM(pid);
    return reached_if(kill((pid_t)pid, 0));
}
int probe_sigqueue_victim(void) {
    VICTIM(pid);
    return reached_if(sigqueue((pid_t)pid, 0, (union sigval){.sival_int = 1}));
}
int probe_pidfd_signal_victim(void) {
    VICTIM(pid);
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld", pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? REFUSED : reached_if(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
}
int probe_waitid_pidfd_victim(void) {
    VICTIM(pid);
    long fd = syscall(SYS_pidfd_open, pid, 0);
    siginfo_t info;
    return fd < 0 ? REFUSED : reached_past(syscall(SYS_waitid, 3, fd, &info, WEXITED, NULL), ECHILD);
}

static int owner(int command, long pid) {
    int ends[2];
    if (pipe(ends) < 0)
        return REFUSED;
    return reached_if(syscall(SYS_fcntl, ends[0], (long)command, pid));
}

int probe_fsetown_victim(void) {
    VICTIM(pid);
    return owner(F_SETOWN, pid);
}
int probe_fsetown_ex_victim(void) {
    VICTIM(pid);
    int ends[2];
    struct f_owner_ex ex = {F_OWNER_PID, (pid_t)pid};
    return pipe(ends) < 0 ? REFUSED : reached_if(fcntl(ends[0], F_SETOWN_EX, &ex));
}
int probe_x08_fcntl_setown(void) {
    VICTIM(pid);
    int ends[2];
    if (pipe(ends) < 0)
        return REFUSED;
    return reached_if(syscall(SYS_fcntl, ends[0], F_SETOWN | 1L << 32, pid));
}
int probe_fiosetown_victim(void) {
    VICTIM(pid);
    int target = (int)pid, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? REFUSED : reached_if(ioctl(fd, 0x8901 /* FIOSETOWN */, &target));
}
int probe_prlimit_victim(void) {
    VICTIM(pid);
    return limit_core(pid);
}
int probe_setpriority_victim(void) {
    VICTIM(pid);
    return renice(pid);
}
int probe_setpriority_user(void) {
    /* Everything of this uid, outside too. */
    NOT_AS_ROOT;
    errno = 0;
    int now = getpriority(PRIO_USER, getuid());
    if (now == -1 && errno != 0)
        return REFUSED;
    return reached_if(setpriority(PRIO_USER, getuid(), now));
}
int probe_sched_affinity_victim(void) {
    VICTIM(pid);
    return affinity(pid);
}
int probe_sched_param_victim(void) {
    VICTIM(pid);
    struct sched_param none = {0};
    return reached_if(sched_setscheduler((pid_t)pid, SCHED_OTHER, &none));
}
int probe_ioprio_victim(void) {
    VICTIM(pid);
    return reached_if(syscall(SYS_ioprio_set, 1, pid, 2 << 13 | 4));
}
int probe_kcmp_victim(void) {
    VICTIM(pid);
    return reached_if(syscall(SYS_kcmp, getpid(), pid, 0, 0, 0));
}
int probe_robust_list_victim(void) {
    VICTIM(pid);
    void *head;
    size_t length;
    return reached_if(syscall(SYS_get_robust_list, pid, &head, &length));
}
int probe_move_pages_victim(void) {
    VICTIM(pid);
    void *page = (void *)0x10000;
    int node;
    return reached_if(syscall(SYS_move_pages, pid, 1UL, &page, NULL, &node, 0));
}
int probe_getpgid_victim(void) {
    VICTIM(pid);
    return reached_if(getsid((pid_t)pid));
}
int probe_clock_victim(void) {
    VICTIM(pid);
    clockid_t clock;
    int error = clock_getcpuclockid((pid_t)pid, &clock);
    errno = error;
    return error == 0 ? REACHED : REFUSED;
}
int probe_see_host_pids(void) {
    VICTIM(pid);
    char path[64];
    struct stat found;
    snprintf(path, sizeof path, "/proc/%ld", pid);
    return reached_if(stat(path, &found));
}

static int process_madvise_of(long pid) {
    long fd = syscall(SYS_pidfd_open, pid, 0);
    struct iovec range = {(void *)0x10000, 4096};
    if (fd < 0)
        return REFUSED;
    return reached_past(syscall(SYS_process_madvise, fd, &range, 1UL, 20 /* COLD */, 0), ENOMEM);
}
int probe_process_madvise_victim(void) {
    VICTIM(pid);
    return process_madvise_of(pid);
}

/* The ring's init. */
int probe_init_mem(void) {
    NOT_AS_ROOT;
    return proc_open(1, "mem", O_RDWR);
}
int probe_init_environ(void) {
    NOT_AS_ROOT;
    return proc_read(1, "environ");
}
int probe_init_ptrace(void) {
    NOT_AS_ROOT;
    return seize(1);
}
int probe_init_vm_readv(void) {
    NOT_AS_ROOT;
    return vm_readv(1);
}
int probe_init_pidfd_getfd(void) {
    NOT_AS_ROOT;
    return getfd(1);
}
int probe_init_prlimit(void) {
    NOT_AS_ROOT;
    return limit_core(1);
}
int probe_init_renice(void) {
    NOT_AS_ROOT;
    return renice(1);
}
int probe_init_affinity(void) {
    NOT_AS_ROOT;
    return affinity(1);
}
int probe_init_sched(void) {
    NOT_AS_ROOT;
    struct sched_param none = {0};
    return reached_if(sched_setscheduler(1, SCHED_BATCH, &none));
}
int probe_init_ioprio(void) {
    NOT_AS_ROOT;
    return reached_if(syscall(SYS_ioprio_set, 1, 1, 2 << 13 | 4));
}
int probe_init_oom(void) {
    NOT_AS_ROOT;
    return proc_open(1, "oom_score_adj", O_WRONLY);
}

int probe_init_fd(void) {
    NOT_AS_ROOT;
    DIR *fds = opendir("/proc/1/fd");
    if (fds == NULL)
        return REFUSED;
    errno = ENOENT;
    for (struct dirent *entry = readdir(fds); entry != NULL; entry = readdir(fds)) {
        char name[300];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "fd/%s", entry->d_name);
        if (proc_open(1, name, O_RDONLY) == REACHED || proc_open(1, name, O_WRONLY) == REACHED) {
            detail("descriptor %.20s of init", entry->d_name);
            return REACHED;
        }
    }
    return REFUSED;
}

/* Whether pid 1 still adopts and reaps: an orphan must be gone within a second. */
static int init_reaps(void) {
    int orphan[2];
    pid_t pid = -1;
    if (pipe(orphan) < 0)
        return 1;
    pid_t parent = fork();
    if (parent == 0) {
        pid = fork();
        if (pid == 0) {
            usleep(20000);
            _exit(0);
        }
        _exit(write(orphan[1], &pid, sizeof pid) == sizeof pid ? 0 : 1);
    }
    waitpid(parent, NULL, 0);
    if (read(orphan[0], &pid, sizeof pid) != sizeof pid || pid <= 0)
        return 1;
    for (int i = 0; i < 100; i++) {
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return 1;
        usleep(10000);
    }
    return 0;
}

int probe_init_kill(void) {
    NOT_AS_ROOT;
    if (victim_pid() > 0 && kill((pid_t)victim_pid(), 0) == 0) {
        detail("not tried where pid 1 is the host's");
        return NOT_SO;
    }
    int taken = 0, last = 0;
    for (int signal = 1; signal <= 64; signal++) {
        if (kill(1, signal) == 0)
            taken++;
        else
            last = errno;
    }
    if (!init_reaps()) {
        detail("init does not reap any more");
        return REACHED;
    }
    if (taken > 0) {
        detail("%d signals taken and ignored", taken);
        return NOT_SO;
    }
    errno = last;
    return REFUSED;
}

int probe_init_sigqueue(void) {
    NOT_AS_ROOT;
    return reached_if(sigqueue(1, 0, (union sigval){.sival_int = 1}));
}

/* A process of its own. */
int probe_ptrace_own_child(void) {
    pid_t pid = fork();
    if (pid < 0)
        return REFUSED;
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int result = seize(pid), error = errno;
    kill(pid, SIGKILL);
    errno = error;
    return result;
}
int probe_ptrace_traceme(void) {
    pid_t pid = fork();
    if (pid == 0) {
        long result = ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        _exit(result == 0 ? 0 : errno);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    errno = WEXITSTATUS(status);
    if (WIFSIGNALED(status))
        raise(WTERMSIG(status));
    return errno == 0 ? REACHED : REFUSED;
}
int probe_vm_writev_own_child(void) {
    static int value = 1;
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int other = 2;
    struct iovec here = {&other, sizeof other}, there = {&value, sizeof value};
    int result = reached_if(process_vm_writev(pid, &here, 1, &there, 1, 0)), error = errno;
    kill(pid, SIGKILL);
    errno = error;
    return result;
}

int probe_setsid(void) {
    pid_t pid = fork(); /* a leader of a process group may not */
    if (pid == 0)
        _exit(setsid() < 0 ? errno : 0);
    int status = 0;
    waitpid(pid, &status, 0);
    errno = WEXITSTATUS(status);
    return WIFEXITED(status) && errno == 0 ? REACHED : REFUSED;
}
int probe_clear_pdeathsig(void) { return reached_if(prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)); }
int probe_session_outside(void) {
    detail("session %d", (int)getsid(0));
    return getsid(0) > 0 ? NOT_SO : REACHED; /* 0: its leader is outside the pid namespace */
}
int probe_x15_signal_parent_outside(void) {
    /* Everything that this process may signal: must not be more than the ring. */
    VICTIM(pid);
    if (kill(-1, 0) < 0)
        return REFUSED;
    return reached_if(kill((pid_t)pid, 0));
}
