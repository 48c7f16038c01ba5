/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/cgroup.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A copy of the files that a host shows, in a folder of its own. */
struct fixture {
    char root[64];
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    strcpy(fixture->root, "/tmp/manta-cgroup-XXXXXX");
    assert_non_null(mkdtemp(fixture->root));
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture->root);
    assert_int_equal(system(command), 0);
    free(fixture);
    return 0;
}

static void put(const struct fixture *fixture, const char *path, const char *text)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s%s", fixture->root, path);
    for (char *slash = full + strlen(fixture->root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static const char v2_mounts[] =
    "22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
static const char v1_mounts[] =
    "33 24 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "34 24 0:30 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";

static void v2_takes_the_tightest_on_the_way_up(void **state)
{
    put(*state, "/proc/self/mountinfo", v2_mounts);
    put(*state, "/proc/self/cgroup", "0::/pod/box\n");
    put(*state, "/sys/fs/cgroup/pod/box/cpu.max", "400000 100000\n");
    put(*state, "/sys/fs/cgroup/pod/cpu.max", "250000 100000\n");
    assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 2500);
}

static void v2_max_is_no_quota(void **state)
{
    put(*state, "/proc/self/mountinfo", v2_mounts);
    put(*state, "/proc/self/cgroup", "0::/\n");
    put(*state, "/sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 0);
}

static void v1_strips_the_part_that_is_mounted(void **state)
{
    put(*state, "/proc/self/mountinfo", v1_mounts);
    put(*state, "/proc/self/cgroup", "5:cpuset:/\n4:cpu,cpuacct:/docker/abc/job\n");
    put(*state, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put(*state, "/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "150000\n");
    put(*state, "/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 1500);
}

static void v1_path_of_outside_the_container(void **state)
{
    put(*state, "/proc/self/mountinfo", v1_mounts);
    put(*state, "/proc/self/cgroup", "4:cpu,cpuacct:/elsewhere\n");
    put(*state, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
    put(*state, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 500);
}

static void cpuset_alone_is_not_cpu(void **state)
{
    put(*state, "/proc/self/mountinfo",
        "33 24 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
    put(*state, "/proc/self/cgroup", "5:cpuset:/\n");
    put(*state, "/sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "50000\n");
    put(*state, "/sys/fs/cgroup/cpuset/cpu.cfs_period_us", "100000\n");
    assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 0);
}

static void garbage_is_no_quota(void **state)
{
    static const char *const texts[] = {
        "", "\n", "x y", "-5 100000", "100000 0", "100000 -1", "9223372036854775807 1"};
    put(*state, "/proc/self/mountinfo", v2_mounts);
    put(*state, "/proc/self/cgroup", "garbage\n::\n0::/\n");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put(*state, "/sys/fs/cgroup/cpu.max", texts[i]);
        assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 0);
    }
    put(*state, "/proc/self/mountinfo", "no dash here\n1 2 3\n - \n");
    assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 0);
}

static void missing_files_are_no_quota(void **state)
{
    assert_int_equal(mt_cgroup_millicpus(((struct fixture *)*state)->root), 0);
}

static const char memory_mounts_v1[] =
    "34 24 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 24 0:31 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 24 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

static void v2_memory_is_what_the_fullest_leaves(void **state)
{
    const char *root = ((struct fixture *)*state)->root;
    put(*state, "/proc/self/mountinfo", v2_mounts);
    put(*state, "/proc/self/cgroup", "0::/pod/box\n");
    put(*state, "/sys/fs/cgroup/pod/box/memory.max", "max\n");
    put(*state, "/sys/fs/cgroup/pod/box/memory.current", "1000\n");
    assert_true(mt_cgroup_room_bytes(root, 0) == UINT64_MAX);
    put(*state, "/sys/fs/cgroup/pod/memory.max", "10000\n");
    put(*state, "/sys/fs/cgroup/pod/memory.current", "6000\n");
    put(*state, "/sys/fs/cgroup/pod/memory.stat",
        "anon 3000\nfile 900\nshmem 70\ninactive_file 500\nactive_file 300\nunevictable 7\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 0), 4800);
    put(*state, "/sys/fs/cgroup/memory.max", "20000\n");
    put(*state, "/sys/fs/cgroup/memory.current", "19000\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 0), 1000);
    put(*state, "/sys/fs/cgroup/memory.current", "20001\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 0), 0);
}

static void v2_swap_has_a_limit_of_its_own(void **state)
{
    const char *root = ((struct fixture *)*state)->root;
    put(*state, "/proc/self/mountinfo", v2_mounts);
    put(*state, "/proc/self/cgroup", "0::/\n");
    put(*state, "/sys/fs/cgroup/memory.max", "10000\n");
    put(*state, "/sys/fs/cgroup/memory.current", "6000\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 50), 4050);
    put(*state, "/sys/fs/cgroup/memory.swap.max", "max\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 50), 4050);
    put(*state, "/sys/fs/cgroup/memory.swap.max", "30\n");
    put(*state, "/sys/fs/cgroup/memory.swap.current", "10\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 50), 4020);
    assert_int_equal(mt_cgroup_room_bytes(root, 5), 4005);
    put(*state, "/sys/fs/cgroup/memory.swap.max", "0\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 50), 4000);
}

static void v1_limits_memory_and_swap_together(void **state)
{
    const char *root = ((struct fixture *)*state)->root;
    put(*state, "/proc/self/mountinfo", memory_mounts_v1);
    put(*state, "/proc/self/cgroup", "4:memory:/docker/abc/job\n3:cpu,cpuacct:/x\n0::/\n");
    put(*state, "/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
    put(*state, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "10000\n");
    put(*state, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n");
    put(*state, "/sys/fs/cgroup/memory/memory.stat",
        "cache 1000\ninactive_file 1\ntotal_inactive_file 100\ntotal_active_file 20\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 50), 4170);
    put(*state, "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "10030\n");
    put(*state, "/sys/fs/cgroup/memory/memory.memsw.usage_in_bytes", "6010\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 50), 4140);
    assert_int_equal(mt_cgroup_millicpus(root), 0);
}

static void garbage_is_no_limit_of_memory(void **state)
{
    static const char *const texts[] = {"", "\n", "x y", "-1\n", "-9000\n", "max\n"};
    const char *root = ((struct fixture *)*state)->root;
    assert_true(mt_cgroup_room_bytes(root, 7) == UINT64_MAX);
    put(*state, "/proc/self/mountinfo", v2_mounts);
    put(*state, "/proc/self/cgroup", "garbage\n::\n0::/\n");
    put(*state, "/sys/fs/cgroup/memory.stat", "inactive_file many\nactive_file 3\n\n");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put(*state, "/sys/fs/cgroup/memory.max", texts[i]);
        assert_true(mt_cgroup_room_bytes(root, 7) == UINT64_MAX);
    }
    put(*state, "/sys/fs/cgroup/memory.max", "5000\n");
    put(*state, "/sys/fs/cgroup/memory.current", "garbage\n");
    assert_int_equal(mt_cgroup_room_bytes(root, 0), 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(v2_takes_the_tightest_on_the_way_up, setup, teardown),
        cmocka_unit_test_setup_teardown(v2_max_is_no_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_strips_the_part_that_is_mounted, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_path_of_outside_the_container, setup, teardown),
        cmocka_unit_test_setup_teardown(cpuset_alone_is_not_cpu, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_is_no_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_files_are_no_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(v2_memory_is_what_the_fullest_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(v2_swap_has_a_limit_of_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_limits_memory_and_swap_together, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_is_no_limit_of_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
