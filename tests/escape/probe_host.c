/* What of the host and of the caller shows: privileges, environment, /proc, /sys, /dev. */
#include "probe.h"
#include <dirent.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>

int probe_caps_nonzero(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{0, 0, 0}, {0, 0, 0}};
    if (syscall(SYS_capget, &head, sets) < 0)
        return REFUSED;
    unsigned any = sets[0].effective | sets[1].effective | sets[0].permitted | sets[1].permitted |
                   sets[0].inheritable | sets[1].inheritable;
    detail("effective %08x%08x", sets[1].effective, sets[0].effective);
    return any != 0 ? REACHED : NOT_SO;
}
int probe_capbnd_nonzero(void) {
    int left = 0;
    for (int capability = 0; capability < 64; capability++)
        left += prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1;
    detail("%d capabilities", left);
    return left > 0 ? REACHED : NOT_SO;
}
int probe_cap_ambient_raise(void) {
    return reached_if(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
}
int probe_securebits(void) { return reached_if(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)); }
int probe_prctl_set_mm(void) {
    return reached_past(prctl(PR_SET_MM, PR_SET_MM_START_BRK, 0, 0, 0), EINVAL);
}
int probe_uid_zero(void) {
    detail("uid %d, effective %d", getuid(), geteuid());
    return getuid() == 0 || geteuid() == 0 ? REACHED : NOT_SO;
}

int probe_groups_retained(void) {
    gid_t groups[256];
    int count = getgroups(256, groups), others = 0, first = -1;
    for (int i = 0; i < count; i++)
        if (groups[i] != getegid() && others++ == 0)
            first = (int)groups[i];
    detail("%d other groups, first %d", others, first);
    return count < 0 ? REFUSED : others > 0 ? REACHED : NOT_SO;
}
int probe_groups_retained_read(void) {
    TARGET(path, "PROBE_GROUP_FILE");
    return open_only(path, O_RDONLY);
}

extern char **environ;
int probe_env_secret_token(void) {
    static const char *const words[] = {"SECRET", "TOKEN", "PASSWORD", "API_KEY"};
    for (char **variable = environ; *variable != NULL; variable++) {
        char name[64] = "";
        if (strncmp(*variable, "PROBE_", 6) == 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*variable, "="), *variable);
        for (size_t i = 0; i < 4; i++)
            if (strstr(name, words[i]) != NULL) {
                detail("%s", name);
                return REACHED;
            }
    }
    detail("no such variable");
    return NOT_SO;
}
int probe_env_ssh_auth_sock(void) {
    detail("%s", getenv("SSH_AUTH_SOCK") != NULL ? "set" : "not set");
    return getenv("SSH_AUTH_SOCK") != NULL ? REACHED : NOT_SO;
}
int probe_inherited_fd9(void) {
    detail("%s", fd9_at_start ? "open" : "closed");
    return fd9_at_start ? REACHED : NOT_SO;
}
int probe_fd_sweep(void) {
    detail("open at start: %s", *fds_at_start != '\0' ? fds_at_start : "none");
    return *fds_at_start != '\0' ? REACHED : NOT_SO;
}

int probe_hide_hostname(void) {
    TARGET(real, "PROBE_HOSTNAME");
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    detail("%s", name);
    return strcmp(name, real) == 0 ? REACHED : NOT_SO;
}
int probe_etc_hostname(void) {
    TARGET(real, "PROBE_HOSTNAME");
    char text[256];
    if (read_file("/etc/hostname", text, sizeof text) < 0)
        return REFUSED;
    detail("%.*s", (int)strcspn(text, "\n"), text);
    return strncmp(text, real, strlen(real)) == 0 ? REACHED : NOT_SO;
}
int probe_x52_machine_id(void) {
    TARGET(real, "PROBE_MACHINE_ID");
    char text[64];
    if (read_file("/etc/machine-id", text, sizeof text) < 0)
        return REFUSED;
    detail("%.8s", text);
    return strncmp(text, real, 32) == 0 ? REACHED : NOT_SO;
}

static int readable(const char *path) {
    char text[256];
    long length = read_file(path, text, sizeof text);
    if (length == 0)
        detail("empty");
    return length > 0 ? REACHED : length == 0 ? NOT_SO : REFUSED;
}
int probe_x52_proc_cmdline(void) { return readable("/proc/cmdline"); }
int probe_x52_sys_dmi(void) { return open_only("/sys/class/dmi/id", O_RDONLY | O_DIRECTORY); }
int probe_x52_sys_net(void) { return open_only("/sys/class/net", O_RDONLY | O_DIRECTORY); }
int probe_x52_sys_block(void) { return open_only("/sys/block", O_RDONLY | O_DIRECTORY); }
int probe_x52_boot_id(void) { return readable("/proc/sys/kernel/random/boot_id"); }
int probe_x52_kallsyms(void) {
    char text[64];
    if (read_file("/proc/kallsyms", text, sizeof text) < 0)
        return REFUSED;
    detail("%.16s", text);
    return *text != 0 && strspn(text, "0") < 8 ? REACHED : NOT_SO; /* the addresses, not zeros */
}
int probe_x52_kcore(void) { return open_only("/proc/kcore", O_RDONLY); }
int probe_x52_keys(void) { return readable("/proc/keys"); }
int probe_x52_timer_list(void) { return readable("/proc/timer_list"); }
int probe_x52_modules(void) { return readable("/proc/modules"); }
int probe_x52_config(void) { return readable("/proc/config.gz"); }
int probe_x52_partitions(void) { return readable("/proc/partitions"); }
int probe_x52_net_host(void) {
    /* Interfaces other than loopback: the host's network namespace. */
    struct if_nameindex *all = if_nameindex();
    if (all == NULL)
        return REFUSED;
    for (struct if_nameindex *at = all; at->if_index != 0; at++)
        if (strcmp(at->if_name, "lo") != 0) {
            detail("%s", at->if_name);
            return REACHED;
        }
    detail("loopback only");
    return NOT_SO;
}
int probe_x52_debugfs(void) { return open_only("/sys/kernel/debug", O_RDONLY | O_DIRECTORY); }
int probe_x52_securityfs(void) { return open_only("/sys/kernel/security", O_RDONLY | O_DIRECTORY); }
int probe_x52_etc_shadow(void) { return open_only("/etc/shadow", O_RDONLY); }
int probe_x52_etc_agt(void) { return open_only("/etc/agt", O_RDONLY | O_DIRECTORY); }
int probe_x52_root_home(void) { return open_only("/root", O_RDONLY | O_DIRECTORY); }
/* Somebody's home besides its own, which is called agent. */
int probe_x52_homes(void)
{
    DIR *homes = opendir("/home");
    if (!homes)
        return REFUSED;
    int others = 0;
    for (struct dirent *entry; (entry = readdir(homes));)
        others += entry->d_name[0] != '.' && strcmp(entry->d_name, "agent") != 0;
    closedir(homes);
    return others > 0 ? REACHED : REFUSED;
}
int probe_x52_run(void) { return open_only("/run/lock", O_RDONLY | O_DIRECTORY); }
int probe_x52_var_log(void) { return open_only("/var/log", O_RDONLY | O_DIRECTORY); }
int probe_x52_passwd_real(void) {
    /* Accounts of the host: more than root, nobody and the agent. */
    char text[65536];
    if (read_file("/etc/passwd", text, sizeof text) < 0)
        return REFUSED;
    int lines = 0;
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    detail("%d accounts", lines);
    return lines > 4 ? REACHED : NOT_SO;
}

int probe_core_pattern_read(void) { return readable("/proc/sys/kernel/core_pattern"); }
int probe_core_pattern_write(void) { return open_only("/proc/sys/kernel/core_pattern", O_WRONLY); }
int probe_sysctl_net_write(void) { return open_only("/proc/sys/net/ipv4/ip_forward", O_WRONLY); }
int probe_sysctl_hostname_write(void) { return open_only("/proc/sys/kernel/hostname", O_WRONLY); }
int probe_sysctl_userns_write(void) {
    return open_only("/proc/sys/user/max_user_namespaces", O_WRONLY);
}
int probe_sysctl_shm_write(void) { return open_only("/proc/sys/kernel/shmmax", O_WRONLY); }
int probe_sysctl_mqueue_write(void) { return open_only("/proc/sys/fs/mqueue/msg_max", O_WRONLY); }
int probe_sysrq(void) { return open_only("/proc/sysrq-trigger", O_WRONLY); }
int probe_sys_write(void) {
    static const char *const files[] = {"/sys/kernel/mm/transparent_hugepage/enabled",
                                        "/sys/power/state", "/sys/kernel/uevent_helper",
                                        "/sys/module/kernel/parameters/panic"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (open_only(files[i], O_WRONLY) == REACHED) {
            detail("%s", files[i]);
            return REACHED;
        }
    return REFUSED;
}

static const char *const cgroup_roots[] = {
    "/sys/fs/cgroup",        "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids",
    "/sys/fs/cgroup/memory", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup/systemd"};
enum { CGROUP_ROOTS = sizeof cgroup_roots / sizeof *cgroup_roots };

int probe_cgroup_write(void) {
    char path[128];
    int last = ENOENT;
    for (int i = 0; i < CGROUP_ROOTS; i++) {
        snprintf(path, sizeof path, "%s/cgroup.procs", cgroup_roots[i]);
        if (open_only(path, O_WRONLY) == REACHED) {
            detail("%s", path);
            return REACHED;
        }
        last = errno != ENOENT ? errno : last;
    }
    errno = last;
    return REFUSED;
}
int probe_x13_cgroup_mkdir(void) {
    char path[128];
    int last = ENOENT;
    for (int i = 0; i < CGROUP_ROOTS; i++) {
        snprintf(path, sizeof path, "%s/agt-probe", cgroup_roots[i]);
        if (mkdir(path, 0755) == 0) {
            rmdir(path);
            detail("%s", cgroup_roots[i]);
            return REACHED;
        }
        last = errno != ENOENT ? errno : last;
    }
    errno = last;
    return REFUSED;
}
int probe_x13_cgroup_name(void) {
    /* The name of the own group: a path of the host instead of /. */
    char text[4096];
    if (read_file("/proc/self/cgroup", text, sizeof text) < 0)
        return REFUSED;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *path = strrchr(line, ':');
        if (path != NULL && strcmp(path, ":/") != 0) {
            detail("%.100s", path + 1);
            return REACHED;
        }
    }
    detail("every group is /");
    return NOT_SO;
}

static int oom(int step) {
    char text[32];
    if (read_file("/proc/self/oom_score_adj", text, sizeof text) < 0)
        return REFUSED;
    int now = atoi(text), fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (now + step > 1000)
        step = 0;
    snprintf(text, sizeof text, "%d\n", now + step);
    return fd < 0 ? REFUSED : reached_if(write(fd, text, strlen(text)));
}
int probe_oom_adj_down(void) { return oom(-10); }
int probe_oom_adj_up(void) { return oom(1); }

int probe_dev_mem(void) { return open_only("/dev/mem", O_RDONLY); }
int probe_dev_vda(void) {
    static const char *const disks[] = {"/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda"};
    for (size_t i = 0; i < sizeof disks / sizeof *disks; i++)
        if (open_only(disks[i], O_RDONLY) == REACHED)
            return REACHED;
    return REFUSED;
}
int probe_dev_kmsg(void) { return open_only("/dev/kmsg", O_RDONLY); }
int probe_dev_port(void) { return open_only("/dev/port", O_RDONLY); }
int probe_dev_rtc(void) { return open_only("/dev/rtc0", O_RDONLY); }
int probe_x43_fuse(void) { return open_only("/dev/fuse", O_RDWR); }
int probe_x48_devices(void) {
    static const char *const names[] = {"kvm", "vhost-net", "vhost-vsock", "uinput", "dri/card0",
                                        "dri/renderD128", "nvidiactl", "input/event0", "loop-control",
                                        "mapper/control", "hwrng", "cuse", "snd/seq", "userfaultfd"};
    char path[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/dev/%s", names[i]);
        if (open_only(path, O_RDONLY) == REACHED) {
            detail("%s", path);
            return REACHED;
        }
    }
    return REFUSED;
}
int probe_dev_nodes(void) {
    /* Looked at, not opened: opening some devices does something. */
    static const char usual[] = " null zero full random urandom tty ptmx console ";
    DIR *list = opendir("/dev");
    if (list == NULL)
        return REFUSED;
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        char path[300], word[300];
        struct stat found;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        snprintf(word, sizeof word, " %s ", entry->d_name);
        if (strstr(usual, word) != NULL || lstat(path, &found) < 0)
            continue;
        int device = S_ISBLK(found.st_mode) || S_ISCHR(found.st_mode);
        if (device && (access(path, R_OK) == 0 || access(path, W_OK) == 0)) {
            detail("%.60s", path);
            return REACHED;
        }
    }
    detail("only the usual ones");
    return NOT_SO;
}

/* Looks for a socket below `path` that answers. */
static int socket_below(const char *path, int depth) {
    DIR *list = opendir(path);
    if (list == NULL)
        return NOT_SO;
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        char child[512];
        struct stat found;
        if (entry->d_name[0] == '.' && strchr("./", entry->d_name[1]) != NULL)
            continue;
        snprintf(child, sizeof child, "%.250s/%.250s", path, entry->d_name);
        if (lstat(child, &found) < 0)
            continue;
        const char *ours = getenv("AGT_SOCKET");
        int is_ours = ours != NULL && strcmp(ours, child) == 0;
        if (S_ISSOCK(found.st_mode) && !is_ours && unix_socket(SOCK_STREAM, child, 0) == REACHED) {
            detail("%.120s", child);
            closedir(list);
            return REACHED;
        }
        if (S_ISDIR(found.st_mode) && depth > 0 && socket_below(child, depth - 1) == REACHED) {
            closedir(list);
            return REACHED;
        }
    }
    closedir(list);
    return NOT_SO;
}
int probe_x40_host_sockets(void) {
    static const char *const places[] = {"/run", "/var/run", "/tmp", "/dev", "/var/lib"};
    NOT_AS_ROOT;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (socket_below(places[i], 3) == REACHED)
            return REACHED;
    detail("none that answers");
    return NOT_SO;
}

/* High bits on the remaining calls. */
int probe_x08_prctl_securebits(void) {
    return reached_if(syscall(SYS_prctl, PR_SET_SECUREBITS | 1L << 32, 0L, 0L, 0L, 0L));
}
int probe_x08_prctl_seccomp(void) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* A filter at an address that is not there: EFAULT comes when the operation is let through. */
    return reached_past(syscall(SYS_prctl, PR_SET_SECCOMP | 1L << 32, 2L, 8L, 0L, 0L), EFAULT);
}
int probe_x08_personality(void) {
    return reached_if(syscall(SYS_personality, 0x0400000L | 1L << 32));
}
int probe_x08_keyctl(void) {
    return reached_if(syscall(SYS_keyctl, 1L | 1L << 32 /* JOIN_SESSION */, 0L));
}
