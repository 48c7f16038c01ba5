/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out at a chosen place. The linker puts these functions between the library (not
 * libc or libcrypto) and the allocator; the Makefile lists the programs that are linked so. A place
 * is a call in the code: which thread comes first changes from run to run, the places do not.
 * Included by the one file of a test program.
 */
#ifndef MT_TESTS_SUPPORT_SCARCE_H
#define MT_TESTS_SUPPORT_SCARCE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { SCARCE_SITES = 256, SCARCE_ALL = -1 };

struct scarce_site {
    void *address;
    int calls;
};

static struct {
    pthread_mutex_t lock;
    int is_counting;
    struct scarce_site sites[SCARCE_SITES];
    int site_count;
    void *failing; /* the place that fails */
    int nth;       /* which call there: 1, 2, ..., or SCARCE_ALL from the first on */
    int in_a_row;  /* how many from the nth on */
    int failed;    /* calls that have */
    long live;     /* allocations that are not freed */
} scarce = {.lock = PTHREAD_MUTEX_INITIALIZER};

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);
void __real_free(void *memory);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes);
void __wrap_free(void *memory);

static struct scarce_site *scarce_site_of(void *address)
{
    for (int i = 0; i < scarce.site_count; i++)
        if (scarce.sites[i].address == address)
            return &scarce.sites[i];
    if (scarce.site_count == SCARCE_SITES)
        abort();
    scarce.sites[scarce.site_count] = (struct scarce_site){.address = address};
    return &scarce.sites[scarce.site_count++];
}

/* 1 if the call from this place fails. */
static int scarce_fails(void *address)
{
    int fails = 0;
    pthread_mutex_lock(&scarce.lock);
    if (scarce.is_counting) {
        int calls = ++scarce_site_of(address)->calls;
        int is_due = calls >= scarce.nth && calls < scarce.nth + scarce.in_a_row;
        fails = address == scarce.failing && (scarce.nth == SCARCE_ALL || is_due);
        scarce.failed += fails;
    }
    pthread_mutex_unlock(&scarce.lock);
    if (fails)
        errno = ENOMEM;
    return fails;
}

static void *scarce_made(void *memory)
{
    pthread_mutex_lock(&scarce.lock);
    scarce.live += memory != NULL;
    pthread_mutex_unlock(&scarce.lock);
    return memory;
}

void *__wrap_malloc(size_t bytes)
{
    return scarce_fails(__builtin_return_address(0)) ? NULL : scarce_made(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return scarce_fails(__builtin_return_address(0)) ? NULL
                                                     : scarce_made(__real_calloc(count, bytes));
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    if (scarce_fails(__builtin_return_address(0)))
        return NULL;
    void *larger = __real_realloc(memory, bytes);
    return memory == NULL ? scarce_made(larger) : larger;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return scarce_fails(__builtin_return_address(0))
               ? NULL
               : scarce_made(__real_aligned_alloc(alignment, bytes));
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    if (scarce_fails(__builtin_return_address(0)))
        return ENOMEM;
    int failed = __real_posix_memalign(memory, alignment, bytes);
    if (!failed)
        scarce_made(*memory);
    return failed;
}

void __wrap_free(void *memory)
{
    if (memory != NULL) {
        pthread_mutex_lock(&scarce.lock);
        scarce.live--;
        pthread_mutex_unlock(&scarce.lock);
    }
    __real_free(memory);
}

/* From now on calls are counted, and the nth at this place (NULL: none) and those behind it fail,
 * in_a_row together. */
static inline void scarce_begin(void *failing, int nth, int in_a_row)
{
    pthread_mutex_lock(&scarce.lock);
    for (int i = 0; i < scarce.site_count; i++)
        scarce.sites[i].calls = 0;
    scarce.failing = failing;
    scarce.nth = nth;
    scarce.in_a_row = in_a_row;
    scarce.failed = 0;
    scarce.is_counting = 1;
    pthread_mutex_unlock(&scarce.lock);
}

/* How many calls have failed. */
static inline int scarce_end(void)
{
    pthread_mutex_lock(&scarce.lock);
    scarce.is_counting = 0;
    int failed = scarce.failed;
    pthread_mutex_unlock(&scarce.lock);
    return failed;
}

#endif
