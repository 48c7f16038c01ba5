/* SPDX-License-Identifier: Apache-2.0 */
/* One bug for each sanitizer, on purpose: a check that cannot find these finds nothing. */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void *increment(void *arg)
{
    for (int i = 0; i < 1000; i++)
        shared++; /* two threads, no lock */
    return arg;
}

static void race(void)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, increment, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

/* volatile keeps the compiler from seeing the mistakes that the sanitizer must see. */
static void overflow_heap(void)
{
    volatile size_t past = 16;
    volatile char *volatile memory = malloc(16);
    if (memory != NULL)
        memory[past] = 1;
    free((void *)memory);
}

static void overflow_int(void)
{
    volatile int most = INT_MAX;
    most = most + 1;
}

static void leak(void)
{
    void *volatile lost = malloc(64);
    lost = NULL;
    (void)lost;
}

int main(int argc, char **argv)
{
    const char *bug = argc > 1 ? argv[1] : "";
    if (strcmp(bug, "heap") == 0)
        overflow_heap();
    else if (strcmp(bug, "integer") == 0)
        overflow_int();
    else if (strcmp(bug, "leak") == 0)
        leak();
    else if (strcmp(bug, "race") == 0)
        race();
    else
        return 2;
    printf("nothing was noticed\n");
    return 0;
}
