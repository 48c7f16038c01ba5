/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measured values of a machine in place of the cost model's assumptions. They are read from a file
 * of lines, so that the library needs no parser of a language for it:
 *
 *   manta-tuning 1
 *   # anything
 *   node alpha_ns 412         of a level: alpha_ns, core_ns, beta_ps_per_byte, copy_ps_per_byte,
 *                             uplink_ps_per_byte
 *   gamma_ps_per_byte 48      of the model: also memory_ps_per_byte, fused_alpha_ns, turn_ns
 *
 * What no line names stays as it is assumed. Each rank reads the file; their digests are compared
 * at creation, as all of the configuration is, for prices choose algorithms.
 */
#ifndef MT_PLAN_TUNING_H
#define MT_PLAN_TUNING_H

#include <stdint.h>

#include "core/error.h"
#include "plan/cost.h"

enum mt_tuning_link {
    MT_TUNING_ALPHA,
    MT_TUNING_CORE,
    MT_TUNING_BETA,
    MT_TUNING_COPY,
    MT_TUNING_UPLINK
};
enum {
    MT_TUNING_LINK_VALUES = 5,
    MT_TUNING_GAMMA = MT_LEVELS * MT_TUNING_LINK_VALUES,
    MT_TUNING_MEMORY,
    MT_TUNING_FUSED,
    MT_TUNING_TURN,
    MT_TUNING_VALUES,
    MT_TUNING_NAME = 40 /* characters */
};

/* values[]: of a level, level * MT_TUNING_LINK_VALUES + enum mt_tuning_link; then those above. */
struct mt_tuning {
    uint64_t given; /* bit of each value that there is */
    uint64_t values[MT_TUNING_VALUES];
};

static inline void mt_tuning_set(struct mt_tuning *tuning, int index, uint64_t value)
{
    tuning->given |= UINT64_C(1) << index;
    tuning->values[index] = value;
}
static inline int mt_tuning_has(const struct mt_tuning *tuning, int index)
{
    return (tuning->given >> index & 1) != 0;
}
/* "node alpha_ns" */
void mt_tuning_name(int index, char name[MT_TUNING_NAME]);

/* 0, or MANTA_EINVAL with a sentence that names the line. what: of whom the sentence speaks. */
int mt_tuning_parse(const char *text, const char *what, struct mt_tuning *tuning_out,
                    struct mt_error *error);
/* The same of a file. */
int mt_tuning_read(const char *path, struct mt_tuning *tuning_out, struct mt_error *error);
/* Equal values have equal digests. */
uint64_t mt_tuning_digest(const struct mt_tuning *tuning);
/* Put what is given into topology and model. */
void mt_tuning_apply(const struct mt_tuning *tuning, struct mt_topology *topology,
                     struct mt_cost_model *model);

#endif
