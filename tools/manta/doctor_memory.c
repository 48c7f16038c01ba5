/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that ranks of one host share, and reading another rank's memory. */
#include "tools/manta/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/config.h"
#include "tools/manta/manta.h"
#include "topology/host.h"
#include "transport/shm/segment.h"

/* Two mappings of a sealed memfd must show the same bytes; NULL, or what failed. */
static const char *try_memfd(void)
{
    enum { BYTES = 1 << 16 };
    const char *failed = NULL;
    int fd = memfd_create("manta-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return "memfd_create";
    void *one = MAP_FAILED, *two = MAP_FAILED;
    if (ftruncate(fd, BYTES) != 0)
        failed = "ftruncate";
    else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        failed = "sealing";
    else if ((one = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED ||
             (two = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        failed = "mmap";
    else {
        memset(one, 0x5a, BYTES);
        failed = memcmp(one, two, BYTES) == 0 ? NULL : "sharing";
    }
    if (one != MAP_FAILED)
        munmap(one, BYTES);
    if (two != MAP_FAILED)
        munmap(two, BYTES);
    close(fd);
    return failed;
}

/* Does MANTA_SHM_MAX suffice for a rank on each CPU, or for two at least? */
static void check_budget(void)
{
    struct mt_shm_geometry geometry;
    struct mt_error error;
    uint64_t most;
    uint32_t cpus = mt_host()->affinity_cpus, ranks = cpus > 2 ? cpus : 2;
    if (mt_config_bytes(MT_VAR(SHM_MAX), &most, &error) != 0)
        return;
    if (mt_shm_geometry(ranks, most / ranks, &geometry) != 0)
        doctor_say(DOCTOR_WARNING, "MANTA_SHM_MAX",
                   "%s is too small for %u ranks of this host: they would use TCP, which is "
                   "slower; raise it, the default is %s",
                   mt_config_string(MT_VAR(SHM_MAX)), ranks,
                   mt_config_entry(MT_VAR(SHM_MAX))->fallback);
}

void doctor_shared_memory(void)
{
    uint64_t wanted = 0, available = mt_host_available_bytes();
    const char *failed = try_memfd();
    struct mt_error error;
    char have[32], want[32];
    if (failed != NULL) {
        doctor_say(DOCTOR_PROBLEM, "shared memory",
                   "%s failed (%s): ranks of this host must use TCP; look at the container's "
                   "seccomp profile",
                   failed, strerror(errno));
        return;
    }
    doctor_say(DOCTOR_OK, "shared memory", "sealed memfd works (nothing in /dev/shm is needed)");
    check_budget();
    if (mt_config_bytes(MT_VAR(SHM_MAX), &wanted, &error) != 0 || available == 0)
        return;
    format_bytes(available, have, sizeof have);
    format_bytes(wanted, want, sizeof want);
    if (available < 2 * wanted)
        doctor_say(DOCTOR_WARNING, "memory",
                   "%s available, and a communicator may take %s for staging: lower MANTA_SHM_MAX",
                   have, want);
    else
        doctor_say(DOCTOR_OK, "memory",
                   "%s available; a communicator takes at most %s (MANTA_SHM_MAX)", have, want);
}

/* A child that does nothing until its parent closes the pipe. */
static pid_t fork_holder(const int hold[2])
{
    pid_t child = fork();
    if (child != 0)
        return child;
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(hold[1]);
    _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
}

/* A second child reads the first one's copy of the nonce: ranks are siblings too, and Yama treats
 * siblings more strictly than parent and child. Its exit code is 0 or an errno. */
static pid_t fork_reader(pid_t holder, const uint64_t nonce[4])
{
    pid_t child = fork();
    if (child != 0)
        return child;
    uint64_t seen[4] = {0};
    struct iovec local = {seen, sizeof seen}, remote = {(void *)nonce, sizeof seen};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ssize_t got = process_vm_readv(holder, &local, 1, &remote, 1, 0);
    if (got != (ssize_t)sizeof seen)
        _exit(got < 0 ? errno : EIO);
    _exit(memcmp(seen, nonce, sizeof seen) == 0 ? 0 : EIO);
}

static int exit_code(pid_t child)
{
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return EIO;
    return WEXITSTATUS(status);
}

/* 0, or the errno with which one rank cannot read another's memory. */
static int try_cross_memory(void)
{
    static uint64_t nonce[4];
    int hold[2];
    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce || pipe2(hold, O_CLOEXEC) != 0)
        return errno;
    int result = EIO;
    pid_t holder = fork_holder(hold);
    if (holder > 0)
        result = exit_code(fork_reader(holder, nonce));
    close(hold[0]);
    close(hold[1]); /* lets the holder go */
    if (holder > 0)
        exit_code(holder);
    return result;
}

void doctor_cross_memory(void)
{
    int error = try_cross_memory();
    if (error == 0)
        doctor_say(DOCTOR_OK, "cross memory",
                   "process_vm_readv between ranks is allowed; this version has no transport that "
                   "uses it");
    else
        doctor_say(DOCTOR_OK, "cross memory",
                   "process_vm_readv between ranks is not allowed (%s); nothing in this version "
                   "needs it. `sysctl kernel.yama.ptrace_scope=0`, or CAP_SYS_PTRACE for a "
                   "container, would allow it",
                   strerror(error));
}
