#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
exec tests/rdma/guest --test --timeout 280 bash tests/rdma/inside/collectives_check.sh
