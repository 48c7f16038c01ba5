/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the caller: what can be read in place, what cannot and why, and what is moved. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "core/service.h"
#include "transport/memory.h"

enum { PAGE = 4096, BYTES = 16 * PAGE };

static struct mt_error error;

static struct mt_memory_view view_of(const void *address)
{
    struct mt_memory_view view;
    mt_memory_describe(address, &view);
    return view;
}

static uint8_t *map(int fd, int flags, uint64_t offset)
{
    uint8_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
    assert_true(memory != MAP_FAILED);
    return memory;
}

static int memfd(unsigned flags)
{
    int fd = memfd_create("test", MFD_CLOEXEC | flags);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 2 * BYTES), 0);
    return fd;
}

static void assert_refused(void *start, uint64_t bytes, const char *words)
{
    assert_int_equal(mt_memory_register(start, bytes, 1, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, words));
    assert_int_equal(mt_memory_find(start, 1).segment, 0);
}

/* Legal, but not read in place, for a reason. */
static void assert_copied(void *start, const char *words)
{
    assert_int_equal(mt_memory_register(start, BYTES, 0, &error), 0);
    struct mt_memory_view view = view_of((uint8_t *)start + 5);
    assert_ptr_equal(view.start, start);
    assert_int_equal(view.bytes, BYTES);
    assert_int_equal(view.segment, 0);
    assert_non_null(strstr(view.reason, words));
    assert_int_equal(mt_memory_find(start, 1).segment, 0);
    assert_int_equal(mt_memory_unregister(start, &error), 0);
    assert_null(view_of(start).start);
}

/* A range in the middle of a mapping in the middle of a file; the caller's descriptor is closed. */
static void test_memfd(void **state)
{
    (void)state;
    struct mt_memory_file file;
    int fd = memfd(MFD_ALLOW_SEALING);
    uint8_t *memory = map(fd, MAP_SHARED, 3 * PAGE);
    uint8_t *start = memory + PAGE + 100;
    memset(memory, 0, BYTES);
    memcpy(start, "here", 4);
    assert_int_equal(mt_memory_register(start, 5 * PAGE, 0, &error), 0);
    close(fd);
    uint64_t segment = view_of(start).segment;
    assert_int_not_equal(segment, 0);
    assert_int_equal(mt_memory_find(start, 5 * PAGE).segment, segment);
    assert_int_equal(mt_memory_find(start, 5 * PAGE).offset, 100);
    assert_int_equal(mt_memory_find(start - 1, 2).segment, 0);
    assert_int_equal(mt_memory_file(segment, &file), 0);
    assert_int_equal(file.file_offset, 4 * PAGE);
    assert_int_equal(file.bytes, 6 * PAGE);
    assert_true(fcntl(file.fd, F_GET_SEALS) & F_SEAL_SHRINK);
    uint8_t *peer = mt_memory_map(file.fd, file.file_offset, file.bytes, 0);
    assert_memory_equal(peer + 100, "here", 4);
    munmap(peer, file.bytes);
    mt_fd_close(file.fd);
    assert_int_equal(mt_memory_unregister(start, &error), 0);
    assert_memory_equal(start, "here", 4);
    munmap(memory, BYTES);
}

/* A file need not end with a page, but nothing is read behind its last one. */
static void test_end_of_file(void **state)
{
    (void)state;
    struct mt_memory_file file;
    int fd = memfd(MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, 3 * PAGE + 10), 0);
    uint8_t *memory = map(fd, MAP_SHARED, 0);
    assert_int_equal(mt_memory_register(memory + 1, 3 * PAGE + 9, 0, &error), 0);
    uint64_t segment = view_of(memory + 1).segment;
    assert_int_not_equal(segment, 0);
    assert_int_equal(mt_memory_file(segment, &file), 0);
    assert_int_equal(file.bytes, 4 * PAGE);
    mt_fd_close(file.fd);
    assert_int_equal(mt_memory_unregister(memory + 1, &error), 0);
    assert_copied(memory, "ends before it");
    close(fd);
    munmap(memory, BYTES);
}

static void test_copied(void **state)
{
    (void)state;
    int plain = memfd(0);
    int sealed = memfd(MFD_ALLOW_SEALING);
    int closed = memfd(MFD_ALLOW_SEALING);
    char path[] = "/tmp/manta-memory-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(ftruncate(file, BYTES), 0);
    assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_SEAL), 0);
    uint8_t *memory[] = {map(plain, MAP_SHARED, 0),
                         map(sealed, MAP_SHARED, 0),
                         map(closed, MAP_SHARED, 0),
                         map(file, MAP_SHARED, 0),
                         map(plain, MAP_PRIVATE, 0),
                         map(-1, MAP_PRIVATE | MAP_ANONYMOUS, 0),
                         map(-1, MAP_SHARED | MAP_ANONYMOUS, 0)};
    close(closed);
    assert_copied(memory[0], "sealed");
    assert_copied(memory[1], "sealed");
    assert_copied(memory[2], "descriptor");
    assert_copied(memory[3], "no memfd");
    assert_copied(memory[4], "private");
    assert_copied(memory[5], "MANTA_MEM_REMAP");
    assert_copied(memory[6], "descriptor");
    munmap(memory[5] + 2 * PAGE, PAGE);
    assert_copied(memory[5], "not one mapping");
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
        munmap(memory[i], BYTES);
    close(plain);
    close(sealed);
    close(file);
}

static void test_overlaps(void **state)
{
    (void)state;
    void *allocated;
    uint8_t *memory = map(-1, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    assert_int_equal(mt_memory_register(memory + 100, 1000, 0, &error), 0);
    assert_int_equal(mt_memory_register(memory + 1099, 1, 0, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_register(memory, 101, 0, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_register(memory, BYTES, 0, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_register(memory + 100, 1000, 0, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "unregister"));
    assert_int_equal(mt_memory_register(memory, 100, 0, &error), 0);
    assert_int_equal(mt_memory_register(memory + 1100, 1, 0, &error), 0);
    assert_refused(memory + 2000, 10,
                   "overlaps"); /* has a page in common with what is registered */
    assert_int_equal(mt_memory_unregister(memory + 101, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_unregister(memory + 100, &error), 0);
    assert_int_equal(mt_memory_unregister(memory + 100, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_unregister(memory, &error), 0);
    assert_int_equal(mt_memory_unregister(memory + 1100, &error), 0);
    munmap(memory, BYTES);
    /* Allocated memory is registered, with and without. */
    assert_int_equal(mt_memory_alloc(BYTES, &allocated, &error), 0);
    uint64_t segment = view_of(allocated).segment;
    assert_int_equal(mt_memory_register((uint8_t *)allocated + 5, 10, 0, &error), 0);
    assert_int_equal(mt_memory_unregister((uint8_t *)allocated + 5, &error), 0);
    assert_int_equal(mt_memory_register((uint8_t *)allocated + 5, BYTES, 0, &error), MANTA_EINVAL);
    assert_true(view_of(allocated).segment == segment);
    assert_int_equal(mt_memory_free(allocated, &error), 0);
    assert_int_equal(mt_memory_register(NULL, 1, 0, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_register(memory, 0, 0, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_register(memory, UINT64_MAX - 10, 0, &error), MANTA_EINVAL);
}

/* What a forked child writes there. */
static void write_in_child(uint8_t *at, uint8_t value)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        *at = value;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_moved(void **state)
{
    (void)state;
    uint8_t *memory = malloc(3 * BYTES);
    uint8_t *copy = malloc(3 * BYTES);
    for (int i = 0; i < 3 * BYTES; i++)
        memory[i] = copy[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(mt_memory_register(memory + 1, 2 * BYTES, 1, &error), 0);
    assert_memory_equal(memory, copy, 3 * BYTES);
    uint64_t segment = view_of(memory + 1).segment, bytes;
    assert_int_not_equal(segment, 0);
    assert_int_equal(mt_memory_find(memory + 1, 2 * BYTES).segment, segment);
    assert_ptr_equal(mt_memory_base(segment, &bytes) + mt_memory_find(memory + 1, 1).offset,
                     memory + 1);
    assert_int_equal(mt_memory_register(memory + 1, 2 * BYTES, 1, &error), MANTA_EINVAL);
    write_in_child(&memory[77], 99);
    copy[77] = 99; /* it is shared */
    assert_memory_equal(memory, copy, 3 * BYTES);
    assert_int_equal(mt_memory_unregister(memory + 1, &error), 0);
    assert_memory_equal(memory, copy, 3 * BYTES);
    write_in_child(&memory[78], (uint8_t)~copy[78]);
    assert_memory_equal(memory, copy, 3 * BYTES); /* and is so no more */
    for (int again = 0; again < 3; again++) {
        assert_int_equal(mt_memory_register(memory + 1, 2 * BYTES, 1, &error), 0);
        assert_int_equal(mt_memory_unregister(memory + 1, &error), 0);
    }
    assert_memory_equal(memory, copy, 3 * BYTES);
    memory = realloc(memory, 9 * BYTES);
    assert_memory_equal(memory, copy, 3 * BYTES);
    free(memory);
    free(copy);
}

/* In a page of memory that was moved there may be other memory, which stays when that one goes. */
static void test_beside_moved(void **state)
{
    (void)state;
    uint8_t *memory = map(-1, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    uint8_t *behind = memory + 2 * PAGE + 100;
    assert_int_equal(mt_memory_register(memory + 200, 2 * PAGE - 100, 1, &error), 0);
    assert_int_not_equal(mt_memory_find(memory + 200, 1).segment, 0);
    assert_int_equal(mt_memory_register(memory, 200, 0, &error), 0);
    assert_int_equal(mt_memory_register(behind, 50, 0, &error), 0);
    assert_int_equal(view_of(memory).segment, 0);
    assert_int_equal(view_of(behind).segment, 0);
    assert_non_null(strstr(view_of(behind).reason, "shares a page"));
    assert_int_equal(mt_memory_unregister(memory + 200, &error), 0);
    assert_int_equal(mt_memory_find(memory, 1).segment, 0);
    assert_int_equal(mt_memory_find(behind, 50).segment, 0);
    assert_int_equal(mt_memory_unregister(memory, &error), 0);
    assert_int_equal(mt_memory_unregister(behind, &error), 0);
    munmap(memory, BYTES);
}

static void test_not_moved_back(void **state)
{
    (void)state;
    struct rlimit before;
    uint8_t *memory = map(-1, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    memset(memory, 7, BYTES);
    assert_int_equal(mt_memory_register(memory, BYTES, 1, &error), 0);
    uint64_t segment = view_of(memory).segment;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    const struct rlimit none = {.rlim_cur = 1, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    int code = mt_memory_unregister(memory, &error);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(code, MANTA_ENOMEM);
    assert_non_null(strstr(error.sentence, "stays registered"));
    assert_true(mt_memory_find(memory, BYTES).segment == segment);
    assert_int_equal(memory[BYTES - 1], 7);
    assert_int_equal(mt_memory_unregister(memory, &error), 0);
    assert_int_equal(memory[BYTES - 1], 7);
    munmap(memory, BYTES);
}

/* AddressSanitizer would have the arrays of these two elsewhere. */
#define ON_STACK __attribute__((no_sanitize_address))

ON_STACK static void *own_stack(void *arg)
{
    uint8_t array[3 * PAGE];
    memset(array, 1, sizeof(array));
    (void)arg;
    return (void *)(intptr_t)mt_memory_register(array, sizeof(array), 1, &(struct mt_error){0});
}

ON_STACK static void test_not_moved(void **state)
{
    (void)state;
    uint8_t array[3 * PAGE];
    pthread_t thread;
    void *code;
    int fd = memfd(MFD_ALLOW_SEALING);
    uint8_t *shared = map(fd, MAP_SHARED, 0);
    uint8_t *file = map(fd, MAP_PRIVATE, 0);
    uint8_t *memory = map(-1, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    memset(array, 1, sizeof(array));
    assert_refused(array, sizeof(array), "stack");
    assert_int_equal(pthread_create(&thread, NULL, own_stack, NULL), 0);
    pthread_join(thread, &code);
    assert_int_equal((intptr_t)code, MANTA_EINVAL);
    assert_refused(shared, BYTES, "shared memory already");
    assert_refused(file, BYTES, "file");
    assert_int_equal(mprotect(memory + 4 * PAGE, PAGE, PROT_READ), 0);
    assert_refused(memory, BYTES, "not all of it");
    assert_refused(memory + 4 * PAGE, PAGE, "reading and writing");
    assert_int_equal(mt_memory_register(memory, 4 * PAGE, 1, &error), 0);
    assert_int_equal(mt_memory_register(memory + 2 * PAGE, PAGE, 1, &error), MANTA_EINVAL);
    assert_int_equal(mt_memory_unregister(memory, &error), 0);
    munmap(memory + 8 * PAGE, PAGE);
    assert_refused(memory + 6 * PAGE, 4 * PAGE, "not mapped as a whole");
    munmap(memory, BYTES);
    /* So far down that nobody is given it meanwhile. */
    assert_refused((void *)(16 * PAGE), BYTES, "not mapped as a whole");
    munmap(shared, BYTES);
    munmap(file, BYTES);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memfd),     cmocka_unit_test(test_end_of_file),
        cmocka_unit_test(test_copied),    cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_moved),     cmocka_unit_test(test_beside_moved),
        cmocka_unit_test(test_not_moved), cmocka_unit_test(test_not_moved_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
