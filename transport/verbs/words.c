/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

const char *mt_verbs_status_words(int status)
{
    switch (status) {
    case IBV_WC_LOC_LEN_ERR:
        return "local length error: a frame did not fit its slot; the ranks may run different "
               "builds";
    case IBV_WC_LOC_QP_OP_ERR:
        return "local queue pair error: the card or its port has gone down";
    case IBV_WC_LOC_PROT_ERR:
        return "local protection error: the memory is not registered, or is no longer there";
    case IBV_WC_WR_FLUSH_ERR:
        return "flushed: the queue pair was in error before";
    case IBV_WC_BAD_RESP_ERR:
        return "bad response: the peer's card answered something else";
    case IBV_WC_LOC_ACCESS_ERR:
        return "local access error: the memory may not be written";
    case IBV_WC_REM_INV_REQ_ERR:
        return "remote invalid request: the peer's card does not take that length or operation";
    case IBV_WC_REM_ACCESS_ERR:
        return "remote access error: the peer does not offer that memory any more";
    case IBV_WC_REM_OP_ERR:
        return "remote operation error: the peer's card could not do it";
    case IBV_WC_RETRY_EXC_ERR:
        return "retry exceeded: nothing came back; the path or the peer's port is down, or its "
               "queue pair is";
    case IBV_WC_RNR_RETRY_EXC_ERR:
        return "receiver not ready: the peer gave its card no slots in time";
    case IBV_WC_FATAL_ERR:
        return "fatal error of the card";
    default:
        return "error of the card; see the status in ibv_wc_status";
    }
}
