#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
exec tests/rdma/guest --test --timeout 240 bash tests/rdma/inside/fabric_check.sh
