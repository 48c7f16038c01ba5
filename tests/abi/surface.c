/* SPDX-License-Identifier: Apache-2.0 */
/* Every struct of the plugin ABI, so that the debug information of this object has them all: what
 * tests/abi/transport.abi is made of. Plugins and the library meet in these and in nothing else. */
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
