#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What transports with cards of their own have to bear.
exec tests/rdma/guest --test --timeout 420 env GROUPS_OF_SCENES=alone bash tests/rdma/inside/faults_check.sh
