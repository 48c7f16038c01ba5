/* SPDX-License-Identifier: Apache-2.0 */
/* Which operation is hit by which fault, and the faults that befall the whole process. */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "transport/sim/sim_internal.h"

/* The call's counter; the one with the lowest call makes room for a new one. */
static struct mt_sim_count *count_of(struct mt_sim *sim, uint64_t call)
{
    struct mt_sim_count *oldest = &sim->counts[0];
    call &= UINT64_MAX >> 1;
    for (int i = 0; i < MT_SIM_CALLS; i++) {
        if (sim->counts[i].call == call && sim->counts[i].steps > 0)
            return &sim->counts[i];
        if (sim->counts[i].steps == 0 || sim->counts[i].call < oldest->call)
            oldest = &sim->counts[i];
    }
    *oldest = (struct mt_sim_count){.call = call, .steps = 0};
    return oldest;
}

uint64_t mt_sim_step_next(struct mt_sim *sim, uint64_t call)
{
    return count_of(sim, call)->steps + 1;
}

void mt_sim_step_done(struct mt_sim *sim, uint64_t call)
{
    count_of(sim, call)->steps++;
}

int mt_sim_hit(struct mt_sim *sim, enum mt_fault_kind kind, uint32_t peer,
               const struct manta_transport_id *id, uint64_t step,
               const struct mt_fault **fault_out)
{
    for (uint32_t i = 0; i < sim->faults.count; i++) {
        const struct mt_fault *fault = &sim->faults.faults[i];
        if (fault->kind != kind || !mt_fault_hits(fault, sim->seed, sim->rank, peer, id, step))
            continue;
        if (fault_out != NULL)
            *fault_out = fault;
        return 1;
    }
    return 0;
}

static void fire(struct mt_sim *sim, struct mt_fault *fault)
{
    fault->fired = 1;
    sim->injected[fault->kind]++;
    if (fault->kind == MT_FAULT_LATE) {
        struct timespec left = {.tv_sec = (time_t)(fault->time_ns / MT_SECOND),
                                .tv_nsec = (long)(fault->time_ns % MT_SECOND)};
        while (nanosleep(&left, &left) != 0)
            continue;
        return;
    }
    kill(getpid(), fault->kind == MT_FAULT_KILL ? SIGKILL : SIGSTOP);
}

void mt_sim_hooks_before(struct mt_sim *sim, uint32_t peer, const struct manta_transport_id *id,
                         uint64_t step)
{
    for (uint32_t i = 0; i < sim->faults.count; i++) {
        struct mt_fault *fault = &sim->faults.faults[i];
        if (fault->kind < MT_FAULT_KILL || fault->fired ||
            !mt_fault_hits(fault, sim->seed, sim->rank, peer, id, step))
            continue;
        if (fault->middle == 0) {
            fire(sim, fault);
        } else if (sim->middle == NULL) {
            sim->middle = fault;
            sim->middle_looks = fault->middle;
        }
    }
}

void mt_sim_hooks_look(struct mt_sim *sim)
{
    if (sim->middle == NULL || --sim->middle_looks > 0)
        return;
    struct mt_fault *fault = sim->middle;
    sim->middle = NULL;
    fire(sim, fault);
}

int mt_sim_is_unsafe(struct mt_sim *sim)
{
    for (uint32_t i = 0; i < sim->faults.count; i++) {
        const struct mt_fault *fault = &sim->faults.faults[i];
        if (fault->kind != MT_FAULT_UNSAFE ||
            (fault->rank != MT_FAULT_ANY && fault->rank != sim->rank))
            continue;
        sim->injected[MT_FAULT_UNSAFE]++;
        return 1;
    }
    return 0;
}
