#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
exec tests/rdma/guest --test --timeout 420 bash tests/rdma/inside/collectives_check.sh
