/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that peers can map: what is found where, when it comes, goes and comes again, under
 * threads, in a child, without descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "core/service.h"
#include "tests/support/descriptors.h"
#include "topology/host.h"
#include "transport/memory.h"
#include "transport/memory_table.h"

enum { THREADS = 4 };

static struct mt_error error;

static uint8_t *allocate(uint64_t bytes)
{
    void *start;
    assert_int_equal(mt_memory_alloc(bytes, &start, &error), 0);
    return start;
}

static uint64_t segment_of(const void *address)
{
    struct mt_memory_view view;
    mt_memory_describe(address, &view);
    return view.segment;
}

static const char *reason_of(const void *address)
{
    static struct mt_memory_view view;
    mt_memory_describe(address, &view);
    return view.reason;
}

static void assert_found(const uint8_t *address, uint64_t bytes, uint64_t segment, uint64_t offset)
{
    struct mt_memory_place place = mt_memory_find(address, bytes);
    assert_true(place.segment == segment);
    if (segment != 0)
        assert_int_equal(place.offset, offset);
}

static void test_edges(void **state)
{
    (void)state;
    const uint64_t bytes[] = {1, 4095, 4096, 4097, (2 << 20) - 1, (2 << 20) + 5};
    assert_int_equal(mt_memory_find(&error, 1).segment, 0);
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        uint8_t *memory = allocate(bytes[i]);
        uint64_t segment = segment_of(memory);
        assert_int_not_equal(segment, 0);
        assert_int_equal((uintptr_t)memory % (bytes[i] > 2 << 20 ? 2 << 20 : 4096), 0);
        for (uint64_t at = 0; at < bytes[i]; at++)
            assert_int_equal(memory[at], 0);
        memset(memory, 0x5a, bytes[i]);
        assert_found(memory, bytes[i], segment, 0);
        assert_found(memory + bytes[i] - 1, 1, segment, bytes[i] - 1);
        assert_found(memory, bytes[i] + 1, 0, 0);
        assert_found(memory + bytes[i] - 1, 2, 0, 0);
        assert_found(memory + bytes[i], 1, 0, 0);
        assert_found(memory - 1, 1, 0, 0);
        assert_found(memory, UINT64_MAX, 0, 0);
        assert_int_equal(mt_memory_free(memory, &error), 0);
        assert_found(memory, 1, 0, 0);
    }
    void *start = &start;
    assert_int_equal(mt_memory_alloc(0, &start, &error), MANTA_EINVAL);
    assert_null(start);
    assert_int_equal(mt_memory_alloc(UINT64_MAX, &start, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_alloc(UINT64_C(1) << 61, &start, &error), MANTA_ENOMEM);
    assert_null(strstr(error.sentence, strerror(0)));
    assert_null(start);
}

/* More than the host has is refused; the kernel would kill whoever fills it. */
static void test_more_than_there_is(void **state)
{
    (void)state;
    uint64_t available = mt_host_available_bytes();
    assert_true(available > 0);
    errno = 0;
    assert_int_equal(mt_memory_create_file(UINT64_C(1) << 50), -1);
    assert_int_equal(errno, ENOMEM);
    int fd = mt_memory_create_file(available / 4096 / 4 * 4096);
    assert_true(fd >= 0);
    mt_fd_close(fd);
}

static void test_free_refuses(void **state)
{
    (void)state;
    uint8_t *memory = allocate(10000);
    assert_int_equal(mt_memory_free(memory + 4096, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_free(&error, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_free(memory, &error), 0);
    assert_int_equal(mt_memory_free(memory, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "manta_mem_alloc()"));
}

/* A name is never used twice, and its file is not given when it is gone. */
static void test_names(void **state)
{
    (void)state;
    struct mt_memory_file file;
    uint64_t bytes, last = 0, changes = atomic_load(&mt_memory_changes);
    for (int i = 0; i < 1000; i++) {
        uint8_t *memory = allocate(1);
        uint64_t segment = segment_of(memory);
        assert_true(segment > last);
        assert_true(mt_memory_base(segment, &bytes) == memory);
        assert_int_equal(bytes, 4096);
        assert_int_equal(mt_memory_free(memory, &error), 0);
        assert_null(mt_memory_base(segment, &bytes));
        assert_int_equal(mt_memory_file(segment, &file), MANTA_EINVAL);
        last = segment;
    }
    assert_int_equal(atomic_load(&mt_memory_changes), changes + 1000);
    assert_null(mt_memory_base(0, &bytes));
}

/* What has no slot is memory like any other, and gets none later. */
static void test_more_than_slots(void **state)
{
    (void)state;
    enum { MORE = MT_MEMORY_SLOTS + 40 };
    uint8_t *memory[MORE];
    for (int i = 0; i < MORE; i++) {
        memory[i] = allocate(5000);
        memory[i][4999] = 1;
        assert_int_equal(segment_of(memory[i]) != 0, i < MT_MEMORY_SLOTS);
    }
    assert_non_null(strstr(reason_of(memory[MORE - 1]), "free some"));
    for (int i = 0; i < MORE; i++)
        assert_found(memory[i] + 7, 4000, i < MT_MEMORY_SLOTS ? segment_of(memory[i]) : 0, 7);
    assert_int_equal(mt_memory_free(memory[17], &error), 0);
    memory[17] = allocate(1);
    assert_int_equal(mt_memory_slot(segment_of(memory[17])), 17);
    for (int i = 0; i < MORE; i++)
        assert_int_equal(mt_memory_free(memory[i], &error), 0);
    assert_int_equal(atomic_load(&mt_memory_count), 0);
}

/* Others come and go meanwhile: what is found is the own memory, or nothing. */
static void *come_and_go(void *arg)
{
    uint64_t *wrong = arg;
    for (int i = 0; i < 300; i++) {
        struct mt_error mine;
        void *start;
        uint64_t bytes = 1 + (uint64_t)i * 37;
        if (mt_memory_alloc(bytes, &start, &mine) != 0)
            return NULL;
        uint64_t segment = segment_of(start);
        for (int look = 0; look < 50; look++) {
            struct mt_memory_place place = mt_memory_find((uint8_t *)start + bytes / 2, 1);
            *wrong += place.segment != 0 && (place.segment != segment || place.offset != bytes / 2);
            *wrong += mt_memory_find((uint8_t *)start + bytes, 1).segment == segment;
        }
        *wrong += mt_memory_free(start, &mine) != 0;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    uint64_t wrong[THREADS] = {0};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &wrong[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
}

/* What a peer gets cannot be written or shrunk, and its pages go with the owner's free. */
static void test_what_peers_get(void **state)
{
    (void)state;
    struct mt_memory_file file;
    struct stat status;
    uint8_t *memory = allocate(100000);
    memset(memory, 7, 100000);
    assert_int_equal(mt_memory_file(segment_of(memory), &file), 0);
    assert_int_equal(file.bytes, 102400);
    assert_int_equal(file.file_offset, 0);
    assert_true(fcntl(file.fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(file.fd, F_GET_SEALS) & F_SEAL_SHRINK);
    assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0) == MAP_FAILED);
    assert_int_not_equal(ftruncate(file.fd, 0), 0);
    uint8_t *peer = mt_memory_map(file.fd, 0, file.bytes, 0);
    assert_non_null(peer);
    assert_memory_equal(peer, memory, 100000);
    assert_int_equal(mt_memory_free(memory, &error), 0);
    assert_int_equal(fstat(file.fd, &status), 0);
    assert_int_equal(status.st_blocks, 0);
    munmap(peer, file.bytes);
    mt_fd_close(file.fd);
}

static int in_child(const uint8_t *memory)
{
    struct mt_memory_file file;
    uint8_t *other;
    if (mt_memory_find(memory, 1).segment != 0 || segment_of(memory) != 0)
        return 1;
    if (mt_memory_free((void *)(uintptr_t)memory, &error) != MANTA_EINVAL || memory[5] != 9)
        return 2;
    other = allocate(3000);
    if (mt_memory_find(other, 3000).segment == 0 || mt_memory_file(segment_of(other), &file) != 0)
        return 3;
    return mt_memory_free(other, &error) == 0 ? 0 : 4;
}

/* The child's copy belongs to the parent, and the child begins with none. */
static void test_fork(void **state)
{
    (void)state;
    struct mt_memory_file file;
    int status = -1;
    uint8_t *memory = allocate(5000);
    memory[5] = 9;
    assert_int_equal(mt_memory_file(segment_of(memory), &file), 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        _exit(fcntl(file.fd, F_GETFD) >= 0 ? 9 : in_child(memory));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(memory[5], 9);
    assert_found(memory, 5000, segment_of(memory), 0);
    mt_fd_close(file.fd);
    assert_int_equal(mt_memory_free(memory, &error), 0);
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* With any number of descriptors left, it succeeds or says why, and keeps none. */
static void test_no_descriptors(void **state)
{
    (void)state;
    uint8_t *before = allocate(1);
    int open = count_descriptors();
    for (int left = 0; left < 4; left++) {
        struct mt_memory_file file;
        void *start;
        assert_int_equal(descriptors_leave(left), 0);
        int alloc_code = mt_memory_alloc(5000, &start, &error);
        int file_code = mt_memory_file(segment_of(before), &file);
        descriptors_free();
        assert_int_equal(alloc_code, left == 0 ? MANTA_ESYSTEM : 0);
        if (alloc_code == 0)
            assert_int_equal(mt_memory_free(start, &error), 0);
        else
            assert_non_null(strstr(error.sentence, "ulimit -n"));
        if (file_code == 0)
            mt_fd_close(file.fd);
        else
            assert_int_equal(file_code, MANTA_ESYSTEM);
        assert_int_equal(count_descriptors(), open);
    }
    assert_int_equal(mt_memory_free(before, &error), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_free_refuses),
        cmocka_unit_test(test_more_than_there_is),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_more_than_slots),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_what_peers_get),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_no_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
