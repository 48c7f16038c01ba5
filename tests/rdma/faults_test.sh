#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What any transport has to bear.
exec tests/rdma/guest --test --timeout 420 env GROUPS_OF_SCENES="any wires" bash tests/rdma/inside/faults_check.sh
