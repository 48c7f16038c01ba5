# SPDX-License-Identifier: Apache-2.0
# Inside the guest: two nodes of one NIC, and the comparison between them.
. tests/rdma/inside/fabric.sh
fabric 2 1 && exec python3 -B perf/rdma/compare.py "$@"
