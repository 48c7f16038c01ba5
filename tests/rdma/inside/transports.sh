# SPDX-License-Identifier: Apache-2.0
# To be sourced inside the guest: what everything is run over, as MANTA_TRANSPORTS names it.
transports="shm,tcp"

# Whose links a transport's messages take (inside/fabric.sh).
wires_of() {
    case $1 in
    *verbs* | *ofi*) echo rdma ;;
    *) echo tcp ;;
    esac
}
