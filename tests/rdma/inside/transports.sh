# SPDX-License-Identifier: Apache-2.0
# To be sourced inside the guest: what everything is run over, as MANTA_TRANSPORTS names it.
transports=${transports:-shm,tcp}
