/* Limits: processes, memory, descriptors, sizes, priorities. */
#include "probe.h"
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static int limit_is_infinite(int which) {
    struct rlimit now;
    if (getrlimit(which, &now) < 0)
        return REFUSED;
    detail("hard %ld", (long)now.rlim_max);
    return now.rlim_max == RLIM_INFINITY ? REACHED : NOT_SO;
}

int probe_raise_nofile(void) {
    struct rlimit now;
    if (getrlimit(RLIMIT_NOFILE, &now) < 0)
        return REFUSED;
    now.rlim_max += 1;
    return reached_if(setrlimit(RLIMIT_NOFILE, &now));
}

/* REACHED when more processes can be alive at once than PROBE_PIDS says (1024: ring 2). */
int probe_nproc_unlimited(void) {
    long most = number("PROBE_PIDS", 1024), made = 0;
    int why = 0;
    while (made <= most) {
        pid_t pid = fork();
        if (pid == 0) {
            pause();
            _exit(0);
        }
        if (pid < 0) {
            why = errno;
            break;
        }
        made++;
    }
    detail("%ld processes", made);
    errno = why;
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    return why == 0 ? REACHED : REFUSED;
}

/* Bytes that a bomb must reach: a quarter more than PROBE_MEMORY (512 MiB: ring 3). */
static size_t bomb(void) {
    size_t limit = (size_t)number("PROBE_MEMORY", 512L << 20);
    return limit + limit / 4;
}
/* Where memory is watched instead of enforced, the watch has two seconds. */
static int holds(size_t bytes) {
    sleep(2);
    detail("%zu MiB held", bytes >> 20);
    return REACHED;
}

int probe_as_unlimited(void) {
    size_t bytes = bomb();
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return REFUSED;
    for (size_t at = 0; at < bytes; at += 4096)
        memory[at] = 1;
    return holds(bytes);
}

/* Writes `bytes` to a descriptor. */
static int fill(int fd, size_t bytes) {
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    if (fd < 0)
        return REFUSED;
    for (size_t done = 0; done < bytes; done += sizeof block)
        if (write(fd, block, sizeof block) != (long)sizeof block) {
            int error = errno;
            detail("after %zu MiB", done >> 20);
            errno = error;
            return REFUSED;
        }
    return REACHED;
}
int probe_memfd_bomb(void) {
    int result = fill((int)syscall(SYS_memfd_create, "probe", 1U), bomb());
    return result == REACHED ? holds(bomb()) : result;
}
int probe_memfd_bomb_many(void) {
    for (size_t done = 0; done < bomb(); done += 8 << 20)
        if (fill((int)syscall(SYS_memfd_create, "probe", 1U), 8 << 20) != REACHED)
            return REFUSED;
    return holds(bomb());
}
static int fill_folder(const char *path) {
    size_t most = (size_t)number("PROBE_TMP", 1L << 30);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    unlink(path);
    int result = fill(fd, most + most / 8);
    return result == REACHED ? holds(most + most / 8) : result;
}
int probe_x28_tmp_fill(void) { return fill_folder("/tmp/probe-fill"); }
int probe_x28_devshm_fill(void) { return fill_folder("/dev/shm/probe-fill"); }
static int shm_bomb(int detached) {
    int id = shmget(IPC_PRIVATE, bomb(), IPC_CREAT | 0600);
    char *memory = id < 0 ? (char *)-1 : shmat(id, NULL, 0);
    if (memory == (char *)-1)
        return REFUSED;
    for (size_t at = 0; at < bomb(); at += 4096)
        memory[at] = 1;
    if (detached)
        shmdt(memory); /* in no process's resident set now */
    int result = holds(bomb());
    shmctl(id, IPC_RMID, NULL);
    return result;
}
int probe_x28_shm_bomb(void) { return shm_bomb(0); }
int probe_x28_shm_detached_bomb(void) { return shm_bomb(1); }
int probe_x28_pipe_bomb(void) {
    static char block[1 << 16];
    size_t held = 0, most = bomb();
    while (held < most) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK) < 0)
            break;
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        while (write(ends[1], block, sizeof block) > 0)
            held += sizeof block;
    }
    int error = errno;
    detail("%zu MiB in pipes", held >> 20);
    errno = error;
    return held >= most ? holds(held) : REFUSED;
}
int probe_x28_mlock(void) {
    size_t bytes = 80UL << 20;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? REFUSED : reached_if(mlock(memory, bytes));
}
int probe_x28_hugetlb(void) {
    void *memory = mmap(NULL, 2UL << 20, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
    return memory == MAP_FAILED ? REFUSED : REACHED;
}
int probe_x28_pipe_size(void) {
    int ends[2];
    return pipe(ends) < 0 ? REFUSED : reached_if(fcntl(ends[0], F_SETPIPE_SZ, 64 << 20));
}

int probe_core_unlimited_hard(void) {
    struct rlimit now;
    if (getrlimit(RLIMIT_CORE, &now) < 0)
        return REFUSED;
    detail("hard %ld", (long)now.rlim_max);
    return now.rlim_max > 0 ? REACHED : NOT_SO;
}
int probe_x24_core_dump(void) {
    struct rlimit now;
    if (getrlimit(RLIMIT_CORE, &now) == 0) {
        now.rlim_cur = now.rlim_max;
        setrlimit(RLIMIT_CORE, &now);
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)!chdir("/tmp"); /* not into the workspace */
        abort();
    }
    int status = 0;
    waitpid(pid, &status, 0);
    unlink("/tmp/core");
    detail("%s", WCOREDUMP(status) ? "a core was dumped" : "no core");
    return WCOREDUMP(status) ? REACHED : NOT_SO;
}

int probe_x29_file_size(void) {
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("probe-size"));
    signal(SIGXFSZ, SIG_IGN);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    unlink(path);
    return fd < 0 ? REFUSED : reached_if(ftruncate(fd, 1L << 40));
}
int probe_x30_fds(void) {
    int last = -1, fd;
    while (last < 65536 && (fd = dup(1)) >= 0)
        last = fd;
    int error = errno;
    detail("up to %d", last);
    errno = error;
    return last >= 65536 ? REACHED : REFUSED;
}
int probe_x30_inotify(void) {
    int made = 0;
    while (made < 1024 && inotify_init1(IN_CLOEXEC) >= 0)
        made++;
    int error = errno;
    detail("%d instances", made);
    errno = error;
    return made == 1024 ? REACHED : REFUSED;
}
int probe_x30_timers(void) {
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    int made = 0;
    timer_t timer;
    while (made < 200000 && timer_create(CLOCK_MONOTONIC, &none, &timer) == 0)
        made++;
    int error = errno;
    detail("%d timers", made);
    errno = error;
    return made == 200000 ? REACHED : REFUSED;
}
int probe_x30_signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGALRM);
    sigprocmask(SIG_BLOCK, &all, NULL);
    int sent = 0;
    while (sent < 200000 && sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 0}) == 0)
        sent++;
    int error = errno;
    detail("%d signals", sent);
    errno = error;
    return sent == 200000 ? REACHED : REFUSED;
}
int probe_x30_ptys(void) {
    int made = 0;
    while (made < 2048 && open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC) >= 0)
        made++;
    int error = errno;
    detail("%d terminals", made);
    errno = error;
    return made == 2048 ? REACHED : REFUSED;
}

int probe_x31_sched_fifo(void) {
    struct sched_param one = {1};
    return reached_if(sched_setscheduler(0, SCHED_FIFO, &one));
}
int probe_x31_sched_rr(void) {
    struct sched_param one = {1};
    return reached_if(sched_setscheduler(0, SCHED_RR, &one));
}
int probe_x31_sched_deadline(void) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wish = {48, 6, 0, 0, 0, 1000000, 10000000, 10000000};
    return reached_if(syscall(SYS_sched_setattr, 0, &wish, 0));
}
int probe_x31_nice_negative(void) {
    errno = 0;
    return nice(-5) == -1 && errno != 0 ? REFUSED : REACHED;
}
int probe_x31_ioprio_rt(void) { return reached_if(syscall(SYS_ioprio_set, 1, 0, 1 << 13)); }
int probe_x31_rtprio_limit(void) { return limit_is_infinite(RLIMIT_RTPRIO); }
int probe_x31_rtprio_some(void) {
    struct rlimit now;
    if (getrlimit(RLIMIT_RTPRIO, &now) < 0)
        return REFUSED;
    detail("hard %ld", (long)now.rlim_max);
    return now.rlim_max > 0 ? REACHED : NOT_SO;
}

/* Shared memory and queues of the host. */
int probe_sysv_shm(void) {
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    if (id >= 0)
        shmctl(id, IPC_RMID, NULL);
    return reached_if(id);
}
int probe_sysv_shm_host_key(void) {
    long key = number("PROBE_SHM_KEY", 0);
    if (key == 0)
        return NO_TARGET;
    int id = shmget((key_t)key, 0, 0);
    return id < 0 || shmat(id, NULL, SHM_RDONLY) == (void *)-1 ? REFUSED : REACHED;
}
int probe_sysv_sem(void) {
    int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    if (id >= 0)
        semctl(id, 0, IPC_RMID);
    return reached_if(id);
}
int probe_sysv_msg(void) {
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    if (id >= 0)
        msgctl(id, IPC_RMID, NULL);
    return reached_if(id);
}
int probe_posix_mq(void) {
    long id = syscall(SYS_mq_open, "agt-probe", O_RDWR | O_CREAT, 0600, NULL);
    if (id >= 0)
        syscall(SYS_mq_unlink, "agt-probe");
    return reached_if(id);
}
