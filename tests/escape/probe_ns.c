/* Namespaces, mounts, and the ways out of a root directory. */
#include "probe.h"
#include <linux/mount.h>

extern int mount(const char *, const char *, const char *, unsigned long, const void *);
extern int umount2(const char *, int);
enum { DETACH = 2, BIND = 4096, REC = 16384, PRIVATE = 1 << 18 };

struct clone3_request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, rest[6];
};

int probe_clone3_newuser(void) {
    struct clone3_request request = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &request, sizeof request);
    if (pid == 0)
        _exit(0);
    return reached_if(pid);
}

static int clone_with(unsigned long flags) {
    long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    return reached_if(pid);
}

int probe_clone_newuser(void) { return clone_with(CLONE_NEWUSER); }
int probe_clone_newuser_newpid(void) { return clone_with(CLONE_NEWUSER | CLONE_NEWPID); }
int probe_clone_newns(void) { return clone_with(CLONE_NEWNS); }
int probe_clone_newnet(void) { return clone_with(CLONE_NEWNET); }
int probe_x08_clone_newuser(void) { return clone_with(CLONE_NEWUSER | 1UL << 32); }
int probe_x08_unshare_newuser(void) {
    return reached_if(syscall(SYS_unshare, CLONE_NEWUSER | 1UL << 32));
}

int probe_unshare_user(void) { return reached_if(unshare(CLONE_NEWUSER)); }
int probe_unshare_userns_netns(void) { return reached_if(unshare(CLONE_NEWUSER | CLONE_NEWNET)); }
int probe_unshare_user_ns_mount(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return REFUSED;
    mount(NULL, "/", NULL, REC | PRIVATE, NULL);
    return reached_if(mount("probe", "/tmp", "tmpfs", 0, NULL));
}

int probe_unshare_newns(void) { return reached_if(unshare(CLONE_NEWNS)); }
int probe_unshare_newpid(void) { return reached_if(unshare(CLONE_NEWPID)); }
int probe_unshare_newnet(void) { return reached_if(unshare(CLONE_NEWNET)); }
int probe_unshare_newipc(void) { return reached_if(unshare(CLONE_NEWIPC)); }
int probe_unshare_newuts(void) { return reached_if(unshare(CLONE_NEWUTS)); }
int probe_unshare_newcgroup(void) { return reached_if(unshare(0x02000000)); }
int probe_unshare_newtime(void) { return reached_if(unshare(0x00000080)); }

static const char *const kinds[] = {"user", "mnt", "pid_for_children", "net",
                                    "ipc",  "uts", "cgroup",           "time_for_children"};

static int enter(const char *pid, int own_user) {
    char entered[120] = "", path[64];
    int last = ENOENT;
    for (size_t i = own_user ? 0 : 1; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(path, sizeof path, "/proc/%s/ns/%s", pid, kinds[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || setns(fd, 0) < 0)
            last = errno;
        else
            snprintf(entered + strlen(entered), sizeof entered - strlen(entered), "%s ", kinds[i]);
    }
    if (*entered == '\0') {
        errno = last;
        return REFUSED;
    }
    detail("%s", entered);
    return REACHED;
}

int probe_setns_victim(void) {
    TARGET(victim, "PROBE_VICTIM_PID");
    return enter(victim, 1);
}
int probe_setns_self(void) { return enter("self", 1); }
int probe_init_ns(void) {
    NOT_AS_ROOT;
    return enter("1", 1);
}
int probe_x08_setns_self(void) {
    int fd = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    return reached_if(syscall(SYS_setns, fd, 0x04000000 | 1UL << 32));
}

int probe_mount_bind(void) {
    if (mount(".", ".", NULL, BIND, NULL) < 0)
        return REFUSED;
    umount2(".", DETACH);
    return REACHED;
}
int probe_mount_tmpfs(void) {
    if (mount("probe", "/mnt", "tmpfs", 0, NULL) < 0)
        return REFUSED;
    umount2("/mnt", DETACH);
    return REACHED;
}
int probe_mount_remount_rw(void) {
    /* Not a mount point: EINVAL comes after the permission check, and nothing changes. */
    return reached_past(mount(NULL, "/proc/self", NULL, 32 | BIND, NULL), EINVAL);
}
int probe_umount(void) { return reached_past(umount2("/proc/self", 0), EINVAL); }
int probe_mount_setattr(void) {
    struct {
        uint64_t set, clear, propagation, userns;
    } attributes = {0x10 /* NOATIME */, 0x70, 0, 0};
    return reached_past(syscall(SYS_mount_setattr, AT_FDCWD, "/proc/self", 0, &attributes,
                                sizeof attributes),
                        EINVAL);
}
int probe_open_tree_clone(void) {
    return reached_if(syscall(SYS_open_tree, AT_FDCWD, "/", 1 | O_CLOEXEC));
}
int probe_fsopen(void) { return reached_if(syscall(SYS_fsopen, "tmpfs", 1)); }
int probe_fspick(void) { return reached_if(syscall(SYS_fspick, AT_FDCWD, "/", 1)); }
int probe_move_mount(void) {
    return reached_past(syscall(SYS_move_mount, AT_FDCWD, "/proc/self", AT_FDCWD, "/proc/self", 0),
                        EINVAL);
}
int probe_mount_via_new_api(void) {
    long fs = syscall(SYS_fsopen, "tmpfs", 1);
    if (fs < 0)
        return REFUSED;
    if (syscall(SYS_fsconfig, fs, 6 /* CMD_CREATE */, NULL, NULL, 0) < 0)
        return REFUSED;
    return reached_if(syscall(SYS_fsmount, fs, 1, 0));
}

int probe_chroot(void) { return reached_if(chroot(".")); }
int probe_pivot_root(void) {
    /* The root onto itself: never possible, but EBUSY or EINVAL only for who may do it. */
    long result = syscall(SYS_pivot_root, "/", "/");
    return errno == EBUSY ? reached_past(result, EBUSY) : reached_past(result, EINVAL);
}

int probe_open_by_handle(void) {
    struct {
        unsigned bytes;
        int type;
        unsigned char handle[128];
    } handle = {128, 0, {0}};
    int mount_id;
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, "/usr", &handle, &mount_id, 0) < 0)
        return REFUSED;
    int root = open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return reached_if(syscall(SYS_open_by_handle_at, root, &handle, O_RDONLY));
}

int probe_uid_map_write(void) {
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    return reached_if(write(fd, "0 0 1\n", 6));
}
int probe_setgroups_file(void) {
    int fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
    return fd < 0 ? REFUSED : reached_if(write(fd, "allow", 5));
}

int probe_x13_cgroup_mount(void) {
    if (mount("probe", "/mnt", "cgroup2", 0, NULL) < 0)
        return REFUSED;
    umount2("/mnt", DETACH);
    return REACHED;
}

int probe_x51_cwd_unreachable(void) {
    char path[4096];
    /* The kernel's answer, which getcwd(3) hides. */
    if (syscall(SYS_getcwd, path, sizeof path) < 0)
        return REFUSED;
    detail("%.100s", path);
    return path[0] == '/' ? NOT_SO : REACHED;
}
