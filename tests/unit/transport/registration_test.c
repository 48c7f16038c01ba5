/* SPDX-License-Identifier: Apache-2.0 */
/* Registered memory is kept as long as it is the same memory, and no longer. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "transport/memory.h"
#include "transport/registration.h"
#include "transport/registry.h"
#include "transport/unmapped.h"

enum { PAGE = 4096, SPAN = 64 * PAGE, MOST = 8, STRIPES = 1024, CHILD_S = 20 };

static _Atomic int is_enough;

/* ThreadSanitizer does not let the child of a process with threads start threads of its own, and
 * AddressSanitizer's allocator (GCC 12) stays locked in it if another thread, here the one that
 * begins watches, was in it at the fork. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { FORKS = 0 };
#else
enum { FORKS = 50 };
#endif

struct card {
    uint32_t made, ended;
    uint32_t room; /* registrations that it takes at a time */
};

static int make(void *arg, void *start, uint64_t bytes, void **handle_out)
{
    struct card *card = arg;
    (void)start;
    (void)bytes;
    if (card->made - card->ended == card->room)
        return MANTA_ENOMEM;
    card->made++;
    *handle_out = card;
    return 0;
}

static void end(void *arg, void *handle)
{
    struct card *card = arg;
    assert_ptr_equal(handle, card);
    card->ended++;
}

static struct mt_registrations *create(struct card *card, uint32_t most, uint64_t most_bytes)
{
    const struct mt_registration_settings settings = {.host = mt_transport_host(),
                                                      .most = most,
                                                      .most_bytes = most_bytes,
                                                      .make = make,
                                                      .end = end,
                                                      .arg = card};
    struct mt_registrations *cache;
    assert_int_equal(mt_registrations_create(&settings, &cache), 0);
    return cache;
}

static void use(struct mt_registrations *cache, const void *start, uint64_t bytes)
{
    struct mt_registration *registration;
    assert_int_equal(mt_registrations_take(cache, start, bytes, &registration), 0);
    assert_true(registration->start <= (uintptr_t)start);
    assert_true((uintptr_t)start + bytes <= registration->start + registration->bytes);
    mt_registrations_give(cache, registration);
}

static uint8_t *map(void *at, uint64_t bytes)
{
    uint8_t *memory = mmap(at, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    memset(memory, 1, bytes);
    return memory;
}

/* Memory where no other thread's can come to lie when it is let go of: the kernel gives out
 * addresses from the top down, and threads of the library and of the sanitizers map theirs at any
 * time. */
static uint8_t *map_apart(void)
{
    uint8_t *top = map(NULL, SPAN);
    uint8_t *apart = map((uint8_t *)((uintptr_t)top - (16ULL << 30)), SPAN);
    munmap(top, SPAN);
    return apart;
}

/* Where the host does not tell, nothing can be kept, and the tests of keeping have no object. */
static int host_tells(void)
{
    int error = mt_unmapped_acquire();
    if (error == 0)
        mt_unmapped_release();
    return error == 0;
}

static void test_kept_while_it_is_the_same(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    uint8_t *memory = map_apart();
    (void)state;
    if (!host_tells())
        skip();
    for (int i = 0; i < 5; i++) {
        use(cache, memory, SPAN);
        use(cache, memory + 17, SPAN - 100);
    }
    assert_int_equal(card.made, 1);
    munmap(memory, SPAN);
    assert_ptr_equal(map(memory, SPAN), memory);
    use(cache, memory, SPAN);
    assert_int_equal(card.made, 2);
    assert_int_equal(card.ended, 1);
    mt_registrations_destroy(cache);
    assert_int_equal(card.ended, 2);
    munmap(memory, SPAN);
}

/* Every way to lose a page in the middle. */
static void test_noticed_however_it_goes(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    uint8_t *memory = map_apart();
    uint8_t *middle = memory + 5 * PAGE;
    (void)state;
    if (!host_tells())
        skip();
    for (uint32_t way = 0; way < 4; way++) {
        use(cache, memory, SPAN);
        uint32_t made = card.made;
        use(cache, memory, SPAN);
        assert_int_equal(card.made, made);
        if (way == 0)
            map(middle, PAGE);
        else if (way == 1)
            assert_int_equal(madvise(middle, PAGE, MADV_DONTNEED), 0);
        else if (way == 2)
            assert_int_equal(munmap(middle, PAGE), 0);
        else
            assert_ptr_not_equal(
                mremap(middle, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + SPAN - PAGE),
                MAP_FAILED);
        if (way >= 2)
            map(middle, PAGE);
        use(cache, memory, SPAN);
        assert_int_equal(card.made, made + 1);
        use(cache, memory, 3 * PAGE);
        assert_int_equal(card.made, made + 1);
    }
    mt_registrations_destroy(cache);
    assert_int_equal(card.ended, card.made);
    munmap(memory, SPAN);
}

/* What is in use goes on, but is for nobody else. */
static void test_gone_while_in_use(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    struct mt_registration *first, *second;
    uint8_t *memory = map_apart();
    (void)state;
    if (!host_tells())
        skip();
    assert_int_equal(mt_registrations_take(cache, memory, SPAN, &first), 0);
    map(memory, SPAN);
    assert_int_equal(mt_registrations_take(cache, memory, SPAN, &second), 0);
    assert_ptr_not_equal(first, second);
    assert_int_equal(card.ended, 0);
    mt_registrations_give(cache, first);
    assert_int_equal(card.ended, 1);
    mt_registrations_give(cache, second);
    use(cache, memory, SPAN);
    assert_int_equal(card.made, 2);
    mt_registrations_destroy(cache);
    munmap(memory, SPAN);
}

/* Memory that can change without a sign is registered each time. */
static void test_not_kept(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    uint8_t *shared = mmap(NULL, SPAN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *across = map_apart();
    (void)state;
    mprotect(across + 8 * PAGE, PAGE, PROT_READ);
    use(cache, shared, SPAN);
    use(cache, shared, SPAN);
    assert_int_equal(card.made, 2);
    assert_int_equal(card.ended, 2);
    use(cache, across, SPAN);
    use(cache, across, SPAN);
    assert_int_equal(card.made, 4);
    assert_int_equal(card.ended, 4);
    mt_registrations_destroy(cache);
    munmap(shared, SPAN);
    munmap(across, SPAN);
}

/* Symmetric memory as a whole, once, until it is freed. */
static void test_symmetric(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    struct mt_error error;
    void *memory;
    (void)state;
    for (uint32_t round = 1; round <= 3; round++) {
        assert_int_equal(mt_memory_alloc(SPAN, &memory, &error), 0);
        for (uint32_t i = 0; i < 20; i++)
            use(cache, (uint8_t *)memory + i * PAGE, 2 * PAGE);
        assert_int_equal(card.made, round);
        assert_int_equal(mt_memory_free(memory, &error), 0);
    }
    mt_registrations_destroy(cache);
    assert_int_equal(card.ended, 3);
}

/* Bounded in number and bytes; the one that was not used for longest goes. */
static void test_bounds(void **state)
{
    struct card card = {.room = 100};
    uint8_t *memory = map_apart();
    struct mt_registration *held[MOST], *extra;
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    (void)state;
    if (!host_tells())
        skip();
    for (uint32_t i = 0; i < MOST; i++)
        use(cache, memory + 2 * i * PAGE, PAGE);
    use(cache, memory, PAGE);
    use(cache, memory + 40 * PAGE, PAGE); /* takes the place of the second */
    assert_int_equal(card.ended, 1);
    use(cache, memory, PAGE);
    assert_int_equal(card.made, MOST + 1);
    use(cache, memory + 2 * PAGE, PAGE);
    assert_int_equal(card.made, MOST + 2);
    for (uint32_t i = 0; i < MOST; i++)
        assert_int_equal(mt_registrations_take(cache, memory + 2 * i * PAGE, PAGE, &held[i]), 0);
    assert_int_equal(mt_registrations_take(cache, memory + 50 * PAGE, PAGE, &extra), MANTA_EAGAIN);
    for (uint32_t i = 0; i < MOST; i++)
        mt_registrations_give(cache, held[i]);
    mt_registrations_destroy(cache);
    assert_int_equal(card.ended, card.made);
    card = (struct card){.room = 3}; /* the card is full before we are */
    cache = create(&card, MOST, 1 << 30);
    for (uint32_t i = 0; i < MOST; i++)
        use(cache, memory + 2 * i * PAGE, PAGE);
    assert_int_equal(card.made, MOST);
    mt_registrations_destroy(cache);
    card = (struct card){.room = 100};
    cache = create(&card, MOST, 2 * PAGE);
    for (uint32_t i = 0; i < MOST; i++)
        use(cache, memory + 2 * i * PAGE, PAGE);
    assert_int_equal(card.made - card.ended, 2);
    mt_registrations_destroy(cache);
    card = (struct card){.room = 0};
    cache = create(&card, MOST, 2 * PAGE);
    assert_int_equal(mt_registrations_take(cache, memory, PAGE, &extra), MANTA_ENOMEM);
    assert_null(extra);
    mt_registrations_destroy(cache);
    munmap(memory, SPAN);
}

static void test_entered_by_hand(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 0);
    uint8_t *memory = map_apart();
    const struct manta_transport_buffer buffer = {.address = memory, .bytes = SPAN, .flags = 1};
    struct mt_registration *entered, *taken;
    (void)state;
    assert_int_equal(mt_registrations_enter(cache, &buffer, NULL, &entered), 0);
    for (int i = 0; i < 10; i++)
        use(cache, memory + i, PAGE);
    assert_int_equal(card.made, 1);
    assert_int_equal(mt_registrations_take(cache, memory, PAGE, &taken), 0);
    mt_registrations_remove(cache, entered);
    assert_int_equal(card.ended, 0);
    mt_registrations_give(cache, taken);
    assert_int_equal(card.ended, 1);
    assert_int_equal(mt_registrations_enter(cache, &buffer, &card, &entered), 0);
    use(cache, memory, SPAN);
    assert_int_equal(mt_registrations_made(cache), 2);
    mt_registrations_destroy(cache);
    assert_int_equal(card.ended, 2);
    munmap(memory, SPAN);
}

/* Of many mappings, so that it takes its time. */
static void *watch_on(void *stripes)
{
    struct mt_watch watch;
    while (!atomic_load(&is_enough))
        assert_int_equal(mt_watch_begin(&watch, (uintptr_t)stripes, STRIPES * PAGE), EINVAL);
    return NULL;
}

static void watch_in_child(void *memory)
{
    struct mt_watch watch;
    alarm(CHILD_S);
    int failed = mt_unmapped_acquire() != 0 || mt_watch_begin(&watch, (uintptr_t)memory, PAGE) != 0;
    if (!failed)
        failed = mt_watch_is_gone(&watch);
    munmap(memory, SPAN);
    _exit(failed || !mt_watch_is_gone(&watch));
}

/* All end at once, in use or not, by hand or not; each once. */
static void test_end_all(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    struct mt_registration *taken, *entered, *removed;
    uint8_t *memory = map_apart();
    const struct manta_transport_buffer buffer = {.address = memory, .bytes = PAGE};
    (void)state;
    mt_registrations_end_all(NULL);
    assert_int_equal(mt_registrations_take(cache, memory + 8 * PAGE, PAGE, &taken), 0);
    use(cache, memory + 16 * PAGE, PAGE);
    assert_int_equal(mt_registrations_enter(cache, &buffer, NULL, &entered), 0);
    assert_int_equal(mt_registrations_enter(cache, &buffer, NULL, &removed), 0);
    mt_registrations_end_all(cache);
    mt_registrations_end_all(cache);
    assert_null(taken->handle);
    assert_null(entered->handle);
    mt_registrations_give(cache, taken);
    mt_registrations_remove(cache, removed);
    mt_registrations_destroy(cache);
    assert_int_equal(card.made, 4);
    assert_int_equal(card.ended, 4);
    munmap(memory, SPAN);
}

/* A child that is forked while another thread begins a watch has watches of its own. */
static void test_fork(void **state)
{
    uint8_t *memory = map_apart();
    uint8_t *stripes =
        mmap(NULL, STRIPES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    (void)state;
    if (!host_tells())
        skip();
    for (int i = 1; i < STRIPES; i += 2)
        assert_int_equal(mprotect(stripes + i * PAGE, PAGE, PROT_READ), 0);
    assert_int_equal(mt_unmapped_acquire(), 0);
    assert_int_equal(pthread_create(&thread, NULL, watch_on, stripes), 0);
    for (int i = 0; i < FORKS; i++) {
        int status = -1;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            watch_in_child(memory);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    atomic_store(&is_enough, 1);
    pthread_join(thread, NULL);
    mt_unmapped_release();
    munmap(stripes, STRIPES * PAGE);
    munmap(memory, SPAN);
}

/* What is entered by hand counts, with its flags, though the same memory was kept before. */
static void test_entered_is_found_first(void **state)
{
    struct card card = {.room = 100};
    struct mt_registrations *cache = create(&card, MOST, 1 << 30);
    struct manta_transport_buffer buffer = {.bytes = SPAN, .flags = MANTA_BUFFER_FLUSH};
    struct mt_registration *entered, *taken;
    struct mt_error error;
    struct iovec piece = {.iov_len = PAGE};
    (void)state;
    assert_int_equal(mt_memory_alloc(SPAN, &buffer.address, &error), 0);
    use(cache, buffer.address, SPAN);
    assert_int_equal(mt_registrations_enter(cache, &buffer, NULL, &entered), 0);
    for (uint32_t devices = 0; devices < 2; devices++) {
        piece.iov_base = buffer.address;
        assert_int_equal(mt_registrations_take_all(cache, &piece, 1, devices, &taken), 0);
        assert_ptr_equal(taken, entered);
        mt_registrations_give_all(cache, &taken, 1);
    }
    mt_registrations_remove(cache, entered);
    assert_int_equal(mt_registrations_take_all(cache, &piece, 1, 1, &taken), MANTA_EINVAL);
    use(cache, buffer.address, SPAN);
    assert_int_equal(card.made, 2);
    mt_registrations_destroy(cache);
    assert_int_equal(mt_memory_free(buffer.address, &error), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_while_it_is_the_same),
        cmocka_unit_test(test_noticed_however_it_goes),
        cmocka_unit_test(test_gone_while_in_use),
        cmocka_unit_test(test_not_kept),
        cmocka_unit_test(test_symmetric),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_entered_by_hand),
        cmocka_unit_test(test_entered_is_found_first),
        cmocka_unit_test(test_end_all),
        cmocka_unit_test(test_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
