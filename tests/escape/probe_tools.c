/* Small tools that the attempts share. */
#include "probe.h"

int reached_if(long result) { return result >= 0 ? REACHED : REFUSED; }

int reached_past(long result, int past) {
    if (result >= 0)
        return REACHED;
    if (errno != past)
        return REFUSED;
    detail("past the permission check");
    return REACHED;
}

long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? atol(text) : otherwise;
}

const char *scratch(const char *name) {
    static char path[256];
    static const char *const places[] = {".", "/tmp", "/dev/shm"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/probe-write-%d", places[i], getpid());
        if (write_file(path, "", 0, 0600) == 0) {
            unlink(path);
            snprintf(path, sizeof path, "%s/%s", places[i], name);
            return path;
        }
    }
    snprintf(path, sizeof path, "./%s", name);
    return path;
}

int write_file(const char *path, const void *bytes, size_t length, mode_t mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, mode);
    if (fd < 0)
        return -1;
    long wrote = write(fd, bytes, length);
    int error = errno;
    close(fd);
    errno = error;
    return wrote == (long)length ? 0 : -1;
}

long read_file(const char *path, char *buffer, size_t most) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -1;
    long length = read(fd, buffer, most - 1);
    int error = errno;
    close(fd);
    errno = error;
    buffer[length > 0 ? length : 0] = '\0';
    return length;
}

int open_only(const char *path, int flags) {
    return reached_if(open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
}

int exits_with_42(void (*run)(void *), void *argument) {
    int error[2];
    if (pipe2(error, O_CLOEXEC) < 0)
        return REFUSED;
    pid_t pid = fork();
    if (pid < 0)
        return REFUSED;
    if (pid == 0) {
        run(argument);
        int why = errno;
        if (write(error[1], &why, sizeof why) < 0)
            _exit(126);
        _exit(127);
    }
    close(error[1]);
    int why = 0, status = 0;
    long told = read(error[0], &why, sizeof why);
    waitpid(pid, &status, 0);
    if (told == sizeof why) {
        errno = why;
        return REFUSED;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 42)
        return REACHED;
    if (WIFSIGNALED(status))
        detail("ended by signal %d", WTERMSIG(status));
    else
        detail("exit code %d", WEXITSTATUS(status));
    return NOT_SO;
}

static void execute(void *path) {
    char *argv[] = {path, NULL}, *none[] = {NULL};
    execve(path, argv, none);
}

int run_bytes(const char *path, const void *bytes, size_t length) {
    char copy[256];
    snprintf(copy, sizeof copy, "%s", path);
    if (write_file(copy, bytes, length, 0755) < 0)
        return REFUSED;
    chmod(copy, 0755);
    int result = exits_with_42(execute, copy);
    int error = errno;
    unlink(copy);
    errno = error;
    return result;
}

struct command {
    const char *path;
    char *const *argv;
};

static void replace_silently(void *argument) {
    const struct command *command = argument;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    pid_t pid = fork();
    if (pid < 0)
        return;
    if (pid == 0) {
        execv(command->path, command->argv);
        _exit(errno == 0 ? 1 : errno);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    _exit(WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 42 : WEXITSTATUS(status));
}

int run_program(const char *path, char *const argv[]) {
    struct command command = {path, argv};
    return exits_with_42(replace_silently, &command);
}

socklen_t unix_address(struct sockaddr_un *address, const char *name, int abstract) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    size_t length = strlen(name), most = sizeof address->sun_path - 1;
    if (length > most)
        length = most;
    memcpy(address->sun_path + (abstract ? 1 : 0), name, length);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
}

int unix_socket(int type, const char *name, int abstract) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return REFUSED;
    /* An abstract name ends where its length says: no NUL after it. */
    socklen_t length = unix_address(&address, name, abstract);
    return reached_if(connect(fd, (struct sockaddr *)&address, length));
}

#if defined(__x86_64__)
/* mov eax, 60; mov edi, 42; syscall */
#define CODE64 0xb8, 60, 0, 0, 0, 0xbf, 42, 0, 0, 0, 0x0f, 0x05
#define MACHINE64 0x3e
/* mov eax, 1; mov ebx, 42; int 0x80 */
#define CODE32 0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80
#define MACHINE32 0x03
#elif defined(__aarch64__)
/* mov x8, #93; mov x0, #42; svc #0 */
#define CODE64 0xa8, 0x0b, 0x80, 0xd2, 0x40, 0x05, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4
#define MACHINE64 0xb7
/* mov r7, #1; mov r0, #42; svc #0 */
#define CODE32 0x01, 0x70, 0xa0, 0xe3, 0x2a, 0x00, 0xa0, 0xe3, 0x00, 0x00, 0x00, 0xef
#define MACHINE32 0x28
#else
#error "the tiny programs are written for x86_64 and aarch64"
#endif

/* One ELF header, one loadable segment at 0x400000 that holds the file, 12 bytes of code. */
const unsigned char tiny_elf[] = {
    0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, MACHINE64, 0, 1, 0, 0, 0,
    0x78, 0, 0x40, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0,
    0, 0, 0x40, 0, 0, 0, 0, 0, 132, 0, 0, 0, 0, 0, 0, 0, 132, 0, 0, 0, 0, 0, 0, 0,
    0, 16, 0, 0, 0, 0, 0, 0, CODE64};
const size_t tiny_elf_length = sizeof tiny_elf;

const unsigned char tiny_elf32[] = {
    0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, MACHINE32, 0, 1, 0, 0, 0,
    0x54, 0, 0x40, 0, 52, 0, 0, 0, 0, 0, 0, 0,
    0, (MACHINE32 == 0x28) ? 2 : 0, 0, (MACHINE32 == 0x28) ? 5 : 0,
    52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0x40, 0, 96, 0, 0, 0, 96, 0, 0, 0,
    5, 0, 0, 0, 0, 16, 0, 0, CODE32};
const size_t tiny_elf32_length = sizeof tiny_elf32;
