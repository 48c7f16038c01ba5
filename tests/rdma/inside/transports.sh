# SPDX-License-Identifier: Apache-2.0
# To be sourced inside the guest: what everything is run over, as MANTA_TRANSPORTS names it. tcp alone
# is tried elsewhere; here by `transports=shm,tcp` in the environment.
transports=${transports:-shm,verbs,tcp ofi}
