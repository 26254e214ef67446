/* The kernel's own doors: other tables of calls, subsystems that a filter forgets, namespaces. */
#include "probe.h"
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sys/fanotify.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/time.h>
#include <sys/timex.h>

int probe_io_uring(void) {
    unsigned parameters[40] = {0};
    return reached_if(syscall(SYS_io_uring_setup, 4, parameters));
}

int probe_io_uring_enter(void) {
    return reached_past(syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0), EBADF);
}

int probe_io_uring_register(void) {
    return reached_past(syscall(SYS_io_uring_register, -1, 0, NULL, 0), EBADF);
}

#ifdef __x86_64__
static int int80(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

static int int80_result(int result) {
    errno = result < 0 ? -result : 0;
    return reached_if(result);
}

int probe_int80_getpid(void) { return int80_result(int80(20, 0, 0, 0)); }
int probe_int80_socket_inet(void) { return int80_result(int80(359, AF_INET, SOCK_STREAM, 0)); }
int probe_x32_getpid(void) { return reached_if(syscall(0x40000000 | SYS_getpid)); }
int probe_x32_openat(void) {
    return reached_if(syscall(0x40000000 | SYS_openat, AT_FDCWD, "/", O_RDONLY));
}

static int int80_low(long number, const char *text, long b, long c) {
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED)
        return REFUSED;
    snprintf(low, 4096, "%s", text);
    return int80_result(int80(number, (long)low, b, c));
}

int probe_int80_open(void) { return int80_low(5, "/", O_RDONLY, 0); }
int probe_int80_chmod(void) {
    const char *path = scratch("probe-int80");
    if (write_file(path, "", 0, 0600) < 0)
        return REFUSED;
    int result = int80_low(15, path, 04755, 0);
    int error = errno;
    unlink(path);
    errno = error;
    return result;
}
int probe_int80_ptrace(void) { return int80_result(int80(26, 0 /* TRACEME */, 0, 0)); }
int probe_int80_unshare_user(void) { return int80_result(int80(310, CLONE_NEWUSER, 0, 0)); }
#else
static int no_such_table(void) {
    detail("no second table of calls on this machine");
    return NOT_SO;
}
int probe_int80_getpid(void) { return no_such_table(); }
int probe_int80_socket_inet(void) { return no_such_table(); }
int probe_int80_open(void) { return no_such_table(); }
int probe_int80_chmod(void) { return no_such_table(); }
int probe_int80_ptrace(void) { return no_such_table(); }
int probe_int80_unshare_user(void) { return no_such_table(); }
int probe_x32_getpid(void) { return no_such_table(); }
int probe_x32_openat(void) { return no_such_table(); }
#endif

int probe_aarch32_syscall(void) {
    return run_bytes(scratch("probe-32"), tiny_elf32, tiny_elf32_length);
}

int probe_seccomp_new_listener(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return reached_if(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                              SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

int probe_x09_own_filter(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return reached_if(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

int probe_x09_own_filter_prctl(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return reached_if(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

int probe_keyctl(void) {
    return reached_past(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0),
                        ENOKEY);
}

static int add_to(int keyring) {
    long key = syscall(SYS_add_key, "user", "agt-probe", "x", (size_t)1, keyring);
    if (key >= 0)
        syscall(SYS_keyctl, KEYCTL_UNLINK, key, keyring);
    return reached_if(key);
}

int probe_add_key(void) { return add_to(KEY_SPEC_SESSION_KEYRING); }
int probe_add_key_user(void) { return add_to(KEY_SPEC_USER_KEYRING); }
int probe_keyctl_join_session(void) {
    return reached_if(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
}
int probe_keyctl_persistent(void) {
    return reached_if(
        syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING));
}
int probe_request_key(void) {
    /* ENOKEY: looked up, so an upcall to a root helper of the host would have followed. */
    return reached_past(syscall(SYS_request_key, "user", "agt-probe-none", NULL, 0), ENOKEY);
}

int probe_bpf_map(void) {
    struct {
        unsigned type, key, value, entries, rest[28];
    } array = {2, 4, 4, 1, {0}};
    return reached_if(syscall(SYS_bpf, 0, &array, sizeof array));
}

int probe_perf_event(void) {
    struct perf_event_attr clock = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof clock,
        .config = PERF_COUNT_SW_CPU_CLOCK,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    return reached_if(syscall(SYS_perf_event_open, &clock, 0, -1, -1, 0));
}

int probe_userfaultfd(void) {
    return reached_if(syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* USER_MODE_ONLY */));
}
int probe_userfaultfd_dev(void) { return open_only("/dev/userfaultfd", O_RDWR); }

int probe_syslog(void) {
    char text[64];
    return reached_if(klogctl(3, text, sizeof text));
}

int probe_fanotify(void) {
    int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY);
    return reached_if(fd);
}

int probe_modify_ldt(void) {
#ifdef SYS_modify_ldt
    char table[64];
    return reached_if(syscall(SYS_modify_ldt, 0, table, sizeof table));
#else
    detail("no such call on this machine");
    return NOT_SO;
#endif
}

int probe_iopl(void) {
#ifdef SYS_iopl
    if (syscall(SYS_ioperm, 0x80, 1, 1) == 0)
        return REACHED;
    return reached_if(syscall(SYS_iopl, 3));
#else
    detail("no such call on this machine");
    return NOT_SO;
#endif
}

int probe_kexec_load(void) {
    return reached_past(syscall(SYS_kexec_load, 0, 17, NULL, 0), EINVAL);
}
int probe_kexec_file_load(void) {
    return reached_past(syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0), EBADF);
}
int probe_init_module(void) { return reached_past(syscall(SYS_init_module, NULL, 0, ""), ENOEXEC); }
int probe_finit_module(void) { return reached_past(syscall(SYS_finit_module, -1, "", 0), EBADF); }
int probe_delete_module(void) {
    return reached_past(syscall(SYS_delete_module, "agt_probe_none", O_NONBLOCK), ENOENT);
}

int probe_personality_rie(void) {
    return reached_if(personality(READ_IMPLIES_EXEC));
}
int probe_personality_no_aslr(void) { return reached_if(personality(ADDR_NO_RANDOMIZE)); }

int probe_sethostname(void) {
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    return reached_if(sethostname(name, strlen(name)));
}
int probe_setdomainname(void) {
    char name[256] = "";
    if (getdomainname(name, sizeof name - 1) < 0)
        return REFUSED;
    return reached_if(setdomainname(name, strlen(name)));
}

int probe_settimeofday(void) {
    struct timeval now;
    gettimeofday(&now, NULL);
    return reached_if(syscall(SYS_settimeofday, &now, NULL));
}
int probe_clock_settime(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return reached_if(syscall(SYS_clock_settime, CLOCK_REALTIME, &now));
}
int probe_adjtimex(void) {
    struct timex read_only = {0};
    return reached_if(adjtimex(&read_only));
}
int probe_adjtimex_write(void) {
    struct timex state = {0};
    if (adjtimex(&state) < 0)
        return REFUSED;
    struct timex same = {.modes = ADJ_FREQUENCY, .freq = state.freq};
    return reached_if(adjtimex(&same));
}

int probe_reboot(void) { return reached_past(syscall(SYS_reboot, 1, 2, 3, NULL), EINVAL); }
int probe_swapon(void) { return reached_past(syscall(SYS_swapon, "/agt-none", 0), ENOENT); }
int probe_swapoff(void) { return reached_past(syscall(SYS_swapoff, "/agt-none"), ENOENT); }
int probe_acct(void) { return reached_past(syscall(SYS_acct, "/agt-none"), ENOENT); }
int probe_quotactl(void) {
    /* Q_SYNC of one file system that is not there. */
    return reached_past(syscall(SYS_quotactl, 0x800001 << 8, "/agt-none", 0, NULL), ENOENT);
}
int probe_memfd_secret(void) { return reached_if(syscall(447, O_CLOEXEC)); }

int probe_mmap_wx(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? REFUSED : REACHED;
}

int probe_mmap_zero(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return page == MAP_FAILED ? REFUSED : REACHED;
}

int probe_selfmem_write_ro(void) {
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return REFUSED;
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return REFUSED;
    return pwrite(fd, "x", 1, (off_t)(uintptr_t)page) == 1 && *page == 'x' ? REACHED : REFUSED;
}

int probe_nnp_not_set(void) {
    detail("no_new_privs is %s", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? "set" : "not set");
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? NOT_SO : REACHED;
}
