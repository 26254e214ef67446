/* Programs, terminals and standard streams. */
#include "probe.h"
#include <spawn.h>
#include <sys/ioctl.h>
#include <termios.h>

extern char **environ;

static void execute_memfd(void *argument) {
    (void)argument;
    char *argv[] = {"probe", NULL};
    int fd = (int)syscall(SYS_memfd_create, "probe", 1U /* CLOEXEC */);
    if (fd < 0 || write(fd, tiny_elf, tiny_elf_length) < 0)
        return;
    syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
}
int probe_memfd_exec(void) { return exits_with_42(execute_memfd, NULL); }

static void execute_memfd_path(void *argument) {
    (void)argument;
    char path[64], *argv[] = {path, NULL};
    int fd = (int)syscall(SYS_memfd_create, "probe", 0x10U /* MFD_EXEC */);
    if (fd < 0 || write(fd, tiny_elf, tiny_elf_length) < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int readable = open(path, O_RDONLY);
    snprintf(path, sizeof path, "/proc/self/fd/%d", readable);
    close(fd);
    execve(path, argv, environ);
}
int probe_memfd_exec_path(void) { return exits_with_42(execute_memfd_path, NULL); }

int probe_ldso_direct(void) {
    static const char *const loaders[] = {"/lib64/ld-linux-x86-64.so.2",
                                          "/lib/ld-linux-aarch64.so.1"};
    for (size_t i = 0; i < 2; i++) {
        char *argv[] = {(char *)loaders[i], "/bin/true", NULL};
        if (access(loaders[i], F_OK) == 0)
            return run_program(loaders[i], argv);
    }
    return REFUSED;
}
int probe_exec_from_workdir(void) { return run_bytes("./probe-exec", tiny_elf, tiny_elf_length); }
int probe_tmp_noexec(void) { return run_bytes("/tmp/probe-exec", tiny_elf, tiny_elf_length); }
int probe_devshm_noexec(void) { return run_bytes("/dev/shm/probe-exec", tiny_elf, tiny_elf_length); }
int probe_env_shebang(void) {
    static const char script[] = "#!/usr/bin/env -S sh -c 'exit 42'\n";
    return run_bytes(scratch("probe-script"), script, sizeof script - 1);
}
int probe_tmp_map_exec(void) {
    /* What a loader does: code from a file that was just written. */
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("probe-map"));
    if (write_file(path, tiny_elf, tiny_elf_length, 0700) < 0)
        return REFUSED;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    int error = errno;
    unlink(path);
    errno = error;
    return page == MAP_FAILED ? REFUSED : REACHED;
}

/* Ring 3 lets the command itself be executed, once. */
static char *const true_argv[] = {"true", NULL};
int probe_exec_second_execve(void) { return run_program("/bin/true", true_argv); }

struct execveat_call {
    const char *path;
    long flags, sixth;
};
static void execute_at(void *argument) {
    const struct execveat_call *call = argument;
    pid_t pid = fork(); /* /bin/true ends with 0, the parent wants 42 */
    if (pid == 0) {
        int fd = open("/bin/true", O_PATH);
        const char *path = call->flags & AT_EMPTY_PATH ? "" : call->path;
        syscall(SYS_execveat, fd, path, true_argv, environ, call->flags, call->sixth);
        _exit(errno == 0 ? 1 : errno);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        _exit(42);
    if (WIFSIGNALED(status))
        raise(WTERMSIG(status));
    errno = WEXITSTATUS(status);
}
static int execveat_with(long flags, long sixth) {
    struct execveat_call call = {"/bin/true", flags, sixth};
    return exits_with_42(execute_at, &call);
}
int probe_exec_second_execveat(void) { return execveat_with(0, 0); }
int probe_exec_second_fexecve(void) { return execveat_with(AT_EMPTY_PATH, 0); }
int probe_exec_second_flags_high(void) { return execveat_with(1L << 32, 0); }
int probe_exec_second_guessed(void) {
    /* The secret is 64 bits wide: constants and remains of the start are what could be guessed. */
    uint64_t random[2];
    uintptr_t at_random = 0;
    for (char **env = environ; at_random == 0; env++)
        if (*env == NULL)
            for (uintptr_t *entry = (uintptr_t *)(env + 1); entry[0] != 0; entry += 2)
                if (entry[0] == 25 /* AT_RANDOM */)
                    at_random = entry[1];
    memcpy(random, (void *)at_random, sizeof random);
    const long guesses[] = {0,         1,          -1,           0x7fffffff, -2147483648L,
                            (long)random[0], (long)random[1], getpid(),     getppid(),  0x1000};
    for (size_t i = 0; i < sizeof guesses / sizeof *guesses; i++)
        if (execveat_with(AT_EMPTY_PATH, guesses[i]) == REACHED) {
            detail("guess %zu", i);
            return REACHED;
        }
    return REFUSED;
}
int probe_exec_second_posix_spawn(void) {
    pid_t pid;
    int error = posix_spawn(&pid, "/bin/true", NULL, NULL, true_argv, environ);
    if (error != 0) {
        errno = error;
        return REFUSED;
    }
    int status = 0;
    waitpid(pid, &status, 0);
    errno = WEXITSTATUS(status) == 127 ? EPERM : ENOEXEC;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? REACHED : REFUSED;
}
int probe_exec_second_self(void) {
    char *argv[] = {(char *)own_path, "--list-alone", NULL};
    return run_program("/proc/self/exe", argv);
}
int probe_x21_nested_run(void) {
    TARGET(supervisor, "PROBE_SUPERVISOR");
    char *argv[] = {(char *)supervisor, "run", "--ring", "1", "--", "/bin/true", NULL};
    return run_program(supervisor, argv);
}
int probe_x23_supervisor_write(void) {
    TARGET(supervisor, "PROBE_SUPERVISOR");
    int result = open_only(supervisor, O_WRONLY);
    return result == REACHED ? REACHED : reached_past(-1, ETXTBSY);
}

/* Does a set-id program of this root gain anything? Its effective uid is read from outside of it. */
static int becomes_root(const char *path) {
    int hold[2];
    char file[64], text[4096];
    if (pipe(hold) < 0)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {(char *)path, NULL};
        int null = open("/dev/null", O_RDWR);
        dup2(hold[0], 0);
        dup2(null, 1);
        dup2(null, 2);
        execv(path, argv);
        _exit(127);
    }
    snprintf(file, sizeof file, "/proc/%d/status", pid);
    int root = 0;
    for (int i = 0; i < 40 && !root; i++) {
        unsigned real = 1, effective = 1;
        if (read_file(file, text, sizeof text) > 0 && strstr(text, "\nUid:") != NULL)
            if (sscanf(strstr(text, "\nUid:"), "\nUid: %u %u", &real, &effective) == 2)
                root = effective == 0;
        usleep(2000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return root;
}
int probe_x16_setuid_exec(void) {
    static const char *const names[] = {"su", "sudo", "passwd", "chsh", "newgrp", "mount", "pkexec"};
    char path[64];
    struct stat found;
    if (geteuid() == 0) {
        detail("not tried as root");
        return NOT_SO;
    }
    int tried = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/usr/bin/%s", names[i]);
        if (stat(path, &found) < 0 || !(found.st_mode & S_ISUID))
            continue;
        tried++;
        if (becomes_root(path)) {
            detail("%s", path);
            return REACHED;
        }
    }
    detail("%d set-id programs tried", tried);
    return NOT_SO;
}
int probe_x16_setresuid_root(void) { return geteuid() == 0 ? NOT_SO : reached_if(setresuid(0, 0, 0)); }
int probe_x16_setresgid_root(void) { return getegid() == 0 ? NOT_SO : reached_if(setresgid(0, 0, 0)); }
int probe_x16_setgroups(void) {
    gid_t group = getegid();
    return reached_if(syscall(SYS_setgroups, 1, &group));
}

/* Terminals. */
static int terminal(void) {
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    for (int i = 0; fd < 0 && i < 3; i++)
        if (isatty(i))
            fd = i;
    return fd;
}
static int own_pty(void) {
    pid_t pid = fork(); /* a new session; its leader makes the terminal its own */
    if (pid != 0) {
        int status = 0;
        waitpid(pid, &status, 0);
        _exit(0);
    }
    setsid();
    int pty = open("/dev/ptmx", O_RDWR | O_CLOEXEC), unlock = 0, number = 0;
    char path[64];
    if (pty < 0 || ioctl(pty, TIOCSPTLCK, &unlock) < 0 || ioctl(pty, TIOCGPTN, &number) < 0)
        return -1;
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        ioctl(fd, TIOCSCTTY, 0);
    return fd;
}
static int inject(int fd, long request) {
    static char byte = 0;
    return fd < 0 ? REFUSED : reached_if(syscall(SYS_ioctl, fd, request, &byte));
}
static int paste(int fd) {
    char subcode[16] = {3};
    return fd < 0 ? REFUSED : reached_if(syscall(SYS_ioctl, fd, 0x541cL, subcode));
}
int probe_tiocsti(void) { return inject(terminal(), TIOCSTI); }
int probe_tiocsti_hi32(void) { return inject(terminal(), TIOCSTI | 1L << 32); }
int probe_tioclinux(void) { return paste(terminal()); }

/* In the own session the answer comes from a grandchild, through what it shares with the runner. */
static int answer_from_session(int (*attempt)(int)) {
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = own_pty();
        shared[1] = attempt(fd);
        shared[2] = errno;
        shared[0] = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    errno = shared[2];
    if (shared[0] == 0) {
        detail("the session's leader died");
        return NOT_SO;
    }
    return shared[1];
}
static int sti(int fd) { return inject(fd, TIOCSTI); }
static int sti_high(int fd) { return inject(fd, TIOCSTI | 1L << 32); }
static int set_leader(int fd) { return fd < 0 ? REFUSED : reached_if(ioctl(fd, TIOCCONS)); }
int probe_tiocsti_own_pty(void) { return answer_from_session(sti); }
int probe_tiocsti_own_pty_hi32(void) { return answer_from_session(sti_high); }
int probe_tioclinux_own_pty(void) { return answer_from_session(paste); }
int probe_tioccons_own_pty(void) { return answer_from_session(set_leader); }

int probe_dev_tty(void) {
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return REFUSED;
    pid_t leader = tcgetsid(fd);
    detail("session %d, own %d", leader, getsid(0));
    return leader > 0 ? NOT_SO : REACHED; /* 0: the user's own terminal */
}
int probe_stdio_tty(void) {
    /* A terminal that is not of this root's own devpts is the user's. */
    struct stat fd_is, own;
    int has_pts = stat("/dev/pts", &own) == 0;
    for (int fd = 0; fd < 3; fd++)
        if (isatty(fd) && fstat(fd, &fd_is) == 0 && !(has_pts && own.st_dev == fd_is.st_dev)) {
            detail("descriptor %d", fd);
            return REACHED;
        }
    detail("no terminal of somebody else");
    return NOT_SO;
}

/* Standard input may be a file or a folder of the host. */
static int no_file_there(void) {
    detail("standard input is not a file of the host");
    return NOT_SO;
}
static int stdin_is(mode_t kind) {
    struct stat found;
    return fstat(0, &found) == 0 && (found.st_mode & S_IFMT) == kind;
}
int probe_stdin_dir(void) { return stdin_is(S_IFDIR) ? reached_if(fchdir(0)) : no_file_there(); }
int probe_stdin_file_fchmod(void) {
    struct stat found;
    if (!stdin_is(S_IFREG) && !stdin_is(S_IFDIR))
        return no_file_there();
    return fstat(0, &found) < 0 ? REFUSED : reached_if(fchmod(0, found.st_mode & 0777));
}
int probe_stdin_file_utime(void) {
    return stdin_is(S_IFREG) || stdin_is(S_IFDIR) ? reached_if(futimens(0, NULL)) : no_file_there();
}
int probe_stdin_reopen_rw(void) {
    if (!stdin_is(S_IFREG))
        return no_file_there();
    return open_only("/proc/self/fd/0", O_RDWR);
}
int probe_stdin_device(void) {
    struct stat found;
    if (!stdin_is(S_IFCHR) && !stdin_is(S_IFBLK))
        return no_file_there();
    int null = fstat(0, &found) == 0 && found.st_rdev == (1 << 8 | 3);
    if (!null && !isatty(0))
        return REACHED;
    detail("null, or a terminal");
    return NOT_SO;
}
