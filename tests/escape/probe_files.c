/* Files: a secret outside the ring, a file that is only readable, and the workspace. */
#include "probe.h"
#include <dirent.h>
#include <libgen.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#define SECRET TARGET(secret, "PROBE_SECRET")
#define READ_ONLY TARGET(ro, "PROBE_RO")

static void folder_of(const char *path, char folder[512]) {
    char copy[512];
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(folder, 512, "%s", dirname(copy));
}

/* Ends a change that must not stay: the result of the change, after `undo` was done. */
#define UNDO(result, undo)                                                                         \
    do {                                                                                           \
        int kept = errno;                                                                          \
        if ((result) == REACHED)                                                                   \
            (void)!(undo);                                                                         \
        errno = kept;                                                                              \
        return result;                                                                             \
    } while (0)

int probe_secret_read(void) {
    SECRET;
    return open_only(secret, O_RDONLY);
}
int probe_secret_stat(void) {
    SECRET;
    struct stat found;
    return reached_if(stat(secret, &found));
}
int probe_secret_access(void) {
    SECRET;
    return reached_if(access(secret, F_OK));
}
int probe_secret_procselfroot(void) {
    SECRET;
    char path[512];
    snprintf(path, sizeof path, "/proc/self/root%s", secret);
    return open_only(path, O_RDONLY);
}
int probe_secret_dotdot(void) {
    SECRET;
    char path[512];
    snprintf(path, sizeof path, "./../../../../../../../../../../../..%s", secret);
    return open_only(path, O_RDONLY);
}
int probe_secret_symlink(void) {
    SECRET;
    const char *link = scratch("probe-link");
    unlink(link);
    if (symlink(secret, link) < 0)
        return REFUSED;
    int result = open_only(link, O_RDONLY), error = errno;
    unlink(link);
    errno = error;
    return result;
}
int probe_secret_hardlink(void) {
    SECRET;
    const char *name = scratch("probe-hardlink");
    int result = reached_if(link(secret, name));
    UNDO(result, unlink(name));
}
int probe_secret_rename(void) {
    SECRET;
    const char *name = scratch("probe-stolen");
    int result = reached_if(rename(secret, name));
    UNDO(result, rename(name, secret));
}
int probe_secret_opath_reopen(void) {
    SECRET;
    char path[64];
    int fd = open(secret, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open_only(path, O_RDONLY);
}
int probe_secret_openat2(void) {
    SECRET;
    struct how how = {O_RDONLY, 0, 0};
    return reached_if(syscall(SYS_openat2, AT_FDCWD, secret, &how, sizeof how));
}
int probe_secret_dir_list(void) {
    SECRET;
    char folder[512];
    folder_of(secret, folder);
    DIR *list = opendir(folder);
    if (list == NULL)
        return REFUSED;
    const char *name = strrchr(secret, '/') + 1;
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list))
        if (strcmp(entry->d_name, name) == 0)
            return REACHED;
    detail("another folder, without the secret");
    return NOT_SO;
}
int probe_secret_xattr_list(void) {
    SECRET;
    char names[256];
    return reached_if(listxattr(secret, names, sizeof names));
}
int probe_secret_open_tree(void) {
    SECRET;
    return reached_if(syscall(SYS_open_tree, AT_FDCWD, secret, O_CLOEXEC));
}
int probe_secret_handle(void) {
    SECRET;
    struct {
        unsigned bytes;
        int type;
        unsigned char handle[128];
    } handle = {128, 0, {0}};
    int mount_id;
    return reached_if(syscall(SYS_name_to_handle_at, AT_FDCWD, secret, &handle, &mount_id, 0));
}
int probe_secret_statfs(void) {
    SECRET;
    struct statfs found;
    return reached_if(statfs(secret, &found));
}
int probe_inotify_secret_dir(void) {
    SECRET;
    char folder[512];
    folder_of(secret, folder);
    int fd = inotify_init1(IN_CLOEXEC);
    return fd < 0 ? REFUSED : reached_if(inotify_add_watch(fd, folder, IN_ALL_EVENTS));
}

/* Walks up from the workspace by every name that it has. */
static int walk_up(const char *from) {
    SECRET;
    char path[512];
    int fd = open(from, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    snprintf(path, sizeof path, "../../../../../../../../../../../..%s", secret);
    return reached_if(openat(fd, path, O_RDONLY | O_CLOEXEC));
}
int probe_cwd_escape_procself(void) { return walk_up("/proc/self/cwd"); }
int probe_cwd_escape_dot(void) { return walk_up("."); }
int probe_cwd_escape_thread(void) { return walk_up("/proc/thread-self/cwd"); }
int probe_cwd_escape_root(void) { return walk_up("/proc/self/root"); }
int probe_cwd_escape_chroot_fd(void) {
    SECRET;
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || chroot(".") < 0 || fchdir(fd) < 0)
        return REFUSED;
    return walk_up(".");
}

/* The file that is granted for reading only. Every change is to what is there already. */
int probe_ro_write(void) {
    READ_ONLY;
    return open_only(ro, O_WRONLY);
}
int probe_ro_write_append(void) {
    READ_ONLY;
    return open_only(ro, O_RDWR | O_APPEND);
}
int probe_ro_truncate(void) {
    READ_ONLY;
    struct stat now;
    return stat(ro, &now) < 0 ? REFUSED : reached_if(truncate(ro, now.st_size));
}
int probe_ro_chmod(void) {
    READ_ONLY;
    struct stat now;
    return stat(ro, &now) < 0 ? REFUSED : reached_if(chmod(ro, now.st_mode & 0777));
}
int probe_ro_fchmod(void) {
    READ_ONLY;
    struct stat now;
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    return fd < 0 || fstat(fd, &now) < 0 ? REFUSED : reached_if(fchmod(fd, now.st_mode & 0777));
}
int probe_ro_fchmodat2(void) {
    READ_ONLY;
    struct stat now;
    if (stat(ro, &now) < 0)
        return REFUSED;
    return reached_if(syscall(SYS_fchmodat2, AT_FDCWD, ro, now.st_mode & 0777, 0));
}
int probe_ro_utimes(void) {
    READ_ONLY;
    return reached_if(utimensat(AT_FDCWD, ro, NULL, 0));
}
int probe_ro_futimens(void) {
    READ_ONLY;
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? REFUSED : reached_if(futimens(fd, NULL));
}
int probe_ro_setxattr(void) {
    READ_ONLY;
    int result = reached_if(setxattr(ro, "user.agt-probe", "x", 1, 0));
    UNDO(result, removexattr(ro, "user.agt-probe"));
}
int probe_ro_fsetxattr(void) {
    READ_ONLY;
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    int result = reached_if(fsetxattr(fd, "user.agt-probe", "x", 1, 0));
    UNDO(result, fremovexattr(fd, "user.agt-probe"));
}
int probe_ro_setxattrat(void) {
    READ_ONLY;
    struct {
        uint64_t value;
        uint32_t size, flags;
    } x = {(uint64_t)(uintptr_t) "x", 1, 0};
    int result = reached_if(
        syscall(SYS_setxattrat, AT_FDCWD, ro, 0, "user.agt-probe", &x, sizeof x));
    UNDO(result, removexattr(ro, "user.agt-probe"));
}
int probe_ro_chown(void) {
    READ_ONLY;
    struct stat now;
    return stat(ro, &now) < 0 ? REFUSED : reached_if(chown(ro, (uid_t)-1, (gid_t)-1));
}
int probe_ro_unlink_and_restore(void) {
    READ_ONLY;
    char other[512];
    snprintf(other, sizeof other, "%s.probe", ro);
    int result = reached_if(rename(ro, other));
    UNDO(result, rename(other, ro));
}
int probe_ro_rename_exchange(void) {
    READ_ONLY;
    const char *other = scratch("probe-exchange");
    if (write_file(other, "x", 1, 0600) < 0)
        return REFUSED;
    int result = reached_if(renameat2(AT_FDCWD, ro, AT_FDCWD, other, 2 /* EXCHANGE */));
    int error = errno;
    if (result == REACHED)
        (void)!renameat2(AT_FDCWD, ro, AT_FDCWD, other, 2);
    unlink(other);
    errno = error;
    return result;
}
int probe_ro_link_then_write(void) {
    READ_ONLY;
    const char *name = scratch("probe-rolink");
    if (linkat(AT_FDCWD, ro, AT_FDCWD, name, 0) < 0)
        return REFUSED;
    int result = open_only(name, O_WRONLY), error = errno;
    unlink(name);
    errno = error;
    return result;
}
int probe_ro_reopen_rw(void) {
    READ_ONLY;
    char path[64];
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open_only(path, O_RDWR);
}
int probe_ro_creat(void) {
    READ_ONLY;
    char beside[512];
    snprintf(beside, sizeof beside, "%s.new", ro);
    int result = reached_if(creat(beside, 0600));
    UNDO(result, unlink(beside));
}
int probe_ro_setflags(void) {
    READ_ONLY;
    long flags = 0;
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, _IOR('f', 1, long), &flags) < 0)
        return REFUSED;
    return reached_if(ioctl(fd, _IOW('f', 2, long), &flags));
}
int probe_ro_mmap_shared_write(void) {
    READ_ONLY;
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    return mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? REFUSED
                                                                                  : REACHED;
}
int probe_ro_flock(void) {
    READ_ONLY;
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? REFUSED : reached_if(flock(fd, LOCK_EX | LOCK_NB));
}
int probe_ro_lease(void) {
    READ_ONLY;
    int fd = open(ro, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? REFUSED : reached_if(fcntl(fd, F_SETLEASE, F_RDLCK));
}

/* The workspace. */
static int make_and_remove(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return REFUSED;
    int result = reached_if(write(fd, "x", 1)), error = errno;
    unlink(path);
    errno = error;
    return result;
}
int probe_wd_write(void) { return make_and_remove("./probe-file"); }
int probe_wd_bashrc_create(void) { return make_and_remove("./.bashrc"); }
int probe_wd_githooks_create(void) {
    mkdir(".git", 0755);
    mkdir(".git/hooks", 0755);
    int result = make_and_remove(".git/hooks/pre-commit"), error = errno;
    rmdir(".git/hooks"); /* only what this probe made: both are empty then */
    rmdir(".git");
    errno = error;
    return result;
}
int probe_wd_git_rename_dir(void) {
    int made = mkdir(".git", 0755) == 0;
    int result = reached_if(rename(".git", ".git-probe")), error = errno;
    if (result == REACHED) {
        mkdir(".git", 0755);
        rmdir(".git");
        (void)!rename(".git-probe", ".git");
    }
    if (made)
        rmdir(".git");
    errno = error;
    return result;
}
int probe_x45_rename_workspace(void) {
    char here[4096], other[4200];
    if (getcwd(here, sizeof here) == NULL)
        return REFUSED;
    snprintf(other, sizeof other, "%s.probe", here);
    int result = reached_if(rename(here, other));
    UNDO(result, rename(other, here));
}

int probe_tmp_create(void) { return make_and_remove("/tmp/probe-file"); }
int probe_devshm_create(void) { return make_and_remove("/dev/shm/probe-file"); }
int probe_host_tmp_visible(void) {
    TARGET(marker, "PROBE_TMP_MARKER");
    return reached_if(access(marker, F_OK));
}
int probe_devshm_host_marker(void) {
    TARGET(marker, "PROBE_SHM_MARKER");
    return reached_if(access(marker, F_OK));
}
int probe_var_tmp_create(void) { return make_and_remove("/var/tmp/probe-file"); }
int probe_dev_create(void) { return make_and_remove("/dev/probe-file"); }
int probe_x20_root_create(void) { return make_and_remove("/agt-probe-file"); }
int probe_x20_etc_create(void) { return make_and_remove("/etc/agt-probe-file"); }
int probe_x20_usr_create(void) { return make_and_remove("/usr/bin/agt-probe-file"); }
int probe_x20_run_create(void) { return make_and_remove("/run/agt-probe-file"); }
int probe_x20_home_create(void) {
    const char *home = getenv("HOME");
    char path[512];
    if (home == NULL || *home == '\0') {
        detail("no HOME");
        return NOT_SO;
    }
    snprintf(path, sizeof path, "%s/.agt-probe-file", home);
    return make_and_remove(path);
}
int probe_x26_state_dir(void) {
    TARGET(state, "PROBE_STATE");
    return open_only(state, O_RDONLY | O_DIRECTORY);
}
