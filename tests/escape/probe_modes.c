/* Set-id bits in every call that takes a mode, and the agent's own agent.yaml. */
#include "probe.h"
#include <libgen.h>
#include <sys/xattr.h>

enum { FILE_MODE = S_ISUID | 0755, FOLDER_MODE = S_ISGID | 0755 };

/* REACHED when the object at `path` now has a set-id bit; it is removed. */
static int has_bits(const char *path, long result) {
    int error = errno;
    struct stat found;
    int bits = lstat(path, &found) == 0 ? (int)(found.st_mode & (S_ISUID | S_ISGID)) : 0;
    if (unlink(path) < 0)
        rmdir(path);
    errno = error;
    if (bits != 0)
        return REACHED;
    if (result < 0)
        return REFUSED;
    detail("made, without the bits");
    return NOT_SO;
}

static const char *a_file(void) {
    const char *path = scratch("probe-mode");
    umask(0);
    return write_file(path, "x", 1, 0644) < 0 ? NULL : path;
}
static const char *no_file(void) {
    const char *path = scratch("probe-mode");
    umask(0);
    unlink(path);
    rmdir(path);
    return path;
}

#define CHANGE(name, call)                                                                         \
    int probe_suid_##name(void) {                                                                  \
        const char *path = a_file();                                                               \
        if (path == NULL)                                                                          \
            return REFUSED;                                                                        \
        int fd = open(path, O_RDWR | O_CLOEXEC);                                                   \
        (void)fd;                                                                                  \
        return has_bits(path, call);                                                               \
    }
#define MAKE(name, call)                                                                           \
    int probe_suid_##name(void) {                                                                  \
        const char *path = no_file();                                                              \
        return has_bits(path, call);                                                               \
    }

#define BIT16 (1L << 16)
#define BIT32 (1L << 32)

#ifdef SYS_chmod
CHANGE(chmod, syscall(SYS_chmod, path, FILE_MODE))
CHANGE(chmod_sgid, syscall(SYS_chmod, path, S_ISGID | 0755))
CHANGE(chmod_bit16, syscall(SYS_chmod, path, FILE_MODE | BIT16))
CHANGE(chmod_bit32, syscall(SYS_chmod, path, FILE_MODE | BIT32))
MAKE(open, syscall(SYS_open, path, O_CREAT | O_WRONLY, FILE_MODE))
MAKE(open_bit32, syscall(SYS_open, path, O_CREAT | O_WRONLY | BIT32, FILE_MODE | BIT32))
MAKE(creat, syscall(SYS_creat, path, FILE_MODE))
MAKE(mkdir, syscall(SYS_mkdir, path, FOLDER_MODE))
MAKE(mknod, syscall(SYS_mknod, path, S_IFREG | FILE_MODE, 0))
#else
CHANGE(chmod, chmod(path, FILE_MODE))
CHANGE(chmod_sgid, chmod(path, S_ISGID | 0755))
CHANGE(chmod_bit16, syscall(SYS_fchmodat, AT_FDCWD, path, FILE_MODE | BIT16))
CHANGE(chmod_bit32, syscall(SYS_fchmodat, AT_FDCWD, path, FILE_MODE | BIT32))
MAKE(open, open(path, O_CREAT | O_WRONLY, FILE_MODE))
MAKE(open_bit32, syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | BIT32, FILE_MODE | BIT32))
MAKE(creat, creat(path, FILE_MODE))
MAKE(mkdir, mkdir(path, FOLDER_MODE))
MAKE(mknod, mknod(path, S_IFREG | FILE_MODE, 0))
#endif
CHANGE(fchmod, syscall(SYS_fchmod, fd, FILE_MODE))
CHANGE(fchmod_bit16, syscall(SYS_fchmod, fd, FILE_MODE | BIT16))
CHANGE(fchmod_bit32, syscall(SYS_fchmod, fd, FILE_MODE | BIT32))
CHANGE(fchmodat, syscall(SYS_fchmodat, AT_FDCWD, path, FILE_MODE))
CHANGE(fchmodat_bit16, syscall(SYS_fchmodat, AT_FDCWD, path, FILE_MODE | BIT16))
CHANGE(fchmodat2, syscall(SYS_fchmodat2, AT_FDCWD, path, FILE_MODE, 0))
CHANGE(fchmodat2_bit16, syscall(SYS_fchmodat2, AT_FDCWD, path, FILE_MODE | BIT16, 0))
MAKE(openat, syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY, FILE_MODE))
MAKE(openat_bit16, syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY, FILE_MODE | BIT16))
MAKE(openat_bit32, syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | BIT32, FILE_MODE | BIT32))
MAKE(mkdirat, syscall(SYS_mkdirat, AT_FDCWD, path, FOLDER_MODE))
MAKE(mknodat, syscall(SYS_mknodat, AT_FDCWD, path, S_IFREG | FILE_MODE, 0))
MAKE(mknodat_bit16, syscall(SYS_mknodat, AT_FDCWD, path, S_IFREG | FILE_MODE | BIT16, 0))
MAKE(mknodat_fifo, syscall(SYS_mknodat, AT_FDCWD, path, S_IFIFO | FILE_MODE, 0))

int probe_suid_openat2(void) {
    const char *path = no_file();
    struct how how = {O_CREAT | O_WRONLY, FILE_MODE, 0};
    return has_bits(path, syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
}
int probe_suid_chmod_folder(void) {
    const char *path = no_file();
    if (mkdir(path, 0755) < 0)
        return REFUSED;
    return has_bits(path, fchmodat(AT_FDCWD, path, FOLDER_MODE, 0));
}
int probe_suid_tmpfile(void) {
    const char *path = no_file();
    char name[256], from[64];
    snprintf(name, sizeof name, "%s", path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, dirname(name), O_TMPFILE | O_RDWR, FILE_MODE);
    if (fd < 0)
        return REFUSED;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    return has_bits(path, linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
}
int probe_suid_bind_socket(void) {
    /* The socket file takes its mode from the socket's own inode. */
    const char *path = no_file();
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t length = unix_address(&address, path, 0);
    if (fd < 0 || fchmod(fd, FILE_MODE) < 0)
        return REFUSED;
    return has_bits(path, bind(fd, (struct sockaddr *)&address, length));
}
int probe_suid_memfd(void) {
    int fd = (int)syscall(SYS_memfd_create, "probe", 1);
    if (fd < 0)
        return REFUSED;
    return reached_if(fchmod(fd, FILE_MODE));
}
int probe_x16_filecap(void) {
    /* cap_setuid=ep, revision 2. */
    static const uint32_t capability[5] = {0x02000001, 1 << 7, 0, 0, 0};
    const char *path = a_file();
    if (path == NULL)
        return REFUSED;
    int result = reached_if(setxattr(path, "security.capability", capability, sizeof capability, 0));
    int error = errno;
    unlink(path);
    errno = error;
    return result;
}

int probe_mknod_blk(void) {
    const char *path = no_file();
    int result = reached_if(mknod(path, S_IFBLK | 0600, 254 << 8)), error = errno;
    unlink(path);
    errno = error;
    return result;
}
int probe_mknod_chr(void) {
    const char *path = no_file();
    int result = reached_if(mknod(path, S_IFCHR | 0600, 1 << 8 | 1)), error = errno;
    unlink(path);
    errno = error;
    return result;
}

/* What was trusted stays trusted: agent.yaml from inside. Everything is put back. */
#define YAML TARGET(yaml, "PROBE_YAML")

int probe_agent_yaml_rewrite(void) {
    YAML;
    return open_only(yaml, O_WRONLY);
}
int probe_agent_yaml_truncate(void) {
    YAML;
    struct stat now;
    return stat(yaml, &now) < 0 ? REFUSED : reached_if(truncate(yaml, now.st_size));
}
int probe_agent_yaml_chmod(void) {
    YAML;
    struct stat now;
    return stat(yaml, &now) < 0 ? REFUSED : reached_if(chmod(yaml, now.st_mode & 0777));
}
static int rename_and_back(const char *from) {
    char other[520];
    snprintf(other, sizeof other, "%s.probe", from);
    int result = reached_if(rename(from, other)), error = errno;
    if (result == REACHED)
        (void)!rename(other, from);
    errno = error;
    return result;
}
int probe_agent_yaml_rename(void) {
    YAML;
    return rename_and_back(yaml);
}
int probe_agent_yaml_rename_parent(void) {
    YAML;
    char copy[512];
    snprintf(copy, sizeof copy, "%s", yaml);
    return rename_and_back(dirname(copy));
}
static int put_back(const char *path, const char *text, long length) {
    return write_file(path, text, (size_t)length, 0644);
}
int probe_agent_yaml_unlink(void) {
    YAML;
    char text[65536];
    long length = read_file(yaml, text, sizeof text);
    int result = reached_if(unlink(yaml)), error = errno;
    if (result == REACHED && length >= 0)
        put_back(yaml, text, length);
    errno = error;
    return result;
}
int probe_agent_yaml_replace(void) {
    YAML;
    char text[65536], other[512];
    long length = read_file(yaml, text, sizeof text);
    snprintf(other, sizeof other, "%s.new", yaml);
    if (length < 0 || write_file(other, text, (size_t)length, 0644) < 0)
        return REFUSED;
    int result = reached_if(rename(other, yaml)), error = errno;
    unlink(other);
    errno = error;
    return result;
}
int probe_agent_yaml_link(void) {
    YAML;
    const char *name = scratch("probe-yaml");
    int result = reached_if(link(yaml, name)), error = errno;
    if (result == REACHED)
        result = open_only(name, O_WRONLY);
    error = errno;
    unlink(name);
    errno = error;
    return result;
}
