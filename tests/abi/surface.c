/* SPDX-License-Identifier: Apache-2.0 */
/* Every struct and number of the plugin ABI, so that the debug information of this object has them
 * all: what tests/abi/transport.abi is made of. Plugins and the library meet in these and in
 * nothing else. */
#include <manta/transport.h>

extern struct manta_transport manta_abi_table;
struct manta_transport manta_abi_table;
extern struct manta_transport_host manta_abi_host;
struct manta_transport_host manta_abi_host;
extern struct manta_transport_open manta_abi_open;
struct manta_transport_open manta_abi_open;
extern struct manta_transport_request manta_abi_request;
struct manta_transport_request manta_abi_request;
extern struct manta_plan_fused_member manta_abi_member;
struct manta_plan_fused_member manta_abi_member;
extern enum manta_memory_kind manta_abi_memory;
enum manta_memory_kind manta_abi_memory;

/* What numbers mean that are passed as such. */
extern enum manta_error manta_abi_error;
enum manta_error manta_abi_error;
extern enum manta_dtype manta_abi_dtype;
enum manta_dtype manta_abi_dtype;
extern enum manta_op manta_abi_op;
enum manta_op manta_abi_op;
extern enum manta_collective manta_abi_collective;
enum manta_collective manta_abi_collective;
extern enum manta_plan_order manta_abi_order;
enum manta_plan_order manta_abi_order;

/* Constants without a type of their own. */
enum manta_abi_constants {
    ABI_VERSION = MANTA_TRANSPORT_ABI,
    ABI_ADDRESS_MAX = MANTA_TRANSPORT_ADDRESS_MAX,
    ABI_NAME_MAX = MANTA_TRANSPORT_NAME_MAX,
    ABI_VERSION_MAX = MANTA_TRANSPORT_VERSION_MAX,
    ABI_BUFFER_FLUSH = MANTA_BUFFER_FLUSH,
    ABI_MESSAGE_DIRECT = MANTA_MESSAGE_DIRECT,
    ABI_PLAN_LOCATIONS = MANTA_PLAN_LOCATIONS,
    ABI_PLAN_NONE = (int)MANTA_PLAN_NONE
};
extern enum manta_abi_constants manta_abi_constants;
enum manta_abi_constants manta_abi_constants;
