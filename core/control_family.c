/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups that were split from one another. While a child is being made it fails with its parent,
 * whose ranks it waits for; once it is whole it lives on when a rank that it does not contain dies,
 * but an abort of the parent reaches it on every rank.
 */
#include "core/control_impl.h"

static void fail_child(struct mt_control *child, const struct mt_error *cause)
{
    struct mt_error error;
    mt_error_set_rank(&error, cause->code, -1,
                      "the communicator that this one was split from has failed: %.*s",
                      (int)sizeof error.sentence - 80, cause->sentence);
    error.system_errno = cause->system_errno;
    mt_control_fail_locked(child, &error);
}

static void follow(struct mt_control *child, const struct mt_error *cause)
{
    if (!child->is_made || cause->code == MANTA_EABORTED)
        fail_child(child, cause);
}

void mt_family_enter(struct mt_control *control, struct mt_control *parent)
{
    mt_service_lock();
    control->parent = parent;
    if (parent) {
        control->sibling = parent->children;
        parent->children = control;
        if (mt_control_failed(parent))
            follow(control, &parent->failure);
    }
    mt_service_unlock();
}

static void remove_from(struct mt_control **link, const struct mt_control *control)
{
    while (*link != control)
        link = &(*link)->sibling;
    *link = control->sibling;
}

/* The children of one that leaves are its parent's. */
void mt_family_leave(struct mt_control *control)
{
    mt_service_lock();
    if (control->parent)
        remove_from(&control->parent->children, control);
    struct mt_control *parent = control->parent;
    control->parent = NULL;
    while (control->children) {
        struct mt_control *child = control->children;
        control->children = child->sibling;
        child->parent = child->sibling = NULL;
        if (parent)
            mt_family_enter(child, parent);
    }
    mt_service_unlock();
}

void mt_family_made(struct mt_control *control)
{
    mt_service_lock();
    control->is_made = 1;
    mt_service_unlock();
}

void mt_family_failed(struct mt_control *control, const struct mt_error *cause)
{
    for (struct mt_control *child = control->children; child; child = child->sibling)
        follow(child, cause);
}
