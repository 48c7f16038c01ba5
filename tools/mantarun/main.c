/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mantarun/mantarun.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    static struct job job;
    struct options options;
    options_parse(&options, argc, argv);
    int code = job_start(&job, &options) == 0 ? job_watch(&job) : 1;
    job_free(&job);
    free(options.sets);
    return code;
}
